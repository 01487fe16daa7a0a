"""The jobs of a run on machines, as any process sees them: from the brokers' journals beside the run's.

``Jobs`` finds the job of a node; ``bring_logs`` brings what running jobs have printed so far: through the engine that
works on the run, over the login that it has; by a login of its own where none is alive.

Trap: only who holds the run's lock may change what it knows of jobs. Here nothing does: logs are for people.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local import control
from dflow_hpc.engines.local.rundir import RunDir
from dflow_hpc.engines.local.state import RunState
from dflow_hpc.engines.local.work import placement
from dflow_hpc.executors.broker.jobs import Job, State, key_of
from dflow_hpc.executors.broker.records import Known, fold
from dflow_hpc.executors.journal import Reader
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.site import Batch
from dflow_hpc.manifest.view import Node, named

_LOOK = 0.3


@dataclass(frozen=True)
class FarJob:
    """The last job of a leaf."""

    job: Job
    batch: Batch | None
    delivered: bool
    """Whether its outcome is safe with the engine."""
    known: Known
    """All that the journal in which it stands says."""
    root: Path
    """The leaf's directory here."""


class Jobs:
    """What the brokers' journals of a run say.

    Args:
        run: The run.

    Raises:
        EngineError: A journal is damaged.
    """

    def __init__(self, run: RunDir):
        self._run = run
        self._uid = run.workflow()["metadata"]["uid"]
        self._known = [fold(Reader(path).each()) for path in sorted((run.path / ".machines").glob("*.jsonl"))]

    def of(self, state: RunState, node: Node) -> FarJob | None:
        """Return the last job of a leaf; None if it has none, or runs here."""
        retried = (node.get("nodeFlag") or {}).get("retried")
        leaf = state.tree.id_of(node["name"].rpartition("(")[0]) if retried else node["id"]
        key = key_of(self._uid, leaf)
        journals = [known for known in self._known if key in known.leaves]
        if not journals:
            return None
        # More than one where the run went on with a profile of another account.
        known = max(journals, key=lambda known: known.leaves[key].jobs[-1].since)
        job = known.leaves[key].jobs[-1]
        delivered = job.attempt <= known.leaves[key].delivered
        return FarJob(job, known.batches.get(job.batch), delivered, known, self._run.leaf_dir(node))

    def open(self) -> dict[str, str]:
        """Return the jobs that the machines may have now: tokens, and the profiles of each."""
        found = {}
        for known in self._known:
            for leaf in known.leaves.values():
                job = leaf.jobs[-1]
                if job.batch and job.state is not State.ENDED:
                    found[job.token] = known.batches[job.batch].machine
        return found


def machine_of(run: RunDir, node: Node, found: FarJob | None) -> Machine | None:
    """Return the profile on which a leaf is placed: as its job's batch has it, or as its template wishes."""
    if found is not None and found.batch is not None:
        return placement.profiles(run.path).get(found.batch.machine)
    template = named(run.workflow()["spec"].get("templates"), node.get("templateName", ""))
    return placement.Placements(0, run.path).of(template).machine if template is not None else None


def await_end(run: RunDir, tokens: Iterable[str], timeout: float) -> dict[str, str]:
    """Wait until jobs have ended, or no engine works on the run.

    Args:
        run: The run.
        tokens: The jobs.
        timeout: Seconds.

    Returns:
        Those that have not ended: tokens, and the profile of each.
    """
    wanted = set(tokens)
    until = time.monotonic() + timeout
    while True:
        over = time.monotonic() > until or run.lock.wait(_LOOK)
        left = {token: machine for token, machine in Jobs(run).open().items() if token in wanted}
        if over or not left:
            return left


def follow(run: RunDir) -> None:
    """Ask the engine to bring what running jobs print, for a while from now on."""
    control.send(run, control.Request("follow"))


def bring_logs(run: RunDir, state: RunState, nodes: Sequence[Node], timeout: float) -> str:
    """Bring what the running jobs of leaves have printed so far.

    Args:
        run: The run.
        state: The fold of its journal.
        nodes: The leaves; those that have no running job do not count.
        timeout: Seconds that the engine may take.

    Returns:
        What the user should know about how it was done; nothing if there is nothing to say.

    Raises:
        ExecutorError: No engine is alive, and the machine cannot be asked.
    """
    jobs = Jobs(run)
    running = [found for node in nodes if (found := jobs.of(state, node)) and found.job.state is State.RUNNING]
    if not running:
        return ""
    if run.lock.alive() is not None:
        began = time.time()
        follow(run)
        logs = [found.root / "log.txt" for found in running]
        while not all(_looked_at(log, began) for log in logs):
            if time.time() - began > timeout:
                return "the engine has not brought all logs yet; what is here is shown"
            if run.lock.wait(_LOOK):
                break
        return ""
    return _by_own_login(run, running)


def _looked_at(log: Path, since: float) -> bool:
    # Clocks of file systems are coarse; a log that was looked at just before will do.
    return log.exists() and log.stat().st_mtime >= since - 1.0


def _by_own_login(run: RunDir, running: Sequence[FarJob]) -> str:
    from dflow_hpc.executors.remote import RemoteSite

    profiles = placement.profiles(run.path)
    accounts: dict[Any, list[FarJob]] = {}
    for found in running:
        if found.batch is not None and found.batch.machine in profiles:
            accounts.setdefault(profiles[found.batch.machine].account, []).append(found)
    for jobs in accounts.values():
        batch = jobs[0].batch
        assert batch is not None  # noqa: S101  chosen so
        site = RemoteSite(profiles[batch.machine])
        try:
            site.peek({found.job.token: found.root for found in jobs})
        finally:
            site.close()
    return f"no process works on {run.name}: the logs were read by a login of their own"
