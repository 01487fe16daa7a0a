"""Lists and dicts of files in and out, parts of artifacts, several artifacts given as one, and optional ones."""

from pathlib import Path
from typing import Dict, List

from dflow import Step, Workflow, copy_artifact, download_artifact, path_list_of_artifact, upload_artifact
from dflow.python import OP, OPIO, Artifact, NestedDict, OPIOSign, PythonOPTemplate, Slices


class Look(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({
            "files": Artifact(List[Path]),
            "named": Artifact(Dict[str, Path]),
            "nested": Artifact(NestedDict[Path]),
            "folder": Artifact(Path),
            "absent": Artifact(Path, optional=True),
        })  # fmt: skip

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({
            "texts": dict,
            "files": Artifact(List[Path], archive=None),
            "named": Artifact(Dict[str, Path]),
        })  # fmt: skip

    @OP.exec_sign_check
    def execute(self, op_in):
        assert op_in["absent"] is None
        texts = {
            "files": [path.read_text() for path in op_in["files"]],
            "named": {name: path.read_text() for name, path in op_in["named"].items()},
            "nested": op_in["nested"]["a"][1]["b"].read_text(),
            "folder": sorted(path.name for path in op_in["folder"].iterdir() if path.name[0] != "."),
        }
        out = []
        for name in ("x", "y", "z"):
            path = Path(name) / "data.txt"
            path.parent.mkdir()
            path.write_text(name * 3)
            out.append(path)
        return OPIO({"texts": texts, "files": out, "named": {"first": out[0], "third": out[2]}})


class One(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"it": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"text": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"text": op_in["it"].read_text()})


class Many(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"them": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"text": str})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"text": " ".join(path.read_text() for path in op_in["them"])})


if __name__ == "__main__":
    for name in "abcd":
        Path(name + ".txt").write_text(name)
    Path("folder").mkdir(exist_ok=True)
    Path("folder/inside.txt").write_text("inside")
    one_by_one = PythonOPTemplate(
        One, image="python:3.8", slices=Slices(sub_path=True, input_artifact=["it"], output_parameter=["text"])
    )

    look = Step(
        "look",
        PythonOPTemplate(Look, image="python:3.8"),
        artifacts={
            "files": upload_artifact(["a.txt", "b.txt"]),
            "named": upload_artifact({"k": "c.txt", "l": "d.txt"}),
            "nested": upload_artifact({"a": ["a.txt", {"b": "b.txt"}]}),
            "folder": upload_artifact("folder"),
            "absent": None,
        },
        key="look",
    )
    files, named = look.outputs.artifacts["files"], look.outputs.artifacts["named"]
    part = Step("part", PythonOPTemplate(One, image="python:3.8"), artifacts={"it": named["third"]}, key="part")
    index = Step("index", PythonOPTemplate(One, image="python:3.8"), artifacts={"it": files[1]}, key="index")
    joined = Step(
        "joined",
        PythonOPTemplate(Many, image="python:3.8"),
        artifacts={"them": [files, upload_artifact("a.txt")]},
        key="joined",
    )
    each = Step("each", one_by_one, artifacts={"it": files})
    wf = Workflow("artifacts")
    wf.add(look)
    wf.add([part, index, joined, each])
    wf.submit()
    assert wf.query_status() == "Succeeded"

    (done,) = wf.query_step(key="look")
    assert done.outputs.parameters["texts"].value == {
        "files": ["a", "b"],
        "named": {"k": "c", "l": "d"},
        "nested": "b",
        "folder": ["inside.txt"],
    }
    texts = {key: wf.query_step(key=key)[0].outputs.parameters["text"].value for key in ("part", "index", "joined")}
    assert texts == {"part": "zzz", "index": "yyy", "joined": "xxx yyy zzz a"}, texts
    got = download_artifact(done.outputs.artifacts["named"], path="got")
    assert {name: Path(path).read_text() for name, path in got.items()} == {"first": "xxx", "third": "zzz"}
    assert [Path(path).parent.name for path in path_list_of_artifact(done.outputs.artifacts["files"])] == list("xyz")
    base, more = upload_artifact(["a.txt"], archive=None), upload_artifact(["b.txt"], archive=None)
    copy_artifact(more, base, sort=True)
    assert [Path(path).read_text() for path in download_artifact(base, path="both")] == ["a", "b"]
    print("ok")
