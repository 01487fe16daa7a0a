"""What a Steps or DAG gives, as plain data: outputs that come from its members.

Not here: the outputs of leaves (``leaves.py``).

Trap: Argo takes a plain reference to a member's output as ``parameter``; everything else, an input of the scope among
it, must be an ``expression``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dflow_hpc.compile import nested
from dflow_hpc.compile.arguments import artifact_source, big_source, check_whole
from dflow_hpc.compile.helpers import JOINED
from dflow_hpc.compile.leaves import without_empty
from dflow_hpc.compile.survey import Survey
from dflow_hpc.compile.texts import description, parameter_text
from dflow_hpc.errors import CompileError
from dflow_hpc.model.checks import at
from dflow_hpc.model.declared import BIG, OutputParameter, artifact_refs, parameter_refs
from dflow_hpc.model.refs import TEXT, ArgoVar, text_literal

Check = Callable[[Iterable[Any], str], None]


class OutputWriter:
    """Writes what one scope gives.

    Args:
        scope: The Steps or DAG.
        survey: The workflow's survey.
        joined: What it gives as one of several slices.
        joined_by: Which helper joins what: the output's name, the reference from which it comes, the helper's name.
        check: Refuses references that do not belong to the scope.
    """

    def __init__(
        self, scope: Any, survey: Survey, joined: nested.Joined, joined_by: list[tuple[str, Any, str]], check: Check
    ):
        self.scope, self.survey, self.joined, self._check_all = scope, survey, joined, check
        self._joined_by = joined_by

    def write(self) -> dict[str, Any]:
        """Return the outputs."""
        parameters, artifacts = [], []
        for name, output in self.scope.outputs.parameters.items():
            for value in (output.value_from_parameter, output.value_from_expression):
                self._check_all(parameter_refs(value), f"the output {name!r} of {self.scope.title}")
            if self.survey.is_big(output):
                artifacts.append(self._big_output(name, output))
            if not self.survey.is_big(output) or self.survey.is_read(output):
                parameters.append(self._output_parameter(name, output))
        if self.joined.success:
            parameters.append({"name": "dflow_success_tag", "valueFrom": {"expression": "'1'"}})
        for name, artifact in self.scope.outputs.artifacts.items():
            artifacts.append(self._output_artifact(name, artifact))
        return without_empty({"parameters": parameters, "artifacts": artifacts})

    def _big_output(self, name: str, output: Any) -> dict[str, Any]:
        value = output.value_from_parameter
        if value is None:
            value = output.value_from_expression
        found = {"name": BIG + name, **big_source(value, self.survey, f"the output {name!r} of {self.scope.title}")}
        return {**found, "globalName": output.global_name} if output.global_name else found

    def _output_parameter(self, name: str, output: Any) -> dict[str, Any]:
        value = output.value_from_parameter
        if value is None:
            value = output.value_from_expression
        if value is None and hasattr(output, "value"):
            value = output.value
        elif value is None:
            raise CompileError(
                f"{self.scope.title} declares the output parameter {name!r} and does not say where it comes from. Set "
                f"outputs.parameters[{name!r}].value_from_parameter to an output of one of its steps."
            )
        source = _value_source(value, output)
        if name in self.joined.parameters:
            if not isinstance(value, ArgoVar):
                raise CompileError(
                    f"{self.scope.title} gives the output parameter {name!r} as {value!r}, which slices cannot join. "
                    "Set it to an output of one of its steps."
                )
            source = {"expression": nested.record(str(value.expr), self.survey.type_of(output))}
        if hasattr(output, "default"):
            source["default"] = parameter_text(output.default, output.type)
        found: dict[str, Any] = {"name": name, "valueFrom": source}
        if output.global_name:
            found["globalName"] = output.global_name
        return {**found, **description(self.survey.type_of(output))}

    def _output_artifact(self, name: str, artifact: Any) -> dict[str, Any]:
        value = nested.artifact_value(artifact)
        if value is None:
            raise CompileError(
                f"{self.scope.title} declares the output artifact {name!r} and does not say where it comes from. Set "
                f"outputs.artifacts[{name!r}]._from to an output of one of its steps."
            )
        self._check_all(artifact_refs(value), f"the output {name!r} of {self.scope.title}")
        check_whole(value, self.scope.title + at(self.scope.where), name)
        found: dict[str, Any] = {
            "name": name,
            **artifact_source(value, _Named(f"the output of {self.scope.title}"), name),
        }
        for output, origin, helper in self._joined_by:
            if output == name:  # the key that all slices share, whoever leaves it there
                _redirect(found, origin, helper)
        if artifact.global_name:
            found["globalName"] = artifact.global_name
        if artifact.optional:
            found["optional"] = True
        return found


def _redirect(found: dict[str, Any], origin: Any, helper: str) -> None:
    kind = origin.step.kind
    if "fromExpression" in found:
        place = f"{kind}['{helper}'].outputs.artifacts['{JOINED}']"
        found["fromExpression"] = found["fromExpression"].replace(origin.expr, place)
    else:
        found.pop("subPath", None)
        found["from"] = "{{" + f"{kind}.{helper}.outputs.artifacts.{JOINED}" + "}}"


@dataclass
class _Named:
    """Stands for a step in error texts."""

    title: str
    where: None = None


def _value_source(value: Any, output: Any) -> dict[str, Any]:
    """Return where a Steps or DAG takes an output from; only a plain reference to a member can be a ``parameter``."""
    if isinstance(value, OutputParameter) and not (value.step is not None and value.step.is_loop):
        return {"parameter": str(value)}
    if isinstance(value, ArgoVar):
        structured = value.kind != TEXT and getattr(output, "type", None) not in (None, str, int, float, bool)
        return {"expression": f"toJson({value.expr})" if structured else value.expr}
    if isinstance(value, str) and value.startswith("{{"):
        return {"parameter": value}
    if isinstance(value, str) and output.value_from_expression is not None:
        return {"expression": value}
    return {"expression": text_literal(parameter_text(value, output.type))}
