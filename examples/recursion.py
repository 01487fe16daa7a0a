"""Steps that call themselves until a condition holds: a loop whose length nobody knows beforehand."""

from dflow_hpc import (
    OP,
    InputParameter,
    Inputs,
    OutputParameter,
    Outputs,
    PythonOPTemplate,
    Step,
    Steps,
    Workflow,
    if_expression,
)


@OP.function
def improve(guess: float, number: float) -> {"guess": float, "good": bool}:
    better = (guess + number / guess) / 2
    return {"guess": better, "good": abs(better * better - number) < 1e-9}


loop = Steps(
    "newton",
    inputs=Inputs(parameters={"guess": InputParameter(type=float), "number": InputParameter(type=float)}),
    outputs=Outputs(parameters={"root": OutputParameter()}),
)
number = loop.inputs.parameters["number"]
step = Step(
    "improve", PythonOPTemplate(improve), parameters={"guess": loop.inputs.parameters["guess"], "number": number}
)
loop.add(step)
guess, good = step.outputs.parameters["guess"], step.outputs.parameters["good"]
again = Step("again", loop, parameters={"guess": guess, "number": number}, when=good == False)  # noqa: E712
loop.add(again)
loop.outputs.parameters["root"].value_from_expression = if_expression(
    _if=good, _then=guess, _else=again.outputs.parameters["root"]
)

workflow = Workflow(name="recursion")
workflow.add(Step("root", loop, parameters={"guess": 1.0, "number": 2.0}))

if __name__ == "__main__":
    workflow.run()
    found = workflow.query_step(name="root")[0].outputs.parameters["root"].value
    print(f"the square root of 2 is {float(found):.6f}")
