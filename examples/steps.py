"""Steps one after the other and side by side; what one gives, another takes."""

from typing import List

from dflow_hpc import OP, OPIO, OPIOSign, PythonOPTemplate, Step, Workflow


class Scale(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"value": float, "by": float})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"result": float})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"result": op_in["value"] * op_in["by"]})


class Add(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"values": List[float]})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"total": float})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"total": sum(op_in["values"])})


workflow = Workflow(name="steps")
double = Step("double", PythonOPTemplate(Scale), parameters={"value": 10.0, "by": 2.0})
halve = Step("halve", PythonOPTemplate(Scale), parameters={"value": 10.0, "by": 0.5})
workflow.add([double, halve])  # a list: at the same time
results = [step.outputs.parameters["result"] for step in (double, halve)]
workflow.add(Step("add", PythonOPTemplate(Add), parameters={"values": results}))

if __name__ == "__main__":
    workflow.run()
    print("total:", workflow.query_step(name="add")[0].outputs.parameters["total"].value)
