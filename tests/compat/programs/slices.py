"""A list of structures is relaxed one by one, and the results are gathered: the everyday use of Slices."""

from pathlib import Path
from typing import List

from dflow import Step, Workflow, argo_range, download_artifact, upload_artifact
from dflow.python import OP, OPIO, Artifact, OPIOSign, Parameter, PythonOPTemplate, Slices


class Split(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"count": int, "seed": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"numbers": List[int], "files": Artifact(List[Path])})

    @OP.exec_sign_check
    def execute(self, op_in):
        seed = int(op_in["seed"].read_text())
        files = []
        for number in range(op_in["count"]):
            path = Path("structure-%d" % number)
            path.mkdir()
            (path / "POSCAR").write_text(str(seed + number))
            files.append(path)
        return OPIO({"numbers": list(range(op_in["count"])), "files": files})


class Relax(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"number": int, "folder": Artifact(Path), "scale": Parameter(float, default=1.0)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"energy": float, "log": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        value = float((op_in["folder"] / "POSCAR").read_text()) * op_in["scale"]
        log = Path("relax-%d.log" % op_in["number"])
        log.write_text("energy %s" % value)
        return OPIO({"energy": value, "log": log})


class Gather(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"energies": List[float], "logs": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"lowest": float, "table": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        assert len(op_in["logs"]) == len(op_in["energies"])
        lines = sorted(path.name + " " + path.read_text() for path in op_in["logs"])
        Path("table.txt").write_text("\n".join(lines))
        return OPIO({"lowest": min(op_in["energies"]), "table": Path("table.txt")})


if __name__ == "__main__":
    Path("seed.txt").write_text("10")
    split = Step(
        "split",
        PythonOPTemplate(Split, image="python:3.8"),
        parameters={"count": 4},
        artifacts={"seed": upload_artifact("seed.txt")},
    )
    relax = Step(
        "relax",
        PythonOPTemplate(
            Relax,
            image="python:3.8",
            slices=Slices(
                "{{item}}",
                input_parameter=["number"],
                input_artifact=["folder"],
                output_parameter=["energy"],
                output_artifact=["log"],
            ),
        ),
        parameters={"number": split.outputs.parameters["numbers"], "scale": 0.5},
        artifacts={"folder": split.outputs.artifacts["files"]},
        with_param=argo_range(4),
        key="relax-{{item}}",
    )
    grouped = Step(
        "grouped",
        PythonOPTemplate(
            Relax,
            image="python:3.8",
            slices=Slices(
                input_parameter=["number"],
                input_artifact=["folder"],
                output_parameter=["energy"],
                sub_path=True,
                group_size=3,
                pool_size=1,
            ),
        ),
        parameters={"number": split.outputs.parameters["numbers"]},
        artifacts={"folder": split.outputs.artifacts["files"]},
        key="grouped-{{item}}",
    )
    gather = Step(
        "gather",
        PythonOPTemplate(Gather, image="python:3.8"),
        parameters={"energies": relax.outputs.parameters["energy"]},
        artifacts={"logs": relax.outputs.artifacts["log"]},
    )
    wf = Workflow(name="slices")
    wf.add(split)
    wf.add(relax)
    wf.add(gather)
    wf.add(grouped)
    wf.submit()
    assert wf.query_status() == "Succeeded", wf.query_status()

    done = wf.query_step(name="gather")[0]
    assert done.phase == "Succeeded"
    assert done.outputs.parameters["lowest"].value == 5.0
    energies = [wf.query_step(key="grouped-%d" % i)[0].outputs.parameters["energy"].value for i in range(2)]
    assert [energy for group in energies for energy in group] == [10.0, 11.0, 12.0, 13.0], energies
    (table,) = download_artifact(done.outputs.artifacts["table"], path="got")
    assert Path(table).read_text().splitlines() == ["relax-%d.log energy %s" % (i, (10 + i) / 2) for i in range(4)]
    assert {"relax-%d" % i for i in range(4)} <= set(wf.query_keys_of_steps())
    print("ok")
