"""The zygote: a small process that has imported what leaves need, and forks one leaf after another.

The engine sends lines over a socket, the zygote answers in lines; each side writes many lines at once where it can.

    engine -> zygote   ["run", id, root, slots] TAB <the leaf's spec>     zygote -> engine   ["start", id, pid]
                       ["end", id, grace in seconds]                                         ["done", id, wait status]
                                                                                             ["note", id or null, text]
                                                                             ["ready", null]

The spec is not even parsed here: the child does that, in parallel with others. A leaf is reported as done only when
nothing of it runs any more; processes that it left behind come here (the zygote is their subreaper) and are ended.

Not here: what a leaf does (``leafrun.py``), and who decides what runs (``workers.py``).

Trap: all that is allocated here is paid for by each fork. Keep it small, keep it out of threads, import before
``gc.freeze``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections import deque
from typing import Any, NoReturn

from dflow_hpc.engines.local.work import leafrun, leftovers, namespaces

_PR_SET_CHILD_SUBREAPER = 36
_CHUNK = 1 << 16


class _Leaf:
    """A leaf that runs, or that has ended and left something behind."""

    __slots__ = ("asked", "id", "kill_at", "pidfd", "root", "slots", "status")

    def __init__(self, id: str, root: str, slots: int, pidfd: int):
        self.id = id
        self.pidfd = pidfd
        self.root = root
        self.slots = slots
        self.asked = False
        """Whether it was asked to end: what is then left of it is no news."""
        self.kill_at: float | None = None
        self.status: int | None = None


class Zygote:
    """Forks leaves for the engine at the other end of ``channel``.

    Args:
        channel: Descriptor of a stream socket; its end of file means that the engine is gone.
        settings: What all leaves of the run share; see ``workers.py``.
    """

    def __init__(self, channel: int, settings: dict[str, Any]):
        self._channel = channel
        self._settings = settings
        self._free: float = settings["workers"] if settings["workers"] > 0 else float("inf")
        self._pending: deque[tuple[str, str, int, bytes]] = deque()
        self._leaves: dict[int, _Leaf] = {}
        self._out: list[str] = []
        self._rest = b""
        self._knows_commands = False
        """Whether what command leaves need is imported: a run of Python OPs only goes without."""
        self._me = os.getpid()
        self._engine = os.pidfd_open(settings["engine"])
        # A pidfd a child rather than SIGCHLD: a handler would have to be undone in each leaf.
        self._poller = select.poll()
        self._poller.register(channel, select.POLLIN)
        self._poller.register(self._engine, select.POLLIN)
        self._orphans: dict[int, int] = {}
        """Processes that leaves left behind and that were killed: pid -> pidfd."""

    def serve(self) -> None:
        """Work until the engine is gone; then end all leaves and return."""
        self._send()
        while True:
            ended = False
            for fd, _ in self._poller.poll(self._timeout()):
                if fd == self._engine or (fd == self._channel and not self._receive()):
                    self._end_everything()
                    return
                ended = ended or fd != self._channel
            if ended:
                self._reap()
            self._kill_late()
            self._start_pending()
            if self._out and not self._send():
                self._end_everything()
                return

    def _send(self) -> bool:
        data = "".join(self._out).encode()
        try:
            while data:
                data = data[os.write(self._channel, data) :]
        except (BrokenPipeError, ConnectionResetError):
            return False
        self._out.clear()
        return True

    def tell(self, *message: object) -> None:
        """Let the engine know; lines go out together at the end of a turn of the loop."""
        self._out.append(json.dumps(message) + "\n")

    def _receive(self) -> bool:
        try:
            data = os.read(self._channel, _CHUNK)
        except ConnectionResetError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            head, _, spec = line.partition(b"\t")
            kind, node, *more = json.loads(head)
            if kind == "run":
                self._pending.append((node, more[0], more[1], spec))
            else:
                self._end(node, more[0])
        return bool(data)

    def _start_pending(self) -> None:
        # Strictly in order: a wide leaf at the head waits for room, and those behind it with it, so none starves.
        while self._pending and self._free >= self._pending[0][2]:
            node, root, slots, spec = self._pending.popleft()
            if not self._knows_commands and leafrun.OP_ANNOTATION.encode() not in spec:
                self._knows_commands = True
                importlib.import_module("dflow_hpc.engines.local.work.commands")
                gc.freeze()
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                self._become_leaf(spec)
            self._leaves[pid] = _Leaf(node, root, slots, self._watch(pid))
            self._free -= slots
            self.tell("start", node, pid)

    def _watch(self, pid: int) -> int:
        fd = os.pidfd_open(pid)
        self._poller.register(fd, select.POLLIN)
        return fd

    def _forget(self, pidfd: int) -> None:
        self._poller.unregister(pidfd)
        os.close(pidfd)

    def _become_leaf(self, spec: bytes) -> NoReturn:
        os.close(self._channel)
        os.close(self._engine)
        for other in self._leaves.values():
            if other.status is None:
                os.close(other.pidfd)
        for pidfd in self._orphans.values():
            os.close(pidfd)
        os.setsid()
        leafrun.die_with_parent(self._me)
        leafrun.main(spec, self._settings)

    def _end(self, id: str, grace: float) -> None:
        for position, waiting in enumerate(self._pending):
            if waiting[0] == id:
                del self._pending[position]
                self.tell("done", id, None)
                return
        for pid, leaf in self._leaves.items():
            if leaf.id == id and leaf.status is None:
                leaf.kill_at = time.monotonic() + grace
                leaf.asked = True
                _signal(pid, signal.SIGTERM)
                for other in leftovers.find(leftovers.belongs_to_leaf(leaf.root, pid)):
                    if other != pid:
                        _signal(other, signal.SIGTERM)

    def _timeout(self) -> float | None:
        times = [leaf.kill_at for leaf in self._leaves.values() if leaf.kill_at is not None]
        return max(0.0, min(times) - time.monotonic()) * 1000 if times else None

    def _kill_late(self) -> None:
        for pid, leaf in self._leaves.items():
            if leaf.kill_at is not None and leaf.kill_at <= time.monotonic():
                leaf.kill_at = None
                _signal(pid, signal.SIGKILL)  # what it leaves behind is found when it has ended

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            leaf = self._leaves.get(pid)
            if leaf is not None:
                leaf.status, leaf.kill_at = status, None
                self._forget(leaf.pidfd)
            elif pid in self._orphans:
                self._forget(self._orphans.pop(pid))
        self._settle()

    def _settle(self) -> None:
        """Report the leaves of which nothing runs any more; end what the others left behind."""
        over = {pid: leaf for pid, leaf in self._leaves.items() if leaf.status is not None}
        alive = [pid for pid, leaf in self._leaves.items() if leaf.status is None]
        for orphan in leftovers.children_of(self._me):
            if orphan in alive:
                continue
            owner = self._owner(orphan, over)
            if owner is None and alive:
                continue  # it may belong to a leaf that still runs
            if orphan not in self._orphans:
                if owner is None or not owner.asked:
                    text = f"a process left behind was ended: {leftovers.describe(orphan)}"
                    self.tell("note", owner and owner.id, text)
                self._orphans[orphan] = self._watch(orphan)
                _signal(orphan, signal.SIGKILL)
            # Its end calls this again. Where nothing tells whose it was, every ended leaf waits for it.
            over = {pid: leaf for pid, leaf in over.items() if owner is not None and leaf is not owner}
        for pid, leaf in over.items():
            del self._leaves[pid]
            self._free += leaf.slots
            self.tell("done", leaf.id, leaf.status)

    @staticmethod
    def _owner(orphan: int, leaves: dict[int, _Leaf]) -> _Leaf | None:
        for pid, leaf in leaves.items():
            if leftovers.belongs_to_leaf(leaf.root, pid)(orphan):
                return leaf
        return None

    def _end_everything(self) -> None:
        """Kill all children until there are none; their own children come here one after another."""
        while True:
            for pid in leftovers.children_of(self._me):
                _signal(pid, signal.SIGKILL)
            try:
                os.wait()
            except ChildProcessError:
                return


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def enter(channel_fd: int, settings_fd: int) -> None:
    """Run the zygote of which ``workers.py`` is the other end.

    Args:
        channel_fd: The socket to the engine.
        settings_fd: A file with what all leaves of the run share, as JSON.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    os.set_inheritable(channel_fd, False)
    with open(settings_fd, encoding="utf-8") as file:
        settings = json.load(file)
    os.set_inheritable(settings["lock_fd"], False)
    settings["no_namespaces"] = namespaces.refusal() if settings["namespaces"] else "as asked"
    settings["umask"] = os.umask(0o022)  # reading it means setting it
    os.umask(settings["umask"])
    zygote = Zygote(channel_fd, settings)
    if settings["records"] and settings["isolation"] == "fork":
        _preload(zygote, settings)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a leaf that is killed keeps its lines
    # Libraries start threads when they are imported; the one that forks holds none of their locks.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    signal.signal(signal.SIGTERM, leafrun.on_terminate)  # inherited by leaves, which would pay for setting it
    gc.collect()
    gc.disable()  # a collection here would only touch pages that leaves share; a leaf enables it again
    gc.freeze()
    zygote.tell("ready", None)
    zygote.serve()


def _preload(zygote: Zygote, settings: dict[str, Any]) -> None:
    from dflow_hpc.op import runner

    try:
        runner.preload(settings["records"], settings["code_dir"])
        settings["preloaded"] = True
    except Exception:
        traceback.print_exc()
        zygote.tell("note", None, f"the code of this run could not be loaded ahead: {traceback.format_exc(limit=0)}")
