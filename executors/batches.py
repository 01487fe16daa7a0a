"""Which jobs go together: steps of one shape that become ready within a short window are one array.

Pure functions of what waits and of the time; submitting is ``dispatcher.py``'s.

Trap: the window ends when nothing new came for a moment, but also when the oldest has waited for long enough: an
engine that makes one step after the other ready must not starve the first.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence

from dflow_hpc.executors.jobs import Job
from dflow_hpc.executors.site import Batch, Parcel


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


def group(waiting: Sequence[Job], parcels: Mapping[str, Parcel], most: int, now: float) -> list[Batch]:
    """Return the batches in which jobs go, in the order in which they came.

    Args:
        waiting: Jobs in our own queue that may go now.
        parcels: What their leaves take along, by key.
        most: Members of one array.
        now: Seconds since the epoch.
    """
    shapes: dict[tuple[object, ...], list[Job]] = {}
    for job in waiting:
        parcel = parcels[job.key]
        shapes.setdefault((parcel.machine.name, parcel.name, parcel.resources), []).append(job)
    return [
        _batch(members[start : start + most], parcels, now)
        for members in shapes.values()
        for start in range(0, len(members), most)
    ]


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
