"""Big values, global outputs, workflow parameters, and templates that are plain scripts."""

from pathlib import Path

from dflow import (
    InputArtifact,
    InputParameter,
    Inputs,
    OutputArtifact,
    OutputParameter,
    Outputs,
    PythonScriptOPTemplate,
    ShellOPTemplate,
    Step,
    Workflow,
    download_artifact,
    upload_artifact,
)
from dflow.python import OP, OPIO, Artifact, BigParameter, OPIOSign, Parameter, PythonOPTemplate


class Config:
    def __init__(self, lines):
        self.lines = lines


class Make(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"conf": BigParameter(Config), "n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({
            "conf": BigParameter(Config),
            "n": Parameter(int, global_name="made"),
            "paper": Artifact(Path, global_name="paper"),
        })  # fmt: skip

    @OP.exec_sign_check
    def execute(self, op_in):
        assert isinstance(op_in["conf"], Config)
        Path("paper.txt").write_text("n = %d" % op_in["n"])
        return OPIO({"conf": Config(op_in["conf"].lines * 2), "n": op_in["n"] + 1, "paper": Path("paper.txt")})


class Read(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"conf": BigParameter(Config), "words": list})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"size": int, "words": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"size": len(op_in["conf"].lines), "words": " ".join(op_in["words"])})


wf = Workflow("outputs", parameters={"start": 4})
make = Step(
    "make",
    PythonOPTemplate(Make, image="python:3.8"),
    parameters={"conf": Config(["line %d" % i for i in range(20000)]), "n": "{{workflow.parameters.start}}"},
)
wf.add(make)

shell = ShellOPTemplate(
    "shout",
    image="alpine:latest",
    inputs=Inputs(parameters={"word": InputParameter()}, artifacts={"paper": InputArtifact(path="/tmp/in/paper")}),
    outputs=Outputs(
        parameters={"loud": OutputParameter(type=str, value_from_path="/tmp/loud.txt")},
        artifacts={"copy": OutputArtifact(path="/tmp/copy.txt")},
    ),
    script="echo '{{inputs.parameters.word}}!' > /tmp/loud.txt && cat /tmp/in/paper/paper.txt > /tmp/copy.txt",
)
python = PythonScriptOPTemplate(
    "whisper",
    image="python:3.8",
    inputs=Inputs(parameters={"word": InputParameter()}),
    outputs=Outputs(parameters={"quiet": OutputParameter(type=str, value_from_path="/tmp/quiet.txt")}),
    script="open('/tmp/quiet.txt', 'w').write('{{inputs.parameters.word}}'.lower())",
)
shout = Step("shout", shell, parameters={"word": "hello"}, artifacts={"paper": make.outputs.artifacts["paper"]})
whisper = Step("whisper", python, parameters={"word": "HELLO"})
wf.add([shout, whisper])
read = Step(
    "read",
    PythonOPTemplate(Read, image="python:3.8"),
    parameters={
        "conf": make.outputs.parameters["conf"],
        "words": [shout.outputs.parameters["loud"], whisper.outputs.parameters["quiet"]],
    },
)
wf.add(read)
wf.submit()
assert wf.query_status() == "Succeeded"
done = wf.query_step(name="read")[0]
assert done.outputs.parameters["size"].value == 40000
assert done.outputs.parameters["words"].value == "hello! hello"
outputs = wf.query_global_outputs()
assert outputs.parameters["made"].value in (5, "5")
(paper,) = download_artifact(outputs.artifacts["paper"], path="got")
assert Path(paper).read_text() == "n = 4"
(copy,) = download_artifact(wf.query_step(name="shout")[0].outputs.artifacts["copy"], path="copy")
assert Path(copy).read_text() == "n = 4"
assert upload_artifact(paper).key
print("ok")
