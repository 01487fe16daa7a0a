"""OPs of the tests on Argo."""

# ruff: noqa: F821  (outputs are named in the annotation)

import os
import time
from pathlib import Path

from dflow_hpc import OP, Artifact


@OP.function
def note() -> {"text": str}:
    return {"text": "noted"}


@OP.function
def square(n: int) -> {"square": int, "note": Artifact(Path)}:
    Path(f"note-{n}").write_text(str(n))
    return {"square": n * n, "note": Path(f"note-{n}")}


@OP.function
def copy_text(source: Artifact(Path)) -> {"target": Artifact(Path)}:
    Path("target.txt").write_text(source.read_text())
    return {"target": Path("target.txt")}


@OP.function
def length_of_secret() -> {"length": int}:
    return {"length": len(os.environ["WORD"])}


@OP.function
def fail_once(flag: Artifact(Path)) -> {"seen": str}:
    if flag.read_text() != "1":
        raise ValueError("the flag is down")
    return {"seen": flag.read_text()}


@OP.function
def wait_long() -> {"done": bool}:
    time.sleep(600)
    return {"done": True}
