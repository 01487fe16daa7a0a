"""The OP of ``bridge.py``: it says in files of the cluster when it starts and ends."""

import time
from pathlib import Path

from dflow_hpc import OP


@OP.function
def wait(n: int, room: str, seconds: int) -> {"square": int}:  # noqa: F821  (an output)
    """Wait, and leave traces."""
    with Path(room, "started").open("a") as started:
        started.write(f"{n}\n")
    time.sleep(seconds)
    with Path(room, "ended").open("a") as ended:
        ended.write(f"{n}\n")
    return {"square": n * n}
