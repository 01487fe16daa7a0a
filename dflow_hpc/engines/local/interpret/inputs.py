"""What a template gets: its inputs from the arguments of whoever calls it, and the template with its tags replaced.

Argo replaces tags in two passes, first what the workflow and the place give, then the inputs. Here both are one pass,
and a second one only where a value holds a tag itself.

Trap: extra arguments are ignored and missing ones are errors; an input's ``default`` counts, one of ``spec.arguments``
does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.engines.local.interpret.names import Known, has_location
from dflow_hpc.engines.local.interpret.templates import Template, config_value
from dflow_hpc.expr import gojson
from dflow_hpc.expr.tags import TagTemplate
from dflow_hpc.manifest.view import Json, named, text_of

_OF_INPUT = ("path", "mode", "recurseMode")
"""Fields of an artifact that the input decides; all others come with the argument."""


def has_tags(value: Any) -> bool:
    """Say whether a tag stands in any text of plain data."""
    if isinstance(value, str):
        return "{{" in value
    if isinstance(value, dict):
        return any(has_tags(item) for item in value.values()) or any("{{" in key for key in value)
    return isinstance(value, list) and any(has_tags(item) for item in value)


def render(tags: TagTemplate, known: Known) -> Any:
    """Replace the tags that are known; once more if a value brought tags in, or one stood in another.

    Raises:
        TemplateError: A value cannot stand in a manifest.
    """
    made = known.render(tags)
    return known.substitute(made) if made is not tags.source and has_tags(made) else made


def process(
    template: Template, arguments: Json, known: Known, resources: Iterable[Json]
) -> tuple[Json, dict[str, str]]:
    """Return the inputs of a node, and the variables that they are inside the template.

    Args:
        template: What is called.
        arguments: ``{"parameters": [...], "artifacts": [...]}``, references replaced.
        known: What the workflow and the place give (``workflow.*``, ``node.name``, ...).
        resources: Documents among which ConfigMaps are looked for.

    Raises:
        TemplateError: An input is missing.
    """
    inputs: Json = {}
    variables: dict[str, str] = dict(template.paths)
    if template.parameters:
        given = {p["name"]: p for p in arguments.get("parameters") or ()}
        found = [_parameter(p, given.get(p["name"]), known, resources) for p in template.parameters]
        for parameter in found:
            variables[f"inputs.parameters.{parameter['name']}"] = parameter["value"]
        if template.wants_parameters:
            variables["inputs.parameters"] = gojson.dumps(found)
        inputs["parameters"] = found
    if template.artifacts:
        artifacts = [_artifact(a, named(arguments.get("artifacts"), a["name"])) for a in template.artifacts]
        if has_tags(artifacts):
            artifacts = known.over(variables).substitute(artifacts)
        inputs["artifacts"] = artifacts
    if has_tags(template.paths):
        variables.update(known.over(variables).substitute(template.paths))
    return inputs, variables


def _parameter(declared: Json, argument: Json | None, known: Known, resources: Iterable[Json]) -> Json:
    made = dict(declared)
    if argument is not None and argument.get("value") is not None:
        made["value"] = argument["value"]
        made.pop("valueFrom", None)
    elif argument is not None and argument.get("valueFrom"):
        made.pop("value", None)
        made["valueFrom"] = argument["valueFrom"]
    elif made.get("value") is None:
        made["value"] = made.get("default")
    if has_tags(made.get("valueFrom")):
        made["valueFrom"] = known.substitute(made["valueFrom"])
    reference = (made.get("valueFrom") or {}).get("configMapKeyRef")
    if reference:
        value = config_value(resources, known.substitute(reference, strict=True))
        if value is not None:
            made["value"] = value
        elif made.get("value") is None:
            made["value"] = made["valueFrom"].get("default")
    if made.get("value") is None:
        raise TemplateError(f"inputs.parameters.{declared['name']} was not supplied")
    text = text_of(made["value"])
    made["value"] = known.substitute(text) if "{{" in text else text
    if "default" in made:
        made["default"] = text_of(made["default"])
    return made


def _artifact(declared: Json, argument: Json | None) -> Json:
    if not declared.get("optional") and not has_location(declared):
        if argument is None:
            raise TemplateError(f"inputs.artifacts.{declared['name']} was not supplied")
        if not has_location(argument):
            raise TemplateError(f"inputs.artifacts.{declared['name']} missing location information")
    if argument is None:
        return declared
    made = {key: value for key, value in argument.items() if key not in _OF_INPUT}
    made.update({key: declared[key] for key in _OF_INPUT if key in declared})
    return made
