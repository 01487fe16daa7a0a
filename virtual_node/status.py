"""What a pod's status and Argo's task result say of a leaf: pure functions from a record to plain data.

A kubelet reports containers; Argo's controller reads them, and its ``WorkflowTaskResult``, and concludes how the node
ended. Here a record of the Leaf protocol (phase, message, outputs) becomes the statuses that lead it to the same words.

Not here: sending them (``pods.py``).

Trap: ``containerStatuses`` is replaced as a whole by a patch: each status has all containers, ``wait`` too. A ``wait``
that is left running, or a task result that is left incomplete, lets the workflow hang for ever.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from dflow_hpc.virtual_node.argo_pod import ArgoPod

Object = dict[str, Any]
Record = dict[str, Any]

_REPORT = "workflows.argoproj.io/report-outputs-completed"
_WORKFLOW = "workflows.argoproj.io/workflow"
_SAID = re.compile(r"(main|init|wait): Error \(exit code (\d+)\)(?:: )?(.*)", re.DOTALL)
_OOM = re.compile(r"OOMKilled \(exit code 137\)(?:: )?(.*)", re.DOTALL)
_INITIALIZING = {"waiting": {"reason": "PodInitializing"}}


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
        "containerStatuses": _containers(pod, "containers", lambda name: states.get(name, waiting)),
        "initContainerStatuses": _containers(pod, "initContainers", lambda _name: _INITIALIZING),
    }


def running(pod: Object, started: float) -> Object:
    """Return the status of a pod whose job runs since ``started``, in seconds since the epoch."""
    state = {"running": {"startedAt": time_text(started)}}
    return {
        "phase": "Running",
        "startTime": time_text(started),
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
        record: The leaf's: ``phase``, ``message``, ``failure``, ``outputs``, ``started``, ``finished``.
    """
    started, finished = record["started"], record["finished"]
    outputs = record.get("outputs") or {}
    code = int(outputs.get("exitCode") or 0)
    message = str(record.get("message") or "")
    found: Object = {"phase": "Succeeded" if record["phase"] == "Succeeded" else "Failed"}
    said = _SAID.fullmatch(message)
    init = _ended(0, "", started, started)
    main, wait = _ended(code, "", started, finished), _ended(0, "", started, finished)
    if said and said[1] == "init":
        init, main, wait = _ended(int(said[2]), said[3], started, finished), _INITIALIZING, _INITIALIZING
    elif said and said[1] == "wait":
        wait = _ended(int(said[2]), said[3], started, finished)
    elif said:
        main = _ended(int(said[2]), said[3], started, finished)
    elif oom := _OOM.fullmatch(message):
        main = _ended(137, oom[1], started, finished, "OOMKilled")
    elif record.get("failure") == "WALLTIME":
        found |= {"reason": "DeadlineExceeded", "message": message}
        main = _ended(code or 143, "", started, finished)
    elif record.get("failure") == "CANCELLED":
        main = _ended(143, "", started, finished)
    elif found["phase"] == "Failed":
        # Neither the program's fault nor that of its data: what Argo calls an Error.
        wait = _ended(64, message, started, finished)
        main = _ended(code or 64, "", started, finished)
    states = {"init": init, "main": main, "wait": wait}
    return {
        **found,
        "containerStatuses": _containers(pod, "containers", lambda name: states.get(name, main)),
        "initContainerStatuses": _containers(pod, "initContainers", lambda name: states.get(name, init)),
    }


def _ended(code: int, message: str, started: float, finished: float, reason: str = "") -> Object:
    state: Object = {
        "exitCode": code,
        "reason": reason or ("Error" if code else "Completed"),
        "startedAt": time_text(started),
        "finishedAt": time_text(finished),
    }
    return {"terminated": {**state, "message": message} if message else state}


def _containers(pod: Object, kind: str, state: Any) -> list[Object]:
    found = []
    for container in pod["spec"].get(kind) or []:
        each = state(container["name"])
        found.append(
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": "",
                "restartCount": 0,
                "ready": "running" in each,
                "started": "running" in each,
                "state": each,
            }
        )
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
