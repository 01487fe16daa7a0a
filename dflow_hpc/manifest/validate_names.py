"""What validation has to know about names: which are legal, which a tag may use where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dflow_hpc.manifest.view import Json, kind_of

Scope = dict[str, bool]
"""The names that a tag may use; False is as good as absent."""

ANY_ITEM = "item.*"
"""In a scope: every name that begins with ``item`` is fine, because the list is known at run time only."""
ANY_PARAMETER = "workflow.outputs.parameters.*"
ANY_ARTIFACT = "workflow.outputs.artifacts.*"
ANY_WORKFLOW_PARAMETER = "workflow.parameters*"

_FIELD = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")
_VALUE = re.compile(r"[-a-zA-Z0-9_]+")
_ROOTS = ("item", "steps.", "inputs.", "outputs.", "pod.", "workflow.", "tasks.")
_ALWAYS = (
    "outputs.", "workflow.creationTimestamp", "workflow.scheduledTime", "workflow.duration",
    "tasks.name", "steps.name", "node.name",
)  # fmt: skip
_TAG = re.compile(r"\{\{(?!=)(.*?)\}\}", re.DOTALL)
_FIELD_TEXT = (
    "name must consist of alpha-numeric characters or '-', and must start with an alpha-numeric "
    "character (e.g. My-name1-2, 123-NAME)"
)
_VALUE_TEXT = "Parameter/Artifact name must consist of alpha-numeric characters, '_' or '-' e.g. my_param_1, MY-PARAM-1"
_LOCATIONS = ("s3", "raw", "http", "git", "gcs", "oss", "azure", "hdfs", "artifactory")


class Problem(Exception):
    """What is wrong with a manifest, in Argo's words."""


def is_tag(text: str) -> bool:
    """Say whether a text is one tag."""
    return text.startswith("{{") and text.endswith("}}")


def check_names(entries: Sequence[Json], where: str, kind: str) -> None:
    """Check that the names of a list are there, legal and unique.

    Args:
        entries: The list.
        where: What stands before the message.
        kind: ``field`` (templates, steps, tasks) or ``value`` (parameters, artifacts).
    """
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        name = entry.get("name") or ""
        if not name:
            raise Problem(f"{where}[{index}].name is required")
        if fault := name_fault(name, kind):
            raise Problem(f"{where}[{index}].name: '{name}' is invalid: {fault}")
        if name in seen:
            raise Problem(f"{where}[{index}].name '{name}' is not unique")
        seen.add(name)


def name_fault(name: str, kind: str = "field") -> str:
    """Return what is wrong with a name, or nothing."""
    if kind == "value":
        return "" if _VALUE.fullmatch(name) else _VALUE_TEXT
    if len(name) > 128:
        return "must be no more than 128 characters"
    return "" if _FIELD.fullmatch(name) else _FIELD_TEXT


def check_hooks(hooks: Mapping[str, Json], where: str) -> None:
    """Check that hooks other than ``exit`` say when they run."""
    for name, hook in hooks.items():
        if name != "exit" and not hook.get("expression"):
            raise Problem(f"{where}.{name} Expression required")


def check_arguments(where: str, arguments: Json, *, open_values: bool = False) -> None:
    """Check that arguments have values.

    Args:
        where: What stands before their names in the message.
        arguments: They.
        open_values: Parameters may get their values later.
    """
    for side in ("parameters", "artifacts"):
        check_names(arguments.get(side) or (), f"{where}{side}", kind="value")
    for parameter in arguments.get("parameters") or ():
        _check_parameter(where + parameter["name"], parameter, open_values)
    for artifact in arguments.get("artifacts") or ():
        name = where + artifact["name"]
        located = any(artifact.get(location) is not None for location in _LOCATIONS)
        if not artifact.get("from") and not artifact.get("fromExpression") and not located:
            raise Problem(f"{name}.from, artifact location, or key is required")
        if artifact.get("from") and artifact.get("fromExpression"):
            raise Problem(f"{name} shouldn't have both `from` and `fromExpression` in Artifact")


def _check_parameter(name: str, parameter: Json, open_value: bool) -> None:
    source = parameter.get("valueFrom")
    if source is None and parameter.get("value") is None and not open_value:
        raise Problem(f"{name}.value or {name}.valueFrom is required")
    if source is not None:
        allowed = any(source.get(key) is not None for key in ("configMapKeyRef", "event", "supplied"))
        if not allowed or any(source.get(key) for key in ("path", "jsonPath", "parameter", "expression")):
            raise Problem(f"{name}.valueFrom only allows: default, configMapKeyRef and supplied")
    if parameter.get("enum") is not None:
        if not parameter["enum"]:
            raise Problem(f"{name}.enum should contain at least one value")
        if parameter.get("value") is None:
            if open_value:
                return
            raise Problem(f"{name}.value is required")
        if parameter["value"] not in parameter["enum"]:
            raise Problem(f"{name}.value should be present in {name}.enum list")


def check_tags(
    value: Any, scope: Mapping[str, bool], more: Mapping[str, bool], where: str, skip: Iterable[str] = ()
) -> None:
    """Check that every simple tag in plain data names something known; expression tags are not looked at.

    Args:
        value: The data.
        scope: What is known here.
        more: What is known everywhere.
        where: What stands before the message.
        skip: Keys of the outermost object that are not looked at.
    """
    if isinstance(value, dict) and skip:
        value = {key: item for key, item in value.items() if key not in skip}
    for tag in tags_of(value):
        name = tag.strip()
        if not name.startswith(_ROOTS) or name in scope or name in more or name.startswith(_ALWAYS):
            continue
        if name.startswith("item") and ANY_ITEM in scope and (name == "item" or name.startswith("item.")):
            continue
        if name.startswith(ANY_WORKFLOW_PARAMETER[:-1]) and ANY_WORKFLOW_PARAMETER in more:
            continue
        if name.startswith(ANY_PARAMETER[:-1]) and (ANY_PARAMETER in scope or ANY_PARAMETER in more):
            continue
        if name.startswith(ANY_ARTIFACT[:-1]) and (ANY_ARTIFACT in scope or ANY_ARTIFACT in more):
            continue
        raise Problem(f"{where}failed to resolve {{{{{tag}}}}}")


def tags_of(value: Any) -> Iterator[str]:
    """Return the simple tags in plain data."""
    if isinstance(value, str):
        if "{{" in value:
            yield from _TAG.findall(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tags_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from tags_of(item)


def workflow_scope(workflow: Json, spec: Json) -> Scope:
    """Return the names that every template may use."""
    metadata, more = workflow["metadata"], spec.get("workflowMetadata") or {}
    names = [
        "name", "namespace", "mainEntrypoint", "serviceAccountName", "uid", "status", "annotations",
        "annotations.json", "labels", "labels.json",
    ]  # fmt: skip
    parameters = (spec.get("arguments") or {}).get("parameters") or ()
    if parameters:
        names += ["parameters", "parameters.json"]
    names += [f"parameters.{parameter['name']}" for parameter in parameters]
    for source in (metadata, more):
        names += [f"annotations.{key}" for key in source.get("annotations") or ()]
        names += [f"labels.{key}" for key in source.get("labels") or ()]
    names += [f"labels.{key}" for key in more.get("labelsFrom") or ()]
    if spec.get("priority") is not None:
        names.append("priority")
    return {f"workflow.{name}": True for name in names}


def output_scope(template: Json | None, prefix: str, aggregate: bool, ancestor: bool, everywhere: Scope) -> Scope:
    """Return the names that a step or task gives to those that come after it.

    Args:
        template: Its template; None when that is known at run time only.
        prefix: ``steps.<name>`` or ``tasks.<name>``.
        aggregate: Whether it is a loop over items.
        ancestor: Whether its status may be named, too.
        everywhere: Gets what is exported by ``globalName``.
    """
    scope: Scope = {f"{prefix}.{key}": True for key in ("id", "startedAt", "finishedAt", "hostNodeName")}
    if ancestor:
        scope[f"{prefix}.status"] = True
    if template is None:
        return scope
    kind = kind_of(template)
    if template.get("daemon"):
        scope[f"{prefix}.ip"] = True
    if kind in ("container", "script", "data", "http", "plugin") or _has_main(template):
        scope[f"{prefix}.outputs.result"] = scope[f"{prefix}.exitCode"] = True
    for side, everything in (("parameters", ANY_PARAMETER), ("artifacts", ANY_ARTIFACT)):
        for output in (template.get("outputs") or {}).get(side) or ():
            scope[f"{prefix}.outputs.{side}.{output.get('name')}"] = True
            exported = output.get("globalName")
            if exported:
                everywhere[everything if is_tag(exported) else f"workflow.outputs.{side}.{exported}"] = True
    if aggregate:
        scope[f"{prefix}.outputs.parameters"] = True
        if kind in ("script", "containerSet"):
            scope[f"{prefix}.outputs.result"] = scope[f"{prefix}.exitCode"] = True
    return scope


def _has_main(template: Json) -> bool:
    containers = (template.get("containerSet") or {}).get("containers") or ()
    return any(container.get("name") == "main" for container in containers)


def item_scope(step: Json) -> Scope:
    """Return the names of a loop's item."""
    items, sequence = step.get("withItems") or (), step.get("withSequence")
    if bool(items) + bool(step.get("withParam")) + (sequence is not None) > 1:
        raise Problem("only one of withItems, withParam, withSequence can be specified")
    scope: Scope = {}
    for item in items:
        if isinstance(item, dict):
            scope.update({f"item.{key}": True for key in item})
        elif isinstance(item, list):
            scope.update({f"item.[{index}]": True for index in range(len(item))})
        else:
            scope["item"] = True
    if step.get("withParam"):
        return {"item": True, ANY_ITEM: True}
    if sequence is not None:
        if sequence.get("count") is not None and sequence.get("end") is not None:
            raise Problem("only one of count or end can be defined in withSequence")
        scope["item"] = True
    return scope
