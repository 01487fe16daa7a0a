"""The log of a leaf as the artifact ``main-logs``, where its template or its workflow wants logs archived.

Not here: the same for a pod on a virtual node (``virtual_node/archive.py``), and ``log.txt`` itself.

Trap: the containers of a container set share one log here, so that it is nobody's artifact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local.work import staging
from dflow_hpc.errors import DflowError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.leaf import LeafRequest, Outcome

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
    log = root / "log.txt"
    log.touch()
    key = staging.output_key(request.template, f"{request.workflow_name}/{request.pod_name}", _LOG)
    try:
        await asyncio.to_thread(staging.open_store(store).put, log, key, archive="none")
    except DflowError as error:
        if outcome.phase != "Succeeded":
            return outcome  # why it failed says more
        text = staging.error_text("wait", str(error))
        return replace(outcome, phase="Error", message=text, failure=FailureClass.STAGE_OUT)
    artifacts = [*(outcome.outputs.get("artifacts") or ()), {"name": _NAME, "s3": {"key": key}}]
    return replace(outcome, outputs={**outcome.outputs, "artifacts": artifacts})
