"""A machine that cannot be reached for ten minutes in the middle of a run: what it costs, in real time.

    python tests/campaign/outage.py --seconds 600

Three runs with the usual waits, each on a cluster of its own, against the same ones undisturbed:

- ``calm``: jobs run, and no submission is in flight;
- ``answer``: the answer of a submission is lost with the link;
- ``begun``: a submission dies between its lock and the scheduler, and the link with it: nobody can know, so it is
  looked up twice before it goes again.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import far
from far import Run
from line_kills import Tickets

sys.path.insert(0, str(Path(__file__).parents[1]))
from rig.fixtures import slurm_clusters

from dflow_hpc.compile import Compiled
from dflow_hpc.executors.profiles.machine import Waits

MARGIN = 60
"""Seconds that an outage may cost more than it lasts."""
EXTRA = {"calm": 0, "answer": 0, "begun": Waits().look_up}
WIDTH = 3


def workflow(clusters, name):
    """Return two loops of jobs, one after the other."""

    def loop(step):
        given = {"parameters": [{"name": "n", "value": "{{item}}"}]}
        return [{"name": step, "template": f"add-{name}", "arguments": given, "withSequence": {"count": str(WIDTH)}}]

    (add,) = (made for made in far.shell_templates(clusters, 80) if made["name"] == f"add-{name}")
    templates = [{"name": "main", "steps": [loop("first"), loop("second")]}, add]
    return Compiled(
        {"metadata": {"name": f"outage-{name}"}, "spec": {"entrypoint": "main", "templates": templates}}, None
    )


def until(condition, seconds=300):
    """Wait for something that must come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come within {seconds} s")
        time.sleep(0.2)


class Outage:
    """A run on one cluster, with or without its outage."""

    def __init__(self, directory, cluster, kind, seconds):
        self.cluster = cluster
        self.kind = kind
        self.seconds = seconds
        clusters = {cluster.name: cluster}
        scripts = far.bring_scripts(directory / "profiles", clusters)[cluster.name]
        self.tickets = Tickets(f"{cluster.root}/tickets", cluster.root_here / "tickets")
        self.tickets.wrap(scripts)
        self.runs = [
            Run(directory / f"{kind}-{word}", clusters, workflow(clusters, cluster.name), waits="")
            for word in ("quiet", "cut")
        ]
        self.took = []
        self.problems = []

    def work(self):
        """Do both runs."""
        try:
            for run, disturb in zip(self.runs, (None, getattr(self, self.kind)), strict=True):
                (self.cluster.root_here / "ledger").unlink(missing_ok=True)
                begin = time.monotonic()
                run.revive()
                if disturb is not None:
                    disturb(run)
                    time.sleep(self.seconds)
                    self.cluster.ctl("start", "sshd")
                run.finish(600)
                self.took.append(time.monotonic() - begin)
                self.problems += run.check(self.runs[0].outcome())
                starts = [words for words in run.lines() if words[0] == "start"]
                if len(starts) != 2 * WIDTH:
                    self.problems.append(f"{len(starts)} starts of {2 * WIDTH} leaves")
        except Exception as error:
            self.problems.append(repr(error))
            raise

    @staticmethod
    def _plan(run, **plan):
        run.plan.with_suffix(".new").write_text(far.dumps(plan))
        run.plan.with_suffix(".new").rename(run.plan)
        until((run.base / "hit.json").exists)

    def calm(self, run):
        """Cut while jobs run."""
        until(lambda: sum(words[0] == "start" for words in run.lines()) == WIDTH)
        self._plan(run, point="broker.round.after", skip=0, do="stop", cluster=self.cluster.name)

    def answer(self, run):
        """Cut when the second submission was made and its answer has not come."""
        self._plan(run, point="broker.submit.after", skip=1, do="stop lose", cluster=self.cluster.name)

    def begun(self, run):
        """Let the second submission die before it reaches the scheduler, and cut."""
        until(lambda: sum(words[0] == "start" for words in run.lines()) == WIDTH)
        self.tickets.give("worker", "timeout", "group")
        until(lambda: self.tickets.hit("worker"))
        self.cluster.ctl("stop", "sshd")
        self.cluster.ctl("cut")

    def report(self):
        """Return the figures, and whether they are within the bounds."""
        if len(self.took) < 2:
            return f"{self.kind}: broken: {self.problems}", False
        quiet, cut = self.took
        bound = self.seconds + MARGIN + EXTRA[self.kind]
        words = f"{self.kind:8} undisturbed {quiet:6.1f} s, with {self.seconds} s of outage {cut:6.1f} s: "
        words += f"cost {cut - quiet:6.1f} s (<= {bound:.0f}); problems: {self.problems or 'none'}"
        return words, cut - quiet <= bound and not self.problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--kinds", nargs="+", choices=EXTRA, default=[*EXTRA])
    parser.add_argument("--keep", type=Path, help="work here and leave everything for inspection")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as temporary, slurm_clusters() as clusters:
        directory = options.keep or Path(temporary)
        for pair in ({"calm": "cpu", "answer": "gpu"}, {"begun": "cpu"}):
            chosen = {kind: clusters[name] for kind, name in pair.items() if kind in options.kinds}
            outages = [Outage(directory, cluster, kind, options.seconds) for kind, cluster in chosen.items()]
            threads = [threading.Thread(target=outage.work) for outage in outages]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for words, fine in (outage.report() for outage in outages):
                print(words, flush=True)
                good = good and fine
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
