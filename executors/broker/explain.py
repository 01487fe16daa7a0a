"""What is known of a leaf's jobs, for ``dflow-hpc explain``: read from the broker's journal, from any process.

Plain data; the words around it are the command line's (``cli/explain.py``).

Trap: the journal is as old as the last round of the engine that writes it. Where none is alive, nothing moves here
although the job does.
"""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any, NamedTuple

from dflow_hpc.executors import schedulers
from dflow_hpc.executors.broker.jobs import Job, State
from dflow_hpc.executors.broker.reasons import meaning
from dflow_hpc.executors.broker.records import Known
from dflow_hpc.executors.profiles.machine import Machine, Resources, Waits
from dflow_hpc.executors.site import Batch
from dflow_hpc.executors.transport.sshconfig import ssh_target


class Next(NamedTuple):
    """What happens next to a job."""

    text: str
    at: float | None = None
    """When at the latest, in seconds since the epoch, where that is known."""


def explain(known: Known, key: str) -> dict[str, Any] | None:
    """Return what a broker has noted of a leaf.

    Args:
        known: What its journal says.
        key: The leaf's; see ``jobs.key_of``.

    Returns:
        ``{"key", "job_name", "machine", "delivered", "paused", "attempts": [{"token", "state", "meaning", "since",
        "id", "word", "reason_means", "node", "failure", "reason", "resources", ...}]}``, or None where it knows none of
        that key.
    """
    leaf = known.leaves.get(key)
    if leaf is None:
        return None
    batch = known.batches.get(leaf.jobs[-1].batch)
    return {
        "key": key,
        "job_name": batch.name if batch else None,
        "machine": batch.machine if batch else None,
        "delivered": leaf.delivered,
        "paused": known.paused,
        "attempts": [_attempt(job, known.batches.get(job.batch)) for job in leaf.jobs],
    }


def _attempt(job: Job, batch: Batch | None) -> dict[str, Any]:
    failure = job.failure.value if job.failure else None
    return {
        **dataclasses.asdict(job),
        "state": job.state.name,
        "meaning": job.state.value,
        "reason_means": meaning(job.word) if job.state is State.QUEUED else "",
        "failure": failure,
        "resources": said(batch.resources) if batch else {},
    }


def said(resources: Resources) -> dict[str, Any]:
    """Return what resources say beyond the defaults."""
    found = dataclasses.asdict(resources)
    return {key: value for key, value in found.items() if value != getattr(Resources, key)}


def what_next(job: Job, waits: Waits, *, delivered: bool) -> Next:
    """Return what happens next to a job while an engine works on its run.

    Args:
        job: The last attempt of a leaf.
        waits: The machine's.
        delivered: Whether its outcome is safe with the engine.
    """
    if job.state is State.ENDED:
        if delivered:
            return Next("nothing: its outcome is the step's")
        if job.unwanted:
            return Next("nothing: it is not wanted any more")
        return Next("its outcome is taken over as soon as the machine is asked again")
    if job.unwanted and job.state in (State.SENT, State.UNCLEAR, State.UNSEEN):
        return Next("it is found first, then cancelled")
    texts: dict[State, Next] = {
        State.NEW: Next("it is submitted with what else is ready, as soon as the limits of its profile let it"),
        State.HELD: Next("it is submitted again", job.since + waits.throttled),
        State.SENT: Next("the answer of its submission is awaited; without one it is looked up by its name"),
        State.UNCLEAR: Next("it is looked up by its name; it is not submitted again before that"),
        State.UNSEEN: Next(
            "it is looked up once more; without a trace it is submitted again", job.since + waits.look_up
        ),
        State.QUEUED: Next("the scheduler starts it"),
        State.RUNNING: Next("its end is awaited"),
        State.GONE: Next(
            "its marker and the scheduler's history are looked for; without both it counts as LOST",
            job.since + waits.grace,
        ),
        State.FETCHING: Next("its outputs are fetched"),
        State.CANCELLING: Next("the scheduler is told to end it until it agrees"),
    }
    return texts[job.state]


_BY_HAND = {
    "slurm": (
        "squeue{at} -j {id}",
        "scontrol{at} show job {id}",
        "sacct{at} -j {id} -X -o JobID,State,Reason,ExitCode",
    ),
    "pbs": ("qstat -f {id}", "qstat -xf {id}"),  # without a history the second shows nothing
    "torque": ("qstat -f {id}",),
}


def by_hand(machine: Machine, job: Job, batch: Batch | None) -> list[str]:
    """Return commands with which a user looks at a job himself.

    Args:
        machine: The profile.
        job: The attempt.
        batch: With which it was sent, if it was.
    """
    root = (machine.root or ".dflow-hpc/machine").removeprefix("~/").rstrip("/")
    commands = []
    if job.id and batch is not None:
        asked = job.id if batch.jobs == 1 else schedulers.get(machine.scheduler).member(job.id, job.index // batch.pack)
        number, _, cluster = asked.partition(";")
        at = f" -M {cluster}" if cluster else ""
        commands += [text.format(id=shlex.quote(number), at=at) for text in _BY_HAND.get(machine.scheduler, ())]
    if batch is not None:
        commands.append(f"ls -l {shlex.quote(f'{root}/{job.key}/attempt.{job.attempt}')}")
        commands.append(f"cat {shlex.quote(f'{root}/.batch/{batch.id}')}/submit.err")
    if machine.host is None:
        return commands
    words = ["-F", machine.ssh_config] if machine.ssh_config else []
    words += [word for option in machine.ssh_options for word in ("-o", option)]
    ssh = shlex.join(["ssh", *words, ssh_target(machine.host)])
    return [f"{ssh} {shlex.quote(command)}" for command in commands]
