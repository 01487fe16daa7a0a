"""What a step is given, as Argo's arguments: texts for parameters, places for artifacts.

Not here: loops and slices (``loops.py``), the declarations on templates (``leaves.py``).

Trap: an argument that may be missing must itself say ``optional``; Argo does not look at the template for that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from dflow_hpc.compile.survey import Survey
from dflow_hpc.compile.texts import parameter_text
from dflow_hpc.errors import CompileError
from dflow_hpc.model.checks import at, listed
from dflow_hpc.model.declared import (
    BIG,
    ArtifactRef,
    InputArtifact,
    InputParameter,
    ParameterRef,
    artifact_refs,
    default_of,
)
from dflow_hpc.model.refs import ArgoVar, IfExpression, condition
from dflow_hpc.op.catalog import flatten

_WHOLE_TAG = re.compile(r"(\{\{[^{}]+\}\})(/.*)?\Z", re.DOTALL)


@dataclass
class Given:
    """A step's arguments, and what its template must be to take them."""

    parameters: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    big: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)
    parts: list[tuple[str, tuple[str, ...] | int]] = field(default_factory=list)
    prefix: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self) -> dict[str, Any]:
        """Return Argo's ``arguments``, empty groups left out."""
        found = {"parameters": self.parameters, "artifacts": self.artifacts}
        return {key: value for key, value in found.items() if value}


def given(step: Any, survey: Survey) -> Given:
    """Return what a step is given.

    Raises:
        CompileError: Something that its template needs is missing, or cannot be given like this.
    """
    result = Given()
    template = survey.target(step)
    for name, declaration in template.inputs.parameters.items():
        if name in step.parameters:
            _give_parameter(result, step, name, step.parameters[name], declaration, survey)
        elif not default_of(declaration)[0]:
            raise _missing(step, "parameter", name, template.inputs.parameters)
    for name, artifact in template.inputs.artifacts.items():
        value = step.artifacts.get(name)
        if value is not None:
            _give_artifact(result, step, name, value, artifact)
        elif name in step.artifacts or artifact.optional:
            result.left_out.add(name)
        else:
            raise _missing(step, "artifact", name, template.inputs.artifacts)
    return result


def _missing(step: Any, kind: str, name: str, declared: Any) -> CompileError:
    return CompileError(
        f"{step.title} is given no input {kind} {name!r}{at(step.where)}, which {step.template.title} needs; it "
        f"declares {listed(declared)}. Give it in {kind}s={{...}}, or declare "
        + ("a default." if kind == "parameter" else "it optional.")
    )


def _give_parameter(result: Given, step: Any, name: str, value: Any, declaration: Any, survey: Survey) -> None:
    if survey.is_big(value):
        if not survey.is_big(declaration):
            result.big.add(name)
        result.artifacts.append({"name": BIG + name, **big_source(value, survey, step.title + at(step.where))})
    elif survey.is_big(declaration):
        result.artifacts.append({"name": BIG + name, "raw": {"data": parameter_text(value, declaration.type)}})
    if survey.is_read(declaration):
        result.parameters.append({"name": name, "value": parameter_text(value, declaration.type)})
    elif not survey.is_big(value) and not survey.is_big(declaration):
        _refuse_big_inside(step, name, value, survey)
        result.parameters.append({"name": name, "value": parameter_text(value, declaration.type)})


def _refuse_big_inside(step: Any, name: str, value: Any, survey: Survey) -> None:
    sources = value.sources if isinstance(value, ArgoVar) else ()
    for source in sources:
        if survey.is_big(source):
            raise CompileError(
                f"{step.title} computes its parameter {name!r}{at(step.where)} from {source.name!r}, which is a big "
                "parameter: a file, whose content no expression sees. Compute it in an OP."
            )


def big_source(value: Any, survey: Survey, owner: str) -> dict[str, Any]:
    """Return the artifact source of a big reference: ``from``, or ``fromExpression`` for a choice."""
    if isinstance(value, IfExpression):
        return {"fromExpression": _big_choice(value, survey, owner)}
    if isinstance(value, InputParameter) and value.step is not None:  # what a step was given
        return big_source(default_of(value)[1], survey, owner)
    prefix = "" if value.step is None else f"{value.step.kind}.{value.step.name}."
    return {"from": "{{" + f"{prefix}{value.side}.artifacts.{BIG}{value.name}" + "}}"}


def _big_choice(value: Any, survey: Survey, owner: str) -> str:
    if isinstance(value, IfExpression):
        then, other = (_big_choice(branch, survey, owner) for branch in value.branches)
        return f"({condition(value._if)} ? {then} : {other})"
    if not isinstance(value, ParameterRef) or not survey.is_big(value):
        raise CompileError(
            f"{owner} chooses between a big parameter and {value!r}, which is none. Declare both as BigParameter."
        )
    prefix = "" if value.step is None else f"{value.step.kind}['{value.step.name}']."
    return f"{prefix}{value.side}.artifacts['{BIG}{value.name}']"


# -- artifacts -------------------------------------------------------------------------------------------------------


def _give_artifact(result: Given, step: Any, name: str, value: Any, declaration: Any) -> None:
    several = isinstance(value, (list, tuple)) or (isinstance(value, dict) and "s3" not in value)
    if step.template.super_op:
        if several:
            raise CompileError(
                f"{step.title} gives the input artifact {name!r} in parts{at(step.where)}, and its template "
                f"{step.template.title} is made of steps. Give it the parts as inputs of their own, and put them "
                "together where an OP takes them."
            )
        check_whole(value, f"{step.title}{at(step.where)}", name)
    if isinstance(value, (list, tuple)):
        parts = list(value)
        result.parts.append((name, len(parts)))
    elif several:
        flat = flatten(value)
        parts = list(flat.values())
        result.parts.append((name, tuple(flat)))
    else:
        argument = {"name": name, **artifact_source(value, step, name)}
        if declaration.optional:
            argument["optional"] = True
        element = _element(value)
        if element is not None:
            result.prefix.append((name, _static_element(element, step, name)))
        result.artifacts.append(argument)
        return
    for index, part in enumerate(parts):
        piece = f"dflow_{name}_{index}"
        result.artifacts.append({"name": piece, **artifact_source(part, step, name)})
        element = _element(part)
        if element is not None:
            result.prefix.append((piece, _static_element(element, step, name)))


def _element(value: Any) -> Any:
    return getattr(value, "slice", None)


def check_whole(value: Any, owner: str, name: str) -> None:
    """Refuse an element of an artifact where nothing can take it out.

    Raises:
        CompileError: There is one.
    """
    for reference in artifact_refs(value):
        if reference.slice is not None:
            raise CompileError(
                f"{owner} takes one element of {reference}, [{reference.slice}], as {name!r}; only an OP can be given "
                "an element. Hand on the whole artifact, and take the element where an OP is given it."
            )


def _static_element(element: Any, step: Any, name: str) -> str:
    text = str(element)
    if "{{" in text:
        raise CompileError(
            f"{step.title} gives the input artifact {name!r} an element chosen at run time, [{text}]{at(step.where)}, "
            "which is not supported. Pass the artifact and the index, and choose in the OP."
        )
    return text


def artifact_source(value: Any, step: Any, name: str) -> dict[str, Any]:
    """Return where an artifact comes from: ``from``, ``fromExpression``, ``raw``, or a place in storage.

    Args:
        value: What the author gave.
        step: The step, for error texts.
        name: The input artifact, for error texts.
    """
    if isinstance(value, IfExpression):
        check_whole(value, f"{step.title}{at(step.where)}", name)
        return {"fromExpression": value.expr}
    if isinstance(value, InputArtifact) and value.step is not None:  # what another step was given
        return artifact_source(value.source, step, name)
    if isinstance(value, ArtifactRef):
        return {"from": str(value), **({"subPath": value._sub_path} if value._sub_path else {})}
    if isinstance(value, str):
        whole = _WHOLE_TAG.match(value)
        if whole is None:
            return {"raw": {"data": value}}
        return {"from": whole.group(1), **({"subPath": whole.group(2)[1:]} if whole.group(2) else {})}
    if hasattr(value, "location"):
        return dict(value.location())
    if isinstance(value, dict) and "s3" in value:  # an artifact of an earlier run's step
        return {"s3": {"key": value["s3"]["key"]}}
    raise CompileError(
        f"{step.title} gives the input artifact {name!r} the value {value!r}{at(step.where)}; it takes an uploaded "
        "artifact, an output of another step, a text, or a list or dict of these."
    )
