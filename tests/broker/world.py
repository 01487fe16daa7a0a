"""A simulated machine: scheduler, file system, nodes and a bad line, under a clock that only the test moves.

It answers a ``Site``'s questions as the protocol's scripts would, loses replies, lags, purges, reuses ids, requeues,
kills nodes (some go on, partitioned), and keeps a ledger of what really ran.
"""

from dataclasses import dataclass, field

from dflow_hpc.errors import HostUnreachable
from dflow_hpc.executors import site
from dflow_hpc.executors.broker.jobs import State
from dflow_hpc.executors.failures import FailureClass

_FINAL = {
    "NODE_FAIL": FailureClass.INFRA,
    "CANCELLED": FailureClass.CANCELLED,
    "TIMEOUT": FailureClass.WALLTIME,
}


@dataclass
class Execution:
    """A process of a leaf that really ran."""

    token: str
    job: tuple
    start: float
    end: float
    fate: str  # ok | app | killed (no marker) | crash (node) | partition (goes on)
    declared_dead: bool = False
    stopped: float | None = None

    def alive(self, now):
        return now < (self.end if self.stopped is None else self.stopped)


@dataclass
class Job:
    """One member in the scheduler."""

    id: int
    batch: str
    index: int
    token: str
    submitted: float
    begins: float
    state: str = "PENDING"
    gone: float | None = None
    run: Execution | None = None
    pack: int = 1
    """Members that are one job, one after the other."""


@dataclass
class World:
    """The machine.

    Args:
        random: Draws every fault.
        accounting: Whether the scheduler has one.
    """

    random: object
    accounting: bool = True
    mute: bool = False
    """Whether its history is never answered."""
    now: float = 1_000_000.0
    calm: bool = False
    """No more faults: what is left must come to its end."""
    purge: float = 60.0
    jobs: list = field(default_factory=list)
    ledger: list = field(default_factory=list)
    locks: dict = field(default_factory=dict)  # batch -> "begun" | "fenced" | id
    refusals: dict = field(default_factory=dict)
    claims: dict = field(default_factory=dict)  # token -> job
    current: dict = field(default_factory=dict)  # key -> token
    revoked: set = field(default_factory=set)
    markers: dict = field(default_factory=dict)  # token -> (visible at, record)
    late: list = field(default_factory=list)  # detached submissions that take effect later
    ids: int = 0
    violations: list = field(default_factory=list)
    commands: int = 0

    # Time

    def advance(self, until):
        """Let things happen up to a moment."""
        while True:
            events = [t for t, _ in self.late if t <= until]
            for job in self.jobs:
                if job.state == "PENDING" and job.begins <= until:
                    events.append(job.begins)
                elif job.state == "RUNNING" and job.run is not None and job.run.end <= until:
                    events.append(job.run.end)
            loose = [run for run in self.ledger if run.fate == "partition" and run.stopped is None and run.end <= until]
            events += [run.end for run in loose]
            if not events:
                break
            self.now = max(self.now, min(events))
            for entry in [entry for entry in self.late if entry[0] <= self.now]:
                self.late.remove(entry)
                entry[1]()
            for job in list(self.jobs):
                if job.state == "PENDING" and job.begins <= self.now:
                    self._start(job)
                elif job.state == "RUNNING" and job.run.end <= self.now:
                    self._end(job)
            for run in loose:
                if run.end <= self.now and run.stopped is None:
                    run.stopped = run.end
                    self._publish(run)
        self.now = max(self.now, until)
        for job in self.jobs:
            if job.gone is not None and job.gone + self.purge < self.now and job.state != "PURGED":
                job.state = job.state if self.accounting else "PURGED"

    def chance(self, share):
        return not self.calm and self.random.random() < share

    # The scheduler

    def _mates(self, job):
        """Return the members that are one job with this one, in order."""
        if job.pack == 1:
            return [job]
        same = (job.batch, job.id, job.submitted, job.index // job.pack)
        return [
            other for other in self.jobs if (other.batch, other.id, other.submitted, other.index // job.pack) == same
        ]

    def _over(self, job, state):
        """End a member; in a pack the next one begins, unless the whole job is at its end."""
        job.state, job.gone = state, self.now
        for mate in self._mates(job):
            if mate.state == "PENDING" and mate.index > job.index:
                if state in ("COMPLETED", "FAILED"):
                    mate.begins = self.now
                    return
                mate.state, mate.gone = state, self.now

    def _start(self, job):
        if self.current.get(job.token.rpartition("-")[0], job.token) != job.token or job.token in self.revoked:
            self._over(job, "COMPLETED")  # fenced
            return
        mine = (job.id, job.index, job.submitted)
        if self.claims.setdefault(job.token, mine) != mine:
            self._over(job, "COMPLETED")
            return
        key = job.token.rpartition("-")[0]
        for other in self.ledger:
            if other.token.rpartition("-")[0] == key and other.alive(self.now) and not other.declared_dead:
                self.violations.append(f"{job.token} started at {self.now} while {other.token} lives")
        fate = "ok"
        if not self.calm:
            draw = self.random.random()
            fate = next(
                (
                    name
                    for name, share in (
                        ("app", 0.1),
                        ("killed", 0.15),
                        ("crash", 0.2),
                        ("partition", 0.25),
                        ("requeue", 0.3),
                        ("timeout", 0.35 if job.pack > 1 else 0.0),
                    )
                    if draw < share
                ),
                "ok",
            )
        length = self.random.choice([1.0, 5.0, 60.0, 400.0])
        job.run = Execution(job.token, mine, self.now, self.now + length, fate)
        job.state = "RUNNING"
        self.ledger.append(job.run)

    def _end(self, job):
        run = job.run
        if run.fate in ("ok", "app"):
            run.stopped = self.now
            self._publish(run)
            self._over(job, "COMPLETED" if run.fate == "ok" else "FAILED")
        elif run.fate in ("killed", "timeout"):
            run.stopped = self.now
            self._over(job, "FAILED" if run.fate == "killed" else "TIMEOUT")
        elif run.fate == "requeue":  # the node died, the scheduler starts it again under its id
            run.stopped = self.now
            job.state, job.begins, job.run = "PENDING", self.now + 30, None
        else:
            run.declared_dead = True
            self._over(job, "NODE_FAIL")
            if run.fate == "crash":
                run.stopped = self.now
            else:
                run.end = self.now + self.random.choice([1.0, 100.0, 1000.0])  # goes on, unseen

    def _publish(self, run):
        if self.current[run.token.rpartition("-")[0]] != run.token or run.token in self.revoked:
            return
        lag = 0.0 if self.calm else self.random.choice([0.0, 0.0, 20.0])
        self.markers[run.token] = (self.now + lag, {"rc": int(run.fate == "app"), "run": run})

    def _accept(self, batch):
        self.ids = self.ids % 7 + 1  # ids come again
        while any(job.id == self.ids and job.gone is None for job in self.jobs):
            self.ids += 1
        for index, token in enumerate(batch.tokens):
            begins = self.now + self.random.choice([0, 1, 30]) if index % batch.pack == 0 else float("inf")
            self.jobs.append(Job(self.ids, batch.id, index, token, self.now, begins, pack=batch.pack))
        return self.ids

    # The site

    def _line(self):
        self.commands += 1
        if self.chance(0.1):
            raise HostUnreachable("lost before")

    def _reply(self, answer):
        if self.chance(0.1):
            raise HostUnreachable("reply lost")
        return answer

    def submit(self, batches, parcels):
        self._line()
        return self._reply({batch.id: self._submit(batch) for batch in batches})

    def _submit(self, batch):
        state = self.locks.get(batch.id)
        if state is not None:
            return self._recorded(batch)
        for token in batch.tokens:
            self.current[token.rpartition("-")[0]] = token
        if self.chance(0.1):
            self.refusals[batch.id] = site.Refusal(FailureClass.THROTTLED, "too many")
            self.locks[batch.id] = "refused"
            return self.refusals[batch.id]
        self.locks[batch.id] = "begun"
        draw = 1.0 if self.calm else self.random.random()
        if draw < 0.1:  # the machine died in it: nothing was accepted
            return site.Unknown("cut")
        if draw < 0.2:  # accepted, but the id was never written
            self._accept(batch)
            return site.Unknown("cut")
        if draw < 0.3:  # slow: accepted after the answer
            self.late.append((self.now + 20, lambda: self.locks.__setitem__(batch.id, self._accept(batch))))
            return site.Unknown("slow")
        self.locks[batch.id] = self._accept(batch)
        return site.Taken(str(self.locks[batch.id]))

    def _recorded(self, batch):
        state = self.locks[batch.id]
        if state == "fenced":
            return site.NotBegun()
        if state == "refused":
            return self.refusals[batch.id]
        return site.Unknown() if state == "begun" else site.Taken(str(state))

    def look_up(self, batches):
        self._line()
        return self._reply({batch.id: self._look_up(batch) for batch in batches})

    def _look_up(self, batch):
        if batch.id not in self.locks:
            self.locks[batch.id] = "fenced"
            return site.NotBegun()
        found = self._recorded(batch)
        if not isinstance(found, site.Unknown):
            return found
        if self.chance(0.2):
            return site.Unknown("the scheduler is silent")
        named = [job for job in self.jobs if job.batch == batch.id and job.state != "PURGED"]
        return site.Taken(str(named[0].id)) if named else site.NoTrace()

    def look(self, live, tokens, gone):
        self._line()
        look = site.Look(None, None)
        for token in tokens:
            seen, record = self.markers.get(token, (None, None))
            if seen is not None and seen <= self.now:
                look.markers[token] = site.Marker(record, not self.chance(0.3))
        if not self.chance(0.1):
            shown = [
                job
                for job in self.jobs
                if (left := self._gone(job)) is None or (left + self.purge > self.now and job.state != "PURGED")
            ]
            mine = {(batch.id, taken) for batch, taken in live}
            look.queue = [self._sight(job) for job in shown if (job.batch, str(job.id)) in mine]
            if not self.mute and not self.chance(0.2):
                told = [job for job in self.jobs if self.accounting and job.submitted + 3 < self.now]
                look.history = [
                    self._sight(job) for job in told if job.token in gone and (job.batch, str(job.id)) in mine
                ]
        return self._reply(look)

    def _gone(self, job):
        """Return when the job of a member left the queue; None: it did not yet."""
        gone = [mate.gone for mate in self._mates(job)]
        return None if None in gone else max(gone)

    def _sight(self, job):
        states = [mate.state for mate in self._mates(job)]
        state = job.state
        if len(states) > 1 and self._gone(job) is None:
            state = "PENDING" if set(states) == {"PENDING"} else "RUNNING"
        elif len(states) > 1:
            state = next((word for word in states if word in _FINAL), "COMPLETED")
        ended = state not in ("PENDING", "RUNNING")
        return site.Sighting(job.batch, job.index, state == "RUNNING", ended, state, _FINAL.get(state))

    def fetch(self, tokens):
        self._line()
        return self._reply({token: ("broken pipe" if self.chance(0.2) else "") for token in tokens})

    def cancel(self, items):
        self._line()
        for batch, _id, members in items:
            self.revoked.update(batch.tokens[index] for index in members)
            for job in self.jobs:
                whole = {*batch.leaves(job.index // batch.pack)} <= {*members}
                if job.batch == batch.id and whole and job.gone is None:
                    job.state, job.gone = "CANCELLED", self.now
                    if job.run is not None:
                        job.run.stopped = self.now
                        job.run.end = min(job.run.end, self.now)
        self._reply(None)


def open_states(dispatcher):
    """Return the states of a dispatcher's jobs that have not ended, for a message."""
    return [
        (job.token, job.state.name)
        for leaf in dispatcher.leaves.values()
        for job in leaf.jobs
        if job.state is not State.ENDED
    ]
