"""A program of dflow's style on two real Slurm clusters over SSH, by each of its executors."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.rig

PROGRAM = """
import os
from pathlib import Path

from dflow import (
    InputParameter, OutputArtifact, OutputParameter, ShellOPTemplate, SlurmRemoteExecutor, Step, Workflow, argo_range,
    config, download_artifact, upload_artifact,
)
from dflow import RemoteExecutor
from dflow.plugins.dispatcher import DispatcherExecutor
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate, Slices

config["mode"] = "debug"


class Train(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int, "data": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"loss": float, "model": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        partition, tasks = os.environ["SLURM_JOB_PARTITION"], os.environ["SLURM_NTASKS_PER_NODE"]
        Path("model").write_text(" ".join([op_in["data"].read_text(), partition, tasks, os.environ["FROM_ENVS"]]))
        return OPIO({"loss": op_in["n"] / 2, "model": Path("model")})


def main():
    HOST, USER, KEY = os.environ["RIG_HOST"], os.environ["RIG_USER"], os.environ["RIG_KEY"]
    CPU, GPU = int(os.environ["RIG_CPU"]), int(os.environ["RIG_GPU"])
    slurm = SlurmRemoteExecutor(
        host=HOST,
        port=CPU,
        username=USER,
        private_key_file=KEY,
        workdir="~/dflow-h/{{workflow.name}}/{{pod.name}}",
        header='''#!/bin/bash
          #SBATCH -N 1 -n 1 -p cpu
          #SBATCH --job-name="mine"
          #SBATCH -e err.txt
          #SBATCH --mem=100M
          #SBATCH --time=0:05:00
          export FROM_HEADER=header
        ''',
    )
    label = ShellOPTemplate(
        "label",
        image="alpine",
        script="n={{inputs.parameters.n}}; echo $SLURM_JOB_PARTITION $n $FROM_HEADER > /tmp/out.txt; echo $n > /tmp/n",
    )
    label.inputs.parameters["n"] = InputParameter()
    label.outputs.parameters["n"] = OutputParameter(value_from_path="/tmp/n")
    label.outputs.artifacts["out"] = OutputArtifact(path="/tmp/out.txt")
    first = Step("label", label, parameters={"n": "{{item}}"}, with_param=argo_range(3), executor=slurm)
    Path("data").write_text("data")
    dispatcher = DispatcherExecutor(
        machine_dict={
            "batch_type": "Slurm",
            "context_type": "SSHContext",
            "remote_root": "dflow-d",
            "remote_profile": {"hostname": HOST, "username": USER, "port": GPU, "key_filename": KEY, "timeout": 10},
        },
        resources_dict={
            "number_node": 1,
            "cpu_per_node": 2,
            "gpu_per_node": 1,
            "queue_name": "gpu",
            "group_size": 1,
            "custom_flags": ["#SBATCH --time=5:00", "#SBATCH --mem=100M"],
            "envs": {"FROM_ENVS": "it's here"},
        },
    )
    second = Step(
        "train",
        PythonOPTemplate(Train, image="python:3.8"),
        parameters={"n": 3},
        artifacts={"data": upload_artifact("data")},
        executor=dispatcher,
    )
    remote = RemoteExecutor(host=HOST, port=CPU, username=USER, private_key_file=KEY)
    third = Step("say", ShellOPTemplate("say", image="alpine", script="uname -n"), executor=remote)
    wf = Workflow("rig")
    wf.add([first, second, third])
    wf.submit()
    wf.wait()
    assert wf.query_status() == "Succeeded"
    texts = []
    for step in wf.query_step("label", type="Pod"):
        [path] = download_artifact(step.outputs.artifacts["out"], path="got-" + step.outputs.parameters["n"].value)
        texts.append(Path(path).read_text().strip())
    assert sorted(texts) == ["cpu 0 header", "cpu 1 header", "cpu 2 header"], texts
    [train] = wf.query_step("train")
    [model] = download_artifact(train.outputs.artifacts["model"], path="model")
    assert Path(model).read_text() == "data gpu 2 it's here"
    print("ok", wf.id)


if __name__ == "__main__":
    main()
"""


def test_a_program_of_dflows_runs_unchanged_on_two_clusters(tmp_path, slurm_rig):
    cpu, gpu = slurm_rig["cpu"], slurm_rig["gpu"]
    (tmp_path / "main.py").write_text(PROGRAM)
    known = tmp_path / "dflow-hpc" / "known_hosts"
    known.parent.mkdir()
    known.write_text(cpu.known_hosts.read_text())
    rig = {"RIG_HOST": cpu.host, "RIG_USER": cpu.user, "RIG_KEY": str(cpu.key)}
    env = {**os.environ, **rig, "RIG_CPU": str(cpu.port), "RIG_GPU": str(gpu.port)}
    env |= {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path)}
    words = [sys.executable, "-m", "dflow_hpc.cli.main", "run", "--plain", "--as-dflow", "main.py"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "--job-name=mine is left out" in said
    [line] = [line for line in said.splitlines() if line.startswith("ok ")]
    kept = json.loads((tmp_path / line.split()[1] / "machines.json").read_text())
    assert {machine["root"] for machine in kept.values()} == {"dflow-h", "dflow-d", "dflow/workflows"}
    assert str(cpu.key) not in (tmp_path / line.split()[1] / "workflow.json").read_text()
