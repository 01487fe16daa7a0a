"""The Python OP of the kill campaign: it notes in a ledger that it runs."""

import os
import time

from dflow_hpc import OP


@OP.function
def note(n: int, ledger: str) -> {"m": int}:  # noqa: F821  (dflow's way to name outputs)
    for what in ("start", "mid", "end"):
        line = f"{what} {os.environ['ARGO_POD_NAME']} {os.getpid()} {time.monotonic()}\n"
        fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, line.encode())
        os.close(fd)
        time.sleep(0.003)
    return {"m": n + 1}
