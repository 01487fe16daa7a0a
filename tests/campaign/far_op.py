"""The Python OP of the fault campaign: it notes in its cluster's ledger that it runs."""

import os
import time

from dflow_hpc import OP


@OP.function
def work(n: int, ledger: str) -> {"m": int}:  # noqa: F821  (dflow's way to name outputs)
    for what in ("start", "tick", "tick", "end"):
        job = f"{os.environ['SLURM_JOB_ID']}@{os.uname().nodename}.{os.getpid()}"
        line = f"{what} {os.environ['DFH_TOKEN']} {job} {time.time():.3f}\n"
        fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(fd, line.encode())
        os.close(fd)
        time.sleep(0.25)
    return {"m": n + 1}
