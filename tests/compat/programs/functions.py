"""Functions as OPs: called in a workflow they become tasks, called outside they just run."""

from pathlib import Path
from typing import List

from dflow import Workflow, download_artifact, upload_artifact
from dflow.python import OP, Artifact, Slices


@OP.function
def measure(text: Artifact(Path), unit: int = 1) -> {"length": int, "copy": Artifact(Path)}:
    path = Path("copy.txt")
    path.write_text(text.read_text() * unit)
    return {"length": len(text.read_text()) * unit, "copy": path}


@OP.function(image="python:3.8", slices=Slices("{{item}}", input_parameter=["x"], output_parameter=["dflow_output"]))
def square(x: int) -> int:
    return x * x


@OP.function
def total(values: List[int], extra: int) -> int:
    return sum(values) + extra


@OP.superfunction
def twice(extra: int) -> int:
    first = total(values=[1, 2], extra=extra)
    return total(values=[10], extra=first)


if __name__ == "__main__":
    Path("in.txt").write_text("abcd")
    assert measure(text=Path("in.txt"), unit=2)["length"] == 8
    with Workflow("functions") as wf:
        measured = measure.use(key="measured")(text=upload_artifact("in.txt"), unit=3)
        squares = square.use(with_param=[0, 1, 2])(x=[1, 2, 3])
        total.use(key="total")(values=squares, extra=measured["length"])
        twice(extra=measured["length"])
    assert wf.query_status() == "Succeeded"
    assert wf.query_step(key="total")[0].outputs.parameters["dflow_output"].value == 14 + 12
    (copy,) = download_artifact(wf.query_step(key="measured")[0].outputs.artifacts["copy"], path="got")
    assert Path(copy).read_text() == "abcd" * 3
    print("ok")
