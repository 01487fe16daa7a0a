"""Big parameters whose lengths make loops, through a Steps and back, and reused in a second workflow."""

from typing import List

from dflow import InputParameter, Inputs, OutputParameter, Outputs, Step, Steps, Workflow, argo_len, argo_sequence
from dflow.python import OP, OPIO, BigParameter, OPIOSign, PythonOPTemplate, Slices


class Names(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"names": BigParameter(List[str])})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"names": ["task.%02d" % i for i in range(op_in["n"])]})


class Upper(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"name": BigParameter(str)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"upper": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"upper": op_in["name"].upper()})


def workflow():
    prepare = Steps(
        "prepare",
        inputs=Inputs(parameters={"n": InputParameter(type=int)}),
        outputs=Outputs(parameters={"names": OutputParameter()}),
    )
    names = Step(
        "names",
        PythonOPTemplate(Names, image="python:3.8"),
        parameters={"n": prepare.inputs.parameters["n"]},
        key="names",
    )
    prepare.add(names)
    prepare.outputs.parameters["names"].value_from_parameter = names.outputs.parameters["names"]

    run = Steps("run", inputs=Inputs(parameters={"names": InputParameter(type=List[str])}))
    upper = Step(
        "upper",
        PythonOPTemplate(
            Upper,
            image="python:3.8",
            slices=Slices("int('{{item}}')", input_parameter=["name"], output_parameter=["upper"]),
        ),
        parameters={"name": run.inputs.parameters["names"]},
        with_sequence=argo_sequence(argo_len(run.inputs.parameters["names"]), format="%04d"),
        key="upper-{{item}}",
    )
    run.add(upper)

    wf = Workflow("big")
    first = Step("prepare", prepare, parameters={"n": 3})
    wf.add(first)
    wf.add(Step("run", run, parameters={"names": first.outputs.parameters["names"]}))
    return wf


def uppers(wf):
    keys = [key for key in wf.query_keys_of_steps() if key.startswith("upper-")]
    steps = [wf.query_step(key=key)[0] for key in sorted(keys)]
    return [step.outputs.parameters["upper"].value for step in steps]


wf = workflow()
wf.submit()
assert wf.query_status() == "Succeeded"
names = wf.query_step(key="names")[0]
assert names.outputs.parameters["names"].value == ["task.00", "task.01", "task.02"]
got = uppers(wf)
assert len(got) == 3 and "TASK.02" in str(got), got

names.modify_output_parameter("names", ["one", "two"])
again = workflow()
again.submit(reuse_step=[names])
assert again.query_status() == "Succeeded"
assert len(uppers(again)) == 2 and "TWO" in str(uppers(again))
print("ok")
