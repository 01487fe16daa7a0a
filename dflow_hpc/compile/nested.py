"""Slices of a step whose template is made of steps: each run of the scope gets one element, and gives one.

An input parameter is cut by an expression where it is given, an input artifact by its path; nothing inside the scope
needs to know. Outputs are joined inside: the scope's output parameters become records of the slice, and the step that
leaves an output artifact writes it under the key that all slices share. What comes from a loop, a script or a part
of an artifact, or is taken inside, too, is put there by a helper step, ``<step>-join-<artifact>``.

Not here: slices of a leaf (``loops.py``), and how a scope is written (``scopes.py``).

Trap: the expression of such slices is evaluated by Argo, not in a leaf, so only an index can stand there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dflow_hpc.compile.arguments import Given
from dflow_hpc.compile.loops import (
    Loop,
    explicit_loop,
    given_artifacts,
    init_output,
    init_output_expr,
    loop_of_sub_path,
    sliced_loop,
)
from dflow_hpc.errors import CompileError
from dflow_hpc.model.checks import at
from dflow_hpc.model.declared import BIG, OutputArtifact, artifact_refs
from dflow_hpc.model.loops import elements
from dflow_hpc.model.python_template import PythonOPTemplate
from dflow_hpc.model.refs import ArgoVar

SLICE = "dflow_slice"
_INDEX = re.compile(r"""(?:int\()?['"]?\{\{\s*item(\.order)?\s*\}\}['"]?\)?\Z""")


@dataclass(frozen=True)
class Joined:
    """What a run of a scope gives as one of several slices."""

    parameters: tuple[str, ...] = ()
    """Output parameters that become records of the slice."""
    artifacts: tuple[tuple[str, str], ...] = ()
    """Output artifacts that go under the shared key: their name here, and there."""
    create_dir: bool = False
    """Whether those lie in a directory named by the slice."""
    success: bool = False
    """Whether it leaves the tag by which successes are counted."""

    @property
    def inputs(self) -> list[str]:
        """The input parameters that the scope needs for that."""
        return ([SLICE] if self.parameters or self.artifacts else []) + (
            ["dflow_artifact_key"] if self.artifacts else []
        )


def plan(step: Any) -> Loop:
    """Return how a sliced step of a scope loops.

    Raises:
        CompileError: Its slices need a leaf.
    """
    slices = step.slices
    unsupported = {"group_size": slices.group_size, "pool_size": slices.pool_size}
    if any(unsupported.values()) or not _INDEX.match(slices.slices):
        raise CompileError(
            f"{step.title} has {slices!r}{at(step.where)}, and its template {step.template.title} is made of steps. "
            "There slices are '{{item}}' or \"int('{{item}}')\", without groups and pools. Give other slices to the "
            "steps in it."
        )
    loop = Loop(outputs=list(slices.output_artifact))
    if given_artifacts(step):
        loop_of_sub_path(step, loop)
    elif step.with_param is not None or step.with_sequence is not None:
        explicit_loop(step, loop)
    else:
        sliced_loop(step, loop)
    if slices.input_parameter:
        _bring_elements(step, loop)
    if joined(step).inputs:
        loop.parameters.append({"name": SLICE, "value": loop.item("{{item}}")})
    if loop.outputs:
        loop.parameters.append({"name": "dflow_artifact_key", "value": init_output(step, "dflow_artifact_key")})
    return loop


def _bring_elements(step: Any, loop: Loop) -> None:
    """Let each item carry its elements of the sliced parameters.

    Argo knows either the item or other steps when it evaluates an expression, never both. So the items are made of the
    lists first; each element is wrapped in a list, because Argo escapes a text in an item twice, and JSON once.
    """
    lists = [elements(_list_of(step, name)) for name in step.slices.input_parameter]
    order = "#.order" if loop.sub_path else "#"
    fields = [f"'order', {order}"]
    fields += [f"'{name}', #['{name}']" for name in loop.counted]
    fields += [f"'p_{name}', [v{i}[asInt({order})]]" for i, name in enumerate(step.slices.input_parameter)]
    bound = "".join(f"let v{i} = {text}; " for i, text in enumerate(lists))
    items = f"map({_items(step, loop)}, sprig.dict({', '.join(fields)}))"
    loop.fields = {"withParam": "{{=" + f"{bound}toJson({items})" + "}}"}
    loop.ordered = True


def _items(step: Any, loop: Loop) -> str:
    if loop.sub_path:
        return f"sprig.fromJson({init_output_expr(step, 'dflow_slices_path')})"
    if step.with_sequence is not None or (step.with_param is not None and isinstance(step.with_param, str)):
        raise CompileError(
            f"{step.title} slices parameters of a template made of steps{at(step.where)}; there its loop is "
            "with_param with a list, a reference or argo_range(...). Give that."
        )
    if step.with_param is not None:
        return elements(step.with_param)
    return f"sprig.untilStep(0, {loop.total}, 1)"


def _list_of(step: Any, name: str) -> Any:
    value = step.parameters.get(name, getattr(step.template.inputs.parameters[name], "value", None))
    if not isinstance(value, (ArgoVar, list, tuple)):
        raise CompileError(
            f"{step.title} slices its input parameter {name!r}{at(step.where)}, which is given {value!r}; a sliced "
            "parameter is a list, or a reference to one."
        )
    return value


def cut(step: Any, arguments: Given) -> None:
    """Replace the sliced parameters that a scope is given by the elements that the item carries."""
    for item in arguments.parameters:
        if item["name"] in step.slices.input_parameter:
            item["value"] = _element(step, item["name"])
    for item in arguments.artifacts:
        name = item["name"].removeprefix(BIG)
        if name != item["name"] and name in step.slices.input_parameter:
            item.clear()
            item.update({"name": BIG + name, "raw": {"data": _element(step, name)}})


def _element(step: Any, name: str) -> str:
    element = f"sprig.fromJson(item['p_{name}'])[0]"
    text = step.template.inputs.parameters[name].type is str
    return "{{=" + (element if text else f"toJson({element})") + "}}"


def joined(step: Any, shared: tuple[tuple[str, str], ...] = (), create_dir: bool = False) -> Joined:
    """Return what the scope that a step runs must give as one of several.

    Args:
        step: The step.
        shared: Output artifacts that an outer loop joins.
        create_dir: Whether it wants each slice's in a directory.
    """
    slices = step.slices
    if slices is None:
        return Joined((), shared, create_dir, step.counts_success)
    own = tuple((name, name) for name in slices.output_artifact)  # a loop leaves nothing for an outer one
    return Joined(tuple(slices.output_parameter), own, slices.create_dir, step.counts_success)


def leavers(scope: Any, given: Joined) -> tuple[dict[int, list[tuple[str, str]]], list[tuple[str, Any, str]]]:
    """Return who leaves the joined artifacts of a scope: members of it, and helpers for what no single OP leaves.

    Of a choice both branches leave theirs, if they run: in a recursion, where the next turn is one of them, each turn
    does. DP-GEN2's CALYPSO loop counts on dflow doing so.

    Returns:
        ``id`` of a step -> pairs of its output and the shared name; then, for helpers, the scope's output, the
        reference from which it comes, and the shared name.

    Raises:
        CompileError: An artifact comes from no step of the scope.
    """
    # A step that takes such an artifact inside of the scope must not see what other slices left beside it.
    used = {(id(ref.step), ref.side, ref.name) for step in scope.all_steps() for ref in artifact_refs(step.artifacts)}
    found: dict[int, list[tuple[str, str]]] = {}
    others: list[tuple[str, Any, str]] = []
    for name, shared in given.artifacts:
        sources = {str(source): source for source in artifact_refs(artifact_value(scope.outputs.artifacts[name]))}
        if not sources or any(source.step is None for source in sources.values()):
            raise CompileError(
                f"the output artifact {name!r} of {scope.title}{at(scope.where)} is joined over slices, but it comes "
                "from no step of it. Let a step give it, or leave it out of output_artifact."
            )
        for source in sources.values():
            step = source.step
            if (
                isinstance(source, OutputArtifact)
                and not step.is_loop
                and _can_leave(step.template)
                and source.parent is None
                and (id(step), source.side, source.name) not in used
            ):
                found.setdefault(id(step), []).append((str(source.name), shared))
            else:
                others.append((name, source, shared))
    return found, others


def _can_leave(template: Any) -> bool:
    return bool(template.super_op) or isinstance(template, PythonOPTemplate)


def artifact_value(output: Any) -> Any:
    """Return from what a scope takes an output artifact, or None."""
    return output._from if output._from is not None else output.from_expression


def record(text: str, declared: Any) -> str:
    """Return the expression of an output parameter as the record of its slice.

    Args:
        text: The expression of its value.
        declared: Its type; a text needs quotes.
    """
    value = f"toJson({text})" if declared is str else f"({text})"
    return f"'[{{\"dflow_list_item\": ' + {value} + ', \"order\": ' + inputs.parameters['{SLICE}'] + '}}]'"
