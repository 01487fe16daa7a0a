"""Sliced input artifacts that a step leaves out, in a leaf and in a Steps, which need not declare them optional."""

from pathlib import Path

from dflow import InputArtifact, InputParameter, Inputs, Step, Steps, Workflow, upload_artifact
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate, Slices


class Look(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"name": str, "file": Artifact(Path), "extra": Artifact(Path, optional=True)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"text": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        assert op_in["extra"] is None
        return OPIO({"text": "%s %s" % (op_in["name"], op_in["file"].read_text())})


def template(**options):
    slices = Slices(input_parameter=["name"], input_artifact=["file", "extra"], output_parameter=["text"], **options)
    return PythonOPTemplate(Look, image="python:3.8", slices=slices)


for i in range(2):
    Path("file%d" % i).write_text(str(i))
files = upload_artifact(["file0", "file1"], archive=None)

inner = Steps(
    "inner",
    inputs=Inputs(
        parameters={"name": InputParameter(type=str)},
        artifacts={"file": InputArtifact(), "extra": InputArtifact()},
    ),
)
inner.add(
    Step(
        "look",
        PythonOPTemplate(Look, image="python:3.8"),
        parameters={"name": inner.inputs.parameters["name"]},
        artifacts={"file": inner.inputs.artifacts["file"], "extra": inner.inputs.artifacts["extra"]},
        key="inner-%s" % inner.inputs.parameters["name"],
    )
)

wf = Workflow("left-out")
given = {"parameters": {"name": ["a", "b"]}, "artifacts": {"file": files, "extra": None}}
wf.add(Step("plain", template(), key="plain-{{item}}", **given))
wf.add(Step("by-path", template(sub_path=True), key="by-path-{{item}}", **given))
wf.add(Step("inner", inner, slices=Slices(input_parameter=["name"], input_artifact=["file", "extra"]), **given))
wf.submit()
assert wf.query_status() == "Succeeded"
for key in ("plain-1", "by-path-1", "inner-b"):
    text = wf.query_step(key=key)[0].outputs.parameters["text"].value
    assert "b 1" in str(text), text
print("ok")
