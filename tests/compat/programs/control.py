"""Hooks, exit handler, progress, early outputs, retries, a memoized step, a suspended one; what queries say of them."""

import time
from pathlib import Path

from dflow import (
    ContainerOPTemplate,
    HookStep,
    InputParameter,
    Inputs,
    OutputParameter,
    Outputs,
    ShellOPTemplate,
    Step,
    Workflow,
    download_artifact,
)
from dflow.python import OP, OPIO, Artifact, OPIOSign, Parameter, PythonOPTemplate, TransientError

LEDGER = Path("ledger").resolve()


class Slow(OP):
    progress_total = 4

    def __init__(self, word):
        self.word = word

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": Parameter(int, default=2), "ledger": str})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"text": str, "log": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        for i in range(4):
            self.progress_current = i + 1
        Path("log").write_text("%s %d" % (self.word, op_in["n"]))
        with Path(op_in["ledger"]).open("a") as ledger:
            ledger.write("x")
        if len(Path(op_in["ledger"]).read_text()) < 3:
            raise TransientError("not yet")
        return OPIO({"text": self.word * op_in["n"], "log": Path("log")})


class Partly(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"found": int, "log": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        Path("log").write_text("before it failed")
        self.set_output("found", 7)
        self.set_output("log", Path("log"))
        raise RuntimeError("on purpose")


LEDGER.write_text("")
say = ShellOPTemplate(
    name="say",
    image="alpine",
    script="echo -n {{inputs.parameters.msg}} > /tmp/msg.txt && cat /tmp/msg.txt",
    inputs=Inputs(parameters={"msg": InputParameter()}),
    outputs=Outputs(parameters={"msg": OutputParameter(value_from_path="/tmp/msg.txt")}),
)
bye = ShellOPTemplate(name="bye", image="alpine", script="echo {{workflow.status}}")

wf = Workflow("control", on_exit=bye, annotations={"who": "tests"}, labels={"kind": "control"})
slow = Step(
    "slow",
    PythonOPTemplate(Slow("ab"), image="python:3.8", retry_on_transient_error=3, timeout=300),
    parameters={"ledger": str(LEDGER)},
    success_hook=HookStep(say, parameters={"msg": "well"}),
    failure_hook=HookStep(say, parameters={"msg": "badly"}),
    key="slow",
)
wf.add(slow)
partly = Step("partly", PythonOPTemplate(Partly, image="python:3.8"), continue_on_failed=True, key="partly")
wf.add(partly)
wf.add(Step("say", say, parameters={"msg": slow.outputs.parameters["text"]}, key="say"))
wf.add(Step("container", ContainerOPTemplate(name="c", image="alpine", command=["echo"], args=["a b"])))
wf.submit()
wf.wait()
while wf.query_status() in ["Pending", "Running"]:
    time.sleep(1)

assert wf.query_status() == "Succeeded"
assert LEDGER.read_text() == "xxx"
assert wf.query_step_by_key("slow")[0].outputs.parameters["text"].value == "abab"
assert wf.query_step(key="say")[0].outputs.parameters["msg"].value == "abab"
assert wf.query_step(key="slow", type="Pod")[0].progress == "4/4"
assert wf.query_step(name="nothing") == []
(failed,) = wf.query_step(phase=["Failed", "Error"], key="partly")
assert failed.outputs.parameters["found"].value == 7
(log,) = download_artifact(failed.outputs.artifacts["log"], path="got")
assert Path(log).read_text() == "before it failed"
assert set(wf.query_keys_of_steps()) >= {"slow", "partly", "say"}
info = wf.query()
assert info.status.phase == "Succeeded" and info.metadata.labels["kind"] == "control"
hooks = [node.displayName for node in info.status.nodes.values() if "hooks" in node.displayName]
assert len(hooks) == 1, hooks
assert any(node.displayName.endswith(".onExit") for node in info.status.nodes.values())
text = wf.to_yaml()
assert "onExit: " in text and "kind: Workflow" in text
print("ok")
