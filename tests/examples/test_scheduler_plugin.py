"""A scheduler of a third party, from its package's entry point to leaves that have run."""

import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).parents[2] / "examples" / "scheduler_plugin"
FAKE = Path(__file__).parents[1] / "schedulers" / "fake_lsf.py"
SCRIPT = """
from dflow_hpc import *

@OP.function
def double(n: int) -> {"m": int}:
    return {"m": 2 * n}

shell = ShellOPTemplate("shell", image="any", command=["sh"], script="exit {{inputs.parameters.rc}}")
shell.inputs.parameters["rc"] = InputParameter()

wf = Workflow("mine", id="mine-1")
template = PythonOPTemplate(double, image="any", slices=Slices(input_parameter=["n"], output_parameter=["m"]))
wf.add([
    Step("double", template, parameters={"n": [1, 2, 3]}, executor="mine"),
    Step("fails", shell, parameters={"rc": 3}, executor="mine", continue_on_failed=True),
])
wf.submit()
"""


@pytest.fixture
def site(tmp_path):
    """A directory on the path with the plugin as an installer leaves it, and LSF's commands."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    packages = tmp_path / "packages"
    information = packages / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    ((group, points),) = project["entry-points"].items()
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (information / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    (packages / "dflow_hpc_lsf.py").write_text((PLUGIN / "dflow_hpc_lsf.py").read_text())
    (tmp_path / "bin").mkdir()
    for tool in ("bsub", "bjobs", "bkill", "lsid"):
        command = f"{shlex.quote(sys.executable)} -S {shlex.quote(str(FAKE))}"
        (tmp_path / "bin" / tool).write_text(f'#!/bin/sh\nexec {command} {tool} "$@"\n')
        (tmp_path / "bin" / tool).chmod(0o755)
    (tmp_path / "lsf").mkdir()
    (tmp_path / "mine.py").write_text(SCRIPT)
    (tmp_path / "machines.toml").write_text(
        f'[machine.mine]\nscheduler = "lsf"\nroot = "{tmp_path}/there"\n[machine.mine.waits]\nsteady = 1\n'
    )
    made = Site(tmp_path)
    yield made
    made.tool("bkill", *(job.name for job in (tmp_path / "lsf").iterdir()))


class Site:
    def __init__(self, path):
        self.path = path
        self.env = {
            **os.environ,
            "HOME": str(path),
            "XDG_STATE_HOME": str(path / "state"),
            "PYTHONPATH": str(path / "packages"),
            "PATH": f"{path / 'bin'}:{os.environ['PATH']}",
            "FAKE_LSF": str(path / "lsf"),
        }

    def tool(self, *words):
        return subprocess.run(
            words, check=False, cwd=self.path, env=self.env, capture_output=True, text=True, timeout=120
        )

    def command(self, *words):
        done = self.tool(sys.executable, "-m", "dflow_hpc.cli.main", *words)
        return done.returncode, done.stdout + done.stderr


def test_it_is_small():
    assert len((PLUGIN / "dflow_hpc_lsf.py").read_text().splitlines()) < 150


def test_leaves_run_on_it(site):
    code, said = site.command("machine", "check", "mine")
    assert code == 0, said
    assert "lsf 10.1.0.0" in said
    _, said = site.command("run", "mine.py")
    found = json.loads(site.command("get", "mine-1", "-o", "json")[1])["status"]
    assert found["phase"] == "Succeeded", said
    nodes = {node["displayName"]: node for node in found["nodes"].values()}
    doubled = [
        json.loads(nodes[f"double({number}:{number})"]["outputs"]["parameters"][0]["value"]) for number in range(3)
    ]
    assert [value[0]["dflow_list_item"] for value in doubled] == [2, 4, 6]
    assert nodes["fails"]["message"] == "main: Error (exit code 3)"
    assert len(list((site.path / "lsf").iterdir())) == 5  # the probe, three slices, and the one that fails


def test_what_it_refuses_is_told(site):
    profile = site.path / "machines.toml"
    profile.write_text(profile.read_text() + '[machine.mine.resources]\nqueue = "nosuch"\n')
    code, said = site.command("machine", "check", "mine")
    assert (code, "No such queue" in said) == (1, True), said
