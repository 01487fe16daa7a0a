"""N trivial Python OPs (one int in, one int out), two at a time, each in a process of its own."""

import sys

from dflow_hpc import OP, OPIO, OPIOSign, PythonOPTemplate, Step, Workflow, argo_range, config

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
    step = Step("twice", PythonOPTemplate(Twice), parameters={"n": "{{item}}"}, with_param=argo_range(count))
    workflow.add(step)
    workflow.submit()
    assert workflow.query_status() == "Succeeded"
