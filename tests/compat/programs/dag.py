"""Tasks whose order follows from what they use of each other, and one whose order is said."""

from pathlib import Path

from dflow import DAG, InputParameter, Inputs, OutputParameter, Outputs, Step, Task, Workflow
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate


class Add(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"a": int, "b": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"sum": int, "note": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        total = op_in["a"] + op_in["b"]
        Path("note").write_text(str(total))
        return OPIO({"sum": total, "note": Path("note")})


class Read(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"notes": Artifact(Path), "more": dict})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"text": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"text": op_in["notes"].read_text() + " %s" % op_in["more"]["left"][0]})


add = PythonOPTemplate(Add, image="python:3.8")
dag = DAG(
    "sums",
    inputs=Inputs(parameters={"n": InputParameter()}),
    outputs=Outputs(parameters={"total": OutputParameter()}),
)
n = dag.inputs.parameters["n"]
left = Task("left", add, parameters={"a": n, "b": 1})
right = Task("right", add, parameters={"a": n, "b": 2})
both = Task("both", add, parameters={"a": left.outputs.parameters["sum"], "b": right.outputs.parameters["sum"]})
read = Task(
    "read",
    PythonOPTemplate(Read, image="python:3.8"),
    parameters={"more": {"left": [left.outputs.parameters["sum"], "x"]}},
    artifacts={"notes": both.outputs.artifacts["note"]},
)
last = Task("last", add, parameters={"a": 0, "b": 0}, dependencies=[read])
for task in (read, last, both, left, right):
    dag.add(task)
dag.outputs.parameters["total"].value_from_parameter = both.outputs.parameters["sum"]

wf = Workflow("dag")
step = Step("sums", dag, parameters={"n": 10})
wf.add(step)
wf.add(Step("more", add, parameters={"a": step.outputs.parameters["total"], "b": 1000}))
wf.submit()
assert wf.query_status() == "Succeeded"
assert wf.query_step(name="more")[0].outputs.parameters["sum"].value == 1023
assert wf.query_step(name="read")[0].outputs.parameters["text"].value == "23 11"
print("ok")
