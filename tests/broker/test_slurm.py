"""Steps as jobs of real Slurm clusters over SSH: two clusters in one run, a client that is killed at each named place.

Every leaf writes a ledger: what counts is how often its program was started.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Machine, Waits
from tests.broker.far import Far

pytestmark = pytest.mark.rig

SCRIPT = """
import os, signal
from dflow_hpc import *

point = os.environ.get("FAULT")
if point:
    from dflow_hpc.executors import faults
    faults.hook = lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == point else None

@OP.function
def double(n: int) -> {"m": int}:
    return {"m": 2 * n}

count = ShellOPTemplate("count", image="busybox", command=["sh"], script='''
echo "{{inputs.parameters.n}} $$" >> $HOME/ledger
sleep LENGTH
echo $(({{inputs.parameters.n}} + 1)) > /tmp/m
'''.replace("LENGTH", os.environ.get("SECONDS", "")))
count.inputs.parameters["n"] = InputParameter()
count.outputs.parameters["m"] = OutputParameter(value_from_path="/tmp/m")

wf = Workflow("far", id="far-1")
many = Step("count", count, parameters={"n": "{{item}}"}, with_param=[0, 1, 2], executor="cpu")
second = PythonOPTemplate(double, image="python:3.11")
one = Step("double", second, parameters={"n": 21}, executor=os.environ.get("SECOND"))
wf.add([many, one])
wf.submit()
"""
PROFILES = """
[machine.cpu]
scheduler = "slurm"
host = "cpu"
ssh_config = "{ssh_config}"
root = "{root}/broker"
[machine.cpu.resources]
queue = "cpu"
memory = "100MB"
time = "5m"
[machine.gpu]
extends = "cpu"
host = "gpu"
[machine.gpu.resources]
queue = "gpu"
"""
POINTS = [
    "broker.learn.after",
    "dispatcher.before-commit",
    "dispatcher.after-commit",
    "remote.submit.packed",
    "broker.submit.after",
    "broker.round.before",
    "broker.round.after",
    "broker.before-delivered",
]


class Run:
    """A project on the clusters."""

    def __init__(self, path, rig):
        self.path = path
        self.cpu = rig["cpu"]
        (path / "far.py").write_text(SCRIPT)
        (path / "machines.toml").write_text(PROFILES.format(ssh_config=self.cpu.ssh_config, root=self.cpu.root))
        self.cpu.ok("rm -f ledger")

    def start(self, *words, **variables):
        env = {**os.environ, "XDG_STATE_HOME": str(self.path), "SECOND": "cpu", "SECONDS": "1", **variables}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, *words], cwd=self.path, env=env, **pipes)

    def run(self, *words, **variables):
        return self.start(*words, **variables).communicate(timeout=300)[0]

    def command(self, *words):
        return self.run("-m", "dflow_hpc.cli.main", *words)

    def results(self):
        found = json.loads(self.command("get", "far-1", "-o", "json"))["status"]
        outputs = [node.get("outputs") or {} for node in found["nodes"].values() if node["type"] == "Pod"]
        return found["phase"], sorted(item["parameters"][0]["value"] for item in outputs if "parameters" in item)

    def starts(self):
        return sorted(line.split()[0] for line in self.cpu.ok("touch ledger; cat ledger").splitlines())

    @staticmethod
    def until(condition):
        for _ in range(100):
            if condition():
                return
            time.sleep(1)
        raise AssertionError("it did not come")


def test_two_clusters_in_one_run(tmp_path, slurm_rig):
    run = Run(tmp_path, slurm_rig)
    said = run.run("far.py", SECOND="gpu")
    assert run.results() == ("Succeeded", ["1", "2", "3", "42"]), said
    assert run.starts() == ["0", "1", "2"]
    assert len(re.findall(r"machine (?:cpu|gpu): 1 login, ", said)) == 2, said


@pytest.mark.parametrize("point", POINTS)
def test_a_client_that_is_killed_anywhere_starts_nothing_twice(tmp_path, slurm_rig, point):
    run = Run(tmp_path, slurm_rig)
    said = run.run("far.py", FAULT=point)
    assert "Succeeded" not in said, f"it was not killed at {point}: {said}"
    said = run.command("resume", "far-1")
    assert run.results() == ("Succeeded", ["1", "2", "3", "42"]), said
    assert run.starts() == ["0", "1", "2"]


def test_a_machine_that_cannot_be_reached_costs_time_and_no_job(tmp_path, slurm_faults):
    run = Run(tmp_path, slurm_faults)
    with run.start("far.py", SECONDS="20") as engine:
        lines = iter(engine.stdout.readline, "")
        run.until(lambda: run.starts() == ["0", "1", "2"])
        run.cpu.ctl("stop", "sshd")
        run.cpu.ctl("cut")
        assert any("the machine pauses" in line for line in lines)
        run.cpu.ctl("start", "sshd")
        said = "".join(lines)
    assert "the machine answers again" in said
    assert run.results() == ("Succeeded", ["1", "2", "3", "42"]), said
    assert run.starts() == ["0", "1", "2"]


def test_a_node_that_dies_is_no_fault_of_the_program(tmp_path, slurm_faults):
    run = Run(tmp_path, slurm_faults)
    with run.start("far.py", SECONDS="60") as engine:
        run.until(lambda: run.starts() == ["0", "1", "2"])
        [node] = set(run.cpu.ok("squeue -h -t R -o %N").split())
        run.cpu.ctl("crash", host=node)
        run.cpu.ok("rm ledger")
        said = engine.stdout.read()
    assert "ended with INFRA" in said
    assert run.results() == ("Succeeded", ["1", "2", "3", "42"]), said
    assert run.starts() == ["0", "1", "2"]


def test_ten_leaves_over_a_link_that_the_user_opened(tmp_path, slurm_rig):
    run = Run(tmp_path, slurm_rig)
    with tempfile.TemporaryDirectory(dir="/tmp") as room:  # the name of a socket must be short
        config = Path(room, "config")
        config.write_text(f"Host *\n  ControlPath {room}/%C\nInclude {run.cpu.ssh_config}\n")
        profiles = tmp_path / "machines.toml"
        text = profiles.read_text().replace(str(run.cpu.ssh_config), str(config))
        profiles.write_text(text.replace('host = "cpu"', 'host = "cpu"\ntransport = "openssh"'))
        script = tmp_path / "far.py"
        script.write_text(script.read_text().replace("[0, 1, 2]", "list(range(10))"))
        subprocess.run(
            ["ssh", "-F", config, "-M", "-N", "-f", "cpu"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        try:
            said = run.run("far.py")
            alive = subprocess.run(["ssh", "-F", config, "-O", "check", "cpu"], capture_output=True, check=False)
        finally:
            subprocess.run(["ssh", "-F", config, "-O", "exit", "cpu"], capture_output=True, check=False)
    assert run.results()[0] == "Succeeded", said
    assert run.starts() == [str(number) for number in range(10)]
    assert re.search(r"machine cpu: 0 logins, ", said), said
    assert alive.returncode == 0


def test_what_ended_a_job_from_outside_is_told(tmp_path, slurm_rig):
    """Slurm sends TERM first, to which a leaf's script leaves a marker: it must not pass for the program's own end."""
    cpu = slurm_rig["cpu"]
    resources = {"queue": "cpu", "memory": "64MB"}
    profile = Machine("cpu", "slurm", host="cpu", ssh_config=str(cpu.ssh_config), root=f"{cpu.root}/broker")
    far = Far(tmp_path, profile, Waits(fast=1, steady=1, slowest=5))
    unique = os.urandom(5).hex()
    parcels = [
        far.parcel(f"{unique}a", "sleep 600", **resources, time="1m"),
        far.parcel(f"{unique}b", "sleep 600", **resources, time="10m"),
    ]

    async def cancel(far, broker, running, tasks):
        await asyncio.gather(*(event.wait() for event in running.values()))
        cpu.ok(f"scancel --name={unique}b-1.step")

    ends = far.run(*parcels, meanwhile=cancel, within=300)
    assert ends[f"{unique}b"].job.failure is FailureClass.CANCELLED
    assert ends[f"{unique}a"].job.failure is FailureClass.WALLTIME
