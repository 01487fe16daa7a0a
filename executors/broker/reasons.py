"""Why a job waits: which reasons of a scheduler pass by themselves, and what the others mean to a user.

Schedulers accept requests that can never be met, and let them wait for ever: ``Stuck`` notices a reason that is none of
the ordinary ones and stays. What the reasons mean is from Slurm's manual page of squeue and PBS's job comments.

Trap: a reason is the scheduler's opinion of one moment. It ends no job, whatever it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dflow_hpc.executors.broker.jobs import Job, State

_ORDINARY = re.compile(
    r"\w+"  # no reason at all
    r"|\w+ \((?:None|Priority|Resources|Dependency|BeginTime|JobArrayTaskLimit|Prolog|Cleaning"
    r"|Not Running: (?!PBS Error|Queue not|Internal|Specified).*"
    r"|Job (?:run at|was sent|held|Array Began).*)\)"
)
"""A word with a reason that every waiting job has at times."""

_BUDGET = "the account's budget or share is used up: ask who manages it, or name another account"
_TOO_MUCH = "it asks for more than its account or QOS grants to one job: ask for less, or name another qos"
_MEANINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), text)
    for pattern, text in (
        (r"PartitionTimeLimit", "it asks for more time than its queue allows: lower `time`, or name another queue"),
        (r"PartitionNodeLimit", "it asks for more nodes than its queue allows: lower `nodes`, or name another queue"),
        (r"PartitionConfig|BadConstraints|Can Never Run", "no node of its queue has what it asks for: look at memory, "
         "cpus, gpus and extra, or name another queue"),
        (r"PartitionDown|PartitionInactive|PartitionNotAvail|Queue not started", "its queue is closed; it starts "
         "when the site opens it"),
        (r"ReqNodeNotAvail|NodeDown|DOWN, ?DRAINED|Nodes required", "a node that it needs is down, drained or kept "
         "free (for a maintenance, perhaps: a shorter `time` may fit before it)"),
        (r"JobHeldAdmin", "the site has put it on hold: ask the site"),
        (r"JobHeld|requeued.held|JobHoldMaxRequeue|^H\b", "it is on hold: release it (scontrol release, qrls), or "
         "cancel it"),
        (r"AccountNotAllowed|InvalidAccount|QOSNotAllowed|InvalidQOS", "its account or qos may not use this queue"),
        (r"(?:QOS|Assoc)\w*(?:PerJob|MaxWall|MaxTime|Min(?:Cpu|Node|Memory))|QOSUsageThreshold", _TOO_MUCH),
        (r"(?:QOS|Assoc)Grp\w*(?:Minutes|RunMins|Mins|Billing)", _BUDGET),
        (r"(?:QOS|Assoc)\w*", "a limit on the jobs of your account or QOS is reached: it starts when others have "
         "ended"),
        (r"PBS Error", "PBS could not start it and tries again; after 20 times it is put on hold: ask the site"),
        (r"Reservation", "it waits for a reservation"),
        (r"Licenses", "it waits for a licence"),
        (r"DependencyNeverSatisfied", "it waits for a job that will never end as it should"),
        (r"JobLaunchFailure|launch.failed", "it could not be started on its node: the node or its prolog is broken"),
    )
)  # fmt: skip


def passes(word: str) -> bool:
    """Say whether a job just waits its turn.

    Args:
        word: The scheduler's state and, in brackets, its reason.
    """
    return _ORDINARY.fullmatch(word) is not None and not word.startswith("H")


def meaning(word: str) -> str:
    """Return what a reason means and what to do; nothing if it is ordinary or unknown."""
    if passes(word):
        return ""
    return next((text for pattern, text in _MEANINGS if pattern.search(word)), "")


class Stuck:
    """Tells once of jobs that wait for a reason that does not pass.

    Args:
        wait: Seconds for which the reason must last.
    """

    def __init__(self, wait: float):
        self._wait = wait
        self._since: dict[tuple[str, str], float] = {}
        self._told: set[tuple[str, str]] = set()

    def notices(self, jobs: Iterable[Job], now: float) -> list[str]:
        """Return what the user should hear after a look at the queue.

        Args:
            jobs: All that live there.
            now: Seconds since the epoch.
        """
        waiting: dict[tuple[str, str], list[Job]] = {}
        for job in jobs:
            if job.state is State.QUEUED and not passes(job.word):
                waiting.setdefault((job.batch, job.word), []).append(job)
        self._since = {what: self._since.get(what, now) for what in waiting}
        found = []
        for what, members in waiting.items():
            if what not in self._told and now - self._since[what] >= self._wait:
                self._told.add(what)
                found.append(_notice(members, now - self._since[what]))
        return found


def _notice(members: list[Job], waited: float) -> str:
    job = members[0]
    which = f"job {job.id} waits" if len(members) == 1 else f"{len(members)} jobs of {job.id} wait"
    means = meaning(job.word)
    return (
        f"{which}: the scheduler has said {job.word} for {waited / 60:.0f} min"
        + (f"; {means}" if means else "")
        + ". `dflow-hpc explain` shows more; `dflow-hpc stop` would cancel it."
    )


def without_trace(job: Job, history: bool, asked: float) -> str:
    """Return what is known of a job that is lost.

    Args:
        job: The job.
        history: Whether the scheduler's history was answered.
        asked: When, in seconds since the epoch.
    """
    where = "neither its directory nor the scheduler's history says how it ended"
    if not history:
        where = "its directory does not say how it ended, and the scheduler's history could not be asked"
    return (
        f"job {job.id} left the queue without a marker, and after {asked - job.since:.0f} s {where} "
        f"(last seen: {job.word or 'never'})"
    )
