"""A Workflow as Argo keeps it, and as this project reads it: node trees unpacked, changes as records.

Argo keeps a large node tree gzipped in ``status.compressedNodes``, and a larger one in a database of its own, of which
the object holds a version only (``offloadNodeStatusVersion``); such a tree cannot be had from the Kubernetes API.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from dflow_hpc.errors import EngineError

Record = dict[str, Any]

PHASE = "workflows.argoproj.io/phase"


def is_offloaded(workflow: dict[str, Any]) -> bool:
    """Say whether the node tree lies in Argo's database."""
    status = workflow.get("status") or {}
    return bool(status.get("offloadNodeStatusVersion")) and not status.get("nodes")


def unpack(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return a Workflow whose ``status.nodes`` is the node tree, however Argo keeps it.

    Raises:
        EngineError: The tree lies in Argo's database.
    """
    status = workflow.get("status") or {}
    if packed := status.get("compressedNodes"):
        nodes = json.loads(gzip.decompress(base64.b64decode(packed)))
        rest = {name: value for name, value in status.items() if name != "compressedNodes"}
        return {**workflow, "status": {**rest, "nodes": nodes}}
    if is_offloaded(workflow):
        raise EngineError(
            f"the node tree of {workflow['metadata']['name']} was asked for; Argo keeps it in a database of its own "
            "(offloadNodeStatus), which its server alone reads. Say where that is: config['host'] (DFLOW_HOST). To "
            "change such a tree (retry, resume of one step), use `argo`."
        )
    return workflow


def pack(workflow: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Return a Workflow with its node tree kept as the object ``like`` keeps it."""
    if not (like.get("status") or {}).get("compressedNodes"):
        return workflow
    status = workflow["status"]
    text = json.dumps(status.get("nodes") or {}, separators=(",", ":")).encode()
    rest = {name: value for name, value in status.items() if name != "nodes"}
    return {**workflow, "status": {**rest, "compressedNodes": base64.b64encode(gzip.compress(text)).decode()}}


def phase_of(workflow: dict[str, Any]) -> str:
    """Return its phase; ``Pending`` before the controller has seen it."""
    return str((workflow.get("status") or {}).get("phase") or "Pending")


def label_of(workflow: dict[str, Any]) -> str:
    """Return its phase, as the controller says it by a label, of a Workflow of which only metadata are known."""
    return str((workflow["metadata"].get("labels") or {}).get(PHASE) or "Pending")


def nodes_of(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return its node tree, by id."""
    nodes: dict[str, dict[str, Any]] = (workflow.get("status") or {}).get("nodes") or {}
    return nodes


def records(before: dict[str, Any], after: dict[str, Any]) -> list[Record]:
    """Return what changed between two states of a Workflow, as records of a journal (``local/state.py`` lists them).

    Args:
        before: The earlier one; ``{}`` for none.
        after: The later one.
    """
    old, new = nodes_of(before), nodes_of(after)
    found: list[Record] = []
    for key, node in new.items():
        if change := _difference(old.get(key) or {}, node, ("children",)):
            found.append({"node": key, "set": change})
    # Argo sorts nodes by their ids; whoever looks on while the records come wants none before what it lies in.
    found.sort(key=lambda record: _depth(new[record["node"]], new))
    for key, node in new.items():
        there = set((old.get(key) or {}).get("children") or ())
        found += [{"node": key, "child": child} for child in node.get("children") or () if child not in there]
    if change := _difference(before.get("status") or {}, after.get("status") or {}, ("nodes",)):
        found.append({"status": change})
    return found


def _depth(node: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> int:
    """Return how many nodes a node lies in."""
    depth = 0
    while (boundary := nodes.get(node.get("boundaryID", ""))) is not None:
        node, depth = boundary, depth + 1
    return depth


def _difference(old: dict[str, Any], new: dict[str, Any], but: tuple[str, ...]) -> dict[str, Any]:
    changed = {name: value for name, value in new.items() if name not in but and old.get(name) != value}
    return {**changed, **{name: None for name in old if name not in new and name not in but}}
