"""A second workflow takes over what a first one did, one output changed by hand."""

from pathlib import Path

from dflow import Step, Workflow, argo_range, upload_artifact
from dflow.python import OP, OPIO, Artifact, BigParameter, OPIOSign, PythonOPTemplate, Slices


class Count(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int, "ledger": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"doubled": int, "state": BigParameter(dict), "mark": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        Path("mark").write_text("run %d with %s" % (op_in["n"], op_in["ledger"].read_text()))
        return OPIO({"doubled": 2 * op_in["n"], "state": {"n": [op_in["n"]] * 3}, "mark": Path("mark")})


class Sum(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"values": list, "state": BigParameter(dict), "mark": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"sum": int, "text": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"sum": sum(op_in["values"]) + sum(op_in["state"]["n"]), "text": op_in["mark"].read_text()})


def workflow(ledger):
    Path("ledger.txt").write_text(ledger)
    upload = upload_artifact("ledger.txt")
    wf = Workflow("reuse")
    one = Step(
        "one",
        PythonOPTemplate(Count, image="python:3.8"),
        parameters={"n": 5},
        artifacts={"ledger": upload},
        key="one",
    )
    many = Step(
        "many",
        PythonOPTemplate(
            Count,
            image="python:3.8",
            slices=Slices("{{item}}", input_parameter=["n"], output_parameter=["doubled"]),
        ),
        parameters={"n": [1, 2, 3]},
        artifacts={"ledger": upload},
        with_param=argo_range(3),
        key="many-{{item}}",
    )
    wf.add([one, many])
    wf.add(
        Step(
            "sum",
            PythonOPTemplate(Sum, image="python:3.8"),
            parameters={"values": many.outputs.parameters["doubled"], "state": one.outputs.parameters["state"]},
            artifacts={"mark": one.outputs.artifacts["mark"]},
            key="sum",
        )
    )
    return wf


first = workflow("first")
first.submit()
assert first.query_status() == "Succeeded"
(result,) = first.query_step(key="sum")
assert result.outputs.parameters["sum"].value == 12 + 15
assert result.outputs.parameters["text"].value == "run 5 with first"

one = first.query_step(key="one")[0]
assert one.outputs.parameters["state"].value == {"n": [5, 5, 5]}
one.modify_output_parameter("state", {"n": [100]})
kept = [one, *first.query_step(key=["many-0", "many-2"])]
second = workflow("second")
second.submit(reuse_step=kept)
assert second.query_status() == "Succeeded"
(result,) = second.query_step(key="sum")
assert result.outputs.parameters["sum"].value == 12 + 100
assert result.outputs.parameters["text"].value == "run 5 with first"
print("ok")
