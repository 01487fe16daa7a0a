"""DAG templates: tasks that start when those that they depend on have ended as their ``depends`` wants.

Only the targets (by default: tasks that nobody depends on) and their ancestors run. A task is looked at when *all*
tasks that its expression mentions have ended with their hooks, whatever the operators.

Trap: the phase is not that of the worst task. A failed task whose dependents ran on does not fail the DAG, while tasks
that were omitted below a failed one do: phases are carried along the branches (``_phase``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dflow_hpc.engines.local.interpret.call import Call, Work
from dflow_hpc.engines.local.interpret.errors import Abandoned, DepthExceeded, HandlerError, HookError, TemplateError
from dflow_hpc.engines.local.interpret.hooks import Watch
from dflow_hpc.engines.local.interpret.inputs import render
from dflow_hpc.engines.local.interpret.loops import expand, runs
from dflow_hpc.engines.local.interpret.names import Known, TaskNames, add_loop, add_node
from dflow_hpc.engines.local.interpret.outputs import export, of_template
from dflow_hpc.engines.local.interpret.slots import Boundary
from dflow_hpc.engines.local.interpret.steps import FAIL_FAST, continues, resolve_step
from dflow_hpc.engines.local.interpret.templates import Entry
from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import depends
from dflow_hpc.manifest.view import COMPLETED, UNSUCCESSFUL, Json, Node

if TYPE_CHECKING:
    from dflow_hpc.engines.local.interpret.execute import Executor


async def run(executor: Executor, work: Work, node: Node) -> None:
    """Run a DAG template to its end.

    Raises:
        TemplateError: Its outputs cannot be resolved.
    """
    await _Dag(executor, work, node).run()


def _depends(task: Json, dag: dict[str, Json]) -> depends.Depends:
    def continue_on(name: str) -> tuple[bool, bool]:
        return continues(dag[name], "Error"), continues(dag[name], "Failed")

    if task.get("depends"):
        return depends.parse_depends(task["depends"], continue_on)
    return depends.parse_dependencies(task.get("dependencies") or (), continue_on)


class _Task:
    """One task, and what it waits for."""

    def __init__(self, entry: Entry, dag: dict[str, Json]) -> None:
        self.entry = entry
        self.name = entry.name
        self.depends = _depends(entry.written, dag)
        self.needs = self.depends.tasks
        self.node: Node | None = None
        self.texts: dict[str, Any] = {}
        self.artifacts: dict[str, Any] = {}
        """Its variables, once it has ended."""


class _Dag:
    """A DAG node that runs."""

    def __init__(self, executor: Executor, work: Work, node: Node) -> None:
        self.executor, self.work, self.node = executor, work, node
        self.boundary = Boundary(node, work.template)
        written = {entry.name: entry.written for entry in work.template.tasks}
        self.tasks = {entry.name: _Task(entry, written) for entry in work.template.tasks}
        wished = (work.template.json["dag"].get("target") or "").strip()
        self.targets = work.known.substitute(wished).split(" ") if wished else self._leaves()
        for name in self.targets:
            if name not in self.tasks:
                raise TemplateError(f"target {name} does not exist")
        self._texts = {name: task.texts for name, task in self.tasks.items()}
        self._artifacts = {name: task.artifacts for name, task in self.tasks.items()}
        self._handler_error = ""
        """Why the exit handler of a target could not be executed."""
        self._problems: dict[str, str] = {}
        """Tasks whose results cannot be listed, and why: nobody who comes after them can be executed."""
        self._ended: deque[tuple[_Task, asyncio.Task[None]]] = deque()
        self._look = asyncio.Event()

    def _leaves(self) -> list[str]:
        needed = {name for task in self.tasks.values() for name in task.needs}
        return sorted(name for name in self.tasks if name not in needed)

    async def run(self) -> None:
        """Run the tasks and set the node's phase."""
        await self._run_tasks()
        tree, own = self.executor.tree, self.node["id"]
        if self.boundary.failing:
            self.executor.update(own, phase="Failed", message=FAIL_FAST)
            return
        if self._handler_error:
            raise TemplateError(self._handler_error)
        phase = "Failed" if self._stopped else self._phase()
        nodes = [task.node for task in map(self.tasks.__getitem__, self.targets) if task.node is not None]
        ends = [end for node in nodes for end in tree.outbound(node["id"])]
        if phase != "Succeeded":
            self.executor.update(own, phase=phase, outboundNodes=ends or None)
            return
        self._complain(self._problems)
        known = self._known(lambda _: True, lambda: self.tasks)
        outputs = of_template(self.work.body.get("outputs") or {}, known)
        self.executor.update(own, phase=phase, outputs=outputs, outboundNodes=ends or None)

    async def _run_tasks(self) -> None:
        wanted = self._ancestors(self.targets) | set(self.targets)
        waiting = {name: len(self.tasks[name].needs) for name in wanted}
        followers: dict[str, list[_Task]] = {name: [] for name in wanted}
        for task in self.tasks.values():  # in their written order, so that what starts when is settled
            for need in task.needs if task.name in wanted else ():
                followers[need].append(task)
        ready = deque(task for task in self.tasks.values() if waiting.get(task.name) == 0)
        running = 0
        while True:
            while ready and not self._stopped:
                self._launch(ready.popleft())
                running += 1
            if not running:
                return
            self._look.clear()
            if not self._ended:
                await self._look.wait()
            while self._ended:
                task, job = self._ended.popleft()
                job.result()
                running -= 1
                for follower in followers[task.name]:
                    waiting[follower.name] -= 1
                    if not waiting[follower.name]:
                        ready.append(follower)

    @property
    def _stopped(self) -> bool:
        return self.executor.is_stopped(self.work.call.on_exit)

    def _launch(self, task: _Task) -> None:
        def ended(job: asyncio.Task[None]) -> None:
            self._ended.append((task, job))
            self._look.set()

        self.executor.spawn(self._do(task)).add_done_callback(ended)

    # One task

    async def _do(self, task: _Task) -> None:
        try:
            members = self._members(task)
        except TemplateError as error:
            self._stand_in(task, "Error", str(error))
            return
        if members is None:
            self._stand_in(task, "Omitted", "omitted: depends condition not met")
        elif not task.entry.loops:
            await self._member(task, members[0], None)
        elif not members:
            self._stand_in(task, "Skipped", "Skipped, empty params")
        else:
            await self._loop(task, members)
        if task.node is not None:
            self._take_in(task, task.node)

    def _members(self, task: _Task) -> list[Json] | None:
        """Return the task, or the members of its loop, references replaced; None when it is not to run.

        Raises:
            TemplateError: Something cannot be resolved or evaluated.
        """
        if task.needs and not self._holds(task):
            return None
        self._complain(self._ancestors([task.name]) if self._problems else ())
        entry, known = task.entry, self._known_of(task)
        step: Json = render(entry.tags, known)
        if entry.item_tags is not None:
            step = {**step, "withItems": render(entry.item_tags, known)}
        elif entry.items:
            step = {**step, "withItems": entry.items}
        step = resolve_step(entry, step, known)
        members = expand(step, known) if entry.loops else None
        return [step] if members is None else members

    def _complain(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._problems:
                raise TemplateError(self._problems[name])

    def _holds(self, task: _Task) -> bool:
        try:
            return task.depends.evaluate({name: self._results(self.tasks[name]) for name in task.needs})
        except ExpressionError as error:
            raise TemplateError(str(error)) from error

    def _results(self, task: _Task) -> dict[str, bool]:
        node, members = task.node, None
        if node is not None and node["type"] == "TaskGroup":
            members = [self.executor.tree.nodes[child]["phase"] for child in node.get("children") or ()]
        return depends.task_results(node["phase"] if node else "", children=members)

    async def _loop(self, task: _Task, members: list[Json]) -> None:
        executor = self.executor
        group = task.node = self._create(task.name, task, "TaskGroup", "Running", None)
        watch = Watch(executor, task.entry.written, group, *self._around(task)) if task.entry.watched else None
        await asyncio.gather(*[executor.spawn(self._member(task, member, group)) for member in members])
        phases = [(executor.tree.named(f"{self.node['name']}.{m['name']}") or {}).get("phase") for m in members]
        if None in phases:
            return  # the template fails fast
        failed = [phase for phase in phases if phase in UNSUCCESSFUL]
        executor.update(group["id"], phase=failed[-1] if failed else "Succeeded")
        if watch is not None:
            await self._finish(watch, task, group)

    async def _member(self, task: _Task, step: Json, group: Node | None) -> None:
        """Run one task, or one member of its loop, to its end."""
        executor, name = self.executor, f"{self.node['name']}.{step['name']}"
        try:
            proceed = runs(step.get("when"))
        except TemplateError as error:
            self._create(step["name"], task, "Skipped", "Error", group, str(error))
            return
        if not proceed:
            self._create(step["name"], task, "Skipped", "Skipped", group, f"when '{step['when']}' evaluated false")
            return
        watches: list[Watch] = []

        def attach(node: Node) -> None:
            self._attach(task, node, group)
            if task.entry.watched:
                hooks = {"exit": (step.get("hooks") or {}).get("exit")} if group else step.get("hooks")
                watches.append(Watch(executor, {**step, "hooks": hooks}, node, *self._around(task)))

        call = Call(
            name,
            step,
            self.work.scope,
            step.get("arguments") or {},
            boundary=self.boundary,
            attach=attach,
            plain_name=task.name,
            local=("tasks.name", step["name"]),
            on_exit=self.work.call.on_exit,
            depth=self.work.call.depth + 1,
        )
        node: Node | None = None
        try:
            node = await executor.start(call)
        except (Abandoned, DepthExceeded):
            pass  # there is no node, or one that has failed as any other does
        except TemplateError as error:
            executor.update(executor.tree.id_of(name), phase="Error", message=f"task '{name}' errored: {error}")
        for watch in watches:
            if node is None:
                await watch.settle()
            else:
                await self._finish(watch, task, node)

    def _around(self, task: _Task) -> tuple[Any, ...]:
        """Return what a ``Watch`` of the task must know."""
        prefix, depth = f"tasks.{task.name}", self.work.call.depth + 1
        return prefix, lambda: self._known_of(task), self.boundary, self.work.scope, depth

    async def _finish(self, watch: Watch, task: _Task, node: Node) -> None:
        try:
            await watch.finish()
        except HandlerError as error:
            if task.name in self.targets:  # who comes after another task goes on, as in Argo
                self._handler_error = str(error)
        except HookError as error:
            self.executor.update(node["id"], phase="Error", message=str(error))

    # Nodes

    def _create(
        self, name: str, task: _Task, type: str, phase: str, group: Node | None, message: str | None = None
    ) -> Node:
        written = task.entry.written
        node = self.executor.tree.create(
            f"{self.node['name']}.{name}",
            type,
            phase,
            self.node,
            templateName=written.get("template") or None,
            templateRef=written.get("templateRef"),
            templateScope=self.work.scope.text,
            nodeFlag={},
            message=message,
        )
        self._attach(task, node, group)
        return node

    def _stand_in(self, task: _Task, phase: str, message: str) -> None:
        """Make the node of a task that will not run."""
        self._create(task.name, task, "Skipped", phase, None, message)
        if task.node is not None:
            self._take_in(task, task.node)

    def _attach(self, task: _Task, node: Node, group: Node | None) -> None:
        tree = self.executor.tree
        if group is not None:
            tree.add_child(group["id"], node["id"])
            return
        task.node = node
        if not task.needs:
            tree.add_child(self.node["id"], node["id"])
        for need in task.needs:
            above = self.tasks[need].node
            for end in tree.outbound(above["id"]) if above else ():
                tree.add_child(end, node["id"])

    def _take_in(self, task: _Task, node: Node) -> None:
        """Make known what a task gave."""
        tree, prefix = self.executor.tree, f"tasks.{task.name}"
        add_node(task.texts, task.artifacts, prefix, node, tree)
        if node["type"] == "TaskGroup":
            try:
                add_loop(task.texts, prefix, [tree.nodes[child] for child in node.get("children") or ()])
            except TemplateError as error:
                self._problems[task.name] = str(error)
        export(node.get("outputs"), tree, self.executor.texts, self.executor.artifacts)

    # Names

    def _known_of(self, task: _Task) -> Known:
        """Return what a task may name: its ancestors, and what the template knows."""
        ancestors: list[set[str]] = []

        def everything() -> set[str]:
            if not ancestors:
                ancestors.append(self._ancestors([task.name]))
            return ancestors[0]

        return self._known(lambda name: name in task.needs or name in everything(), everything)

    def _known(self, is_ancestor: Any, all_ancestors: Any) -> Known:
        return self.work.known.over(
            TaskNames(self._texts, is_ancestor, all_ancestors), TaskNames(self._artifacts, is_ancestor, all_ancestors)
        )

    def _ancestors(self, names: Iterable[str]) -> set[str]:
        found: set[str] = set()
        pending = list(names)
        while pending:
            for need in self.tasks[pending.pop()].needs:
                if need not in found:
                    found.add(need)
                    pending.append(need)
        return found

    # The phase

    def _phase(self) -> str:
        """Return the phase of the DAG, all of whose tasks have ended.

        Each branch carries the phase of the last node that completed; a target that did not run inherits it.
        """
        nodes = self.executor.tree.nodes
        targets = {task.node["id"]: "" for name in self.targets if (task := self.tasks[name]).node is not None}
        pending = deque((child, "Succeeded") for child in self.node.get("children") or ())
        seen = set(pending)
        while pending:
            key, phase = pending.popleft()
            node = nodes[key]
            if node["phase"] in COMPLETED:
                phase = node["phase"]
            if key in targets and targets[key] not in UNSUCCESSFUL:
                targets[key] = phase
            for child in self._below(node):
                if (child, phase) not in seen:
                    seen.add((child, phase))
                    pending.append((child, phase))
        for name in self.targets:
            task = self.tasks[name]
            phase = targets[task.node["id"]] if task.node else "Succeeded"
            if phase in UNSUCCESSFUL and not continues(task.entry.written, phase):
                return phase
        return "Succeeded"

    def _below(self, node: Node) -> list[str]:
        children: list[str] = node.get("children") or []
        if node["type"] != "Retry":
            return children
        # Its phase is that of its last attempt, so the attempts do not count: what comes after them does.
        found: list[str] = []
        for child in reversed(children):
            attempt = self.executor.tree.nodes[child]
            found += [child] if (attempt.get("nodeFlag") or {}).get("hooked") else attempt.get("children") or []
        return found
