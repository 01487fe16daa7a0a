"""Findings about a workflow that compiles: what will probably not do what its author wants.

What can never be right is an error of the compiler, not a finding here.

Trap: steps of one scope may run in any number of nodes (loops, recursion, several uses of the scope), so a key that
looks unique in the program may occur again in the run. Only a key without any reference is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dflow_hpc.compile.survey import Survey
from dflow_hpc.compile.texts import has_item, references
from dflow_hpc.model.checks import TAG, Where, at
from dflow_hpc.model.declared import artifact_refs, parameter_refs

_UNQUOTED = re.compile(
    r"(?:^|[=!<>]=?|&&|\|\|)\s*(\{\{(?:steps|tasks)\.([-\w]+)\.outputs\.parameters\.([-\w]+)\}\})\s*(?:$|[=!<>]=?|&&|\|\|)"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is probably not meant."""

    where: Where
    """The author's file and line."""
    text: str
    """What was found, and what to do."""

    def __str__(self) -> str:
        return f"{self.where[0]}:{self.where[1]}: {self.text}"


def lint(workflow: Any) -> list[Finding]:
    """Return what is worth a second look in a workflow, in the order of the program.

    Args:
        workflow: A ``model.workflow.Workflow`` with an entrypoint.
    """
    survey = Survey(workflow)
    uses = _uses(survey)
    found: list[Finding] = []
    for scope in survey.scopes:
        found += _unused_inputs(scope)
        keys: dict[str, Any] = {}
        for step in scope.all_steps():
            found += [Finding(step.where, f"{step.title} {text}") for text in _of_step(step, scope)]
            if step.key is None:
                continue
            if step.key in keys:
                text = f"has the key {step.key!r} of {keys[step.key].title}{at(keys[step.key].where)}; give it another"
                found.append(Finding(step.where, f"{step.title} {text}"))
            keys[step.key] = step
            if not TAG.search(step.key) and uses.get(id(scope), 0) > 1:
                text = (
                    f"has the key {step.key!r}, and {scope.title} runs more than once; put an input of it into the key"
                )
                found.append(Finding(step.where, f"{step.title} {text}"))
    return sorted(found, key=lambda finding: finding.where)


def _uses(survey: Survey) -> dict[int, int]:
    """Return how often each scope is run: by how many steps, a loop counting as many."""
    uses: dict[int, int] = {}
    for scope in survey.scopes:
        for step in scope.all_steps():
            target = survey.target(step)
            if target.super_op:
                # A scope that contains itself is also run by whoever runs it first, so one use in it is two.
                uses[id(target)] = uses.get(id(target), 0) + (2 if step.is_loop or target is scope else 1)
    return uses


def _of_step(step: Any, scope: Any) -> Iterator[str]:
    if step.is_loop and step.key is not None and not has_item(step.key):
        yield f"is a loop, and its key {step.key!r} is the same for each of its items; put {{{{item}}}} into it"
    if step.continue_on_failed or step.continue_on_error:
        return
    sources = [reference.step for reference in [*parameter_refs(step.parameters), *artifact_refs(step.artifacts)]]
    for source in {id(one): one for one in sources if one is not None}.values():
        if (source.continue_on_failed or source.continue_on_error) and not source.is_loop:
            yield (
                f"uses outputs of {source.title}, which may fail and be passed over; then there are none. Give its "
                "outputs defaults (output_parameter_default), or a `when` to this step"
            )
    if isinstance(step.when, str):
        yield from _of_condition(step, scope)


def _of_condition(step: Any, scope: Any) -> Iterator[str]:
    for tag, name, output in _UNQUOTED.findall(step.when):
        source = scope.names().get(name)
        declared = source.template.outputs.parameters if source is not None else {}
        if output in declared and declared[output].type is str:
            yield (
                f"compares {tag} in when={step.when!r} without quotes; a text with `-`, a blank or nothing in it then "
                "breaks the condition. Compare the reference itself: `when=ref == 'text'`"
            )


def _unused_inputs(scope: Any) -> Iterator[Finding]:
    used: set[tuple[str, str]] = set()
    held: list[Any] = []
    for step in scope.all_steps():
        held += [*parameter_refs([step.parameters, step.when, step.with_param]), *artifact_refs(step.artifacts)]
        if step.with_sequence is not None:
            held += parameter_refs(step.with_sequence.values())
        texts = [value for value in (step.key, step.when, step.with_param) if isinstance(value, str)]
        used |= references([*texts, _texts(step.parameters), _texts(step.artifacts)])[1]
    for output in scope.outputs.parameters.values():
        held += parameter_refs([output.value_from_parameter, output.value_from_expression])
    for output in scope.outputs.artifacts.values():
        held += [*artifact_refs([output._from, output.from_expression]), *parameter_refs(output.from_expression)]
    used |= {(reference.group, str(reference.name)) for reference in held if reference.step is None}
    for group in ("parameters", "artifacts"):
        for name in getattr(scope.inputs, group):
            if (group, name) not in used:
                yield Finding(scope.where, f"{scope.title} declares the input {group[:-1]} {name!r} and never uses it")


def _texts(value: Any) -> Any:
    """Return the texts in a constant, as lists."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return [_texts(item) for item in value.values()]
    return [_texts(item) for item in value] if isinstance(value, (list, tuple)) else []
