"""Steps by DispatcherExecutor, as dflow's users write them: slices, artifacts, a JSON file, variables; no scheduler."""

import json
import os
import sys
from pathlib import Path
from typing import List

from dflow import (
    InputArtifact,
    InputParameter,
    OutputArtifact,
    OutputParameter,
    ShellOPTemplate,
    Step,
    Workflow,
    config,
    download_artifact,
    upload_artifact,
)
from dflow.plugins.dispatcher import DispatcherExecutor
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate, Slices

config["mode"] = "debug"
ROOT = str(Path("cluster").absolute())


class Relax(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"number": int, "structure": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"energy": float, "log": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        assert os.environ["OMP_NUM_THREADS"] == "2"
        assert os.environ["DFLOW_WORKFLOW"].startswith("relax-")
        assert str(Path.cwd()).startswith(os.environ["EXPECTED_ROOT"])
        log = Path("relax-{}.log".format(op_in["number"]))
        log.write_text(op_in["structure"].read_text() + str(op_in["number"]))
        return OPIO({"energy": op_in["number"] / 2, "log": log})


def main():
    Path("machine.json").write_text(
        json.dumps(
            {
                "machine": {"batch_type": "Shell", "context_type": "LocalContext", "remote_root": ROOT},
                "resources": {"group_size": 1, "envs": {"OMP_NUM_THREADS": 2, "EXPECTED_ROOT": ROOT}},
            }
        )
    )
    dispatcher = DispatcherExecutor(
        json_file="machine.json",
        remote_command=[sys.executable],
        resources_dict={"number_node": 1, "cpu_per_node": 1},
    )
    Path("a.vasp").write_text("a")
    Path("b.vasp").write_text("b")
    relax = Step(
        "relax",
        PythonOPTemplate(
            Relax,
            image="python:3.8",
            slices=Slices(
                "{{item}}",
                input_parameter=["number"],
                input_artifact=["structure"],
                output_parameter=["energy"],
                output_artifact=["log"],
            ),
        ),
        parameters={"number": [1, 2]},
        artifacts={"structure": upload_artifact(["a.vasp", "b.vasp"])},
        with_param=[0, 1],
        key="relax-{{item}}",
        executor=dispatcher,
    )
    count = ShellOPTemplate(
        "count",
        image="alpine",
        script="cat /tmp/logs/relax-*.log > /tmp/all.txt; echo {{inputs.parameters.word}} > /tmp/word.txt",
    )
    count.inputs.parameters["word"] = InputParameter()
    count.inputs.artifacts["logs"] = InputArtifact(path="/tmp/logs")
    count.outputs.parameters["word"] = OutputParameter(value_from_path="/tmp/word.txt")
    count.outputs.artifacts["all"] = OutputArtifact(path="/tmp/all.txt")
    collect = Step(
        "collect",
        count,
        parameters={"word": "done"},
        artifacts={"logs": relax.outputs.artifacts["log"]},
        executor=DispatcherExecutor(json_file="machine.json"),
    )
    wf = Workflow("relax")
    wf.add(relax)
    wf.add(collect)
    wf.submit()
    wf.wait()
    assert wf.query_status() == "Succeeded"
    [step] = wf.query_step("collect")
    assert step.outputs.parameters["word"].value == "done"
    [everything] = download_artifact(step.outputs.artifacts["all"], path="got")
    assert Path(everything).read_text() == "a1b2"
    energies: List[float] = [
        one.outputs.parameters["energy"].value for one in wf.query_step_by_key(["relax-0", "relax-1"])
    ]
    assert len(energies) == 2
    assert len(list(Path(ROOT).iterdir())) >= 4  # three steps, and what is common to them
    print("ok")


if __name__ == "__main__":
    main()
