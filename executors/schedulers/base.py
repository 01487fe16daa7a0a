"""What a scheduler is asked and what it answers: the boundary that every batch system is brought to.

A scheduler here is a set of pure functions: from a job to the text of a script and to shell commands, and from what
the tools print to facts. Who runs the commands, and what follows from the facts, is the broker's business
(``executors/broker/broker.py``). A third party writes a class with these methods and names it by an entry point of the
group ``dflow_hpc.schedulers``; ``docs/architecture.md``, section 6, has the contract.

Trap: silence is no state. A tool that could not ask raises ``SchedulerSilent``; a job that is missing in an answer is
unknown, never ended. Success is never concluded here: COMPLETED only says that the marker must be looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from dflow_hpc.errors import ExecutorError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Resources


class SchedulerSilent(ExecutorError):
    """The scheduler could not be asked. This says nothing about any job."""


@dataclass(frozen=True)
class JobScript:
    """What a batch script is made from."""

    name: str
    """``<token>.<step>``; what the scheduler shows of it is ``Scheduler.job_name(name)``."""
    comment: str
    """``<workflow>/<step>``, for people who look at the queue. Any text."""
    directory: str
    """Absolute, there: where the job starts and its output goes."""
    resources: Resources
    body: str
    """POSIX shell. It finds ``DFH_JOB_ID`` (as in ``JobState.id``) and ``DFH_INDEX`` (0-based; 0 without an array)."""
    members: int = 1
    """More than 1: an array."""
    at_once: int | None = None
    """Members that run at once; None leaves it to the scheduler."""
    warn: int | None = None
    """Seconds before the time limit at which the body's shell gets USR2; without a time limit it has no effect."""

    @property
    def token(self) -> str:
        """The attempt's token: the name's part before the first dot."""
        return self.name.partition(".")[0]


class Phase(Enum):
    """What a scheduler's word for a state comes down to."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class JobState:
    """What a tool said about one job, or one member of an array."""

    id: str
    """The id by which just this one can be asked for or cancelled: ``1214_3``, ``19[3]``, ``1214``."""
    job: str
    """``Accepted.id`` of the submission that it belongs to."""
    index: int | None
    """Of the member; None for a job without an array, and for an array whose members are not told of."""
    name: str
    """As shown; empty where the tool does not show all of it. Compare with ``Scheduler.job_name``."""
    phase: Phase
    word: str
    """The scheduler's own, such as ``NODE_FAIL`` or ``Q``."""
    known: bool = True
    """False: the word is in no table here. The job counts as live; log it."""
    reason: str = ""
    start: float | None = None
    """Expected or real, in seconds since the epoch."""
    node: str = ""
    exit_code: int | None = None
    signal: int | None = None
    failure: FailureClass | None = None
    """Where what was said is final by itself; None: the marker decides."""
    unbegun: bool = False
    """It ended, and the scheduler has no sign that it ever began: somebody deleted it while it waited."""
    submitted: float | None = None
    """Seconds since the epoch. Ids are reused: of two records of one id and name the newer counts."""


@dataclass(frozen=True)
class Accepted:
    """A submission got an id."""

    id: str
    """What the other methods take; with Slurm's cluster where one was printed: ``123;gpu``."""


@dataclass(frozen=True)
class Refused:
    """A submission was refused for certain: there is no such job."""

    failure: FailureClass
    """THROTTLED (later) or CONFIG (never)."""
    message: str
    """The scheduler's words."""
    shrink: float = 1.0
    """Below 1: just the array was too long, and may go again in parts of this share of it; 0: one by one."""


@dataclass(frozen=True)
class Unclear:
    """Nobody can tell from the answer whether there is a job: look it up, never submit again at once."""

    message: str


@dataclass(frozen=True)
class Facts:
    """What a scheduler says about itself."""

    version: str = ""
    accounting: bool | None = None
    """Whether jobs that left the queue can be asked for; None: it did not say."""
    min_job_age: float | None = None
    """Seconds for which an ended job is still shown."""
    max_array: int | None = None
    """Members that an array may have."""
    cpus: int | None = None
    """Of all nodes together, as ``memory`` (bytes) and ``gpus`` are; None: it did not say."""
    memory: int | None = None
    gpus: int = 0


class Scheduler(Protocol):
    """Pure functions between texts and facts. ``rc, out, err`` are a command's exit code, stdout and stderr.

    Commands are POSIX shell; each method that reads belongs to the one that makes the command.
    """

    def job_name(self, name: str) -> str:
        """Return what this scheduler shows as the name of a job that was given this one."""
        ...

    def script(self, job: JobScript) -> str:
        """Return the text of a batch script.

        Raises:
            ConfigError: The resources cannot be said to this scheduler.
        """
        ...

    def output(self, index: int | None) -> str:
        """Return the file, in the job's directory, with the stdout and stderr of a job (None) or a member."""
        ...

    def submit(self, path: str) -> str:
        """Return the command that submits a script; it is run in the job's directory."""
        ...

    def submitted(self, rc: int, out: str, err: str) -> Accepted | Refused | Unclear:
        """Read what the submission answered."""
        ...

    def member(self, id: str, index: int) -> str:
        """Return the id of one member of the array ``id``."""
        ...

    def queue(self, ids: Sequence[str] = ()) -> str:
        """Return one command that shows all live jobs of the account.

        Args:
            ids: Jobs that are believed to live; only where they live (Slurm's cluster) is taken from them.
        """
        ...

    def read_queue(self, rc: int, out: str, err: str) -> list[JobState]:
        """Read the queue. May hold jobs of others that share the account, and jobs that just ended.

        Raises:
            SchedulerSilent: It could not be asked, or the answer is not whole.
        """
        ...

    def history(self, ids: Sequence[str], since: float) -> list[str]:
        """Return commands that ask for these jobs or members, whether they live or not.

        Args:
            ids: From ``Accepted.id``, ``JobState.id`` or ``member``.
            since: When the earliest of them was submitted, in seconds since the epoch.
        """
        ...

    def read_history(self, rc: int, out: str, err: str) -> list[JobState]:
        """Read one of those answers: the newest record of each id and name. Absence says nothing.

        Raises:
            SchedulerSilent: It could not be asked, or keeps no records.
        """
        ...

    def lookup(self, name: str, since: float, resources: Resources) -> list[str]:
        """Return commands that search for a job by its name: in the queue, then in the history.

        Args:
            name: ``JobScript.name``.
            since: When its submission began, in seconds since the epoch.
            resources: ``JobScript.resources``: they may say where it went.
        """
        ...

    def read_lookup(self, name: str, answers: Sequence[tuple[int, str, str]]) -> list[JobState]:
        """Read the answers of ``lookup``, ``(rc, out, err)`` in its order; an empty list: nothing is known of it.

        Raises:
            SchedulerSilent: The queue could not be asked.
        """
        ...

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """Return commands that cancel jobs or members. Whether they ended, the next rounds show."""
        ...

    def read_cancel(self, rc: int, out: str, err: str) -> None:
        """Check one of those answers; jobs that are gone already, or cannot be ended now, are no complaint.

        Raises:
            SchedulerSilent: It could not be asked, or did not agree.
        """
        ...

    def describe(self) -> str:
        """Return the command that asks for version, records and limits."""
        ...

    def read_description(self, rc: int, out: str, err: str) -> Facts:
        """Read it.

        Raises:
            SchedulerSilent: There is no such scheduler on that host, or it does not answer.
        """
        ...


@runtime_checkable
class Enterable(Protocol):
    """A scheduler that lets its user into a job that runs; others lack the method."""

    def enter(self, id: str, line: str) -> str:
        """Return the command that runs a shell line in a job, beside what runs there."""
        ...
