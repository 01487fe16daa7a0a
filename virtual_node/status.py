"""What a pod's status and Argo's task result say of a leaf: pure functions from a record to plain data.

A kubelet reports containers; Argo's controller reads them, and its ``WorkflowTaskResult``, and concludes how the node
ended. Here a record of the Leaf protocol (phase, message, outputs) becomes the statuses that lead it to the same words.

Not here: sending them (``pods.py``).

Trap: ``containerStatuses`` is replaced as a whole by a patch: each status has all containers, ``wait`` too. A ``wait``
that is left running, or a task result that is left incomplete, lets the workflow hang for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dflow_hpc.virtual_node.argo_pod import ArgoPod, is_argos

Object = dict[str, Any]
Record = dict[str, Any]

_REPORT = "workflows.argoproj.io/report-outputs-completed"
_WORKFLOW = "workflows.argoproj.io/workflow"
_SAID = re.compile(r"([a-z0-9-]+): Error \(exit code (\d+)\)(?:: )?(.*)", re.DOTALL)
_OOM = re.compile(r"OOMKilled \(exit code 137\)(?:: )?(.*)", re.DOTALL)
_INITIALIZING = {"waiting": {"reason": "PodInitializing"}}
_LOST = "The container could not be located when the pod was terminated"
_PROGRAMS_OWN = ("", "APP", "OOM")


def time_text(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pending(pod: Object, reason: str, message: str) -> Object:
    """Return the status of a pod whose job waits.

    Args:
        pod: The pod.
        reason: One word: why.
        message: The scheduler's words.
    """
    waiting = {"waiting": {"reason": reason, "message": message}}
    states = {"main": waiting, "wait": _INITIALIZING}
    return {
        "phase": "Pending",
        "conditions": _conditions(pod, "ContainersNotReady"),
        "containerStatuses": _containers(pod, "containers", lambda name: states.get(name, waiting)),
        "initContainerStatuses": _containers(pod, "initContainers", lambda _name: _INITIALIZING),
    }


def running(pod: Object, started: float) -> Object:
    """Return the status of a pod whose job runs since ``started``, in seconds since the epoch."""
    state = {"running": {"startedAt": time_text(started)}}
    return {
        "phase": "Running",
        "startTime": time_text(started),
        "conditions": _conditions(pod, "", started),
        "containerStatuses": _containers(pod, "containers", lambda _name: state),
        "initContainerStatuses": _containers(pod, "initContainers", lambda _name: _ended(0, "", started, started)),
    }


def refused(reason: str, message: str) -> Object:
    """Return the status of a pod that is not run at all."""
    return {"phase": "Failed", "reason": reason, "message": message}


def final(pod: Object, record: Record) -> Object:
    """Return the status of a pod whose leaf has ended.

    Args:
        pod: The pod.
        record: The leaf's: ``phase``, ``message``, ``failure``, ``outputs``, ``started``, ``finished``, ``containers``.
    """
    started = record["started"]
    failure, message = str(record.get("failure") or ""), str(record.get("message") or "")
    found: Object = {"phase": "Succeeded" if record["phase"] == "Succeeded" else "Failed"}
    if failure == "WALLTIME":
        found |= {"reason": "DeadlineExceeded", "message": message}
    elif failure not in _PROGRAMS_OWN and not is_argos(pod):
        found |= {"reason": failure.title().replace("_", ""), "message": message}
    states, other = _argo_states(record)
    if failure == "STAGE_IN" and not is_argos(pod):
        other = {"waiting": {"reason": "CreateContainerError", "message": message}}

    ends = record.get("containers") or {}

    def state(name: str) -> Object:
        return _last(ends[name], record) if name in ends else states.get(name, other)

    inits = _containers(pod, "initContainers", state, ends)
    began = started if all(each["ready"] for each in inits) else None
    return {
        **found,
        "startTime": time_text(started),
        "conditions": _conditions(pod, "PodCompleted" if found["phase"] == "Succeeded" else "PodFailed", began),
        "containerStatuses": _containers(pod, "containers", state, ends),
        "initContainerStatuses": inits,
    }


def _argo_states(record: Record) -> tuple[dict[str, Object], Object]:
    """Return the states of Argo's containers by which it concludes how the leaf ended, and that of any other one."""
    started, finished = record["started"], record["finished"]
    code = int((record.get("outputs") or {}).get("exitCode") or 0)
    message, failure = str(record.get("message") or ""), record.get("failure")
    init = _ended(0, "", started, started)
    main, wait = _ended(code, "", started, finished), _ended(0, "", started, finished)
    said = _SAID.fullmatch(message)
    if said and said[1] == "init":
        init, main, wait = _ended(int(said[2]), said[3], started, finished), _INITIALIZING, _INITIALIZING
    elif said and said[1] == "wait":
        wait = _ended(int(said[2]), said[3], started, finished)
    elif said and said[1] == "main":
        main = _ended(int(said[2]), said[3], started, finished)
    elif oom := _OOM.fullmatch(message):
        main = _ended(137, oom[1], started, finished, "OOMKilled")
    elif failure in ("WALLTIME", "CANCELLED"):
        main = _ended(code or 143, "", started, finished)
    elif record["phase"] != "Succeeded" and not said:
        # Neither the program's fault nor that of its data: what Argo calls an Error.
        wait = _ended(64, message, started, finished)
        main = _ended(code or 64, "", started, finished)
    return {"init": init, "main": main, "wait": wait}, main


def _last(end: Object, record: Record) -> Object:
    """Return the state of a container of which there are notes of its own."""
    if end["began"] is not None:  # its job was gone before it
        return _ended(137, _LOST, end["began"], record["finished"], "ContainerStatusUnknown")
    return _run(end["runs"][-1], end["text"], record) if end["runs"] else _INITIALIZING


def _run(run: list[int], text: str, record: Record) -> Object:
    started, finished, code = run
    oom = code == 137 and record.get("failure") == "OOM"  # 128 + SIGKILL
    return _ended(code, text, started, finished, "OOMKilled" if oom else "")


def _conditions(pod: Object, why: str, started: float | None = None) -> list[Object]:
    """Return the pod's conditions; those that others have set are kept, as the list is replaced as a whole.

    Args:
        pod: The pod.
        why: Why it is not ready; nothing: it is.
        started: Since when its containers run; None: they never did.
    """
    known = {each["type"]: each for each in (pod.get("status") or {}).get("conditions") or []}
    ready: Object = {"status": "False", "reason": why} if why else {"status": "True"}
    since = {} if started is None else {"lastTransitionTime": time_text(started)}
    ran = {"status": "False" if started is None else "True"}
    for name, new in (("Initialized", ran), ("ContainersReady", ready), ("Ready", ready)):
        known[name] = {"type": name, **new, **since}
    return list(known.values())


def _ended(code: int, message: str, started: float, finished: float, reason: str = "") -> Object:
    state: Object = {
        "exitCode": code,
        "reason": reason or ("Error" if code else "Completed"),
        "startedAt": time_text(started),
        "finishedAt": time_text(finished),
    }
    return {"terminated": {**state, "message": message} if message else state}


def _containers(pod: Object, kind: str, state: Callable[[str], Object], ends: Object | None = None) -> list[Object]:
    found = []
    for container in pod["spec"].get(kind) or []:
        name = container["name"]
        each = state(name)
        end = (ends or {}).get(name)
        before = end["runs"] if end is not None and end["began"] is not None else end["runs"][:-1] if end else []
        made = {
            "name": name,
            "image": container.get("image", ""),
            "imageID": "",
            "restartCount": len(before),
            "ready": "running" in each
            or (kind == "initContainers" and each.get("terminated", {}).get("exitCode") == 0),
            "started": "running" in each,
            "state": each,
        }
        found.append({**made, "lastState": _run(before[-1], "", {})} if before else made)
    return found


def task_result(leaf: ArgoPod, outputs: Object, *, complete: bool, instance: str = "") -> Object:
    """Return the ``WorkflowTaskResult`` that Argo's ``wait`` would leave.

    Args:
        leaf: The leaf.
        outputs: The node's outputs so far.
        complete: Nothing more will come.
        instance: Of Argo's controller, where there are several (``ARGO_INSTANCE_ID``).
    """
    labels = {_WORKFLOW: leaf.workflow, _REPORT: "true" if complete else "false"}
    if instance:
        labels["workflows.argoproj.io/controller-instanceid"] = instance
    owner = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "name": leaf.workflow,
        "uid": leaf.workflow_uid,
    }
    told = {name: outputs[name] for name in ("parameters", "artifacts", "result") if name in outputs}
    return {
        "metadata": {"name": leaf.node_id, "labels": labels, "ownerReferences": [owner]},
        **({"outputs": told} if told else {}),
    }
