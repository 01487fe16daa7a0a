"""The template of a bridge pod: a leaf that is placed on a machine, as a pod that hands it over; and back again.

``bridged`` makes it before the submission, ``restored`` undoes that in the pod, where Argo has substituted every tag.
What the leaf is stays in fields of Argo's own: the words of its command are arguments, a script is a script, variables
are variables (so the kubelet reads the secrets behind them). What has no field is an annotation of plain text.

Not here: what the pod does (``pod.py``).

Trap: no annotation may hold JSON with tags in it: Argo escapes a value once, for the JSON of the template itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from dflow_hpc.errors import EngineError
from dflow_hpc.manifest.placing import OP_RECORD
from dflow_hpc.manifest.view import annotations_of
from dflow_hpc.op.bootstrap import INPUTS_COMMENT

MOUNT = "/dflow-hpc/machine"
"""Where a pod finds the files of its Secret."""
INFRASTRUCTURE = 75
"""Exit code of a bridge whose leaf gave no outcome by a fault that is not the program's: sysexits' EX_TEMPFAIL."""
_VOLUME = "dflow-hpc-machine"
_PREFIX = "DFLOW_HPC_"
_IMAGE, _DIRECTORY, _LIMIT = "dflow-hpc/image", "dflow-hpc/working-dir", "dflow-hpc/time-limit"
_NOT_THERE = ("initContainers", "sidecars", "containerSet", "resource", "data", "http", "plugin", "daemon")
_OWN_FAULT = f"asInt(lastRetry.exitCode) != {INFRASTRUCTURE}"
_FIELDS = {
    "NODE_NAME": {"fieldRef": {"fieldPath": "metadata.annotations['workflows.argoproj.io/node-name']"}},
    "WORKFLOW": {"fieldRef": {"fieldPath": "metadata.labels['workflows.argoproj.io/workflow']"}},
    "POD": {"fieldRef": {"fieldPath": "metadata.name"}},
}
_VARIABLES: list[dict[str, Any]] = [
    {"name": f"{_PREFIX}UID", "value": "{{workflow.uid}}"},
    *({"name": _PREFIX + name, "valueFrom": source} for name, source in _FIELDS.items()),
]


def secret_name(machine: str, *, gateway: bool = False) -> str:
    """Return the name of the Secret with the way to a machine: its login, or its gateway's address and token."""
    text = re.sub(r"[^a-z0-9-]", "-", machine.lower()).strip("-")
    return f"dflow-hpc-{'gateway' if gateway else 'machine'}-{text}"


def bridged(template: Mapping[str, Any], machine: str, image: str, secret: str) -> dict[str, Any]:
    """Return the template of the pod that hands a leaf to a machine.

    Args:
        template: The leaf's.
        machine: The machine's name.
        image: With this package in it.
        secret: The Secret that is mounted at ``MOUNT``.

    Raises:
        EngineError: It is a leaf that cannot run on a machine.
    """
    kind = _kind(template)
    found = sorted(name for name in _NOT_THERE if template.get(name))
    container = template.get(kind) or {}
    if found or not container or container.get("envFrom"):
        what = ", ".join(found) or ("envFrom" if container else "no script and no container")
        raise EngineError(
            f"the template {template.get('name')!r} was to run on machine {machine!r} from Argo; it has {what}. On a "
            "machine one script or container runs, with variables that are named one by one."
        )
    metadata = dict(template.get("metadata") or {})
    annotations = {**annotations_of(template), _IMAGE: container.get("image", "")}
    body: dict[str, Any] = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["dflow-hpc", "bridge", str(len(container.get("command") or []))],
        "args": [*(container.get("command") or []), *(container.get("args") or [])],
        "env": [*(container.get("env") or []), *_VARIABLES],
        "volumeMounts": [
            *(container.get("volumeMounts") or []),
            {"name": _VOLUME, "mountPath": MOUNT, "readOnly": True},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    }
    if kind == "script":
        body["source"] = container["source"]
    if container.get("workingDir"):
        annotations[_DIRECTORY] = container["workingDir"]
    made = {**template, kind: body}
    if "activeDeadlineSeconds" in template:  # counted by the bridge, from the job's real start: a queue is no run
        annotations[_LIMIT] = str(made.pop("activeDeadlineSeconds"))
    volume = {"name": _VOLUME, "secret": {"secretName": secret, "defaultMode": 0o400}}
    made["volumes"] = [*(template.get("volumes") or []), volume]
    made["metadata"] = {**metadata, "annotations": annotations}
    if template.get("retryStrategy"):
        made["retryStrategy"] = _retries(template["retryStrategy"])
    return made


def _retries(strategy: Mapping[str, Any]) -> dict[str, Any]:
    """Return a retry strategy that means by Error what it means elsewhere: a pod's main container can only fail."""
    policy = strategy.get("retryPolicy", "Always" if strategy.get("expression") else "OnFailure")
    wanted = {
        "OnError": f'(lastRetry.status == "Error" || !({_OWN_FAULT}))',
        "OnTransientError": f"!({_OWN_FAULT})",
        "OnFailure": f'(lastRetry.status == "Failed" && {_OWN_FAULT})',
    }.get(policy)
    if wanted is None:
        return dict(strategy)
    given = strategy.get("expression")
    return {**strategy, "retryPolicy": "Always", "expression": f"({given}) && {wanted}" if given else wanted}


def restored(template: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the leaf's own template out of that of its bridge pod.

    Args:
        template: As the pod has it, every tag substituted.
        environment: The pod's, with the values of the leaf's variables.
    """
    kind = _kind(template)
    container = template[kind]
    annotations = dict(annotations_of(template))
    words, number = container.get("args") or [], int(container["command"][2])
    body = {
        "image": annotations.pop(_IMAGE),
        "command": words[:number],
        "args": words[number:],
        "env": [
            {"name": item["name"], "value": environment[item["name"]].replace("$", "$$")}
            for item in container.get("env") or []
            if not item["name"].startswith(_PREFIX) and item["name"] in environment
        ],
        "volumeMounts": _without(container.get("volumeMounts")),
        "workingDir": annotations.pop(_DIRECTORY, None),
        "source": container.get("source"),
    }
    made = {**template, kind: {name: value for name, value in body.items() if value}}
    if OP_RECORD in annotations:
        made["inputs"] = {**(template.get("inputs") or {}), "parameters": _parameters(container["source"])}
    made["volumes"] = _without(template.get("volumes"))
    if _LIMIT in annotations:
        made["activeDeadlineSeconds"] = annotations.pop(_LIMIT)
    return {**made, "metadata": {**(template.get("metadata") or {}), "annotations": annotations}}


def _parameters(source: str) -> list[dict[str, Any]]:
    """Return the input parameters of a Python OP: a pod's template has none, its script has (``op/bootstrap.py``)."""
    lines = [line for line in source.splitlines() if line.startswith(INPUTS_COMMENT)]
    values = json.loads(lines[-1].removeprefix(INPUTS_COMMENT)) if lines else {}
    return [{"name": name, "value": value} for name, value in values.items()]


def told(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the variables of ``bridged`` say: ``node_name``, ``workflow``, ``pod``, ``uid``."""
    return {name.lower(): environment[_PREFIX + name] for name in (*_FIELDS, "UID")}


def _kind(template: Mapping[str, Any]) -> str:
    return "script" if "script" in template else "container"


def _without(items: Collection[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    return [item for item in items or () if item["name"] != _VOLUME]
