"""Many bad days: the dispatcher against a simulated machine that loses, lags and dies, with clients that are killed.

What must hold, whatever is drawn: never two accepted results of one leaf, never a second start while the first may
live, nothing lost, no wrong class; and all of that although the dispatcher forgets leaves, and its journal with it.
"""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dflow_hpc.errors import HostUnreachable
from dflow_hpc.executors.broker import questions as q
from dflow_hpc.executors.broker.dispatcher import Dispatcher
from dflow_hpc.executors.broker.records import fold, unfold
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Limits, Machine, Resources, Waits
from dflow_hpc.executors.site import Parcel
from tests.broker.world import World, open_states

CALM_AFTER = 4_000.0
DAY = 40_000.0
MACHINE = Machine("m", limits=Limits(max_jobs=5))


class Client:
    """Who wants leaves run: it keeps results (as the engine's records) and is killed now and then."""

    def __init__(self, world, random, leaves, pack=1):
        self.world = world
        self.pack = pack
        self.random = random
        self.disk = []  # the journal
        self.results = {}  # what a leaf's record would hold; survives every kill
        self.cancelled = set()
        self.keys = [f"key{number}" for number in range(leaves)]
        self.start()

    def start(self):
        self.unwritten = []
        self.in_flight = []
        self.dispatcher = Dispatcher(
            Waits(), list(self.disk), self.unwritten.append, self.commit, self.world.now, max_array=3
        )
        for key in self.keys:
            if key in self.results:
                self.dispatcher.delivered(key)
            elif key in self.cancelled or (key in self.dispatcher.leaves and self.world.chance(0.05)):
                self.abandon(key)
            else:
                self.dispatcher.want(parcel(key, self.pack), self.world.now)

    def abandon(self, key):
        """The run came to its end in another life, without this leaf: what its job left there must go."""
        self.cancelled.add(key)
        if key in self.dispatcher.leaves:
            self.dispatcher.drop(key, self.world.now)

    def commit(self):
        self.disk += self.unwritten
        self.unwritten.clear()
        return True

    def kill(self):
        self.disk += self.unwritten[: self.random.randint(0, len(self.unwritten))]
        self.start()

    def maybe_forget(self):
        """Forget what is over: the journal begins anew, and what was not written is in it."""
        if self.world.chance(0.1) and (records := self.dispatcher.forget()) is not None:
            assert unfold(fold(records)) == records
            self.disk = records
            self.unwritten.clear()

    def put(self, question):
        """Ask the world; any reply may be lost, and so may the client."""
        world, dispatcher = self.world, self.dispatcher
        try:
            if isinstance(question, q.Submit):
                answer = world.submit(question.batches, {})
            elif isinstance(question, q.LookUp):
                answer = world.look_up(question.batches)
            elif isinstance(question, q.Round):
                answer = world.look(question.live, dict.fromkeys(question.tokens), question.gone)
            elif isinstance(question, q.Fetch):
                answer = world.fetch({token: Path() for token in question.tokens})
            else:
                answer = world.cancel(question.items)
        except HostUnreachable as error:
            dispatcher.unreachable(question, str(error), world.now)
            return
        if world.chance(0.03):
            self.kill()
        elif isinstance(question, q.Submit | q.LookUp):
            dispatcher.submitted(question, answer, world.now)
        elif isinstance(question, q.Round):
            dispatcher.looked(question, answer, world.now)
        elif isinstance(question, q.Fetch):
            dispatcher.fetched(question, answer, world.now)
        else:
            dispatcher.cancelled(question, world.now)

    def take_events(self):
        for event in self.dispatcher.events:
            if isinstance(event, q.Ended):
                self.accept(event)
                if self.world.chance(0.03):
                    self.kill()
                    return
                self.dispatcher.delivered(event.key)
        self.dispatcher.events.clear()

    def accept(self, event):
        assert event.key not in self.results, f"two results of {event.key}"
        self.results[event.key] = event
        if event.job.failure is None:
            run = event.marker.record["run"]
            assert run.token == event.job.token
            assert run.fate in ("ok", "app", "partition")
        elif event.job.failure is FailureClass.CANCELLED:
            assert event.key in self.cancelled
        elif event.job.failure is FailureClass.LOST:
            fates = [run.fate for run in self.world.ledger if run.token == event.job.token]
            assert "ok" not in fates and "app" not in fates, f"lost, but it ended: {fates}"
        elif self.pack > 1 and event.job.failure in (FailureClass.INFRA, FailureClass.PREEMPTED):
            pass  # it may never have begun
        elif event.job.failure is FailureClass.WALLTIME:
            fates = [run.fate for run in self.world.ledger if run.token == event.job.token]
            blamed = ("timeout", "killed") if self.pack > 1 else ("timeout",)  # see the trap of batches.fault_of
            assert fates[-1:] and fates[-1] in blamed, f"it had too little time, and ended with {fates}"
        elif event.job.failure is FailureClass.INFRA:
            assert any(run.declared_dead for run in self.world.ledger if run.token == event.job.token)
        else:
            assert event.job.failure is FailureClass.STAGE_OUT

    def maybe_cancel(self):
        key = self.random.choice(self.keys)
        if self.world.chance(0.02) and key not in self.results and key not in self.cancelled:
            self.cancelled.add(key)
            self.dispatcher.drop(key, self.world.now)


def parcel(key, pack=1):
    return Parcel(key, "step", "wf/step", Resources(pack=pack), {}, "/nowhere", machine=MACHINE)


def live_through(random, leaves, accounting, mute=False, pack=1):
    world = World(random, accounting=accounting, mute=mute)
    client = Client(world, random, leaves, pack)
    end = world.now + DAY
    while world.now < end:
        world.calm = world.now > end - DAY + CALM_AFTER
        for question in client.dispatcher.next(world.now):
            world.advance(world.now + (0.0 if world.calm else random.choice([0.0, 0.1, 30.0])))
            flying = client.dispatcher
            client.put(question)
            if client.dispatcher is not flying:
                break  # killed: what else it would have asked died with it
        client.take_events()
        client.maybe_cancel()
        client.maybe_forget()
        if client.dispatcher.wake(world.now) is None and not client.dispatcher.events:
            break
        world.advance(max(client.dispatcher.wake(world.now) or world.now, world.now + 0.01))
    world.advance(world.now + 5_000)
    assert not world.violations, world.violations
    missing = [key for key in client.keys if key not in client.results and key not in client.cancelled]
    assert not missing, (missing, open_states(client.dispatcher))
    left = [key for key in client.dispatcher.open if key not in client.results]  # of those, the journal may know less
    assert not left, open_states(client.dispatcher)
    alive = {run.token.rpartition("-")[0] for run in world.ledger if run.alive(world.now) and not run.declared_dead}
    assert not alive & client.cancelled, "cancelled, and it runs"
    return world, client


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), leaves=st.integers(1, 7), accounting=st.booleans())
def test_each_leaf_has_one_result_and_never_two_lives(seed, leaves, accounting):
    import random

    live_through(random.Random(seed), leaves, accounting)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), leaves=st.integers(1, 5))
def test_all_can_be_forgotten_and_what_is_wanted_again_gets_tokens_that_none_had(seed, leaves):
    import random

    world, client = live_through(random.Random(seed), leaves, True)
    for key in client.results:
        client.dispatcher.delivered(key)
    records = client.dispatcher.forget()
    assert fold(records).leaves.keys() <= client.cancelled
    again = Dispatcher(Waits(), records, client.unwritten.append, client.commit, world.now, max_array=3)
    for key in client.results:
        again.want(parcel(key), world.now)
    new = {job.token for key in client.results for job in again.leaves[key].jobs}
    assert len(new) == len(client.results)
    assert not new & {run.token for run in world.ledger}


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_no_job_waits_for_ever_for_a_history_that_never_answers(seed):
    import random

    live_through(random.Random(seed), 5, False, mute=True)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), leaves=st.integers(2, 9), pack=st.integers(2, 4), accounting=st.booleans())
def test_leaves_that_share_jobs_have_one_result_each_too(seed, leaves, pack, accounting):
    import random

    live_through(random.Random(seed), leaves, accounting, pack=pack)
