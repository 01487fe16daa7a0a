"""N OPs, each waiting for the one before."""

import sys

from fanout_ours import Twice

from dflow_hpc import PythonOPTemplate, Step, Workflow

if __name__ == "__main__":
    workflow = Workflow("chain")
    value = 1
    for i in range(int(sys.argv[1])):
        step = Step(f"step-{i}", PythonOPTemplate(Twice), parameters={"n": value})
        workflow.add(step)
        value = step.outputs.parameters["m"]
    workflow.submit()
    assert workflow.query_status() == "Succeeded"
