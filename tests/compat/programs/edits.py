"""OPs that edit their input files in place, as they may in a pod: the record of the step before stays as it was."""

from pathlib import Path

from dflow import Step, Workflow, download_artifact
from dflow.python import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate, Slices


class Prepare(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"task": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        task = Path("task.%d" % op_in["n"])
        task.mkdir()
        (task / "INPUT").write_text("steps = 0\n")
        return OPIO({"task": task})


class Run(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"task": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"task": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        with (op_in["task"] / "INPUT").open("a") as file:
            file.write("steps = 5\n")
        (op_in["task"] / "log").write_text("done")
        return OPIO({"task": op_in["task"]})


wf = Workflow("edits")
prepare = Step(
    "prepare",
    PythonOPTemplate(Prepare, image="python:3.8", slices=Slices(input_parameter=["n"], output_artifact=["task"])),
    parameters={"n": [0, 1]},
    key="prepare-{{item}}",
)
slices = Slices(input_artifact=["task"], output_artifact=["task"])
wf.add(prepare)
wf.add(
    Step(
        "run",
        PythonOPTemplate(Run, image="python:3.8", slices=slices),
        artifacts={"task": prepare.outputs.artifacts["task"]},
        key="run-{{item}}",
    )
)
wf.submit()
assert wf.query_status() == "Succeeded"
for step, lines in (("prepare", 1), ("run", 2)):
    for n in (0, 1):
        found = wf.query_step(key="%s-%d" % (step, n))[0]
        download_artifact(found.outputs.artifacts["task"], path=step)
        assert len((Path(step) / ("task.%d" % n) / "INPUT").read_text().splitlines()) == lines
assert Path("run/task.1/log").read_text() == "done"
here = Path(wf.id) / "run-1" / "outputs" / "artifacts" / "task"  # where users of dflow's debug mode look
assert (here / "task.1" / "log").read_text() == "done"
print("ok")
