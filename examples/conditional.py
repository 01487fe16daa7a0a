"""A step that runs only if an earlier one says so, and an output that depends on which one ran."""

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
def diagnose(energy: float) -> {"converged": bool}:
    return {"converged": energy < 0}


@OP.function
def accept(energy: float) -> {"verdict": str}:
    return {"verdict": f"accepted at {energy} eV"}


@OP.function
def repeat(energy: float) -> {"verdict": str}:
    return {"verdict": f"to be done again: {energy} eV"}


judge = Steps(
    "judge",
    inputs=Inputs(parameters={"energy": InputParameter(type=float)}),
    outputs=Outputs(parameters={"verdict": OutputParameter()}),
)
energy = {"energy": judge.inputs.parameters["energy"]}
look = Step("diagnose", PythonOPTemplate(diagnose), parameters=energy)
judge.add(look)
converged = look.outputs.parameters["converged"]
good = Step("accept", PythonOPTemplate(accept), parameters=energy, when=converged)
bad = Step("repeat", PythonOPTemplate(repeat), parameters=energy, when=converged == False)  # noqa: E712  (an expression)
judge.add([good, bad])
judge.outputs.parameters["verdict"].value_from_expression = if_expression(
    _if=converged, _then=good.outputs.parameters["verdict"], _else=bad.outputs.parameters["verdict"]
)

workflow = Workflow(name="conditional")
workflow.add(Step("judge", judge, parameters={"energy": -3.5}))

if __name__ == "__main__":
    workflow.run()
    print(workflow.query_step(name="judge")[0].outputs.parameters["verdict"].value)
