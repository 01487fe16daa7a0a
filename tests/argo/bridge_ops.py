"""OPs of the tests of bridge pods."""

# ruff: noqa: F821  (outputs are named in the annotation)

import hashlib
import os
import socket
import time
from pathlib import Path

from dflow_hpc import OP, Artifact


@OP.function
def wait_for_word(n: int, room: str, source: Artifact(Path)) -> {"square": int, "note": Artifact(Path)}:
    """Say in a file there that it runs, and wait for the word to go on."""
    with Path(room, "started").open("a") as started:
        started.write(f"{n}\n")
    while not Path(room, "go").exists():
        time.sleep(0.1)
    Path(f"note-{n}").write_text(source.read_text() + str(n))
    return {"square": n * n, "note": Path(f"note-{n}")}


@OP.function
def fails(room: str) -> {"done": bool}:
    """Fail the first time, by the program's own fault."""
    with Path(room, "tried").open("a") as tried:
        tried.write("x\n")
    if len(Path(room, "tried").read_text().splitlines()) == 1:
        raise ValueError("the first time")
    return {"done": True}


@OP.function
def know_secret() -> {"hash": str}:
    """Tell a secret from others."""
    return {"hash": hashlib.sha256(os.environ["WORD"].encode()).hexdigest()}


@OP.function
def say() -> {"where": str}:
    """Say on which host it runs."""
    return {"where": socket.gethostname()}
