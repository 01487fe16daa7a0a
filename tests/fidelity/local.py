"""The local engine's side of the comparison: a manifest interpreted under the name and uid that it had on Argo.

Leaves run as processes of this host: images are ignored, and the few programs that they bring lie in ``bin/``. Of a
manifest that draws lots the leaves end as they did on Argo, and everything else must follow from that.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local.interpret.interpreter import Interpreter
from dflow_hpc.engines.local.interpret.tree import NodeTree
from dflow_hpc.engines.local.work.workers import LocalLeafHost
from dflow_hpc.executors.leaf import LeafRequest, Outcome

BIN = Path(__file__).parent / "bin"
SECONDS = 400
SECONDS_TO_STAND = 30
"""After which a workflow that waits for somebody is looked at: what comes before that takes no second."""


def run(workflow: dict[str, Any], resources: list[dict[str, Any]], *, stands: bool) -> dict[str, Any]:
    """Run a workflow with processes of this host; its status.

    Args:
        workflow: With the metadata that it had on Argo.
        resources: What it refers to.
        stands: It does not end by itself: its status is taken after a while.
    """
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH'].removeprefix(f'{BIN}:')}"
    with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
        return asyncio.run(_run(workflow, resources, Path(folder), SECONDS_TO_STAND if stands else SECONDS))


async def _run(
    workflow: dict[str, Any], resources: list[dict[str, Any]], folder: Path, seconds: float
) -> dict[str, Any]:
    tree = NodeTree(workflow["metadata"]["name"])
    (folder / "run").mkdir()
    store = {"workdir": str(folder), "artifact_dir": "."}
    host = LocalLeafHost(folder / "run", store=store, workers=16, grace=1.0, runtime="host")
    await host.start()
    running = asyncio.create_task(Interpreter(workflow, tree, host, resources=resources).run())
    try:
        await asyncio.wait([running], timeout=seconds)
        status = json.loads(json.dumps(tree.status()))
        if running.done():
            await running
    finally:
        running.cancel()
        await asyncio.wait([running])
        await host.close()
    return dict(status)


def replay(workflow: dict[str, Any], resources: list[dict[str, Any]], nodes: dict[str, Any]) -> dict[str, Any]:
    """Interpret a workflow with the outcomes that its leaves had on Argo, without waiting for anything; its status."""
    now = time.time()

    def clock() -> float:
        return now

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    tree = NodeTree(workflow["metadata"]["name"], clock=clock)
    asyncio.run(Interpreter(workflow, tree, _Replay(nodes), resources=resources, clock=clock, sleep=sleep).run())
    return dict(tree.status())


class _Replay:
    """Ends each leaf as Argo says that it ended."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        self._nodes = nodes

    async def run(self, request: LeafRequest) -> Outcome:
        node = self._nodes.get(request.node_id)
        if node is None:
            return Outcome("Error", "Argo did not run this leaf")
        request.on_running()
        outputs = json.loads(json.dumps(node.get("outputs") or {}))
        for artifact in outputs.get("artifacts", ()):
            artifact["s3"] = {"key": f"{request.workflow_name}/{request.pod_name}/{artifact['name']}.tgz"}
        return Outcome(node["phase"], node.get("message") or "", outputs)
