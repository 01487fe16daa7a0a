"""The same for pydflow."""

import sys

from dflow import Step, Workflow
from dflow.python import OP, OPIO, OPIOSign, PythonOPTemplate


class Twice(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"m": int})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"m": 2 * op_in["n"]})


if __name__ == "__main__":
    steps = int(sys.argv[1])
    workflow = Workflow("bench")
    template = PythonOPTemplate(Twice, image="python:3.11", upload_dflow=False)
    workflow.add([Step(f"step-{i}", template, parameters={"n": i}) for i in range(steps)])
    text = workflow.to_yaml() if steps > 10 else workflow.to_json()
    assert f"step-{steps - 1}" in text
