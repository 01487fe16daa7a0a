"""The parts of a template that Kubernetes defines, as plain data: authors give dicts or client objects.

This module imports no Kubernetes client; it takes whatever has ``attribute_map`` or ``to_dict``.
"""

from __future__ import annotations

import re
from typing import Any

from dflow_hpc.errors import CompileError
from dflow_hpc.model.templates import ScriptOPTemplate, Secret


def plain(value: Any) -> Any:
    """Return Kubernetes data as plain data: a client's objects tell their fields' names, or give all by ``to_dict``."""
    names = getattr(value, "attribute_map", None)
    if isinstance(names, dict):
        fields = {wire: getattr(value, name, None) for name, wire in names.items()}
        return {wire: plain(item) for wire, item in fields.items() if item is not None}
    if hasattr(value, "to_dict"):
        return {_camel(key): plain(item) for key, item in value.to_dict().items() if item is not None}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match.group(1).upper(), name.lstrip("_"))


def environment(template: ScriptOPTemplate, secrets: dict[str, Secret]) -> list[dict[str, Any]]:
    """Return a template's environment.

    Args:
        template: The template.
        secrets: Gets the secrets that have a value of their own, by name.
    """
    found = []
    for name, value in sorted(template.envs.items()):
        if isinstance(value, Secret):
            if value.value is not None:
                secrets[value.name] = value
            source = {"secretKeyRef": {"name": value.name, "key": value.key}}
            found.append({"name": name, "valueFrom": source})
        elif isinstance(value, dict) or hasattr(value, "attribute_map") or hasattr(value, "to_dict"):
            found.append({"name": name, "valueFrom": plain(value)})
        elif isinstance(value, (str, int, float)):
            found.append({"name": name, "value": str(value)})
        else:
            raise CompileError(
                f"{template.title} was given the environment variable {name}={value!r}; it is a text, Secret(...), or "
                "a Kubernetes valueFrom as a dict."
            )
    return found


def container(template: ScriptOPTemplate, secrets: dict[str, Secret]) -> dict[str, Any]:
    """Return the fields that a script and a container share."""
    resources = {"requests": template.requests, "limits": template.limits}
    fields = {
        "image": template.image,
        "imagePullPolicy": template.image_pull_policy,
        "command": template.command,
        "env": environment(template, secrets),
        "resources": {key: dict(value) for key, value in resources.items() if value},
        "volumeMounts": plain(template.mounts),
    }
    return {key: value for key, value in fields.items() if value}


def pod(template: ScriptOPTemplate) -> dict[str, Any]:
    """Return the fields of a template that concern its pod."""
    fields = {
        "timeout": template.timeout,
        "retryStrategy": plain(template.retry_strategy),
        "nodeSelector": template.node_selector,
        "tolerations": plain(template.tolerations),
        "affinity": plain(template.affinity),
        "volumes": plain(template.volumes),
        "initContainers": plain(template.init_containers),
        "sidecars": plain(template.sidecars),
    }
    return {key: value for key, value in fields.items() if value}
