"""The life of a job on real Slurm: limits that grow, followed logs, jobs that wait in vain or are cancelled."""

import json
import os
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.rig

SCRIPT = """
import os
from dflow_hpc import *

step = ShellOPTemplate("step", image="busybox", command=["sh"], script=os.environ["STEP"])
wf = Workflow("life", id="life")
for number, machine in enumerate(os.environ.get("MACHINES", "cpu").split()):
    wf.add(Step(f"step-{number}", step, executor=machine))
wf.submit()
"""
PROFILES = """
[machine.cpu]
scheduler = "slurm"
host = "cpu"
ssh_config = "{ssh_config}"
root = "{root}/life"
[machine.cpu.resources]
queue = "cpu"
memory = "100MB"
time = "5m"
[machine.cpu.waits]
stuck = 3
login = 1
[machine.cpu.retry]
oom = {{limit = 2, memory = 3, most = "1GB"}}
[machine.again]
extends = "cpu"
[machine.again.resources]
memory = "50MB"
[machine.gpu]
extends = "cpu"
host = "gpu"
[machine.gpu.resources]
queue = "gpu"
[machine.short]
extends = "cpu"
[machine.short.resources]
time = "1m"
[machine.short.retry]
walltime = {{limit = 1}}
[machine.impossible]
extends = "cpu"
[machine.impossible.resources]
extra = ["--hold"]
"""
HUNGRY = "head -c 150M /dev/zero | tail -c 150M >/dev/null || exit; echo fed"


class Run:
    """A project on the clusters."""

    def __init__(self, path, rig):
        self.path = path
        self.cpu = rig["cpu"]
        (path / "life.py").write_text(SCRIPT)
        (path / "machines.toml").write_text(PROFILES.format(ssh_config=self.cpu.ssh_config, root=self.cpu.root))

    def start(self, *words, **variables):
        env = {**os.environ, "XDG_STATE_HOME": str(self.path), **variables}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, *words], cwd=self.path, env=env, **pipes)

    def run(self, step, machines="cpu"):
        return self.start("life.py", STEP=step, MACHINES=machines).communicate(timeout=300)[0]

    def command(self, *words):
        return self.start("-m", "dflow_hpc.cli.main", *words).communicate(timeout=120)[0]

    def explained(self, step="step-0"):
        [facts] = json.loads(self.command("explain", "life", step, "-o", "json"))
        return facts

    def phase(self):
        return json.loads(self.command("get", "life", "-o", "json"))["status"]["phase"]

    @staticmethod
    def until(condition):
        for _ in range(60):
            if found := condition():
                return found
            time.sleep(1)
        raise AssertionError("it did not come")


@pytest.fixture
def run(tmp_path, slurm_rig):
    return Run(tmp_path, slurm_rig)


def test_memory_grows_after_a_kill_for_memory_and_one_login_serves_two_profiles(run):
    said = run.run(HUNGRY, "cpu again")
    assert run.phase() == "Succeeded", said
    assert "attempt 1 ended with OOM (OUT_OF_MEMORY (OutOfMemory)); it is tried again, memory 300MB" in said
    assert "machine cpu, again: 1 login," in said
    attempts = run.explained("step-1")["job"]["attempts"]
    tried = [(attempt["resources"]["memory"], attempt["failure"]) for attempt in attempts]
    assert tried == [("50MB", "OOM"), ("150MB", "OOM"), ("450MB", None)]
