"""The life of the pods that are bound to the node: each becomes a job, and its status says what became of that.

One task a pod: read what it asks for, hand the leaf to the machine's host (``MachineHost``, which plays Argo's ``init``
and ``wait``), report. A pod's directory is named by its UID and holds the leaf's record; with it, nothing runs again.

Not here: the API's events (``service.py``), what a status looks like (``status.py``), jobs (``executors/broker``).

Trap: a new pod may stand for the same leaf (a retried workflow): it has the same key. It waits until the older one's
task has ended. After a restart the broker joins the job that lives.

Trap: that the API does not show a pod says nothing yet: only a deletion that was seen ends its job (``orphans.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local.work.containers import PLACE
from dflow_hpc.engines.local.work.machines import MachineHost
from dflow_hpc.engines.local.work.placement import Place
from dflow_hpc.engines.local.work.records import load_record
from dflow_hpc.engines.local.work.staging import error_text
from dflow_hpc.errors import DflowError, ExecutorError
from dflow_hpc.executors.broker.broker import Broker
from dflow_hpc.executors.broker.jobs import Job, State, key_of
from dflow_hpc.executors.leaf import LeafRequest
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.kube import PODS, TASK_RESULTS, Cluster, Conflict, Event, KubeError, NotFound, put
from dflow_hpc.storage.objects import ObjectStore
from dflow_hpc.virtual_node import leaves, status
from dflow_hpc.virtual_node.archive import with_log
from dflow_hpc.virtual_node.argo_pod import ArgoPod, is_argos
from dflow_hpc.virtual_node.leaves import PodLeaf
from dflow_hpc.virtual_node.node import Capacity
from dflow_hpc.virtual_node.orphans import GRACE, Orphans
from dflow_hpc.virtual_node.progress import Reporter
from dflow_hpc.virtual_node.reports import Reports
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
    """Of the leaf that it stands for, once that was read."""
    at_work: bool = False
    """Whether the job of that key is this pod's."""
    told: str = ""
    """The reason for waiting that its status has."""
    started: bool = False
    reporter: Reporter | None = None
    """Of a leaf of Argo's."""


class Pods:
    """The pods of a node.

    Args:
        node: The node's name.
        machine: Its profile.
        capacity: What the node has.
        broker: Its account's.
        room: A directory for the leaves' directories.
        cluster: Returns the objects of a namespace.
        say: Called with what the administrator should know.
        fail: Called when nothing can go on: the process must end, and another life take over.
        grace: Seconds before what has no pod is ended.
    """

    def __init__(
        self,
        node: str,
        machine: Machine,
        capacity: Capacity,
        broker: Broker,
        room: Path,
        cluster: Callable[[str], Cluster],
        say: Callable[[str], None],
        *,
        fail: Callable[[BaseException], None],
        grace: float = GRACE,
    ):
        self._node = node
        self._machine = machine
        self.capacity = capacity
        """What the node has."""
        self._broker = broker
        self._room = room
        self._cluster = cluster
        self._say = say
        self._fail = fail
        self.reports = Reports(cluster, say)
        self.orphans = Orphans(grace)
        self.shown: dict[str, Object] = {}
        """The pods that the API shows, by UID, those that have ended too."""
        self._pods: dict[str, _Pod] = {}
        self._keys: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._hosts: dict[str, MachineHost] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def take(self, event: Event) -> None:
        """Take what the API says of a pod; what is known already is nothing new."""
        uid = event.object["metadata"]["uid"]
        if event.type != "DELETED":
            self.shown[uid] = event.object
            self._changed(event.object)
            return
        self.shown.pop(uid, None)
        if not event.missed:
            self._later(uid, self._forget(uid))

    def _changed(self, pod: Object) -> None:
        uid, metadata = pod["metadata"]["uid"], pod["metadata"]
        known = self._pods.get(uid)
        if metadata.get("deletionTimestamp"):
            if uid not in {task.get_name() for task in self._ending}:
                self._later(uid, self._remove(pod))
        elif known is None:
            if (pod.get("status") or {}).get("phase") not in _TERMINAL:
                self._pods[uid] = _Pod(pod, asyncio.create_task(self._guarded(pod)))
        elif (metadata.get("labels") or {}).get(_COMPLETED) == "true":
            self.stop(uid)  # Argo's way to say that nobody waits for it any more

    def _later(self, name: str, work: Any) -> None:
        task = asyncio.create_task(work, name=name)
        self._ending.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._say(f"the end of the pod {task.get_name()}: {type(error).__name__}: {error}")

    def tell_queue(self) -> None:
        """Let the statuses of pods that wait say why, where that has changed."""
        for known in self._pods.values():
            leaf = self._broker.dispatcher.leaves.get(known.key)
            if leaf is None or not leaf.jobs or known.started or known.task.done():
                continue
            job = leaf.jobs[-1]
            word = job.word if job.state is State.QUEUED else self._broker.dispatcher.paused
            if word and (text := _waiting(job, word)) != known.told:
                known.told = text
                self.reports.tell(known.object, status.pending(known.object, "Queued", text))

    def running(self) -> dict[str, Reporter]:
        """Return Argo's leaves that run now, by the tokens of their jobs."""
        found = {}
        for known in self._pods.values():
            if known.reporter is not None and known.at_work and (place := self._broker.place(known.key)) is not None:
                found[place[0]] = known.reporter
        return found

    async def sweep(self, now: float) -> None:
        """End what the API has shown no pod for since the grace, if a list that is read now agrees.

        Args:
            now: Seconds; only differences count.

        Raises:
            KubeError: There is no such list.
        """
        keys = {known.key for known in self._pods.values()}
        jobs = {key for key in self._broker.dispatcher.open if key not in keys}
        rooms = {*self._pods, *(path.name for path in self._room.iterdir())}
        for name in self.orphans.see((jobs | rooms) - self.shown.keys(), now):
            if name in jobs:
                self._say(
                    f"a job of the leaf {name} has no pod; it is cancelled in {self.orphans.grace:.0f} s if none comes"
                )
        due = set(self.orphans.due(now))
        if not due:
            return
        mine = f"spec.nodeName={self._node}"
        listed = await self.reports.ask(self._cluster("").list, PODS, fields=mine)
        there = {pod["metadata"]["uid"] for pod in listed}
        if there != self.shown.keys() or any(not known.key and not known.task.done() for known in self._pods.values()):
            return  # not all that is there is known: it may be theirs
        for name in due & jobs:
            self._broker.drop(name)
        for name in due - jobs:
            await self._forget(name)

    # What the kubelet's API asks (inside.py)

    def log_of(self, uid: str, container: str) -> Path | None:
        """Return the file of what a container of a pod writes; None of those whose part the node plays itself."""
        pod = self.shown[uid]
        played = ("init", "wait") if is_argos(pod) else ()
        first = next(each["name"] for each in pod["spec"]["containers"] if each["name"] not in played)
        if container in played:
            return None
        return self._room / uid / ("log.txt" if container == first else f"{PLACE}/{container}/log.txt")

    def key_of(self, uid: str) -> str:
        """Return the key of the leaf that a pod stands for; nothing where it has no job."""
        known = self._pods.get(uid)
        return known.key if known is not None and known.at_work else ""

    def follow(self, uid: str) -> bool:
        """Have what a pod writes brought for a while; return whether it has ended."""
        known = self._pods.get(uid)
        if known is not None and known.at_work:
            self._broker.follow(known.key)
        return known is None or known.task.done()

    def stop(self, uid: str) -> None:
        """End a pod's job as its scheduler does: TERM, a grace, KILL. Its status says how it ended."""
        if key := self.key_of(uid):
            self._broker.drop(key)

    async def close(self) -> None:
        """Let go of all pods; their jobs live on when the broker was told to leave them."""
        tasks = [known.task for known in self._pods.values()] + list(self._ending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.reports.close()

    # One pod

    async def _guarded(self, pod: Object) -> None:
        """Run a pod; whatever breaks is said, and the pod's status tells of it."""
        try:
            await self._run(pod)
        except ExecutorError as error:  # the broker is gone: no pod of this life will hear of its job
            self._fail(error)
            raise
        except Exception as error:
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            self._say(f"pod {name}: {type(error).__name__}: {error}")
            self.reports.tell(pod, status.refused("NodeFault", f"{type(error).__name__}: {error}"), last=True)
            raise

    async def _run(self, pod: Object) -> None:
        cluster = self._cluster(pod["metadata"]["namespace"])

        def waits(why: str) -> None:
            self.reports.tell(pod, status.pending(pod, "CreateContainerConfigError", why))

        try:
            leaf = await self.reports.persist(leaves.read, pod, cluster, self._machine, self.capacity, trouble=waits)
        except Refused as error:
            self.reports.tell(pod, status.refused("NotOnThisNode", str(error)), last=True)
        except DflowError as error:
            self._say(f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}: {error}")
            self.reports.tell(pod, status.refused("NotRead", str(error)), last=True)
        else:
            if leaf.argo is not None:
                self._pods[pod["metadata"]["uid"]].reporter = Reporter(pod["metadata"]["namespace"], leaf.argo)
            record = await self._leaf(pod, leaf)
            if leaf.argo is not None:
                log, store = self._room / pod["metadata"]["uid"] / "log.txt", partial(_store, leaf.storage)
                record = await asyncio.to_thread(with_log, record, leaf.template, log, store)
                record = await self._report(cluster, pod, leaf.argo, record)
            self.reports.tell(pod, status.final(pod, record), last=True)

    async def _leaf(self, pod: Object, leaf: PodLeaf) -> Object:
        """Run the leaf, or take the record of an earlier life; the record."""
        uid = pod["metadata"]["uid"]
        key = key_of(leaf.workflow_uid, leaf.node_id)
        known = self._pods[uid]

        def on_running() -> None:
            known.started = True
            if (pod.get("status") or {}).get("phase") != "Running":  # an earlier life has said it
                self.reports.tell(pod, status.running(pod, time.time()))

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
        known.key = key
        turn = self._keys.setdefault(key, asyncio.Lock())
        async with turn:
            if (before := load_record(root)) is not None:
                host.delivered(request)
                return before
            place = Place(machine=self._machine, resources=leaf.resources)
            known.at_work = True
            try:
                return await host.run(request, str(root), place)
            finally:
                known.at_work = False

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

    async def _report(self, cluster: Cluster, pod: Object, leaf: ArgoPod, record: Object) -> Object:
        """Leave Argo's task result, complete before the pod's last status; the record as Argo may know it."""
        environment = pod["spec"]["initContainers"][0].get("env") or []
        instance = next((item.get("value", "") for item in environment if item["name"] == "ARGO_INSTANCE_ID"), "")

        def leave(outputs: Object) -> None:
            result = status.task_result(leaf, outputs, complete=True, instance=instance)
            with contextlib.suppress(NotFound):  # Argo removes them when the workflow has ended
                put(cluster, TASK_RESULTS, result, result)

        reporter = self._pods[pod["metadata"]["uid"]].reporter
        assert reporter is not None  # noqa: S101  a leaf of Argo's has one
        async with reporter.turn:
            reporter.ended = True
        try:
            await self.reports.persist(leave, record.get("outputs") or {})
        except KubeError as error:  # too large, for instance: without its outputs it has not succeeded
            await self.reports.persist(leave, {})
            return {**record, "phase": "Error", "message": error_text("wait", str(error))}
        return record

    async def _remove(self, pod: Object) -> None:
        """End what a pod runs, then say that it is gone."""
        metadata = pod["metadata"]
        await self._forget(metadata["uid"])
        with contextlib.suppress(Conflict):
            delete = self._cluster(metadata["namespace"]).delete
            await self.reports.persist(delete, PODS, metadata["name"], uid=metadata["uid"], grace=0)

    async def _forget(self, uid: str) -> None:
        """End what a pod runs, and leave nothing of it here."""
        known = self._pods.pop(uid, None)
        if known is not None:
            known.task.cancel()
            await asyncio.gather(known.task, return_exceptions=True)
            if known.key in set(self._broker.dispatcher.open) - {other.key for other in self._pods.values()}:
                self._broker.drop(known.key)  # an earlier life's, which was not joined yet
        await self.reports.forget(uid)
        await asyncio.to_thread(shutil.rmtree, self._room / uid, ignore_errors=True)


def _waiting(job: Job, word: str) -> str:
    """Return what a pod whose job waits is to say: the scheduler's word, and when it thinks that the job starts."""
    text = f"job {job.id}: {word}" if job.id else word
    return f"{text}; expected to start at {status.time_text(job.expected)}" if job.expected else text


def _store(storage: Object | None) -> ObjectStore | None:
    if storage is None:
        return None
    from dflow_hpc.storage.s3 import MinioClient

    names = ("endpoint", "access_key", "secret_key", "secure", "bucket_name")
    return ObjectStore(MinioClient(*(storage[name] for name in names)))
