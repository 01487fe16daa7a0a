"""Following a workflow on Argo: bytes that it moves, beside dflow's way, and how far the screen is behind kubectl's.

    python bench/run.py argo                 # 500 nodes on the project's own Kubernetes (tests/rig; as root)
    python bench/run.py --nodes 2000 argo

One run is looked on at in four ways at once: by ``ArgoEngine.follow``, whose bytes are counted; by reading the whole
Workflow each second, as dflow's ``wait`` does from the Argo Server, which unpacks the node tree and does not compress
(``polled``); by ``kubectl get --watch``, which says when each version was there to be seen; and by ``dflow-hpc get
--watch`` in a terminal, which says how many leaves have ended. Pods run nothing (``tests/rig/hollow.py``).
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

from dflow_hpc.engines.argo import status
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.kube import WORKFLOWS, Cluster, connect
from dflow_hpc.manifest.view import COMPLETED

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

PAUSE = 1.0
"""Seconds between two of dflow's readings: ``Workflow.wait(interval=1)``."""
NAMESPACE = "argo"
_PROGRESS = re.compile(rb"(\d+)/\d+")


class Ways:
    """What each way saw of one run, and what it moved."""

    def __init__(self, kubeconfig: str, kubectl: str, name: str) -> None:
        self.kubeconfig, self.kubectl, self.name = kubeconfig, kubectl, name
        self.screen: dict[int, float] = {}
        """When the screen showed so many leaves as ended, for the first time."""
        self.there: dict[int, float] = {}
        """When kubectl did."""
        self.moved = self.polled = self.polls = self.readings = 0

    def _cluster(self) -> Cluster:
        return connect(k8s_config_file=self.kubeconfig, namespace=NAMESPACE)

    def follow(self) -> None:
        """Follow it, and count the bytes."""
        engine = ArgoEngine(cluster=self._cluster())
        self.readings = sum(1 for _ in engine.follow(self.name))
        self.moved = engine.cluster.connection.received

    def poll(self) -> None:
        """Read it whole, again and again."""
        cluster = self._cluster()
        phase = ""
        while phase not in COMPLETED:
            workflow = status.unpack(cluster.get(WORKFLOWS, self.name))
            self.polled += len(json.dumps(workflow, separators=(",", ":")))
            self.polls += 1
            phase = status.phase_of(workflow)
            time.sleep(PAUSE)

    def watch(self) -> None:
        """Note what was there to be seen, and when."""
        where = [f"--kubeconfig={self.kubeconfig}", f"--namespace={NAMESPACE}"]
        words = ["get", "workflow", self.name, "--watch", '--output=jsonpath={.status.progress} {.status.phase}{"\\n"}']
        with subprocess.Popen([self.kubectl, *where, *words], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for line in child.stdout:
                self._note(self.there, line)
                if line.split()[-1:] in [[phase.encode()] for phase in COMPLETED]:
                    child.terminate()
                    return

    def look(self) -> None:
        """Note what a terminal shows, and when."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        command = [sys.executable, "-m", "dflow_hpc.cli.main", "get", self.name, "--watch"]
        environment = {**os.environ, "DFLOW_MODE": "argo", "DFLOW_NAMESPACE": NAMESPACE, "TERM": "xterm"}
        environment["DFLOW_K8S_CONFIG_FILE"] = self.kubeconfig
        with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs):
            os.close(theirs)
            rest = b""
            while text := _read(ours):
                *lines, rest = (rest + text).split(b"\n")
                for line in (*lines, rest):
                    self._note(self.screen, line)
        os.close(ours)

    def _note(self, seen: dict[int, float], line: bytes) -> None:
        for found in _PROGRESS.finditer(line):
            seen.setdefault(int(found[1]), time.monotonic())

    def behind(self) -> list[float]:
        """Return, for each count that was there to be seen, how much later the screen showed it or a later one."""
        return [
            min((seen for count, seen in self.screen.items() if count >= least), default=float("inf")) - when
            for least, when in sorted(self.there.items())
            if least
        ]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody writes any more
        return b""


def benchmark(nodes: int) -> None:
    """Run one workflow of so many nodes and print what came of it."""
    from rig.fixtures import kubernetes
    from rig.hollow import hollow_node, step, workflow

    with kubernetes() as kube:
        cluster = connect(k8s_config_file=kube.kubeconfig, namespace=NAMESPACE)
        fan = step("square", "{{item}}", withSequence={"count": str(nodes)})
        began = time.monotonic()
        name = ArgoEngine(cluster=cluster).submit(workflow([fan]))
        ways = Ways(kube.kubeconfig, kube.kubectl_program, name)
        threads = [threading.Thread(target=each) for each in (ways.follow, ways.poll, ways.watch, ways.look)]
        with hollow_node(cluster, seconds=5.0):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        took = time.monotonic() - began
    late = ways.behind()
    print(f"argo: a workflow of {nodes} steps, {took:.0f} s")
    print(f"  followed  {ways.moved / 1e6:8.2f} MB in {ways.readings} readings")
    print(f"  polled    {ways.polled / 1e6:8.2f} MB in {ways.polls} readings  x{ways.polled / ways.moved:.1f}")
    print(f"  the screen behind kubectl, {len(late)} times: {', '.join(f'{each:.2f}' for each in late)} s")
