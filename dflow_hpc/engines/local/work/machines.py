"""Leaves that are placed on a machine: inputs out of the run's store, a job there, outputs back into the store.

``Machines`` has a ``MachineHost`` for each profile, which is to the engine what the local workers are: a leaf in, an
outcome out, with a leaf directory that looks the same. The machine itself is the broker's
(``executors/broker/broker.py``).

Not here: when and how a job is submitted, watched and cancelled; which machine (``placement.py``).

Trap: texts of a template name the leaf's directory *here* after substitution. The site replaces it by the one there,
so that directory's path must not be a part of anything else that such a text says.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from dflow_hpc.compile import PASSWORD
from dflow_hpc.engines.local.rundir import write_atomic
from dflow_hpc.engines.local.work import containers, leafrun, placement, staging
from dflow_hpc.engines.local.work.commands import SCRIPT
from dflow_hpc.engines.local.work.environment import expand, variables
from dflow_hpc.engines.local.work.leafrun import OP_ANNOTATION, Leaf
from dflow_hpc.engines.local.work.leftovers import LEAF_MARK
from dflow_hpc.engines.local.work.placement import Place
from dflow_hpc.engines.local.work.routes import MachineInputs, linked_outputs, pushed_by, puts_of, zips_of
from dflow_hpc.engines.local.work.spec import leaf_spec
from dflow_hpc.engines.local.work.views import View, files_of
from dflow_hpc.executors.broker.broker import Broker
from dflow_hpc.executors.broker.jobs import key_of
from dflow_hpc.executors.broker.questions import Ended
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.faults import fault
from dflow_hpc.executors.leaf import LeafRequest
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.executors.runtimes import knows_entry_points
from dflow_hpc.executors.site import Bytes, Folded, Marker, Parcel, Site
from dflow_hpc.executors.transport import open_transport
from dflow_hpc.manifest.view import annotations_of

_RESULT = "result"
"""File in the leaf's directory with a program's stdout, where that becomes ``outputs.result``."""
_LIMIT = 4096
_GRACE = 30
"""Seconds from TERM to KILL, as in Kubernetes."""
_UNREACHED = ("could not be pulled", "could not be stored")
"""What ``stage.sh`` says when the machine does not reach the storage."""
_WAY_OUT = (
    'Set s3_endpoint in [machine.{name}] to the storage\'s address as its nodes see it, or staging = "ssh"; '
    "`dflow-hpc machine check {name}` tries it"
)
_AT_ONCE = 8
"""Leaves of one profile that are packed or taken back at once: a thousand of them must not all be spread out."""


class Machines:
    """The machines of a session: profiles of one account share a broker, and so a login.

    Args:
        run_dir: The run's directory.
        settings: What the run's leaves share; see ``LocalLeafHost``.
        say: Called with what belongs to no leaf.
        site: Opens the machine of a profile.
    """

    def __init__(
        self,
        run_dir: Path,
        settings: dict[str, Any],
        say: Callable[[str], None],
        *,
        site: Callable[[Machine], Site] | None = None,
    ):
        self._run_dir = run_dir
        self._settings = settings
        self._say = say
        self._open = site or self._remote
        self._brokers: dict[tuple[str | None, ...], Broker] = {}
        self._hosts: dict[str, MachineHost] = {}
        self._sites: dict[Path, Site] = {}
        """By the file that has what went which way in the run's sessions so far."""

    def of(self, machine: Machine) -> MachineHost:
        """Return the host of leaves that are placed on a profile."""
        if machine.name not in self._hosts:
            broker = self._brokers.get(machine.account)
            if broker is None:
                journal = journal_of(self._run_dir, machine)
                site = self._open(machine)
                broker = Broker(machine.name, site, journal, waits=machine.waits, say=self._say)
                self._brokers[machine.account] = broker
                self._sites[journal.with_suffix(".bytes.json")] = site
            else:
                broker.name += f", {machine.name}"
            self._hosts[machine.name] = MachineHost(machine, broker, self._settings)
        return self._hosts[machine.name]

    def _remote(self, machine: Machine) -> Site:
        secret = Path(self._settings["secrets_dir"], machine.name, PASSWORD)
        password = (lambda: secret.read_text(encoding="utf-8")) if secret.exists() else None
        return RemoteSite(machine, open_transport(machine, password=password))

    def follow(self) -> None:
        """Bring what running jobs print, for a while from now on."""
        for host in self._hosts.values():
            host.follow()

    def at_work(self) -> dict[str, int]:
        """Return how many jobs there are now, by profile."""
        counts = {name: host.at_work() for name, host in self._hosts.items()}
        return {name: count for name, count in counts.items() if count}

    async def end_jobs(self) -> None:
        """Cancel what earlier sessions have left on the run's machines and nobody has joined: the run has ended."""
        for machine in placement.profiles(self._run_dir).values():
            if journal_of(self._run_dir, machine).exists():
                await self.of(machine).broker.end_all()

    def leave(self) -> None:
        """Let the jobs live on when the session breaks off."""
        for broker in self._brokers.values():
            broker.leave()

    async def close(self) -> None:
        """Give the machines up, and note what went which way. Cancel what awaits ``MachineHost.run`` first."""
        for broker in self._brokers.values():
            await broker.close()
        for path, site in self._sites.items():
            before = Bytes(**json.loads(path.read_bytes())) if path.exists() else Bytes()
            write_atomic(path, json.dumps(dataclasses.asdict(before + site.bytes())))


def journal_of(run_dir: Path, machine: Machine) -> Path:
    """Return the journal of a profile's account in a run."""
    digest = hashlib.sha256(repr(machine.account).encode()).hexdigest()[:8]
    return run_dir / ".machines" / f"{re.sub(r'[^A-Za-z0-9.-]', '-', machine.host or 'here')}-{digest}.jsonl"


class MachineHost:
    """Runs the leaves that are placed on one profile.

    Args:
        machine: The profile.
        broker: Its account's.
        settings: What the run's leaves share; see ``LocalLeafHost``.
        on_record: Called with a leaf's record before the machine may forget the leaf.
    """

    def __init__(
        self,
        machine: Machine,
        broker: Broker,
        settings: dict[str, Any],
        *,
        on_record: Callable[[dict[str, Any]], None] = lambda _record: None,
    ):
        self._machine = machine
        self._on_record = on_record
        self._settings = settings
        self._contained = "" if machine.runtime == "none" else machine.runtime
        self._code = Path(settings["code_dir"]) if settings["code_dir"] else None
        self.broker = broker
        self._at_work: set[str] = set()
        """Keys of leaves that have a job now."""
        self._busy = asyncio.Semaphore(_AT_ONCE)
        self._patterns: WeakValueDictionary[str, Folded] = WeakValueDictionary()
        """A program of each template."""

    async def run(self, request: LeafRequest, root: str, place: Place) -> dict[str, Any]:
        """Run one leaf to its end and return its record, which is written; see ``LeafHost``.

        While it waits, all that is kept of it is the request and its folded parcel.

        Args:
            request: The leaf.
            root: Its directory.
            place: Where it was placed.
        """
        try:
            async with self._busy:
                parcel = await asyncio.to_thread(self._pack, request, root, place)
        except staging.StagingError as error:
            now = time.time()
            record = {"phase": "Error", "message": str(error), "failure": error.failure, "started": now}
            record = self._write(request, root, {**record, "finished": now, "notices": []})
            self._on_record(record)
            return record
        late = _Deadline(request, self.broker, parcel.key)
        notices: list[str] = []
        self._at_work.add(parcel.key)
        try:
            ended = await self.broker.run(parcel, late.on_running, notices.append)
        finally:
            late.cancel()
            self._at_work.discard(parcel.key)
        if late.passed and ended.job.failure is FailureClass.CANCELLED:
            record = {"phase": "Failed", "message": leafrun.DEADLINE_TEXT, "failure": "WALLTIME"}
            record = record if late.started else {**record, "message": "timeout"}
        else:
            async with self._busy:
                spec = leaf_spec(request, root, place)
                record = await asyncio.to_thread(self._record, parcel, spec, notices, ended)
        started = record.pop("started", None) or ended.job.started or late.started
        record = {"started": started, "finished": time.time(), "notices": notices, **record}
        fault("machines.before-record")
        self._write(request, root, record)
        await asyncio.to_thread(self._on_record, record)
        fault("machines.after-record")
        self.broker.delivered(parcel.key)
        return record

    def at_work(self) -> int:
        """Return how many leaves have a job that was sent."""
        leaves = self.broker.dispatcher.leaves
        return sum(bool(leaves[key].jobs[-1].batch) for key in self._at_work if key in leaves)

    def follow(self) -> None:
        """Bring what the leaves print that run now, for a while from now on."""
        for key in self._at_work:
            self.broker.follow(key)

    def delivered(self, request: LeafRequest) -> None:
        """Note that a leaf has a record already: an earlier life may have been killed just before it said so."""
        self.broker.delivered(_key(request))

    @staticmethod
    def _write(request: LeafRequest, root: str, record: dict[str, Any]) -> dict[str, Any]:
        record.setdefault("members", [])
        leafrun.write_record(root, request.node_id, record)
        return record

    # Going there

    def _pack(self, request: LeafRequest, root: str, place: Place) -> Parcel:
        spec = leaf_spec(request, root, place)
        leaf = Leaf(spec, self._settings)
        leafrun.make_directory(root)
        staging.write_file(f"{root}/name", spec["name"].encode())
        staging.write_file(f"{root}/type", b"Pod")
        staging.write_file(f"{root}/phase", b"Running")
        Path(root, "inputs").mkdir()
        staging.stage_parameters(f"{root}/inputs/parameters", leaf.inputs.get("parameters") or [])
        is_op = OP_ANNOTATION in annotations_of(leaf.template)
        program = self._pack_op(leaf, request) if is_op else self._pack_command(leaf)
        if self._machine.staging == "s3":
            program["puts"] = puts_of(leaf, self._real(leaf))
        return Parcel(
            key=_key(request),
            # Once for all members of a loop.
            name=sys.intern(re.sub(r"[^A-Za-z0-9_-]", "-", spec["name"])[:40]),
            comment=sys.intern(f"{request.workflow_name}/{spec['name']}"),
            resources=place.resources,
            spec=self._folded(program, leaf.template.get("name") or ""),
            directory=root,
            code=self._code if is_op else None,
            machine=self._machine,
        )

    def _folded(self, program: dict[str, Any], template: str) -> Folded:
        """Keep of a program only in what it differs from another one of its template that waits."""
        folded = Folded(program, self._patterns.get(template))
        self._patterns.setdefault(template, folded)
        return folded

    def _pack_op(self, leaf: Leaf, request: LeafRequest) -> dict[str, Any]:
        record = json.loads(annotations_of(leaf.template)[OP_ANNOTATION])
        inputs = MachineInputs(leaf, self._machine.staging, record.get("writable") or [])
        for artifact in leaf.inputs.get("artifacts") or []:
            if artifact["name"] != staging.BUNDLE_INPUT:
                inputs.stage(artifact, leafrun.op_path(leaf.root, artifact["path"]))
        given = variables(leaf, {"name": "main", "env": leaf.template.get("env")})
        program: dict[str, Any] = {
            "record": record,
            "env": {**self._environment(leaf), **_progress(leaf), **given},
            "result": leaf.spec["result"],
            "outputs": ["outputs"],
            **inputs.program(),
        }
        if self._contained:
            program["image"] = request.template["script"]["image"]  # the spec is without
        if self._machine.staging == "s3":
            program["outputs"] = ["outputs/parameters", *zips_of(leaf, self._real(leaf))]
        return program

    def _pack_command(self, leaf: Leaf) -> dict[str, Any]:
        template = leaf.template
        view = self._view(leaf)
        inputs = MachineInputs(leaf, self._machine.staging, [])
        for artifact in sorted(leaf.inputs.get("artifacts") or [], key=lambda item: len(str(item.get("path")))):
            inputs.stage(artifact, view.own_path(artifact["path"]))
        texts = []
        if source := (template.get("script") or {}).get("source"):
            path = view.own_path(SCRIPT)
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            log = containers.log_of(leaf.root, template, "main")
            staging.write_file(path, view.translate(source, template["script"], log).encode())
            texts = [os.path.relpath(path, leaf.root)]
        view.prepare([])
        program: dict[str, Any] = {
            "result": leaf.spec["result"],
            "outputs": linked_outputs(leaf, view, self._machine.staging),
            "files": files_of(template),
            **inputs.program(),
            "texts": texts,
        }
        if not containers.are_several(template):
            return {**program, **self._command(leaf, view, containers.main_of(template), inputs)}
        return {
            **program,
            "outputs": [*program["outputs"], containers.PLACE],
            "policy": template.get("restartPolicy", "Never"),
            "grace": int(template.get("terminationGracePeriodSeconds", _GRACE)),
            "pod": [
                {
                    **{name: getattr(member, name) for name in ("kind", "name", "tries", "pause", "needs")},
                    **self._command(leaf, view, member.container, inputs),
                }
                for member in containers.members(template)
            ],
        }

    def _command(self, leaf: Leaf, view: View, container: dict[str, Any], inputs: MachineInputs) -> dict[str, Any]:
        """Return what a container runs, as a part of a program."""
        log = containers.log_of(leaf.root, leaf.template, container["name"])
        environment = {**self._environment(leaf, container["name"]), **variables(leaf, container)}
        if not container.get("command") and not (self._contained and knows_entry_points(self._contained)):
            raise staging.StagingError(
                "init",
                f"the container {container['name']!r} of the template {leaf.template.get('name')!r} has no command; "
                f"machine {self._machine.name!r} (runtime {self._machine.runtime!r}) does not know what its image "
                "would run. Give it a command",
            )

        def words(key: str) -> list[str]:
            given = container.get(key) or []
            return [view.translate(expand(str(word), environment), container, log) for word in given]

        env = {name: view.translate(value, container, log) for name, value in environment.items()}
        if "ARGO_NODE_ID" in env and not self._contained:  # the leaf's directory is in no image
            env |= _progress(leaf)
        if self._contained:
            found = self._refuse_claims(view.mounts(container, log, inputs.arriving))
            own = {"image": container["image"], "command": words("command"), "args": words("args"), "mounts": found}
            return {"env": env, **own, "directory": container.get("workingDir")}
        directory = view.directory(container, log, f"{leaf.root}/workdir")
        return {"env": env, "words": [*words("command"), *words("args")], "directory": directory}

    def _real(self, leaf: Leaf) -> Callable[[str], str]:
        """Return what says where a literal path of the template lies here."""
        if OP_ANNOTATION in annotations_of(leaf.template):
            return functools.partial(leafrun.op_path, leaf.root)
        return self._view(leaf).own_path

    def _view(self, leaf: Leaf) -> View:
        """Return what the literal paths of a command's template mean."""
        return View(leaf.root, leaf.settings["run_dir"], leaf.template, [], "it runs on a machine", self._contained)

    def _refuse_claims(self, mounts: list[tuple[str, str]]) -> list[tuple[str, str]]:
        for source, target in mounts:
            if source.startswith(f"{self._settings['run_dir']}/volumes/"):
                raise staging.StagingError(
                    "init",
                    f"a claim is mounted at {target}; machine {self._machine.name!r} has no volume that steps share. "
                    "Hand the data over as artifacts, or mount a directory of the machine by hostPath",
                )
        return mounts

    def _environment(self, leaf: Leaf, container: str = "main") -> dict[str, str]:
        """Return Argo's variables, without what is only true on this host; a pod's template has all of them itself."""
        if self._settings.get("variables_given"):
            return {}
        own = (LEAF_MARK, "ARGO_PROGRESS_FILE")
        return {name: value for name, value in leaf.environment(container).items() if name not in own}

    # Coming back

    def _record(self, parcel: Parcel, spec: dict[str, Any], notices: list[str], ended: Ended) -> dict[str, Any]:
        leaf = Leaf(spec, self._settings)
        found = containers.ends(leaf.root, leaf.template)
        if ended.job.failure is not None or ended.marker is None:
            return {**self._failure(ended), "containers": found}
        marker = ended.marker.record
        leaf.notices = notices
        code = int(marker["rc"])
        if marker["stage"] != "main":
            container, failure = ("init", "STAGE_IN") if marker["stage"] == "in" else ("wait", "STAGE_OUT")
            text = marker.get("text") or f"see {leaf.root}/log.txt"
            if any(word in text for word in _UNREACHED):
                text += f". {_WAY_OUT.format(name=self._machine.name)}"
            return {"phase": "Error", "message": staging.error_text(container, text), "failure": failure}
        outputs: dict[str, Any] = {}
        if leaf.spec["result"]:
            outputs["result"] = staging.without_newline(staging.tail(f"{leaf.root}/{_RESULT}", staging.RESULT_LIMIT))
        main = found.get("main", {}).get("runs")
        outputs["exitCode"] = str(main[-1][2] if main else code)
        if found:
            record = containers.blame(found, code)
            record |= {
                "containers": found,
                "members": containers.told(found) if "containerSet" in leaf.template else [],
            }
        else:
            text = staging.tail(f"{leaf.root}/termination-log", _LIMIT)
            record = leafrun.failed(code, text) if code else {"phase": "Succeeded"}
        prefix = f"{leaf.spec['workflow']}/{leaf.spec['pod']}"
        elsewhere = pushed_by(parcel)
        take = staging.Outputs(leaf.template, leaf.settings["store"], prefix, self._real(leaf), False, elsewhere)
        changed = staging.tail(f"{leaf.root}/changed", _LIMIT).splitlines()
        leafrun.conclude(leaf, record, outputs, take, staging.changed_there(changed, self._machine.name))
        return {**record, **_times(ended.marker)}

    def _failure(self, ended: Ended) -> dict[str, Any]:
        """Say in Argo's way why a job gave no outcome of its own: only what the program did itself is *Failed*."""
        job = ended.job
        failure = job.failure or FailureClass.LOST
        grows = f"; [machine.{self._machine.name}.retry] may ask for more by itself"
        if failure.value.lower() in self._machine.retry:
            grows = f", the last of {ended.attempts} attempts" if ended.attempts > 1 else ""
        where = f"job {job.id or job.token} on machine {self._machine.name!r}"
        phase, message = {
            FailureClass.OOM: (
                "Failed",
                f"OOMKilled (exit code 137): {where} took more memory than it asked for{grows}",
            ),
            FailureClass.WALLTIME: ("Failed", f"{leafrun.DEADLINE_TEXT}: {where} ran into its time limit{grows}"),
            FailureClass.CONFIG: ("Error", f"machine {self._machine.name!r} refused it: {job.reason}"),
            FailureClass.STAGE_OUT: ("Error", staging.error_text("wait", job.reason)),
            FailureClass.CANCELLED: ("Error", f"pod deleted: {where} was cancelled"),
        }.get(failure, ("Error", f"{where}: {job.reason or job.word or failure.value}"))
        return {"phase": phase, "message": message, "failure": failure.value}


def _progress(leaf: Leaf) -> dict[str, str]:
    """Return the variable with the file in which a leaf reports; ``RemoteSite.progress`` reads it there."""
    return {"ARGO_PROGRESS_FILE": f"{leaf.root}/progress"}


def _key(request: LeafRequest) -> str:
    return key_of(request.workflow_uid, request.retry_id or request.node_id)


class _Deadline:
    """Drops a leaf that must have ended: at a moment, or so long after its real start."""

    __slots__ = ("_broker", "_key", "_request", "_timers", "passed", "started")

    def __init__(self, request: LeafRequest, broker: Broker, key: str):
        self._request = request
        self._broker = broker
        self._key = key
        self._timers: tuple[asyncio.TimerHandle, ...] = ()
        self.passed = False
        self.started = 0.0
        if request.deadline is not None:
            self._in(request.deadline - time.time())

    def on_running(self) -> None:
        self.started = time.time()
        if self._request.timeout is not None:
            self._in(self._request.timeout)
        self._request.on_running()

    def _in(self, delay: float) -> None:
        self._timers += (asyncio.get_running_loop().call_later(max(0.0, delay), self._pass),)

    def _pass(self) -> None:
        self.passed = True
        self._broker.drop(self._key)

    def cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()


def _times(marker: Marker) -> dict[str, float]:
    found = {"started": marker.record.get("start"), "finished": marker.record.get("end")}
    return {name: float(value) for name, value in found.items() if value}
