"""Fixtures with the two real Slurm clusters of ``slurm/``, for tests with the marker ``rig``.

The clusters are one thing of the machine, so one pytest session has them at a time: another waits for it. A rig that
does not come up fails the tests, it never skips them. It is taken down at the end by the session that brought it up,
unless ``DFLOW_RIG_KEEP`` is set; one that was up before stays up.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CTL = Path(__file__).parent / "slurm" / "ctl"
SECONDS_TO_COME_UP = 1200  # packages included
SECONDS_FOR_OTHERS = 1800


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

    def heal(self):
        """Cancel all jobs and undo all failures."""
        run_ctl("heal", self.name)
        self.touched = False


def run_ctl(*words, timeout=180):
    """Run ``ctl``; what it wrote on stdout, or a failed test with what it said."""
    answer = subprocess.run([CTL, *words], capture_output=True, text=True, timeout=timeout, check=False)
    if answer.returncode:
        pytest.fail(f"the Slurm rig: `ctl {' '.join(words)}` gave {answer.returncode}: {answer.stderr}", pytrace=False)
    return answer.stdout.strip()


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
    if os.geteuid():
        pytest.fail("the Slurm rig makes namespaces and other users' processes: run it as root", pytrace=False)
    room = Path(os.environ.get("DFLOW_RIG", "/var/lib/dflow-hpc-rig"))
    room.mkdir(parents=True, exist_ok=True)
    with (room / "session.lock").open("w") as lock:
        _hold(lock)
        was_up = any(line.startswith("up") for line in run_ctl("status").splitlines())
        facts = json.loads(Path(run_ctl("up", timeout=SECONDS_TO_COME_UP)).read_text())
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
        if not was_up and not os.environ.get("DFLOW_RIG_KEEP"):
            run_ctl("down")


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
