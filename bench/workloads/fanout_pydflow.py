"""The same for pydflow, in its local mode."""

import sys

from dflow import Step, Workflow, argo_range, config
from dflow.python import OP, OPIO, OPIOSign, PythonOPTemplate

config["mode"] = "debug"
config["debug_pool_workers"] = 2


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
    count = int(sys.argv[1])
    workflow = Workflow("fanout")
    workflow.add(Step("twice", PythonOPTemplate(Twice), parameters={"n": "{{item}}"}, with_param=argo_range(count)))
    workflow.submit()
    assert workflow.query_status() == "Succeeded"
