"""Type errors that are known while a workflow is built: constants, and links between parameters.

Only clear mismatches are refused. Everything travels as text, so a text given to a number and a number given to a
text work when the text reads so; and a loop changes a value into a list of it, so loops are not judged here.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import typing
from typing import Any, Optional

from dflow_hpc.errors import SignError
from dflow_hpc.model.checks import TAG, at
from dflow_hpc.model.declared import ParameterRef, parameter_refs

_SCALARS = (bool, int, float)
_CONTAINERS = (dict, list, set, tuple)


def check_constant(value: Any, declaration: Any, step: Any, name: str) -> None:
    """Check a constant given to an input parameter against its declared type.

    Raises:
        SignError: It does not fit.
    """
    expected = declaration.type
    if expected is None or value is None or declaration.save_as_artifact:
        return
    if isinstance(value, str):
        if expected is str or TAG.search(value):
            return
    elif isinstance(value, (dict, list, tuple)) and _holds_tags(value):
        return
    from dflow_hpc.op.typecheck import check_type

    try:
        check_type(name, value, expected)
    except TypeError as error:
        raise SignError(
            f"{step.title} gives the input parameter {name!r} a value that does not fit its sign{at(step.where)}: "
            f"{error}"
        ) from error


def check_link(value: Any, declaration: Any, step: Any, name: str) -> None:
    """Check that the type of a reference can become the declared one; untyped declarations learn it.

    Raises:
        SignError: It can not, such as a list given to an int.
    """
    if not isinstance(value, ParameterRef):
        return
    looped = step.is_loop or (value.step is not None and value.step.is_loop)
    if looped:
        return
    if value.type is None:
        if value.step is None and getattr(value.template, "super_op", False):
            value.type = declaration.type  # what a Steps takes is what its step takes
        return
    if declaration.type is None:
        if step.template.super_op:
            declaration.type = value.type
        return
    if _clash(_plain(value.type), _plain(declaration.type)):
        from dflow_hpc.op.typecheck import type_name

        raise SignError(
            f"{step.title} gives {value}, which is {type_name(value.type)}, to the input parameter "
            f"{name!r}{at(step.where)}, which is {type_name(declaration.type)}. Declare one type for both, or convert "
            "it in an OP."
        )


def _holds_tags(value: Any) -> bool:
    if next(iter(parameter_refs(value)), None) is not None:
        return True
    if isinstance(value, str):
        return TAG.search(value) is not None
    if isinstance(value, dict):
        return any(_holds_tags(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_tags(item) for item in value)
    return False


def _plain(annotation: Any) -> Optional[type]:
    """Return the plain class behind an annotation, or None where it is not one clear class."""
    origin = typing.get_origin(annotation) or annotation
    return origin if origin in _SCALARS + _CONTAINERS else None


def _clash(source: Optional[type], sink: Optional[type]) -> bool:
    if source is None or sink is None or source is sink:
        return False
    if source in _SCALARS and sink in _SCALARS:
        return (source, sink) not in ((int, float), (bool, int), (bool, float))
    return (source in _SCALARS) != (sink in _SCALARS) or (source is dict) != (sink is dict)
