"""N independent leaves on a machine, one parameter in and one out: shell scripts that sleep, or Python OPs.

machines_ours.py KIND COUNT SECONDS PROFILE, with KIND shell or op
"""

import sys
import time

from dflow_hpc import (
    OP,
    InputParameter,
    OutputParameter,
    PythonOPTemplate,
    ShellOPTemplate,
    Step,
    Workflow,
    argo_range,
)


@OP.function
def work(n: int, seconds: float) -> {"m": int}:  # noqa: F821
    time.sleep(seconds)
    return {"m": n + 1}


def shell(seconds):
    script = f"sleep {seconds}\necho $(({{{{inputs.parameters.n}}}} + 1)) > /tmp/m\n"
    template = ShellOPTemplate("work", image="busybox", command=["sh"], script=script)
    template.inputs.parameters["n"] = InputParameter()
    template.outputs.parameters["m"] = OutputParameter(value_from_path="/tmp/m")
    return template


if __name__ == "__main__":
    kind, count, seconds, profile = sys.argv[1:]
    template, more = shell(seconds), {}
    if kind == "op":
        template, more = PythonOPTemplate(work, image="python:3.11"), {"seconds": float(seconds)}
    items = argo_range(int(count))
    workflow = Workflow("machines")
    workflow.add(Step("work", template, parameters={"n": "{{item}}", **more}, with_param=items, executor=profile))
    workflow.submit()
    assert workflow.query_status() == "Succeeded"
    pods = [step for step in workflow.query_step("work") if step.type == "Pod"]
    assert sorted(int(pod.outputs.parameters["m"].value) for pod in pods) == list(range(1, int(count) + 1))
