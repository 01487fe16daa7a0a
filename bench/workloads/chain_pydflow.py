"""The same for pydflow."""

import sys

from dflow import Step, Workflow
from dflow.python import PythonOPTemplate
from fanout_pydflow import Twice

if __name__ == "__main__":
    workflow = Workflow("chain")
    value = 1
    for i in range(int(sys.argv[1])):
        step = Step(f"step-{i}", PythonOPTemplate(Twice), parameters={"n": value})
        workflow.add(step)
        value = step.outputs.parameters["m"]
    workflow.submit()
    assert workflow.query_status() == "Succeeded"
