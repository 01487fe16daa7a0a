"""Outputs that come from one of two branches, of which one never runs."""

from pathlib import Path

from dflow import (
    InputParameter,
    Inputs,
    OutputArtifact,
    OutputParameter,
    Outputs,
    Step,
    Steps,
    Workflow,
    download_artifact,
    if_expression,
)
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate


class Toss(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"side": str})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"heads": bool})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"heads": op_in["side"] == "heads"})


class Say(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"word": str})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"said": str, "paper": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        Path("paper.txt").write_text(op_in["word"])
        return OPIO({"said": op_in["word"], "paper": Path("paper.txt")})


class Check(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"said": str, "paper": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"report": Artifact(str)})

    @OP.exec_sign_check
    def execute(self, op_in):
        assert op_in["paper"].read_text() == op_in["said"]
        Path("report").write_text("said " + op_in["said"])
        return OPIO({"report": "report"})


def branches(side):
    steps = Steps(
        "branches-" + side,
        inputs=Inputs(parameters={"side": InputParameter(value=side)}),
        outputs=Outputs(parameters={"said": OutputParameter()}, artifacts={"paper": OutputArtifact()}),
    )
    toss = Step(
        "toss", PythonOPTemplate(Toss, image="python:3.8"), parameters={"side": steps.inputs.parameters["side"]}
    )
    steps.add(toss)
    say = PythonOPTemplate(Say, image="python:3.8")
    won = Step("won", say, parameters={"word": "won"}, when="%s == true" % toss.outputs.parameters["heads"])
    lost = Step("lost", say, parameters={"word": "lost"}, when="%s == false" % toss.outputs.parameters["heads"])
    steps.add([won, lost])
    heads = toss.outputs.parameters["heads"] == True  # noqa: E712  (dflow overloads the operator)
    steps.outputs.parameters["said"].value_from_expression = if_expression(
        _if=heads, _then=won.outputs.parameters["said"], _else=lost.outputs.parameters["said"]
    )
    steps.outputs.artifacts["paper"].from_expression = if_expression(
        _if=heads, _then=won.outputs.artifacts["paper"], _else=lost.outputs.artifacts["paper"]
    )
    return steps


for side, word in (("heads", "won"), ("tails", "lost")):
    wf = Workflow("conditional-" + side)
    game = Step("game", branches(side))
    wf.add(game)
    check = Step(
        "check",
        PythonOPTemplate(Check, image="python:3.8"),
        parameters={"said": game.outputs.parameters["said"]},
        artifacts={"paper": game.outputs.artifacts["paper"]},
    )
    wf.add(check)
    wf.submit()
    assert wf.query_status() == "Succeeded"
    (report,) = download_artifact(wf.query_step("check")[0].outputs.artifacts["report"], path="got-" + side)
    assert Path(report).read_text() == "said " + word
print("ok")
