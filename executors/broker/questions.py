"""What passes between the dispatcher and whoever drives it: questions, events. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from dflow_hpc.executors.broker.jobs import Job
from dflow_hpc.executors.site import Batch, Marker


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
    attempts: int = 1
    """How many there were; the number of the last one may be higher (``Dispatcher.forget``)."""


@dataclass(frozen=True)
class Notice:
    """Something that the user should know."""

    text: str
    key: str | None = None


Event = Started | Ended | Notice
