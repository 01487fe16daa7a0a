"""A Steps as the template of a sliced step: each run gets one element of each list, what they give is joined."""

from pathlib import Path
from typing import List

from dflow import InputArtifact, InputParameter, Inputs, OutputArtifact, OutputParameter, Outputs, Step, Steps, Workflow
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate, Slices


class Make(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"numbers": List[int], "names": List[str], "files": Artifact(List[Path])})

    @OP.exec_sign_check
    def execute(self, op_in):
        files = [Path("file-%d" % number) for number in range(op_in["n"])]
        for number, file in enumerate(files):
            file.write_text("content %d" % number)
        names = ['the "%d"' % number for number in range(op_in["n"])]
        return OPIO({"numbers": list(range(op_in["n"])), "names": names, "files": files})


class Square(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"number": int, "name": str})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"square": int, "label": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"square": op_in["number"] ** 2, "label": op_in["name"] + "!"})


class Copy(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"file": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"copy": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        copy = Path("copy")
        copy.write_text("copy of " + op_in["file"].read_text())
        return OPIO({"copy": copy})


class Look(OP):
    """Fail if it sees anything of another slice."""

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"files": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({})

    @OP.exec_sign_check
    def execute(self, op_in):
        assert len(op_in["files"]) == 1, op_in["files"]
        return OPIO({})


class Gather(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"squares": List[int], "labels": List[str], "files": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"all": list})

    @OP.exec_sign_check
    def execute(self, op_in):
        texts = [path.read_text() for path in op_in["files"]]
        return OPIO({"all": [list(one) for one in zip(op_in["squares"], op_in["labels"], texts, strict=True)]})


both = Steps(
    "both",
    inputs=Inputs(
        parameters={"number": InputParameter(), "name": InputParameter()}, artifacts={"file": InputArtifact()}
    ),
    outputs=Outputs(
        parameters={"square": OutputParameter(), "label": OutputParameter()}, artifacts={"copy": OutputArtifact()}
    ),
)
square = Step(
    "square",
    PythonOPTemplate(Square, image="python:3.8"),
    parameters={"number": both.inputs.parameters["number"], "name": both.inputs.parameters["name"]},
)
copy = Step("copy", PythonOPTemplate(Copy, image="python:3.8"), artifacts={"file": both.inputs.artifacts["file"]})
both.add([square, copy])
both.add(Step("look", PythonOPTemplate(Look, image="python:3.8"), artifacts={"files": copy.outputs.artifacts["copy"]}))
both.outputs.parameters["square"].value_from_parameter = square.outputs.parameters["square"]
both.outputs.parameters["label"].value_from_parameter = square.outputs.parameters["label"]
both.outputs.artifacts["copy"]._from = copy.outputs.artifacts["copy"]

make = Step("make", PythonOPTemplate(Make, image="python:3.8"), parameters={"n": 3})
many = Step(
    "many",
    both,
    parameters={"number": make.outputs.parameters["numbers"], "name": make.outputs.parameters["names"]},
    artifacts={"file": make.outputs.artifacts["files"]},
    slices=Slices(
        "{{item}}",
        input_parameter=["number", "name"],
        input_artifact=["file"],
        output_parameter=["square", "label"],
        output_artifact=["copy"],
        create_dir=True,
    ),
    key="many-{{item}}",
)
gather = Step(
    "gather",
    PythonOPTemplate(Gather, image="python:3.8"),
    parameters={"squares": many.outputs.parameters["square"], "labels": many.outputs.parameters["label"]},
    artifacts={"files": many.outputs.artifacts["copy"]},
)
wf = Workflow("nested-slices")
for step in (make, many, gather):
    wf.add(step)
wf.submit()
assert wf.query_status() == "Succeeded"
found = wf.query_step(name="gather")[0].outputs.parameters["all"].value
assert found == [[n**2, 'the "%d"!' % n, "copy of content %d" % n] for n in range(3)], found
assert sorted(key for key in wf.query_keys_of_steps() if key.startswith("many-") and len(key) == 6) == [
    "many-0",
    "many-1",
    "many-2",
]
print("ok")
