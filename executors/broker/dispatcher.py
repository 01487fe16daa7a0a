"""What to ask a machine next, and what its answers mean: the broker's decisions, without any doing.

``Dispatcher`` holds the jobs of one account. Whoever drives it (``broker.py``; a simulation in the tests) asks
``next`` for questions, puts them to a ``Site``, brings back ``answered`` or ``unreachable``, and takes ``events``.
The time is an argument everywhere.

Each change is a record for the journal, and ``commit`` is called before a submission leaves: a dispatcher made from
the records of a dead one goes on where that one was. ``fault`` names the places at which a test may end the world.

Not here: the life of a job (``jobs.py``), what an answer means for one (``sightings.py``).

Trap: the journal may believe a job alive whose outcome is safe with the engine; ``delivered`` ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from dflow_hpc.executors.broker import batches
from dflow_hpc.executors.broker.jobs import Act, Job, News, State, apply
from dflow_hpc.executors.broker.questions import (
    Cancel,
    Ended,
    Event,
    Fetch,
    Learn,
    LookUp,
    Notice,
    Question,
    Round,
    Started,
    Submit,
)
from dflow_hpc.executors.broker.reasons import Stuck
from dflow_hpc.executors.broker.records import (
    Leaf,
    Record,
    fold,
    note,
    note_batch,
    note_delivered,
    note_paused,
    note_taken,
    unfold,
)
from dflow_hpc.executors.broker.retries import changed, further
from dflow_hpc.executors.broker.sightings import Shown, judged, meaning
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.faults import fault
from dflow_hpc.executors.profiles.machine import Waits
from dflow_hpc.executors.site import (
    Batch,
    Bounds,
    Look,
    Marker,
    Parcel,
    Taken,
    Verdict,
)

_LIVE = frozenset({State.QUEUED, State.RUNNING, State.GONE, State.CANCELLING})
_AWAITED = _LIVE | {State.SENT, State.UNCLEAR, State.UNSEEN}
"""States in which the machine may have the job, and a marker may turn up."""
_UNTOLD = frozenset({State.QUEUED, State.RUNNING, State.GONE})
"""States in which the scheduler can be asked why it told a job to end."""
_ARRAY = 1000
"""Members of one array where the scheduler does not say how many it takes: Slurm's default."""
_AGAIN = 10
"""Pauses after a refusal until it is found out anew how much the scheduler takes."""
_FETCHES = 5
"""Times that large outputs are asked for before it is given up."""


class Dispatcher:
    """The jobs of one account on a machine.

    Args:
        waits: How long to wait for what.
        records: What the journal has from earlier lives.
        append: Takes each new record.
        commit: Brings the records to where they survive this process; returns whether that worked.
        now: Seconds since the epoch.
        max_array: Members of one array; None asks the machine first.
        jitter: Returns a number in [0, 1).
    """

    def __init__(
        self,
        waits: Waits,
        records: Iterable[Record],
        append: Callable[[Record], object],
        commit: Callable[[], bool],
        now: float,
        *,
        max_array: int | None = None,
        jitter: Callable[[], float] | None = None,
    ):
        self._waits = waits
        self._append = append
        self._commit = commit
        self.max_array = max_array
        self.rhythm = batches.Rhythm(waits.fast, waits.steady, waits.slowest, jitter)
        self._jobs: dict[str, Job] = {}
        """Those that have not ended, by token."""
        self._markers: dict[str, Marker] = {}
        self._tries: dict[str, int] = {}
        self._look_ups: set[str] = set()
        self._fetches: set[str] = set()
        self._cancels: set[str] = set()
        self._cancelled: dict[str, float] = {}
        self._agreed = 0
        self._stuck = Stuck(waits.stuck)
        self._room = batches.Room(_AGAIN * waits.throttled)
        self._asked: set[type] = set()
        self._not_before: dict[type, float] = {}
        self._next_round = now
        self.paused: str = ""
        """Why the machine cannot be asked at the moment, if so."""
        self._resume_at = now
        self.events: list[Event] = []
        self._known = fold(records)
        self.leaves, self.batches, self._ids = self._known.leaves, self._known.batches, self._known.ids
        self._recover(now)

    # What is wanted

    def want(self, parcel: Parcel, now: float) -> None:
        """Run a leaf, or join the attempt of it that lives; an outcome that was not delivered is told again."""
        leaf = self.leaves.setdefault(parcel.key, Leaf(parcel.key))
        leaf.parcel, leaf.wanted = parcel, True
        job = leaf.jobs[-1] if leaf.jobs else None
        if job is None or leaf.over:
            self._new(leaf, now)
        elif job.state is State.ENDED:
            self._tell_end(leaf, job, now)
        else:
            self._next_round = min(self._next_round, now)
            if job.state is State.RUNNING:
                self.events.append(Started(leaf.key, job.started))

    def drop(self, key: str, now: float) -> None:
        """Cancel a leaf; its end is told as any other."""
        leaf = self.leaves[key]
        leaf.wanted = False
        if leaf.jobs:
            self._tell(leaf.jobs[-1], News.CANCEL, now, reason="cancelled")

    def delivered(self, key: str) -> None:
        """Note that the outcome of a leaf's last attempt is safe.

        An earlier life may have been killed after it had made it safe and before the journal knew of the end: then it
        ends here. Else it would count as a job of the machine for ever.
        """
        leaf = self.leaves.get(key)
        job = leaf.jobs[-1] if leaf is not None and leaf.jobs else None
        if leaf is not None and job is not None and leaf.delivered < job.attempt:
            if job.state is not State.ENDED:
                job.state = State.ENDED
                self._append(note(job))
                self._leave(job)
            leaf.delivered = job.attempt
            self._append(note_delivered(job.token))
            self._markers.pop(job.token, None)

    def forget(self, keep: Collection[str] = ()) -> list[Record] | None:
        """Forget leaves that are over, but for those of these keys; return the records that say what is left.

        One that is wanted again runs anew, as it would have anyway, with tokens that none of the forgotten ones had.

        Returns:
            None while a question is in flight: its answer may name any leaf.
        """
        if self._asked:
            return None
        self._known.forget(
            [leaf.key for leaf in self.leaves.values() if leaf.told and leaf.key not in keep], self._look_ups
        )
        tokens = {job.token for leaf in self.leaves.values() for job in leaf.jobs}
        notes: tuple[dict[str, Any], ...] = (self._markers, self._tries, self._cancelled)
        for noted in notes:
            for token in noted.keys() - tokens:
                del noted[token]
        self._known.paused = self.paused
        return unfold(self._known)

    # What to ask

    def next(self, now: float) -> list[Question]:
        """Return the questions that are due; each kind is in flight once at most."""
        self._pauses(now)
        if now < self._resume_at:
            return []
        if self.max_array is None:
            if Learn in self._asked or not self._jobs:
                return []
            self._asked.add(Learn)
            return [Learn()]
        found: list[Question] = []
        for kind, make in (
            (Submit, self._submission),
            (LookUp, self._look_up),
            (Cancel, self._cancellation),
            (Fetch, self._fetching),
            (Round, self._round),
        ):
            if kind not in self._asked and now >= self._not_before.get(kind, 0.0):
                question = make(now)
                if question is not None:
                    self._asked.add(kind)
                    found.append(question)
        return found

    def wake(self, now: float) -> float | None:
        """Return when ``next`` may have something new without any answer; None if never."""
        if self.max_array is None:
            return None if Learn in self._asked or not self._jobs else max(now, self._resume_at)
        times = []
        if Submit not in self._asked:
            ready = batches.ready_at(self._fitting(now), self._waits.quiet, self._waits.longest)
            times += [] if ready is None else [max(ready, self._not_before.get(Submit, 0.0))]
        for kind, due in ((LookUp, self._look_ups), (Cancel, self._cancels), (Fetch, self._fetches)):
            if due and kind not in self._asked:
                times.append(self._not_before.get(kind, 0.0))
        if Round not in self._asked and self._awaited():
            times.append(self._next_round)
        times += [job.since + wait for job in self._jobs.values() if (wait := self._pause_of(job)) is not None]
        return max(min(times), self._resume_at, now) if times else None

    def _pauses(self, now: float) -> None:
        for job in list(self._jobs.values()):
            wait = self._pause_of(job)
            if wait is not None and now >= job.since + wait:
                self._tell(job, News.PAUSE_OVER, now)

    def _pause_of(self, job: Job) -> float | None:
        if job.state is State.HELD:
            return self._waits.throttled
        return self._waits.look_up if job.state is State.UNSEEN and job.batch not in self._look_ups else None

    def _sent(self) -> list[tuple[Batch, int]]:
        return [(self.batches[job.batch], job.index) for job in self._jobs.values() if job.state in _AWAITED]

    def _fitting(self, now: float) -> list[Job]:
        """Return those in our own queue that the limits of their profiles let go now."""
        new = [(job, parcel) for job in self._jobs.values() if job.state is State.NEW and (parcel := self._parcel(job))]
        return batches.fitting(new, self._sent(), self._room.jobs(now))

    def _submission(self, now: float) -> Submit | None:
        waiting = self._fitting(now)
        ready = batches.ready_at(waiting, self._waits.quiet, self._waits.longest)
        if ready is None or now < ready:
            return None
        parcels = {job.key: changed(parcel, job) for job in waiting if (parcel := self._parcel(job)) is not None}
        made = batches.group(waiting, parcels, self._room.array(self.max_array or 1), now)
        for batch in made:
            self.batches[batch.id] = batch
            self._append(note_batch(batch))
            for index, token in enumerate(batch.tokens):
                job = self._jobs[token]
                job.batch, job.index = batch.id, index
                self._tell(job, News.SEND, now)
        fault("dispatcher.before-commit")
        if not self._commit():  # a full disk: nothing may leave that the journal does not know
            for batch in made:
                self._news(batch, News.NOT_BEGUN, now)
            self._not_before[Submit] = now + self._waits.again
            return None
        fault("dispatcher.after-commit")
        return Submit(tuple(made))

    def _look_up(self, _now: float) -> LookUp | None:
        found = tuple(self.batches[batch] for batch in sorted(self._look_ups))
        self._look_ups.clear()
        return LookUp(found) if found else None

    def _cancellation(self, _now: float) -> Cancel | None:
        members: dict[str, list[int]] = {}
        for token in self._cancels:
            job = self._jobs.get(token)
            if job is not None and job.state is State.CANCELLING:
                members.setdefault(job.batch, []).append(job.index)
        tokens = tuple(self._cancels)
        self._cancels.clear()
        alive = (job for job in self._jobs.values() if job.state in _AWAITED and not job.unwanted)
        wanted = batches.places(alive)
        for batch, places in members.items():
            places[:] = batches.with_mates(self.batches[batch], places, wanted.get(batch, set()))
        items = tuple((self.batches[batch], self._ids[batch], tuple(sorted(found))) for batch, found in members.items())
        return Cancel(items, tokens) if items else None

    def _fetching(self, _now: float) -> Fetch | None:
        found = tuple(token for token in sorted(self._fetches) if token in self._jobs)
        self._fetches.clear()
        return Fetch(found) if found else None

    def _awaited(self) -> list[Job]:
        there = [job for job in self._jobs.values() if job.state in _AWAITED]
        if Submit in self._asked and all(job.state is State.SENT for job in there):
            return []  # the scheduler knows of none of them yet
        return [job for job in there if job.unwanted or self._parcel(job) is not None]

    @property
    def open(self) -> list[str]:
        """Keys of the leaves that have a job which has not ended."""
        return [job.key for job in self._jobs.values()]

    def sent(self, job: Job) -> tuple[Batch, str]:
        """Return the batch of a job that the scheduler has, and the scheduler's id of it."""
        return self.batches[job.batch], self._ids[job.batch]

    def _round(self, now: float) -> Round | None:
        awaited = self._awaited()
        if not awaited or now < self._next_round:
            return None
        live = {job.batch: (self.batches[job.batch], self._ids[job.batch]) for job in awaited if job.state in _LIVE}
        gone = tuple(job.token for job in awaited if job.state is State.GONE)
        return Round(now, tuple(live.values()), tuple(job.token for job in awaited), gone)

    # What the answers mean

    def unreachable(self, question: Question, why: str, now: float) -> None:
        """Note that a question was not answered: the machine pauses, and no job changes but those in flight."""
        self._asked.discard(type(question))
        self._resume_at = now + self._waits.unreachable
        if not self.paused:
            text = f"the machine pauses: {why.rstrip('.')}. No job fails by this; it is asked again soon."
            self.events.append(Notice(text))
            self._append(note_paused(why))
        self.paused = why
        self.put_back(question, now)

    def put_back(self, question: Question, now: float) -> None:
        """Take a question back whose answer will not come."""
        if isinstance(question, Submit):
            for batch in question.batches:
                self._news(batch, News.SILENT, now)
        elif isinstance(question, LookUp):
            self._look_ups |= {batch.id for batch in question.batches}
        elif isinstance(question, Fetch):
            self._fetches |= set(question.tokens)
        elif isinstance(question, Cancel):
            self._cancels |= set(question.tokens)

    def _answer(self, question: Question, now: float) -> None:
        self._asked.discard(type(question))
        if self.paused:
            self.events.append(Notice("the machine answers again."))
            self._append(note_paused(""))
            self.paused = ""
            self._next_round = now

    def learned(self, question: Learn, bounds: Bounds, now: float) -> None:
        """Take the scheduler's limits; a round comes well before it forgets a job that has ended."""
        self._answer(question, now)
        self.max_array = _ARRAY if bounds.max_array is None else max(1, bounds.max_array)
        if bounds.remembered is not None:
            self.rhythm.slowest = min(self.rhythm.slowest, bounds.remembered / 2)

    def submitted(self, question: Submit | LookUp, verdicts: Mapping[str, Verdict], now: float) -> None:
        """Take the answer of a submission or a look-up."""
        self._answer(question, now)
        for batch in question.batches:
            verdict = verdicts.get(batch.id)
            looked_up = isinstance(question, LookUp)
            found = judged(verdict, batch.jobs, looked_up=looked_up)
            if isinstance(verdict, Taken):
                self._ids[batch.id] = verdict.id
                self._append(note_taken(batch.id, verdict.id))
            elif found.news is News.SILENT:
                self._not_before[LookUp] = now + (self._waits.again if looked_up else 0.0)
            self._news(batch, found.news, now, found.failure, found.reason)
            if text := self._room.answered(batch, verdict, self._sent(), now):
                self.events.append(Notice(text))
        self.rhythm.changed(True)
        self._next_round = min(self._next_round, now + self.rhythm.pause(len(self._jobs)))

    def looked(self, question: Round, look: Look, now: float) -> None:
        """Take the answer of a round: markers first, they count more than what the scheduler says."""
        self._answer(question, now)
        before = {token: job.state for token in question.tokens if (job := self._jobs.get(token))}
        for token, marker in look.markers.items():
            self._marked(token, marker, now)
        if look.queue is not None:
            seen = {(sighting.batch, sighting.index): sighting for sighting in look.queue}
            past = {(sighting.batch, sighting.index): sighting for sighting in look.history or ()}
            packs = batches.places(job for job in self._jobs.values() if job.state in _LIVE)
            for token in question.tokens:
                job = self._jobs.get(token)
                if job is not None and job.state in _LIVE and before.get(token) in _LIVE:
                    where = (job.batch, job.index)
                    answered = look.history is not None and token in question.gone
                    shown = Shown(seen.get(where), past.get(where), answered, question.at)
                    self._sighted(job, shown, packs.get(job.batch, ()), now)
            look.notices += self._stuck.notices(self._jobs.values(), now)
        self.events += [Notice(text) for text in look.notices]
        after = {token: job.state if (job := self._jobs.get(token)) else None for token in before}
        self.rhythm.changed(before != after)
        self._next_round = now + self.rhythm.pause(len(self._jobs))

    def _marked(self, token: str, marker: Marker, now: float) -> None:
        job = self._jobs.get(token)
        if job is None:
            return
        self._markers[token] = marker
        if marker.out_of_memory and job.state in _UNTOLD:
            self._tell(job, News.FINAL, now, FailureClass.OOM, "the kernel killed a process of it for memory")
        elif marker.told_to_end and job.state in _UNTOLD:  # why, the scheduler says: see sightings.py
            self._tell(job, News.ABSENT, now)
        else:
            self._take_marker(job, marker, now)

    def _take_marker(self, job: Job, marker: Marker, now: float) -> None:
        self._tell(job, News.MARKER, now)
        if job.state is State.FETCHING and marker.complete:
            self._fetches.discard(job.token)
            self._tell(job, News.FETCHED, now)

    def _sighted(self, job: Job, shown: Shown, unfinished: Collection[int], now: float) -> None:
        if job.since > shown.asked:
            return
        last = shown.last
        if last is not None and job.saw(last.word, last.node, last.expected):
            self._append(note(job))  # other processes read it there
        settled = shown.asked >= self._cancelled.get(job.token, shown.asked) + self._waits.again
        marker = self._markers.get(job.token)
        found = meaning(job, shown, self._waits, self.batches[job.batch], unfinished, marker=marker, settled=settled)
        if found is not None and found.news is News.MARKER and marker is not None:
            self._take_marker(job, marker, now)
        elif found is not None:
            self._tell(job, found.news, now, found.failure, found.reason)

    def fetched(self, question: Fetch, answer: Mapping[str, str], now: float) -> None:
        """Take the answer of a fetch: by token nothing, or what went wrong."""
        self._answer(question, now)
        for token in question.tokens:
            job = self._jobs.get(token)
            wrong = answer.get(token, "its outputs were not among what came")
            if job is None:
                continue
            if not wrong:
                self._tell(job, News.FETCHED, now)
                continue
            self._tries[token] = self._tries.get(token, 0) + 1
            self._not_before[Fetch] = now + self._waits.again
            news = News.SILENT if self._tries[token] < _FETCHES else News.UNFETCHABLE
            self._tell(job, news, now, reason=wrong)

    def cancelled(self, question: Cancel, now: float) -> None:
        """Take the answer of a cancellation: the scheduler was told. It has agreed when the jobs are gone."""
        self._answer(question, now)
        self._cancelled.update((token, now) for token in question.tokens)
        self._next_round = min(self._next_round, now + self._waits.fast)

    # Jobs

    def _new(self, leaf: Leaf, now: float, changes: dict[str, Any] | None = None) -> None:
        number = (leaf.jobs[-1].attempt if leaf.jobs else self._known.forgotten) + 1
        job = Job(f"{leaf.key}-{number}", since=now, changes=changes or {})
        leaf.jobs.append(job)
        self._jobs[job.token] = job
        self._append(note(job))

    def _parcel(self, job: Job) -> Parcel | None:
        leaf = self.leaves.get(job.key)
        return None if leaf is None else leaf.parcel

    def _news(
        self, batch: Batch, news: News, now: float, failure: FailureClass | None = None, reason: str = ""
    ) -> None:
        for token in batch.tokens:
            job = self._jobs.get(token)
            if job is not None and job.batch == batch.id:
                if news is News.ACCEPTED:
                    job.id = self._ids[batch.id]
                self._tell(job, news, now, failure, reason)

    def _tell(self, job: Job, news: News, now: float, failure: FailureClass | None = None, reason: str = "") -> None:
        """Apply news to a job, note the change, and do what the table says."""
        before = job.state
        act = apply(job, news, now, failure, reason)
        if job.state is not before or news is News.CANCEL:
            self._append(note(job))
        if act is Act.LOOK_UP:
            self._look_ups.add(job.batch)
        elif act is Act.FETCH:
            self._fetches.add(job.token)
        elif act is Act.CANCEL:
            self._cancels.add(job.token)
        elif act is Act.ASK_HISTORY:
            self._next_round = min(self._next_round, now + self._waits.fast)
        elif act is Act.TELL_RUNNING:
            self.events.append(Started(job.key, now))
        elif act is Act.DELIVER:
            self._finish(job, now)

    def _leave(self, job: Job) -> None:
        del self._jobs[job.token]
        self._fetches.discard(job.token)
        self._cancels.discard(job.token)

    def _finish(self, job: Job, now: float) -> None:
        self._leave(job)
        leaf = self.leaves[job.key]
        number = len(leaf.jobs)
        changes = further(leaf)
        if changes is not None:
            self._new(leaf, now, changes)
            asks = "".join(f", {name} {value}" for name, value in changes.items())
            why = job.failure.value if job.failure else ""
            text = f"attempt {number} ended with {why} ({job.reason or job.word}); it is tried again{asks}"
            self.events.append(Notice(text, leaf.key))
        elif leaf.parcel is not None:
            self._tell_end(leaf, job, now)
        self._note_agreed(job)

    def _note_agreed(self, job: Job) -> None:
        """Tell once of all jobs that were cancelled, when the scheduler has agreed to the last of them."""
        self._agreed += job.unwanted and bool(job.id)
        if self._agreed and not any(other.unwanted for other in self._jobs.values()):
            jobs = "job is" if self._agreed == 1 else "jobs are"
            self.events.append(Notice(f"{self._agreed} {jobs} cancelled; the scheduler agrees"))
            self._agreed = 0

    def _tell_end(self, leaf: Leaf, job: Job, now: float) -> None:
        """Tell an outcome; one that stands in a marker of which an earlier life knew is read again first."""
        if job.failure is None and job.token not in self._markers:
            self._jobs[job.token] = job
            self._read_again(job, now)
            self._next_round = now
        else:
            self.events.append(Ended(leaf.key, job, self._markers.get(job.token), len(leaf.jobs)))

    def _read_again(self, job: Job, now: float) -> None:
        """Wait for a marker that an earlier life has seen; its job may have ended before its id was known."""
        job.state, job.since = (State.GONE if job.batch in self._ids else State.UNCLEAR), now
        if job.state is State.UNCLEAR:
            self._look_ups.add(job.batch)

    # After a restart

    def _recover(self, now: float) -> None:
        for leaf in self.leaves.values():
            for job in leaf.jobs:
                if job.state is not State.ENDED:
                    self._jobs[job.token] = job
        for job in list(self._jobs.values()):
            if job.state is State.SENT:
                self._tell(job, News.SILENT, now)
            elif job.state is State.UNCLEAR:
                self._look_ups.add(job.batch)
            elif job.state is State.FETCHING:  # what it brought may be half: the marker is still there
                self._read_again(job, now)
            elif job.state is State.CANCELLING:
                self._cancels.add(job.token)
