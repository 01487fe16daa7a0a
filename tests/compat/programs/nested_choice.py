"""A recursion as the template of a sliced step; its artifact comes from its next turn, or from slices of its own.

What is sliced and handed on are big parameters.
"""

from pathlib import Path
from typing import List

from dflow import (
    DAG,
    InputArtifact,
    InputParameter,
    Inputs,
    OutputArtifact,
    Outputs,
    ShellOPTemplate,
    Step,
    Steps,
    Task,
    Workflow,
    argo_range,
    download_artifact,
    if_expression,
)
from dflow.python import OP, OPIO, Artifact, BigParameter, OPIOSign, PythonOPTemplate, Slices

TURNS = ["s1.0.2", "s1.0", "s2.0.2.2", "s2.0.2", "s2.0"]


class Seeds(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"seeds": Artifact(List[Path]), "limits": BigParameter(List[int])})

    @OP.exec_sign_check
    def execute(self, op_in):
        seeds = [Path("seed-%d" % number) for number in range(op_in["n"])]
        for number, seed in enumerate(seeds):
            seed.write_text("s%d" % number)
        return OPIO({"seeds": seeds, "limits": list(range(op_in["n"]))})


class Turn(OP):
    """Say whether it was the last turn, and what the next step is to grow."""

    @classmethod
    def get_input_sign(cls):
        return OPIOSign(
            {"turn": int, "limit": int, "seed": Artifact(Path), "before": Artifact(List[Path], optional=True)}
        )

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"last": bool, "limit": BigParameter(int), "names": List[str], "seed": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        before = op_in["before"] or []
        Path("seed").write_text(op_in["seed"].read_text() + ".%d" % len(before))
        last = op_in["turn"] >= op_in["limit"]
        names = ["a", "b"] if op_in["limit"] else ["a"]
        return OPIO({"last": last, "limit": op_in["limit"], "names": names, "seed": Path("seed")})


class Grow(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"name": str, "seed": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"grown": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        Path("grown").mkdir()
        text = op_in["seed"].read_text() + op_in["name"]
        Path("grown", text).write_text(text)
        return OPIO({"grown": Path("grown", text)})


class Read(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"files": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"texts": list})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"texts": [path.read_text() for path in op_in["files"]]})


turns = Steps(
    "turns",
    inputs=Inputs(
        parameters={"turn": InputParameter(type=int, value=0), "limit": InputParameter(type=int)},
        artifacts={"seed": InputArtifact(), "before": InputArtifact(optional=True)},
    ),
    outputs=Outputs(artifacts={"all_grown": OutputArtifact()}),
)
turn = Step(
    "turn",
    PythonOPTemplate(Turn, image="python:3.8"),
    parameters={name: turns.inputs.parameters[name] for name in ("turn", "limit")},
    artifacts={name: turns.inputs.artifacts[name] for name in ("seed", "before")},
)
grow = Step(
    "grow",
    PythonOPTemplate(
        Grow, image="python:3.8", slices=Slices(input_parameter=["name"], output_artifact=["grown"], create_dir=True)
    ),
    parameters={"name": turn.outputs.parameters["names"]},
    artifacts={"seed": turn.outputs.artifacts["seed"]},
)
again = Step(
    "again",
    turns,
    parameters={"turn": turns.inputs.parameters["turn"] + 1, "limit": turn.outputs.parameters["limit"]},
    artifacts={"seed": turn.outputs.artifacts["seed"], "before": grow.outputs.artifacts["grown"]},
    when="%s == false" % turn.outputs.parameters["last"],
)
for step in (turn, grow, again):
    turns.add(step)
turns.outputs.artifacts["all_grown"].from_expression = if_expression(
    _if=turn.outputs.parameters["last"] == "false",
    _then=again.outputs.artifacts["all_grown"],
    _else=grow.outputs.artifacts["grown"],
)

# A script, which knows nothing of slices, as a task that leaves what is joined.
script = DAG(
    "script", inputs=Inputs(artifacts={"seed": InputArtifact()}), outputs=Outputs(artifacts={"copy": OutputArtifact()})
)
copy = Task(
    "copy",
    ShellOPTemplate(
        "copy-it",
        image="busybox",
        inputs=Inputs(artifacts={"in": InputArtifact(path="/tmp/in")}),
        outputs=Outputs(artifacts={"out": OutputArtifact(path="/tmp/out")}),
        script="cat /tmp/in > /tmp/out && echo -n ! >> /tmp/out",
    ),
    artifacts={"in": script.inputs.artifacts["seed"]},
)
script.add(copy)
script.outputs.artifacts["copy"]._from = copy.outputs.artifacts["out"]

seeds = Step("seeds", PythonOPTemplate(Seeds, image="python:3.8"), parameters={"n": 3})
many = Step(
    "many",
    turns,
    parameters={"limit": seeds.outputs.parameters["limits"]},
    artifacts={"seed": seeds.outputs.artifacts["seeds"], "before": None},
    slices=Slices(input_parameter=["limit"], input_artifact=["seed"], output_artifact=["all_grown"], create_dir=True),
    with_param=argo_range(3),
    key="many-{{item}}",
)
scripts = Step(
    "scripts",
    script,
    artifacts={"seed": seeds.outputs.artifacts["seeds"]},
    slices=Slices(input_artifact=["seed"], output_artifact=["copy"]),
)
read = Step(
    "read", PythonOPTemplate(Read, image="python:3.8"), artifacts={"files": many.outputs.artifacts["all_grown"]}
)
read_copies = Step(
    "read-copies", PythonOPTemplate(Read, image="python:3.8"), artifacts={"files": scripts.outputs.artifacts["copy"]}
)
wf = Workflow("nested-choice")
for step in (seeds, many, scripts, read, read_copies):
    wf.add(step)
wf.submit()
assert wf.query_status() == "Succeeded"
found = wf.query_step(name="read")[0].outputs.parameters["texts"].value
# Each turn leaves what its slices grew, the slices of the outer loop in order.
assert sorted(found) == ["s0.0a", *(seed + name for seed in TURNS for name in "ab")], found
assert [text[:2] for text in found] == ["s0", *["s1"] * 4, *["s2"] * 6], found
copies = wf.query_step(name="read-copies")[0].outputs.parameters["texts"].value
assert copies == ["s0!", "s1!", "s2!"], copies
# What one run of the Steps gives is what all of them give together.
one = wf.query_step(name="many")[0].outputs.artifacts["all_grown"]
assert sorted(Path(path).read_text() for path in download_artifact(one, path="got")) == sorted(found)
print("ok")
