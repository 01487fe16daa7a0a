"""A node's process starts while what it needs is away: the Node tells the truth, and is ready by itself afterwards."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import at_rig

pytestmark = pytest.mark.rig
NAME = "dflow-cpu"
READY = '{.status.conditions[?(@.type=="Ready")].reason}'


@pytest.fixture
def start(kube_faults, slurm_faults, tmp_path):
    """Give a function that starts the process, and its log."""
    profile = slurm_faults["cpu"].profile(
        root=slurm_faults["cpu"].root, more='transport = "openssh"', waits="unreachable = 1\nlogin = 0"
    )
    words, environment = at_rig.command(kube_faults, tmp_path, profile, "cpu")
    started = []

    def begin():
        with (tmp_path / "log").open("w") as log:
            started.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
        return started[-1], tmp_path / "log"

    yield begin
    for process in started:
        process.terminate()
        process.wait(90)
    kube_faults.ctl("start", "apiserver")
    print((tmp_path / "log").read_text())
    kube_faults.kubectl("delete", f"node/{NAME}", "--ignore-not-found")


def says(process, log, text):
    """Wait until a process that lives has said something."""
    deadline = time.monotonic() + 120
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)  # nothing tells of what is written to a file


def test_a_node_comes_up_before_its_api_server_and_its_machine(kube_faults, slurm_faults, start):
    cpu = slurm_faults["cpu"]
    cpu.ctl("stop", "sshd")
    cpu.ctl("cut")
    kube_faults.ctl("stop", "apiserver")
    process, log = start()
    says(process, log, "is asked again until it answers")
    says(process, log, "Kubernetes was asked to")
    kube_faults.ctl("start", "apiserver")
    kube_faults.kubectl("wait", f"node/{NAME}", "--for=create", "--timeout=120s", timeout=150)
    told = f"--for=jsonpath={READY}=MachineUnreachable"
    kube_faults.kubectl("wait", f"node/{NAME}", told, "--timeout=120s", timeout=150)
    cpu.ctl("start", "sshd")
    kube_faults.kubectl("wait", f"node/{NAME}", "--for=condition=Ready", "--timeout=120s", timeout=150)
    made = json.loads(kube_faults.kubectl("get", f"node/{NAME}", "--output=json"))
    assert int(made["status"]["allocatable"]["cpu"]) > 0
    assert process.poll() is None


def test_a_node_whose_login_is_refused_ends_at_once_and_says_so(kube_faults, slurm_faults, start):
    cpu = slurm_faults["cpu"]
    cpu.ctl("refuse")
    cpu.ctl("cut")
    process, log = start()
    assert process.wait(120) == 2
    assert "refused" in log.read_text()
    assert kube_faults.kubectl("get", f"node/{NAME}", "--ignore-not-found") == ""
