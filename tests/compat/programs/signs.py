"""Signs in which something stands that is no type: dflow does not look at it, so any value passes."""

from pathlib import Path

from dflow import Step, Workflow
from dflow.python import OP, OPIO, Artifact, BigParameter, OPIOSign, Parameter, PythonOPTemplate


class Point:
    def __init__(self, x):
        self.x = x


class Pack(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"names": [str], "point": "geometry.Point", "rest": any, "depth": Parameter("int", default=2)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"groups": [[str]], "point": BigParameter("geometry.Point"), "list": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        Path("list").write_text(str(op_in["rest"]))
        point = Point(op_in["point"].x + op_in["depth"])
        return OPIO({"groups": [op_in["names"], []], "point": point, "list": Path("list")})


wf = Workflow("signs")
given = {"names": ["a", "b"], "point": Point(1), "rest": {"a": None}}
pack = Step("pack", PythonOPTemplate(Pack, image="python:3.8"), parameters=given, key="pack")
wf.add(pack)
again = {"names": [], "point": pack.outputs.parameters["point"], "rest": pack.outputs.parameters["groups"]}
wf.add(Step("again", PythonOPTemplate(Pack, image="python:3.8"), parameters=again, key="again"))
wf.submit()
assert wf.query_status() == "Succeeded"
assert wf.query_step(key="pack")[0].outputs.parameters["groups"].value == [["a", "b"], []]
assert wf.query_step(key="again")[0].outputs.parameters["point"].value.x == 5
print("ok")
