"""The other ways to loop: sequences, lengths and sums that are known only later, enumerations, and loops in loops."""

from typing import List

from dflow import (
    InputParameter,
    Inputs,
    OutputParameter,
    Outputs,
    Step,
    Steps,
    Workflow,
    argo_enumerate,
    argo_len,
    argo_range,
    argo_sequence,
    argo_sum,
)
from dflow.python import OP, OPIO, OPIOSign, Parameter, PythonOPTemplate, Slices


class Make(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"numbers": List[int], "count": int})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"numbers": [10 * i for i in range(op_in["n"])], "count": op_in["n"]})


class Add(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"number": int, "index": Parameter(int, default=1000)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"sum": int})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"sum": op_in["number"] + op_in["index"]})


class Collect(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"values": list})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"values": list})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"values": op_in["values"]})


def sliced(**options):
    return PythonOPTemplate(
        Add,
        image="python:3.8",
        slices=Slices("{{item}}", input_parameter=["number"], output_parameter=["sum"], **options),
    )


def collect(name, values):
    return Step(
        "collect-" + name,
        PythonOPTemplate(Collect, image="python:3.8"),
        parameters={"values": values},
        key="collect-" + name,
    )


inner = Steps(
    "inner",
    inputs=Inputs(parameters={"number": InputParameter(type=int)}),
    outputs=Outputs(parameters={"sum": OutputParameter(type=int)}),
)
first = Step(
    "first",
    PythonOPTemplate(Add, image="python:3.8"),
    parameters={"number": inner.inputs.parameters["number"], "index": 1},
)
inner.add(first)
second = Step(
    "second",
    PythonOPTemplate(Add, image="python:3.8"),
    parameters={"number": first.outputs.parameters["sum"], "index": 1},
)
inner.add(second)
inner.outputs.parameters["sum"].value_from_parameter = second.outputs.parameters["sum"]

wf = Workflow("loops", parallelism=4)
make = Step("make", PythonOPTemplate(Make, image="python:3.8"), parameters={"n": 3})
makes = Step(
    "makes",
    PythonOPTemplate(
        Make, image="python:3.8", slices=Slices("{{item}}", input_parameter=["n"], output_parameter=["count"])
    ),
    parameters={"n": [1, 2]},
    with_param=argo_range(2),
)
wf.add([make, makes])
numbers = make.outputs.parameters["numbers"]
by_length = Step("by-length", sliced(), parameters={"number": numbers}, with_param=argo_range(argo_len(numbers)))
by_count = Step(
    "by-count",
    sliced(),
    parameters={"number": numbers},
    with_param=argo_range(1, make.outputs.parameters["count"]),
)
by_sequence = Step(
    "by-sequence",
    sliced(),
    parameters={"number": numbers},
    with_sequence=argo_sequence(argo_len(numbers), format="%01d"),
)
by_sum = Step(
    "by-sum",
    PythonOPTemplate(Add, image="python:3.8", slices=Slices(output_parameter=["sum"])),
    parameters={"number": "{{item}}", "index": 0},
    with_param=argo_range(argo_sum(makes.outputs.parameters["count"])),
)
enumerated = Step(
    "enumerated",
    PythonOPTemplate(Add, image="python:3.8", slices=Slices("{{item.order}}", output_parameter=["sum"])),
    parameters={"number": "{{item.value}}", "index": "{{item.order}}"},
    with_param=argo_enumerate(numbers),
)
inferred = Step("inferred", sliced(), parameters={"number": numbers})
whole = Step("whole", inner, parameters={"number": "{{item}}"}, with_param=numbers)
steps = {
    "length": by_length,
    "count": by_count,
    "sequence": by_sequence,
    "sum": by_sum,
    "enumerated": enumerated,
    "inferred": inferred,
    "whole": whole,
}
wf.add(list(steps.values()))
wf.add([collect(name, step.outputs.parameters["sum"]) for name, step in steps.items()])
wf.submit()
assert wf.query_status() == "Succeeded"
found = {name: wf.query_step(key="collect-" + name)[0].outputs.parameters["values"].value for name in steps}
assert found == {
    "length": [1000, 1010, 1020],
    "count": [1010, 1020],
    "sequence": [1000, 1010, 1020],
    "sum": [0, 1, 2],
    "enumerated": [0, 11, 22],
    "inferred": [1000, 1010, 1020],
    "whole": ["2", "12", "22"],  # not sliced: what Argo gathers are texts
}, found
print("ok")
