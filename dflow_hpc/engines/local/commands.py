"""Command leaves: the leaf's process supervises the programs of a script, a container or a container set.

It plays what a pod's containers and Argo's emissary do around a program: find it, start it when those that it depends
on have ended well, keep the end of its stdout, end sidecars, and say in Argo's words how it ended.

Not here: literal paths (``views.py``), staging (``staging.py``), container runtimes (``executors/runtimes.py``).

Trap: a program is started by fork and exec in this single-threaded process, so that exactly the child enters a mount
namespace; nothing between the two may allocate threads or take locks.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import select
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from dflow_hpc.engines.local import leafrun, staging
from dflow_hpc.engines.local.environment import expand, variables
from dflow_hpc.engines.local.leafrun import Leaf
from dflow_hpc.engines.local.views import View
from dflow_hpc.executors import runtimes

_SCRIPT = "/argo/staging/script"
_CHUNK = 1 << 16
_SIDECAR_GRACE = 10.0
_HINTS = {
    signal.SIGKILL: "; the kernel does this when memory runs out: `dmesg` or the machine's monitoring tells",
    signal.SIGSEGV: "; a compiled library crashed",
    signal.SIGBUS: "; a mapped file became shorter, or a file system or /dev/shm is full",
}


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
                program, is_output = self._watched[fd]
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


def run_captured(leaf: Leaf, call: Callable[[], int]) -> tuple[int, str]:
    """Run a function in a child and return its exit code and the end of its stdout."""
    program = Program("main", call, captured=True)
    Supervisor(leaf, [program]).run()
    _note_signal(leaf, program)
    return program.code or 0, _result(program)


def _result(program: Program) -> str:
    return staging.without_newline(program.stdout[-staging.RESULT_LIMIT :].decode("utf-8", "replace"))


def _note_signal(leaf: Leaf, program: Program) -> None:
    if program.signal and not leaf.asked_to_end:
        number = signal.Signals(program.signal)
        leaf.notices.append(f"{program.name} was killed by {number.name}{_HINTS.get(number, '')}")


def signal_text(number: int) -> str:
    """Return what is known about a death by a signal, for a message."""
    known = signal.Signals(number)
    return f"killed by {known.name}{_HINTS.get(known, '')}"


def run(leaf: Leaf) -> dict[str, Any]:
    """Run a command leaf whose directory is ready; return its record without times and notices."""
    root = leaf.root
    template = leaf.template
    os.mkdir(f"{root}/inputs")
    staging.stage_parameters(f"{root}/inputs/parameters", leaf.inputs.get("parameters") or [])
    settings = leaf.settings
    contained = settings["runtime"] not in (None, "host")
    view = View(root, settings["run_dir"], template, settings["keep"], settings["no_namespaces"], contained)
    inputs = _stage(leaf, view)
    os.mkdir(f"{root}/workdir")
    view.prepare(leaf.notices)
    outputs: dict[str, Any] = {}
    for container in template.get("initContainers") or []:
        program = _program(leaf, view, container)
        _supervise(leaf, [program])
        if program.code:
            return leafrun.failed(program.code, program.text, program.name)
    programs = _programs(leaf, view)
    _supervise(leaf, programs)
    main = next((program for program in programs if program.name == "main"), None)
    if main is not None:
        outputs["exitCode"] = str(main.code)
        if main.captured:
            outputs["result"] = _result(main)
    record = _blame(leaf, programs)
    prefix = f"{leaf.spec['workflow']}/{leaf.spec['pod']}"
    take = staging.Outputs(template, leaf.settings["store"], prefix, view.real, move=False)
    leafrun.conclude(leaf, record, outputs, take, inputs.check())
    _show_outputs(root, outputs)
    return record


def _stage(leaf: Leaf, view: View) -> staging.Inputs:
    # A foreign program may change its inputs, as it may in a pod: it gets files of its own unless the user chose.
    inputs = staging.Inputs(leaf.settings["store"], leaf.settings["copy_method"] or "copy", [])
    for artifact in sorted(leaf.inputs.get("artifacts") or [], key=lambda item: len(str(item.get("path")))):
        inputs.stage(artifact, view.own_path(artifact["path"]))
    source = (leaf.template.get("script") or {}).get("source")
    if source:
        path = view.own_path(_SCRIPT)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        container = leaf.template["script"]
        staging.write_file(path, view.translate(source, container, _termination_log(leaf.root, "main")).encode())
        os.chmod(path, 0o755)  # noqa: S103  as in Argo's pods
    return inputs


def _supervise(leaf: Leaf, programs: list[Program]) -> None:
    """Run programs; SIGTERM, which the zygote sends to all of them too, makes the leaf wait for their end."""

    def remember(_number: int, _frame: object) -> None:
        leaf.asked_to_end = True

    signal.signal(signal.SIGTERM, remember)
    Supervisor(leaf, programs).run()
    for program in programs:
        if not program.sidecar:
            _note_signal(leaf, program)
        if not program.text and program.code:
            program.text = staging.tail(_termination_log(leaf.root, program.name), 4096)


def _termination_log(root: str, container: str) -> str:
    return f"{root}/termination-log{'' if container == 'main' else '.' + container}"


def _blame(leaf: Leaf, programs: list[Program]) -> dict[str, Any]:
    """Say how the pod ended, by Argo's order: main containers by name, then sidecars; note container set members."""
    is_set = "containerSet" in leaf.template
    for program in programs if is_set else []:
        member = leafrun.failed(program.code, program.text, program.name) if program.code else {"phase": "Succeeded"}
        phase = "Error" if program.code == 64 else member["phase"]
        leaf.members.append(
            {
                "name": program.name,
                "phase": phase,
                "message": member.get("message", ""),
                "started": program.started,
                "finished": program.finished,
            }
        )
    for program in sorted(programs, key=lambda program: (program.sidecar, program.name)):
        if program.code and not (program.sidecar and program.code in (137, 143)):
            return leafrun.failed(program.code, program.text, program.name)
    return {"phase": "Succeeded"}


def _programs(leaf: Leaf, view: View) -> list[Program]:
    template = leaf.template
    result = leaf.spec["result"]
    sidecars = [_program(leaf, view, sidecar, sidecar=True) for sidecar in template.get("sidecars") or []]
    if "containerSet" not in template:
        container = {**(template.get("script") or template.get("container") or {}), "name": "main"}
        if (template.get("script") or {}).get("source"):
            container["args"] = [*(container.get("args") or []), _SCRIPT]
        return [_program(leaf, view, container, captured=result), *sidecars]
    group = template["containerSet"]
    retry = group.get("retryStrategy") or {}
    return [
        _program(
            leaf,
            view,
            {**container, "volumeMounts": (container.get("volumeMounts") or []) + (group.get("volumeMounts") or [])},
            depends=tuple(container.get("dependencies") or ()),
            attempts=int(retry.get("retries", 1)),
            pause=seconds(str(retry.get("duration") or "0")),
            captured=result and container["name"] == "main",
        )
        for container in group["containers"]
    ] + sidecars


def _program(leaf: Leaf, view: View, container: dict[str, Any], **options: Any) -> Program:
    if leaf.settings["runtime"] not in (None, "host"):
        return _contained(leaf, view, container, options)
    name = container["name"]
    environment = {**os.environ, **leaf.environment(name), **variables(leaf, container)}
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    if not container.get("command"):
        words.insert(0, _entry_point(leaf, container))
    log = _termination_log(leaf.root, name)
    words = [view.translate(expand(str(word), environment), container, log) for word in words]
    environment = {
        key: view.translate(value, container, log) if key in _own_names(container) else value
        for key, value in environment.items()
    }
    lines = leaf.spec["setup"]
    if lines:
        words = ["bash", "-c", "\n".join(["set -e", *lines, 'exec "$@"']), "setup", *words]

    def body() -> int:
        view.enter(container, log, leaf.settings["mount_point"])
        directory = container.get("workingDir")
        _change_directory(view.translate(directory, container, log) if directory else f"{leaf.root}/workdir")
        return _execute(words, environment)

    return Program(name, body, **options)


def _contained(leaf: Leaf, view: View, container: dict[str, Any], options: dict[str, Any]) -> Program:
    """Return the program that is a container of a runtime."""
    runtime = leaf.settings["runtime"]
    given = {**leaf.environment(container["name"]), **variables(leaf, container)}
    progress = leaf.settings["progress_dir"]
    made = runtimes.Container(
        name=f"dflow-{hashlib.sha256(leaf.root.encode()).hexdigest()[:16]}-{container['name']}",
        image=container["image"],
        command=tuple(expand(str(word), given) for word in container.get("command") or ()),
        args=tuple(expand(str(word), given) for word in container.get("args") or ()),
        variables=given,
        mounts=[*view.mounts(container, _termination_log(leaf.root, container["name"])), (progress, progress)],
        directory=container.get("workingDir"),
        user=(os.getuid(), os.getgid()),
    )
    words = runtimes.run_words(runtime, made)
    environment = runtimes.client_environment(runtime, made, os.environ)

    def remove() -> None:
        removal = runtimes.removal_words(runtime, made.name)
        if removal is not None:
            os.spawnvp(os.P_WAIT, removal[0], removal)

    def body() -> int:
        find_program(runtime, os.environ.get("PATH", os.defpath))
        remove()  # one of an earlier life may still run: its processes are no children of ours
        return _execute(words, environment)

    return Program(container["name"], body, after=remove, **options)


def _own_names(container: dict[str, Any]) -> set[str]:
    return {variable["name"] for variable in container.get("env") or []}


def _entry_point(leaf: Leaf, container: dict[str, Any]) -> str:
    """Return the program of an image without a command: on the host, one of the image's own name stands in for it."""
    image = str(container.get("image") or "")
    name = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    leaf.notices.append(
        f"container {container['name']} has no command; the host runtime knows no image, so the program {name!r} "
        f"was run for the entry point of {image!r}"
    )
    return name


def _change_directory(path: str) -> None:
    os.makedirs(path, exist_ok=True)
    os.chdir(path)


def _execute(words: list[str], environment: dict[str, str]) -> NoReturn:
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


def seconds(text: str) -> float:
    """Read a duration of Go, such as ``1m30s``; a bare number is seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|us|ns|h|m|s)", text))


def _show_outputs(root: str, outputs: dict[str, Any]) -> None:
    """Write output parameters to ``outputs/parameters/<name>``, as dflow does for scripts that look there."""
    found = [parameter for parameter in outputs.get("parameters") or [] if "value" in parameter]
    if found:
        os.mkdir(f"{root}/outputs")
        staging.stage_parameters(f"{root}/outputs/parameters", found)
