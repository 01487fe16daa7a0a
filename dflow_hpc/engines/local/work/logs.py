"""The log of a leaf as the artifact ``main-logs``, where its template or its workflow wants logs archived.

Not here: where a pod on a virtual node has its log and its storage (``virtual_node/archive.py``), and ``log.txt``.

Trap: the containers of a container set share one log here, so that it is nobody's artifact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local.work import staging
from dflow_hpc.errors import DflowError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.leaf import LeafRequest, Outcome
from dflow_hpc.storage.store import Store

_NAME = "main-logs"
_LOG = {"name": _NAME, "path": "/main.log", "archive": {"none": {}}}


def wanted(template: dict[str, Any]) -> bool:
    """Say whether a leaf's log is to be an artifact."""
    return bool((template.get("archiveLocation") or {}).get("archiveLogs")) and "containerSet" not in template


async def kept(
    running: Coroutine[Any, Any, Outcome], request: LeafRequest, root: Path, store: dict[str, Any]
) -> Outcome:
    """Wait for a leaf's end and store its log; return its outcome with that artifact.

    Args:
        running: The leaf.
        request: It.
        root: Its directory.
        store: Description of the store.
    """
    outcome = await running
    key = staging.output_key(request.template, f"{request.workflow_name}/{request.pod_name}", _LOG)
    objects = staging.open_store(store)
    changes = await asyncio.to_thread(stored, objects, root / "log.txt", key, outcome.phase, outcome.outputs)
    if "phase" in changes:
        changes["failure"] = FailureClass.STAGE_OUT
    return replace(outcome, **changes)


def stored(objects: Store, log: Path, key: str, phase: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Store a log; return what that changes in the leaf's record: its outputs, or how it ended.

    Args:
        objects: The store.
        log: What the leaf wrote; perhaps it wrote nothing.
        key: Where it goes.
        phase: How the leaf ended so far.
        outputs: What it has given so far.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    try:
        objects.put(log, key, archive="none")
    except DflowError as error:
        if phase != "Succeeded":
            return {}  # why it failed says more
        return {"phase": "Error", "message": staging.error_text("wait", str(error))}
    artifacts = [*(outputs.get("artifacts") or ()), {"name": _NAME, "s3": {"key": key}}]
    return {"outputs": {**outputs, "artifacts": artifacts}}
