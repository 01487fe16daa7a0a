"""Whole runs with steps on a machine: this host by its transport, the real scripts, no scheduler, no service."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.schedulers import fakes

pytestmark = pytest.mark.slow

SCRIPT = """
from dflow_hpc import *

@OP.function
def double(n: int, data: Artifact(str)) -> {"m": int}:
    print("doubles", n, open(data).read())
    return {"m": 2 * n}

wait = ShellOPTemplate("wait", image="busybox", command=["sh"], script='''
echo "start $$ {{inputs.parameters.n}}" >> $HOME/ledger
while [ ! -e $HOME/gate ]; do sleep 0.1; done
echo "end $$" >> $HOME/ledger
echo {{inputs.parameters.n}}1 > /tmp/m
mkdir /tmp/dir; echo text > /tmp/dir/file
''')
wait.inputs.parameters["n"] = InputParameter()
wait.outputs.parameters["m"] = OutputParameter(value_from_path="/tmp/m")
wait.outputs.artifacts["file"] = OutputArtifact(path="/tmp/dir/file")

wf = Workflow("far", id="far-1")
first = Step("wait", wait, parameters={"n": 4}, executor="far")
second = Step(
    "double",
    PythonOPTemplate(double, image="python:3.11"),
    parameters={"n": first.outputs.parameters["m"]},
    artifacts={"data": first.outputs.artifacts["file"]},
    executor="far",
)
wf.add(first)
wf.add(second)
wf.submit()
"""
PROFILE = '[machine.far]\nscheduler = "%s"\ntransport = "local"\nroot = "%s"\n'


@pytest.fixture
def project(tmp_path, request):
    scheduler = getattr(request, "param", "shell")
    cluster = fakes.pbs(tmp_path) if scheduler == "pbs" else fakes.host(tmp_path)
    home = cluster.home
    (tmp_path / "far.py").write_text(SCRIPT)
    (tmp_path / "machines.toml").write_text(PROFILE % (scheduler, tmp_path / "there"))
    made = Project(tmp_path, {**cluster.env, "XDG_STATE_HOME": str(home)})
    yield made
    (home / "gate").touch()
    for process in made.processes:
        process.kill()
        process.communicate()


class Project:
    """A script beside its profile, with a home of its own."""

    def __init__(self, path, env):
        self.path = path
        self.home = path / "home"
        self.env = env
        self.processes = []

    def start(self, *words):
        process = subprocess.Popen(
            [sys.executable, *words], cwd=self.path, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.processes.append(process)
        return process

    def ended(self, process):
        out, _ = process.communicate(timeout=120)
        return out.decode()

    def command(self, *words):
        return self.start("-c", "from dflow_hpc.cli.main import main; main()", *words)

    def ledger(self):
        path = self.home / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, condition):
        for _ in range(600):
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(f"it did not come: {self.ledger()}")

    def nodes(self):
        found = json.loads(self.ended(self.command("get", "far-1", "-o", "json")))
        return {node["displayName"]: node for node in found["status"]["nodes"].values()}


@pytest.mark.parametrize("project", ["shell", "pbs"], indirect=True)
def test_a_run_that_is_killed_joins_its_jobs_again(project):
    engine = project.start("far.py")
    project.until(lambda: len(project.ledger()) == 1)
    os.kill(engine.pid, signal.SIGKILL)
    engine.communicate(timeout=60)
    (project.home / "gate").touch()
    said = project.ended(project.command("resume", "far-1"))
    nodes = project.nodes()
    assert nodes["far-1"]["phase"] == "Succeeded", said
    assert nodes["double"]["outputs"]["parameters"][0]["value"] == "82"
    assert [line.split()[0] for line in project.ledger()] == ["start", "end"]
    assert "doubles 41 text" in (Path(project.path, "far-1") / nodes["double"]["id"] / "log.txt").read_text()


def test_an_interrupted_engine_says_what_becomes_of_its_jobs(project):
    engine = project.start("far.py")
    project.until(lambda: len(project.ledger()) == 1)
    project.until(lambda: project.nodes()["wait"]["phase"] == "Running")
    engine.send_signal(signal.SIGINT)
    said = project.ended(engine)
    assert "far-1: 1 job on far lives on (once more to leave at once)" in said
    assert "go on with `dflow-hpc resume far-1`" in said
    said = project.ended(project.command("terminate", "far-1"))  # nobody works on it: it is done here
    assert "machine far: 1 job is cancelled; the scheduler agrees" in said
    assert not Path(f"/proc/{project.ledger()[0].split()[1]}").exists()


def test_a_run_whose_jobs_live_goes_on_with_the_profile_that_it_began_with(project):
    engine = project.start("far.py")
    project.until(lambda: len(project.ledger()) == 1)
    os.kill(engine.pid, signal.SIGKILL)
    engine.communicate(timeout=60)
    profile = project.path / "machines.toml"
    profile.write_text(profile.read_text().replace("there", "elsewhere"))
    (project.home / "gate").touch()
    said = project.ended(project.command("resume", "far-1"))
    assert "changed since it began: [machine.far] root. Jobs of it may live, so it goes on as it began" in said
    assert "`dflow-hpc stop far-1`, then `dflow-hpc retry far-1`" in said
    assert "far-1: 1 job on far joined again" in said
    assert project.nodes()["far-1"]["phase"] == "Succeeded", said
    assert not (project.path / "elsewhere").exists()


def test_a_wrong_host_is_mended_in_the_profile_and_the_run_goes_on(project):
    profile = project.path / "machines.toml"
    right = profile.read_text()
    profile.write_text(right.replace('transport = "local"', 'host = "nowhere.invalid"'))
    engine = project.start("far.py")
    lines = []
    while not lines or b"the machine pauses" not in lines[-1]:
        lines.append(engine.stdout.readline())
        assert lines[-1], lines
    assert b"`ssh nowhere.invalid true` must work" in lines[-1]
    engine.send_signal(signal.SIGINT)
    project.ended(engine)
    profile.write_text(right)
    (project.home / "gate").touch()
    said = project.ended(project.command("resume", "far-1"))
    assert "changed since it began, and taken over: [machine.far] host, transport" in said
    assert project.nodes()["far-1"]["phase"] == "Succeeded", said
    [facts] = json.loads(project.ended(project.command("explain", "far-1", "wait", "-o", "json")))
    assert facts["job"]["attempts"][-1]["state"] == "ENDED"


def test_stop_ends_the_jobs(project):
    engine = project.start("far.py")
    project.until(lambda: len(project.ledger()) == 1)
    said = project.ended(project.command("stop", "far-1"))
    assert "far-1: 1 job on far cancelled: the scheduler agrees" in said
    assert "machine far: 1 job is cancelled; the scheduler agrees" in project.ended(engine)
    assert project.nodes()["wait"]["phase"] == "Failed", said
    pid = int(project.ledger()[0].split()[1])
    assert not Path(f"/proc/{pid}").exists()
    (project.home / "gate").touch()
    assert len(project.ledger()) == 1


def test_explain_says_where_a_step_is_from_any_process(project):
    engine = project.start("far.py")
    project.until(lambda: len(project.ledger()) == 1)
    project.until(lambda: "RUNNING: runs" in project.ended(project.command("explain", "far-1", "wait")))
    [facts] = json.loads(project.ended(project.command("explain", "far-1", "wait", "-o", "json")))
    [attempt] = facts["job"]["attempts"]
    assert (facts["machine"], facts["next"]["text"], attempt["state"]) == ("far", "its end is awaited", "RUNNING")
    assert (project.path / "there" / attempt["token"][:-2] / "attempt.1").is_dir()
    assert any(attempt["token"][:-2] in command for command in facts["commands"])
    assert project.ended(project.command("explain", "far-1")).startswith("wait: Running on machine far\n")
    said = project.ended(project.command("explain", "far-1", "double"))
    assert "double of template far-steps: it waits for wait (Running)" in said
    os.kill(engine.pid, signal.SIGKILL)
    engine.communicate(timeout=60)
    said = project.ended(project.command("explain", "far-1", "wait"))
    assert "no process works on the run. Go on with `dflow-hpc resume far-1`" in said
    assert "may go on meanwhile" in said
    assert "steps that ran are: wait" in project.ended(project.command("explain", "far-1", "other"))
    (project.home / "gate").touch()
    project.ended(project.command("resume", "far-1"))
    [facts] = json.loads(project.ended(project.command("explain", "far-1", "double", "-o", "json")))
    assert "doubles 41 text" in facts["log"]
    assert facts["next"]["text"] == "nothing: its outcome is the step's"
    assert "no step of it has failed, and none is at work" in project.ended(project.command("explain", "far-1"))
