"""``--machine STEP=MACHINE`` and ``[place]``: the same program on other machines, also when it is retried."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
from dflow_hpc import *

say = ShellOPTemplate("say", image="busybox", command=["sh"], script='''
echo "$DFH_TOKEN" >> $HOME/{{inputs.parameters.who}}
[ ! -e $HOME/fail ]
''')
say.inputs.parameters["who"] = InputParameter()
wf = Workflow("placed", id="placed-1")
wf.add([Step("first", say, {"who": "a"}, executor=EXECUTOR), Step("second", say, {"who": "b"}, executor=EXECUTOR)])
wf.submit()
"""
PROFILE = '[machine.far]\nscheduler = "shell"\ntransport = "local"\nroot = "{0}"\n'


@pytest.fixture
def project(tmp_path):
    (tmp_path / "machines.toml").write_text(PROFILE.format(tmp_path / "there"))

    def run(*words, executor="None", expect=0):
        (tmp_path / "main.py").write_text(PROGRAM.replace("EXECUTOR", executor))
        env = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
        command = [sys.executable, "-m", "dflow_hpc.cli.main", *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def on_a_machine():
        """Say of each step whether its last try ran as a job."""
        return {who: bool((tmp_path / who).read_text().splitlines()[-1]) for who in ("a", "b")}

    run.path, run.on_a_machine = tmp_path, on_a_machine
    return run


def test_steps_go_where_the_command_line_says_and_stay_there_in_a_retry(project):
    (project.path / "fail").touch()
    project("run", "main.py", "--machine", "sec*=far", expect=1)
    assert project.on_a_machine() == {"a": False, "b": True}
    (project.path / "fail").unlink()
    project("retry", "placed-1")
    assert project.on_a_machine() == {"a": False, "b": True}
    assert json.loads(project("get", "-o", "json", "placed-1"))["status"]["phase"] == "Succeeded"


def test_a_machine_that_nobody_has_is_not_missed_by_steps_that_run_here(project):
    project("run", "main.py", "--machine", "say=local", "--machine", "first=far", executor="'gone'")
    assert project.on_a_machine() == {"a": True, "b": False}


def test_rules_of_the_machines_file_and_mistakes_that_run_nothing(project):
    machines = project.path / "machines.toml"
    machines.write_text('[place]\n"*" = "far"\n' + machines.read_text())
    assert "did you mean 'second'?" in project("run", "main.py", "--machine", "secnd=far", expect=2)
    assert "Did you mean 'far'?" in project("run", "main.py", "--machine", "second=fra", expect=2)
    assert not (project.path / "a").exists()
    project("run", "main.py", "--machine", "second=-")
    assert project.on_a_machine() == {"a": True, "b": False}
