"""A loop until convergence: Steps that contain themselves, and an output that survives the recursion."""

from dflow import InputParameter, Inputs, OutputParameter, Outputs, Step, Steps, Workflow, if_expression
from dflow.python import OP, OPIO, OPIOSign, PythonOPTemplate


class Improve(OP):
    def __init__(self):
        self.factor = 2

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"error": float, "round": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"error": float, "round": int, "converged": bool})

    @OP.exec_sign_check
    def execute(self, op_in):
        error = op_in["error"] / self.factor
        return OPIO({"error": error, "round": op_in["round"] + 1, "converged": error < 0.2})


if __name__ == "__main__":
    loop = Steps(
        name="loop",
        inputs=Inputs(parameters={"error": InputParameter(value=1.0), "round": InputParameter(value=0)}),
        outputs=Outputs(parameters={"rounds": OutputParameter(default=-1)}),
    )
    improve = Step(
        name="improve",
        template=PythonOPTemplate(Improve, image="python:3.8"),
        parameters={"error": loop.inputs.parameters["error"], "round": loop.inputs.parameters["round"]},
        key="improve-%s" % loop.inputs.parameters["round"],
    )
    loop.add(improve)
    again = Step(
        name="again",
        template=loop,
        parameters={"error": improve.outputs.parameters["error"], "round": improve.outputs.parameters["round"]},
        when="%s == false" % improve.outputs.parameters["converged"],
    )
    loop.add(again)
    loop.outputs.parameters["rounds"].value_from_expression = if_expression(
        _if=improve.outputs.parameters["converged"],
        _then=improve.outputs.parameters["round"],
        _else=again.outputs.parameters["rounds"],
    )
    wf = Workflow("recursion", steps=loop)
    wf.submit()
    assert wf.query_status() == "Succeeded"
    assert sorted(wf.query_keys_of_steps()) == ["improve-0", "improve-1", "improve-2"]
    last = wf.query_step(key="improve-2")[0]
    assert last.outputs.parameters["converged"].value is True
    assert last.outputs.parameters["error"].value == 0.125
    print("ok")
