"""Command leaves: which programs a script, a container or a container set is, and what their ends mean.

A leaf of this kind is staged, its programs are run by the supervisor, and how they ended is said in Argo's words.

Not here: literal paths (``views.py``), staging (``staging.py``), child processes (``supervisor.py``), command lines of
container runtimes (``executors/runtimes.py``).

Trap: Argo blames in an order of its own - init containers, main containers by name, then sidecars - and trees are
compared by the text.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Callable
from typing import Any

from dflow_hpc.engines.local.work import leafrun, staging
from dflow_hpc.engines.local.work.environment import expand, variables
from dflow_hpc.engines.local.work.leafrun import Leaf
from dflow_hpc.engines.local.work.supervisor import Program, Supervisor, execute, find_program
from dflow_hpc.engines.local.work.views import View
from dflow_hpc.executors import runtimes

SCRIPT = "/argo/staging/script"
"""Where Argo puts the source of a script."""
_HINTS = {
    signal.SIGKILL: "; the kernel does this when memory runs out: `dmesg` or the machine's monitoring tells",
    signal.SIGSEGV: "; a compiled library crashed",
    signal.SIGBUS: "; a mapped file became shorter, or a file system or /dev/shm is full",
}


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
    contained = "" if settings["runtime"] == "host" else settings["runtime"] or ""
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
    chosen = leaf.settings["copy_method"]
    inputs = staging.Inputs(leaf.settings["store"], "copy" if chosen in (None, "small") else chosen, [])
    for artifact in sorted(leaf.inputs.get("artifacts") or [], key=lambda item: len(str(item.get("path")))):
        inputs.stage(artifact, view.own_path(artifact["path"]))
    source = (leaf.template.get("script") or {}).get("source")
    if source:
        path = view.own_path(SCRIPT)
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
    for each in programs if is_set else []:
        leaf.members.append(leafrun.member(each.name, each.code, each.text, each.started, each.finished))
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
            container["args"] = [*(container.get("args") or []), SCRIPT]
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
        _change_directory(view.directory(container, log, f"{leaf.root}/workdir"))
        return execute(words, environment)

    return Program(name, body, **options)


def _contained(leaf: Leaf, view: View, container: dict[str, Any], options: dict[str, Any]) -> Program:
    """Return the program that is a container of a runtime."""
    runtime = leaf.settings["runtime"]
    given = {**leaf.environment(container["name"]), **variables(leaf, container)}
    progress = leaf.settings["progress_dir"]
    log = _termination_log(leaf.root, container["name"])

    def words_of(key: str) -> tuple[str, ...]:
        return tuple(view.translate(expand(str(word), given), container, log) for word in container.get(key) or ())

    made = runtimes.Container(
        name=f"dflow-{hashlib.sha256(leaf.root.encode()).hexdigest()[:16]}-{container['name']}",
        image=container["image"],
        command=words_of("command"),
        args=words_of("args"),
        variables=given,
        mounts=[*view.mounts(container, log), (progress, progress)],
        directory=container.get("workingDir"),
        user=f"{os.getuid()}:{os.getgid()}",
    )
    words = runtimes.run_words(runtime, made)
    environment = {**os.environ, **runtimes.client_variables(runtime, made)}

    def remove() -> None:
        removal = runtimes.removal_words(runtime, made.name)
        if removal is not None:
            os.spawnvp(os.P_WAIT, removal[0], removal)

    def body() -> int:
        find_program(runtime, os.environ.get("PATH", os.defpath))
        remove()  # one of an earlier life may still run: its processes are no children of ours
        return execute(words, environment)

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
