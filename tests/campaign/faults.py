"""Runs on two real Slurm clusters, disturbed in every way that we know, against an undisturbed one.

    python tests/campaign/faults.py --seed 1 --points 200

One *fault point* is one fault that really happened: a client that died, a link that was cut or an answer that was lost
at a named point (``executors/faults.py``); a script that died at one of its lines; a daemon, a node, a record or room
on a disk that was gone for a while. Several come in one run, one after the other. ``far.py`` says what must hold; a
seed gives the same choices again (when they meet the run is the clusters' affair).

It needs the rigs of Slurm and S3 (root, Debian 12): about 40 minutes for 200 points on two cores.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import far
from far import Run
from line_kills import SCRIPTS, Tickets

sys.path.insert(0, str(Path(__file__).parents[1]))
from rig import s3
from rig.fixtures import slurm_clusters

from dflow_hpc.config import s3_config

ASKED = [
    f"broker.{kind}.{when}" for kind in ("learn", "submit", "lookup", "round", "fetch") for when in ("before", "after")
]
SUBMITTING = ["dispatcher.before-commit", "dispatcher.after-commit", "remote.submit.packed"]
ENDING = ["remote.brought", "machines.before-record", "machines.after-record", "broker.before-delivered"]
PATIENCE = 8
"""Seconds for which a planned fault may wait for its point; then another one is chosen."""
FAULTS_A_RUN = 14
SECONDS_TO_END = 240


class Disturber:
    """Injects faults into one run.

    Args:
        run: The run.
        clusters: The rig's.
        tickets: Of each cluster; see ``line_kills.py``.
    """

    def __init__(self, run, clusters, tickets):
        self.run = run
        self.clusters = clusters
        self.tickets = tickets

    def inject(self, rng, kinds):
        """Choose a fault and inject it; return its kind, what it was, and whether it happened."""
        kind = rng.choices(kinds, [KINDS[kind][0] for kind in kinds])[0]
        cluster = self.clusters[rng.choice(sorted(self.clusters))]
        words, happened = KINDS[kind][1](self, rng, cluster)
        return kind, words, happened

    # At named points of the client

    def _planned(self, point, skip, do, **more):
        """Plan a fault, and wait until it happened."""
        plan, hit = self.run.plan, self.run.base / "hit.json"
        new = plan.with_suffix(".new")
        new.write_text(
            far.dumps({"point": point, "skip": skip, "do": do, "at": time.time(), "clusters": far.CLUSTER_OF, **more})
        )
        new.rename(plan)
        self.run.revive()
        deadline = time.monotonic() + PATIENCE
        while not hit.exists() and time.monotonic() < deadline and self.run.client.poll() is None:
            time.sleep(0.05)
        plan.unlink(missing_ok=True)
        if not hit.exists():
            return f"{do} at {point}", False
        hit.unlink()
        if "kill" in do:
            self.run.client.wait(30)
        return f"{do} at {point}", True

    def killed(self, rng, _cluster):
        return self._planned(rng.choice(ASKED + SUBMITTING + ENDING), rng.randrange(3), "kill")

    def killed_any_time(self, rng, _cluster):
        self.run.revive()
        time.sleep(rng.uniform(0.5, 3))
        if self.run.client.poll() is not None:
            return "kill", False
        self.run.client.kill()
        self.run.client.wait(30)
        return "kill", True

    def lost(self, rng, _cluster):
        return self._planned(rng.choice(ASKED), rng.randrange(2), "lose")

    def cut_there(self, rng, cluster):
        return self._planned(
            rng.choice([*ASKED, "remote.submit.packed"]), rng.randrange(2), "cut", cluster=cluster.name
        )

    def cut_during(self, rng, _cluster):
        """The link breaks while a question is under way."""
        point = rng.choice([point for point in ASKED if point.endswith("before")] + ["remote.submit.packed"])
        return self._planned(point, rng.randrange(2), "cut_soon")

    def lost_and_killed(self, rng, _cluster):
        """The answer of a submission is lost, then the client dies while it looks it up."""
        words, happened = self._planned("broker.submit.after", rng.randrange(2), "lose")
        if not happened:
            return words, False
        second, _ = self._planned(rng.choice(["broker.lookup.before", "broker.lookup.after"]), 0, "kill")
        return f"{words}, then {second}", True

    def cut_and_killed(self, rng, cluster):
        points = [*(point for point in ASKED if point.endswith("after")), "remote.submit.packed"]
        return self._planned(rng.choice(points), rng.randrange(2), "cut kill", cluster=cluster.name)

    def quota(self, _rng, _cluster):
        """The quota is used up just before a submission, for a while."""
        words, happened = self._planned("remote.submit.packed", 0, "fill", machine="tight", cluster="cpu")
        if happened:
            time.sleep(3)
            self.clusters["cpu"].ctl("free")
        return words, happened

    # In the scripts

    def line(self, rng, cluster):
        """A script dies at one of its lines."""
        tickets = self.tickets[cluster.name]
        script = rng.choice([*SCRIPTS, "worker", "member", "member"])
        at, whom = int(rng.random() * tickets.lines[script]) + 1, rng.choice(["alone", "group"])
        if script == "member":
            self.run.excused.add("LOST")
        self.run.revive()
        tickets.give(script, at, whom)
        deadline = time.monotonic() + PATIENCE
        happened = False
        while not happened and time.monotonic() < deadline and self.run.client.poll() is None:
            time.sleep(0.1)
            happened = tickets.hit(script)
        happened = tickets.withdraw(script) or happened
        return f"{script} on {cluster.name} at {at} ({whom})", happened

    # Of the machine

    def _for_a_while(self, rng, cluster, off, on, seconds):
        self.run.revive()
        time.sleep(rng.uniform(0, 2))
        for words in off:
            cluster.ctl(*words)
        time.sleep(rng.uniform(*seconds))
        for words in on:
            cluster.ctl(*words)
        return f"{' '.join(off[0])} on {cluster.name}", True

    def link(self, rng, cluster):
        return self._for_a_while(rng, cluster, [("cut",)], [], (0, 1))

    def sshd(self, rng, cluster):
        return self._for_a_while(rng, cluster, [("stop", "sshd"), ("cut",)], [("start", "sshd")], (2, 5))

    def controller_stops(self, rng, cluster):
        return self._for_a_while(rng, cluster, [("stop", "slurmctld")], [("start", "slurmctld")], (1, 5))

    def controller_hangs(self, rng, cluster):
        return self._for_a_while(rng, cluster, [("pause", "slurmctld")], [("resume", "slurmctld")], (2, 6))

    def node_hangs(self, rng, cluster):
        """A node does not answer for a while; its jobs go on."""
        node = rng.choice(cluster.nodes)
        self.run.revive()
        cluster.ctl("pause", "slurmd", host=node)
        time.sleep(rng.uniform(2, 5))
        cluster.ctl("resume", "slurmd", host=node)
        return f"pause slurmd on {node}", True

    def slow(self, rng, cluster):
        return self._for_a_while(rng, cluster, [("slow", "1.5")], [("slow", "0")], (3, 6))

    def database(self, rng, _cluster):
        cpu = self.clusters["cpu"]
        return self._for_a_while(rng, cpu, [("stop", "slurmdbd")], [("start", "slurmdbd")], (3, 6))

    def purge(self, rng, cluster):
        self.run.excused.add("LOST")  # of jobs that left no marker nothing is known any more
        return self._for_a_while(rng, cluster, [("purge",)], [], (0, 1))

    def node(self, rng, cluster):
        """A node with jobs loses its power, and comes back."""
        self.run.revive()
        deadline = time.monotonic() + PATIENCE
        while not (busy := sorted(set(cluster.ok("squeue -h -t R -u $USER -o %N").split()))):
            if time.monotonic() > deadline:
                return "crash", False
            time.sleep(0.3)
        node = rng.choice(busy)
        self.run.excused |= {"INFRA", "LOST"}
        cluster.ctl("crash", host=node)
        time.sleep(rng.uniform(0, 3))
        cluster.ctl("boot", host=node)
        return f"crash {node}", True


KINDS = {
    "client killed at a named point": (22, Disturber.killed),
    "client killed at any time": (6, Disturber.killed_any_time),
    "question or answer lost": (12, Disturber.lost),
    "submission lost, then killed": (6, Disturber.lost_and_killed),
    "links cut at a named point": (10, Disturber.cut_there),
    "links cut during a question": (10, Disturber.cut_during),
    "links cut and client killed": (8, Disturber.cut_and_killed),
    "script killed at a line": (40, Disturber.line),
    "links cut at any time": (4, Disturber.link),
    "sshd stopped": (4, Disturber.sshd),
    "slurmctld stopped": (4, Disturber.controller_stops),
    "slurmctld hangs": (3, Disturber.controller_hangs),
    "slurmd hangs": (3, Disturber.node_hangs),
    "Slurm is slow": (3, Disturber.slow),
    "slurmdbd stopped": (2, Disturber.database),
    "records purged": (3, Disturber.purge),
    "node crashed": (4, Disturber.node),
    "quota used up": (4, Disturber.quota),
}
"""Each with its weight."""


class Campaign:
    """Disturbs so many times, in as many runs as that takes."""

    def __init__(self, directory, clusters, *, seed, points, kinds):
        self.directory = directory
        self.clusters = clusters
        self.seed = seed
        self.wanted = points
        self.kinds = kinds
        self.drawn = 0
        self.points = Counter()
        self.missed = Counter()
        self.suspects = Counter()
        """Runs with problems, by the kinds of faults that were in them."""
        self.problems = []

    def work(self):
        """Do it all; return whether nothing was wrong."""
        tickets = {name: Tickets(f"{c.root}/tickets", c.root_here / "tickets") for name, c in self.clusters.items()}
        for name, scripts in far.bring_scripts(self.directory / "profiles", self.clusters).items():
            if name != "tight":  # its file system cannot be seen from this side
                tickets[far.CLUSTER_OF[name]].wrap(scripts)
        compiled = far.workflow(self.clusters)
        begin = time.monotonic()
        quiet = Run(self.directory / "quiet", self.clusters, compiled)
        quiet.finish(SECONDS_TO_END)
        problems = quiet.check()
        expected = quiet.outcome()
        print(f"undisturbed: {time.monotonic() - begin:.0f} s, {len(expected['nodes'])} nodes", *problems, flush=True)
        if problems:
            self.problems = problems
            return False
        number = 0
        while self.points.total() < self.wanted:
            number += 1
            run = Run(self.directory / f"run{number}", self.clusters, compiled)
            self._disturb(number, run, Disturber(run, self.clusters, tickets), expected)
        return not self.problems

    def _disturb(self, number, run, disturber, expected):
        begin, done = time.monotonic(), []
        while len(done) < FAULTS_A_RUN and self.points.total() < self.wanted and run.revive():
            self.drawn += 1
            kind, words, happened = disturber.inject(random.Random(f"{self.seed}:{self.drawn}"), self.kinds)
            (self.points if happened else self.missed)[kind] += 1
            if happened:
                done.append((kind, words))
        run.finish(SECONDS_TO_END)
        problems = run.check(expected)
        for cluster in self.clusters.values():
            cluster.heal()
        if problems:
            self.suspects.update({kind for kind, _ in done})
            print(f"run {number}: {[words for _, words in done]}")
            for problem in problems:
                print(f"run {number}: {problem}")
        self.problems += problems
        seconds = time.monotonic() - begin
        print(f"run {number}: {len(done)} points in {seconds:.0f} s, {len(problems)} problems", flush=True)

    def table(self):
        """Return what happened, by kind."""
        lines = [f"{'fault':34}{'points':>8}{'not met':>9}{'in runs with problems':>23}"]
        for kind in KINDS:
            lines.append(f"{kind:34}{self.points[kind]:>8}{self.missed[kind]:>9}{self.suspects[kind]:>23}")
        lines.append(f"{'all':34}{self.points.total():>8}{self.missed.total():>9}")
        return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--only", default="", help="only the kinds of faults whose names contain this")
    parser.add_argument("--keep", type=Path, help="work here and leave everything for inspection")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.only in kind]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as temporary, slurm_clusters() as clusters, s3.serving() as settings:
        os.environ.update(s3.environment(settings))  # for the clients; here they were read already
        s3_config.update(settings)
        directory = options.keep or Path(temporary)
        campaign = Campaign(directory, clusters, seed=options.seed, points=options.points, kinds=kinds)
        good = campaign.work()
    print(campaign.table())
    print(f"seed {options.seed}, {campaign.points.total()} points: {len(campaign.problems)} problems")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
