"""Output files that an OP names and does not write: dflow records nothing for them, and the run goes on."""

from pathlib import Path
from typing import List

from dflow import Step, Workflow, argo_range, download_artifact
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate, Slices


class Draw(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"data": Artifact(Path), "figure": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        data, figure = Path("data.%d" % op_in["n"]), Path("figure.%d" % op_in["n"])
        data.write_text("data")
        if op_in["n"] == 1:
            figure.write_text("figure")
        return OPIO({"data": data, "figure": figure})


class Count(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"figures": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"written": int})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"written": len([path for path in op_in["figures"] if path is not None])})


wf = Workflow("missing")
slices = Slices("{{item}}", input_parameter=["n"], output_artifact=["data", "figure"])
draw = Step(
    "draw",
    PythonOPTemplate(Draw, image="python:3.8", slices=slices),
    parameters={"n": [0, 1]},
    with_param=argo_range(2),
)
one = Step("one", PythonOPTemplate(Draw, image="python:3.8"), parameters={"n": 0}, key="one")
wf.add([draw, one])
template = PythonOPTemplate(Count, image="python:3.8")
wf.add(Step("count", template, artifacts={"figures": draw.outputs.artifacts["figure"]}, key="count"))
wf.submit()
assert wf.query_status() == "Succeeded"
assert wf.query_step(key="count")[0].outputs.parameters["written"].value == 1
outputs = wf.query_step(key="one")[0].outputs.artifacts
assert download_artifact(outputs["figure"], path="got") == [None]
assert Path(download_artifact(outputs["data"], path="got")[0]).read_text() == "data"
print("ok")
