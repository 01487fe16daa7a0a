"""Merging one part of a manifest over another as Kubernetes does: ``templateDefaults`` and ``workflowTemplateRef``.

A *strategic* merge: objects merge by key, a list replaces the other list, but lists whose entries carry an identity
merge by it (``env`` by name, ``volumeMounts`` by mountPath). Nothing else is known about the fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dflow_hpc.manifest.view import Json

_IDENTITY = {
    "env": "name", "volumes": "name", "containers": "name", "initContainers": "name", "sidecars": "name",
    "volumeMounts": "mountPath", "volumeDevices": "devicePath", "ports": "containerPort",
    "imagePullSecrets": "name", "hostAliases": "ip", "templates": "name", "volumeClaimTemplates": "name",
    "parameters": "name", "artifacts": "name",
}  # fmt: skip
"""List fields that merge, and the field that tells their entries apart."""


def merge(low: Json, high: Json) -> Json:
    """Return ``high`` laid over ``low``; neither is changed.

    Args:
        low: What counts where the other says nothing.
        high: What wins.
    """
    result = dict(low)
    for key, value in high.items():
        if key not in low:
            result[key] = value
        elif value is not None:
            result[key] = _merged(low[key], value, key)
    return result


def _merged(low: Any, high: Any, key: str) -> Any:
    if isinstance(low, dict) and isinstance(high, dict):
        return merge(low, high)
    identity = _IDENTITY.get(key)
    if not identity or not isinstance(low, list) or not isinstance(high, list):
        return high
    of_low = {entry.get(identity): entry for entry in low}
    mine = [merge(of_low[e.get(identity)], e) if e.get(identity) in of_low else e for e in high]
    taken = {entry.get(identity) for entry in high}
    return mine + [entry for entry in low if entry.get(identity) not in taken]


def whole_spec(workflow: Json, resources: Sequence[Json]) -> Json | None:
    """Return the spec of a Workflow, laid over the one that its ``workflowTemplateRef`` names; None if there is none.

    Args:
        workflow: The Workflow.
        resources: Documents among which the WorkflowTemplate is looked for.
    """
    spec: Json = workflow.get("spec") or {}
    reference = spec.get("workflowTemplateRef")
    if not reference:
        return spec
    kind = "ClusterWorkflowTemplate" if reference.get("clusterScope") else "WorkflowTemplate"
    for document in resources:
        if document["kind"] == kind and document["metadata"]["name"] == reference.get("name"):
            own = {key: value for key, value in spec.items() if key != "workflowTemplateRef"}
            return merge(document.get("spec") or {}, own)
    return None


def not_found(workflow: Json) -> str:
    """Return what Argo says when the template of a ``workflowTemplateRef`` does not exist."""
    reference = workflow["spec"]["workflowTemplateRef"]
    kind = "clusterworkflowtemplates" if reference.get("clusterScope") else "workflowtemplates"
    return f'{kind}.argoproj.io "{reference.get("name") or ""}" not found'
