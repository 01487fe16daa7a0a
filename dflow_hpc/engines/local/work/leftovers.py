"""Which processes belong to a run or a leaf, and how they are ended: what keeps two lives of one leaf apart.

A process belongs to a run when its environment at its exec says so (the zygote is started with a mark that every
program it leads to inherits), or when its stdout or stderr is a log of the run (for programs whose environment was
cleared). Nothing is ever concluded from a pid alone: a process is opened by pidfd, looked at, and ended through it.

Not here: when this is asked (``workers.py`` before a run goes on, ``zygote.py`` when a leaf ends).

Trap: a forked child shows the environment of the last exec, so a leaf's own mark is seen in what it executes, not in
itself; its session tells the rest.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from dflow_hpc.errors import EngineError

RUN_MARK = "DFLOW_HPC_RUN"
"""Environment variable that holds the run's directory, in the zygote and all below it."""
LEAF_MARK = "DFLOW_HPC_LEAF"
"""Environment variable that holds the leaf's directory, in what a leaf executes."""
LOGS = ("log.txt", "zygote.log")
_ROUNDS = 200
_PF_EXITING = 0x4
"""Flag of a task in ``/proc/<pid>/stat``; include/linux/sched.h."""


def belongs_to_run(run_dir: str) -> Callable[[int], bool]:
    """Return a test of pids: does the process belong to this run?"""
    marks = (f"{RUN_MARK}={run_dir}\0".encode(), f"{LEAF_MARK}={run_dir}/".encode())

    def test(pid: int) -> bool:
        environment = b"\0" + _environment(pid)
        return any(b"\0" + mark in environment for mark in marks) or _logs_to(pid, run_dir)

    return test


def belongs_to_leaf(leaf_dir: str, session: int) -> Callable[[int], bool]:
    """Return a test of pids: does the process belong to this leaf, whose own pid is ``session``?"""
    mark = f"\0{LEAF_MARK}={leaf_dir}\0".encode()

    def test(pid: int) -> bool:
        try:
            if os.getsid(pid) == session:
                return True
        except ProcessLookupError:
            return False
        environment = b"\0" + _environment(pid) + b"\0"
        nested = f"\0{LEAF_MARK}={leaf_dir}/".encode() in environment
        return mark in environment or nested or _logs_to(pid, leaf_dir)

    return test


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or another user's
        return b""


def _logs_to(pid: int, directory: str) -> bool:
    for fd in (1, 2):
        try:
            path = os.readlink(f"/proc/{pid}/fd/{fd}").removesuffix(" (deleted)")
        except OSError:
            continue
        if path.startswith(directory + "/") and path.rpartition("/")[2] in LOGS:
            return True
    return False


def find(test: Callable[[int], bool]) -> Iterator[int]:
    """Yield the pids of this machine that pass a test, except this process and those it descends from."""
    spared = _line()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in spared and test(int(name)):
            yield int(name)


def _line() -> set[int]:
    line, pid = set(), os.getpid()
    while pid > 0 and pid not in line:
        line.add(pid)
        pid = parent_of(pid)
    return line


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` from the state on, none when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def parent_of(pid: int) -> int:
    """Return the parent's pid, 0 when the process is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _is_dying(pid: int) -> bool:
    """Say whether a process is on its way out: its memory, and so its mark, is gone, its files perhaps not yet."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX" and bool(int(fields[6]) & _PF_EXITING)


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children, zombies included."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        names = os.listdir("/proc")
        return [int(name) for name in names if name.isdigit() and parent_of(int(name)) == pid]


def describe(pid: int) -> str:
    """Return a short text for a process: its pid, and its command line or (while that is not there) its name."""
    for name in ("cmdline", "comm"):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
            line = b" ".join(words).decode(errors="replace").strip()
            if line:
                return f"{pid} ({line[:100]})"
    return str(pid)


def end_all(test: Callable[[int], bool]) -> list[str]:
    """Kill every process that passes a test, wait until it is gone, and look again until none is left.

    Returns:
        A description of each that was ended.

    Raises:
        EngineError: New ones appear as fast as they are ended, or one does not end.
    """
    ended: list[str] = []
    for _ in range(_ROUNDS):
        found = list(find(test))
        waiting = []
        for pid in found:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            # Looked at again behind the pidfd: between the two the number may have gone to a stranger.
            if test(pid):
                ended.append(describe(pid))
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                waiting.append((pid, fd))
            else:
                os.close(fd)
        for pid, fd in waiting:
            _wait(pid, fd)
        if not found:
            _let_die()
            return ended
    raise EngineError(
        f"processes of an earlier life of this run were to be ended; new ones keep appearing: {', '.join(ended[-5:])}. "
        "End them by hand and resume."
    )


def _wait(pid: int, fd: int) -> None:
    if not _ends(fd, 60):
        raise EngineError(
            f"process {describe(pid)} of an earlier life of this run was killed; after 60 s it still exists "
            "(perhaps it waits for a file server). Resume when it is gone."
        )


def _ends(fd: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    try:
        return bool(poller.poll(seconds * 1000))
    finally:
        os.close(fd)


def _let_die() -> None:
    """Wait for processes that the kernel takes apart just now: nothing tells any more whether they belong here."""
    for pid in list(find(_is_dying)):
        with contextlib.suppress(ProcessLookupError):
            _ends(os.pidfd_open(pid), 5)
