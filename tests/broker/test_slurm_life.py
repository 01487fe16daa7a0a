"""The life of a job on real Slurm: limits that grow, followed logs, jobs that wait in vain or are cancelled."""

import json
import os
import signal
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
warn = "20s"
[machine.short.retry]
walltime = {{limit = 1}}
[machine.impossible]
extends = "cpu"
[machine.impossible.resources]
extra = ["--hold"]
"""
HUNGRY = "head -c 150M /dev/zero | tail -c 150M >/dev/null || exit; echo fed"


def read_until(process, words):
    """Read what a process prints until it has said these words."""
    lines = []
    while words not in (lines or [""])[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], lines


class Run:
    """A project on the clusters."""

    def __init__(self, path, rig):
        self.path = path
        self.cpu = rig["cpu"]
        self.processes = []
        (path / "life.py").write_text(SCRIPT)
        (path / "machines.toml").write_text(PROFILES.format(ssh_config=self.cpu.ssh_config, root=self.cpu.root))

    def start(self, *words, **variables):
        env = {**os.environ, "XDG_STATE_HOME": str(self.path), **variables}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.processes.append(subprocess.Popen([sys.executable, *words], cwd=self.path, env=env, **pipes))
        return self.processes[-1]

    def run(self, step, machines="cpu"):
        return self.start("life.py", STEP=step, MACHINES=machines).communicate(timeout=300)[0]

    def command(self, *words):
        return self.start("-m", "dflow_hpc.cli.main", *words).communicate(timeout=120)[0]

    def explained(self, step="step-0"):
        [facts] = json.loads(self.command("explain", "life", step, "-o", "json"))
        return facts

    def attempt(self):
        """Return the last attempt of the first step; one without a state as long as there is none."""
        if not list(self.path.glob("life/.machines/*.jsonl")):
            return {"state": "", "word": ""}
        job = self.explained()["job"]
        return job["attempts"][-1] if job else {"state": "", "word": ""}

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
    made = Run(tmp_path, slurm_rig)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


def test_memory_grows_after_a_kill_for_memory_and_one_login_serves_two_profiles(run):
    said = run.run(HUNGRY, "cpu again")
    assert run.phase() == "Succeeded", said
    assert "attempt 1 ended with OOM (OUT_OF_MEMORY (OutOfMemory)); it is tried again, memory 300MB" in said
    assert "machine cpu, again: 1 login," in said
    attempts = run.explained("step-1")["job"]["attempts"]
    tried = [(attempt["resources"]["memory"], attempt["failure"]) for attempt in attempts]
    assert tried == [("50MB", "OOM"), ("150MB", "OOM"), ("450MB", None)]


def test_a_job_that_waits_in_vain_is_told_of_and_stop_says_when_it_is_cancelled(run):
    engine = run.start("life.py", STEP="true", MACHINES="impossible")
    run.until(lambda: run.attempt()["word"])
    facts, attempt = run.explained(), run.attempt()
    assert (attempt["state"], attempt["word"]) == ("QUEUED", "PENDING (JobHeldUser)")
    assert attempt["reason_means"].startswith("it is on hold: release it")
    [look] = [command for command in facts["commands"] if "squeue" in command]
    assert attempt["id"] in subprocess.run(look, shell=True, capture_output=True, text=True, check=True).stdout
    time.sleep(5)  # until the reason has lasted for as long as the profile says
    said = run.command("stop", "life")
    assert "life: 1 job on impossible cancelled: the scheduler agrees" in said
    told = engine.communicate(timeout=60)[0]
    assert f"job {attempt['id']} waits: the scheduler has said PENDING (JobHeldUser)" in told
    assert run.cpu.ok("squeue -h") == ""


def test_a_killed_engine_leaves_no_job_behind_when_the_run_is_stopped(run):
    engine = run.start("life.py", STEP="sleep 600")
    run.until(lambda: run.attempt()["state"] == "RUNNING")
    engine.kill()
    said = run.command("terminate", "life")
    assert "machine cpu: 1 job is cancelled; the scheduler agrees" in said
    assert run.cpu.ok("squeue -h -t R,PD") == ""


@pytest.fixture
def away(slurm_faults):
    """Take the machine out of reach."""
    cpu = slurm_faults["cpu"]

    def go():
        cpu.ctl("stop", "sshd")
        cpu.ctl("cut")

    return go


def test_a_machine_out_of_reach_is_told_of_a_stop_when_it_is_back(run, away):
    engine = run.start("life.py", STEP="sleep 600")
    run.until(lambda: run.attempt()["state"] == "RUNNING")
    away()
    stop = run.start("-m", "dflow_hpc.cli.main", "stop", "life")
    read_until(engine, "the machine pauses")
    assert stop.poll() is None
    run.cpu.ctl("start", "sshd")
    assert "life: 1 job on cpu cancelled: the scheduler agrees" in stop.communicate(timeout=150)[0]
    assert "machine cpu: " in engine.communicate(timeout=60)[0]
    assert run.cpu.ok("squeue -h -t R,PD") == ""


def test_a_stop_that_is_given_up_while_the_machine_is_out_of_reach_is_repeated(run, away):
    engine = run.start("life.py", STEP="sleep 600")
    run.until(lambda: run.attempt()["state"] == "RUNNING")
    away()
    engine.kill()
    given_up = run.start("-m", "dflow_hpc.cli.main", "terminate", "life")
    read_until(given_up, "the machine pauses")
    given_up.send_signal(signal.SIGINT)
    given_up.communicate(timeout=60)
    run.cpu.ctl("start", "sshd")
    assert "machine cpu: 1 job is cancelled; the scheduler agrees" in run.command("terminate", "life")
    assert run.cpu.ok("squeue -h -t R,PD") == ""


def test_logs_of_a_running_job_come_over_the_login_of_the_engine(run):
    step = "echo begun; sleep 20; echo done"
    engine = run.start("life.py", STEP=step)
    run.until(lambda: run.attempt()["state"] == "RUNNING")
    assert "begun\n" in run.command("logs", "life")
    assert run.command("logs", "life", "-f").endswith("step-0: done\n")
    assert "machine cpu: 1 login," in engine.communicate(timeout=60)[0]


def test_a_program_that_is_warned_saves_its_state_and_the_next_attempt_goes_on(run):
    step = """
    mkdir -p $DFLOW_CHECKPOINT_DIR
    if [ -e $DFLOW_CHECKPOINT_DIR/n ]; then echo resumed from $(cat $DFLOW_CHECKPOINT_DIR/n); exit; fi
    trap 'echo $n >$DFLOW_CHECKPOINT_DIR/n' USR2
    n=0
    while :; do n=$((n + 1)); sleep 1; done
    """
    said = run.run(step, "short")
    assert run.phase() == "Succeeded", said
    assert "attempt 1 ended with WALLTIME" in said
    assert "resumed from" in run.command("logs", "life")
    assert [attempt["failure"] for attempt in run.explained()["job"]["attempts"]] == ["WALLTIME", None]
