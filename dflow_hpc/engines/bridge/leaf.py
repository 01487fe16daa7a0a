"""One leaf in a directory of its own, run as a job of a machine: what a bridge pod and the gateway both do.

    leaf.json      what it is: ``Told``, 0600, for the values of its variables are in it
    inputs/<name>  its input artifacts, unpacked
    record.json    how it ended, complete or absent: the record of ``engines/local/work/leafrun.py``
    outputs/<name> its output artifacts, there before the record is
    work/          the leaf's directory, as a local run has it; its log.txt

Not here: where the files come from and go to (``pod.py``, ``gateway.py``); the job (``MachineHost``, ``Broker``).

Trap: the key of the job is made of the Retry node where there is one: the pod of the next attempt joins the job of a
pod that was lost. Without a journal that outlives the pod that must not be done: it would be told the old outcome.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from dflow_hpc.compile.extract import extract
from dflow_hpc.engines.local.rundir import write_atomic
from dflow_hpc.engines.local.work import staging
from dflow_hpc.engines.local.work.machines import MachineHost
from dflow_hpc.engines.local.work.placement import Place
from dflow_hpc.errors import DflowError
from dflow_hpc.executors.broker.broker import Broker
from dflow_hpc.executors.broker.jobs import key_of
from dflow_hpc.executors.leaf import LeafRequest
from dflow_hpc.executors.profiles.machine import Machine, step_resources
from dflow_hpc.manifest.ids import node_id
from dflow_hpc.manifest.placing import wish_of

RECORD = "record.json"


@dataclass(frozen=True)
class Told:
    """What a leaf is."""

    workflow: str
    uid: str
    node_name: str
    pod: str
    template: dict[str, Any]
    """Its own, every tag substituted."""
    result: bool
    """Whether its stdout is wanted as ``outputs.result``."""

    @property
    def node(self) -> str:
        """Id of the node of this attempt."""
        return node_id(self.workflow, self.node_name)

    @property
    def retry(self) -> str | None:
        """Id of the Retry node of which this is an attempt."""
        name = re.sub(r"\(\d+\)$", "", self.node_name)
        return None if name == self.node_name else node_id(self.workflow, name)

    @property
    def key(self) -> str:
        """Key of its job."""
        return key_of(self.uid, self.retry or self.node)


def keep(told: Told, directory: Path) -> None:
    """Write what a leaf is into its directory."""
    write_atomic(directory / "leaf.json", json.dumps(asdict(told)), 0o600)


def kept(directory: Path) -> Told:
    """Return what ``keep`` wrote."""
    return Told(**json.loads((directory / "leaf.json").read_bytes()))


def pack(directory: Path, names: Sequence[str], file: IO[bytes]) -> None:
    """Write those of these entries of a leaf's directory that there are, as a gzipped tar.

    Two of them must lie at the top: where there is one, ``extract`` takes it for the whole.
    """
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name in names:
            if (directory / name).exists():
                archive.add(directory / name, arcname=name)


async def run(
    directory: Path, machine: Machine, broker: Broker, on_running: Callable[[], None], *, rejoins: bool
) -> dict[str, Any]:
    """Run the leaf of a directory to its end, or join its job, and return its record.

    Cancelling the task cancels the job, unless the broker was told to ``leave``.

    Args:
        directory: The leaf's.
        machine: The profile.
        broker: Its account's.
        on_running: Called when the job really starts.
        rejoins: Whether the broker's journal outlives the pod: then all attempts of a node are one leaf.
    """
    told = kept(directory)
    shutil.rmtree(directory / "store", ignore_errors=True)  # of a life that was killed
    (directory / "store").mkdir()
    shutil.rmtree(directory / "outputs", ignore_errors=True)
    code = directory / "code"
    bundle = directory / "inputs" / staging.BUNDLE_INPUT
    if bundle.exists() and not code.exists():
        extract(bundle.read_bytes(), code)
    store = {"workdir": str(directory / "store"), "artifact_dir": "."}
    settings = {
        "store": store,
        "code_dir": str(code) if code.exists() else None,
        "run_dir": str(directory),
        "secrets_dir": str(directory / "secrets"),
        "progress_dir": str(directory),
    }
    machine = replace(machine, staging="ssh")  # what it reads is here already
    _, wished = wish_of(told.template)
    resources = step_resources(machine.resources, json.loads(wished), f"template {told.template.get('name')!r}")
    place = Place(machine=machine, resources=resources)
    limit = told.template.get("activeDeadlineSeconds")
    request = LeafRequest(
        node_id=told.node,
        node_name=told.node_name,
        template={key: value for key, value in told.template.items() if key != "activeDeadlineSeconds"},
        inputs=_inputs(told, directory, store),
        pod_name=told.pod,
        workflow_name=told.workflow,
        workflow_uid=told.uid,
        capture_result=told.result,
        on_running=on_running,
        on_progress=lambda _text: None,
        retry_id=told.retry if rejoins else None,
        timeout=None if limit is None else float(limit),
    )
    host = MachineHost(machine, broker, settings, on_record=functools.partial(_take, directory, store))
    root = directory / "work"
    return await host.run(request, str(root), place)


def _inputs(told: Told, directory: Path, store: dict[str, Any]) -> dict[str, Any]:
    """Put the input artifacts into the leaf's own store, and return the inputs as an engine gives them."""
    declared = told.template.get("inputs") or {}
    artifacts = []
    for artifact in declared.get("artifacts") or []:
        kept = {name: value for name, value in artifact.items() if name in ("name", "path", "mode", "recurseMode")}
        source = directory / "inputs" / artifact["name"]
        if source.exists():
            key = f"inputs/{artifact['name']}"
            staging.open_store(store).put(source, key, archive="tar")
            artifacts.append({**kept, "archive": {"none": {}}, "s3": {"key": key}})
        elif artifact.get("optional"):
            artifacts.append({**kept, "optional": True})
    return {"parameters": declared.get("parameters") or [], "artifacts": artifacts}


def _take(directory: Path, store: dict[str, Any], record: dict[str, Any]) -> None:
    """Bring the output artifacts out of the store, then leave the record."""
    for artifact in (record.get("outputs") or {}).get("artifacts") or []:
        if key := (artifact.get("s3") or {}).get("key"):
            staging.open_store(store).get(key, directory / "outputs" / artifact["name"], archive="none", how="copy")
    write_atomic(directory / RECORD, json.dumps(record), 0o600)


def record_of(directory: Path) -> dict[str, Any] | None:
    """Return the record of a leaf; None while it has not ended."""
    path = directory / RECORD
    found: dict[str, Any] | None = json.loads(path.read_bytes()) if path.exists() else None
    return found


def broken(error: DflowError | OSError) -> dict[str, Any]:
    """Return the record of a leaf that could not be run at all."""
    now = time.time()
    return {"phase": "Error", "message": str(error), "failure": "INFRA", "started": now, "finished": now}


def say(text: str) -> None:
    """Write a line of our own into the log of a pod."""
    sys.stderr.write(f"dflow-hpc: {text}\n")
    sys.stderr.flush()
