"""Two node trees of one workflow, the real Argo's and the local engine's: what differs between them.

Compared are the workflow's phase and message, and for each node name, id, type, phase, message, templateName,
boundaryID, children (as a set under a DAG), inputs and outputs. Where an artifact lies is left out: the stores differ.
What belongs to a pod alone (its host, how long it ran) is no part of a workflow's meaning and is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

COMPARED = ("name", "type", "phase", "message", "templateName", "boundaryID")
LOCATIONS = ("s3", "http", "git", "gcs", "oss", "azure", "hdfs", "artifactory")


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Tell what differs between two statuses, one line each, Argo's first; empty when they are equal."""
    return sorted(_differences(theirs, ours))


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    for key in ("phase", "message"):
        if (theirs.get(key) or None) != (ours.get(key) or None):
            yield f"workflow {key}: {theirs.get(key)!r} / {ours.get(key)!r}"
    left, right = theirs.get("nodes") or {}, ours.get("nodes") or {}
    for key in left.keys() - right.keys():
        yield f"missing: {left[key]['name']} ({left[key]['type']} {left[key]['phase']})"
    for key in right.keys() - left.keys():
        yield f"extra: {right[key]['name']} ({right[key]['type']} {right[key]['phase']} {right[key].get('message')})"
    for key in left.keys() & right.keys():
        yield from _node_differences(left[key], right[key], left, right)


def _node_differences(
    a: dict[str, Any], b: dict[str, Any], theirs: dict[str, Any], ours: dict[str, Any]
) -> Iterator[str]:
    for key in COMPARED:
        if (a.get(key) or None) != (b.get(key) or None):
            yield f"{a['name']} {key}: {a.get(key)!r} / {b.get(key)!r}"
    for key in ("inputs", "outputs"):
        left, right = _plain(a.get(key)), _plain(b.get(key))
        if left != right:
            yield f"{a['name']} {key}: {json.dumps(left)} / {json.dumps(right)}"
    left, right = _names(a.get("children"), theirs), _names(b.get("children"), ours)
    if a["type"] == "TaskGroup" or _in_dag(a, theirs):
        left, right = sorted(left), sorted(right)
    if left != right:
        yield f"{a['name']} children: {left} / {right}"


def _in_dag(node: dict[str, Any] | None, nodes: dict[str, Any]) -> bool:
    """Say whether a node is a DAG or below one: what ends a task of one has the tasks that follow as its children."""
    while node is not None and node["type"] != "DAG":
        node = nodes.get(node.get("boundaryID") or "")
    return node is not None


def _plain(entries: dict[str, Any] | None) -> dict[str, Any]:
    """Return inputs or outputs without the locations of artifacts."""
    made = dict(entries or {})
    for side in ("parameters", "artifacts"):
        if side in made:
            kept = [{key: value for key, value in entry.items() if key not in LOCATIONS} for entry in made[side]]
            made[side] = sorted(kept, key=lambda entry: entry["name"])
    return made


def _names(ids: list[str] | None, nodes: dict[str, Any]) -> list[str]:
    return [nodes[key]["name"] if key in nodes else key for key in ids or ()]
