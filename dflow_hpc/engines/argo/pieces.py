"""A workflow that is too large for one object, as several: steps of its entrypoint move into Workflows of their own.

Argo keeps a Workflow and what it knows of its nodes in one object of at most 1 MiB, the node tree compressed. A *piece*
is a Workflow with some of those steps. It is made suspended, beside the whole; a step of the whole (a resource
template) lets it go on and ends as it ends. ``merged`` puts the trees together again.

Steps move that run beside each other, take nothing of other steps and give nothing to them. Where that does not help,
an error or a notice says how large what is.

Pure: nothing is asked or made here (``engine.py``).

Trap: a template may be used many times, a piece runs once: only steps of the entrypoint itself move, and only if no
step calls that.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dflow_hpc.engines.argo.status import label_of, nodes_of
from dflow_hpc.errors import EngineError
from dflow_hpc.manifest.view import COMPLETED

Json = dict[str, Any]

RUN = "dflow-hpc/run"
"""Label of the whole and its pieces: the whole's name."""
STARTED = "dflow-hpc/started"
"""Label of a piece that was let go."""
LIMIT = 1 << 20
"""Bytes of the largest object that Argo's controller keeps (``MAX_WORKFLOW_SIZE``)."""
MOST = 800_000
"""Bytes that one object may be expected to reach."""
PIECE = 400_000
"""Bytes that a piece is expected to reach."""
NODE = 140
"""Bytes that a step's node takes in the end: about 100 of the compressed tree, and its entry among the task results."""
_NAME = "dflow-piece-"
_ENTRY = "dflow-steps"
_TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_FREE = re.compile(r"\s*(item\b|workflow\.parameters\.)")
"""Tags that mean the same in a piece."""
_EXPRESSIONS = ("depends", "dependencies", "expression", "fromExpression")
_OF_THE_WHOLE = ("volumeClaimTemplates", "activeDeadlineSeconds", "synchronization")
_ENTRY_KEYS = {"name", "steps", "dag", "tasks", "inputs", "outputs", "metadata"}
_LEFT_OUT = ("onExit", "hooks", "ttlStrategy", "entrypoint", "templates")


def split(workflow: Json) -> tuple[Json, list[Json]]:
    """Return a Workflow that fits into one object, and its pieces; without any where it fits as it is.

    Args:
        workflow: The Workflow, under its name.

    Raises:
        EngineError: Argo would not take it, neither as it is nor in pieces.
    """
    if expected(workflow) <= MOST:
        return workflow, []
    whole, pieces = _cut(workflow)
    if any(_size(each) > LIMIT for each in (whole, *pieces)):
        raise EngineError(f"{_sizes(workflow)} Make large values artifacts or big parameters.")
    return whole, pieces


def doubt(workflow: Json) -> str:
    """Return what to say of a Workflow that Argo takes, but may not be able to keep; empty where all is well."""
    if expected(workflow) <= MOST:
        return ""
    return f"{_sizes(workflow)} It may end as Error, unless Argo keeps node trees in a database here."


def _cut(workflow: Json) -> tuple[Json, list[Json]]:
    spec = workflow["spec"]
    name = spec.get("entrypoint")
    called = {member.get("template") for template in spec.get("templates") or [] for member in _members(template)}
    whole = copy.deepcopy(workflow)
    home = next((template for template in whole["spec"].get("templates") or [] if template["name"] == name), None)
    if home is None or name in called or any(spec.get(each) for each in _OF_THE_WHOLE):
        return workflow, []
    if {*home, *(home.get("dag") or {})} - _ENTRY_KEYS:  # such as failFast, which would hold for a piece alone
        return workflow, []
    pieces: list[Json] = []
    spoken_of = _spoken_of(home)
    for group in _groups(home):
        members = [member for member in group if _can_move(member, spoken_of)]
        for portion in _portions(members, PIECE):
            pieces.append(_piece(workflow, portion, "dag" in home, len(pieces) + 1))
            _replace(home, portion, len(pieces))
    for number, piece in enumerate(pieces, 1):
        whole["spec"]["templates"].append(_waiting(f"{_NAME}{number}", piece))
        if parallelism := spec.get("parallelism"):
            piece["spec"]["parallelism"] = max(1, parallelism // len(pieces))
    if pieces:
        whole["metadata"]["labels"] = {**(whole["metadata"].get("labels") or {}), RUN: workflow["metadata"]["name"]}
    return whole, pieces


def is_cut(workflow: Json) -> bool:
    """Say whether a Workflow, of which metadata suffice, is a whole with pieces."""
    return bool(run_of(workflow) == workflow["metadata"]["name"])


def run_of(workflow: Json) -> str:
    """Return the name of the whole that a Workflow is or belongs to; empty for one that is not in pieces."""
    return str((workflow["metadata"].get("labels") or {}).get(RUN) or "")


def is_under_way(part: Json) -> bool:
    """Say whether a part of a run, of which metadata suffice, is the whole or was let go by it, and has not ended."""
    if run_of(part) and not is_cut(part) and STARTED not in part["metadata"]["labels"]:
        return False
    return label_of(part) not in COMPLETED


def owner_of(node: Mapping[str, Any]) -> str:
    """Return the name of the Workflow that a node belongs to."""
    return str(node["id"] if node["id"] == node["name"] else node["id"].rpartition("-")[0])


def merged(whole: Json, pieces: Sequence[Json]) -> Json:
    """Return a Workflow in whose node tree are those of its pieces, each below the step that stands for it."""
    nodes = {key: dict(node) for key, node in nodes_of(whole).items()}
    names = [piece["metadata"]["name"] for piece in pieces]
    for node in list(nodes.values()):
        if (name := _stands_for(whole, node)) in names:
            below = nodes_of(pieces[names.index(name)])
            nodes.update(below)
            node["children"] = [*([name] if below else ()), *(node.get("children") or ())]
    return {**whole, "status": {**(whole.get("status") or {}), "nodes": nodes}}


def stand_ins(whole: Json, piece: str) -> list[str]:
    """Return the ids of the nodes that stand for a piece."""
    return [key for key, node in nodes_of(whole).items() if _stands_for(whole, node) == piece]


def _stands_for(whole: Json, node: Mapping[str, Any]) -> str:
    found = re.fullmatch(_NAME + r"(\d+)", str(node.get("templateName", "")))
    return _name(whole["metadata"]["name"], int(found[1])) if found and node["type"] == "Pod" else ""


def expected(workflow: Json) -> int:
    """Return about how many bytes a Workflow will have in the end."""
    spec = workflow["spec"]
    templates = {template["name"]: template for template in spec.get("templates") or []}
    return _size(workflow) + NODE * _nodes(spec.get("entrypoint", ""), templates, {})


def _size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _members(template: Mapping[str, Any]) -> Iterator[Json]:
    """Yield the steps or tasks of a template."""
    for group in template.get("steps") or []:
        yield from group
    yield from (template.get("dag") or {}).get("tasks") or []


def _nodes(name: str, templates: Mapping[str, Json], known: dict[str, int]) -> int:
    """Return how many nodes a template becomes at least; recursion counts once."""
    if name not in known:
        known[name] = 1
        known[name] = 1 + sum(
            _times(member) * _nodes(member.get("template", ""), templates, known)
            for member in _members(templates.get(name) or {})
        )
    return known[name]


def _times(member: Json) -> int:
    """Return how often a step runs, as far as the manifest says it."""
    count = (member.get("withSequence") or {}).get("count")
    if isinstance(count, str | int) and str(count).isdigit():
        return int(count)
    try:
        items = member.get("withItems") or json.loads(member.get("withParam") or "[0]")
    except ValueError:
        return 1  # known only when it runs
    return len(items) if isinstance(items, list) else 1


def _groups(home: Json) -> list[list[Json]]:
    """Return the entrypoint's steps in lists of those that start at the same time."""
    if "steps" in home:
        return [list(group) for group in home["steps"]]
    by_wait: dict[str, list[Json]] = {}
    for task in (home.get("dag") or {}).get("tasks") or []:
        by_wait.setdefault(json.dumps([task.get("depends"), task.get("dependencies")]), []).append(task)
    return list(by_wait.values())


def _can_move(member: Json, spoken_of: set[str]) -> bool:
    """Say whether a step takes nothing of what stands beside it, and nothing there speaks of it."""
    own = json.dumps({key: value for key, value in member.items() if key not in ("depends", "dependencies")})
    alone = "hooks" not in member and "onExit" not in member and all(_FREE.match(tag) for tag in _TAG.findall(own))
    return alone and member["name"] not in spoken_of


def _spoken_of(value: Any, key: str = "") -> set[str]:
    """Return the words of all tags, expressions and dependencies."""
    if isinstance(value, Mapping):
        return set().union(*(_spoken_of(each, name) for name, each in value.items()))
    if isinstance(value, list):
        return set().union(*(_spoken_of(each, key) for each in value))
    if not isinstance(value, str):
        return set()
    texts = [value] if key in _EXPRESSIONS else _TAG.findall(value)
    return {word for text in texts for word in re.findall(r"[\w-]+", text)}


def _portions(members: list[Json], room: int) -> Iterator[list[Json]]:
    """Yield them in lists that fit into a piece."""
    portion: list[Json] = []
    size = 0
    for member in members:
        each = _size(member) + NODE * _times(member)
        if portion and size + each > room:
            yield portion
            portion, size = [], 0
        portion.append(member)
        size += each
    if size > PIECE // 8:  # what is left over can stay
        yield portion


def _piece(workflow: Json, members: list[Json], is_dag: bool, number: int) -> Json:
    """Return the Workflow that has some of the steps."""
    spec = workflow["spec"]
    templates = {template["name"]: template for template in spec["templates"]}
    if is_dag:
        tasks = [{k: v for k, v in task.items() if k not in ("depends", "dependencies")} for task in members]
        entry: Json = {"name": _ENTRY, "dag": {"tasks": tasks}}
    else:
        entry = {"name": _ENTRY, "steps": [members]}
    kept = {key: value for key, value in spec.items() if key not in _LEFT_OUT}
    needed = [templates[name] for name in _reached(members, templates)]
    metadata = workflow["metadata"]
    labels = {**(metadata.get("labels") or {}), RUN: metadata["name"]}
    return {
        "apiVersion": workflow["apiVersion"],
        "kind": workflow["kind"],
        "metadata": {"name": _name(metadata["name"], number), "labels": labels},
        "spec": {**kept, "suspend": True, "entrypoint": _ENTRY, "templates": [entry, *needed]},
    }


def _name(whole: str, number: int) -> str:
    """Return the name of a piece: a label's value, too, of 63 characters at most."""
    if len(whole) > 58:
        whole = f"{whole[:47]}-{hashlib.sha256(whole.encode()).hexdigest()[:10]}"
    return f"{whole}-{number}"


def _reached(members: list[Json], templates: Mapping[str, Json]) -> list[str]:
    """Return the names of the templates that steps need, by way of others too."""
    found: dict[str, None] = {}
    queue = [member.get("template", "") for member in members]
    for name in queue:
        if name in templates and name not in found:
            found[name] = None
            queue += [member.get("template", "") for member in _members(templates[name])]
    return list(found)


def _replace(home: Json, members: list[Json], number: int) -> None:
    """Put a step that stands for a piece in the place of its steps."""
    names = {member["name"] for member in members}
    stand_in = {"name": f"{_NAME}{number}", "template": f"{_NAME}{number}"}
    if "steps" in home:
        place = next(group for group in home["steps"] if any(member["name"] in names for member in group))
        place[:] = [*(member for member in place if member["name"] not in names), stand_in]
        return
    waits = {key: members[0][key] for key in ("depends", "dependencies") if key in members[0]}
    tasks = [task for task in home["dag"]["tasks"] if task["name"] not in names]
    home["dag"]["tasks"] = [*tasks, {**stand_in, **waits}]


def _waiting(name: str, piece: Json) -> Json:
    """Return the template of the step that lets a piece go on and waits for its end."""
    metadata = {"name": piece["metadata"]["name"], "labels": {STARTED: "true"}}
    change = {"apiVersion": piece["apiVersion"], "kind": piece["kind"], "metadata": metadata}
    return {
        "name": name,
        "resource": {
            "action": "patch",
            "mergeStrategy": "merge",
            "setOwnerReference": True,
            "manifest": json.dumps({**change, "spec": {"suspend": False}}),
            "successCondition": "status.phase == Succeeded",
            "failureCondition": "status.phase in (Failed, Error)",
        },
    }


def _sizes(workflow: Json) -> str:
    spec = workflow["spec"]
    sizes = {template["name"]: _size(template) for template in spec.get("templates") or []}
    sizes["its arguments"] = _size(spec.get("arguments") or {})
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    nodes = (expected(workflow) - _size(workflow)) // NODE
    return (
        f"the workflow {workflow['metadata']['name']} was to be submitted to Argo, which keeps it in one object of at "
        f"most 1 MiB: its manifest has {_size(workflow)} bytes, and the state of {nodes} nodes will take about "
        f"{nodes * NODE}. The largest parts: {', '.join(f'{name} ({sizes[name]})' for name in largest)}. Steps can be "
        "set apart that are in the workflow itself, beside each other, and neither take nor give there."
    )
