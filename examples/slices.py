"""One OP over many inputs: each element is a step of its own, and the results come back as a list."""

from typing import List

from dflow_hpc import OP, PythonOPTemplate, Slices, Step, Workflow


@OP.function
def square(number: int) -> {"square": int}:
    return {"square": number * number}


@OP.function
def add(numbers: List[int]) -> {"total": int}:
    return {"total": sum(numbers)}


workflow = Workflow(name="slices")
squares = Step(
    "square",
    PythonOPTemplate(square, slices=Slices(input_parameter=["number"], output_parameter=["square"])),
    parameters={"number": [1, 2, 3, 4, 5]},
)
workflow.add(squares)
workflow.add(Step("add", PythonOPTemplate(add), parameters={"numbers": squares.outputs.parameters["square"]}))

if __name__ == "__main__":
    workflow.run()
    print("1 + 4 + 9 + 16 + 25 =", workflow.query_step(name="add")[0].outputs.parameters["total"].value)
