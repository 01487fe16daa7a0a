"""Where a session runs: in this process, beside a running event loop, or in a process of its own.

Trap: the author's process is never forked: it may have threads, open files and a live interpreter state that nobody
looked at. A detached run gets a fresh interpreter.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import dflow_hpc
from dflow_hpc.config import s3_config
from dflow_hpc.engines.local import report
from dflow_hpc.engines.local.rundir import RunDir
from dflow_hpc.engines.local.session import Interrupted, Session
from dflow_hpc.errors import EngineError
from dflow_hpc.executors.journal import Record


def here(
    run: RunDir,
    say: Callable[[str], None],
    on_change: Callable[[Record], None] | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Work on a run in this process until it has ended.

    Raises:
        EngineError: Another process works on it, or its journal cannot be written.
        KeyboardInterrupt: Ctrl-C came; the run can be resumed.
        SystemExit: SIGTERM or SIGHUP came; the run can be resumed.
    """
    session = Session(run, say=say, on_change=on_change)
    try:
        if _loop_is_running():
            _in_a_thread(session)
        else:
            asyncio.run(session.work(ready))
    except Interrupted as error:
        interruption = error
    else:
        return
    _leave(run, interruption, say)  # outside of the handler: what it raises has nothing to do with our exception


def _leave(run: RunDir, interruption: Interrupted, say: Callable[[str], None]) -> None:
    again = f"go on with `dflow-hpc resume {run.name}`"
    if interruption.error is not None:
        raise EngineError(
            f"the journal of the run {run.name} was to be written; {interruption.error.strerror} "
            f"({run.journal}). Nothing is lost: make room, then {again}."
        ) from interruption.error
    say(f"{run.name}: interrupted; {again}")
    number = interruption.signal or signal.SIGTERM
    # To whom the signal was going before we took it: Ctrl-C becomes a KeyboardInterrupt, a program's own handler
    # runs, and a leaf that runs a workflow learns that it is to end.
    if callable(signal.getsignal(number)):
        signal.raise_signal(number)
    raise SystemExit(128 + number)


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_a_thread(session: Session) -> None:
    """Work beside the event loop of a notebook, which the author's code runs in."""
    failure: list[BaseException] = []
    done = threading.Event()  # Thread.join takes a thread for ended when a KeyboardInterrupt comes in between

    def work() -> None:
        try:
            asyncio.run(session.work())
        except BaseException as error:
            failure.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="dflow-hpc engine", daemon=True).start()
    interrupted = False
    while not done.is_set():
        try:
            done.wait()
        except KeyboardInterrupt:
            if interrupted:
                raise  # the thread goes on ending the leaves; a notebook's process must not be ended for that
            interrupted = True
            session.interrupt_from_outside()
    if failure:
        raise failure[0]


def in_background(run: RunDir) -> None:
    """Have a process of its own work on a run, and return when it has taken the run over.

    Raises:
        EngineError: It ended before that.
    """
    read_end, write_end = os.pipe()
    # `-m` finds the package in its working directory first: where this process found it.
    beside_package = Path(dflow_hpc.__file__).resolve().parent.parent
    try:
        with run.log.open("ab") as log:
            subprocess.run(
                [sys.executable, "-m", "dflow_hpc.engines.local", str(run.path), str(write_end)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(write_end,),
                cwd=beside_package,
                env={**os.environ, **s3_config.carried()},  # keys to a storage are written down nowhere
                check=False,
            )
    finally:
        os.close(write_end)
        with os.fdopen(read_end, "rb") as answer:
            ready = answer.read()
    if not ready:
        tail = "\n  ".join(report.last_lines(run.log))
        raise EngineError(f"the run {run.name} was to go on in a process of its own; that ended at once:\n  {tail}")
