"""Loops: how many times a step runs, what each run gets, and the helper steps around a sliced one.

A sliced step becomes up to three: ``<name>-init-artifact`` (names and seeds the artifacts that slices fill, counts what
they cut), the loop itself, and a check of how many items succeeded.

Not here: the cutting and stacking, which happens in the leaf (``op/slices.py``, ``op/runner.py``).

Trap: with ``group_size`` the loop's item is the number of a group; the items themselves travel as parameters.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from dflow_hpc.compile.texts import group_key, item_tags, parameter_text
from dflow_hpc.errors import CompileError
from dflow_hpc.model.checks import at
from dflow_hpc.model.declared import INIT_SUFFIX
from dflow_hpc.model.loops import ArgoRange, ArgoSequence, argo_len, elements, integer, is_stacked
from dflow_hpc.model.refs import TEXT, ArgoVar

_PLAIN_ITEM = re.compile(r"\{\{\s*item\s*\}\}")


@dataclass
class Loop:
    """How a step runs more than once."""

    fields: dict[str, Any] = field(default_factory=dict)
    """``withParam`` or ``withSequence``; empty when it is no loop."""
    parameters: list[dict[str, Any]] = field(default_factory=list)
    """Further arguments of each run."""
    expression: str = ""
    """The slices' expression as the leaf evaluates it."""
    outputs: list[str] = field(default_factory=list)
    """Output artifacts that the helper step seeds."""
    counted: list[str] = field(default_factory=list)
    """Input artifacts that the helper step looks into."""
    sub_path: bool = False
    """Whether each run gets its part of an artifact only."""
    ordered: bool = False
    """Whether an item is a dict, of which ``order`` is what the author calls the item."""
    total: str = "1"
    """expr-lang text: how many items there are."""

    @property
    def needs_init(self) -> bool:
        """Whether a helper step runs before the loop."""
        return bool(self.outputs or self.counted)

    def item(self, text: str) -> str:
        """Return a text of the author's with ``{{item}}`` as this loop calls it."""
        return _PLAIN_ITEM.sub("{{item.order}}", text) if self.ordered else text


def plan(step: Any) -> Loop:
    """Return how a step loops.

    Raises:
        CompileError: The length of its loop cannot be known, or options exclude each other.
    """
    slices = step.slices
    if slices is None:
        if step.with_param is None and step.with_sequence is None:
            return Loop()
        return Loop(fields=_fields(step), total=_total(step))
    loop = Loop(outputs=list(slices.output_artifact))
    if slices.sub_path:
        _plan_sub_path(step, slices, loop)
    elif slices.group_size is not None:
        _plan_groups(step, slices, loop)
    else:
        (explicit_loop if step.with_param is not None or step.with_sequence is not None else sliced_loop)(step, loop)
        _bind_items(slices.slices, loop)
    if loop.outputs:
        loop.parameters.append({"name": "dflow_artifact_key", "value": init_output(step, "dflow_artifact_key")})
    return loop


def explicit_loop(step: Any, loop: Loop) -> None:
    """Let a step loop as its author says."""
    loop.fields, loop.total = _fields(step), _total(step)


def sliced_loop(step: Any, loop: Loop) -> None:
    """Let a step loop over what its slices cut."""
    loop.total = _sliced_length(step, step.slices, loop)
    loop.fields = {"withParam": _range_text(loop.total)}


def loop_of_sub_path(step: Any, loop: Loop) -> None:
    """Let a step loop over the parts of its sliced artifacts, each part brought alone."""
    loop.sub_path = loop.ordered = True
    loop.counted = given_artifacts(step)
    loop.fields = {"withParam": init_output(step, "dflow_slices_path")}
    loop.total = f"len(sprig.fromJson({init_output_expr(step, 'dflow_slices_path')}))"


def _bind_items(text: str, loop: Loop) -> None:
    loop.expression = text
    for number, tag in enumerate(item_tags(text)):
        name = f"dflow_var_{number}"
        loop.expression = loop.expression.replace(tag, "${" + name + "}")
        loop.parameters.append({"name": name, "value": tag})


def init_output(step: Any, name: str) -> str:
    """Return the reference to an output of the helper step before a loop."""
    return "{{" + f"{step.kind}.{step.name}{INIT_SUFFIX}.outputs.parameters.{name}" + "}}"


def init_output_expr(step: Any, name: str) -> str:
    """Return the same for an expression."""
    return f"{step.kind}['{step.name}{INIT_SUFFIX}'].outputs.parameters['{name}']"


# -- plain loops -----------------------------------------------------------------------------------------------------


def _fields(step: Any) -> dict[str, Any]:
    if step.with_sequence is not None:
        return {"withSequence": _sequence(step.with_sequence)}
    return {"withParam": _with_param(step.with_param)}


def _with_param(value: Any) -> str:
    if is_stacked(value):  # each item is then a value, not a record of one
        return "{{=toJson(" + elements(value) + ")}}"
    if isinstance(value, ArgoVar) and value.kind != TEXT:
        return "{{=toJson(" + value.expr + ")}}"
    return parameter_text(value, None)


def _sequence(sequence: ArgoSequence) -> dict[str, str]:
    found = {"count": sequence.count, "start": sequence.start, "end": sequence.end}
    result = {name: _number_text(value) for name, value in found.items() if value is not None}
    return {**result, "format": sequence.format} if sequence.format else result


def _number_text(value: Any) -> str:
    return str(value) if isinstance(value, (int, ArgoVar)) else parameter_text(value, None)


def _total(step: Any) -> str:
    """Return expr-lang text for the number of items that the author's loop has."""
    sequence, value = step.with_sequence, step.with_param
    if sequence is not None:
        if sequence.count is not None:
            return integer(sequence.count)
        start = integer(0 if sequence.start is None else sequence.start)
        return f"(int(abs({integer(sequence.end)} - {start})) + 1)"
    if isinstance(value, ArgoRange) and value.bounds[0] == 0 and value.bounds[2] == 1:
        return integer(value.bounds[1])
    if isinstance(value, (ArgoVar, list, tuple)):
        return str(argo_len(value).expr)
    text = str(value).strip()
    if text.startswith("{{=") and text.endswith("}}"):
        return f"len(sprig.fromJson({text[3:-2]}))"
    if text.startswith("{{"):
        return f"len(sprig.fromJson({tag_expression(text[2:-2])}))"
    try:
        return str(len(json.loads(text)))
    except (ValueError, TypeError) as error:
        raise CompileError(
            f"{step.title} loops over with_param={value!r}{at(step.where)}, which is no JSON list. Give a list, or a "
            "reference to one."
        ) from error


def tag_expression(tag: str) -> str:
    """Return the expr-lang form of a plain tag: ``steps['a-b'].outputs.parameters['x']``."""
    first, *rest = tag.strip().split(".")
    return first + "".join(f"['{part}']" for part in rest)


# -- loops whose length follows from what is sliced ------------------------------------------------------------------


def _range_text(total: str) -> str:
    if total.isdigit():
        return json.dumps(list(range(int(total))))
    return "{{=toJson(sprig.untilStep(0, " + total + ", 1))}}"


def _sliced_length(step: Any, slices: Any, loop: Loop) -> str:
    for name in slices.input_parameter:
        value = step.parameters.get(name, getattr(step.template.inputs.parameters[name], "value", None))
        if isinstance(value, (list, tuple)):
            return str(len(value))
        if isinstance(value, ArgoVar):
            return argo_len(value).expr
        raise CompileError(
            f"{step.title} slices its input parameter {name!r}{at(step.where)}, which is given {value!r}; a sliced "
            "parameter is a list, or a reference to one."
        )
    for name in slices.input_artifact:
        paths = getattr(step.artifacts.get(name), "path_list", None)
        if paths:
            return str(len(paths))
    loop.counted = given_artifacts(step)
    if loop.counted:
        return f"asInt({init_output_expr(step, 'dflow_nslices')})"
    raise CompileError(
        f"{step.title} has slices without a sliced input{at(step.where)}, so how often it runs is not known. Give "
        "with_param=argo_range(n), or name the inputs in Slices(input_parameter=[...])."
    )


def given_artifacts(step: Any) -> list[str]:
    """Return the sliced input artifacts; one that the step leaves out has nothing to cut or to count."""
    return [name for name in step.slices.input_artifact if step.artifacts.get(name) is not None]


def _plan_sub_path(step: Any, slices: Any, loop: Loop) -> None:
    if not given_artifacts(step):
        raise CompileError(
            f"{step.title} has Slices(sub_path=True) without input_artifact{at(step.where)}. Name the artifacts of "
            "which each slice gets its part."
        )
    loop_of_sub_path(step, loop)
    _bind_items(loop.item(slices.slices), loop)
    for name in loop.counted:
        loop.parameters.append({"name": f"dflow_{name}_sub_path", "value": "{{item." + name + "}}"})


def _plan_groups(step: Any, slices: Any, loop: Loop) -> None:
    explicit = step.with_param is not None or step.with_sequence is not None
    loop.total = _total(step) if explicit else _sliced_length(step, slices, loop)
    size = slices.group_size
    if loop.total.isdigit():
        loop.fields = {"withParam": json.dumps(list(range(-(-int(loop.total) // size))))}
    else:
        loop.fields = {"withParam": _range_text(f"int(ceil({loop.total} / {size}))")}
    loop.expression = slices.slices
    for tag in item_tags(slices.slices):
        if tag.startswith("{{="):
            raise CompileError(
                f"{step.title} has group_size and the expression {tag} in its slices{at(step.where)}. With groups "
                "only {{item}} and {{item.name}} can stand there."
            )
        loop.expression = loop.expression.replace(tag, "${" + tag[2:-2].strip() + "}")
    loop.parameters.append({"name": "dflow_group", "value": "{{item}}"})
    loop.parameters += [{"name": name, "value": text} for name, text in _group_items(step, loop).items()]


def _group_items(step: Any, loop: Loop) -> dict[str, str]:
    """Return the parameters from which a leaf knows the items of all groups."""
    if step.with_sequence is not None:
        found = _sequence(step.with_sequence)
        return {f"dflow_sequence_{name}": text for name, text in found.items()}
    if isinstance(step.with_param, ArgoRange):
        names = ("dflow_range_start", "dflow_range_end", "dflow_range_step")
        return {name: _number_text(value) for name, value in zip(names, step.with_param.bounds, strict=True)}
    if step.with_param is not None:
        return {"dflow_with_param": _with_param(step.with_param)}
    return {"dflow_nslices": loop.total if loop.total.isdigit() else "{{=" + loop.total + "}}"}


# -- keys ------------------------------------------------------------------------------------------------------------


def init_key(key: str) -> str:
    """Return the key of the helper step before a loop with this key."""
    return group_key(key) + INIT_SUFFIX


def number_text(total: str) -> str:
    """Return a number of items as a parameter's text."""
    return total if total.isdigit() else "{{=" + total + "}}"
