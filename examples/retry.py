"""An error that may pass is tried again; one that will not pass fails at once (FatalError)."""

import random

from dflow_hpc import OP, PythonOPTemplate, Step, TransientError, Workflow


@OP.function
def ask_a_busy_server() -> {"answer": int}:
    if random.random() < 0.5:
        raise TransientError("the server is busy")
    return {"answer": 42}


workflow = Workflow(name="retry")
workflow.add(Step("ask", PythonOPTemplate(ask_a_busy_server, retry_on_transient_error=20)))

if __name__ == "__main__":
    workflow.run()
    print("answer:", workflow.query_step(name="ask", phase="Succeeded")[0].outputs.parameters["answer"].value)
    print("attempts:", len(workflow.query_step(name="ask", type="Pod")))
