"""Executing one template: its inputs, its node, its attempts. Argo's ``executeTemplate``.

``Executor.start`` makes the node and returns a task that ends when the node has ended. The order of things is Argo's:
template, inputs, limits, locks, cache, retries, then the kind of template (``steps.py``, ``dag.py``, ``leaves.py``).

Not here: the workflow as a whole (``interpreter.py``).

Trap: nodes are made at once wherever possible, so that the order in a tree does not depend on the event loop; only what
must wait is made later.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from dflow_hpc.engines.local.interpret import dag, leaves, retry, steps
from dflow_hpc.engines.local.interpret.cache import Cache
from dflow_hpc.engines.local.interpret.call import MAX_DEPTH, Call, Work, no_edge
from dflow_hpc.engines.local.interpret.errors import DepthExceeded, HandlerError, TemplateError
from dflow_hpc.engines.local.interpret.inputs import has_tags, process, render
from dflow_hpc.engines.local.interpret.locks import Locks
from dflow_hpc.engines.local.interpret.names import Functions, Known
from dflow_hpc.engines.local.interpret.outputs import export
from dflow_hpc.engines.local.interpret.slots import Slots
from dflow_hpc.engines.local.interpret.templates import Template, Templates
from dflow_hpc.engines.local.interpret.tree import NodeTree
from dflow_hpc.executors.leaf import LeafHost
from dflow_hpc.manifest.ids import pod_name
from dflow_hpc.manifest.view import FULFILLED, UNSUCCESSFUL, Json, Node, annotations_of, named

_DISPLAY_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9-.]{0,61}[a-zA-Z0-9]$")


class Executor:
    """Executes the templates of one workflow.

    Args:
        name: The workflow's name.
        uid: Its uid.
        tree: Where nodes are made.
        host: Runs the leaves.
        resources: Documents that the workflow may refer to.
        recorded: Finished leaf nodes of an earlier life, by node id.
        reused: Outputs to take instead of running, by the value of the input parameter ``dflow_key``.
        cache: Where memoized outputs are.
        locks: Mutexes and semaphores.
        clock: Gives the time in seconds since the epoch.
        sleep: Waits for some seconds of that clock.
    """

    def __init__(
        self,
        *,
        name: str,
        uid: str,
        tree: NodeTree,
        host: LeafHost,
        resources: list[Json],
        recorded: Mapping[str, Node],
        reused: Mapping[str, Json],
        cache: Cache,
        locks: Locks,
        clock: Callable[[], float],
        sleep: Callable[[float], Coroutine[Any, Any, None]],
    ) -> None:
        self.name, self.uid, self.tree, self.host = name, uid, tree, host
        self.resources, self.recorded, self.reused, self.cache = resources, recorded, reused, cache
        self.locks, self.clock, self._sleep = locks, clock, sleep
        self._functions = Functions(uid, clock)
        self.templates = Templates(name, {})
        self.slots = Slots()
        self.texts: dict[str, str] = {}
        """Variables of the workflow: ``workflow.*``."""
        self.artifacts: dict[str, Json] = {}
        """Artifacts of the workflow: ``workflow.outputs.artifacts.*``."""
        self._known_everywhere = Known(self.texts, self.artifacts)
        self.arguments: Json = {}
        """``spec.arguments``: exit handlers without arguments of their own get them."""
        self.archive_logs: bool | None = None
        """``spec.archiveLogs``, for templates that do not say it themselves."""
        self.shutdown: str | None = None
        """``Stop`` or ``Terminate`` once that was asked for."""
        self.deadline: float | None = None
        """When the workflow must have ended, in seconds since the epoch."""
        self.may_start = asyncio.Event()
        self.may_start.set()
        self._stoppable: dict[str, _UntilStopped] = {}
        self.suspended: dict[str, asyncio.Event] = {}
        """Suspended nodes that wait to be resumed."""
        self._sleepers: set[asyncio.Task[Any]] = set()
        self.watchers: dict[str, Callable[[], None]] = {}
        """Called when the phase of the node with this id has changed."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._forget = self._tasks.discard

    # Tasks

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine beside the others; it is cancelled when the interpreter ends."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def cancel_all(self) -> None:
        """Cancel whatever still runs and wait for its end."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def sleep_until(self, when: float) -> None:
        """Wait until a time in seconds since the epoch has come, or the workflow is stopped."""
        delay = when - self.clock()
        if delay <= 0 or self.shutdown:
            return
        task = self.spawn(self._sleep(delay))
        self._sleepers.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._sleepers.discard(task)
            task.cancel()

    def stop(self, strategy: str) -> None:
        """End what runs and start nothing more, exit handlers aside (``Stop``) or included (``Terminate``)."""
        self.shutdown = strategy
        for task in self._sleepers:
            task.cancel()
        for waiting in list(self._stoppable.values()):
            if self.is_stopped(waiting.on_exit):
                waiting.task.cancel()

    def is_stopped(self, on_exit: bool) -> bool:
        """Say whether what belongs to an exit handler, or does not, may run no more."""
        return self.shutdown == "Terminate" or (self.shutdown == "Stop" and not on_exit)

    def until_stopped(self, name: str, on_exit: bool) -> _UntilStopped:
        """Let ``stop`` cut short what the current task waits for inside; whoever uses it looks at ``is_stopped``.

        Args:
            name: Under which it is known while it waits; a node's id.
            on_exit: Whether it belongs to an exit handler.
        """
        return _UntilStopped(self, self._stoppable, name, on_exit)

    # Nodes

    def update(self, id: str, **fields: Any) -> Node:
        """Change a node, and tell whoever watches it when its phase changed."""
        before = self.tree.nodes[id]["phase"]
        node = self.tree.update(id, **fields)
        if node["phase"] != before and id in self.watchers:
            self.watchers[id]()
        return node

    def create(self, call: Call, type: str, phase: str, **fields: Any) -> Node:
        """Make the node of a call and hang it into the tree."""
        holder = call.holder
        flag = {"hooked": True} if call.hooked else None
        node = self.tree.create(
            fields.pop("name", call.name),
            type,
            phase,
            call.boundary.node if call.boundary else None,
            templateName=holder.get("template") or None,
            templateRef=holder.get("templateRef"),
            templateScope=call.scope.text,
            nodeFlag=fields.pop("nodeFlag", flag),
            taskResultSynced=True if type == "Pod" else None,
            **fields,
        )
        if node["name"] == call.name:
            call.attach(node)
            call.attach = no_edge
        return node

    def create_first(self, work: Work, phase: str | None = None, **fields: Any) -> Node:
        """Make the first node of a call: the Retry node where there are retries, else that of its one attempt."""
        flag: Json | None = {"hooked": True} if work.call.hooked else None
        kind = work.template.node_type
        if work.body.get("retryStrategy") is not None:
            kind, flag = "Retry", {"hooked": True, "retried": True} if flag else None
        if phase is None:
            phase = "Running" if kind in ("Steps", "DAG", "Retry") else "Pending"
        return self.create(work.call, kind, phase, inputs=work.inputs or None, nodeFlag=flag, **fields)

    def pod_name(self, name: str, template: Template) -> str:
        """Return the pod name of a node."""
        return pod_name(self.name, name, template.name)

    def known(self, node: str) -> Known:
        """Return what the workflow makes known to the node with this name."""
        return Known(self.texts, self.artifacts, lambda: self._functions.seeded(node))

    # Executing

    def start(self, call: Call) -> asyncio.Task[Node]:
        """Begin to execute a template; the task's result is its node when that has ended.

        Raises:
            TemplateError: It cannot be executed; its node says why. The task may raise it too.
            Abandoned: A sibling has failed and the template that lists it fails fast. The task may raise it too.
        """
        if not self.may_start.is_set():
            return self.spawn(self._start_later(call))
        work = self._prepare(call)
        if not self.slots.take(call.boundary, work.pod):
            return self.spawn(self._start_when_free(work))
        work.has_slot = True
        return self.spawn(self._execute(work, self._open(work)))

    async def _start_later(self, call: Call) -> Node:
        await self.may_start.wait()
        return await self._start_when_free(self._prepare(call))

    async def _start_when_free(self, work: Work) -> Node:
        await self.slots.wait(work.call.boundary, work.pod)
        work.has_slot = True
        await self.may_start.wait()
        return await self._execute(work, self._open(work))

    def _prepare(self, call: Call) -> Work:
        """Find the template and process the inputs.

        Raises:
            TemplateError: Either is not possible; the node is made and says so.
        """
        try:
            if call.depth >= MAX_DEPTH:
                raise DepthExceeded
            template, scope = self.templates.resolve(call.holder, call.scope)
            local = {"node.name": call.name}
            if call.local:
                local[call.local[0]] = call.local[1]
            if template.is_pod and template.json.get("retryStrategy") is None:
                local["pod.name"] = self.pod_name(call.name, template)
            known = self.known(call.name).over(local)
            inputs, variables = process(template, call.arguments, known, self.resources)
            known = known.over(variables, _artifacts(inputs))
            body = render(template.body, known)
            if body.get("synchronization"):  # what cannot be had is known at once, before siblings start
                namespace = self.texts["workflow.namespace"]
                self.locks.check(body["synchronization"], namespace=namespace, resources=self.resources)
            call.arguments = {}
        except TemplateError as error:
            self.create(call, "Skipped", "Error", message=str(error))
            raise
        if template.is_pod and template.json.get("retryStrategy") is None and not has_tags(body):
            known = self._known_everywhere  # nothing will ask for its own: thousands may wait
        return Work(call, template, scope, inputs, known, body)

    def _open(self, work: Work) -> Node | None:
        """Make the node at once, or return None where something must be waited for or looked up first."""
        key = named(work.inputs.get("parameters"), "dflow_key") if self.reused else None
        outputs = self.reused.get(key["value"]) if key else None
        if key and outputs is not None:
            # As dflow has it under Argo, where a memoization cache holds what is reused.
            hit = {"hit": True, "key": key["value"], "cacheName": "dflow-reused"}
            return self.create(
                work.call,
                work.template.node_type,
                "Succeeded",
                inputs=work.inputs,
                outputs=outputs,
                memoizationStatus=hit,
            )
        if work.body.get("synchronization") or work.body.get("memoize"):
            return None
        return self.create_first(work)

    async def _execute(self, work: Work, node: Node | None) -> Node:
        try:
            if node is None:
                node = await self._open_later(work)
            if node["phase"] not in FULFILLED:
                self._rename(work, node)
                if work.body.get("retryStrategy") is not None:
                    await retry.run(self, work, node)
                else:
                    await self.attempt(work, node)
        finally:
            if work.body.get("synchronization"):
                self.locks.release(self.tree.id_of(work.call.name))
            self.give_back(work, failed=False)
        export(node.get("outputs"), self.tree, self.texts, self.artifacts)
        if work.body.get("memoize") and node["phase"] == "Succeeded":
            self.cache.save(work.body["memoize"], node, self.clock())
        return node

    async def _open_later(self, work: Work) -> Node:
        """Make the node of a work that needs locks or may be in a cache."""
        node: Node | None = None
        if work.body.get("synchronization"):
            node = await self._acquire(work)
        if work.body.get("memoize") and (node is None or node["phase"] not in FULFILLED):
            node = self._look_up(work, node)
        if node is None:
            node = self.create_first(work)
        if node["phase"] == "Pending" and node["type"] in ("Steps", "DAG", "Retry"):
            self.update(node["id"], phase="Running")  # it had to wait for a lock
        return node

    def give_back(self, work: Work, failed: bool) -> None:
        """Give the work's slot back, if it has one."""
        if work.has_slot:
            work.has_slot = False
            self.slots.give_back(work.call.boundary, work.pod, failed)

    async def attempt(self, work: Work, node: Node) -> None:
        """Run one attempt: ``node`` is its node, new.

        Raises:
            TemplateError: It ended as Error by no fault of a leaf; the node says so.
        """
        kind = work.template.kind
        try:
            if kind == "steps":
                await steps.run(self, work, node)
            elif kind == "dag":
                await dag.run(self, work, node)
            elif kind == "suspend":
                await leaves.suspend(self, work, node)
            else:
                await leaves.run(self, work, node)
        except TemplateError as error:
            message = "Workflow operation error" if isinstance(error, HandlerError) else str(error)
            self.update(node["id"], phase="Error", message=message)
            raise
        finally:
            self.give_back(work, failed=node["phase"] in UNSUCCESSFUL)

    def _rename(self, work: Work, node: Node) -> None:
        wished = annotations_of(work.body).get("workflows.argoproj.io/display-name")
        if wished:
            if not _DISPLAY_NAME.match(wished):
                message = f"displayName must match the regex {_DISPLAY_NAME.pattern}"
                self.update(node["id"], phase="Error", message=message)
                raise TemplateError(message)
            self.update(node["id"], displayName=wished)

    async def _acquire(self, work: Work) -> Node | None:
        """Wait for the locks; return the node if it had to be made in order to wait."""
        node: Node | None = None
        holder = self.tree.id_of(work.call.name)

        def on_wait(message: str, lock: str) -> None:
            nonlocal node
            node = self.create_first(work, "Pending", message=message, synchronizationStatus={"waiting": lock})

        with self.until_stopped(holder, work.call.on_exit):
            await self.lock(work.body["synchronization"], holder, on_wait)
        if node is not None:
            self.update(node["id"], message=None, synchronizationStatus=None)
            if self.is_stopped(work.call.on_exit):
                self.update(node["id"], phase="Failed", message=f"Stopped with strategy '{self.shutdown}'")
        return node

    async def lock(self, wanted: Json, holder: str, on_wait: Callable[[str, str], None]) -> None:
        """Take the locks of a ``synchronization``, see ``Locks.acquire``."""
        await self.locks.acquire(
            wanted,
            holder,
            namespace=self.texts["workflow.namespace"],
            resources=self.resources,
            priority=int(self.texts.get("workflow.priority", "0")),
            on_wait=on_wait,
        )

    def _look_up(self, work: Work, node: Node | None) -> Node:
        memoize = work.body["memoize"]
        try:
            hit = self.cache.load(memoize, self.clock())
        except TemplateError as error:
            if node is None:
                self.create(work.call, "Skipped", "Error", message=str(error))
            raise
        cache_name = memoize["cache"]["configMap"]["name"]
        status = {"hit": hit is not None, "key": memoize["key"], "cacheName": cache_name}
        if node is None:
            node = self.create_first(work, memoizationStatus=status)
        else:
            self.update(node["id"], memoizationStatus=status)
        if hit is not None:
            self.update(node["id"], phase="Succeeded", outputs=hit.outputs)
        return node


def _artifacts(inputs: Json) -> dict[str, Json]:
    return {f"inputs.artifacts.{artifact['name']}": artifact for artifact in inputs.get("artifacts") or ()}


class _UntilStopped:
    """What a task waits for until ``Executor.stop`` cuts it short. No generator: thousands of leaves wait in one."""

    __slots__ = ("_executor", "_name", "_stoppable", "on_exit", "task")

    def __init__(self, executor: Executor, stoppable: dict[str, _UntilStopped], name: str, on_exit: bool):
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  for mypy
        self._executor, self._stoppable, self._name = executor, stoppable, name
        self.task, self.on_exit = task, on_exit

    def __enter__(self) -> None:
        self._stoppable[self._name] = self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        del self._stoppable[self._name]
        if not isinstance(error, asyncio.CancelledError) or not self._executor.is_stopped(self.on_exit):
            return False
        self.task.uncancel()
        return True
