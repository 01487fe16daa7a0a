"""References everywhere: elements of dicts, concatenated and enumerated lists, artifacts in parts, raw texts."""

from pathlib import Path
from typing import Dict, List

from dflow import (
    Step,
    Workflow,
    argo_concat,
    argo_enumerate,
    argo_len,
    argo_range,
    config,
    download_artifact,
    set_config,
    upload_artifact,
)
from dflow.python import OP, OPIO, Artifact, NestedDict, OPIOSign, Parameter, PythonOPTemplate, Slices

set_config(mode="debug")
config["debug_pool_workers"] = 2


class Multi(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign(
            {
                "foos": Artifact(List[Path]),
                "d": Artifact(Dict[str, Path]),
                "raw": Artifact(Path),
                "opt": Artifact(Path, optional=True),
            }
        )

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"n": int, "d": Artifact(Dict[str, Path]), "nested": Artifact(NestedDict[Path])})

    @OP.exec_sign_check
    def execute(self, op_in):
        assert op_in["opt"] is None
        assert op_in["raw"].read_text() == "hello"
        Path("a").write_text("A")
        Path("b").write_text("B")
        return OPIO(
            {
                "n": len(op_in["foos"]) + len(op_in["d"]),
                "d": {"a": Path("a"), "b": Path("b")},
                "nested": {"x": [Path("a"), {"y": Path("b")}]},
            }
        )


class Gen(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"items": List[int], "flag": bool, "dic": dict})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"items": list(range(op_in["n"])), "flag": op_in["n"] > 2, "dic": {"a": {"b": [5, 6]}}})


class Show(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"x": Parameter(object, default=None), "cfg": dict})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"got": dict})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"got": {"x": op_in["x"], **op_in["cfg"]}})


for i in range(3):
    Path("f%d" % i).write_text(str(i))
a = upload_artifact(["f0", "f1"])
b = upload_artifact(Path("f2"))
c = upload_artifact({"k": "f0", "l": "f1"})
wf = Workflow("references")
gen = Step(
    "gen",
    PythonOPTemplate(
        Gen,
        image="python:3.8",
        slices=Slices("{{item}}", input_parameter=["n"], output_parameter=["items", "flag", "dic"]),
    ),
    parameters={"n": [2, 3]},
    with_param=argo_range(2),
)
one = Step("one", PythonOPTemplate(Gen, image="python:3.8"), parameters={"n": 4}, key="one")
multi = Step(
    "multi",
    PythonOPTemplate(Multi, image="python:3.8"),
    artifacts={"foos": [a, b], "d": c, "raw": "hello", "opt": None},
    key="multi",
)
wf.add([gen, one, multi])
wf.add(
    Step(
        "conc",
        PythonOPTemplate(Show, image="python:3.8"),
        parameters={
            "x": "{{item}}",
            "cfg": {"deep": one.outputs.parameters["dic"]["a"]["b"][1], "flag": one.outputs.parameters["flag"]},
        },
        with_param=argo_range(argo_len(argo_concat(gen.outputs.parameters["items"]))),
        key="conc-{{item}}",
    )
)
wf.add(
    Step(
        "enum",
        PythonOPTemplate(Show, image="python:3.8"),
        parameters={"x": "{{item.value}}", "cfg": {"order": "{{item.order}}"}},
        with_param=argo_enumerate(one.outputs.parameters["items"]),
        key="enum-{{item.order}}",
    )
)
wf.add(
    Step(
        "expr",
        PythonOPTemplate(Show, image="python:3.8"),
        parameters={"x": one.outputs.parameters["items"][3] * 2 + 1, "cfg": {}},
        when=one.outputs.parameters["flag"],
        key="expr",
    )
)
wf.add(
    Step(
        "not",
        PythonOPTemplate(Show, image="python:3.8"),
        parameters={"x": 0, "cfg": {}},
        when="%s != true" % one.outputs.parameters["flag"],
        key="never",
    )
)
wf.add(
    Step(
        "part",
        PythonOPTemplate(Multi, image="python:3.8"),
        artifacts={
            "foos": [multi.outputs.artifacts["d"], multi.outputs.artifacts["nested"]],
            "d": {"p": b, "q": b},
            "raw": "hello",
        },
        key="part",
    )
)
made = multi.outputs.artifacts
wf.add(
    Step(
        "pieces",
        PythonOPTemplate(Multi, image="python:3.8"),
        artifacts={
            "foos": [made["d"]["b"], a, made["nested"]["x"][1]["y"], made["nested"]["x"]],
            "d": {"p": made["d"]["a"], "q": b},
            "raw": "hello",
        },
        key="pieces",
    )
)
wf.submit()
wf.wait()
assert wf.query_status() == "Succeeded"


def got(key):
    return wf.query_step(key=key)[0].outputs.parameters["got"].value


assert wf.query_step(key="multi")[0].outputs.parameters["n"].value == 5
assert wf.query_step(key="part")[0].outputs.parameters["n"].value == 6
assert wf.query_step(key="pieces")[0].outputs.parameters["n"].value == 8
assert got("conc-4") == {"x": 4, "deep": 6, "flag": True}
assert got("enum-2") == {"x": 2, "order": "2"}
assert float(got("expr")["x"]) == 7
assert [step.phase for step in wf.query_step(key="never")] in ([], ["Skipped"])
nested = download_artifact(wf.query_step(key="multi")[0].outputs.artifacts["nested"], path="got")
assert Path(nested["x"][1]["y"]).read_text() == "B"
print("ok")
