"""The Argo engine: takes a compiled workflow over to a cluster with Argo Workflows, looks on, and steers it.

``ArgoEngine`` answers what every engine is asked (``engines/__init__.py``), through the Kubernetes API alone: Argo's
own server is not needed. Who we are and where is said by the settings (``kube/connection.py``).

Not here: what is made ready before (``publish.py``), names (``lower.py``), how a state is read (``status.py``) and
changed (``steer.py``).

Trap: the controller writes a Workflow all the time. What changes one field is a patch; what changes the tree reads it,
changes it and writes it, again from the start when somebody was quicker.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from dflow_hpc.compile import Compiled
from dflow_hpc.config import config
from dflow_hpc.engines.argo import pieces, publish, repository, status, steer
from dflow_hpc.engines.argo.lower import bridges, lower
from dflow_hpc.engines.argo.reuse import take_over
from dflow_hpc.engines.local.provision import outputs_by_key
from dflow_hpc.errors import EngineError
from dflow_hpc.executors.profiles import placing
from dflow_hpc.kube import CONFIG_MAPS, PODS, SECRETS, WORKFLOWS, Cluster, Conflict, NotFound, argo_server, connect
from dflow_hpc.manifest.ids import pod_name
from dflow_hpc.manifest.view import COMPLETED, UNSUCCESSFUL
from dflow_hpc.storage.objects import ObjectStore, object_store


@dataclass(frozen=True)
class RunInfo:
    """What ``list`` shows of a run."""

    id: str
    phase: str
    created: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class PodLog:
    """What a leaf prints."""

    node_id: str
    name: str
    phase: str
    lines: Callable[..., Iterator[bytes]]
    """Reads it: ``lines(follow=False, tail=None)``."""


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class ArgoEngine:
    """Runs workflows on Argo.

    Args:
        say: Called with each line for the user.
        cluster: Where; None: as the settings say, asked when first needed.
    """

    def __init__(self, *, say: Callable[[str], None] = _to_stderr, cluster: Cluster | None = None):
        self._say = say
        self._known = cluster

    def at(self, **where: Any) -> Self:
        """Return the engine for another place than the settings'.

        Args:
            **where: ``namespace``, ``token``, ``k8s_config_file``, ``k8s_api_server``, ``host``, as for
                ``kube.connect``.
        """
        if not where:
            return self
        other = copy.copy(self)
        other._known = connect(**where)
        return other

    @property
    def cluster(self) -> Cluster:
        """The cluster and namespace in which the runs are."""
        if self._known is None:
            self._known = connect()
        return self._known

    def _store(self) -> ObjectStore:
        return object_store(**repository.settings(self.cluster))

    # Starting

    def submit(
        self,
        compiled: Compiled,
        *,
        id: str | None = None,
        detach: bool = False,  # noqa: ARG002  (it goes on by itself in any case)
        reuse: Sequence[Any] = (),
    ) -> str:
        """Take a compiled workflow over and return its name as soon as the cluster has it.

        Args:
            compiled: What ``compile_workflow`` gave.
            id: The run's name.
            detach: Of no meaning here.
            reuse: Steps of earlier runs (``ArgoStep``): a step with the key of one of them takes its outputs.

        Raises:
            EngineError: The cluster does not take it, or there is a run of that name.
        """
        compiled, machines = placing.settle(compiled, placing.script_directory(), config["place"])
        gateways = publish.gateways(bridges(compiled.manifest, machines), self.cluster)
        workflow = lower(compiled.manifest, machines, id=id, image=config["bridge_image"], gateways=gateways)
        name: str = workflow["metadata"]["name"]
        caches: list[dict[str, Any]] = []
        if outputs := outputs_by_key(reuse):
            workflow, caches = take_over(workflow, outputs, _now())
        workflow, parts = pieces.split(workflow)
        for notice in filter(None, map(pieces.doubt, (workflow, *parts))):
            self._say(f"{name}: {notice}")
        if compiled.bundle is not None:
            publish.publish(compiled.bundle, self._store())
            for notice in compiled.bundle.notices:
                self._say(f"{name}: {notice}")
        secrets = publish.make_secrets(compiled, self.cluster)
        reused = [self.cluster.create(CONFIG_MAPS, cache)["metadata"]["name"] for cache in caches]
        made = self._make(workflow, parts)
        publish.own(SECRETS, secrets, self.cluster, made)
        publish.own(CONFIG_MAPS, reused, self.cluster, made)
        said = f" in {1 + len(parts)} pieces" if parts else ""
        self._say(f"{name}: submitted to the namespace {self.cluster.namespace}{said}")
        return name

    def _make(self, workflow: dict[str, Any], parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make a Workflow, and before it its pieces, which it lets go: one request each."""
        name = workflow["metadata"]["name"]
        done = []
        try:
            for part in (*parts, workflow):
                made = self.cluster.create(WORKFLOWS, part)
                done.append(part["metadata"]["name"])
        except Conflict as error:
            for piece in done:
                self.cluster.delete(WORKFLOWS, piece)
            raise EngineError(
                f"the workflow {name} was to be submitted; the namespace {self.cluster.namespace!r} has one of that "
                f"name already. Choose another id, or remove it: dflow-hpc delete {name}"
            ) from error
        return made

    def resubmit(self, id: str) -> str:
        """Run a workflow anew from its start, under a new name, with the same manifest and code; return the name.

        Raises:
            EngineError: It is one in pieces.
        """
        workflow = self.cluster.get(WORKFLOWS, id)
        if pieces.is_cut(workflow):
            raise EngineError(
                f"the run {id} was to be submitted anew; it is so large that it is in pieces, of which its manifest "
                "cannot be made again. Run its program: dflow-hpc run FILE"
            )
        return self.submit(Compiled(steer.resubmission(workflow)))

    # Looking

    def query(self, id: str) -> dict[str, Any]:
        """Return the Workflow object: ``metadata``, ``spec`` and ``status``, in Argo's schema."""
        try:
            workflow = self.cluster.get(WORKFLOWS, id)
        except NotFound:
            if archived := argo_server.workflow(self.cluster, id):
                return archived
            raise
        others = self.cluster.list(WORKFLOWS, labels=f"{pieces.RUN}={id}") if pieces.is_cut(workflow) else []
        return self._together(id, {**{one["metadata"]["name"]: one for one in others}, id: workflow})

    def _together(self, id: str, parts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """Return a run's Workflow, its node tree unpacked, with those of its pieces in it."""
        found = {name: self._unpacked(part) for name, part in parts.items()}
        whole = found.pop(id)
        whole = pieces.merged(whole, list(found.values())) if found else whole
        return {**whole, "status": {"phase": "Pending", **(whole.get("status") or {})}}

    def _unpacked(self, workflow: dict[str, Any]) -> dict[str, Any]:
        name = workflow["metadata"]["name"]
        whole = argo_server.workflow(self.cluster, name) if status.is_offloaded(workflow) else None
        return whole or status.unpack(workflow)

    def _parts(self, id: str) -> list[dict[str, Any]]:
        """Return the metadata of a run's Workflows: the whole's, then those of its pieces."""
        whole = self.cluster.get(WORKFLOWS, id, brief=True)
        found = self.cluster.list(WORKFLOWS, labels=f"{pieces.RUN}={id}", brief=True) if pieces.is_cut(whole) else []
        return [whole, *(part for part in found if part["metadata"]["name"] != id)]

    def list_runs(self) -> list[RunInfo]:
        """Return the Workflows of the namespace, oldest first."""
        found = []
        for workflow in self.cluster.list(WORKFLOWS, brief=True):
            if pieces.run_of(workflow) and not pieces.is_cut(workflow):
                continue  # a piece
            created = datetime.fromisoformat(workflow["metadata"]["creationTimestamp"]).timestamp()
            found.append(RunInfo(workflow["metadata"]["name"], status.label_of(workflow), created))
        return sorted(found, key=lambda run: run.created)

    def wait(self, id: str, timeout: float | None = None) -> str:
        """Wait until it has ended, at most ``timeout`` seconds, and return its phase.

        Raises:
            EngineError: There is none of that name, or it was deleted meanwhile.
        """
        phase = "Pending"
        for event in self.cluster.watch(WORKFLOWS, name=id, brief=True, seconds=timeout):
            if event.type == "DELETED":
                raise _deleted(id)
            phase = status.label_of(event.object)
            if phase in COMPLETED:
                break
        return phase

    def follow(self, id: str) -> Iterator[list[status.Record]]:
        """Yield what it is and then what changes, as records of a journal (``local/state.py``), until it has ended."""
        before: dict[str, Any] = {}
        try:
            cut = pieces.is_cut(self.cluster.get(WORKFLOWS, id, brief=True))
            labels, name = (f"{pieces.RUN}={id}", None) if cut else (None, id)
            for parts in self.cluster.changes(WORKFLOWS, name=name, labels=labels):
                if id not in parts:
                    raise _deleted(id)
                workflow = self._together(id, parts)
                if found := status.records(before, workflow):
                    yield found
                before = workflow
                if status.phase_of(workflow) in COMPLETED:
                    return
        except NotFound as error:
            if before:
                raise _deleted(id) from error
            raise

    def logs(self, id: str, step: str | None = None) -> list[PodLog]:
        """Return what its leaves print, in the order of their start; of pods that are gone, from the log artifact.

        Args:
            id: The run.
            step: Only leaves with this id, name, displayName or key.

        Raises:
            EngineError: No node is named so.
        """
        nodes = status.nodes_of(self.query(id)).values()
        leaves = sorted((n for n in nodes if n["type"] == "Pod"), key=lambda node: node.get("startedAt") or "9")
        found = [node for node in leaves if step is None or _is_named(node, step)]
        if step is not None and not found:
            names = ", ".join(sorted({node["displayName"] for node in leaves})) or "none"
            raise EngineError(f"the step {step!r} of {id} was asked for; steps that ran are: {names}.")
        return [PodLog(node["id"], node["name"], node["phase"], self._log(node)) for node in found]

    def _log(self, node: dict[str, Any]) -> Callable[..., Iterator[bytes]]:
        pod = pod_name(pieces.owner_of(node), node["name"], node.get("templateName", ""))

        def lines(follow: bool = False, tail: int | None = None) -> Iterator[bytes]:
            try:
                yield from self.cluster.log(pod, "main", follow=follow, tail=tail)
            except NotFound as gone:
                text = steer.kept_log(node, self._store)
                if text is None:
                    raise EngineError(
                        f"the log of {node['name']} was asked for; its pod {pod} is gone, and Argo kept no log of it. "
                        "Keep logs: archiveLogs in the controller's configuration, or spec.archiveLogs."
                    ) from gone
                kept = text.splitlines()
                yield from kept if tail is None else kept[max(0, len(kept) - tail) :]

        return lines

    # Steering

    def stop(self, id: str) -> None:
        """End its leaves and run its exit handlers."""
        self._set(id, "ended", {"shutdown": "Stop"})

    def terminate(self, id: str) -> None:
        """End its leaves at once, without exit handlers."""
        self._set(id, "ended", {"shutdown": "Terminate"})

    def suspend(self, id: str) -> None:
        """Start nothing more until ``resume``; what runs goes on."""
        self._set(id, "suspended", {"suspend": True})

    def _set(self, id: str, wish: str, change: dict[str, Any]) -> None:
        for part in self._under_way(id, wish):
            self.cluster.patch(WORKFLOWS, part, {"spec": change})

    def resume(self, id: str, *, node: str | None = None, parameters: dict[str, str] | None = None) -> None:
        """Go on after ``suspend``, or at a suspend step.

        Args:
            id: The run.
            node: Only the suspended nodes with this id, name or displayName.
            parameters: Values of that node's supplied output parameters.

        Raises:
            EngineError: It has ended, or nothing in it waits under that name.
        """
        parts = self._under_way(id, "resumed")
        if len(parts) > 1 and node is not None:
            parts = [part for part in parts if steer.waiting(self._read(part), node)] or [id]
        for part in parts:
            self._change(part, lambda workflow: steer.resumed(workflow, _now(), node, parameters or {}))

    def retry(self, id: str, *, only: Sequence[str] = ()) -> None:
        """Run what failed again, and keep what succeeded.

        Args:
            id: The run.
            only: Ids of further nodes to run again although they succeeded.

        Raises:
            EngineError: It has not ended, or has not failed.
        """
        whole, *others = self._parts(id)
        phase = status.label_of(whole)
        if phase not in COMPLETED or (phase == "Succeeded" and not only):
            raise EngineError(
                f"the run {id} was to be retried; its phase is {phase}. One that has failed can be retried; "
                "`dflow-hpc resubmit` runs it anew."
            )
        chosen = list(only)
        for part in others:
            name = part["metadata"]["name"]
            workflow = self._read(name)
            here = [node for node in only if node in status.nodes_of(workflow)]
            if here or status.label_of(part) in UNSUCCESSFUL:
                self._retry(workflow, here)
            if here:
                chosen = [node for node in chosen if node not in here] + pieces.stand_ins(self._read(id), name)
        self._retry(self._read(id), chosen)

    def _retry(self, workflow: dict[str, Any], only: Sequence[str]) -> None:
        # Pods first: the controller would take the old pod of a node's name for its new one.
        name = workflow["metadata"]["name"]
        for node in steer.to_drop(workflow, only):
            if node["type"] == "Pod":
                self.cluster.delete(PODS, pod_name(name, node["name"], node.get("templateName", "")))
        self._change(name, lambda changed: steer.retried(changed, _now(), only))

    def delete(self, id: str) -> None:
        """Remove it with its artifacts."""
        for part in reversed(self._parts(id)):
            name = part["metadata"]["name"]
            if keys := steer.artifact_keys(self._read(name)):
                store = self._store()
                for key in keys:
                    store.delete(key)
            self.cluster.delete(WORKFLOWS, name)

    def _under_way(self, id: str, wish: str) -> list[str]:
        """Return the names of those of a run's Workflows that are under way."""
        parts = self._parts(id)
        phase = status.label_of(parts[0])
        if phase in COMPLETED:
            raise EngineError(f"the run {id} was to be {wish}; it has ended ({phase}): nothing to do.")
        return [part["metadata"]["name"] for part in parts if pieces.is_under_way(part)]

    def _read(self, name: str) -> dict[str, Any]:
        return self._unpacked(self.cluster.get(WORKFLOWS, name))

    def _change(self, id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change a Workflow with its node tree, whoever else changes it meanwhile."""
        self.cluster.update(WORKFLOWS, id, lambda kept: status.pack(change(status.unpack(kept)), kept))


def _deleted(id: str) -> EngineError:
    return EngineError(f"the workflow {id} was looked on at; it was deleted meanwhile.")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_named(node: dict[str, Any], text: str) -> bool:
    inputs = (node.get("inputs") or {}).get("parameters") or []
    key = next((one.get("value") for one in inputs if one["name"] == "dflow_key"), None)
    shown = node["displayName"]
    return text in (node["id"], node["name"], shown, key) or shown.startswith(f"{text}(")
