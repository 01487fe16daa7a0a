"""What the records of a journal add up to: the nodes, the status, what was asked, which leaves have ended.

Records, one kind each (all plain data):

    {"session": {"pid", "at"}}                a process begins to interpret: the tree is built again from its root
    {"node": id, "set": {field: value}}       fields of a node change; a value None removes the field
    {"node": id, "child": id}                 a node gets a child
    {"status": {field: value}}                fields of the Workflow's status change, in the same way
    {"metadata": {"labels", "annotations"}}   what the Workflow's own metadata get
    {"spec": {field: value}}                  what a user asked for at run time, as Argo keeps it: shutdown, suspend
    {"requests": n}                           the first n bytes of requests.jsonl have been dealt with
    {"drop": [id, ...]}                       these leaves are to run again (retry)

Trap: a new session does not forget the leaves of the ones before. ``leaves`` holds every leaf that has ended, whether
or not the session in course has come to it yet: a run that is killed while it resumes loses nothing.
"""

from collections.abc import Iterable
from typing import Any

from dflow_hpc.engines.local.interpret.tree import NodeTree
from dflow_hpc.executors.journal import Record
from dflow_hpc.manifest.view import COMPLETED, COUNTED, UNSUCCESSFUL, Node

LEAF_TYPES = COUNTED | {"Plugin"}
"""Types of nodes that run something themselves; all others are made of such, or stand for one that never ran."""


class RunState:
    """The fold of a journal's records.

    Args:
        workflow: The workflow's name.
        records: What to apply at once.
    """

    def __init__(self, workflow: str, records: Iterable[Record] = ()):
        self.tree = NodeTree(workflow)
        self.spec: dict[str, Any] = {}
        self.leaves: dict[str, Node] = {}
        """Every leaf that has ended in any session, by its node id."""
        self.requests = 0
        for record in records:
            self.apply(record)

    def apply(self, record: Record) -> None:
        """Take one record into account."""
        if "node" in record:
            self.tree.apply(record)
            if "set" in record:
                node = self.tree.nodes[record["node"]]
                if node["phase"] in COMPLETED and node["type"] in LEAF_TYPES:
                    self.leaves[node["id"]] = node
        elif "status" in record or "metadata" in record:
            self.tree.apply(record)
        elif "spec" in record:
            for name, value in record["spec"].items():
                self.spec[name] = value
        elif "requests" in record:
            self.requests = record["requests"]
        elif "session" in record:
            started = self.tree.head.get("startedAt")
            self.tree = NodeTree(self.tree.workflow)
            if started:
                self.tree.head["startedAt"] = started
        elif "drop" in record:
            for node_id in record["drop"]:
                self.leaves.pop(node_id, None)

    @property
    def phase(self) -> str:
        """The Workflow's phase; ``Pending`` before it has one."""
        phase: str = self.tree.head.get("phase") or "Pending"
        return phase

    @property
    def ended(self) -> bool:
        """Whether it has come to its end."""
        return self.phase in COMPLETED


def workflow_object(manifest: dict[str, Any], state: RunState) -> dict[str, Any]:
    """Return the Workflow as ``kubectl get workflow -o json`` would: metadata, spec, status.

    Args:
        manifest: What was submitted, with name, uid and creationTimestamp.
        state: The fold of its journal.
    """
    metadata = dict(manifest["metadata"])
    for side, more in state.tree.metadata.items():
        if more:
            metadata[side] = {**(metadata.get(side) or {}), **more}
    labels = dict(metadata.get("labels") or {})
    labels["workflows.argoproj.io/phase"] = state.phase
    if state.ended:
        labels["workflows.argoproj.io/completed"] = "true"
    metadata["labels"] = labels
    spec = {**manifest["spec"], **{name: value for name, value in state.spec.items() if value is not None}}
    return {**manifest, "metadata": metadata, "spec": spec, "status": {"phase": state.phase, **state.tree.status()}}


def superseded(nodes: dict[str, Node]) -> set[str]:
    """Return the ids of the attempts that a later attempt of the same node has replaced."""
    replaced: set[str] = set()
    for node in nodes.values():
        if node["type"] == "Retry":
            attempts = [node_id for node_id in node.get("children", ()) if _is_attempt(nodes.get(node_id))]
            replaced.update(attempts[:-1])
    return replaced


def _is_attempt(node: Node | None) -> bool:
    return node is not None and bool((node.get("nodeFlag") or {}).get("retried"))


def failures(nodes: dict[str, Node]) -> list[Node]:
    """Return the nodes that failed by themselves, not because something in them did, in the order of their end.

    A failed leaf is one, unless a later attempt has replaced it; a failed group only if nothing in it has failed.
    """
    failed = {node_id: node for node_id, node in nodes.items() if node["phase"] in UNSUCCESSFUL}
    blamed_elsewhere = superseded(nodes)
    for node in failed.values():
        boundary = node.get("boundaryID")
        if boundary is not None:
            blamed_elsewhere.add(boundary)
    for node_id, node in failed.items():
        if node["type"] in ("Retry", "StepGroup", "TaskGroup") and any(c in failed for c in node.get("children", ())):
            blamed_elsewhere.add(node_id)
    found = [node for node_id, node in failed.items() if node_id not in blamed_elsewhere]
    return sorted(found, key=lambda node: (node.get("finishedAt") or "", node["id"]))


def to_run_again(nodes: dict[str, Node], root: str, also: Iterable[str] = ()) -> set[str]:
    """Return the ids of what a ``retry`` runs again: what failed, and all that came after it.

    As in Argo, what the run got over stays: a failed leaf after which something has succeeded, an attempt that a
    successful one has replaced. The exit handlers of the workflow go, which nothing points at.

    Args:
        nodes: The node tree.
        root: Id of its root, which is the workflow's name.
        also: Ids of further nodes to run again, whatever became of them.
    """
    replaced = superseded(nodes)
    open_ends = list(also)
    got_over = _before_success(nodes, set(open_ends))
    kept: set[str] = set()
    for node in nodes.values():
        if node["type"] == "Retry":
            attempts = set(node.get("children", ()))
            leaves = {each for each in attempts if each in nodes and nodes[each]["type"] in LEAF_TYPES}
            if node["phase"] == "Succeeded" or leaves & got_over:
                kept |= _with_descendants(nodes, attempts & replaced)
            elif node["phase"] in UNSUCCESSFUL:
                open_ends.extend(attempts)
    kept |= got_over
    for node_id, node in nodes.items():
        failed = node["phase"] in UNSUCCESSFUL and node["type"] in LEAF_TYPES | {"Skipped"} and node_id not in kept
        if failed or node["name"].startswith(root + ".onExit"):
            open_ends.append(node_id)
    return _with_descendants(nodes, open_ends)


def _before_success(nodes: dict[str, Node], but: set[str]) -> set[str]:
    """Return the ids of nodes below which something has succeeded, other than hooks and what is named."""
    parents: dict[str, list[str]] = {}
    pending = []
    for node_id, node in nodes.items():
        if not (node.get("nodeFlag") or {}).get("hooked"):
            for child in node.get("children", ()):
                parents.setdefault(child, []).append(node_id)
            if node["phase"] == "Succeeded" and node_id not in but:
                pending.append(node_id)
    found: set[str] = set()
    while pending:
        new = [parent for parent in parents.get(pending.pop(), ()) if parent not in found]
        found.update(new)
        pending.extend(new)
    return found


def _with_descendants(nodes: dict[str, Node], starts: Iterable[str]) -> set[str]:
    found: set[str] = set()
    pending = list(starts)
    while pending:
        node_id = pending.pop()
        if node_id not in found and node_id in nodes:
            found.add(node_id)
            pending.extend(nodes[node_id].get("children", ()))
    return found
