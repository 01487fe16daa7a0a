"""The records of a broker's journal: how each change is noted, and what all of them say together.

Trap: a record may be the last one that was written. Each stands for itself: a job's holds all that is known of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from dflow_hpc.executors.broker.jobs import Job, State
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Resources, resources_from
from dflow_hpc.executors.site import Batch, Parcel

Record = dict[str, Any]


@dataclass(slots=True)
class Leaf:
    """A leaf and its attempts."""

    key: str
    jobs: list[Job] = field(default_factory=list)
    delivered: int = 0
    """The last attempt whose outcome is safe with who asked."""
    parcel: Parcel | None = None
    wanted: bool = False

    @property
    def over(self) -> bool:
        """Whether it runs anew when it is wanted once more."""
        job = self.jobs[-1] if self.jobs else None
        return job is not None and job.state is State.ENDED and (job.unwanted or job.attempt <= self.delivered)

    @property
    def told(self) -> bool:
        """Whether it is over and nobody of this life is yet to say that its outcome is safe."""
        return self.over and (self.parcel is None or self.jobs[-1].attempt <= self.delivered)


@dataclass
class Known:
    """What the records of a journal say."""

    leaves: dict[str, Leaf] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """The scheduler's ids, by batch."""
    paused: str = ""
    """Why the machine could not be asked, if so."""
    forgotten: int = 0
    """The highest attempt of all leaves that are forgotten: none that comes back may have the token of an old one."""

    def forget(self, keys: Iterable[str], keep: Collection[str]) -> None:
        """Forget leaves, and the batches with which no other leaf was sent, but for some of these."""
        for key in keys:
            self.forgotten = max(self.forgotten, self.leaves.pop(key).jobs[-1].attempt)
        used = {job.batch for leaf in self.leaves.values() for job in leaf.jobs} | set(keep)
        for batch in self.batches.keys() - used:
            del self.batches[batch]
            self.ids.pop(batch, None)


def note(job: Job) -> Record:
    """Return the record of a job as it is now."""
    record: Record = {"token": job.token, "state": job.state.name, "since": job.since}
    for name in ("batch", "index", "id", "word", "node", "expected", "started", "reason", "unwanted", "changes"):
        if value := getattr(job, name):
            record[name] = value
    if job.failure is not None:
        record["failure"] = job.failure.value
    return {"job": record}


def note_batch(batch: Batch) -> Record:
    """Return the record of a batch that is going to be sent."""
    resources = dataclasses.asdict(batch.resources)
    told = {key: value for key, value in resources.items() if value != getattr(Resources, key)}
    return {"batch": {**dataclasses.asdict(batch), "resources": told}}


def note_taken(batch: str, id: str) -> Record:
    """Return the record of the id that the scheduler gave a batch."""
    return {"taken": batch, "id": id}


def note_delivered(token: str) -> Record:
    """Return the record of an attempt whose outcome is safe with who asked."""
    return {"delivered": token}


def note_paused(why: str) -> Record:
    """Return the record of why the machine cannot be asked; nothing: it answers again."""
    return {"paused": why}


def unfold(known: Known) -> list[Record]:
    """Return the fewest records that say what others have said together."""
    found: list[Record] = [{"forgotten": known.forgotten}, note_paused(known.paused)]
    for batch in known.batches.values():
        found.append(note_batch(batch))
        if batch.id in known.ids:
            found.append(note_taken(batch.id, known.ids[batch.id]))
    for leaf in known.leaves.values():
        found += [note(job) for job in leaf.jobs]
        if leaf.delivered:
            found.append(note_delivered(f"{leaf.key}-{leaf.delivered}"))
    return found


def fold(records: Iterable[Record]) -> Known:
    """Return what records say together."""
    known = Known()
    for record in records:
        if "job" in record:
            job = _job(record["job"])
            jobs = known.leaves.setdefault(job.key, Leaf(job.key)).jobs
            if jobs and jobs[-1].token == job.token:
                jobs[-1] = job
            else:
                jobs.append(job)
        elif "batch" in record:
            fields = record["batch"]
            more = {"tokens": tuple(fields["tokens"]), "resources": resources_from(fields["resources"])}
            known.batches[fields["id"]] = Batch(**{**fields, **more})
        elif "taken" in record:
            known.ids[record["taken"]] = record["id"]
        elif "delivered" in record:
            key, _, number = record["delivered"].rpartition("-")
            known.leaves[key].delivered = int(number)
        elif "paused" in record:
            known.paused = record["paused"]
        elif "forgotten" in record:
            known.forgotten = record["forgotten"]
    return known


def _job(record: Record) -> Job:
    fields = {**record, "state": State[record["state"]]}
    if "failure" in fields:
        fields["failure"] = FailureClass(fields["failure"])
    return Job(**fields)
