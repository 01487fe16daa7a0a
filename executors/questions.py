"""What passes between the dispatcher and whoever drives it: waits, questions, events. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from dflow_hpc.executors.jobs import Job
from dflow_hpc.executors.site import Batch, Marker


@dataclass(frozen=True)
class Waits:
    """How long the broker waits, in seconds; tests shorten them."""

    quiet: float = 0.3
    """Without a new job before the ones that wait are sent."""
    longest: float = 2.0
    """That the oldest of them waits at most."""
    look_up: float = 90.0
    """Between two look-ups of a submission that left no trace."""
    grace: float = 300.0
    """For which a job may be absent without a marker."""
    throttled: float = 30.0
    """Before what the scheduler refused for now goes again."""
    unreachable: float = 20.0
    """Before a machine that did not answer is asked again."""
    again: float = 10.0
    """Before a question without a clear answer is put again."""
    fast: float = 2.0
    steady: float = 10.0
    slowest: float = 120.0


@dataclass(frozen=True)
class Learn:
    """Get in touch; ask the scheduler for its limits."""


@dataclass(frozen=True)
class Submit:
    """Submit batches."""

    batches: tuple[Batch, ...]


@dataclass(frozen=True)
class LookUp:
    """Find out about submissions."""

    batches: tuple[Batch, ...]


@dataclass(frozen=True)
class Round:
    """Look at the queue, at markers, at history."""

    at: float
    live: tuple[tuple[Batch, str], ...]
    tokens: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True)
class Fetch:
    """Bring large outputs."""

    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Cancel:
    """End jobs."""

    items: tuple[tuple[Batch, str, tuple[int, ...]], ...]
    tokens: tuple[str, ...]


Question = Learn | Submit | LookUp | Round | Fetch | Cancel


@dataclass(frozen=True)
class Started:
    """A leaf runs."""

    key: str
    at: float


@dataclass(frozen=True)
class Ended:
    """A leaf's outcome is known."""

    key: str
    job: Job
    marker: Marker | None


@dataclass(frozen=True)
class Notice:
    """Something that the user should know."""

    text: str
    key: str | None = None


Event = Started | Ended | Notice
