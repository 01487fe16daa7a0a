"""Some slices of a step are taken over, others run again: the list of their files is whole all the same."""

from pathlib import Path
from typing import List

from dflow import Step, Workflow, argo_range, upload_artifact
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate, Slices


class Mark(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int, "ledger": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"mark": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        mark = Path("mark-%d" % op_in["n"])
        mark.write_text("%d %s" % (op_in["n"], op_in["ledger"].read_text()))
        return OPIO({"mark": mark})


class Read(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"marks": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"texts": list})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"texts": [path.read_text() for path in op_in["marks"]]})


def workflow(ledger):
    Path("ledger.txt").write_text(ledger)
    many = Step(
        "many",
        PythonOPTemplate(
            Mark,
            image="python:3.8",
            slices=Slices("{{item}}", input_parameter=["n"], output_artifact=["mark"]),
        ),
        parameters={"n": [1, 2, 3]},
        artifacts={"ledger": upload_artifact("ledger.txt")},
        with_param=argo_range(3),
        key="many-{{item}}",
    )
    read = Step(
        "read",
        PythonOPTemplate(Read, image="python:3.8"),
        artifacts={"marks": many.outputs.artifacts["mark"]},
        key="read",
    )
    wf = Workflow("reuse-sliced")
    wf.add(many)
    wf.add(read)
    return wf


first = workflow("first")
first.submit()
assert first.query_status() == "Succeeded"
assert first.query_step(key="read")[0].outputs.parameters["texts"].value == ["1 first", "2 first", "3 first"]

second = workflow("second")
second.submit(reuse_step=first.query_step(key=["many-0", "many-2"]))
assert second.query_status() == "Succeeded"
texts = second.query_step(key="read")[0].outputs.parameters["texts"].value
assert texts == ["1 first", "2 second", "3 first"], texts
print("ok")
