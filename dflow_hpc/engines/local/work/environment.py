"""The variables that a template gives to its containers: plain values, fields of the pod, secrets of the run.

Not here: the variables that Argo gives to each container (``leafrun.Leaf.environment``).

Trap: a secret's value goes from its file into the environment of the step's process, and nowhere else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dflow_hpc.engines.local.work import staging

if TYPE_CHECKING:
    from dflow_hpc.engines.local.work.leafrun import Leaf


def variables(leaf: Leaf, container: dict[str, Any]) -> dict[str, str]:
    """Return a container's variables; ``$(NAME)`` of an earlier one is expanded, as Kubernetes does.

    Raises:
        StagingError: One comes from where the local engine cannot read it.
    """
    found: dict[str, str] = {}
    fields = {"metadata.name": leaf.spec["pod"], "metadata.uid": leaf.spec["id"]}
    for variable in container.get("env") or []:
        name, source = variable["name"], variable.get("valueFrom")
        if source is None:
            found[name] = expand(str(variable.get("value") or ""), found)
        elif (field := (source.get("fieldRef") or {}).get("fieldPath")) in fields:
            found[name] = fields[field]
        elif "secretKeyRef" in source:
            value = _secret(leaf, name, source["secretKeyRef"])
            if value is not None:
                found[name] = value
        else:
            raise staging.StagingError(
                "init",
                f"the variable {name!r} of container {container['name']!r} comes from {', '.join(source)}, which the "
                "local engine cannot read; give it a plain value",
            )
    return found


def _secret(leaf: Leaf, variable: str, reference: dict[str, Any]) -> str | None:
    name, key = reference["name"], reference["key"]
    try:
        return Path(leaf.settings["secrets_dir"], name, key).read_text(encoding="utf-8")
    except OSError as error:
        if reference.get("optional"):
            return None
        raise staging.StagingError(
            "init",
            f"the variable {variable!r} comes from key {key!r} of the secret {name!r}, which this run does not have "
            "(secrets go when a run ends). Give it by Secret(value); retry without --same-code",
        ) from error


def expand(text: str, variables: dict[str, str]) -> str:
    """Expand ``$(NAME)`` where NAME is known, and make one ``$`` of two, as a kubelet does."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replace, text)
