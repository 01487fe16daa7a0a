"""What an answer says of one job: a verdict on its batch; in a round queue, history and marker, weighed.

Pure functions, from what was seen to news for the table (``jobs.py``). A marker counts more than accounting, accounting
more than the queue; only what the scheduler calls final is final, and absence is no success.

Trap: a round tells of a job's absence only if the job was accepted before the round was asked.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dflow_hpc.executors.broker import batches
from dflow_hpc.executors.broker.jobs import Job, News, State
from dflow_hpc.executors.broker.reasons import without_trace
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Waits
from dflow_hpc.executors.schedulers.texts import seconds
from dflow_hpc.executors.site import Batch, Marker, NotBegun, NoTrace, Refusal, Sighting, Taken, Verdict


@dataclass(frozen=True)
class Shown:
    """What a round shows of one job."""

    seen: Sighting | None
    """In the queue."""
    past: Sighting | None
    """In the history."""
    history: bool
    """The history was asked for it, and answered."""
    asked: float
    """When the round was asked, in seconds since the epoch."""

    @property
    def last(self) -> Sighting | None:
        """The word that counts."""
        if self.seen is not None and not self.seen.ended:
            return self.seen
        # Accounting that calls a job alive which the queue does not know has missed its end.
        ended = self.past is not None and self.past.ended and (self.seen is None or not self.seen.failure)
        return self.past if ended else self.seen


@dataclass(frozen=True)
class Meaning:
    """What is to be told of a job; ``MARKER`` means the one that is known already."""

    news: News
    failure: FailureClass | None = None
    reason: str = ""


def judged(verdict: Verdict | None, jobs: int, *, looked_up: bool) -> Meaning:
    """Return what an answer to a submission, or to a look-up, means for the jobs of a batch.

    Args:
        verdict: The answer; None where the batch was not among what came.
        jobs: Of the batch.
        looked_up: It was a look-up: only then is it something that there is no trace.
    """
    if isinstance(verdict, Taken):
        return Meaning(News.ACCEPTED)
    if isinstance(verdict, Refusal) and verdict.shrink < 1 and jobs > 1:
        return Meaning(News.NOT_BEGUN)
    if isinstance(verdict, Refusal):
        throttled = verdict.failure is FailureClass.THROTTLED
        return Meaning(News.THROTTLED if throttled else News.REFUSED, verdict.failure, verdict.text)
    if isinstance(verdict, NotBegun):
        return Meaning(News.NOT_BEGUN)
    return Meaning(News.NO_TRACE if isinstance(verdict, NoTrace) and looked_up else News.SILENT)


def meaning(
    job: Job,
    shown: Shown,
    waits: Waits,
    batch: Batch,
    unfinished: Collection[int],
    *,
    marker: Marker | None,
    settled: bool,
) -> Meaning | None:
    """Return what a round means for a job that the machine may have; None: nothing yet.

    Args:
        job: The job.
        shown: What the round shows of it.
        waits: How long to wait for what.
        batch: The job's.
        unfinished: Places of the batch whose leaves have not ended.
        marker: It left this and was told to end: why, the scheduler may say.
        settled: A cancellation of it, if any, has had its time.
    """
    last, since = shown.last, shown.asked - job.since
    if job.state is State.CANCELLING and not settled and (last is None or last.failure is None):
        return None
    if job.state is State.GONE and marker is not None and (last is None or last.failure is None):
        if (last is None or not last.ended) and since < waits.why:
            return None
        limit = batch.resources.time
        if limit and batch.pack == 1 and marker.out_of_time(seconds(limit)):
            return Meaning(News.FINAL, FailureClass.WALLTIME, f"it was told to end after {limit}")
        return Meaning(News.MARKER)
    if last is not None and not last.ended:
        return Meaning(News.STARTED if last.running else News.PENDING)
    if last is not None and last.failure is not None and _counts(job, batch, since, waits):
        return Meaning(News.FINAL, batches.fault_of(batch, job.index, last.failure, unfinished), last.word)
    overdue = job.state is State.GONE and since >= (waits.grace if shown.history else waits.blind)
    if overdue and last is not None and last.unbegun and not job.started:
        return Meaning(News.FINAL, FailureClass.CANCELLED, f"{last.word}, and it had not begun")
    if job.state is State.CANCELLING or overdue:
        return Meaning(News.OVERDUE, reason=without_trace(job, shown.history, shown.asked))
    return Meaning(News.ABSENT)


def _counts(job: Job, batch: Batch, since: float, waits: Waits) -> bool:
    """Say whether a final word on a job counts for its leaf: one of a pack may have ended well just before."""
    if batch.pack == 1 or job.state is State.CANCELLING:
        return True
    return job.state is State.GONE and since >= waits.why
