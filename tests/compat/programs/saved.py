"""Slices whose outputs go to a key that the program chooses, from which a later step and the program take them."""

from pathlib import Path
from typing import List

import dflow
from dflow import S3Artifact, Step, Workflow, argo_range, download_artifact
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate, Slices, upload_packages

upload_packages.extend(list(dflow.__path__)[:1])
assert len(upload_packages) == 1


class Run(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"outputs": Artifact(List[Path])})

    @OP.exec_sign_check
    def execute(self, op_in):
        out = Path("job.%d" % op_in["n"])
        out.mkdir()
        (out / "log").write_text("x" * op_in["n"])
        return OPIO({"outputs": [out]})


class Gather(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"root": Artifact(Path), "all": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"sizes": list, "jobs": list})

    @OP.exec_sign_check
    def execute(self, op_in):
        logs = sorted(op_in["root"].glob("job.*/log"))
        return OPIO({"sizes": [len(log.read_text()) for log in logs], "jobs": [path.name for path in op_in["all"]]})


wf = Workflow("saved")
kept = S3Artifact(key="{{workflow.name}}/results")
for name, numbers in (("first", [1, 2]), ("second", [3, 4])):
    slices = Slices("{{item}}", input_parameter=["n"], output_artifact=["outputs"])
    run = Step(
        name,
        PythonOPTemplate(Run, image="python:3.8", slices=slices),
        parameters={"n": numbers},
        with_param=argo_range(2),
        key=name + "-{{item}}",
    )
    run.template.outputs.artifacts["outputs"].save = [kept]
    run.template.outputs.artifacts["outputs"].archive = None
    wf.add(run)
gather = PythonOPTemplate(Gather, image="python:3.8")
wf.add(Step("gather", gather, artifacts={"root": kept, "all": run.outputs.artifacts["outputs"]}, key="gather"))
wf.submit()
assert wf.query_status() == "Succeeded"
found = wf.query_step(key="gather")[0].outputs.parameters
assert found["sizes"].value == [1, 2, 3, 4]
assert set(found["jobs"].value) >= {"job.3", "job.4"}
download_artifact(S3Artifact(key="%s/results" % wf.id), path="got")
assert Path("got/job.4/log").read_text() == "xxxx"
print("ok")
