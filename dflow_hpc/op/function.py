"""Functions as OPs: ``@OP.function`` reads the signs from the annotations.

Inputs are the parameters; an annotation is a type, ``Artifact(...)``, ``Parameter(...)`` or ``BigParameter(...)``.
Outputs are the return annotation: ``{"x": int}``, a TypedDict, a NamedTuple, ``Tuple[int, str]``, one type, or None.
``describe`` gives all that without making an OP, for ``OP.superfunction``.

Annotations may be texts (``from __future__ import annotations``): ``typing.get_type_hints`` reads them, in the
function's module, so a name defined inside another function is not found there.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import ast
import copy
import inspect
import types
import typing
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple, Type

from dflow_hpc.errors import SignError
from dflow_hpc.op.op import OP
from dflow_hpc.op.opio import OPIO, OPIOSign
from dflow_hpc.op.signs import Artifact, Parameter, Sign

_ONE = "dflow_output"


class Description(NamedTuple):
    """What the annotations of a function say."""

    inputs: OPIOSign
    outputs: OPIOSign
    collect: Callable[[Any], Dict[str, Any]]
    """Turns what the function returns into outputs by name."""
    unwrap: Callable[[Mapping[str, Any]], Any]
    """Turns outputs by name into the form in which the function returns them."""


def describe(func: Callable[..., Any]) -> Description:
    """Read the signs of a function.

    Raises:
        SignError: It takes ``*args`` or ``**kwargs``, or an annotation is no type or cannot be read.
    """
    inputs = OPIOSign()
    for name, parameter in inspect.signature(func).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise SignError(
                f"the function {func.__name__} takes {parameter}; the inputs of an OP have names. "
                "Write each as a parameter of its own."
            )
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        inputs[name] = _input_sign(func, name, _resolve(func, name, annotation), parameter.default)
    return Description(inputs, *_outputs(func))


def _resolve(func: Callable[..., Any], name: str, annotation: Any) -> Any:
    """Return the value of an annotation that may be text."""
    if not isinstance(annotation, str):
        return annotation
    holder: Any = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, getattr(func, "__globals__", {}))["it"]
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise SignError(
            f"the annotation {annotation!r} of {name!r} in the function {func.__name__} cannot be read: {error}. "
            "The names in it must be defined in its module, above it."
        ) from error


def _input_sign(func: Callable[..., Any], name: str, annotation: Any, default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return annotation
    if isinstance(annotation, Artifact):
        if default is not None:
            raise SignError(
                f"the artifact {name!r} of the function {func.__name__} has the default {default!r}; only None is "
                "possible, which makes it optional."
            )
        sign: Sign = copy.copy(annotation)
        sign.optional = True
        return sign
    sign = copy.copy(annotation) if isinstance(annotation, Sign) else Parameter(annotation)
    sign.default = default
    return sign


_Outputs = Tuple[OPIOSign, Callable[[Any], Dict[str, Any]], Callable[[Mapping[str, Any]], Any]]


def _outputs(func: Callable[..., Any]) -> _Outputs:
    annotations = getattr(func, "__annotations__", {})
    if "return" not in annotations:
        import logging  # with threading behind it, which costs each fork; hardly any function comes here

        logging.getLogger(__name__).warning(
            "the function %s has no return annotation: as an OP it has no outputs", func.__name__
        )
        return OPIOSign(), lambda _value: {}, lambda _outputs: None
    annotation = _return_annotation(func, annotations["return"])
    if annotation is None or annotation is type(None):
        return OPIOSign(), lambda _value: {}, lambda _outputs: None
    if isinstance(annotation, Mapping):
        return OPIOSign(annotation), _collect_mapping(func), dict
    if isinstance(annotation, type) and issubclass(annotation, dict) and hasattr(annotation, "__total__"):
        return OPIOSign(_fields(func, annotation)), _collect_mapping(func), dict
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        fields = _fields(func, annotation)
        make = annotation
        return OPIOSign(fields), _collect_tuple(func, tuple(fields)), lambda outputs: make(**outputs)
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and args and args != ((),) and Ellipsis not in args:
        sign = OPIOSign({f"{_ONE}_{index}": arg for index, arg in enumerate(args)})
        names = tuple(sign)
        return sign, _collect_tuple(func, names), lambda outputs: tuple(outputs[name] for name in names)
    return OPIOSign({_ONE: annotation}), lambda value: {_ONE: value}, lambda outputs: outputs[_ONE]


def _return_annotation(func: Callable[..., Any], annotation: Any) -> Any:
    """Return the return annotation; one that is the text of a dict is read key by key."""
    if isinstance(annotation, str):
        try:
            tree = ast.parse(annotation.strip(), mode="eval").body
        except SyntaxError:
            return _resolve(func, "return", annotation)
        if isinstance(tree, ast.Dict) and all(isinstance(key, ast.Constant) for key in tree.keys):
            texts = (ast.get_source_segment(annotation.strip(), value) or "" for value in tree.values)
            annotation = {key.value: text for key, text in zip(tree.keys, texts)}  # type: ignore[union-attr]
    if isinstance(annotation, Mapping):
        return {name: _resolve(func, f"return[{name!r}]", value) for name, value in annotation.items()}
    return _resolve(func, "return", annotation)


def _fields(func: Callable[..., Any], annotation: Any) -> Dict[str, Any]:
    try:
        return typing.get_type_hints(annotation)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise SignError(
            f"the fields of {annotation.__name__}, which {func.__name__} returns, cannot be read: {error}. "
            "The names in their annotations must be defined in its module, above it."
        ) from error


def _collect_mapping(func: Callable[..., Any]) -> Callable[[Any], Dict[str, Any]]:
    def collect(value: Any) -> Dict[str, Any]:
        if not isinstance(value, Mapping):
            raise SignError(
                f"the function {func.__name__} returned {value!r}; its return annotation has names. Return a dict."
            )
        return dict(value)

    return collect


def _collect_tuple(func: Callable[..., Any], names: Tuple[str, ...]) -> Callable[[Any], Dict[str, Any]]:
    def collect(value: Any) -> Dict[str, Any]:
        if not isinstance(value, (tuple, list)) or len(value) != len(names):
            raise SignError(
                f"the function {func.__name__} returned {value!r}; its return annotation has {len(names)} elements. "
                "Return a tuple of as many."
            )
        return dict(zip(names, value))

    return collect


class FunctionOP(OP):
    """The base of the classes that ``@OP.function`` makes."""

    func: Callable[..., Any]
    description: Description

    @classmethod
    def get_input_sign(cls) -> OPIOSign:
        """Return the signs of the function's parameters."""
        return cls.description.inputs

    @classmethod
    def get_output_sign(cls) -> OPIOSign:
        """Return the signs of what the function returns."""
        return cls.description.outputs

    @OP.exec_sign_check
    def execute(self, op_in: OPIO) -> OPIO:
        """Call the function."""
        return OPIO(self.description.collect(type(self).func(**op_in)))

    def unwrap(self, outputs: Mapping[str, Any]) -> Any:
        """Return outputs by name in the form in which the function returns them."""
        return self.description.unwrap(outputs)


def make_op(func: Callable[..., Any], template_kwargs: Optional[Dict[str, Any]] = None) -> FunctionOP:
    """Make an OP of a function.

    Args:
        func: The annotated function.
        template_kwargs: Options of the template that a call of it in a workflow makes.

    Returns:
        An instance of a new class that has the function's name and module.

    Raises:
        SignError: See ``describe``; or ``func`` is no plain function.
    """
    if not inspect.isfunction(func):
        raise SignError(f"@OP.function was put on {func!r}; expected a plain function (def).")
    made: Type[FunctionOP] = type(
        func.__name__,
        (FunctionOP,),
        {
            "func": staticmethod(func),
            "description": describe(func),
            "__module__": func.__module__,
            "__qualname__": func.__qualname__,
            "__doc__": func.__doc__,
            "__name__": func.__name__,
        },
    )
    op = made()
    op.__dict__["template_kwargs"] = dict(template_kwargs or {})
    return op
