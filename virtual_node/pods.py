"""The life of the pods that are bound to the node: each becomes a job, and its status says what became of that.

One task a pod: read what it asks for, hand the leaf to the machine's host (``MachineHost``, which plays Argo's ``init``
and ``wait``), report. A pod's directory is named by its UID and holds the leaf's record; with it, nothing runs again.

Not here: the API's events (``service.py``), what a status looks like (``status.py``), jobs (``executors/broker``).

Trap: a new pod may stand for the same leaf (a retried workflow): it has the same key. It waits until the older one's
task has ended. After a restart the broker joins the job that lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local.work.machines import MachineHost
from dflow_hpc.engines.local.work.placement import Place
from dflow_hpc.engines.local.work.records import load_record
from dflow_hpc.engines.local.work.spec import leaf_spec
from dflow_hpc.errors import DflowError
from dflow_hpc.executors.broker.broker import Broker
from dflow_hpc.executors.broker.jobs import State, key_of
from dflow_hpc.executors.leaf import LeafRequest
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.kube import PODS, TASK_RESULTS, Cluster, Conflict, KubeError, NotFound
from dflow_hpc.storage.objects import ObjectStore
from dflow_hpc.virtual_node import leaves, status
from dflow_hpc.virtual_node.leaves import PodLeaf
from dflow_hpc.virtual_node.node import Capacity
from dflow_hpc.virtual_node.sources import Refused

Object = dict[str, Any]

_TERMINAL = ("Succeeded", "Failed")
_COMPLETED = "workflows.argoproj.io/completed"


@dataclass
class _Pod:
    """A pod in our hands."""

    object: Object
    task: asyncio.Task[None]
    key: str = ""
    told: str = ""
    """The reason for waiting that its status has."""
    started: bool = False


class Pods:
    """The pods of a node.

    Args:
        machine: The node's.
        capacity: What the node has.
        broker: Its account's.
        room: A directory for the leaves' directories.
        cluster: Returns the objects of a namespace.
        say: Called with what the administrator should know.
    """

    def __init__(
        self,
        machine: Machine,
        capacity: Capacity,
        broker: Broker,
        room: Path,
        cluster: Callable[[str], Cluster],
        say: Callable[[str], None],
    ):
        self._machine = machine
        self._capacity = capacity
        self._broker = broker
        self._room = room
        self._cluster = cluster
        self._say = say
        self._pods: dict[str, _Pod] = {}
        self._keys: dict[str, asyncio.Lock] = {}
        self._hosts: dict[str, MachineHost] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def changed(self, pod: Object) -> None:
        """Take a pod that is new or has changed; what is known already is nothing new."""
        uid, metadata = pod["metadata"]["uid"], pod["metadata"]
        known = self._pods.get(uid)
        if metadata.get("deletionTimestamp"):
            if uid not in {task.get_name() for task in self._ending}:
                self._later(uid, self._remove(pod))
        elif known is None:
            if (pod.get("status") or {}).get("phase") not in _TERMINAL:
                self._pods[uid] = _Pod(pod, asyncio.create_task(self._run(pod)))
        elif (metadata.get("labels") or {}).get(_COMPLETED) == "true" and known.key and not known.task.done():
            self._broker.drop(known.key)  # Argo's way to say that nobody waits for it any more

    def gone(self, pod: Object) -> None:
        """Take a pod that is no more: whatever of it runs is ended."""
        self._later(pod["metadata"]["uid"], self._forget(pod["metadata"]["uid"]))

    def _later(self, name: str, work: Any) -> None:
        task = asyncio.create_task(work, name=name)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def tell_queue(self) -> None:
        """Let the statuses of pods that wait say why, where that has changed."""
        for uid, known in list(self._pods.items()):
            leaf = self._broker.dispatcher.leaves.get(known.key)
            if leaf is None or not leaf.jobs or known.started or known.task.done():
                continue
            job = leaf.jobs[-1]
            word = job.word if job.state is State.QUEUED else self._broker.dispatcher.paused
            if word and word != known.told:
                known.told = word
                await self._patch(known.object, status.pending(known.object, "Queued", f"job {job.id}: {word}"))
            if known.started and uid in self._pods:  # it began meanwhile: that must stand
                await self._patch(known.object, status.running(known.object, time.time()))

    async def close(self) -> None:
        """Let go of all pods; their jobs live on when the broker was told to leave them."""
        tasks = [known.task for known in self._pods.values()] + list(self._ending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # One pod

    async def _run(self, pod: Object) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        cluster = self._cluster(namespace)
        try:
            leaf = await asyncio.to_thread(leaves.read, pod, cluster, self._machine, self._capacity)
        except Refused as error:
            await self._patch(pod, status.refused("NotOnThisNode", str(error)))
            return
        except DflowError as error:
            self._say(f"pod {namespace}/{name}: {error}")
            await self._patch(pod, status.refused("NotRead", str(error)))
            return
        record = await self._leaf(pod, leaf)
        if leaf.argo is not None:
            await asyncio.to_thread(self._report, cluster, pod, leaf, record)
        await self._patch(pod, status.final(pod, record))

    async def _leaf(self, pod: Object, leaf: PodLeaf) -> Object:
        """Run the leaf, or take the record of an earlier life; the record."""
        uid = pod["metadata"]["uid"]
        key = key_of(leaf.workflow_uid, leaf.node_id)
        known = self._pods[uid]

        def on_running() -> None:
            known.started = True
            self._later(f"{uid} runs", self._patch(pod, status.running(pod, time.time())))

        request = LeafRequest(
            node_id=leaf.node_id,
            node_name=leaf.node_name,
            template=leaf.template,
            inputs=leaf.template.get("inputs") or {},
            pod_name=pod["metadata"]["name"],
            workflow_name=leaf.workflow,
            workflow_uid=leaf.workflow_uid,
            capture_result=bool(leaf.argo and leaf.argo.include_result),
            on_running=on_running,
            on_progress=lambda _text: None,
            deadline=leaf.deadline,
            timeout=leaf.timeout,
        )
        root = self._room / uid
        host = self._host(leaf.storage)
        async with self._keys.setdefault(key, asyncio.Lock()):
            known.key = key
            if (before := load_record(root)) is not None:
                host.delivered(request)
                return before
            place = Place(machine=self._machine, resources=leaf.resources)
            return await host.run(request, str(root), lambda: leaf_spec(request, root, place), place)

    def _host(self, storage: Object | None) -> MachineHost:
        """Return what runs leaves whose artifacts are in a storage; there are as many as there are storages."""
        name = json.dumps(storage, sort_keys=True)
        if name not in self._hosts:
            settings = {
                "variables_given": True,
                "code_dir": None,
                "store": {"store": _store(storage)},
                "run_dir": str(self._room),
                "secrets_dir": str(self._room / "none"),
                "progress_dir": str(self._room / "none"),
            }
            self._hosts[name] = MachineHost(self._machine, self._broker, settings)
        return self._hosts[name]

    # What the API is told

    def _report(self, cluster: Cluster, pod: Object, leaf: PodLeaf, record: Object) -> None:
        """Leave Argo's task result; it must be complete before the pod's last status."""
        assert leaf.argo is not None  # noqa: S101  asked before
        environment = pod["spec"]["initContainers"][0].get("env") or []
        instance = next((item.get("value", "") for item in environment if item["name"] == "ARGO_INSTANCE_ID"), "")
        outputs = record.get("outputs") or {}
        result = status.task_result(leaf.argo, outputs, complete=True, instance=instance)
        try:
            cluster.create(TASK_RESULTS, result)
        except Conflict:
            with contextlib.suppress(NotFound):  # Argo removes them when the workflow has ended
                cluster.patch(TASK_RESULTS, leaf.node_id, result)

    async def _patch(self, pod: Object, new: Object) -> None:
        """Set a pod's status, unless the pod is another one by now, or gone."""
        metadata = pod["metadata"]
        change = {"metadata": {"uid": metadata["uid"]}, "status": new}
        with contextlib.suppress(NotFound, Conflict):
            cluster = self._cluster(metadata["namespace"])
            await asyncio.to_thread(cluster.patch, PODS, metadata["name"], change, part="status")

    async def _remove(self, pod: Object) -> None:
        """End what a pod runs, then say that it is gone."""
        metadata = pod["metadata"]
        await self._forget(metadata["uid"])
        with contextlib.suppress(Conflict):
            cluster = self._cluster(metadata["namespace"])
            await asyncio.to_thread(cluster.delete, PODS, metadata["name"], uid=metadata["uid"], grace=0)

    async def _forget(self, uid: str) -> None:
        known = self._pods.pop(uid, None)
        if known is not None:
            known.task.cancel()
            (result,) = await asyncio.gather(known.task, return_exceptions=True)
            if isinstance(result, Exception) and not isinstance(result, KubeError):
                self._say(f"pod {known.object['metadata']['name']}: {type(result).__name__}: {result}")
        await asyncio.to_thread(shutil.rmtree, self._room / uid, ignore_errors=True)


def _store(storage: Object | None) -> ObjectStore | None:
    if storage is None:
        return None
    from dflow_hpc.storage.s3 import MinioClient

    names = ("endpoint", "access_key", "secret_key", "secure", "bucket_name")
    return ObjectStore(MinioClient(*(storage[name] for name in names)))
