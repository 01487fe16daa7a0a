"""A gateway beside the rigs: a process of this machine that pods reach, which reaches the Slurm cluster on loopback.

Pods have a network of their own and see of this machine the address of the Kubernetes rig; sshd of the Slurm rig
listens on loopback only. So the gateway runs outside, at that address.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

from dflow_hpc.engines.bridge.template import secret_name
from dflow_hpc.executors.broker.records import fold
from dflow_hpc.executors.journal import Reader

SECONDS = 60


def profile(cluster, name=None, *, memory="100MB", fast=1.0):
    """Return the text of a machine's profile; its name is the cluster's unless given."""
    return cluster.profile(
        name,
        root=f"{cluster.root}/bridge",
        more=f'setup = ["export PYTHONPATH={cluster.root}/python OMP_NUM_THREADS=1"]',
        waits=f"fast = {fast}\nagain = 2\nlogin = 1\nunreachable = 2",
        queue=cluster.name,
        cpus=1,
        memory=memory,
        time="10m",
    )


class GatewayProcess:
    """A gateway of one machine, and what it leaves.

    Args:
        kube: The Kubernetes.
        path: A directory of its own; its state lies in ``state``.
        name: The machine's.
        text: Its profile.
    """

    def __init__(self, kube, path, name, text):
        self.kube = kube
        self.name = name
        self.state = path / "state"
        self._environment = {**os.environ, "DFLOW_K8S_CONFIG_FILE": kube.kubeconfig}
        self.log = path / "log"
        self.login = path / "login"
        self.login.mkdir(parents=True)
        (self.login / "machines.toml").write_text(text)
        self.host = urllib.parse.urlsplit(kube.server).hostname
        with socket.socket() as free:
            free.bind((self.host, 0))
            self.port = free.getsockname()[1]
        self._process = None
        self.lives = 0

    def start(self):
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "dflow_hpc.cli.main", "gateway", "--machine", self.name]
        command += ["--state", str(self.state), "--login", str(self.login), "--namespace", self.kube.namespace]
        command += ["--listen", self.host, "--port", str(self.port), "--address", f"http://{self.host}:{self.port}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        self.lives += 1
        deadline = time.monotonic() + SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection((self.host, self.port), timeout=5).close()
            except ConnectionRefusedError:
                time.sleep(0.1)  # nothing tells when a port is listened at
            else:
                return self
        pytest.fail(f"the gateway did not come up: {self.log.read_text()[-2000:]}")

    def kill(self):
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self):
        """End it as Kubernetes would; what it said."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(SECONDS)
        return self.log.read_text()

    def forget(self):
        """Remove what it told bridge pods."""
        self.kube.kubectl("delete", "secret", secret_name(self.name, gateway=True), "--ignore-not-found")

    def leaves(self):
        """Return what the journal says of its leaves, by key."""
        return fold(Reader(self.state / "journal.jsonl").read()).leaves


def nodes_of(kube, workflow):
    """Return the nodes of a workflow, by name."""
    found = json.loads(kube.kubectl("get", "workflow", workflow, "--output=json"))
    return {node["name"]: node for node in (found.get("status") or {}).get("nodes", {}).values()}


def lines(file):
    """Return the lines of a file that may not be there yet."""
    return Path(file).read_text().splitlines() if Path(file).exists() else []


def until(what, ready, seconds=180):
    """Wait until something is so of which nobody tells; what it is then."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come within {seconds} s")
        time.sleep(0.2)
    return found
