"""Many pods at once on one virtual node, and kills of all that it rests on: what it costs, and that nothing is lost.

    python tests/campaign/node.py load --pods 500
    python tests/campaign/node.py kills --kills 100 --seed 1

Each pod's program appends lines to one ledger on the machine: ``start`` and ``end`` with the pod's name and the seconds
since boot, which are the same for all of this host.

``load`` prints, with its bounds: logins (1); rounds, each with its one queue query (wall seconds / 5); the process's
memory at its peak (300 MB); how many rounds began between a job's end and its pod's last status (2).

``kills`` keeps pods coming while it kills at random: the node's process, the API server, the machine's sshd. slurmctld
is told to end instead: one that is killed forgets jobs that it has taken, and gives their ids to others. At the end
each pod has Succeeded, and each program ran once, to its end.

Not here: a machine's own failures (``faults.py``, ``far.py``).
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(1, str(Path(__file__).parents[1] / "virtual_node"))
import at_rig
from rig.fixtures import kubernetes, run_ctl, slurm_clusters

from dflow_hpc.kube import PODS, Conflict, KubeError, connect

NODE = "dflow-load"
SHORT = "look_up = 5.0\nunreachable = 2.0\nagain = 2.0\nlogin = 2.0\nsteady = 4.0\nslowest = 8.0\ngrace = 60.0"
PROGRAM = (
    'read up rest < /proc/uptime; echo "start $0 $up" >> {ledger}; sleep {seconds}; '
    'read up rest < /proc/uptime; echo "end $0 $up" >> {ledger}'
)
LOGINS, EACH, MEMORY, ROUNDS = 1, 5.0, 300.0, 2
TARGETS = ("node", "apiserver", "slurmctld", "sshd")


def uptime():
    return float(Path("/proc/uptime").read_text().split()[0])


class Node:
    """The node's process, which can be killed."""

    def __init__(self, directory, kube, cluster, waits):
        self.directory, self.kube, self.cluster = directory, kube, cluster
        profile = cluster.profile(
            "load", root=f"{cluster.root}/node", more='transport = "paramiko"', waits=waits, memory="16MB"
        )
        where = {"name": NODE, "address": at_rig.address(kube)}
        self.words, self.environment = at_rig.command(kube, directory, profile, "load", **where)
        self.process = None
        self.start()
        at_rig.ready(kube, NODE)

    def start(self):
        with (self.directory / "node.log").open("a") as log:
            self.process = subprocess.Popen(self.words, env=self.environment, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def end(self):
        self.process.terminate()
        self.process.wait(120)

    def peak(self):
        """Return its memory at its peak, in MB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def numbers(self):
        """Return what its ``/metrics`` say."""
        text = self.kube.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/metrics")
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


class Pods:
    """The pods of a campaign, as the API server shows them."""

    def __init__(self, kube, cluster, seconds):
        os.environ["KUBECONFIG"] = kube.kubeconfig
        self.api = connect(namespace=kube.namespace)
        self.ledger, self.here = f"{cluster.root}/ledger", cluster.root_here / "ledger"
        self.here.unlink(missing_ok=True)
        self.program = PROGRAM.format(ledger=self.ledger, seconds=seconds)
        self.made = []
        self.ended = {}
        """By name: phase, and when it was seen."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        for event in self.api.watch(PODS, labels="campaign=node", patience=float("inf")):
            phase = (event.object.get("status") or {}).get("phase")
            if phase in ("Succeeded", "Failed"):
                self.ended.setdefault(event.object["metadata"]["name"], (phase, uptime()))

    def make(self, count):
        """Make pods; the API server may be away meanwhile."""
        for _ in range(count):
            name = f"load-{len(self.made)}"
            container = {"name": "only", "image": "x", "command": ["sh", "-c", self.program, name]}
            spec = {
                "nodeName": NODE,
                "restartPolicy": "Never",
                "tolerations": [{"operator": "Exists"}],
                "containers": [container],
            }
            pod = {"metadata": {"name": name, "labels": {"campaign": "node"}}, "spec": spec}
            while True:
                try:
                    self.api.create(PODS, pod)
                    break
                except Conflict:  # an attempt whose answer was lost has made it
                    break
                except KubeError as error:
                    print(f"{name}: {error}", flush=True)
            self.made.append(name)

    def wait(self, seconds):
        """Wait until all have ended; return which have not."""
        until = time.monotonic() + seconds
        while len(self.ended) < len(self.made) and time.monotonic() < until:
            time.sleep(0.5)
        return sorted(set(self.made) - self.ended.keys())

    def lines(self):
        """Return the ledger's lines, in words."""
        return [line.split() for line in self.here.read_text().splitlines()] if self.here.exists() else []

    def problems(self, missing):
        """Return what is not as it should be at the end."""
        found = [f"{name} has not ended" for name in missing]
        found += [f"{name} is {phase}" for name, (phase, _) in self.ended.items() if phase != "Succeeded"]
        for word in ("start", "end"):
            counts = Counter(line[1] for line in self.lines() if line[0] == word)
            found += [f"{name}: {counts[name]} times {word}" for name in self.made if counts[name] != 1]
        return found

    def remove(self, kube):
        kube.kubectl("delete", "pods", "--selector=campaign=node", "--wait=false", timeout=300)
        until = time.monotonic() + 120
        while kube.kubectl("get", "pods", "--selector=campaign=node", "--output=name") and time.monotonic() < until:
            time.sleep(1)


class Rounds:
    """How many rounds there were, by the time."""

    def __init__(self, node):
        self.node = node
        self.seen = [(uptime(), 0.0)]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        while not self.over.wait(0.5):
            self.seen.append((uptime(), self.node.numbers().get('dflow_node_questions_total{kind="round"}', 0.0)))

    def close(self):
        self.over.set()
        self.thread.join()

    def at(self, when):
        return max(count for time, count in self.seen if time <= when or time == self.seen[0][0])


def load(directory, kube, cluster, options):
    """Let all pods come at once."""
    node = Node(directory, kube, cluster, "")
    pods = Pods(kube, cluster, options.seconds)
    rounds = Rounds(node)
    began = time.monotonic()
    pods.make(options.pods)
    made = time.monotonic() - began
    missing = pods.wait(options.limit)
    wall = time.monotonic() - began
    time.sleep(1.0)  # for the last numbers
    rounds.close()
    numbers, peak = node.numbers(), node.peak()
    ends = {name: float(up) for word, name, up in pods.lines() if word == "end"}
    late = [rounds.at(at) - rounds.at(ends[name]) for name, (_, at) in pods.ended.items() if name in ends]
    lag = sorted(at - ends[name] for name, (_, at) in pods.ended.items() if name in ends) or [0.0]
    queries = numbers['dflow_node_questions_total{kind="round"}']
    problems = pods.problems(missing)
    figures = [
        ("logins", numbers["dflow_node_logins_total"], LOGINS),
        ("queue queries", queries, wall / EACH),
        ("MB at the peak", peak, MEMORY),
        ("rounds from a job's end to its status, at most", max(late, default=0), ROUNDS),
    ]
    print(f"{options.pods} pods of {options.seconds} s, made in {made:.0f} s, all ended after {wall:.0f} s")
    print(f"status after the job's end: median {lag[len(lag) // 2]:.1f} s, last {lag[-1]:.1f} s")
    print(f"statuses {numbers['dflow_node_statuses_total']:.0f}, commands {numbers['dflow_node_commands_total']:.0f}, "
          f"processor time {numbers['process_cpu_seconds_total']:.1f} s")  # fmt: skip
    for name, value, bound in figures:
        print(f"{name}: {value:.0f} (<= {bound:.0f})")
        problems += [f"{name}: {value:.0f} is more than {bound:.0f}"] if value > bound else []
    pods.remove(kube)
    node.end()
    return problems


def kills(directory, kube, cluster, options):
    """Keep pods coming, and kill."""
    rng = random.Random(options.seed)
    node = Node(directory, kube, cluster, SHORT)
    pods = Pods(kube, cluster, options.seconds)
    done = Counter()
    try:
        while done.total() < options.kills:
            pods.make(rng.randrange(1, 4))
            time.sleep(rng.uniform(0.0, options.pace))
            target, rest = rng.choice(TARGETS), rng.uniform(0.0, 4.0)
            done[target] += 1
            if target == "node":
                node.kill()
                time.sleep(rest)
                node.start()
            elif target == "apiserver":
                run_ctl("kill", target, rig="kube")
                time.sleep(rest)
                run_ctl("start", target, rig="kube")
            else:
                cluster.ctl("stop" if target == "slurmctld" else "kill", target)
                if target == "sshd":
                    cluster.ctl("cut")
                time.sleep(rest)
                cluster.ctl("start", target)
            if node.process.poll() is not None:
                print(f"the node had ended by itself: {node.process.returncode}; it is started again", flush=True)
                node.start()
            if done.total() % 10 == 0:
                print(f"{done.total()} kills, {len(pods.made)} pods, {len(pods.ended)} ended", flush=True)
    finally:
        run_ctl("up", rig="kube")
        for daemon in ("slurmctld", "sshd"):
            cluster.ctl("start", daemon)
    missing = pods.wait(options.limit)
    problems = pods.problems(missing)
    print(f"seed {options.seed}: {dict(done)} kills, {len(pods.made)} pods, {len(pods.ended)} ended")
    pods.remove(kube)
    node.end()
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("load", "kills"))
    parser.add_argument("--pods", type=int, default=500)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="that a pod's program sleeps")
    parser.add_argument("--pace", type=float, default=6.0, help="seconds between two kills at most")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds to wait for the last pod")
    parser.add_argument("--keep", type=Path, help="work here and leave everything for inspection")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, slurm_clusters() as clusters, kubernetes() as kube:
        directory = options.keep or Path(temporary)
        kube.kubectl("delete", "pods", "--selector=campaign=node", "--force", "--grace-period=0", timeout=300)
        try:
            problems = {"load": load, "kills": kills}[options.what](directory, kube, clusters["cpu"], options)
        finally:
            kube.kubectl("delete", f"node/{NODE}", "--ignore-not-found", check=False)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
