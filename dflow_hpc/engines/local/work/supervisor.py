"""Programs of a leaf as child processes: started in the order of their dependencies, watched, and ended.

It plays Argo's emissary around a program: find it, start it when those that it depends on have ended well, start it
again where a container set says so, keep the end of its stdout, end sidecars after the others.

Not here: which programs a template has and what their ends mean (``commands.py``).

Trap: a program is started by fork and exec in this single-threaded process, so that exactly the child enters a mount
namespace; nothing between the two may make threads or take locks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from dflow_hpc.engines.local.work import leafrun, staging
from dflow_hpc.engines.local.work.leafrun import Leaf

_CHUNK = 1 << 16
_SIDECAR_GRACE = 10.0


class Program:
    """One program of a leaf: a container of a pod.

    Args:
        name: The container's name.
        body: What the child does: it ends in an exec, or returns an exit code.
        depends: Names of programs that must have ended with 0 before.
        attempts: How often it is started in all until it ends with 0; Argo allows 0, which succeeds unstarted.
        pause: Seconds between two attempts.
        captured: Keep the end of its stdout.
        sidecar: End it when the others have ended.
        after: Called when it has ended.
    """

    def __init__(
        self,
        name: str,
        body: Callable[[], int],
        *,
        depends: tuple[str, ...] = (),
        attempts: int = 1,
        pause: float = 0.0,
        captured: bool = False,
        sidecar: bool = False,
        after: Callable[[], None] | None = None,
    ):
        self.name = name
        self.body = body
        self.depends = depends
        self.attempts_left = attempts
        self.pause = pause
        self.captured = captured
        self.sidecar = sidecar
        self.after = after
        self.code: int | None = None
        """Its exit code, once it has ended for good."""
        self.text = ""
        """What it says about its end: a fault of starting it, or its termination message."""
        self.signal = 0
        self.started = 0.0
        self.finished = 0.0
        self.stdout = bytearray()
        self.pid = 0
        self.start_at = 0.0
        self.fds: list[int] = []


class Supervisor:
    """Runs programs to their end.

    Args:
        leaf: Once it is asked to end, nothing more is started.
        programs: All of them; order is start order.
    """

    def __init__(self, leaf: Leaf, programs: list[Program]):
        self._leaf = leaf
        self._programs = {program.name: program for program in programs}
        self._poller = select.poll()
        self._watched: dict[int, tuple[Program, bool]] = {}
        self._kill_at: float | None = None

    def run(self) -> None:
        """Start what is due, and return when all have ended."""
        while True:
            self._start_due()
            if all(program.code is not None for program in self._programs.values()):
                return
            self._end_sidecars()
            for fd, _ in self._poller.poll(self._timeout()):
                program, is_output = self._watched.get(fd, (None, False))
                if program is None:
                    continue  # its end was met in this round already
                if is_output:
                    self._pump(program, fd)
                else:
                    self._reap(program)

    def _timeout(self) -> float | None:
        waiting = [p.start_at for p in self._programs.values() if p.code is None and not p.pid and self._ready(p)]
        times = waiting + ([self._kill_at] if self._kill_at else [])
        return max(0.0, min(times) - time.monotonic()) * 1000 if times else None

    def _ready(self, program: Program) -> bool:
        return all(self._programs[name].code is not None for name in program.depends)

    def _start_due(self) -> None:
        progress = True
        while progress:
            progress = False
            for program in self._programs.values():
                if program.code is not None or program.pid or not self._ready(program):
                    continue
                failed = [name for name in program.depends if self._programs[name].code]
                if failed:
                    code = self._programs[failed[0]].code
                    program.code = 64
                    program.text = f'dependency "{failed[0]}" exited with non-zero code: {code}'
                    program.started = program.finished = time.time()
                    progress = True
                elif program.attempts_left <= 0 or self._leaf.asked_to_end:
                    program.code = 143 if self._leaf.asked_to_end else 0
                    program.started = program.finished = time.time()
                    progress = True
                elif program.start_at <= time.monotonic():
                    self._start(program)

    def _start(self, program: Program) -> None:
        program.attempts_left -= 1
        program.started = program.started or time.time()
        program.text = ""
        fault_read, fault_write = os.pipe2(os.O_CLOEXEC)
        output_read, output_write = os.pipe2(os.O_CLOEXEC) if program.captured else (-1, -1)
        _flush()
        parent = os.getpid()
        program.pid = os.fork()
        if program.pid == 0:
            _child(program, parent, fault_write, output_write)
        os.close(fault_write)
        if program.captured:
            os.close(output_write)
            os.set_blocking(output_read, False)
            self._watch(program, output_read, True)
        program.text = _read_all(fault_read)
        self._watch(program, os.pidfd_open(program.pid), False)

    def _watch(self, program: Program, fd: int, is_output: bool) -> None:
        self._watched[fd] = (program, is_output)
        self._poller.register(fd, select.POLLIN)
        program.fds.append(fd)

    def _pump(self, program: Program, fd: int) -> bool:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            _unregister(self._poller, fd)
            return False
        _write_all(1, data)
        program.stdout += data
        if len(program.stdout) > 4 * staging.RESULT_LIMIT:
            del program.stdout[: -staging.RESULT_LIMIT]
        return True

    def _reap(self, program: Program) -> None:
        _, status = os.waitpid(program.pid, 0)
        for fd in program.fds:
            # What lies in the pipe belongs to it; whoever still holds the other end does not.
            while self._watched[fd][1] and self._pump(program, fd):
                pass
            if fd in self._watched:
                del self._watched[fd]
            _unregister(self._poller, fd)
            os.close(fd)
        program.fds.clear()
        if program.after is not None:
            program.after()
        program.pid = 0
        code = os.waitstatus_to_exitcode(status)
        program.signal = max(0, -code)
        code = 128 - code if code < 0 else code
        if code and program.attempts_left > 0 and not self._leaf.asked_to_end:
            program.start_at = time.monotonic() + program.pause
            return
        program.code, program.finished = code, time.time()

    def _end_sidecars(self) -> None:
        sidecars = [program for program in self._programs.values() if program.sidecar and program.pid]
        if not sidecars or any(p.code is None for p in self._programs.values() if not p.sidecar):
            return
        now = time.monotonic()
        if self._kill_at is None:
            self._kill_at = now + _SIDECAR_GRACE
            number = signal.SIGTERM
        elif now >= self._kill_at:
            self._kill_at = None
            number = signal.SIGKILL
        else:
            return
        for program in sidecars:
            os.kill(program.pid, number)


def _unregister(poller: select.poll, fd: int) -> None:
    with contextlib.suppress(KeyError):
        poller.unregister(fd)


def _child(program: Program, parent: int, fault: int, output: int) -> NoReturn:
    code = 64
    try:
        for number in (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        leafrun.die_with_parent(parent)
        if output >= 0:
            os.dup2(output, 1)
        code = program.body()
    except leafrun.Ended:
        code = 143
    except StartError as error:
        _write_all(fault, str(error).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


class StartError(Exception):
    """A program cannot be started; the text is Go's, as Argo's emissary gives it."""


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _read_all(fd: int) -> str:
    with os.fdopen(fd, "rb") as file:
        return file.read().decode(errors="replace")


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def execute(words: list[str], environment: dict[str, str]) -> NoReturn:
    """Become a program.

    Raises:
        StartError: It is not there, or the kernel refuses it; the text is Go's.
    """
    path = find_program(words[0], environment.get("PATH", os.defpath))
    try:
        os.execve(path, words, environment)
    except OSError as error:
        text = _go_text(error)
        raise StartError(f"failed to start command: fork/exec {path}: {text}") from error


def find_program(name: str, path: str) -> str:
    """Find a program as Go's ``exec.LookPath`` does.

    Raises:
        StartError: It is not there; the text is Go's.
    """
    if "/" in name:
        try:
            info = os.stat(name)
        except OSError as error:
            raise _not_found(name, f"stat {name}: {_go_text(error)}") from error
        if stat.S_ISDIR(info.st_mode):
            raise _not_found(name, "is a directory")
        if not info.st_mode & 0o111:
            raise _not_found(name, "permission denied")
        return name
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise StartError(f'failed to find name in PATH: exec: "{name}": executable file not found in $PATH')


def _not_found(name: str, reason: str) -> StartError:
    return StartError(f'failed to find name in PATH: exec: "{name}": {reason}')


def _go_text(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO).lower()
