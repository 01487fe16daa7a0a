"""What is known of a step, for ``dflow-hpc explain``: where it is, why, what comes next, how to look by hand.

It reads the run's journal, the brokers' journals beside it, the leaves' records and logs; so it works from any process,
on live runs, too. Plain data; the words around it are ``cli/explain.py``'s.

Trap: a step that has not begun has no node. What it waits for is read from the manifest then.
"""

from __future__ import annotations

import re
from typing import Any

from dflow_hpc.engines.local import report
from dflow_hpc.engines.local.jobs import Jobs, machine_of
from dflow_hpc.engines.local.rundir import RunDir
from dflow_hpc.engines.local.state import RunState
from dflow_hpc.engines.local.work.records import read_record
from dflow_hpc.executors.broker.explain import by_hand, explain, what_next
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.manifest.view import COMPLETED, FULFILLED, Json, Node, named

_TAIL = 10


def explain_node(run: RunDir, state: RunState, jobs: Jobs, node: Node) -> dict[str, Any]:
    """Return what is known of a leaf.

    Args:
        run: The run.
        state: The fold of its journal.
        jobs: Its jobs on machines.
        node: The leaf's node.

    Returns:
        ``{"node", "name", "phase", "message", "started", "finished", "failure", "machine", "next": {"text", "at"},
        "job": what ``executors.explain.explain`` gives or None, "commands", "directory", "log": [line, ...]}``; times
        of jobs in seconds since the epoch, those of the node as Argo writes them.
    """
    directory = run.leaf_dir(node)
    record = read_record(directory)
    found: dict[str, Any] = {
        "node": node["id"],
        "name": node["name"],
        "phase": node["phase"],
        "message": node.get("message", ""),
        "started": node.get("startedAt"),
        "finished": node.get("finishedAt"),
        "failure": record.failure.value if record is not None and record.failure is not None else None,
        "machine": None,
        "job": None,
        "commands": [],
        "directory": str(directory),
        "log": list(report.last_lines(directory / "log.txt", _TAIL)),
    }
    far = jobs.of(state, node)
    machine = machine_of(run, node, far)
    found["machine"] = machine.name if machine else None
    alive = run.lock.alive() is not None
    if far is None or machine is None:
        found["next"] = _next_here(run, node, machine, alive)
        return found
    upcoming = what_next(far.job, machine.waits, delivered=far.delivered)
    found["job"] = explain(far.known, far.job.key)
    found["commands"] = by_hand(machine, far.job, far.batch)
    found["next"] = upcoming._asdict() if alive or far.delivered else {"text": _asleep(run, far.job.id), "at": None}
    return found


def _next_here(run: RunDir, node: Node, machine: Machine | None, alive: bool) -> dict[str, Any]:
    if node["phase"] in FULFILLED:
        again = f"; `dflow-hpc retry {run.name}` would run it again" if node["phase"] in ("Failed", "Error") else ""
        text = f"nothing: it has ended{again}"
    elif not alive:
        text = _asleep(run, "")
    elif node["phase"] == "Running":
        text = "its end is awaited"
    elif machine is not None:
        text = f"its inputs are packed for machine {machine.name}"
    else:
        text = "it starts when one of the local workers is free"
    return {"text": text, "at": None}


def _asleep(run: RunDir, job: str) -> str:
    lives = f" Job {job} may go on meanwhile; it is joined again." if job else ""
    return f"nothing: no process works on the run. Go on with `dflow-hpc resume {run.name}`.{lives}"


def waits_for(manifest: Json, nodes: dict[str, Node], step: str) -> list[str]:
    """Return why a step that has no node has not begun, a line for each place where the workflow has it.

    Args:
        manifest: The workflow as submitted.
        nodes: The node tree.
        step: The step's or task's name; none of that name gives an empty list.
    """
    found = []
    for template in manifest["spec"].get("templates") or []:
        before = _before(template, step)
        if before is None:
            continue
        open_parents = [
            node
            for node in nodes.values()
            if node.get("templateName") == template["name"] and node["type"] in ("Steps", "DAG")
        ]
        where = f"{step} of template {template['name']}"
        if not open_parents:
            found.append(f"{where}: the template has not begun")
        for parent in open_parents:
            if parent["phase"] in COMPLETED:
                found.append(f"{where}: {parent['name']} has ended ({parent['phase']}) without it")
            else:
                names = _unfinished(nodes, parent, before)
                found.append(f"{where}: it waits for {', '.join(names) or 'its turn'}")
    return found


def _before(template: Json, step: str) -> list[str] | None:
    """Return the names of what must end before a step of a template; None if it has no such step."""
    earlier: list[str] = []
    for group in template.get("steps") or []:
        if any(item["name"] == step for item in group):
            return earlier
        earlier += [item["name"] for item in group]
    tasks = (template.get("dag") or {}).get("tasks") or []
    task = named(tasks, step)
    if task is None:
        return None
    words = set(re.findall(r"[A-Za-z0-9][-A-Za-z0-9_]*", task.get("depends") or ""))
    return [item["name"] for item in tasks if item["name"] in words | set(task.get("dependencies") or ())]


def _unfinished(nodes: dict[str, Node], parent: Node, names: list[str]) -> list[str]:
    found = []
    for name in names:
        mine = [
            node
            for node in nodes.values()
            if node.get("boundaryID") == parent["id"] and node["displayName"].partition("(")[0] == name
        ]
        if not mine or any(node["phase"] not in FULFILLED for node in mine):
            phases = ", ".join(sorted({node["phase"] for node in mine if node["phase"] not in FULFILLED}))
            found.append(f"{name} ({phases or 'not begun'})")
    return found
