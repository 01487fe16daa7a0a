"""Steps that add themselves to what is open, OPs with state, annotations as text, early outputs, and plain records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, NamedTuple

from dflow import Step, Steps, Task, Workflow, config, download_artifact, set_config, upload_artifact
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate
from dflow.utils import run_command, set_directory

set_config(save_path_as_parameter=False)
assert config["save_path_as_parameter"] is False


class Result(NamedTuple):
    total: int
    paper: Artifact(Path)


class Power(OP):
    def __init__(self, exponent):
        self.exponent = exponent

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"base": int, "words": List[str]})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"power": int, "listing": Artifact(List[str])})

    @OP.exec_sign_check
    def execute(self, op_in):
        with set_directory("inner", mkdir=True) as here:
            for word in op_in["words"]:
                (here / word).write_text(word)
            code, out, err = run_command(["ls"])
        assert code == 0, err
        return OPIO({"power": op_in["base"] ** self.exponent, "listing": ["inner/" + name for name in out.split()]})


@OP.function
def combine(powers: List[int], listing: Artifact(List[Path]), note: str = "none") -> Result:
    paper = Path("paper.json")
    paper.write_text(json.dumps({"names": sorted(path.name for path in listing), "note": note}))
    return Result(sum(powers), paper)


if __name__ == "__main__":
    with Workflow("context") as wf:
        with Steps("powers") as powers:
            cube = Step(
                "cube", PythonOPTemplate(Power(3), image="python:3.8"), parameters={"base": 2, "words": ["a", "b"]}
            )
            square = Step("square", PythonOPTemplate(Power(2), image="python:3.8"), parameters={"base": 5, "words": []})
        Task("powers", powers)
        direct = Task("direct", PythonOPTemplate(Power(1)), parameters={"base": 7, "words": ["x", "y"]}, key="direct")
        combined = combine.use(key="combine")(
            powers=[direct.outputs.parameters["power"], 1], listing=direct.outputs.artifacts["listing"]
        )
        combine.use(key="again")(powers=[combined.total], listing=upload_artifact([__file__]), note="second")
    assert wf.query_status() == "Succeeded"
    assert wf.query_step(name="cube")[0].outputs.parameters["power"].value == 8
    assert wf.query_step(key="again")[0].outputs.parameters["total"].value == 8
    (paper,) = download_artifact(wf.query_step(key="combine")[0].outputs.artifacts["paper"], path="got")
    assert json.loads(Path(paper).read_text()) == {"names": ["x", "y"], "note": "none"}
    print("ok")
