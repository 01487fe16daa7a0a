"""The bridge pod: it hands its leaf to the gateway, or to a broker of its own, and lays down what comes back.

Argo's ``init`` has brought the inputs to the literal paths of the template, and its emissary, around us, takes the
outputs from such paths when we end: so a bridge is to Argo the program itself. Files go through the pod both ways.

Not here: the leaf (``leaf.py``), the service (``gateway.py``).

Trap: a pod's main container can only *fail*. What is no fault of the program ends with the exit code
``INFRASTRUCTURE``, by which ``template.py`` has rewritten the retry policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dflow_hpc.engines.bridge import client, leaf
from dflow_hpc.engines.bridge.leaf import Told
from dflow_hpc.engines.bridge.template import INFRASTRUCTURE, MOUNT, restored, told
from dflow_hpc.errors import DflowError, ExecutorError
from dflow_hpc.executors.broker.broker import Broker
from dflow_hpc.executors.profiles.machine import Machine, Machines
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.manifest.placing import wish_of

_TEMPLATE = Path("/var/run/argo/template")
_TERMINATION_LOG = Path("/dev/termination-log")
_LIMIT = 4096


def main() -> int:
    """Run the leaf of this pod on its machine; return the exit code that the program had."""
    os.umask(0o077)
    gateway = (Path(MOUNT) / client.ADDRESS).exists()
    mine = read(json.loads(_TEMPLATE.read_bytes()), os.environ)
    with tempfile.TemporaryDirectory(prefix="dflow-hpc-", dir="/var/tmp", ignore_cleanup_errors=True) as room:
        directory = Path(room)
        try:
            pack(mine, directory)
            if gateway:
                signal.signal(signal.SIGTERM, functools.partial(_leave, mine))
                record = client.run(mine, directory, Path(MOUNT))
            else:
                record = asyncio.run(_alone(mine, directory))
        except (DflowError, OSError) as error:
            record = leaf.broken(error)
        code = lay_down(mine, directory, record)
        if gateway:
            client.done(mine, Path(MOUNT))
        return code


def _leave(mine: Told, _number: int, _frame: object) -> None:
    """End at once: whether the job is to end too, the gateway sees by the workflow."""
    client.left(mine, Path(MOUNT))
    raise SystemExit(INFRASTRUCTURE)  # of an evicted pod the job lives, and the next attempt joins it


def read(template: Mapping[str, Any], environment: Mapping[str, str]) -> Told:
    """Return what the leaf of a pod is.

    Args:
        template: The pod's, as Argo has left it there.
        environment: Its variables.
    """
    result = environment.get("ARGO_INCLUDE_SCRIPT_OUTPUT") == "true"
    return Told(template=restored(template, environment), result=result, **told(environment))


def pack(mine: Told, directory: Path) -> None:
    """Make the leaf's directory of what lies in the pod."""
    leaf.keep(mine, directory)
    (directory / "inputs").mkdir()
    for artifact in (mine.template.get("inputs") or {}).get("artifacts") or []:
        source = Path(artifact["path"])
        if source.exists():
            _copy(source, directory / "inputs" / artifact["name"])


async def _alone(mine: Told, directory: Path) -> dict[str, Any]:
    """Run the leaf with a login of its own."""
    name, _ = wish_of(mine.template)
    machine = profile(name or "")
    site = RemoteSite(machine)
    broker = Broker(machine.name, site, directory / "journal.jsonl", waits=machine.waits, say=leaf.say)
    started = lambda: leaf.say(f"the job runs on machine {machine.name!r}")  # noqa: E731
    task = asyncio.create_task(leaf.run(directory, machine, broker, started, rejoins=False))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return leaf.broken(ExecutorError("the pod was told to end before its job; the job was cancelled"))
    finally:
        await broker.close()


def profile(name: str) -> Machine:
    """Return the profile of a machine from the Secret of the pod."""
    return Machines([Path(MOUNT) / "machines.toml"]).get(name)


def lay_down(mine: Told, directory: Path, record: dict[str, Any]) -> int:
    """Bring the outputs to where Argo takes them from, say what was printed, and return the exit code."""
    log = directory / "work" / "log.txt"
    if log.exists():
        with log.open("rb") as text:
            shutil.copyfileobj(text, sys.stderr.buffer)
    outputs = record.get("outputs") or {}
    if "result" in outputs and mine.result:
        sys.stdout.write(outputs["result"])
        sys.stdout.flush()
    for parameter in outputs.get("parameters") or []:
        path = (parameter.get("valueFrom") or {}).get("path")
        if path and "value" in parameter:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(str(parameter["value"]), encoding="utf-8")
    for artifact in outputs.get("artifacts") or []:
        source = directory / "outputs" / artifact["name"]
        if source.exists():
            _copy(source, Path(artifact["path"]))
    if record["phase"] == "Succeeded":
        return 0
    return _fail(record)


def _fail(record: dict[str, Any]) -> int:
    _, separator, text = record.get("message", "").partition("): ")
    known = {"OOM": 137, "WALLTIME": 143}.get(record.get("failure") or "", 1)
    code = int((record.get("outputs") or {}).get("exitCode") or known)
    if record["phase"] != "Failed":
        code, separator = INFRASTRUCTURE, ""
    text = text if separator else record.get("message", "")
    leaf.say(text)
    with contextlib.suppress(OSError):
        _TERMINATION_LOG.write_bytes(text.encode()[-_LIMIT:])
    return code


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
