"""A real machine behind ``Site``: its scheduler's texts, the protocol's scripts, a transport.

It puts each question into one command there and reads the answer; the first use brings the scripts and asks the
scheduler about itself. Everything that a scheduler says is matched to batches and members here, so that nobody above
knows an id's form.

Not here: what follows from an answer (``dispatcher.py``).

Trap: other runs and the user share the account. A job counts as ours only by the id that our submission was given, and
ids are used again: where a name is shown, it must be the batch's.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dflow_hpc.errors import HostUnreachable, StorageError
from dflow_hpc.executors import arrivals, schedulers
from dflow_hpc.executors.addresses import Addresses
from dflow_hpc.executors.broker.follow import Logs
from dflow_hpc.executors.faults import fault
from dflow_hpc.executors.loads import Packer
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.protocol import (
    Frame,
    NotThere,
    ProtocolError,
    Questions,
    Scripts,
)
from dflow_hpc.executors.schedulers import JobState, Phase, SchedulerSilent
from dflow_hpc.executors.site import (
    Batch,
    Bounds,
    Bytes,
    Look,
    Marker,
    NotBegun,
    NoTrace,
    Parcel,
    Refusal,
    Sighting,
    Taken,
    Unknown,
    Verdict,
)
from dflow_hpc.executors.transport import Answer, Transport, open_transport

_T = TypeVar("_T")
_PROGRESS = (
    r"""while read -r d; do [ ! -s "$d/progress" ] || printf '%s\t%s\n' "$d" "$(tail -n 1 "$d/progress")"; done"""
)
_INSIDE = 3600.0
"""Seconds without a byte that a command in a job may take."""


class RemoteSite:
    """A machine of a profile, and of all others of its account.

    Args:
        machine: The profile.
        transport: The way to it; None opens the profile's.
    """

    def __init__(self, machine: Machine, transport: Transport | None = None):
        self._machine = machine
        self._scheduler = schedulers.get(machine.scheduler)
        self.transport = transport or open_transport(machine)
        self._scripts = Scripts(self.transport, machine.root)
        self._forget: set[str] = set()
        self._logs = Logs()
        self._spared = 0
        self.addresses = Addresses(self._scripts)
        self._packer = Packer(self._scheduler, self._scripts, self.addresses)
        self._by_url = Bytes()
        self._lock = threading.Lock()
        self._facts: schedulers.Facts | None = None

    def facts(self) -> schedulers.Facts:
        """Return what the scheduler says of itself; asked once.

        Raises:
            HostUnreachable: It did not say.
        """
        with self._lock:
            if self._facts is None:
                reply = self._scripts.ask(Questions(run={"describe": self._scheduler.describe()}))
                self._facts = _read(self._scheduler.read_description, reply.ran["describe"])
            return self._facts

    def bounds(self) -> Bounds:
        """Bring the scripts, and return the scheduler's limits; see ``Site``."""
        with _troubles():
            facts = self.facts()
        return Bounds(facts.max_array, facts.min_job_age)

    # Going there

    def submit(self, batches: Sequence[Batch], parcels: Mapping[str, Parcel]) -> dict[str, Verdict]:
        """Bring what the batches need and submit each once; see ``Site``."""
        with _troubles():
            frames = self._bring(batches, parcels)
        return {batch.id: self._verdict(frames.get(batch.id)) for batch in batches}

    def _bring(self, batches: Sequence[Batch], parcels: Mapping[str, Parcel]) -> dict[str, Frame]:
        load = self._packer.pack(batches, parcels)
        fault("remote.submit.packed")
        try:
            frames = self._scripts.submit(load.cargo, load.brings, load.needs)
        except NotThere:  # it is known now what to bring again
            load = self._packer.pack(batches, parcels)
            frames = self._scripts.submit(load.cargo, load.brings, load.needs)
        self._spared += load.spared
        self.addresses.given(load.signed)
        return frames

    def _verdict(self, frame: Frame | None) -> Verdict:
        if frame is None:
            return Unknown("it was not in the answer")
        if frame.word == "sealed":
            return NotBegun()
        if frame.word != "answered":
            return NoTrace() if frame.word == "begun" else Unknown(f"its submission is {frame.word}")
        answer = self._scheduler.submitted(frame.rc, _text(frame.out), _text(frame.err))
        if isinstance(answer, schedulers.Accepted):
            return Taken(answer.id)
        if isinstance(answer, schedulers.Refused):
            return Refusal(answer.failure, answer.message, answer.shrink)
        return NoTrace()

    def look_up(self, batches: Sequence[Batch]) -> dict[str, Verdict]:
        """Find out what became of submissions; see ``Site``. One that did not begin never will after this."""
        commands: dict[str, str] = {}
        names: dict[str, list[str]] = {}
        for number, batch in enumerate(batches):
            for part, command in enumerate(self._scheduler.lookup(batch.name, batch.at, batch.resources)):
                name = f"lookup{number}x{part}"
                commands[name] = command
                names.setdefault(batch.id, []).append(name)
        with _troubles():
            reply = self._scripts.ask(Questions(run=commands, seal=[batch.id for batch in batches]))
        found: dict[str, Verdict] = {}
        for batch in batches:
            verdict = self._verdict(reply.batches.get(batch.id))
            if isinstance(verdict, NoTrace):
                verdict = self._traced(batch, [reply.ran[name] for name in names.get(batch.id, ())])
            found[batch.id] = verdict
        return found

    def _traced(self, batch: Batch, frames: Sequence[Frame]) -> Verdict:
        answers = [(frame.rc, _text(frame.out), _text(frame.err)) for frame in frames]
        try:
            jobs = self._scheduler.read_lookup(batch.name, answers)
        except SchedulerSilent as error:
            return Unknown(str(error))
        return Taken(max(jobs, key=lambda job: job.submitted or 0.0).job) if jobs else NoTrace()

    # Rounds

    def look(
        self, live: Sequence[tuple[Batch, str]], parcels: Mapping[str, Parcel | None], gone: Sequence[str]
    ) -> Look:
        """Make a round; see ``Site``."""
        history = self._history(live, set(gone))
        commands = {"queue": self._scheduler.queue([taken for _, taken in live])} if live else {}
        commands |= {f"history{number}": command for number, command in enumerate(history)}
        forget = self._take_forgotten()
        try:
            with _troubles():
                renew = self.addresses.renewed(parcels)
                asked = Questions(run=commands, forget=forget, settle=gone, wait_for=list(parcels), renew=renew)
                reply = self._scripts.ask(asked)
        except HostUnreachable:
            self.forget(forget)
            raise
        look = Look([], [])
        if live:
            look.queue = self._sightings(live, [reply.ran["queue"]], self._scheduler.read_queue, look)
        if history:
            frames = [reply.ran[f"history{number}"] for number in range(len(history))]
            look.history = self._sightings(live, frames, self._scheduler.read_history, look)
        if look.history is None and self.facts().accounting is False:
            look.history = []  # it keeps none: that is an answer
        roots = {token: parcel.directory for token in reply.ended if (parcel := parcels.get(token)) is not None}
        records = arrivals.bring(reply.outputs, roots, self._logs)
        for token, record in records.items():
            self._note_end(token, record)
        look.markers = {token: Marker(record, bool(record["complete"])) for token, record in records.items()}
        return look

    def _note_end(self, token: str, record: Mapping[str, Any]) -> None:
        self.addresses.ended(token, sent=record.get("sent", True))
        pulled, pushed, spared = (record.get(name, 0) for name in ("pulled", "pushed", "spared"))
        self._by_url += Bytes(url_there=pulled, url_back=pushed, cached=spared)

    def _history(self, live: Sequence[tuple[Batch, str]], gone: set[str]) -> list[str]:
        ids = []
        for batch, taken in live:
            jobs = sorted({index // batch.pack for index, token in enumerate(batch.tokens) if token in gone})
            ids += self._ids(batch, taken, jobs)
        since = min((batch.at for batch, _ in live), default=0.0)
        return self._scheduler.history(ids, since) if ids else []

    def _sightings(
        self,
        live: Sequence[tuple[Batch, str]],
        frames: Sequence[Frame],
        read: Callable[[int, str, str], list[JobState]],
        look: Look,
    ) -> list[Sighting] | None:
        states: list[JobState] = []
        for frame in frames:
            try:
                states += read(frame.rc, _text(frame.out), _text(frame.err))
            except SchedulerSilent:
                return None
        by_id = {taken: batch for batch, taken in live}
        found = []
        for state in states:
            batch = by_id.get(state.job)
            if batch is None or state.name not in ("", self._scheduler.job_name(batch.name)):
                continue
            if not state.known:
                look.notices.append(f"the scheduler calls job {state.id} {state.word!r}; it is taken as alive")
            found += [_sighting(batch, index, state) for index in batch.leaves(state.index)]
        return found

    def fetch(self, parcels: Mapping[str, Parcel]) -> dict[str, str]:
        """Bring all outputs of leaves; see ``Site``. What a job could not store in the object storage is stored now."""
        with _troubles():
            late = self.addresses.late(parcels)
            data = self._scripts.fetch(list(parcels), late)
        roots = {token: parcel.directory for token, parcel in parcels.items()}
        for token in late:
            arrivals.clear_unsent(roots[token])
        arrivals.bring(data, roots, self._logs)
        wrong = {token: arrivals.unsent(roots[token]) for token in late}
        self.addresses.stored(token for token, words in wrong.items() if not words)
        return {**dict.fromkeys(parcels, ""), **wrong}

    def peek(self, tokens: Mapping[str, Path]) -> None:
        """Bring what is new in logs; see ``Site``."""
        order = list(tokens)
        commands = {
            f"log{number}": self._logs.command(token, self._scripts.leaf_directory(token))
            for number, token in enumerate(order)
        }
        with _troubles():
            reply = self._scripts.ask(Questions(run=commands))
        for number, token in enumerate(order):
            self._logs.take(token, reply.ran[f"log{number}"].out, tokens[token] / "log.txt")

    def cancel(self, items: Sequence[tuple[Batch, str, Sequence[int]]]) -> None:
        """Cancel members of batches; see ``Site``. What starts from now on does nothing."""
        ids, tokens = [], []
        for batch, taken, members in items:
            tokens += [batch.tokens[index] for index in members]
            # A job of which other leaves are wanted goes on: what is revoked is left out, or not published.
            ids += self._ids(batch, taken, [job for job in range(batch.jobs) if {*batch.leaves(job)} <= {*members}])
        commands = {f"cancel{number}": command for number, command in enumerate(self._scheduler.cancel(ids))}
        with _troubles():
            reply = self._scripts.ask(Questions(run=commands, revoke=tokens))
        for name in commands:
            _read(self._scheduler.read_cancel, reply.ran[name])

    def _ids(self, batch: Batch, taken: str, jobs: Sequence[int]) -> list[str]:
        """Return the scheduler's ids of some of a batch's jobs: of all of them, the one that it gave the batch."""
        if len(jobs) == batch.jobs:
            return [taken]
        return [self._scheduler.member(taken, job) for job in jobs]

    def progress(self, tokens: Sequence[str]) -> dict[str, str]:
        """Return the last line of what jobs report of their progress, by token; of those that report."""
        places = {self._scripts.leaf_directory(token): token for token in tokens}
        answer = self.transport.run(_PROGRESS, "".join(f"{place}\n" for place in places).encode())
        lines = (line.partition("\t") for line in _text(answer.out).splitlines())
        return {places[place]: text.strip() for place, _, text in lines if place in places}

    def run_inside(
        self, token: str, batch: Batch, taken: str, index: int, words: Sequence[str], stdin: bytes = b""
    ) -> Answer | None:
        """Run a command where a job runs, with the variables and in the directory of its leaf.

        Args:
            token: The job's.
            batch: The batch that it was sent with.
            taken: The scheduler's id of that.
            index: Its place in the batch.
            words: The command.
            stdin: What it reads.

        Returns:
            None where the scheduler gives no way into a job.

        Raises:
            HostUnreachable: Nobody knows whether it ran.
        """
        if not isinstance(self._scheduler, schedulers.Enterable):
            return None
        directory = shlex.quote(f"{self._scripts.leaf_directory(token)}/workdir")
        line = f"cd {directory} && . ../env.sh && exec {shlex.join(words)}"
        (job,) = self._ids(batch, taken, [index // batch.pack])
        return self.transport.run(self._scheduler.enter(job, line), stdin, timeout=_INSIDE)

    def forget(self, tokens: Sequence[str]) -> None:
        """Note tokens whose outcome is safe here; the next round takes them along."""
        self._logs.forget(tokens)
        with self._lock:
            self._forget.update(tokens)

    def _take_forgotten(self) -> list[str]:
        with self._lock:
            taken = sorted(self._forget)
            self._forget.clear()
        return taken

    def traffic(self) -> str:
        """Return what went over the link so far, in words."""
        link = self.transport
        if not link.commands:
            return ""
        logins = f"{link.logins} login{'s' * (link.logins != 1)}, " if self._machine.host else ""
        return f"{logins}{link.commands} commands, {self.bytes().text()}"

    def bytes(self) -> Bytes:
        """Return what went which way so far."""
        link = Bytes(link_there=self.transport.sent, link_back=self.transport.received, cached=self._spared)
        return link + self._by_url + Bytes(uploaded=self.addresses.uploaded)

    def close(self) -> None:
        """Say what may be forgotten, if the machine was used, and give the link up."""
        if forget := self._take_forgotten():
            self._scripts.ask(Questions(forget=forget))
        self.transport.close()


def _sighting(batch: Batch, index: int, state: JobState) -> Sighting:
    word = f"{state.word} ({state.reason})" if state.reason and state.reason != "None" else state.word
    return Sighting(
        batch=batch.id,
        index=index,
        running=state.phase is Phase.RUNNING,
        ended=state.phase is Phase.ENDED,
        word=word,
        failure=state.failure,
        node=state.node,
        expected=state.start,
        unbegun=state.unbegun,
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _read(read: Callable[[int, str, str], _T], frame: Frame) -> _T:
    """Read a scheduler's answer; silence is as good as no answer at all."""
    try:
        return read(frame.rc, _text(frame.out), _text(frame.err))
    except SchedulerSilent as error:
        raise HostUnreachable(f"its scheduler does not answer: {error}") from error


class _troubles:  # noqa: N801  a context manager, used as one
    """Turn what the machine could not do into a pause: the user mends it (a full disk), and the work goes on."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ProtocolError):
            raise HostUnreachable(f"it could not do what was asked: {error}") from error
        if isinstance(error, StorageError):
            raise HostUnreachable(f"the object storage does not do what it should: {error}") from error
