"""One slice of a failed loop's output is replaced by files uploaded from another directory; the rest is reused."""

import os
from pathlib import Path
from typing import List

from dflow import Step, Workflow, argo_range, download_artifact, path_list_of_artifact, upload_artifact
from dflow.python import OP, OPIO, Artifact, FatalError, OPIOSign, PythonOPTemplate, Slices


class Write(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"data": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        path = Path("task.%d" % op_in["n"])
        path.write_text("bad" if op_in["n"] == 1 else "good")
        return OPIO({"data": path})


class Read(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"data": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"text": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        texts = [path.read_text() for path in op_in["data"]]
        if "bad" in texts:
            raise FatalError("bad data")
        return OPIO({"text": " ".join(texts)})


def workflow():
    wf = Workflow("restart-slice")
    slices = Slices("{{item}}", input_parameter=["n"], output_artifact=["data"])
    write = Step(
        "write",
        PythonOPTemplate(Write, image="python:3.8", slices=slices),
        parameters={"n": [0, 1, 2]},
        with_param=argo_range(3),
        key="write-{{item}}",
    )
    wf.add(write)
    template = PythonOPTemplate(Read, image="python:3.8")
    wf.add(Step("read", template, artifacts={"data": write.outputs.artifacts["data"]}, key="read"))
    return wf


broken = workflow()
broken.submit()
assert broken.query_status() == "Failed"
kept = broken.query_step(key=["write-0", "write-1", "write-2"])
assert [step.phase for step in kept] == ["Succeeded"] * 3
(bad,) = [step for step in kept if step.key == "write-1"]
Path("elsewhere").mkdir()
os.chdir("elsewhere")
Path("task.1").write_text("mended")
new = upload_artifact("task.1")
os.chdir("..")
assert path_list_of_artifact(new) == ["task.1"]
assert Path(download_artifact(new, path="seen")[0]).read_text() == "mended"
bad.modify_output_artifact("data", new)

mended = workflow()
mended.submit(reuse_step=kept)
assert mended.query_status() == "Succeeded"
assert mended.query_step(key="read")[0].outputs.parameters["text"].value == "good mended good"
print("ok")
