"""The node tree of a run: Argo's ``status.nodes``, changed one node at a time, each change told once to a sink.

The sink is the journal. Applying its changes to an empty tree (``apply``) gives the tree again, which is how another
process looks at a run. Nothing here decides anything: phases come from the interpreter.

Three kinds of change exist: ``{"node": id, "set": {...}}`` (with ``id`` in the set it *makes* the node), ``{"node": id,
"child": id}``, and ``{"status": {...}}`` for the workflow itself.

Trap: what is cheap to derive (progress) is not told to the sink; ``status()`` computes it.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from typing import Any

from dflow_hpc.manifest.ids import display_name, node_id
from dflow_hpc.manifest.view import COUNTED, FULFILLED, Node

Change = dict[str, Any]


def timestamp(seconds: float) -> str:
    """Return a time in seconds since the epoch as Kubernetes writes it: UTC, whole seconds."""
    whole = int(seconds)
    if _last[0] != whole:  # a run stamps many nodes a second
        _last[:] = [whole, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(whole))]
    return str(_last[1])


_last: list[Any] = [-1, ""]


def seconds_of(stamp: str) -> int:
    """Return the seconds since the epoch of a time as it stands in a node."""
    return calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))


class NodeTree:
    """The nodes of one workflow and its own phase.

    Args:
        workflow: The workflow's name; it is part of every id.
        sink: Called with each change, once.
        clock: Gives the time in seconds since the epoch.
    """

    def __init__(
        self,
        workflow: str,
        sink: Callable[[Change], object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.workflow = workflow
        self.nodes: dict[str, Node] = {}
        self.head: dict[str, Any] = {}
        """The workflow's own status: phase, message, startedAt, finishedAt, outputs, storedTemplates, ..."""
        self.metadata: dict[str, dict[str, str]] = {}
        """Labels and annotations that the workflow gets while it runs."""
        self.done = 0
        self.total = 0
        self._sink = sink or (lambda _: None)
        self._clock = clock
        self._edges: set[tuple[str, str]] = set()
        self._units: dict[str, tuple[int, int]] = {}

    def now(self) -> str:
        """Return the present time as it stands in a node."""
        return timestamp(self._clock())

    def id_of(self, name: str) -> str:
        """Return the id of the node with this name, which need not exist."""
        return node_id(self.workflow, name)

    def named(self, name: str) -> Node | None:
        """Return the node with this name, if there is one."""
        return self.nodes.get(self.id_of(name))

    def create(self, name: str, type: str, phase: str, boundary: Node | None, **fields: Any) -> Node:
        """Make a node.

        Args:
            name: Its full name.
            type: Argo's type: Pod, Steps, StepGroup, ...
            phase: Its first phase.
            boundary: The Steps or DAG node whose template lists it; None for the root and the workflow's hooks.
            **fields: Further fields; those that are None are left out.

        Returns:
            The node, to be read; change it with ``update`` only.
        """
        node: Node = {
            "id": self.id_of(name),
            "name": name,
            "displayName": display_name(name, boundary["name"] if boundary else None),
            "type": type,
            "phase": phase,
            "startedAt": self.now(),
        }
        if boundary:
            node["boundaryID"] = boundary["id"]
        node.update({key: value for key, value in fields.items() if value is not None})
        if phase in FULFILLED and "finishedAt" not in node:
            node["finishedAt"] = node["startedAt"]
        self.apply({"node": node["id"], "set": node})
        return self.nodes[node["id"]]

    def update(self, id: str, **fields: Any) -> Node:
        """Set fields of a node, those that differ; a fulfilled phase stamps ``finishedAt``; None removes a field."""
        node = self.nodes[id]
        if fields.get("phase") in FULFILLED and "finishedAt" not in node and "finishedAt" not in fields:
            fields["finishedAt"] = self.now()
        changed = {key: value for key, value in fields.items() if node.get(key) != value}
        if changed:
            self.apply({"node": id, "set": changed})
        return node

    def add_child(self, parent: str, child: str) -> None:
        """Add an edge, once."""
        if (parent, child) not in self._edges:
            self.apply({"node": parent, "child": child})

    def set_head(self, **fields: Any) -> None:
        """Set fields of the workflow's own status; None removes a field."""
        changed = {key: value for key, value in fields.items() if self.head.get(key) != value}
        if changed:
            self.apply({"status": changed})

    def set_metadata(self, labels: dict[str, str], annotations: dict[str, str]) -> None:
        """Set labels and annotations of the workflow."""
        if labels or annotations:
            self.apply({"metadata": {"labels": labels, "annotations": annotations}})

    def apply(self, change: Change) -> None:
        """Take a change, of this life or of a journal, and tell it to the sink."""
        if "status" in change:
            _merge(self.head, change["status"])
        elif "metadata" in change:
            self.metadata.update(change["metadata"])
        elif "child" in change:
            self._edges.add((change["node"], change["child"]))
            self.nodes[change["node"]].setdefault("children", []).append(change["child"])
        else:
            self._set(change["node"], change["set"])
        self._sink(change)

    def _set(self, id: str, fields: dict[str, Any]) -> None:
        if "id" in fields:
            self.nodes[id] = dict(fields)
        else:
            _merge(self.nodes[id], fields)
        node = self.nodes[id]
        if node["type"] in COUNTED and ("phase" in fields or "progress" in fields):
            done, total = _units(node)
            was_done, was_total = self._units.get(id, (0, 0))
            self.done += done - was_done
            self.total += total - was_total
            self._units[id] = (done, total)

    def outbound(self, id: str) -> list[str]:
        """Return the ids of the nodes after which whatever follows the node ``id`` hangs in the tree."""
        found: list[str] = []
        pending = [id]
        while pending:
            node = self.nodes[pending.pop()]
            kind, children = node["type"], node.get("children") or []
            if kind == "Retry" and children:
                found.append(children[-1])  # its last attempt (or hook) as it is, never what that one contains
                continue
            if kind in ("Pod", "Container", "TaskGroup"):
                inner = [c for c in children if kind == "TaskGroup" or self.nodes[c]["type"] == "Container"]
                if inner:
                    pending.extend(reversed(inner))
                    continue
            hit = (node.get("memoizationStatus") or {}).get("hit")
            if kind in ("Steps", "DAG", "StepGroup", "Retry") and not hit:
                pending.extend(reversed(node.get("outboundNodes") or []))
            else:
                found.append(node["id"])
        return found

    def status(self) -> dict[str, Any]:
        """Return Argo's ``status``, progress included."""
        for node in self.nodes.values():
            if node["type"] in COUNTED:
                node["progress"] = "{}/{}".format(*self._units[node["id"]])
        for key, (done, total) in self._sums().items():
            self.nodes[key]["progress"] = f"{done}/{total}"
        return {**self.head, "progress": self.progress, "nodes": self.nodes}

    @property
    def progress(self) -> str:
        """How much of the workflow is done, and how much there is that is known."""
        return f"{self.done}/{self.total}"

    def _sums(self) -> dict[str, tuple[int, int]]:
        """Return done and total of every node that contains others.

        A node's parts are made after it, so going backwards each is complete before it is added to what contains it.
        """
        sums: dict[str, tuple[int, int]] = {}
        for node in reversed(self.nodes.values()):
            own = self._units.get(node["id"]) or (
                sums.setdefault(node["id"], (0, 0)) if node["type"] in _OPEN else None
            )
            if own and (boundary := node.get("boundaryID")) and node["type"] != "Container":
                before = sums.get(boundary, (0, 0))
                sums[boundary] = (before[0] + own[0], before[1] + own[1])
        for kind in ("Retry", "TaskGroup", "StepGroup"):
            for node in self.nodes.values():
                if node["type"] == kind:
                    parts = [self._units.get(c) or sums.get(c) or (0, 0) for c in node.get("children") or ()]
                    sums[node["id"]] = (sum(part[0] for part in parts), sum(part[1] for part in parts))
        return sums


_OPEN = ("Steps", "DAG")


def _merge(target: dict[str, Any], fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value


def _units(node: Node) -> tuple[int, int]:
    """Return how much of a counted node is done, and how much there is: 0/1 unless it reports progress itself."""
    done, _, total = str(node.get("progress") or "0/1").partition("/")
    whole = int(total) if total.isdecimal() else 1
    return (whole, whole) if node["phase"] == "Succeeded" else (int(done) if done.isdecimal() else 0, whole)
