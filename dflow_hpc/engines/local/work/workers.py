"""The local leaf host: it runs leaves through a zygote, at most so many at once, and answers for each of them.

The engine awaits ``run(request)``. The host hands the leaf to the zygote, which keeps the limit and the order; when
the leaf has ended it reads the leaf's record. A leaf that left none (killed, ``os._exit``) gets one here.

Not here: what a leaf does (``leafrun.py``); which leaves there are (the interpreter).

Trap: any of the engine, the zygote and a leaf can be killed at any instant. A leaf runs only if it has no record, and
only after everything of an earlier life was ended (``end_leftovers``); a zygote that dies is started again, and what
it ran is run again, under the same rule.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dflow_hpc.engines.local.work import brought, leafrun, leftovers, logs, placement, staging
from dflow_hpc.engines.local.work.progress import ProgressWatch
from dflow_hpc.engines.local.work.records import as_outcome, death, node_of_record, read_record
from dflow_hpc.engines.local.work.spec import leaf_spec
from dflow_hpc.errors import EngineError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.leaf import LeafRequest, Outcome
from dflow_hpc.executors.profiles.machine import Machine

if TYPE_CHECKING:
    from dflow_hpc.engines.local.work.machines import MachineHost, Machines

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL. Argo gives 30; on one machine nobody waits for a network."""
_RUNS_OWN = {"code", "outputs", "pid", "status", "store", "type", "upload", "volumes"}
"""Names in a run's directory that a step's key might be, too."""
_LIVES = 3
"""A leaf whose zygote was killed is started again, so often in all."""


class _Running:
    """A leaf in the hands of the zygote."""

    def __init__(self, request: LeafRequest, root: Path, line: bytes):
        self.request = request
        self.root = root
        self.line = line
        self.done: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        """Its wait status; None when it never started."""
        self.notices: list[str] = []
        self.lives = 1
        self.ending = False
        """Whether it was asked to end: then it is not started again."""
        self.progress = ""
        self.started = 0.0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def must_end(self) -> float | None:
        """When it must have ended, as far as that is known: its own time limit counts from its start."""
        limits = [self.request.deadline]
        if self.started and self.request.timeout is not None:
            limits.append(self.started + self.request.timeout)
        return min((limit for limit in limits if limit is not None), default=None)


class LocalLeafHost:
    """Runs leaves in processes of this machine.

    Args:
        run_dir: The run's directory; leaf directories lie in it.
        workers: Leaves that run at once; None is one a core, -1 no limit.
        store: Where artifacts are: ``{"workdir": ..., "artifact_dir": ...}`` of the local store.
        code_dir: The extracted bundle, which holds the author's code.
        records: The op records of the run, to be imported once, ahead of the leaves.
        runtime: How foreign containers run: ``host`` (None), or a container runtime.
        isolation: ``fork`` from the zygote, or ``spawn`` a fresh interpreter for each Python OP.
        copy_method: How inputs are staged; None is the cheapest that is safe.
        grace: Seconds between SIGTERM and SIGKILL when a leaf is ended.
        namespaces: Use mount namespaces for literal paths where the kernel allows it; False substitutes them.
        say: Called with what the user should know at once and belongs to no leaf, such as a machine that pauses.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        workers: int | None = None,
        store: dict[str, Any],
        code_dir: Path | None = None,
        records: list[dict[str, Any]] | None = None,
        runtime: str | None = None,
        isolation: str = "fork",
        copy_method: str | None = None,
        grace: float = GRACE,
        namespaces: bool = True,
        say: Callable[[str], None] | None = None,
    ):
        self._run_dir = run_dir.resolve()
        self.notices: list[str] = []
        """What the user should know that belongs to no single leaf."""
        self._grace = grace
        self._package_dir = str(Path(__file__).resolve().parents[4])
        self._settings: dict[str, Any] = {
            "engine": os.getpid(),
            "workers": len(os.sched_getaffinity(0)) if workers is None else workers,
            "store": store,
            "code_dir": str(code_dir) if code_dir else None,
            "records": records or [],
            "preloaded": False,
            "runtime": runtime,
            "namespaces": namespaces,
            "isolation": isolation,
            "copy_method": copy_method,
            "run_dir": str(self._run_dir),
            "mount_point": str(self._run_dir / ".view"),
            "progress_dir": str(self._run_dir / ".progress"),
            "secrets_dir": str(self._run_dir / ".secrets"),
            "package_dir": self._package_dir,
            "keep": [str(self._run_dir), self._package_dir, sys.prefix, sys.base_prefix, store["workdir"]],
        }
        self._placements = placement.Placements(self._settings["workers"], self._run_dir)
        self._machines: Machines | None = None
        self._say = say or self.notices.append
        self._directories: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._running: dict[str, _Running] = {}
        self._zygote: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.Task[None] | None = None
        self._outbox: list[bytes] = []
        self._progress = ProgressWatch(self._run_dir / ".progress")
        self._closing = False
        self._ready = False
        self._false_starts = 0
        self._broken: EngineError | None = None
        """Why no leaf can be started any more."""

    async def start(self) -> None:
        """End what is left of an earlier life of the run, then start the zygote.

        Raises:
            EngineError: Something of an earlier life cannot be ended.
        """
        self.notices += [f"a process of an earlier life was ended: {text}" for text in end_leftovers(self._run_dir)]
        (self._run_dir / ".view").mkdir(exist_ok=True)
        self._progress.start(self._on_progress)
        await self._start_zygote()

    async def _start_zygote(self) -> None:
        self._ready = False
        ours, theirs = socket.socketpair()
        lock = _take_lock(self._run_dir)
        settings = os.memfd_create("settings")
        os.write(settings, json.dumps({**self._settings, "lock_fd": lock}).encode())
        os.lseek(settings, 0, os.SEEK_SET)
        arguments = [self._package_dir, "zygote", str(theirs.fileno()), str(settings)]
        try:
            with (self._run_dir / "zygote.log").open("ab") as log:
                self._zygote = subprocess.Popen(
                    [sys.executable, "-c", leafrun.BOOT, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[theirs.fileno(), settings, lock],
                    env={**os.environ, leftovers.RUN_MARK: str(self._run_dir)},
                    start_new_session=True,  # a Ctrl-C in the terminal is for the engine to hear
                )
        finally:
            theirs.close()
            os.close(settings)
            os.close(lock)
        self._pidfd = os.pidfd_open(self._zygote.pid)
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reader = asyncio.create_task(self._read(reader))
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_zygote_end)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):  # reset, or a broken pipe: it died while a line was on its way
            while line := await reader.readline():
                kind, node, *more = json.loads(line)
                running = self._running.get(node)
                if kind == "ready":
                    self._ready = True
                elif kind == "note":
                    (running or self).notices.append(more[0])
                elif running is None:
                    continue
                elif kind == "start":
                    if not running.started:
                        running.started = time.time()
                        self._watch_time(running)
                        running.request.on_running()
                elif not running.done.done():
                    running.done.set_result(more[0])

    def _on_zygote_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        if not self._closing:
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Start the zygote again after it was killed, and run again what has no record."""
        assert self._zygote and self._reader and self._writer  # noqa: S101  for mypy
        status = self._zygote.wait()
        await self._reader  # what it said before it died counts
        self._drop_channel()
        why = f"the process that starts leaves ended by itself ({_how(status)}; see {self._run_dir}/zygote.log)"
        try:
            self._end_former_life(why)
            again = [running for running in self._running.values() if not running.done.done()]
            self._outbox.clear()  # all of it belongs to these; what is posted from now on waits for the new one
            for running in again:
                running.lives += 1
                running.notices.append(f"{why}; this leaf was started again")
                if running.ending or (running.root / leafrun.RECORD).exists():
                    running.done.set_result(0)
                elif running.lives > _LIVES:
                    running.done.set_exception(EngineError(f"{why}, {_LIVES} times while this leaf ran"))
            await self._start_zygote()
            self._outbox[:0] = [running.line for running in again if not running.done.done()]
            self._flush()
        except (EngineError, OSError) as error:
            self._broken = (
                error if isinstance(error, EngineError) else EngineError(f"leaves were to be started; {error}")
            )
            for running in self._running.values():
                if not running.done.done():
                    running.done.set_exception(self._broken)

    def _end_former_life(self, why: str) -> None:
        end_leftovers(self._run_dir)
        # One that was killed before it was ready is no sign that none can be; several in a row are.
        self._false_starts = 0 if self._ready else self._false_starts + 1
        if self._false_starts == _LIVES:
            raise EngineError(f"leaves were to be started; {why}")

    def _drop_channel(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def run(self, request: LeafRequest) -> Coroutine[Any, Any, Outcome]:
        """Run one leaf to its end; see ``LeafHost``. One that has a record is not run again.

        Raises:
            ConfigError: It asks for a machine that is unknown or that this version cannot use.
        """
        place = self._placements.of(request.template)
        root = self.leaf_dir_for(request)
        if place.machine is None:
            running = self._run_here(request, root, place)
        else:
            running = self._run_there(request, str(root), self._machine(place.machine), place)
        return logs.kept(running, request, root, self._settings["store"]) if logs.wanted(request.template) else running

    async def _run_there(self, request: LeafRequest, root: str, host: MachineHost, place: placement.Place) -> Outcome:
        if (recorded := read_record(Path(root))) is not None:
            host.delivered(request)
            return recorded
        return as_outcome(await host.run(request, root, place))

    async def _run_here(self, request: LeafRequest, root: Path, place: placement.Place) -> Outcome:
        if (recorded := read_record(root)) is not None:
            return recorded
        if (failed := await brought.bring(request, self._settings["store"])) is not None:
            return failed
        line = _spec_line(request, root, place)
        running = self._running[request.node_id] = _Running(request, root, line)
        if self._broken is not None:  # found out before this leaf came
            running.done.set_exception(self._broken)
        self._watch_time(running)
        self._post(line)
        try:
            status = await asyncio.shield(running.done)
            return self._outcome(running, status)
        except asyncio.CancelledError:
            running.ending = True
            self._ask_to_end(request.node_id)
            await _until_done(running.done)
            raise
        except EngineError as error:
            return Outcome("Error", str(error), {}, FailureClass.INFRA, running.started, time.time(), running.notices)
        finally:
            if running.timer:
                running.timer.cancel()
            self._running.pop(request.node_id, None)
            self._progress.forget(request.node_id)

    def _machine(self, machine: Machine) -> MachineHost:
        return self._all_machines().of(machine)

    def _all_machines(self) -> Machines:
        if self._machines is None:
            # Loaded where a machine is used only: what talks to machines is much.
            from dflow_hpc.engines.local.work.machines import Machines

            self._machines = Machines(self._run_dir, self._settings, self._say)
        return self._machines

    async def end_jobs(self) -> None:
        """Cancel the jobs that earlier sessions have left on machines: the run has ended without them."""
        if (self._run_dir / ".machines").is_dir():
            await self._all_machines().end_jobs()

    def at_work(self) -> tuple[int, dict[str, int]]:
        """Return how many leaves run here now, and how many jobs there are, by machine."""
        return len(self._running), self._machines.at_work() if self._machines is not None else {}

    def follow(self) -> None:
        """Bring what leaves on machines print, for a while from now on: somebody looks at their logs."""
        if self._machines is not None:
            self._machines.follow()

    def leave(self) -> None:
        """Let the jobs on machines live on when what awaits ``run`` is cancelled: the session breaks off."""
        if self._machines is not None:
            self._machines.leave()

    def _watch_time(self, running: _Running) -> None:
        if running.timer is not None:
            running.timer.cancel()
        if running.must_end is not None:
            delay = max(0.0, running.must_end - time.time())
            loop = asyncio.get_running_loop()
            running.timer = loop.call_later(delay, self._ask_to_end, running.request.node_id)

    def _post(self, line: bytes) -> None:
        """Send a line to the zygote; lines of one turn of the loop go in one write."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append(line)

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.write(b"".join(self._outbox))
            self._outbox.clear()

    def _ask_to_end(self, node_id: str) -> None:
        self._post(json.dumps(["end", node_id, self._grace]).encode() + b"\n")

    def _outcome(self, running: _Running, status: int | None) -> Outcome:
        request = running.request
        if status is None:
            finished = time.time()
            return Outcome("Failed", "timeout", {}, FailureClass.WALLTIME, finished, finished, running.notices)
        outcome = read_record(running.root)
        if outcome is None:
            outcome = self._write_missing_record(running, status)
        outcome.notices += running.notices
        self._on_progress(request.node_id, self._progress.last(request.node_id))
        return outcome

    def _write_missing_record(self, running: _Running, status: int) -> Outcome:
        """Say how a leaf ended that wrote no record, and write one for it."""
        request = running.request
        overdue = running.must_end is not None and time.time() >= running.must_end
        record = death(status, overdue=overdue, behind_setup=bool(self._placements.of(request.template).setup))
        record.update(started=running.started, finished=time.time(), notices=[], members=[])
        try:
            leafrun.write_record(str(running.root), request.node_id, record)
        except OSError as error:
            record.update(
                phase="Error",
                message=staging.error_text("wait", f"the record of this step could not be written: {error}"),
                failure="INFRA",
            )
        return as_outcome(record)

    def _on_progress(self, node_id: str, text: str) -> None:
        running = self._running.get(node_id)
        if running is not None and text not in ("", running.progress):
            running.progress = text
            running.request.on_progress(text)

    def leaf_dir_for(self, request: LeafRequest) -> Path:
        """Return the leaf's directory: named by its key, else (or when another leaf has that name) by its node."""
        node = request.node_id
        key = _key(request)
        name = self._directories.get(node)
        if name is None:
            name = self._directories[node] = key if self._may_name(key, node) else node
        return self._run_dir / name

    def _may_name(self, key: str, node: str) -> bool:
        """Say whether a key names the node's directory: not one that the run itself uses, or another leaf has."""
        if not re.fullmatch(r"[a-z0-9][-a-z0-9]*", key) or key in _RUNS_OWN:
            return False
        if self._keys.get(key, node) != node or node_of_record(self._run_dir / key) not in (None, node):
            return False
        self._keys[key] = node
        return True

    async def close(self) -> None:
        """End all leaves that still run, and the zygote. Cancel what awaits ``run`` first."""
        self._closing = True
        self._progress.close()
        if self._machines is not None:
            await self._machines.close()
        if self._zygote is None:
            return
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
        self._flush()
        if self._writer is not None:
            self._writer.write_eof()
        if self._reader is not None:
            await self._reader
        await asyncio.to_thread(self._zygote.wait)
        self._drop_channel()


def _how(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"


async def _until_done(done: asyncio.Future[int | None]) -> None:
    """Wait for a leaf's end although this task is being cancelled, perhaps more than once."""
    while not done.done():
        with contextlib.suppress(asyncio.CancelledError, EngineError):
            await asyncio.shield(done)


def _spec_line(request: LeafRequest, root: Path, place: placement.Place) -> bytes:
    head = json.dumps(["run", request.node_id, str(root), place.slots])
    return f"{head}\t{json.dumps(leaf_spec(request, str(root), place))}\n".encode()


def _key(request: LeafRequest) -> str:
    for parameter in request.inputs.get("parameters") or []:
        if parameter["name"] == "dflow_key":
            return str(parameter.get("value") or "")
    return ""


def _take_lock(run_dir: Path) -> int:
    """Take ``zygote.lock`` and return its descriptor: it stays locked while the zygote or any forked leaf lives.

    Raises:
        EngineError: Something of an earlier life still holds it.
    """
    fd = os.open(run_dir / "zygote.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise EngineError(
            f"leaves of {run_dir} were to be started; a process of another life of this run still holds "
            f"{run_dir}/zygote.lock and could not be found. `fuser -v {run_dir}/zygote.lock` names it; end it, and "
            "resume."
        ) from error
    return fd


def end_leftovers(run_dir: Path) -> list[str]:
    """Make sure that no process of an earlier life of a run is left: the zygote, leaves, what they started.

    Returns:
        A description of each process that was ended.

    Raises:
        EngineError: They cannot be ended.
    """
    return leftovers.end_all(leftovers.belongs_to_run(str(run_dir.resolve())))
