"""What another process asks of the engine that works on a run: stop, terminate, suspend, resume, follow (logs).

A request is one line of ``requests.jsonl``; SIGUSR1 tells the engine that there is one. The file outlives both: what an
engine did not come to is dealt with by the next one that takes the run up.

Trap: SIGUSR1 ends a process that does not expect it. It is sent only to a process that says in its lock that it does
(an engine in a notebook has no signals and looks at the file now and then instead).
"""

import contextlib
import json
import os
import signal
from dataclasses import asdict, dataclass, field

from dflow_hpc.engines.local.rundir import RunDir, process_start

ACTIONS = ("stop", "terminate", "suspend", "resume", "follow")


@dataclass(frozen=True)
class Request:
    """What is asked."""

    action: str
    """One of ``ACTIONS``."""
    node: str | None = None
    """For ``resume``: only the suspended nodes that this names (id, name or displayName)."""
    parameters: dict[str, str] = field(default_factory=dict)
    """For ``resume``: values of the node's supplied output parameters."""


def send(run: RunDir, request: Request) -> None:
    """Leave a request, and tell the engine if one is alive."""
    fd = os.open(run.requests, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, json.dumps(asdict(request)).encode() + b"\n")
    finally:
        os.close(fd)
    holder = run.lock.alive()
    if holder is None or not holder.signals:
        return
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(holder.pid)
        try:
            if process_start(holder.pid) == holder.start:
                signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
        finally:
            os.close(pidfd)


def receive(run: RunDir, offset: int) -> tuple[list[Request], int]:
    """Return the requests that lie beyond ``offset`` (bytes), and the offset behind them."""
    try:
        with run.requests.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    return [Request(**json.loads(line)) for line in whole.splitlines()], offset + len(whole)
