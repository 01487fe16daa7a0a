"""Many small tasks in few leaves, some of which may fail."""

from pathlib import Path
from typing import List

from dflow import Step, Workflow, argo_range
from dflow.python import OP, OPIO, Artifact, FatalError, OPIOSign, PythonOPTemplate, Slices, TransientError


class Half(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"half": int, "paper": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        if op_in["n"] % 2:
            raise FatalError("%d is odd" % op_in["n"])
        name = "half-%d" % op_in["n"]
        Path(name).write_text(str(op_in["n"] // 2))
        return OPIO({"half": op_in["n"] // 2, "paper": Path(name)})


class Grouped(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": List[int]})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"pid": List[int], "half": List[float]})

    @OP.exec_sign_check
    def execute(self, op_in):
        import os

        return OPIO({"pid": [os.getpid()] * len(op_in["n"]), "half": [n / 2 for n in op_in["n"]]})


class Flaky(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"place": str})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"attempts": int})

    @OP.exec_sign_check
    def execute(self, op_in):
        ledger = Path(op_in["place"])
        with ledger.open("a") as file:
            file.write("x")
        attempts = len(ledger.read_text())
        if attempts < 3:
            raise TransientError("not yet")
        return OPIO({"attempts": attempts})


class Collect(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"values": list})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"values": list})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"values": [value for value in op_in["values"] if value is not None]})


if __name__ == "__main__":
    grouped = Step(
        "grouped",
        PythonOPTemplate(
            Grouped,
            image="python:3.8",
            slices=Slices("{{item}}", input_parameter=["n"], output_parameter=["pid", "half"], group_size=4),
        ),
        parameters={"n": list(range(10))},
        with_param=argo_range(10),
        key="group-{{item}}",
    )
    half = PythonOPTemplate(
        Half,
        image="python:3.8",
        slices=Slices("{{item}}", input_parameter=["n"], output_parameter=["half"], output_artifact=["paper"]),
    )
    some = Step(
        "some",
        half,
        parameters={"n": [0, 1, 2, 4]},
        with_param=argo_range(4),
        continue_on_success_ratio=0.75,
    )
    pooled = Step(
        "pooled",
        PythonOPTemplate(
            Half,
            image="python:3.8",
            slices=Slices("{{item}}", input_parameter=["n"], output_parameter=["half"], group_size=3, pool_size=1),
        ),
        parameters={"n": [0, 2, 4, 6]},
        with_param=argo_range(4),
        continue_on_num_success=1,
    )
    flaky = Step(
        "flaky",
        PythonOPTemplate(Flaky, image="python:3.8", retry_on_transient_error=5),
        parameters={"place": str(Path("ledger").resolve())},
        key="flaky",
    )
    collects = [
        Step("collect-" + name, PythonOPTemplate(Collect, image="python:3.8"), parameters={"values": values}, key=name)
        for name, values in (
            ("grouped", grouped.outputs.parameters["half"]),
            ("pids", grouped.outputs.parameters["pid"]),
            ("some", some.outputs.parameters["half"]),
            ("pooled", pooled.outputs.parameters["half"]),
        )
    ]
    wf = Workflow("groups")
    wf.add([grouped, some, pooled, flaky])
    wf.add(collects)
    wf.submit()
    assert wf.query_status() == "Succeeded"

    found = {key: wf.query_step(key=key)[0].outputs.parameters["values"].value for key in ("grouped", "some", "pooled")}
    assert found == {"grouped": [n / 2 for n in range(10)], "some": [0, 1, 2], "pooled": [0, 1, 2, 3]}, found
    pids = wf.query_step(key="pids")[0].outputs.parameters["values"].value
    assert len(set(pids)) == 3
    assert wf.query_step(key="flaky")[0].outputs.parameters["attempts"].value == 3

    wf = Workflow("odd")
    wf.add(Step("odd", PythonOPTemplate(Half, image="python:3.8"), parameters={"n": 1}, continue_on_failed=True))
    wf.add(Step("even", PythonOPTemplate(Half, image="python:3.8"), parameters={"n": 2}, key="even"))
    wf.submit()
    assert wf.query_status() == "Succeeded"
    assert wf.query_step(name="odd")[0].phase == "Failed"

    wf = Workflow("not-enough")
    wf.add(Step("some", half, parameters={"n": [1, 3, 4]}, with_param=argo_range(3), continue_on_success_ratio=0.5))
    wf.submit()
    assert wf.query_status() == "Failed"
    print("ok")
