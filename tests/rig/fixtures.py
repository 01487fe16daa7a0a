"""Fixtures with the two real Slurm clusters of ``slurm/`` and the real Kubernetes of ``kube/``: tests marked ``rig``.

Each is one thing of the machine, so one pytest session has it at a time: another waits for it. A rig that does not come
up fails the tests, it never skips them. It is taken down at the end by the session that brought it up, unless
``DFLOW_RIG_KEEP`` is set; one that was up before stays up.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS_TO_COME_UP = 1200  # packages included
SECONDS_TO_BUILD = 7200  # Kubernetes and Argo, once a machine; a minute when they are there
SECONDS_FOR_OTHERS = 1800
HELD = "DFLOW_RIG_HELD"
"""Variable that a session sets for a program to which it lends the clusters."""


@dataclass
class Cluster:
    """One cluster, as its user and as who can make it fail."""

    name: str
    """``gpu`` or ``cpu``; it is the alias in ``ssh_config`` too."""
    host: str
    port: int
    user: str
    key: Path
    known_hosts: Path
    ssh_config: Path
    home: str
    root: str
    """A directory for a machine's root, seen from there; ``root_here`` is the same one seen from this side."""
    root_here: Path
    small_root: str
    """Another one, on a file system of 16 MB that ``ctl("fill")`` fills."""
    nodes: list[str]
    accounting: bool
    cgroups: bool
    """Whether a job that needs too much memory ends as OUT_OF_MEMORY here."""
    touched: bool = field(default=False, init=False)

    def ssh(self, command, stdin="", timeout=120):
        """Run a shell command there by the machine's own ssh; a CompletedProcess with texts."""
        words = ["ssh", "-F", self.ssh_config, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", self.name, command]
        return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)

    def ok(self, command, stdin="", timeout=120):
        """Run a shell command there that must succeed; what it wrote on stdout, stripped."""
        answer = self.ssh(command, stdin, timeout)
        assert answer.returncode == 0, f"{command!r} on {self.name} gave {answer.returncode}: {answer.stderr}"
        return answer.stdout.strip()

    def ctl(self, verb, *words, host=None):
        """Make something fail, or work again: ``ctl("stop", "slurmctld")``, ``ctl("crash", host="cpu-n1")``.

        The words are those of ``tests/rig/slurm/ctl``, without the name of the cluster.
        """
        self.touched = True
        return run_ctl(verb, host or self.name, *words)

    def profile(self, name=None, *, root, more="", waits="", **resources):
        """Return the text of a machine's profile for it.

        Args:
            name: The machine's; the cluster's own unless given.
            root: The machine's root, there.
            more: Further lines.
            waits: Lines of its waits.
            resources: Of a job that does not say them.
        """
        name, resources = name or self.name, {"memory": "100MB", "time": "5m", **resources}
        return "\n".join(
            [
                f"[machine.{name}]",
                'scheduler = "slurm"',
                f'host = "{self.name}"',
                f'ssh_config = "{self.ssh_config}"',
                f'root = "{root}"',
                more,
                f"[machine.{name}.resources]",
                *(f"{key} = {json.dumps(value)}" for key, value in resources.items()),
                f"[machine.{name}.waits]",
                waits,
                "",
            ]
        )

    def heal(self):
        """Cancel all jobs and undo all failures."""
        run_ctl("heal", self.name)
        self.touched = False


def run_ctl(*words, timeout=180, rig="slurm"):
    """Run a rig's ``ctl``; what it wrote on stdout, or a failed test with what it said."""
    command = [sys.executable, HERE / rig / "ctl", *words]  # this Python: its directory has `weed`
    answer = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if answer.returncode:
        pytest.fail(f"the rig: `{rig}/ctl {' '.join(words)}` gave {answer.returncode}: {answer.stderr}", pytrace=False)
    return answer.stdout.strip()


@contextlib.contextmanager
def _held(rig, seconds):
    """Hold a rig that is up; the file with its facts."""
    if os.geteuid():
        pytest.fail("the rigs make namespaces and other users' processes: run them as root", pytrace=False)
    room = Path(os.environ.get("DFLOW_RIG", "/var/lib/dflow-hpc-rig"))
    room.mkdir(parents=True, exist_ok=True)
    with (room / f"{rig}.session.lock").open("w") as lock:
        if not os.environ.get(HELD):
            _hold(lock)
        was_up = any(line.startswith("up") for line in run_ctl("status", rig=rig).splitlines())
        yield Path(run_ctl("up", rig=rig, timeout=seconds))
        if not was_up and not os.environ.get("DFLOW_RIG_KEEP"):
            run_ctl("down", rig=rig)


def _hold(file):
    """Take the rig for this session, waiting for another one that has it."""
    deadline = time.monotonic() + SECONDS_FOR_OTHERS
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                pytest.fail(f"another test session has held {file.name} for {SECONDS_FOR_OTHERS} s: `lsof` names it")
            time.sleep(1)


@contextlib.contextmanager
def slurm_clusters():
    """Hold the clusters, by name: ``gpu`` and ``cpu``, up and with nothing in their queues."""
    with _held("slurm", SECONDS_TO_COME_UP) as file:
        facts = json.loads(file.read_text())
        paths = ("key", "known_hosts", "ssh_config", "root_here")
        clusters = {
            name: Cluster(**{key: Path(value) if key in paths else value for key, value in each.items()})
            for name, each in facts.items()
        }
        for cluster in clusters.values():
            cluster.heal()
            cluster.ok(f"mkdir -p {cluster.root} {cluster.small_root}")
        yield clusters
        for cluster in clusters.values():
            cluster.heal()


@pytest.fixture(scope="session")
def slurm_rig():
    """Give the clusters. A test that makes one fail takes ``slurm_faults`` instead."""
    with slurm_clusters() as clusters:
        yield clusters


@pytest.fixture
def slurm_faults(slurm_rig):
    """Give the clusters to a test that makes them fail; afterwards all is as it was."""
    yield slurm_rig
    for cluster in slurm_rig.values():
        if cluster.touched:
            cluster.heal()


@dataclass
class Kube:
    """The Kubernetes with Argo, as its user and as who can make it fail."""

    kubeconfig: str
    """An administrator's."""
    server: str
    namespace: str
    s3: dict
    """What ``s3_config`` needs to reach the artifact repository from here."""
    kubectl_program: str
    touched: set = field(default_factory=set, init=False)

    def kubectl(self, *words, check=True, timeout=60, text=None):
        """Run kubectl in the namespace; what it wrote on stdout."""
        where = [f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"]
        answer = subprocess.run(
            [self.kubectl_program, *where, *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert answer.returncode == 0 or not check, f"kubectl {words} gave {answer.returncode}: {answer.stderr}"
        return answer.stdout

    def ctl(self, verb, daemon):
        """Make a daemon fail, or work again: ``ctl("kill", "apiserver")``; the verbs are those of ``kube/ctl``."""
        self.touched.add(daemon)
        return run_ctl(verb, daemon, rig="kube")


@contextlib.contextmanager
def kubernetes():
    """Hold the Kubernetes with Argo and S3, up, and without Workflows of other tests."""
    with _held("kube", SECONDS_TO_BUILD) as file:
        kube = Kube(**json.loads(file.read_text()))
        kube.kubectl("delete", "workflows", "--all", timeout=300)
        yield kube


@pytest.fixture(scope="session")
def kube_rig():
    """Give the Kubernetes. A test that makes a daemon of it fail takes ``kube_faults`` instead."""
    with kubernetes() as kube:
        yield kube


@pytest.fixture(scope="session")
def kube_image(kube_rig):
    """Make an image of this checkout; its name."""
    run_ctl("ours", rig="kube", timeout=SECONDS_TO_COME_UP)
    return "dflow-hpc"


@pytest.fixture
def kube_faults(kube_rig):
    """Give the Kubernetes to a test that makes a daemon of it fail; afterwards all runs again."""
    yield kube_rig
    if kube_rig.touched:
        run_ctl("up", rig="kube", timeout=SECONDS_TO_COME_UP)
        kube_rig.touched.clear()
