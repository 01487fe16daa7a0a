"""Steps in containers as jobs of a real Slurm cluster: a script with literal paths, and an OP in another Python."""

import os
import subprocess
import sys

import pytest

from tests.rig import image

pytestmark = pytest.mark.rig

PROGRAM = """
import os, sys
from pathlib import Path
from dflow_hpc import *

@OP.function
def double(n: int, data: Artifact(Path)) -> {"out": Artifact(Path), "where": str}:
    out = Path("out.txt")
    out.write_text(data.read_text() * n)
    Path("/tmp/mine").write_text("x")
    return {"out": out, "where": Path("/etc/image").read_text().strip() + " " + sys.version[:3]}

shell = ShellOPTemplate("shell", image="busybox:1", command=["sh"], script='''
set -e
mkdir /tmp/result
cat /etc/image
tr a-z A-Z < /data/deep/in > /tmp/result/text
test ! -e /scratch
test "$SECRET" = hush
echo 5 > /opt/deep/number
''')
shell.envs = {"SECRET": "hush"}
shell.inputs.artifacts["in"] = InputArtifact(path="/data/deep")
shell.outputs.artifacts["text"] = OutputArtifact(path="/tmp/result")
shell.outputs.parameters["number"] = OutputParameter(value_from_path="/opt/deep/number")

if __name__ == "__main__":
    Path("in").write_text("given")
    wf = Workflow("contained", id="w")
    first = Step("shell", shell, artifacts={"in": upload_artifact("in")}, executor="cpu")
    op = PythonOPTemplate(double, image="python:3.8")
    given = {"n": first.outputs.parameters["number"]}
    second = Step("double", op, parameters=given, artifacts={"data": upload_artifact("in")}, executor="cpu")
    wf.add(first)
    wf.add(second)
    wf.submit()
    wf.wait()
    found = wf.query_step(name="double")[0]
    print("where", found.outputs.parameters["where"].value)
    download_artifact(found.outputs.artifacts["out"], path="got")
"""
PROFILE = """
[machine.cpu]
scheduler = "slurm"
host = "cpu"
ssh_config = "{ssh_config}"
root = "{root}/contained"
{runtime}
[machine.cpu.images]
"*" = "{root}/images/py38"
[machine.cpu.resources]
queue = "cpu"
memory = "200MB"
time = "5m"
"""
PODMAN = 'runtime = "podman"\nruntime_options = ["--runtime=/usr/sbin/runc", "--ulimit=host"]'


@pytest.mark.parametrize("runtime", ['runtime = "charliecloud"', PODMAN])
def test_steps_see_their_image_and_their_paths_and_leave_files_of_the_user(tmp_path, slurm_rig, runtime):
    there = slurm_rig["cpu"]
    made = there.root_here / "images" / "py38"
    if not made.exists():
        if image.build(made) is None:
            pytest.skip("needs busybox and a Python 3.8 of pyenv to make an image of")
        there.ctl("exec", "chown", "-R", f"{there.user}:", f"{there.root}/images", host=there.nodes[0])
    (tmp_path / "program.py").write_text(PROGRAM)
    profile = PROFILE.format(ssh_config=there.ssh_config, root=there.root, runtime=runtime)
    (tmp_path / "machines.toml").write_text(profile)
    environment = {**os.environ, "DFLOW_MODE": "debug", "XDG_STATE_HOME": str(tmp_path / "state")}
    words = [sys.executable, "program.py"]
    ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150, check=False)
    logs = [path.read_text() for path in tmp_path.glob("w/*/log.txt")]
    assert "where an image with Python 3.8 3.8\n" in ran.stdout, (ran.stdout, ran.stderr, logs)
    assert [path.read_text() for path in (tmp_path / "got").rglob("out.txt")] == ["given" * 5]
    assert "an image with Python 3.8\n" in logs
    texts = [path.read_text() for path in tmp_path.glob("w/store/**/*") if path.is_file() and path.name == "text"]
    assert texts == ["GIVEN"]
    assert there.ok(f"find {there.root}/contained ! -user {there.user}") == ""
