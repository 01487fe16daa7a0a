"""What a Workflow becomes when it is resumed, retried or submitted anew; and what of it lies in the storage.

Pure functions over the Workflow object (its node tree unpacked). Argo's server does the same to it; without that server
we do, and the controller goes on from what it finds.

Trap: the controller trusts the tree. A node that is taken out of it runs again under its old name, so its old pod must
be gone first (``engine.retry``).
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dflow_hpc.engines.argo.status import PHASE, nodes_of
from dflow_hpc.engines.local.state import to_run_again
from dflow_hpc.errors import EngineError, StorageError
from dflow_hpc.manifest.view import UNSUCCESSFUL
from dflow_hpc.storage.store import Store

Workflow = dict[str, Any]
_OPEN = ("Steps", "DAG", "StepGroup", "TaskGroup", "Retry")
_OF_ONE_RUN = (
    "workflows.argoproj.io/completed",
    PHASE,
    "workflows.argoproj.io/workflow-archiving-status",
)
"""Labels that the controller sets."""
_RESUBMITTED = "workflows.argoproj.io/resubmitted-from-workflow"
_LOG = "main-logs"


def resumed(workflow: Workflow, now: str, node: str | None, parameters: Mapping[str, str]) -> Workflow:
    """Return it as it goes on: not suspended any more, its waiting suspend nodes Succeeded.

    Args:
        workflow: The Workflow.
        now: The time, as Argo writes it.
        node: Only the waiting nodes with this id, name or displayName.
        parameters: Values of supplied output parameters.

    Raises:
        EngineError: Nothing waits under that name, or a parameter is not one that is waited for.
    """
    changed = copy.deepcopy(workflow)
    chosen = waiting(changed, node)
    if node is not None and not chosen:
        raise EngineError(
            f"the step {node!r} of {workflow['metadata']['name']} was to be resumed; what waits is: "
            f"{', '.join(one['displayName'] for one in waiting(changed)) or 'nothing'}."
        )
    if node is None:
        changed["spec"].pop("suspend", None)
    for one in chosen:
        _supply(one, parameters)
        one.update(phase="Succeeded", finishedAt=now)
        one.pop("message", None)
    return changed


def waiting(workflow: Workflow, node: str | None = None) -> list[dict[str, Any]]:
    """Return the suspend nodes that wait: all, or those with this id, name or displayName."""
    found = [one for one in nodes_of(workflow).values() if one["type"] == "Suspend" and one["phase"] == "Running"]
    return [one for one in found if node is None or node in (one["id"], one["name"], one["displayName"])]


def _supply(node: dict[str, Any], values: Mapping[str, str]) -> None:
    outputs = (node.get("outputs") or {}).get("parameters") or []
    supplied = {one["name"]: one for one in outputs if "supplied" in (one.get("valueFrom") or {})}
    if unknown := sorted(set(values) - set(supplied)):
        raise EngineError(
            f"{', '.join(unknown)} was given to the suspended step {node['displayName']}; it waits for: "
            f"{', '.join(supplied) or 'nothing but resume'}."
        )
    for name, one in supplied.items():
        value = values.get(name, one.get("value", (one["valueFrom"]).get("default")))
        if value is None:
            raise EngineError(
                f"the suspended step {node['displayName']} was to be resumed; it waits for a value of {name!r}: "
                f"-p {name}=VALUE."
            )
        one["value"] = value
        del one["valueFrom"]


def to_drop(workflow: Workflow, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the nodes that a retry runs again: what failed, what came after it, and what is named.

    Raises:
        EngineError: One that is named is not there.
    """
    nodes = nodes_of(workflow)
    root = workflow["metadata"]["name"]
    if unknown := [one for one in only if one not in nodes]:
        raise EngineError(f"the nodes {', '.join(unknown)} of {root} were to run again; it has no nodes of these ids.")
    return [nodes[one] for one in sorted(to_run_again(nodes, root, only)) if nodes[one]["type"] not in _OPEN]


def retried(workflow: Workflow, now: str, only: Sequence[str] = ()) -> Workflow:
    """Return it as it runs again: what is to run again taken out of the tree, what holds it Running.

    Args:
        workflow: The Workflow.
        now: The time, as Argo writes it: from it on deadlines count again.
        only: Ids of further nodes to run again.
    """
    changed = copy.deepcopy(workflow)
    nodes = nodes_of(changed)
    root = changed["metadata"]["name"]
    dropped = to_run_again(nodes, root, only)
    again = {key for key in dropped if key != root}
    # A group in which something runs again is open again, and so is whatever holds that group.
    holds = {key for key, node in nodes.items() if node["type"] in _OPEN and node["phase"] in UNSUCCESSFUL} - again
    for key in again:
        boundary = nodes[key].get("boundaryID")
        while boundary in nodes and boundary not in holds:
            holds.add(boundary)
            boundary = nodes[boundary].get("boundaryID")
    holds |= {key for key, node in nodes.items() if node["type"] in _OPEN and again & set(node.get("children") or ())}
    for key in (holds - again) | {root}:
        if nodes.get(key, {}).get("type") in _OPEN:
            nodes[key].update(phase="Running", startedAt=now, finishedAt=None)
            nodes[key].pop("message", None)
    for key in again:
        del nodes[key]
    if nodes.get(root, {}).get("type") not in _OPEN:
        nodes.pop(root, None)
    for node in nodes.values():
        for name in ("children", "outboundNodes"):
            if name in node:
                node[name] = [each for each in node[name] if each in nodes]
    _reopen(changed, now)
    return changed


def _reopen(workflow: Workflow, now: str) -> None:
    status = workflow["status"]
    status.update(phase="Running", startedAt=now, finishedAt=None)
    status.pop("message", None)
    status["conditions"] = [one for one in status.get("conditions") or [] if one.get("type") != "Completed"]
    status.pop("persistentVolumeClaims", None)  # those of the ended run are gone
    for spec in (workflow["spec"], status.get("storedWorkflowTemplateSpec") or {}):
        spec.pop("shutdown", None)
    labels = workflow["metadata"].setdefault("labels", {})
    for name in _OF_ONE_RUN:
        labels.pop(name, None)
    labels[PHASE] = "Running"


def resubmission(workflow: Workflow) -> Workflow:
    """Return the manifest of which another run can be made."""
    metadata = workflow["metadata"]
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key not in _OF_ONE_RUN}
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if not key.startswith(("workflows.argoproj.io/pod-name", "dflow-hpc/creation"))
    }
    spec = {key: value for key, value in workflow["spec"].items() if key not in ("shutdown", "suspend")}
    labels[_RESUBMITTED] = metadata["name"]
    kept = {"generateName": metadata["name"][:52] + "-", "labels": labels, "annotations": annotations}
    return {
        "apiVersion": workflow["apiVersion"],
        "kind": workflow["kind"],
        "metadata": {key: value for key, value in kept.items() if value},
        "spec": copy.deepcopy(spec),
    }


def artifact_keys(workflow: Workflow) -> list[str]:
    """Return the keys in the storage that this run has made: those of outputs that have its name in them."""
    name = workflow["metadata"]["name"]
    keys = {
        artifact["s3"]["key"]
        for node in nodes_of(workflow).values()
        for artifact in (node.get("outputs") or {}).get("artifacts") or []
        if (artifact.get("s3") or {}).get("key")
    }
    return sorted(key for key in keys if name in key.split("/"))


def kept_log(node: Mapping[str, Any], store: Callable[[], Store]) -> bytes | None:
    """Return the log that Argo stored of a leaf; None where it did not."""
    artifacts = (node.get("outputs") or {}).get("artifacts") or []
    found = next((one for one in artifacts if one["name"] == _LOG), None)
    if found is None:
        return None
    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / "log"
        try:
            store().get(found["s3"]["key"], file, archive="none")
        except StorageError as error:
            raise EngineError(f"the log of {node['name']} was asked for: {json.dumps(found)}; {error}") from error
        return file.read_bytes()
