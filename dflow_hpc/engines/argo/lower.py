"""From a manifest to what Argo can run: the run's name and labels, and its placements as pods.

A leaf that is placed on a machine becomes a thin pod which hands it over (``engines/bridge/template.py``), or, where
the profile says ``via = "node"``, a pod that only the machine's virtual node takes; that finds what the leaf asks for
in the template's annotations. One whose machine is *this host* stays an ordinary pod: there is nothing else that it
could mean in a cluster.

Pure: nothing is asked or made here (``publish.py``, ``engine.py``).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from dflow_hpc.config import randstr
from dflow_hpc.engines.bridge.template import bridged, secret_name
from dflow_hpc.errors import EngineError
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.manifest.placing import wish_of, wishes

MANAGED = {"app.kubernetes.io/managed-by": "dflow-hpc"}
"""Labels of everything that the engine makes."""
NODE_LABEL = "dflow-hpc/machine"
"""Label of a virtual node: the profile behind it."""
NODE_TAINT = "virtual-kubelet.io/provider"
_AWAY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""Taints of a node that is away. Kubernetes deletes a pod there after five minutes unless it bears them for ever."""
_LONGEST = 63 - 11
"""Of a name, which is the value of a label of each pod (63 characters), what is left before a dash and the random."""


def lower(
    manifest: dict[str, Any],
    machines: Mapping[str, Machine] | None = None,
    *,
    id: str | None = None,
    image: str = "dflow-hpc",
    gateways: Collection[str] = (),
) -> dict[str, Any]:
    """Return the Workflow to be made, under a name of its own.

    Args:
        manifest: What the compiler gave.
        machines: The machines that it names.
        id: The run's name, instead of the manifest's or one that is made up.
        image: Of bridge pods.
        gateways: Names of the machines that have a gateway; a leaf of another has a login of its own.

    Raises:
        EngineError: A step is placed on a machine that is not among them, or cannot run there.
    """
    workflow = copy.deepcopy(manifest)
    templates = workflow.get("spec", {}).get("templates") or []
    templates[:] = [_placed(template, machines or {}, image, gateways) for template in templates]
    metadata = workflow.setdefault("metadata", {})
    prefix = metadata.pop("generateName", None) or "workflow-"
    metadata["name"] = id or metadata.get("name") or f"{prefix.rstrip('-')[:_LONGEST]}-{randstr(10)}"
    metadata.pop("namespace", None)  # the connection's
    metadata["labels"] = {**(metadata.get("labels") or {}), **MANAGED}
    return workflow


def bridges(manifest: Mapping[str, Any], machines: Mapping[str, Machine]) -> list[str]:
    """Return the machines for which a manifest needs bridge pods, by name."""
    wished = {name for _, name, _ in wishes(manifest)}
    return sorted(name for name in wished if not machines[name].is_here and machines[name].via != "node")


def _placed(
    template: dict[str, Any], machines: Mapping[str, Machine], image: str, gateways: Collection[str]
) -> dict[str, Any]:
    name, _ = wish_of(template)
    if name is None or (name in machines and machines[name].is_here):
        return template
    if name not in machines:
        raise EngineError(
            f"the template {template['name']!r} is placed on machine {name!r}, of which there is no profile. "
            f"Add a table [machine.{name}]."
        )
    if machines[name].via == "node":
        return _on_node(template, name)
    return bridged(template, name, image, secret_name(name, gateway=name in gateways))


def _on_node(template: dict[str, Any], machine: str) -> dict[str, Any]:
    """Return a leaf's template whose pod a machine's virtual node takes, and no other, however long that is away."""
    borne = [{"key": NODE_TAINT, "operator": "Exists"}]
    borne += [{"key": key, "operator": "Exists", "effect": "NoExecute"} for key in _AWAY]
    return {
        **template,
        "nodeSelector": {**(template.get("nodeSelector") or {}), NODE_LABEL: machine},
        "tolerations": [*(template.get("tolerations") or []), *borne],
    }
