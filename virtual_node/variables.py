"""The variables of a pod's container, as a template has them: with values, ready to be expanded as a kubelet does.

Not here: the expansion (``engines/local/work/environment.py``), where values come from (``sources.py``).

Trap: what came from a source is not expanded, so each ``$`` in it is doubled; what stands in the pod is.
"""

from __future__ import annotations

import re
from typing import Any

from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.virtual_node.resources import resource_text
from dflow_hpc.virtual_node.sources import Refused, Sources, reference_of

Object = dict[str, Any]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = ("ARGO_PROGRESS_FILE", "ARGO_TEMPLATE", "GODEBUG")
"""Of an Argo pod: what is true in its own containers only."""


def variables(
    container: Object, containers: list[Object], sources: Sources, job: Resources, *, argo: bool
) -> list[Object]:
    """Return a container's ``env`` with plain values.

    Args:
        container: The container.
        containers: All of the pod.
        sources: What the pod refers to.
        job: What its job asks for.
        argo: Argo made the pod.

    Raises:
        Refused: A source is not there, or cannot be had on this node; or a shell cannot set a variable of that name.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        found |= _all_of(source, sources)
    for variable in container.get("env") or []:
        name = variable["name"]
        if argo and name in _OURS:
            continue
        if not _NAME.fullmatch(name):
            raise Refused(
                f"it sets the variable {name!r}; a shell knows names of letters, digits and _ only. Rename it"
            )
        source = variable.get("valueFrom")
        if source is None:
            value: str | None = str(variable.get("value") or "")
        else:
            value = _value(variable, container, containers, sources, job)
        if value is not None:
            found.pop(name, None)  # the last one counts, and sees all before it
            found[name] = value
    return [{"name": name, "value": value} for name, value in found.items()]


def _all_of(source: Object, sources: Sources) -> dict[str, str]:
    reference = reference_of(source)
    if reference is None:
        raise Refused(f"it has envFrom of {', '.join(source)}; this node knows configMapRef and secretRef")
    kind, selector = reference
    values = sources.values(kind, selector["name"], optional=bool(selector.get("optional")))
    named = {f"{source.get('prefix') or ''}{key}": value for key, value in values.items()}
    # A kubelet, too, leaves out what cannot be a variable.
    return {name: _literal(value, name) for name, value in named.items() if _NAME.fullmatch(name)}


def _value(
    variable: Object, container: Object, containers: list[Object], sources: Sources, job: Resources
) -> str | None:
    name, source = variable["name"], variable["valueFrom"]
    if "fieldRef" in source:
        return sources.field(source["fieldRef"]["fieldPath"]).replace("$", "$$")
    if "resourceFieldRef" in source:
        return resource_text(containers, container["name"], source["resourceFieldRef"], job)
    reference = reference_of(source)
    if reference is None:
        raise Refused(f"the variable {name!r} comes from {', '.join(source)}, which this node does not know")
    kind, selector = reference
    value = sources.value(selector, kind, f"the variable {name!r}")
    return None if value is None else _literal(value, name)


def _literal(value: bytes, name: str) -> str:
    try:
        return value.decode().replace("$", "$$")
    except UnicodeDecodeError as error:
        raise Refused(f"the variable {name!r} is to have bytes that are no text. Mount them as a file") from error
