"""A failed run is mended: its output is downloaded, edited, uploaded from another directory, and reused."""

import os
from pathlib import Path
from typing import List

from dflow import Step, Workflow, download_artifact, upload_artifact
from dflow.python import OP, OPIO, Artifact, FatalError, OPIOSign, PythonOPTemplate


class Write(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"data": Artifact(List[Path])})

    @OP.exec_sign_check
    def execute(self, op_in):
        files = []
        for i in range(2):
            Path("task.%d" % i).mkdir()
            files.append(Path("task.%d" % i) / "data")
            files[-1].write_text("bad")
        return OPIO({"data": files})


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
    wf = Workflow("restart")
    write = Step("write", PythonOPTemplate(Write, image="python:3.8"), key="write")
    wf.add(write)
    template = PythonOPTemplate(Read, image="python:3.8")
    wf.add(Step("read", template, artifacts={"data": write.outputs.artifacts["data"]}, key="read"))
    return wf


broken = workflow()
broken.submit()
assert broken.query_status() == "Failed"
kept = [step for step in broken.query_step() if step.phase == "Succeeded" and step.key == "write"]
assert len(kept) == 1 and kept[0]["phase"] == "Succeeded"
download_artifact(kept[0].outputs.artifacts["data"], path="mended")
os.chdir("mended")
for i in range(2):
    data = Path("task.%d" % i) / "data"
    data.write_text("good%d" % i)
new = upload_artifact(["task.0/data", "task.1/data"])
os.chdir("..")
kept[0].modify_output_artifact("data", new)

mended = workflow()
mended.submit(reuse_step=kept)
assert mended.query_status() == "Succeeded"
assert mended.query_step(key="read")[0].outputs.parameters["text"].value == "good0 good1"
print("ok")
