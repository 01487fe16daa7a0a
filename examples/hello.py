"""The smallest workflow: one OP, one step.

dflow-hpc run hello.py
"""

from dflow_hpc import OP, OPIO, OPIOSign, PythonOPTemplate, Step, Workflow


class Hello(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"name": str})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"greeting": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"greeting": f"Hello, {op_in['name']}!"})


workflow = Workflow(name="hello")
workflow.add(Step("hello", PythonOPTemplate(Hello), parameters={"name": "world"}))

if __name__ == "__main__":
    workflow.run()
    print(workflow.query_step(name="hello")[0].outputs.parameters["greeting"].value)
