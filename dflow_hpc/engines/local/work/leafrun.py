"""The leaf: the process that stages inputs, runs an OP or a command, takes the outputs and writes the leaf's record.

It is forked from the zygote (or executed, with isolation "spawn" and where a machine has setup lines) and has the
leaf's directory for itself. Its record, ``exit.json``, is complete or absent: with it the leaf has ended for good;
without it, whatever the process did, it counts as not run, and ``workers.py`` says why.

Not here: several leaves, limits, deadlines (``zygote.py``, ``workers.py``).

Trap: imports after the fork cost each leaf again. What every leaf needs is imported at the top or by the zygote.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from dflow_hpc.engines.local.work import staging
from dflow_hpc.engines.local.work.leftovers import LEAF_MARK

RECORD = "exit.json"
OP_ANNOTATION = "dflow-hpc/op"
DEADLINE_TEXT = "Pod was active on the node longer than the specified deadline"
NO_RECORD = 99
"""Exit code of a leaf that could not write its record."""
_PR_SET_PDEATHSIG = 1
_SIGKILL = int(signal.SIGKILL)
_MESSAGE_LIMIT = 4096
"""Kubernetes keeps so many bytes of a termination message."""
NOT_STARTED = 64
"""Exit code where a program could not be begun; Argo calls that an error."""
_prctl = ctypes.CDLL(None).prctl
# The plain names skip what json.loads and os.environ.update do around them: pages that each leaf would copy.
_decode = json.JSONDecoder().raw_decode


class Ended(SystemExit):
    """Raised in a leaf that is asked to end (SIGTERM), so that ``finally`` blocks of an OP run."""


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when ``parent`` dies; end at once if it is dead already."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(NO_RECORD)


class Leaf:
    """What there is to know about the leaf of this process.

    Args:
        spec: Its own part: see ``workers.py``.
        settings: What it shares with the run's other leaves.
    """

    def __init__(self, spec: dict[str, Any], settings: dict[str, Any]):
        self.spec = spec
        self.settings = settings
        self.root: str = spec["root"]
        self.template: dict[str, Any] = _decode(spec["template"])[0]
        self.inputs: dict[str, Any] = spec["inputs"]
        self.started = time.time()
        self.asked_to_end = False
        self.over = False
        """Nothing runs any more, and the record is being written: it is too late to end."""
        self.notices: list[str] = []
        self.members: list[dict[str, Any]] = []

    @property
    def progress_file(self) -> str:
        """The file in which the program reports ``n/m``; ``workers.py`` watches its directory."""
        return f"{self.settings['progress_dir']}/{self.spec['id']}"

    def environment(self, container: str) -> dict[str, str]:
        """Return the variables that Argo gives to a container, and the mark of this leaf."""
        spec = self.spec
        found = {
            LEAF_MARK: self.root,
            "ARGO_CONTAINER_NAME": container,
            "ARGO_NODE_ID": spec["id"],
            "ARGO_POD_NAME": spec["pod"],
            "ARGO_WORKFLOW_NAME": spec["workflow"],
            "ARGO_WORKFLOW_UID": spec["uid"],
            "ARGO_PROGRESS_FILE": self.progress_file,
            "ARGO_INCLUDE_SCRIPT_OUTPUT": "true" if spec["result"] else "false",
        }
        if len(spec["template"]) < 100_000:  # Linux refuses variables above 128 KiB; Argo leaves it out then, too
            found["ARGO_TEMPLATE"] = spec["template"]
        return found


_current: Leaf | None = None
"""The leaf of this process; None in the zygote."""


def on_terminate(_number: int, _frame: object) -> None:
    """Handle SIGTERM: unwind whatever runs, and remember in a leaf that it was asked to end."""
    if _current is not None:
        if _current.over:
            return
        _current.asked_to_end = True
    raise Ended(128 + signal.SIGTERM)


def _hold_back() -> None:
    if _current is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _release() -> None:
    if _current is not None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _release_child() -> None:
    if _current is not None and signal.getsignal(signal.SIGTERM) is on_terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _release()


# A process that an OP forks must die of SIGTERM as any other does. A handler in Python would lose the signal where it
# comes just before a system call that blocks, or while the fork is under way; and whoever ends a pool of workers
# (multiprocessing does it so) would wait for ever.
os.register_at_fork(before=_hold_back, after_in_parent=_release, after_in_child=_release_child)


def main(line: bytes, settings: dict[str, Any]) -> NoReturn:
    """Run the leaf of which ``line`` is the spec, as JSON, in this process, and end it."""
    code = NO_RECORD
    try:
        spec = _decode(line.decode())[0]
        leaf = Leaf(spec, settings)
        make_directory(leaf.root)
        _log_to(f"{leaf.root}/log.txt")
        if OP_ANNOTATION in _annotations(leaf.template) and _wants_fresh(leaf):
            _spawn(spec, settings)
        code = _run(leaf)
    except Ended:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _wants_fresh(leaf: Leaf) -> bool:
    # Libraries read variables such as OMP_NUM_THREADS when they are imported: too late for a fork of who did that.
    return leaf.settings["isolation"] == "spawn" or bool(leaf.spec["setup"] or leaf.template.get("env"))


def _annotations(template: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = (template.get("metadata") or {}).get("annotations") or {}
    return found


def make_directory(root: str) -> None:
    """Make the leaf's directory; what an earlier life without a record left there is removed."""
    try:
        os.mkdir(root)
    except FileExistsError:
        shutil.rmtree(root)
        os.mkdir(root)


def _log_to(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def _spawn(spec: dict[str, Any], settings: dict[str, Any]) -> NoReturn:
    """Continue in a fresh interpreter, behind the machine's setup lines where it has some."""
    fd = os.memfd_create("leaf")
    os.set_inheritable(fd, True)
    os.write(fd, json.dumps([spec, {**settings, "preloaded": False}]).encode())
    python = [sys.executable, "-c", BOOT, settings["package_dir"], "leafrun", str(fd)]
    lines = spec["setup"]
    if not lines:
        os.execv(sys.executable, python)
    os.execvp("bash", ["bash", "-c", "\n".join(["set -e", *lines, 'exec "$@"']), "setup", *python])


BOOT = """\
import sys
package_dir, name = sys.argv[1:3]
if sys.path[0] == "":
    del sys.path[0]
if package_dir not in sys.path:
    sys.path.append(package_dir)
import importlib
importlib.import_module("dflow_hpc.engines.local.work." + name).enter(*map(int, sys.argv[3:]))
"""
"""Program of a fresh interpreter: finds this very package, and never a module that lies in the current directory."""


def enter(fd: int) -> NoReturn:
    """Go on with a leaf in a fresh interpreter; ``fd`` holds its spec."""
    with open(fd, encoding="utf-8") as file:
        file.seek(0)
        spec, settings = json.load(file)
    code = NO_RECORD
    signal.signal(signal.SIGTERM, on_terminate)
    try:
        code = _run(Leaf(spec, settings))
    except Ended:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The author's code may have closed or removed it.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _run(leaf: Leaf) -> int:
    global _current  # noqa: PLW0603  (a process is one leaf; the signal handler has to find it)
    _current = leaf
    gc.enable()
    root = leaf.root
    staging.write_file(f"{root}/name", leaf.spec["name"].encode())
    staging.write_file(f"{root}/type", b"Pod")
    _write_phase(root, "Running")
    try:
        record = _run_op(leaf) if OP_ANNOTATION in _annotations(leaf.template) else _run_commands(leaf)
    except staging.StagingError as error:
        record = {"phase": "Error", "message": str(error), "failure": error.failure}
    except Ended:
        record = {"phase": "Failed", "message": "main: Error (exit code 143)", "outputs": {"exitCode": "143"}}
    leaf.over = True
    finished = time.time()
    if leaf.asked_to_end:
        timeout = leaf.spec["timeout"]
        limits = (leaf.spec["deadline"], timeout and leaf.started + timeout)
        if not any(limit and finished >= limit for limit in limits):
            return 128 + signal.SIGTERM  # cancelled: it counts as not run
        record.update(phase="Failed", message=DEADLINE_TEXT, failure="WALLTIME")
    record.update(started=leaf.started, finished=finished, notices=leaf.notices, members=leaf.members)
    try:
        write_record(root, leaf.spec["id"], record)
    except OSError as error:
        print(f"dflow_hpc: the record of this step could not be written: {error}", file=sys.stderr)  # noqa: T201
        return NO_RECORD
    return 0


def write_record(root: str, node_id: str, record: dict[str, Any]) -> None:
    """Write ``exit.json`` (complete or not at all) and dflow's ``phase``."""
    if not os.path.isdir(root):  # the OP may have removed its own directory
        os.makedirs(root)
    temporary = f"{root}/.{RECORD}"
    _write_phase(root, record["phase"])
    staging.write_file(temporary, json.dumps({"node": node_id, **record}).encode())
    os.rename(temporary, f"{root}/{RECORD}")


def _write_phase(root: str, phase: str) -> None:
    # Not truncated to nothing first: ext4 would write such a file to the disk when it is closed.
    fd = os.open(f"{root}/phase", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    os.write(fd, phase.encode())
    os.ftruncate(fd, len(phase))
    os.close(fd)


def failed(code: int, text: str, container: str = "main") -> dict[str, Any]:
    """Return the record of a program that exited with ``code``; ``text`` is its termination message."""
    text = text[-_MESSAGE_LIMIT:].strip()
    message = f"{container}: Error (exit code {code})" + (f": {text}" if text else "")
    return {"phase": "Failed", "message": message, "failure": "APP"}


def member(name: str, code: int | None, text: str, started: float, finished: float) -> dict[str, Any]:
    """Return what the node of a container set's member says.

    Args:
        name: The container's.
        code: Its exit code, if there is one.
        text: Its termination message.
        started: When it began, in seconds since the epoch.
        finished: When it ended.
    """
    phase, message = "Succeeded", ""
    if code:  # Argo's message has a colon here, even if nothing follows
        phase = "Error" if code == NOT_STARTED else "Failed"
        message = f"{name}: Error (exit code {code}): {text[-_MESSAGE_LIMIT:]}"
    return {"name": name, "phase": phase, "message": message, "started": started, "finished": finished}


def conclude(leaf: Leaf, record: dict[str, Any], outputs: dict[str, Any], take: staging.Outputs, fault: str) -> None:
    """Take the outputs and add to ``record`` what that says.

    Args:
        leaf: The leaf.
        record: Its record so far: ``phase`` is ``Succeeded`` when the program did.
        outputs: The node's outputs so far; parameters and artifacts are added.
        take: What takes them.
        fault: What is wrong with the staged inputs, or nothing.
    """
    record["outputs"] = outputs
    succeeded = record["phase"] == "Succeeded"
    if fault and succeeded:
        record.update(phase="Error", message=fault, failure="APP")
        return
    if fault:
        leaf.notices.append(fault)
    missing = take.collect(outputs, after_failure=not succeeded)
    leaf.notices += take.notices
    if missing:
        record.update(phase="Error", message=staging.error_text("wait", missing), failure="STAGE_OUT")


def _run_op(leaf: Leaf) -> dict[str, Any]:
    record = _decode(_annotations(leaf.template)[OP_ANNOTATION])[0]
    root = leaf.root
    store = leaf.settings["store"]
    inputs = staging.Inputs(store, leaf.settings["copy_method"], record.get("writable") or [])
    os.mkdir(f"{root}/inputs")
    staging.stage_parameters(f"{root}/inputs/parameters", leaf.inputs.get("parameters") or [])
    for artifact in leaf.inputs.get("artifacts") or []:
        if artifact["name"] != staging.BUNDLE_INPUT:
            inputs.stage(artifact, op_path(root, artifact["path"]))
    variables = leaf.environment("main")
    if "env" in leaf.template:
        from dflow_hpc.engines.local.work import environment

        variables = {**variables, **environment.variables(leaf, {"name": "main", "env": leaf.template["env"]})}
    for name, value in variables.items():
        os.environ[name] = value
    outputs: dict[str, Any] = {}
    if leaf.spec["result"]:
        from dflow_hpc.engines.local.work import commands

        code, outputs["result"] = commands.run_captured(leaf, lambda: call_op(leaf, record))
    else:
        code = call_op(leaf, record)
    outputs["exitCode"] = str(code)
    result = failed(code, staging.tail(f"{root}/termination-log", _MESSAGE_LIMIT)) if code else {"phase": "Succeeded"}
    take = staging.Outputs(
        leaf.template,
        store,
        f"{leaf.spec['workflow']}/{leaf.spec['pod']}",
        lambda path: op_path(root, path),
        move=True,
    )
    conclude(leaf, result, outputs, take, inputs.check())
    return result


def op_path(root: str, path: str) -> str:
    """Return where a path of a Python OP's template lies: ``/tmp`` there is the leaf's directory here."""
    return root + path.removeprefix("/tmp") if path.startswith("/tmp/") else path  # noqa: S108


def call_op(leaf: Leaf, record: dict[str, Any]) -> int:
    """Run the OP in this process, as far as the end of an ordinary interpreter, and return its exit code."""
    from dflow_hpc.op import runner

    try:
        if not leaf.settings["preloaded"]:
            runner.preload([record], leaf.settings["code_dir"])
        code = runner.run(Path(leaf.root), record)
    except Ended:
        raise
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)  # noqa: T201
    except Exception as error:  # its code cannot be loaded, or the OP broke what the runner needs, as its directory
        traceback.print_exc()
        with contextlib.suppress(OSError):
            staging.write_file(f"{leaf.root}/termination-log", f"{type(error).__name__}: {error}".encode())
        code = 1
    os.umask(leaf.settings["umask"])  # the OP's own must not hide the record
    # The process ends by os._exit, so what an interpreter does at its end is due now.
    atexit._run_exitfuncs()
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    if tracker is not None:
        tracker._stop()
    _flush()
    return code


def _run_commands(leaf: Leaf) -> dict[str, Any]:
    from dflow_hpc.engines.local.work import commands

    return commands.run(leaf)
