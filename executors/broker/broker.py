"""The broker of one account: it puts the dispatcher's questions to the site in threads, and brings back the answers.

One a run and account, however many profiles name it. ``run`` awaits one leaf; the rest is one loop: ask the dispatcher
what is due, put each question in a thread, sleep until an answer, a new leaf or the time comes. The journal lies in the
run's directory: a broker made on a journal of a dead one joins the jobs that live.

Not here: what to ask and what it means (``dispatcher.py``), how (``remote.py``), what a leaf is (the engine's).

Trap: cancelling the task that awaits ``run`` cancels the job, and waits until the scheduler agrees, unless ``leave``
was called: then the jobs live on for the next session.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dflow_hpc.errors import DflowError, ExecutorError, HostUnreachable
from dflow_hpc.executors.broker import questions as q
from dflow_hpc.executors.broker.dispatcher import Dispatcher
from dflow_hpc.executors.broker.follow import Follower
from dflow_hpc.executors.broker.jobs import State
from dflow_hpc.executors.broker.records import Leaf
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.faults import fault
from dflow_hpc.executors.journal import Journal
from dflow_hpc.executors.profiles.machine import Waits
from dflow_hpc.executors.site import Batch, Bounds, Parcel, Refusal, Site

REMEMBERED = 1000
"""Leaves that are over which a service remembers, as it lives for months."""
_THREADS = 5
"""One for each kind of question."""


@dataclass(slots=True)
class _Waiter:
    """Who awaits a leaf. Thousands do, so the end is kept here, where no cancellation reaches it, without a shield."""

    on_running: Callable[[], None]
    on_notice: Callable[[str], None]
    done: asyncio.Future[None]
    ended: q.Ended | ExecutorError | None = None
    running: bool = False

    def settle(self, ended: q.Ended | ExecutorError) -> None:
        """Note how it ended, the first time."""
        self.ended = self.ended or ended
        if not self.done.done():
            self.done.set_result(None)

    async def until_settled(self) -> None:
        """Wait for that although this task is being cancelled, perhaps more than once."""
        while self.ended is None:
            self.done = asyncio.get_running_loop().create_future()
            with contextlib.suppress(asyncio.CancelledError):
                await self.done


class Broker:
    """Runs leaves as jobs of one account.

    Args:
        name: The machine's, for messages; it grows with the profiles that come.
        site: The machine.
        journal: Its journal; made when it is not there.
        waits: How long to wait for what.
        remembers: How many leaves that are over it, and its journal, remember; None: all. A service lives for months.
        say: Called with what the user should know and belongs to no leaf.
        clock: The time, in seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        site: Site,
        journal: Path,
        *,
        waits: Waits | None = None,
        remembers: int | None = None,
        say: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], float] = time.time,
    ):
        self.name = name
        self._site = site
        self._say = say
        self._clock = clock
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(journal)
        self.dispatcher = Dispatcher(
            waits or Waits(),
            self._journal.records,
            self._journal.append,
            self._journal.flush,
            clock(),
            jitter=random.random,
        )
        self._journal.records.clear()
        self._remembers = remembers
        self._most = 0 if remembers is None else remembers
        """Leaves at which it is time to forget."""
        self._waiters: dict[str, _Waiter] = {}
        self.asked: Counter[str] = Counter()
        """Questions so far, by kind."""
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"machine-{name}")
        self._flying: set[asyncio.Task[None]] = set()
        self._follower = Follower(site.peek, self._running)
        self._poke = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._leaving = False
        self._swept: asyncio.Future[None] | None = None

    async def run(
        self, parcel: Parcel, on_running: Callable[[], None], on_notice: Callable[[str], None] = lambda _text: None
    ) -> q.Ended:
        """Run a leaf to its end, or join the job of it that lives.

        The caller calls ``delivered`` once the outcome is safe.

        Args:
            parcel: What it takes along.
            on_running: Called when it really starts.
            on_notice: Called with what the user should know about it.

        Raises:
            ExecutorError: The broker itself broke.
        """
        waiter = _Waiter(on_running, on_notice, asyncio.get_running_loop().create_future())
        self._waiters[parcel.key] = waiter
        self.dispatcher.want(parcel, self._clock())
        self._wake()
        try:
            await waiter.done
        except asyncio.CancelledError:
            if not self._leaving:
                self.drop(parcel.key)
                await waiter.until_settled()
                self.delivered(parcel.key)
            raise
        finally:
            del self._waiters[parcel.key]
        if isinstance(waiter.ended, ExecutorError):
            raise waiter.ended
        assert waiter.ended is not None  # noqa: S101  for mypy
        return waiter.ended

    def drop(self, key: str) -> None:
        """Cancel a leaf's job; ``run`` returns when the scheduler agrees."""
        self.dispatcher.drop(key, self._clock())
        self._wake()

    def follow(self, key: str) -> None:
        """Bring what a leaf's job prints while it runs, for a while from now on."""
        self._follower.follow(key)

    def place(self, key: str) -> tuple[str, Batch, str, int] | None:
        """Return where a leaf's job runs, as ``RemoteSite.run_inside`` wants it; None where it does not run."""
        leaf = self.dispatcher.leaves.get(key)
        job = leaf.jobs[-1] if leaf is not None and leaf.jobs else None
        if job is None or job.state is not State.RUNNING:
            return None
        batch, taken = self.dispatcher.sent(job)
        return job.token, batch, taken, job.index

    def _running(self, keys: set[str]) -> dict[str, Path]:
        jobs = [self.dispatcher.leaves[key].jobs[-1] for key in keys if key in self.dispatcher.leaves]
        running = [job.token for job in jobs if job.state is State.RUNNING and job.key in self._waiters]
        parcels = self._parcels(running) if not self.dispatcher.paused else {}
        return {token: parcel.root for token, parcel in parcels.items()}

    async def end_all(self) -> None:
        """Cancel every job that nobody waits for, of earlier lives of the run, too; wait until the scheduler agrees."""
        left = [key for key in self.dispatcher.open if key not in self._waiters]
        if not left:
            return
        self._swept = asyncio.get_running_loop().create_future()
        for key in left:
            self.dispatcher.drop(key, self._clock())
        self._wake()
        await self._swept

    def delivered(self, key: str) -> None:
        """Note that the outcome of a leaf is safe: the machine may forget it."""
        fault("broker.before-delivered")
        self.dispatcher.delivered(key)
        leaf = self.dispatcher.leaves.get(key)
        if leaf is not None and leaf.delivered and self._journal.flush():
            self._site.forget([f"{key}-{leaf.delivered}"])

    def leave(self) -> None:
        """Let the jobs live on: what awaits ``run`` is going to be cancelled, and the jobs are not."""
        self._leaving = True

    async def close(self) -> None:
        """Stop asking. Cancel what awaits ``run`` first."""
        self._leaving = True
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        await self._follower.close()
        with contextlib.suppress(ExecutorError):  # what it was to forget there, it forgets by its age
            await asyncio.to_thread(self._site.close)
        if traffic := self._site.traffic():
            kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(self.asked.items()))
            self._say(f"machine {self.name}: {traffic} (asked: {kinds})")
        await asyncio.gather(*self._flying, return_exceptions=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._journal.close()

    # The loop

    def _wake(self) -> None:
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self._work())
        self._poke.set()

    async def _work(self) -> None:
        try:
            while True:
                self._poke.clear()
                self._forget()
                for question in self.dispatcher.next(self._clock()):
                    task = asyncio.create_task(self._put(question))
                    self._flying.add(task)
                    task.add_done_callback(self._flying.discard)
                self._take_events()
                self._journal.flush()
                wake = self.dispatcher.wake(self._clock())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._poke.wait(), None if wake is None else max(0.01, wake - self._clock()))
        except BaseException as error:  # nobody would end the waits any more, not even of those who are cancelled
            self._break(error)
            raise

    def _forget(self) -> None:
        if self._remembers is not None and len(self.dispatcher.leaves) > self._most:
            records = self.dispatcher.forget(self._waiters)
            if records is not None:
                self._journal.replace(records)
                self._most = len(self.dispatcher.leaves) + self._remembers

    async def _put(self, question: q.Question) -> None:
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, question)
            self._take(question, answer)
        except HostUnreachable as error:
            self.dispatcher.unreachable(question, str(error), self._clock())
        except DflowError as error:
            self._refused(question, error)
        except Exception as error:
            self._break(error)
            raise
        finally:
            self._poke.set()

    def _ask(self, question: q.Question) -> Any:
        kind = type(question).__name__.lower()
        self.asked[kind] += 1
        fault(f"broker.{kind}.before")
        answer = self._call(question)
        fault(f"broker.{kind}.after")
        return answer

    def _call(self, question: q.Question) -> Any:
        if isinstance(question, q.Learn):
            return self._site.bounds()
        if isinstance(question, q.Submit):
            tokens = [token for batch in question.batches for token in batch.tokens]
            return self._site.submit(question.batches, self._parcels(tokens))
        if isinstance(question, q.LookUp):
            return self._site.look_up(question.batches)
        if isinstance(question, q.Round):
            parcels = {token: self._leaf_parcel(token) for token in question.tokens}
            return self._site.look(question.live, parcels, question.gone)
        if isinstance(question, q.Fetch):
            return self._site.fetch(self._parcels(question.tokens))
        return self._site.cancel(question.items)

    def _leaf_parcel(self, token: str) -> Parcel | None:
        """Return what a job has taken along; None for one that is only to be cancelled."""
        return self.dispatcher.leaves[token.rpartition("-")[0]].parcel

    def _parcels(self, tokens: Iterable[str]) -> dict[str, Parcel]:
        found = {}
        for token in tokens:
            parcel = self._leaf_parcel(token)
            assert parcel is not None  # noqa: S101  a job without one is in no question but a round
            found[token] = parcel
        return found

    def _take(self, question: q.Question, answer: Any) -> None:
        now = self._clock()
        if isinstance(question, q.Learn):
            self.dispatcher.learned(question, answer, now)
        elif isinstance(question, q.Submit | q.LookUp):
            self.dispatcher.submitted(question, answer, now)
        elif isinstance(question, q.Round):
            self.dispatcher.looked(question, answer, now)
        elif isinstance(question, q.Fetch):
            self.dispatcher.fetched(question, answer, now)
        else:
            self.dispatcher.cancelled(question, now)

    def _refused(self, question: q.Question, error: DflowError) -> None:
        """Deal with what waiting will not mend: a wrong profile, an unknown host key, a refused login."""
        if isinstance(question, q.Learn):  # a submission will meet the same, and say it to those whom it concerns
            self.dispatcher.learned(question, Bounds(), self._clock())
            return
        known = any(leaf.jobs and leaf.jobs[-1].state not in (State.NEW, State.SENT) for leaf in self._open())
        if isinstance(question, q.Submit) and (not known or not isinstance(error, ExecutorError)):
            refusal = Refusal(FailureClass.CONFIG, str(error))
            self.dispatcher.submitted(question, {batch.id: refusal for batch in question.batches}, self._clock())
        else:  # jobs live there: they wait until the user has mended it
            self.dispatcher.unreachable(question, str(error), self._clock())

    def _open(self) -> list[Leaf]:
        return [
            leaf for leaf in self.dispatcher.leaves.values() if leaf.jobs and leaf.jobs[-1].state is not State.ENDED
        ]

    def _take_events(self) -> None:
        events, self.dispatcher.events = self.dispatcher.events, []
        for event in events:
            waiter = self._waiters.get(getattr(event, "key", None) or "")
            if isinstance(event, q.Notice):
                if waiter is not None:
                    waiter.on_notice(event.text)
                else:
                    self._say(f"machine {self.name}: {event.text}")
            elif waiter is None:
                continue
            elif isinstance(event, q.Started):
                if not waiter.running:
                    waiter.running = True
                    waiter.on_running()
            else:
                waiter.settle(event)
        if self._swept is not None and not self._swept.done() and not self.dispatcher.open:
            self._swept.set_result(None)

    def _break(self, error: BaseException) -> None:
        closed = isinstance(error, asyncio.CancelledError)
        how = "was closed" if closed else f"broke: {type(error).__name__}: {error}"
        broken = ExecutorError(f"the broker of machine {self.name!r} {how}")
        broken.__cause__ = error
        for waiter in self._waiters.values():
            waiter.settle(broken)
        if self._swept is not None and not self._swept.done():
            self._swept.set_exception(broken)
