"""One artifact, named by its program, into which the members of a loop save their files."""

import uuid
from pathlib import Path

from dflow import S3Artifact, Step, Workflow, download_artifact
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate


class Generate(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign()

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"parts": list})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"parts": [{"name": "part-%d" % i} for i in range(3)]})


class Write(OP):
    save = None

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"name": str})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"text": Artifact(Path, archive=None, save=cls.save)})

    @OP.exec_sign_check
    def execute(self, op_in):
        Path("text").write_text(op_in["name"])
        return OPIO({"text": Path("text")})


class Collect(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"all": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"texts": list})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"texts": [(part / "text").read_text() for part in sorted(op_in["all"].iterdir())]})


wf = Workflow("common")
generate = Step("generate", PythonOPTemplate(Generate, image="python:3.8"))
wf.add(generate)
everything = S3Artifact(key=str(uuid.uuid4()))
Write.save = everything.sub_path("{{inputs.parameters.name}}")
write = PythonOPTemplate(Write, image="python:3.8")
parts = generate.outputs.parameters["parts"]
wf.add(Step("write", write, parameters={"name": "{{item.name}}"}, with_param=parts))
collect = PythonOPTemplate(Collect, image="python:3.8")
wf.add(Step("collect", collect, artifacts={"all": everything}, key="collect"))
wf.submit()
assert wf.query_status() == "Succeeded"
assert wf.query_step(key="collect")[0].outputs.parameters["texts"].value == ["part-0", "part-1", "part-2"]
download_artifact(everything, path="got")
assert sorted(path.name for path in Path("got").iterdir()) == ["part-0", "part-1", "part-2"]
print("ok")
