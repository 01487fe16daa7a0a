"""Which jobs go together: steps of one shape that become ready within a short window are one array.

Pure functions of what waits and of the time; submitting is ``dispatcher.py``'s.

Trap: the window ends when nothing new came for a moment, but also when the oldest has waited for long enough: an
engine that makes one step after the other ready must not starve the first.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from dflow_hpc.executors.broker.jobs import Job
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.site import Batch, Parcel, Refusal, Taken, Verdict


def ready_at(waiting: Sequence[Job], quiet: float, longest: float) -> float | None:
    """Return when the jobs that wait are to be sent, in seconds since the epoch; None if there are none.

    Args:
        waiting: Jobs in our own queue.
        quiet: Seconds without a new one after which they go.
        longest: Seconds that the oldest waits at most.
    """
    if not waiting:
        return None
    since = [job.since for job in waiting]
    return min(max(since) + quiet, min(since) + longest)


def fitting(
    new: Iterable[tuple[Job, Parcel]], sent: Iterable[tuple[Batch, int]], room: Mapping[str, int] | None = None
) -> list[Job]:
    """Return the jobs that the limits of their profiles let go now.

    Args:
        new: Jobs in our own queue, and what their leaves take along.
        sent: Batch and index of the jobs that the machine may have.
        room: By profile, how many jobs its scheduler has been found to take at once; see ``Room``.
    """
    there = Counter(batch.machine for batch, _ in {(batch, index // batch.pack) for batch, index in sent})
    packed: Counter[tuple[object, ...]] = Counter()
    found = []
    for job, parcel in new:
        found_out = (room or {}).get(parcel.machine.name)
        limits = [limit for limit in (parcel.machine.limits.max_jobs, found_out) if limit is not None]
        most, alike = min(limits, default=None), shape(parcel)
        begins = packed[alike] % max(1, parcel.resources.pack) == 0  # a job of its own, or one more in a pack
        if most is None or not begins or there[parcel.machine.name] < most:
            there[parcel.machine.name] += begins
            packed[alike] += 1
            found.append(job)
    return found


def group(waiting: Sequence[Job], parcels: Mapping[str, Parcel], most: int, now: float) -> list[Batch]:
    """Return the batches in which jobs go, in the order in which they came.

    Args:
        waiting: Jobs in our own queue that may go now.
        parcels: What their leaves take along, by key.
        most: Jobs of one array.
        now: Seconds since the epoch.
    """
    shapes: dict[tuple[object, ...], list[Job]] = {}
    for job in waiting:
        shapes.setdefault(shape(parcels[job.key]), []).append(job)
    made = []
    for members in shapes.values():
        size = most * max(1, parcels[members[0].key].resources.pack)
        made += [_batch(members[start : start + size], parcels, now) for start in range(0, len(members), size)]
    return made


def shape(parcel: Parcel) -> tuple[object, ...]:
    """Return what leaves have in common that may go in one array, or in one job."""
    return (parcel.machine.name, parcel.name, parcel.resources)


def fault_of(batch: Batch, index: int, failure: FailureClass, unfinished: Collection[int]) -> FailureClass:
    """Return why a leaf has no outcome, when what the scheduler says is said of the job that it shared.

    Leaves of a pack run one after the other, so the first without an outcome is the one that ran when the job ended.
    Those behind it never began. A limit of the job is a leaf's own fault only if that leaf had the job to itself.

    Trap: a leaf whose shell was killed leaves no outcome either, and counts as the one that ran. That it is over cannot
    be said before the job is, since what it started may live so long.

    Args:
        batch: With which the leaf was sent.
        index: Its place there.
        failure: What the scheduler says of the job.
        unfinished: Places of all leaves of the batch that have no outcome.
    """
    if failure not in (FailureClass.WALLTIME, FailureClass.OOM):
        return failure
    ran = min((other for other in batch.leaves(index // batch.pack) if other in unfinished), default=index)
    if index != ran or (failure is FailureClass.WALLTIME and index % batch.pack):
        return FailureClass.PREEMPTED
    return failure


def _batch(members: Sequence[Job], parcels: Mapping[str, Parcel], now: float) -> Batch:
    tokens = tuple(job.token for job in members)
    first = parcels[members[0].key]
    # The time makes it new when the same jobs go again: another directory, another lock, another name to look up.
    digest = hashlib.sha256(repr((tokens, now)).encode()).digest()
    return Batch(
        id="b" + base64.b32encode(digest)[:25].decode().lower(),
        tokens=tokens,
        at=now,
        step=first.name,
        comment=first.comment,
        machine=first.machine.name,
        resources=first.resources,
    )


def places(jobs: Iterable[Job]) -> dict[str, set[int]]:
    """Return the places of jobs in their batches, by batch."""
    found: dict[str, set[int]] = {}
    for job in jobs:
        found.setdefault(job.batch, set()).add(job.index)
    return found


def with_mates(batch: Batch, given: Collection[int], wanted: Collection[int]) -> list[int]:
    """Return places of leaves that are to be cancelled, and the rest of their jobs where nobody wants the rest."""
    jobs = {place // batch.pack for place in given} - {place // batch.pack for place in wanted}
    return sorted({*given, *(place for job in jobs for place in batch.leaves(job))})


class Room:
    """What a scheduler has been found to take, where it does not say so: how long an array, how many jobs at once.

    What was refused goes again in halves: an array that is above a limit as it is would be refused for ever. What was
    found out about the number of jobs is forgotten after a while, since others' jobs count, too.

    Args:
        keep: Seconds after which it is found out anew.
    """

    def __init__(self, keep: float):
        self._keep = keep
        self._arrays: int | None = None
        self._jobs: dict[str, tuple[int, float]] = {}
        self._told: dict[str, str] = {}

    def array(self, most: int) -> int:
        """Return how many members an array may have.

        Args:
            most: What the scheduler says.
        """
        return most if self._arrays is None else min(most, self._arrays)

    def jobs(self, now: float) -> dict[str, int]:
        """Return how many jobs there may be at once, by profile; of those that were refused some."""
        self._jobs = {machine: known for machine, known in self._jobs.items() if now < known[1]}
        return {machine: most for machine, (most, _) in self._jobs.items()}

    def answered(self, batch: Batch, verdict: Verdict | None, sent: Iterable[tuple[Batch, int]], now: float) -> str:
        """Take the answer to a submission.

        Args:
            batch: What was submitted.
            verdict: The answer.
            sent: Batch and index of the jobs that the machine may have now.
            now: Seconds since the epoch.

        Returns:
            What the user should hear, if anything.
        """
        machine, known = batch.machine, self.jobs(now)
        if isinstance(verdict, Taken) and machine in known:
            self._jobs[machine] = (known[machine] + batch.jobs, self._jobs[machine][1])
        elif isinstance(verdict, Refusal) and verdict.shrink < 1 and batch.jobs > 1:
            self._arrays = self.array(max(1, int(batch.jobs * verdict.shrink)))
            return (
                f"the scheduler takes no array of {batch.jobs} ({verdict.text}); {self._arrays} go at once from now on"
            )
        elif isinstance(verdict, Refusal) and verdict.failure is FailureClass.THROTTLED:
            there = len({(other.id, index // other.pack) for other, index in sent if other.machine == machine})
            self._jobs[machine] = (max(1, there + batch.jobs // 2), now + self._keep)
            if machine not in known or self._told.get(machine) != verdict.text:
                self._told[machine] = verdict.text
                return f"the scheduler takes no more for now: {verdict.text}"
        return ""


class Rhythm:
    """How long until the next round: short while jobs end, longer while nothing changes.

    Args:
        fast: Seconds between rounds with fewer than ``few`` jobs.
        steady: With more.
        slowest: Upper bound, however quiet it is.
        jitter: Returns a number in [0, 1): several clients must not come in step.
    """

    few = 10

    def __init__(self, fast: float, steady: float, slowest: float, jitter: object = None):
        self._fast = fast
        self._steady = steady
        self.slowest = slowest
        """Below half of the time for which the scheduler remembers an ended job."""
        self._quiet = 0
        self._jitter = jitter if callable(jitter) else lambda: 0.0

    def changed(self, anything: bool) -> None:
        """Note whether a round showed anything new."""
        self._quiet = 0 if anything else self._quiet + 1

    def pause(self, live: int) -> float:
        """Return the seconds until the next round.

        Args:
            live: Jobs in the scheduler's hands.
        """
        least = self._fast if live < self.few else self._steady
        grown = least * 1.3 ** min(self._quiet, 40)
        return float(min(grown, max(least, self.slowest)) * (1 + 0.1 * self._jitter()))
