"""The broker's loop on a site that answers at once: outcomes, cancelling, leaving, a machine that cannot be asked."""

import asyncio
import threading

import pytest

from dflow_hpc.errors import ConfigError, ExecutorError, HostUnreachable
from dflow_hpc.executors import site
from dflow_hpc.executors.broker.broker import Broker
from dflow_hpc.executors.broker.explain import explain
from dflow_hpc.executors.broker.jobs import State
from dflow_hpc.executors.broker.records import fold
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.journal import Reader
from dflow_hpc.executors.profiles.machine import Resources, Waits

QUICK = Waits(
    quiet=0.0, longest=0.0, look_up=0.05, grace=0.1, why=0.2, throttled=0.05, unreachable=0.05, again=0.02, fast=0.02
)


class QuickSite:
    """Jobs run until ``finish`` names them; everything that was asked is noted."""

    def __init__(self):
        self.submitted = []
        self.finished = set()
        self.cancelled = set()
        self.forgotten = []
        self.fail = {}  # name of a question -> errors to raise, one a call
        self.lock = threading.Lock()

    def _ask(self, name):
        with self.lock:
            if self.fail.get(name):
                raise self.fail[name].pop(0)

    def bounds(self):
        return site.Bounds()

    def submit(self, batches, parcels):
        self._ask("submit")
        self.submitted += [token for batch in batches for token in batch.tokens]
        return {batch.id: site.Taken("7") for batch in batches}

    def look_up(self, batches):
        self._ask("look_up")
        here = set(self.submitted)
        return {b.id: site.Taken("7") if here & set(b.tokens) else site.NotBegun() for b in batches}

    def look(self, live, tokens, gone):
        self._ask("look")
        look = site.Look([], [])
        for batch, _ in live:
            for index, token in enumerate(batch.tokens):
                if token in self.finished:
                    look.markers[token] = site.Marker({"rc": 0}, True)
                elif token in self.cancelled:
                    seen = site.Sighting(batch.id, index, False, True, "CANCELLED", FailureClass.CANCELLED)
                    look.queue.append(seen)
                else:
                    look.queue.append(site.Sighting(batch.id, index, True, False, "RUNNING"))
        return look

    def fetch(self, tokens):
        raise AssertionError("all outputs are small here")

    def peek(self, tokens):
        pass

    def cancel(self, items):
        self._ask("cancel")
        self.cancelled |= {batch.tokens[index] for batch, _, members in items for index in members}

    def forget(self, tokens):
        self.forgotten += tokens

    def traffic(self):
        return ""

    def bytes(self):
        return site.Bytes()

    def close(self):
        pass


@pytest.fixture
def parcel(tmp_path):
    return lambda key: site.Parcel(key, "step", "wf/step", Resources(), {}, str(tmp_path))


def broker_on(machine, tmp_path, said=None):
    say = (lambda _: None) if said is None else said.append
    return Broker("m", machine, tmp_path / "journal.jsonl", waits=QUICK, say=say)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def within(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_a_leaf_runs_once_and_is_forgotten_there_when_its_outcome_is_safe(tmp_path, parcel):
    machine, told = QuickSite(), []

    async def scenario():
        broker = broker_on(machine, tmp_path)
        task = asyncio.create_task(broker.run(parcel("k"), lambda: told.append("runs")))
        await until(lambda: told)
        machine.finished.add("k-1")
        ended = await task
        assert not machine.forgotten
        broker.delivered("k")
        await broker.close()
        return ended

    ended = within(scenario())
    assert (ended.job.token, ended.job.failure, ended.marker.record) == ("k-1", None, {"rc": 0})
    assert machine.submitted == machine.forgotten == ["k-1"]
    assert told == ["runs"]


def test_a_service_forgets_what_is_over_and_never_runs_it_under_an_old_token(tmp_path, parcel):
    machine, journal = QuickSite(), tmp_path / "journal.jsonl"

    def life():
        return Broker("m", machine, journal, waits=QUICK, remembers=3)

    async def ends(broker, key):
        task = asyncio.create_task(broker.run(parcel(key), lambda: None))
        await until(lambda: key in broker.dispatcher.open)
        token = broker.dispatcher.leaves[key].jobs[-1].token
        await until(lambda: token in machine.submitted)
        machine.finished.add(token)
        assert (await task).attempts == 1
        broker.delivered(key)
        return token

    async def scenario():
        broker = life()
        lives_on = asyncio.create_task(broker.run(parcel("alive"), lambda: None))
        tokens = [await ends(broker, f"k{number}") for number in range(40)]
        assert len(broker.dispatcher.leaves) < 10
        broker.leave()
        lives_on.cancel()
        await broker.close()
        assert len(journal.read_bytes().splitlines()) < 80
        broker = life()
        tokens += [await ends(broker, f"k{number}") for number in range(40)]
        assert len(set(tokens)) == 80
        assert [token for token in machine.submitted if token.startswith("alive")] == ["alive-1"]
        assert broker.dispatcher.open == ["alive"]
        await broker.close()

    within(scenario())


def test_cancelling_the_task_cancels_the_job_and_waits_for_the_scheduler(tmp_path, parcel):
    machine = QuickSite()

    async def scenario():
        broker = broker_on(machine, tmp_path)
        task = asyncio.create_task(broker.run(parcel("k"), lambda: None))
        await until(lambda: machine.submitted)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await broker.close()

    within(scenario())
    assert machine.cancelled == {"k-1"}


class Ending(QuickSite):
    """A job that was told to end leaves a marker; ``said`` is what history says then."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def look(self, live, tokens, gone):
        look = site.Look([], None)
        for batch, _ in live:
            look.markers[batch.tokens[0]] = site.Marker({"rc": 143, "signal": 15}, True)
            if gone and self.said is not None:
                look.history = [site.Sighting(batch.id, 0, False, True, "F", self.said[0])]
        return look


@pytest.mark.parametrize(
    ("said", "failure"),
    [((FailureClass.WALLTIME,), FailureClass.WALLTIME), ((None,), None), (None, None)],
    ids=["a limit", "its own end", "silence"],
)
def test_why_a_job_was_told_to_end_the_scheduler_says(tmp_path, parcel, said, failure):
    async def scenario():
        broker = broker_on(Ending(said), tmp_path)
        ended = await broker.run(parcel("k"), lambda: None)
        await broker.close()
        return ended

    ended = within(scenario())
    assert (ended.job.failure, ended.marker.record["rc"]) == (failure, 143)


@pytest.mark.parametrize("clean", [True, False])
def test_a_job_outlives_its_broker_and_the_next_one_joins_it(tmp_path, parcel, clean):
    machine = QuickSite()

    async def first():
        broker = broker_on(machine, tmp_path)
        task = asyncio.create_task(broker.run(parcel("k"), lambda: None))
        await until(lambda: machine.submitted)
        broker.leave()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if clean:
            await broker.close()

    async def second():
        machine.finished.add("k-1")
        broker = broker_on(machine, tmp_path)
        ended = await broker.run(parcel("k"), lambda: None)
        await broker.close()
        return ended

    within(first())
    assert within(second()).job.token == "k-1"
    assert machine.submitted == ["k-1"]
    assert not machine.cancelled


def test_a_machine_that_cannot_be_asked_pauses_and_fails_nothing(tmp_path, parcel):
    machine, said = QuickSite(), []
    machine.fail = {"submit": [HostUnreachable("no route.")] * 3, "look_up": [HostUnreachable("no route.")] * 2}
    machine.finished.add("k-1")

    async def scenario():
        broker = broker_on(machine, tmp_path, said)
        ended = await broker.run(parcel("k"), lambda: None)
        await broker.close()
        return ended

    assert within(scenario()).job.failure is None
    assert machine.submitted == ["k-1"]
    assert "the machine pauses: no route." in said[0]
    assert any("answers again" in text for text in said)


@pytest.mark.parametrize("error", [ConfigError("no such memory"), ExecutorError("host key")])
def test_what_waiting_will_not_mend_ends_a_leaf_that_is_not_there_yet(tmp_path, parcel, error):
    machine = QuickSite()
    machine.fail = {"submit": [error]}

    async def scenario():
        broker = broker_on(machine, tmp_path)
        ended = await broker.run(parcel("k"), lambda: None)
        await broker.close()
        return ended

    ended = within(scenario())
    assert ended.job.failure is FailureClass.CONFIG
    assert str(error) in ended.job.reason


def test_another_process_reads_what_is_known_of_a_leaf(tmp_path, parcel):
    machine = QuickSite()

    async def scenario():
        broker = broker_on(machine, tmp_path)
        task = asyncio.create_task(broker.run(parcel("k"), lambda: None))
        await until(lambda: "k" in broker.dispatcher.leaves)
        await until(lambda: broker.dispatcher.leaves["k"].jobs[0].state is State.RUNNING)
        await asyncio.sleep(0.02)
        found = explain(fold(Reader(tmp_path / "journal.jsonl").read()), "k")
        machine.finished.add("k-1")
        await task
        await broker.close()
        return found

    found = within(scenario())
    [attempt] = found["attempts"]
    assert (attempt["token"], attempt["state"], attempt["id"], attempt["word"]) == ("k-1", "RUNNING", "7", "RUNNING")
    assert found["job_name"] == "k-1.step"
    assert explain(fold(Reader(tmp_path / "journal.jsonl").read()), "other") is None


def test_a_bug_ends_the_wait(tmp_path, parcel):
    machine = QuickSite()
    machine.fail = {"submit": [ZeroDivisionError("bug")]}

    async def scenario():
        broker = broker_on(machine, tmp_path)
        with pytest.raises(ExecutorError, match="bug"):
            await broker.run(parcel("k"), lambda: None)
        await asyncio.gather(broker.close(), return_exceptions=True)

    within(scenario())
