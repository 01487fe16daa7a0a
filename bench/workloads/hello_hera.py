"""The same for hera."""

import sys

from hera.workflows import Steps, Workflow, script


@script(image="python:3.11")
def twice(n: int):
    print(2 * n)


if __name__ == "__main__":
    steps = int(sys.argv[1])
    with Workflow(generate_name="bench-", entrypoint="main") as workflow, Steps(name="main") as main, main.parallel():
        for i in range(steps):
            twice(name=f"step-{i}", arguments={"n": i})
    text = workflow.to_yaml()
    assert f"step-{steps - 1}" in text
