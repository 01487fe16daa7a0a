"""The life of a job as one state machine: a table from (state, news) to (next state, what to do), and nothing else.

A *job* here is one attempt of one leaf on a machine; its token is ``<key>-<n>``. What happened to it reaches us as
*news*: answers to commands, sightings in a queue, markers, the passing of time. ``apply`` looks the pair up. A pair
that is not in the table changes nothing: answers come late, twice and out of order, and that is normal.

The rules behind the table: a submission without a clear answer is looked up, never repeated, until the machine itself
says that it never began; a marker counts more than accounting, accounting more than the queue; success is never
concluded from absence; only what the scheduler calls final is final.

Not here: commands, clocks, files (``dispatcher.py`` feeds the news and does what the table says).

Trap: the drawing in docs/job-states.md is made from this table (``draw``); a test compares them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dflow_hpc.executors.failures import FailureClass


class State(Enum):
    """Where a job is in its life."""

    NEW = "in our own queue"
    HELD = "refused for now, waits in our own queue"
    SENT = "sent, not yet answered"
    UNCLEAR = "may or may not have been accepted"
    UNSEEN = "looked up once without a trace"
    QUEUED = "waits in the scheduler's queue"
    RUNNING = "runs"
    GONE = "left the queue without a marker"
    FETCHING = "ended, its outputs are on their way"
    CANCELLING = "to be ended, the scheduler has not agreed yet"
    ENDED = "its outcome is known"


class News(Enum):
    """What can happen to a job."""

    SEND = "its batch is sent"
    ACCEPTED = "the scheduler gave an id"
    REFUSED = "the scheduler will never take it"
    THROTTLED = "the scheduler takes no more for now"
    SILENT = "no clear answer"
    NOT_BEGUN = "the machine proves that no submission began"
    NO_TRACE = "neither queue nor history knows its name"
    PAUSE_OVER = "the pause is over"
    PENDING = "seen waiting"
    STARTED = "seen running"
    FINAL = "the scheduler's word is final"
    ABSENT = "not in the queue, or ended there without saying how"
    OVERDUE = "absent for longer than the grace"
    MARKER = "its marker is there"
    FETCHED = "its outputs are here"
    UNFETCHABLE = "its outputs cannot be brought"
    CANCEL = "nobody wants it any more"


class Act(Enum):
    """What the table asks for."""

    LOOK_UP = "look it up by its name"
    ASK_HISTORY = "ask accounting, refresh the directory"
    TELL_RUNNING = "tell that it runs"
    FETCH = "fetch what the marker names"
    CANCEL = "cancel it"
    DELIVER = "deliver its outcome"


@dataclass(frozen=True)
class Rule:
    """What a pair of state and news leads to."""

    next: State
    act: Act | None = None
    failure: FailureClass | None = None
    """The class with which it ends, where the news brings none of its own."""


_S, _N, _A = State, News, Act
_LOST = Rule(_S.ENDED, _A.DELIVER, FailureClass.LOST)
_CANCELLED = Rule(_S.ENDED, _A.DELIVER, FailureClass.CANCELLED)

TABLE: Mapping[tuple[State, News], Rule] = {
    (_S.NEW, _N.SEND): Rule(_S.SENT),
    (_S.NEW, _N.CANCEL): _CANCELLED,
    (_S.HELD, _N.PAUSE_OVER): Rule(_S.NEW),
    (_S.HELD, _N.CANCEL): _CANCELLED,
    # The answer to a submission
    (_S.SENT, _N.ACCEPTED): Rule(_S.QUEUED),
    (_S.SENT, _N.REFUSED): Rule(_S.ENDED, _A.DELIVER),
    (_S.SENT, _N.THROTTLED): Rule(_S.HELD),
    (_S.SENT, _N.SILENT): Rule(_S.UNCLEAR, _A.LOOK_UP),
    (_S.SENT, _N.NOT_BEGUN): Rule(_S.NEW),
    (_S.SENT, _N.MARKER): Rule(_S.FETCHING, _A.FETCH),
    # No clear answer: look, wait, look again
    (_S.UNCLEAR, _N.ACCEPTED): Rule(_S.QUEUED),
    (_S.UNCLEAR, _N.REFUSED): Rule(_S.ENDED, _A.DELIVER),
    (_S.UNCLEAR, _N.THROTTLED): Rule(_S.HELD),
    (_S.UNCLEAR, _N.NOT_BEGUN): Rule(_S.NEW),
    (_S.UNCLEAR, _N.NO_TRACE): Rule(_S.UNSEEN),
    (_S.UNCLEAR, _N.SILENT): Rule(_S.UNCLEAR, _A.LOOK_UP),
    (_S.UNCLEAR, _N.MARKER): Rule(_S.FETCHING, _A.FETCH),
    (_S.UNSEEN, _N.PAUSE_OVER): Rule(_S.UNSEEN, _A.LOOK_UP),
    (_S.UNSEEN, _N.SILENT): Rule(_S.UNSEEN, _A.LOOK_UP),
    (_S.UNSEEN, _N.ACCEPTED): Rule(_S.QUEUED),
    (_S.UNSEEN, _N.REFUSED): Rule(_S.ENDED, _A.DELIVER),
    (_S.UNSEEN, _N.THROTTLED): Rule(_S.HELD),
    (_S.UNSEEN, _N.NOT_BEGUN): Rule(_S.NEW),
    (_S.UNSEEN, _N.NO_TRACE): Rule(_S.NEW),
    (_S.UNSEEN, _N.MARKER): Rule(_S.FETCHING, _A.FETCH),
    # In the scheduler's hands
    (_S.QUEUED, _N.STARTED): Rule(_S.RUNNING, _A.TELL_RUNNING),
    (_S.QUEUED, _N.FINAL): Rule(_S.ENDED, _A.DELIVER),
    (_S.QUEUED, _N.ABSENT): Rule(_S.GONE, _A.ASK_HISTORY),
    (_S.QUEUED, _N.MARKER): Rule(_S.FETCHING, _A.FETCH),
    (_S.QUEUED, _N.CANCEL): Rule(_S.CANCELLING, _A.CANCEL),
    (_S.RUNNING, _N.PENDING): Rule(_S.QUEUED),
    (_S.RUNNING, _N.FINAL): Rule(_S.ENDED, _A.DELIVER),
    (_S.RUNNING, _N.ABSENT): Rule(_S.GONE, _A.ASK_HISTORY),
    (_S.RUNNING, _N.MARKER): Rule(_S.FETCHING, _A.FETCH),
    (_S.RUNNING, _N.CANCEL): Rule(_S.CANCELLING, _A.CANCEL),
    (_S.GONE, _N.PENDING): Rule(_S.QUEUED),
    (_S.GONE, _N.STARTED): Rule(_S.RUNNING, _A.TELL_RUNNING),
    (_S.GONE, _N.FINAL): Rule(_S.ENDED, _A.DELIVER),
    (_S.GONE, _N.ABSENT): Rule(_S.GONE, _A.ASK_HISTORY),
    (_S.GONE, _N.OVERDUE): _LOST,
    (_S.GONE, _N.MARKER): Rule(_S.FETCHING, _A.FETCH),
    (_S.GONE, _N.CANCEL): Rule(_S.CANCELLING, _A.CANCEL),
    # It has ended
    (_S.FETCHING, _N.FETCHED): Rule(_S.ENDED, _A.DELIVER),
    (_S.FETCHING, _N.SILENT): Rule(_S.FETCHING, _A.FETCH),
    (_S.FETCHING, _N.UNFETCHABLE): Rule(_S.ENDED, _A.DELIVER, FailureClass.STAGE_OUT),
    (_S.FETCHING, _N.CANCEL): _CANCELLED,
    # Nobody wants it
    (_S.CANCELLING, _N.PENDING): Rule(_S.CANCELLING, _A.CANCEL),
    (_S.CANCELLING, _N.STARTED): Rule(_S.CANCELLING, _A.CANCEL),
    (_S.CANCELLING, _N.SILENT): Rule(_S.CANCELLING, _A.CANCEL),
    (_S.CANCELLING, _N.FINAL): _CANCELLED,
    (_S.CANCELLING, _N.OVERDUE): _CANCELLED,
    (_S.CANCELLING, _N.MARKER): _CANCELLED,
}
"""The whole life of a job."""

UNWANTED: Mapping[tuple[State, News], Rule] = {
    (state, news): rule
    for state in (_S.SENT, _S.UNCLEAR, _S.UNSEEN)
    for news, rule in (
        (_N.ACCEPTED, Rule(_S.CANCELLING, _A.CANCEL)),
        (_N.THROTTLED, _CANCELLED),
        (_N.NOT_BEGUN, _CANCELLED),
        (_N.MARKER, _CANCELLED),
    )
} | {(_S.UNSEEN, _N.NO_TRACE): _CANCELLED}
"""What differs for a job that was cancelled while nobody knew whether the scheduler has it: it is found first."""


_MOVED = 60.0
"""Seconds by which an estimated start must move to be worth a record."""


@dataclass(slots=True)
class Job:
    """One attempt of one leaf on a machine."""

    token: str
    state: State = State.NEW
    since: float = 0.0
    """When it came into this state, in seconds since the epoch."""
    batch: str = ""
    """The batch with which it was sent; empty in our own queue."""
    index: int = 0
    """Its place in that batch, from 0."""
    id: str = ""
    """As the scheduler prints it."""
    word: str = ""
    """The scheduler's last word on it, and why."""
    node: str = ""
    expected: float | None = None
    """When the scheduler thinks that it starts."""
    started: float = 0.0
    failure: FailureClass | None = None
    """Of one that ended: why it did not succeed; None where the marker decides."""
    reason: str = ""
    """Of one that ended: what a user should read."""
    unwanted: bool = False
    changes: dict[str, Any] = field(default_factory=dict)
    """What it asks for other than its step, since earlier attempts asked for too little (``retries.py``)."""

    def saw(self, word: str, node: str, expected: float | None) -> bool:
        """Take what the scheduler says; return whether that is new. An estimate that moves a little is not.

        Args:
            word: Its state, and its reason.
            node: Where it runs, if that was said.
            expected: When it thinks that it starts.
        """
        before = (self.word, self.node, self.expected)
        self.word, self.node = word, node or self.node
        if expected is None or self.expected is None or abs(expected - self.expected) > _MOVED:
            self.expected = expected
        return before != (self.word, self.node, self.expected)

    @property
    def key(self) -> str:
        """The leaf's key: the token without the attempt."""
        return self.token.rpartition("-")[0]

    @property
    def attempt(self) -> int:
        """Which attempt of the leaf it is, from 1."""
        return int(self.token.rpartition("-")[2])


def apply(job: Job, news: News, now: float, failure: FailureClass | None = None, reason: str = "") -> Act | None:
    """Change a job by what happened to it.

    Args:
        job: Changed in place.
        news: What happened.
        now: Seconds since the epoch.
        failure: The class that the news brings, where it ends the job.
        reason: What a user should read about it.

    Returns:
        What is to be done.
    """
    if news is News.CANCEL and job.state is not State.ENDED:
        job.unwanted = True
    rule = (UNWANTED.get((job.state, news)) if job.unwanted else None) or TABLE.get((job.state, news))
    if rule is None:
        return None
    if rule.next is not job.state or news is News.PAUSE_OVER:
        job.since = now
    job.state = rule.next
    if rule.next is State.ENDED:
        job.failure = rule.failure or failure
        job.reason = reason
    elif rule.next is State.NEW:
        job.batch, job.index = "", 0
    elif rule.act is Act.TELL_RUNNING and not job.started:
        job.started = now
    return rule.act


def key_of(workflow_uid: str, node_id: str) -> str:
    """Return the key of a leaf: the same in every life of a run, and for every attempt of the leaf.

    Args:
        workflow_uid: The run's.
        node_id: Of its node, or of its Retry node where it has one.
    """
    digest = hashlib.sha256(f"{workflow_uid}\0{node_id}".encode()).digest()
    return base64.b32encode(digest)[:26].decode().lower()


def draw() -> str:
    """Return docs/job-states.md."""
    lines = [
        "# The life of a job",
        "",
        "Made by `python -m dflow_hpc.executors.broker.jobs` from the table in that module; do not edit.",
        "What is not listed changes nothing: answers come late, twice and out of order.",
        "",
        "| State | Meaning |",
        "|---|---|",
        *(f"| `{state.name}` | {state.value} |" for state in State),
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> NEW",
        *(f"    {state.name} --> {rule.next.name}: {news.name}" for (state, news), rule in TABLE.items()),
        "    ENDED --> [*]",
        "```",
    ]
    for title, table in (
        ("Every job", TABLE),
        ("A job that was cancelled before its submission was answered", UNWANTED),
    ):
        lines += ["", f"## {title}", "", "| In | when | becomes | and |", "|---|---|---|---|"]
        for (state, news), rule in table.items():
            end = f" ({rule.failure.value})" if rule.failure else ""
            act = rule.act.value if rule.act else ""
            lines.append(f"| `{state.name}` | {news.value} | `{rule.next.name}`{end} | {act} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(draw())
