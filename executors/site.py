"""What the broker asks a machine and what it hears: questions, each one command over there.

``Site`` is the boundary between deciding (``dispatcher.py``, pure) and doing (``remote.py``: schedulers, transports,
protocol scripts). A simulation answers it in the tests.

Trap: a question that was not answered says nothing about any job. It raises ``HostUnreachable``; what one half of an
answer could not say (the scheduler was silent) is None there, never an empty list.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Machine, Resources


class Folded(Mapping[str, Any]):
    """Plain data that waits, as compressed JSON: a thousand leaves wait for hours. It is unfolded by each look at it.

    Args:
        data: What JSON can say.
        like: Data much like it, of which this is only kept as the difference.
    """

    __slots__ = ("__weakref__", "_packed", "_pattern")

    def __init__(self, data: Mapping[str, Any], like: Folded | None = None):
        text = json.dumps(data).encode()
        self._pattern: bytes = text if like is None else like._pattern
        packer = zlib.compressobj(1, zdict=self._pattern)
        self._packed = packer.compress(text) + packer.flush()

    def unfolded(self) -> dict[str, Any]:
        """Return the data."""
        found: dict[str, Any] = json.loads(zlib.decompressobj(zdict=self._pattern).decompress(self._packed))
        return found

    def __getitem__(self, name: str) -> Any:
        return self.unfolded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.unfolded())

    def __len__(self) -> int:
        return len(self.unfolded())


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one leaf takes to the machine: ready, nothing left to substitute."""

    key: str
    name: str
    """The step's short name, for people who look at the queue."""
    comment: str
    """``workflow/step``."""
    resources: Resources
    spec: Mapping[str, Any]
    """What the protocol's ``member`` reads; see ``executors/protocol``."""
    directory: str
    """See ``root``. A text: a thousand leaves wait, and a ``Path`` takes three times as much."""
    code: Path | None = None
    """The bundle, a zip, of a Python OP."""
    machine: Machine = field(default_factory=lambda: Machine(""))
    """Its profile: several of one account go to one ``Site``."""

    @property
    def root(self) -> Path:
        """The leaf's directory here: its ``inputs`` go there, its ``outputs`` come back into it."""
        return Path(self.directory)


@dataclass(frozen=True)
class Batch:
    """Jobs that are submitted as one: a single job, or an array."""

    id: str
    """Names its directory there and, for an array, the job."""
    tokens: tuple[str, ...]
    at: float
    """When it was made, in seconds since the epoch: a look-up in accounting starts a little earlier."""
    step: str = ""
    comment: str = ""
    machine: str = ""
    """The profile's name."""
    resources: Resources = field(default_factory=Resources)

    @property
    def name(self) -> str:
        """The job's name in the scheduler: the token of a single job, the batch's of an array; with the step's."""
        return f"{self.tokens[0] if len(self.tokens) == 1 else self.id}.{self.step}"

    @property
    def pack(self) -> int:
        """How many of its leaves run in one job, one after the other; the last job may have fewer."""
        return max(1, self.resources.pack)

    @property
    def jobs(self) -> int:
        """How many jobs it is: members of the array, where there are several."""
        return -(-len(self.tokens) // self.pack)

    def leaves(self, job: int | None) -> range:
        """Return the places of the leaves of one of its jobs; None: of all."""
        if job is None:
            return range(len(self.tokens))
        return range(job * self.pack, min((job + 1) * self.pack, len(self.tokens)))


@dataclass(frozen=True)
class Taken:
    """The scheduler has a batch."""

    id: str


@dataclass(frozen=True)
class Refusal:
    """The scheduler has not taken a batch, for certain."""

    failure: FailureClass
    text: str
    shrink: float = 1.0
    """See ``schedulers.Refused``."""


@dataclass(frozen=True)
class NotBegun:
    """The machine proves that no submission of a batch began, and has made sure that none will."""


@dataclass(frozen=True)
class NoTrace:
    """A submission began, and neither a recorded id nor the scheduler knows of a job."""


@dataclass(frozen=True)
class Unknown:
    """No clear answer."""

    text: str = ""


Verdict = Taken | Refusal | NotBegun | NoTrace | Unknown


@dataclass(frozen=True, slots=True)
class Sighting:
    """A job as queue or history shows it."""

    batch: str
    index: int
    running: bool
    ended: bool
    word: str
    """The scheduler's state, and its reason."""
    failure: FailureClass | None = None
    """Where the word alone is final."""
    node: str = ""
    expected: float | None = None
    unbegun: bool = False
    """See ``schedulers.JobState``."""


_FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Marker:
    """What a job left about its own end; its small outputs are in the leaf's directory already."""

    record: Mapping[str, Any]
    """``exit.json``: token, attempt, job, rc, stage, signal, host, start, end, memory, oom."""
    complete: bool
    """All outputs are here; else ``fetch`` brings them."""

    @property
    def told_to_end(self) -> bool:
        """Whether a signal ended it that comes from outside: for a limit, for a deletion, or to make room.

        KILL is what the kernel sends for memory; the shell that leaves the marker outlives it.
        """
        return bool(self.record.get("rc")) and self.record.get("signal") in _FROM_OUTSIDE

    def out_of_time(self, limit: float) -> bool:
        """Say whether it was told to end when its time was over: a scheduler without a history cannot say so any more.

        Args:
            limit: Seconds that its job had; the leaf began a little later.
        """
        asked = self.told_to_end and self.record["signal"] != signal.SIGKILL
        return asked and self.record.get("end", 0) - self.record.get("start", 0) >= limit - min(5.0, limit / 4)

    @property
    def out_of_memory(self) -> bool:
        """Whether it failed, and the kernel killed a process of its control group for memory meanwhile.

        A scheduler need not know: PBS shows the program's exit code.
        """
        return bool(self.record.get("rc")) and self.record.get("oom") is True


@dataclass(frozen=True)
class Bounds:
    """What the scheduler says of its own limits; None: it did not say."""

    max_array: int | None = None
    """Members of an array."""
    remembered: float | None = None
    """Seconds for which it shows a job that has ended."""


@dataclass(frozen=True)
class Bytes:
    """What went which way between here, a machine and the object storage, in bytes."""

    link_there: int = 0
    """Over the link to the machine."""
    link_back: int = 0
    cached: int = 0
    """Of files that the machine had already: not sent."""
    url_there: int = 0
    """From the object storage to the machine, not through here."""
    url_back: int = 0
    uploaded: int = 0
    """From here into the object storage."""

    def __add__(self, other: Bytes) -> Bytes:
        """Return both together."""
        mine, its = dataclasses.astuple(self), dataclasses.astuple(other)
        return Bytes(*(one + another for one, another in zip(mine, its, strict=True)))

    def text(self) -> str:
        """Return it in words; a route that nothing went is not told of."""
        words = f"{_mega(self.link_there)} there, {_mega(self.link_back)} back"
        if self.url_there or self.url_back or self.uploaded:
            words += f", by URL {_mega(self.url_there)} there, {_mega(self.url_back)} back"
            words += f" ({_mega(self.uploaded)} uploaded from here)"
        return words + (f", {_mega(self.cached)} not sent (cached there)" if self.cached else "")


def _mega(number: int) -> str:
    return f"{number / 1e6:.1f} MB"


@dataclass
class Look:
    """The answer of a round."""

    queue: list[Sighting] | None
    """None: the scheduler was silent."""
    history: list[Sighting] | None
    markers: dict[str, Marker] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


class Site(Protocol):
    """A machine. Calls block, each is one command there; all may raise ``HostUnreachable``."""

    def bounds(self) -> Bounds:
        """Get in touch, and return the scheduler's limits."""
        ...

    def submit(self, batches: Sequence[Batch], parcels: Mapping[str, Parcel]) -> dict[str, Verdict]:
        """Bring what the batches need and submit each once; ``parcels`` by token.

        Returns:
            By the batch's id.
        """
        ...

    def look_up(self, batches: Sequence[Batch]) -> dict[str, Verdict]:
        """Find out what became of submissions that were not answered; by the batch's id."""
        ...

    def look(
        self, live: Sequence[tuple[Batch, str]], parcels: Mapping[str, Parcel | None], gone: Sequence[str]
    ) -> Look:
        """Make a round.

        Args:
            live: The batches that have jobs in the scheduler's hands, and the scheduler's ids of them.
            parcels: By token, the leaves whose marker is awaited; None of one that is only to be cancelled.
            gone: Of those, the ones that left the queue without a marker: accounting is asked.
        """
        ...

    def fetch(self, parcels: Mapping[str, Parcel]) -> dict[str, str]:
        """Bring large outputs into the leaves' directories; ``parcels`` by token.

        Returns:
            By token: nothing, or what makes it impossible.
        """
        ...

    def peek(self, tokens: Mapping[str, Path]) -> None:
        """Bring what is new in the logs of jobs that run into the leaves' directories."""
        ...

    def cancel(self, batches: Sequence[tuple[Batch, str, Sequence[int]]]) -> None:
        """Cancel members of batches: the batch, the scheduler's id, the members."""
        ...

    def forget(self, tokens: Sequence[str]) -> None:
        """Note tokens whose outcome is safe here; the next command takes them along."""
        ...

    def traffic(self) -> str:
        """Return what went over the link so far, in words; nothing if nothing did."""
        ...

    def bytes(self) -> Bytes:
        """Return what went which way so far."""
        ...

    def close(self) -> None:
        """Give the machine up; questions in flight end with ``HostUnreachable``."""
        ...
