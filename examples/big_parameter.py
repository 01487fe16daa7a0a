"""Values too big for a parameter: declared as BigParameter they travel as files, and stay values in the code."""

from dflow_hpc import OP, BigParameter, PythonOPTemplate, Step, Workflow


@OP.function
def simulate(steps: int) -> {"trajectory": BigParameter(list)}:
    return {"trajectory": [[step, step**2 % 97] for step in range(steps)]}


@OP.function
def analyse(trajectory: BigParameter(list)) -> {"highest": int}:
    return {"highest": max(height for _, height in trajectory)}


workflow = Workflow(name="big-parameter")
run = Step("simulate", PythonOPTemplate(simulate), parameters={"steps": 50_000})
workflow.add(run)
workflow.add(
    Step("analyse", PythonOPTemplate(analyse), parameters={"trajectory": run.outputs.parameters["trajectory"]})
)

if __name__ == "__main__":
    workflow.run()
    print("highest:", workflow.query_step(name="analyse")[0].outputs.parameters["highest"].value)
