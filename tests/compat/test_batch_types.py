"""DispatcherExecutor with PBS, as dflow's users write it: a job of the fake OpenPBS, failed, mended, retried."""

import json
import subprocess
import sys

import pytest

from tests.schedulers import fakes

pytestmark = pytest.mark.slow

PROGRAM = """
import os

from dflow import OutputParameter, ShellOPTemplate, Step, Workflow, config
from dflow.plugins.dispatcher import DispatcherExecutor

config["mode"] = "debug"
dispatcher = DispatcherExecutor(
    queue_name="workq",
    machine_dict={
        "batch_type": "PBS",
        "context_type": "LocalContext",
        "local_root": "./",
        "remote_root": os.path.abspath("cluster"),
    },
    resources_dict={
        "number_node": 1,
        "cpu_per_node": 2,
        "group_size": 1,
        "custom_flags": ["#PBS -l walltime=00:10:00", "#PBS -N mine"],
        "source_list": [os.path.abspath("setup.sh") + " argument"],
        "envs": {"WORD": "it's"},
    },
)
script = 'echo "$PBS_JOBNAME $WORD $SOURCED" >/tmp/said; [ -e $HOME/mended ]'
template = ShellOPTemplate("say", image="alpine", script=script)
template.outputs.parameters["said"] = OutputParameter(value_from_path="/tmp/said")
wf = Workflow("pbs", id="pbs-1")
wf.add(Step("say", template, executor=dispatcher))
wf.submit()
"""


def test_a_job_of_pbs_and_its_retry(tmp_path):
    cluster = fakes.pbs(tmp_path)
    env = {**cluster.env, "XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    (tmp_path / "main.py").write_text(PROGRAM)
    (tmp_path / "setup.sh").write_text("export SOURCED=$1\n")

    def run(*words):
        command = [sys.executable, "-m", "dflow_hpc.cli.main", *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr

    code, said = run("run", "--plain", "--as-dflow", "main.py")
    assert (code, "`#PBS -N mine` is left out" in said) == (1, True), said
    (cluster.home / "mended").touch()
    code, said = run("retry", "pbs-1")
    assert code == 0, said
    nodes = json.loads(run("get", "-o", "json", "pbs-1")[1])["status"]["nodes"]
    [value] = [node["outputs"]["parameters"][0]["value"] for node in nodes.values() if node["type"] == "Pod"]
    name, *rest = value.split()
    assert name.endswith(".say")
    assert rest == ["it's", "argument"]
    jobs = [json.loads(path.read_text())["attributes"] for path in sorted((tmp_path / "pbs").glob("jobs/*.json"))]
    assert [job["queue"] for job in jobs] == ["workq", "workq"]
    assert [job["Resource_List"]["walltime"] for job in jobs] == ["00:10:00"] * 2
    assert [job["Resource_List"]["ncpus"] for job in jobs] == [2, 2] or jobs[0]["Resource_List"]["select"]
