"""What is known of a leaf's jobs, for ``dflow-hpc explain``: read from the broker's journal, from any process.

Plain data; the words around it are the command line's.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dflow_hpc.executors.jobs import Job
from dflow_hpc.executors.journal import Reader
from dflow_hpc.executors.records import fold


def explain(journal: Path, key: str) -> dict[str, Any] | None:
    """Return what the broker has noted of a leaf.

    Args:
        journal: The broker's.
        key: The leaf's; see ``jobs.key_of``.

    Returns:
        ``{"key", "job_name", "delivered", "attempts": [{"token", "state", "meaning", "since", "id", "word", "node",
        "failure", "reason", ...}]}``, or None where it knows none of that key.

    Raises:
        EngineError: The journal is damaged.
    """
    known = fold(Reader(journal).read())
    leaf = known.leaves.get(key)
    if leaf is None:
        return None
    batch = known.batches.get(leaf.jobs[-1].batch)
    return {
        "key": key,
        "job_name": batch.name if batch else None,
        "delivered": leaf.delivered,
        "attempts": [_attempt(job) for job in leaf.jobs],
    }


def _attempt(job: Job) -> dict[str, Any]:
    failure = job.failure.value if job.failure else None
    return {**dataclasses.asdict(job), "state": job.state.name, "meaning": job.state.value, "failure": failure}
