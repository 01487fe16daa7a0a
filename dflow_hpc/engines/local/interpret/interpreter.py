"""Interpreting one Workflow on one machine: from its manifest to its final phase. Argo's ``operate``.

Coroutines over asyncio, one a node that runs, and no thread. Processes and files are the ``LeafHost``'s business, the
journal is the node tree's sink. Given the leaves' outcomes the same manifest gives the same tree again: that is what
makes a run resumable.

Parts: ``execute.py`` (one template), ``steps.py``, ``dag.py``, ``leaves.py``, ``retry.py``, ``hooks.py``.

Trap: the workflow's phase is that of its root node, except where an exit handler fails after everything else succeeded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dflow_hpc.engines.local.interpret import globals as workflow_variables
from dflow_hpc.engines.local.interpret.cache import Cache, MemoryCache
from dflow_hpc.engines.local.interpret.call import Call
from dflow_hpc.engines.local.interpret.errors import Abandoned, HandlerError, TemplateError
from dflow_hpc.engines.local.interpret.execute import Executor
from dflow_hpc.engines.local.interpret.hooks import exit_hook, hook_holder
from dflow_hpc.engines.local.interpret.leaves import supplied
from dflow_hpc.engines.local.interpret.locks import Locks
from dflow_hpc.engines.local.interpret.templates import Templates
from dflow_hpc.engines.local.interpret.tree import NodeTree, seconds_of
from dflow_hpc.errors import EngineError
from dflow_hpc.executors.leaf import LeafHost
from dflow_hpc.manifest.merging import whole_spec
from dflow_hpc.manifest.refuse import refused
from dflow_hpc.manifest.schema import normalise, normalise_templates
from dflow_hpc.manifest.validate import problem_of
from dflow_hpc.manifest.view import UNSUCCESSFUL, Json, Node

_WORKFLOW_PHASE = {"Skipped": "Succeeded", "Omitted": "Succeeded"}


class Interpreter:
    """Interprets one Workflow.

    Args:
        workflow: The Workflow, with ``metadata.name``, ``uid`` and ``creationTimestamp``.
        tree: Where nodes are made; its sink hears of every change.
        host: Runs the leaves.
        resources: WorkflowTemplates, ClusterWorkflowTemplates and ConfigMaps that it may refer to.
        recorded: Finished leaf nodes of an earlier life of this run, by node id: those do not run again.
        reused: Outputs by the value of the input parameter ``dflow_key``: a template that has it succeeds with them.
        cache: Where memoized outputs are kept; by default they are forgotten with the interpreter.
        locks: Mutexes and semaphores that it shares with other interpreters.
        clock: Gives the time in seconds since the epoch.
        sleep: Waits for some seconds of that clock.
    """

    def __init__(
        self,
        workflow: Json,
        tree: NodeTree,
        host: LeafHost,
        *,
        resources: Sequence[Json] = (),
        recorded: Mapping[str, Node] | None = None,
        reused: Mapping[str, Json] | None = None,
        cache: Cache | None = None,
        locks: Locks | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self._workflow = workflow
        self._tree = tree
        self._resources = list(resources)
        self._name: str = workflow["metadata"]["name"]
        self._clock = clock
        self._started = 0.0
        self._spec = whole_spec(workflow, self._resources) or {}
        self._hooks: dict[str, Json] = {
            name: hook for name, hook in (self._spec.get("hooks") or {}).items() if name != "exit"
        }
        self._hook_tasks: list[asyncio.Task[Any]] = []
        self._executor = Executor(
            name=self._name,
            uid=workflow["metadata"].get("uid") or "",
            tree=tree,
            host=host,
            resources=self._resources,
            recorded=recorded or {},
            reused=reused or {},
            cache=cache or MemoryCache(),
            locks=locks or Locks(),
            clock=clock,
            sleep=sleep,
        )
        if self._spec.get("suspend"):
            self.suspend()
        if self._spec.get("shutdown"):
            self._executor.stop(self._spec["shutdown"])

    async def run(self) -> str:
        """Interpret the workflow to its end and return its phase."""
        before = self._tree.head.get("startedAt")  # of an earlier life
        self._started = seconds_of(before) if before else self._clock()
        self._tree.set_head(startedAt=before or self._tree.now())
        try:
            phase, message = await self._run()
        finally:
            await self._executor.cancel_all()
        self._tree.set_head(
            phase=phase,
            message=message or None,
            finishedAt=self._tree.now(),
            storedTemplates=self._executor.templates.stored or None,
        )
        return phase

    # What others ask

    def stop(self) -> None:
        """End what runs and start nothing more; exit handlers run."""
        self._shut_down("Stop")

    def terminate(self) -> None:
        """End what runs and start nothing more, exit handlers included."""
        self._shut_down("Terminate")

    def suspend(self) -> None:
        """Start nothing more until ``resume``; what runs goes on."""
        self._executor.may_start.clear()

    def resume(self, selector: str | None = None, parameters: Mapping[str, str] | None = None) -> None:
        """Go on after ``suspend``, and let suspended nodes go on.

        Args:
            selector: Which nodes: an id, a name, a display name, or Argo's ``displayName=...``, ``templateName=...``,
                ``name=...``, ``id=...`` joined by commas; all by default.
            parameters: Values of the outputs that were waiting to be supplied.

        Raises:
            EngineError: No suspended node is selected, or none waits for one of the parameters.
        """
        if selector is None:
            self._executor.may_start.set()
        chosen = [key for key in self._executor.suspended if _is_selected(self._tree.nodes[key], selector)]
        if selector is not None and not chosen:
            waiting = ", ".join(self._tree.nodes[key]["displayName"] for key in self._executor.suspended) or "none"
            raise EngineError(f"suspended nodes that match {selector!r} were to go on; those that wait are: {waiting}")
        for key in chosen:
            self._supply(key, dict(parameters or {}))
            self._executor.suspended[key].set()

    def _supply(self, id: str, values: dict[str, str]) -> None:
        outputs = self._tree.nodes[id].get("outputs")
        known = {parameter["name"] for parameter in (outputs or {}).get("parameters") or ()}
        unknown = sorted(set(values) - known)
        if unknown:
            raise EngineError(
                f"the output {unknown[0]!r} of {self._tree.nodes[id]['displayName']} was to be supplied; "
                f"it waits for: {', '.join(sorted(known)) or 'none'}"
            )
        if values:
            self._executor.update(id, phase="Succeeded", outputs=supplied(outputs, values))

    def _shut_down(self, strategy: str) -> None:
        self._executor.stop(strategy)
        self._executor.may_start.set()

    # The workflow

    async def _run(self) -> tuple[str, str]:
        problem = problem_of(self._workflow, self._resources)
        if problem:
            # A WorkflowTemplate that is not there is no fault of the manifest: it may come yet.
            return "Failed" if problem.startswith(("invalid spec: ", "cannot unmarshall ")) else "Error", problem
        reasons = refused(self._workflow, self._resources)
        if reasons:
            return "Error", "; ".join(reasons)
        self._spec = normalise({"spec": self._spec})["spec"]
        self._resources[:] = map(normalise_templates, self._resources)
        if self._workflow.get("spec", {}).get("workflowTemplateRef"):
            self._tree.set_head(storedWorkflowTemplateSpec=self._spec)
        try:
            spec = self._know_globals()
        except TemplateError as error:
            return "Error", f"failed to set global parameters: {error}"
        wanted = spec.get("synchronization")
        holder = f"{self._name}/"
        try:
            with self._executor.until_stopped(holder, on_exit=False):
                if wanted:
                    await self._executor.lock(
                        wanted, holder, lambda message, _: self._tree.set_head(phase="Pending", message=message)
                    )
        except TemplateError as error:
            return "Failed", f"Failed to acquire the synchronization lock. {error}"
        try:
            return await self._run_locked(spec)
        finally:
            if wanted:
                self._executor.locks.release(holder)

    async def _run_locked(self, spec: Json) -> tuple[str, str]:
        executor = self._executor
        self._tree.set_head(phase="Running", message=None)
        if spec.get("activeDeadlineSeconds") is not None:
            executor.deadline = self._started + spec["activeDeadlineSeconds"]
        call = Call(self._name, {"template": spec["entrypoint"]}, executor.templates.local, executor.arguments)
        try:
            entry = executor.start(call)
            await asyncio.sleep(0)  # what starts at once does not see a status, as in Argo's first pass
            self._tell_status("Running")
            root = await entry
        except HandlerError as error:
            return "Error", str(error)
        except TemplateError as error:
            return "Error", f"error in entry template execution: {error}"
        phase: str = _WORKFLOW_PHASE.get(root["phase"]) or root["phase"]
        executor.texts["workflow.failures"] = workflow_variables.failures(self._name, self._tree.nodes.values())
        self._tell_status(phase)
        for task in self._hook_tasks:
            with suppress(TemplateError, Abandoned):  # its node says so, and nothing else follows from it
                await task
        try:
            handler = await self._run_exit_handler(spec)
        except TemplateError as error:
            return "Error", f"error in exit template execution : {error}"
        if phase in UNSUCCESSFUL and executor.shutdown:
            return phase, f"Stopped with strategy '{executor.shutdown}'"
        if phase == "Succeeded" and handler is not None and handler["phase"] in UNSUCCESSFUL:
            return handler["phase"], handler.get("message") or ""
        return phase, root.get("message") or ""

    def _know_globals(self) -> Json:
        """Set the variables of the workflow, and return its spec with them replaced."""
        executor = self._executor
        known = executor.known(self._name)
        executor.texts.update(workflow_variables.variables(self._workflow, self._spec, self._resources, known))
        plain = {key: value for key, value in self._spec.items() if key != "templates"}
        spec: Json = known.substitute(plain)
        executor.texts.update(workflow_variables.variables(self._workflow, spec, self._resources, known))
        self._tree.set_metadata(*workflow_variables.own_metadata(spec, executor.texts))
        # What changes while it runs was not known to the spec: its hooks ask for it when they fire.
        executor.texts.update({"workflow.status": "", "workflow.duration": "0.000000"})
        executor.arguments = spec.get("arguments") or {}
        executor.archive_logs = spec.get("archiveLogs")
        executor.slots.limit = spec.get("parallelism")
        executor.templates = Templates(self._name, {**spec, "templates": self._spec.get("templates")}, self._resources)
        return spec

    def _tell_status(self, status: str) -> None:
        """Make the workflow's status known, and start the hooks whose expression holds now."""
        executor = self._executor
        executor.texts["workflow.status"] = status
        executor.texts["workflow.duration"] = f"{self._clock() - self._started:.6f}"
        for name, hook in list(self._hooks.items()):
            try:
                if not executor.known(self._name).condition(hook["expression"]):
                    continue
            except TemplateError as error:
                self._tree.update(self._name, phase="Error", message=str(error))
                continue
            del self._hooks[name]
            call = Call(
                f"{self._name}.hooks.{name}",
                hook_holder(hook),
                executor.templates.local,
                hook.get("arguments") or {},
                attach=lambda node: self._tree.add_child(self._name, node["id"]),
                hooked=True,
            )
            self._hook_tasks.append(executor.start(call))

    async def _run_exit_handler(self, spec: Json) -> Node | None:
        hook = exit_hook(spec, self._executor.arguments)
        if hook is None or self._executor.shutdown == "Terminate":
            return None
        call = Call(
            f"{self._name}.onExit",
            hook_holder(hook),
            self._executor.templates.local,
            hook.get("arguments") or {},
            hooked=True,
            on_exit=True,
        )
        return await self._executor.start(call)


def _is_selected(node: Node, selector: str | None) -> bool:
    if selector is None:
        return True
    if "=" not in selector:
        return selector in (node["id"], node["name"], node["displayName"])
    wanted = dict(part.split("=", 1) for part in selector.split(","))
    return all(str(node.get(key.strip())) == value.strip().lstrip("=") for key, value in wanted.items())
