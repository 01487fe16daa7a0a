"""A run's directory: its name, its files, and who works on it.

``docs/architecture.md`` (section 3) has the table of the files. Leaf directories lie beside them and are the business
of ``workers.py``.

Not here: which runs there are (``index.py``), and what the journal means (``state.py``).

Trap: whether an engine works on a run is asked of the kernel (is there a process with this pid that started then?),
never of the lock itself: a reader that takes a lock to look at it could make an engine that starts just then fail.
"""

import contextlib
import fcntl
import json
import os
import secrets
import select
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from dflow_hpc.errors import EngineError

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_LONGEST_NAME = 63
"""Argo's limit for the name of a workflow."""


class Holder(NamedTuple):
    """The process that holds a lock."""

    pid: int
    start: int
    """When it started, in clock ticks since the boot: with it a pid is never taken for that of another process."""
    host: str
    boot: str
    """The kernel's boot id: start times of different boots do not compare."""
    signals: bool
    """Whether SIGUSR1 may be sent to it."""


def process_start(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the boot; None when it is not there or only a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = text.rpartition(")")[2].split()  # the program's name may hold anything, blanks and ")" too
    return None if state in "ZX" else int(fields[18])


def _this_process(signals: bool = False) -> Holder:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    pid = os.getpid()
    return Holder(pid, process_start(pid) or 0, socket.gethostname(), boot, signals)


def write_atomic(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file so that a reader sees the old or the new text, and never a part of it.

    Args:
        path: The file.
        text: What is to be in it.
        mode: Its permissions, of which the umask takes away.

    Raises:
        EngineError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch(mode)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise EngineError(
            f"{path} was to be written; {error.strerror}. When that is mended, go on with `dflow-hpc resume`, or "
            "`dflow-hpc retry` where a step had failed of it."
        ) from error


class Lock:
    """A file lock that says who holds it. It is free again when its holder ends, however it ends."""

    def __init__(self, path: Path):
        self.path = path
        self._fd = -1

    def acquire(self, *, signals: bool = False) -> None:
        """Take it.

        Args:
            signals: Whether this process is ready for SIGUSR1.

        Raises:
            EngineError: Another process holds it.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            holder = self.holder()
            who = f"process {holder.pid} on {holder.host}" if holder else "another process"
            raise EngineError(
                f"the run {self.path.parent} was to be worked on; {who} does that already. "
                f"Look on with `dflow-hpc get --watch {self.path.parent.name}`, or end it with `dflow-hpc stop`."
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(_this_process(signals)._asdict()).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let it go."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    @contextlib.contextmanager
    def held(self, *, signals: bool = False) -> Iterator[None]:
        """Hold it for the length of a block."""
        self.acquire(signals=signals)
        try:
            yield
        finally:
            self.release()

    def holder(self) -> Holder | None:
        """Return who wrote itself into the file last, alive or dead."""
        try:
            return Holder(**json.loads(self.path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None  # never taken, let go, or just being written

    def alive(self) -> Holder | None:
        """Return the living process that holds it. A process on another host counts as alive as long as it is locked.

        Only for another host the lock itself is tried, because there is no other way to ask.
        """
        holder = self.holder()
        if holder is None:
            return None
        here = _this_process()
        if holder.host == here.host:
            return holder if holder.boot == here.boot and process_start(holder.pid) == holder.start else None
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return holder
        return None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no living process holds it.

        Args:
            timeout: At most so many seconds; None waits for ever.

        Returns:
            False if the time was over first.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (holder := self.alive()) is not None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if left == 0.0:
                return False
            if holder.host == socket.gethostname():
                _wait_for_end(holder, left)
            else:  # nothing tells of the end of a process on another host
                time.sleep(1.0 if left is None else min(1.0, left))
        return True


def _wait_for_end(holder: Holder, timeout: float | None) -> None:
    try:
        fd = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return
    try:
        if process_start(holder.pid) == holder.start:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            poller.poll(None if timeout is None else timeout * 1000)
    finally:
        os.close(fd)


class RunDir:
    """The files of one run.

    Args:
        path: Its directory.
    """

    def __init__(self, path: Path):
        self.path = path
        self.name = path.name
        """The run's id, which is the workflow's name."""
        self.journal = path / "journal.jsonl"
        self.workflow_file = path / "workflow.json"
        self.settings_file = path / "settings.json"
        """The settings that were in force at submission, as far as they matter when the run goes on elsewhere."""
        self.resources_file = path / "resources.json"
        self.reused_file = path / "reused.json"
        self.code = path / "code"
        self.store = path / "store"
        self.secrets = path / ".secrets"
        self.requests = path / "requests.jsonl"
        self.log = path / "engine.log"
        self.lock = Lock(path / "engine.lock")

    @classmethod
    def create(cls, base: Path, metadata: dict[str, Any], *, id: str | None, settings: dict[str, Any]) -> Self:
        """Make the directory of a new run. It becomes one when ``write_workflow`` is called, last of all.

        Args:
            base: Where it is made.
            metadata: That of the Workflow.
            id: The run's name; without it ``metadata.name``, and without that one is made up that nothing else has.
            settings: What is kept in ``settings.json``.

        Raises:
            EngineError: The name is none for a directory, or the directory cannot be made or is there.
        """
        fixed = id or metadata.get("name")
        path = _make(base, fixed) if fixed else _make_unique(base, metadata.get("generateName") or "workflow-")
        run = cls(path.resolve())
        run.store.mkdir()
        run.code.mkdir()
        write_atomic(run.settings_file, json.dumps(settings, indent=1))
        return run

    @property
    def exists(self) -> bool:
        """Whether it is a run's directory at all."""
        return self.workflow_file.is_file()

    def workflow(self) -> dict[str, Any]:
        """Return the manifest as submitted.

        Raises:
            EngineError: It is not there.
        """
        try:
            manifest: dict[str, Any] = json.loads(self.workflow_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise EngineError(
                f"the run {self.name!r} was asked for; {self.path} has no workflow.json, so it is no run's directory. "
                "`dflow-hpc list` shows the runs."
            ) from error
        return manifest

    def write_workflow(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, with name, namespace, uid and creationTimestamp; those of an earlier one are kept."""
        old = self.workflow()["metadata"] if self.workflow_file.exists() else {}
        metadata = {key: value for key, value in (manifest.get("metadata") or {}).items() if key != "generateName"}
        metadata["name"] = self.name
        metadata.setdefault("namespace", old.get("namespace") or "argo")
        metadata["uid"] = old.get("uid") or metadata.get("uid") or str(uuid.uuid4())
        metadata["creationTimestamp"] = old.get("creationTimestamp") or time.strftime(
            "%Y-%m-%dT%H:%M:%SZ", time.gmtime()
        )
        kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
        write_atomic(self.workflow_file, json.dumps({**kind, **manifest, "metadata": metadata}, indent=1))

    def settings(self) -> dict[str, Any]:
        """Return the settings of the submission."""
        settings: dict[str, Any] = json.loads(self.settings_file.read_text(encoding="utf-8"))
        return settings

    def created(self) -> float:
        """Return when it was made, in seconds since the epoch."""
        return self.settings_file.stat().st_mtime

    def resources(self) -> list[dict[str, Any]]:
        """Return the other objects that the manifest refers to."""
        resources: list[dict[str, Any]] = _read_json(self.resources_file, [])
        return resources

    def reused(self) -> dict[str, Any]:
        """Return the outputs that stand for those of steps, by the steps' keys."""
        reused: dict[str, Any] = _read_json(self.reused_file, {})
        return reused

    def leaf_dir(self, node: dict[str, Any]) -> Path:
        """Return the directory of a node's leaf: named by its key, else (or when another one has that name) by its id.

        Args:
            node: A node of the tree; whether it ran does not matter.
        """
        by_id = self.path / str(node["id"])
        key = step_key(node)
        if not key or "/" in key or by_id.is_dir():
            return by_id
        by_key = self.path / key
        try:
            owner = json.loads((by_key / "exit.json").read_bytes())["node"]
        except (FileNotFoundError, NotADirectoryError):
            owner = node["id"] if (by_key / "log.txt").exists() else None
        return by_key if owner == node["id"] else by_id

    def begin(self, type: str) -> None:
        """Write dflow's ``type``, ``pid`` and ``status`` of a run that this process works on, for scripts that look.

        Args:
            type: That of the entrypoint's node.
        """
        write_atomic(self.path / "type", type)
        write_atomic(self.path / "pid", str(os.getpid()))
        self.write_status("Running")

    def write_status(self, phase: str) -> None:
        """Write dflow's ``status``, which ``list`` looks at, too."""
        write_atomic(self.path / "status", phase)

    def status(self) -> str:
        """Return the phase that was written last, ``Pending`` before the first."""
        try:
            return (self.path / "status").read_text(encoding="utf-8")
        except FileNotFoundError:
            return "Pending"


def step_key(node: dict[str, Any]) -> str | None:
    """Return the key that the author gave to a step, which travels as an input parameter."""
    for parameter in (node.get("inputs") or {}).get("parameters") or ():
        if parameter["name"] == "dflow_key":
            return parameter.get("value") or None
    return None


def _read_json(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default


def _make(base: Path, name: str) -> Path:
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise EngineError(f"a run named {name!r} was asked for; its name is that of its directory. Use another.")
    path = base / name
    try:
        base.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    except OSError as error:
        if not path.exists():
            raise EngineError(
                f"the directory of a run, {path}, was to be made: {error.strerror}. "
                "Say where runs may lie with config['debug_workdir'] or DFLOW_DEBUG_WORKDIR."
            ) from error
        advice = f"Go on with it (`dflow-hpc resume {name}`), remove it (`dflow-hpc delete {name}`)"
        if not RunDir(path).exists:
            advice = "It is no run, or one that never became complete: remove it"
        raise EngineError(
            f"a run named {name!r} was to start; {path} is there already. {advice}, or use another name."
        ) from error
    return path


def _make_unique(base: Path, prefix: str) -> Path:
    tail = "".join(secrets.choice(_BASE32) for _ in range(10))
    return _make(base, prefix[: _LONGEST_NAME - len(tail)] + tail)
