"""What machines have put into an object storage comes here before a leaf of this host reads it.

A leaf has no way to the storage, and no keys: the engine's process brings it, checked (``storage/elsewhere.py``).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from dflow_hpc.engines.local.work import staging
from dflow_hpc.errors import DflowError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.leaf import LeafRequest, Outcome


async def bring(request: LeafRequest, description: dict[str, Any]) -> Outcome | None:
    """See that what a leaf reads lies in the run's store itself.

    Args:
        request: The leaf.
        description: Description of the store.

    Returns:
        None; or the leaf's outcome, where something cannot be fetched.
    """
    store = staging.open_store(description)
    for artifact in request.inputs.get("artifacts") or []:
        key = (artifact.get("s3") or {}).get("key")
        if key and store.elsewhere(key):
            try:
                await asyncio.to_thread(store.bring, key)
            except DflowError as error:
                now = time.time()
                text = str(staging.StagingError("init", f"artifact {artifact['name']} failed to load: {error}"))
                return Outcome("Error", text, {}, FailureClass.STAGE_IN, now, now, [])
    return None
