"""Steps templates: groups of steps, one after the other; the steps of a group run side by side.

A group ends when all its steps have ended, their hooks and exit handlers included. The first step that failed, if its
``continueOn`` does not cover that, fails the group and the template; later groups are never made then.

Trap: an error of the interpreter itself (a reference, an expression) makes the group an Error, but the template Failed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dflow_hpc.engines.local.interpret.call import Call, Work
from dflow_hpc.engines.local.interpret.errors import Abandoned, DepthExceeded, HandlerError, HookError, TemplateError
from dflow_hpc.engines.local.interpret.hooks import Watch, resolve_artifacts
from dflow_hpc.engines.local.interpret.inputs import render
from dflow_hpc.engines.local.interpret.loops import expand, runs
from dflow_hpc.engines.local.interpret.names import Known, add_loop, add_node
from dflow_hpc.engines.local.interpret.outputs import of_template
from dflow_hpc.engines.local.interpret.slots import Boundary
from dflow_hpc.engines.local.interpret.templates import Entry
from dflow_hpc.manifest.view import UNSUCCESSFUL, Json, Node

if TYPE_CHECKING:
    from dflow_hpc.engines.local.interpret.execute import Executor

FAIL_FAST = "template has failed or errored children and failFast enabled"


@dataclass(eq=False)
class _Running:
    """A Steps node that runs."""

    executor: Executor
    work: Work
    boundary: Boundary
    texts: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    """Variables of the groups that have ended."""

    @property
    def known(self) -> Known:
        return self.work.known.over(self.texts, self.artifacts)


async def run(executor: Executor, work: Work, node: Node) -> None:
    """Run a Steps template to its end.

    Raises:
        TemplateError: Its outputs cannot be resolved.
    """
    running = _Running(executor, work, Boundary(node, work.template))
    last: Node | None = None
    for index, entries in enumerate(work.template.groups):
        last = _make_group(running, index, last)
        await _run_group(running, last, entries)
        if last["phase"] in UNSUCCESSFUL:
            _fail(running, last)
            return
        _take_in(running, last, entries)
    _set_outbound(running, last)
    outputs = of_template(work.body.get("outputs") or {}, running.known)
    executor.update(node["id"], phase="Succeeded", outputs=outputs)


def _make_group(running: _Running, index: int, previous: Node | None) -> Node:
    executor, node = running.executor, running.boundary.node
    group = executor.tree.create(
        f"{node['name']}[{index}]",
        "StepGroup",
        "Running",
        node,
        templateScope=running.work.scope.text,
        nodeFlag={},
    )
    if previous is None:
        executor.tree.add_child(node["id"], group["id"])
        return group
    for child in previous.get("children") or ():
        for end in executor.tree.outbound(child):
            executor.tree.add_child(end, group["id"])
    if not previous.get("children"):
        executor.tree.add_child(previous["id"], group["id"])
    return group


def _fail(running: _Running, group: Node) -> None:
    message = group.get("message")
    if message != FAIL_FAST:
        _set_outbound(running, group)
    running.executor.update(running.boundary.node["id"], phase="Failed", message=message)


def _set_outbound(running: _Running, group: Node | None) -> None:
    tree = running.executor.tree
    ends = [end for child in (group or {}).get("children") or () for end in tree.outbound(child)]
    if ends:
        tree.update(running.boundary.node["id"], outboundNodes=ends)


async def _run_group(running: _Running, group: Node, entries: list[Entry]) -> None:
    """Run a group to its end; its phase says how that was."""
    executor = running.executor
    steps: dict[str, Json] = {}
    tasks: dict[str, asyncio.Task[Any]] = {}
    error: TemplateError | None = None
    try:
        for entry, step in _members(running, group, entries):
            name = f"{group['name']}.{step['name']}"
            if step.get("continueOn"):
                steps[name] = step
            try:
                task = _start(running, group, entry, step, name)
            except DepthExceeded:
                continue  # its node has failed as any other does
            if task is not None:
                tasks[name] = task
    except TemplateError as found:
        error = found
    except Abandoned:
        pass  # the siblings that run go on to their end, then the group fails
    error = await _collect(tasks) or error
    if error is not None:
        executor.update(group["id"], phase="Error", message=str(error))
        if isinstance(error, HandlerError) and running.boundary.node["name"] == executor.name:
            raise error
    elif running.boundary.failing:
        executor.update(group["id"], phase="Failed", message=FAIL_FAST)
    else:
        _judge(executor, group, steps)


def _judge(executor: Executor, group: Node, steps: dict[str, Json]) -> None:
    for child in group.get("children") or ():
        node = executor.tree.nodes[child]
        if node["phase"] in UNSUCCESSFUL and not continues(steps.get(node["name"], {}), node["phase"]):
            executor.update(group["id"], phase="Failed", message=f"child '{child}' failed")
            return
    executor.update(group["id"], phase="Succeeded")


def continues(step: Json, phase: str) -> bool:
    """Say whether a step's or task's ``continueOn`` covers a phase."""
    wanted = step.get("continueOn") or {}
    return bool(wanted.get("error")) if phase == "Error" else phase == "Failed" and bool(wanted.get("failed"))


def _members(running: _Running, group: Node, entries: list[Entry]) -> list[tuple[Entry, Json]]:
    """Return the steps of a group with all references replaced and loops expanded.

    Raises:
        TemplateError: That is not possible for one.
    """
    known = running.known
    try:
        resolved = [_resolve(entry, known) for entry in entries]
    except TemplateError as error:
        raise TemplateError(f"Failed to resolve references: {error}") from error
    members: list[tuple[Entry, Json]] = []
    for entry, step in zip(entries, resolved, strict=True):
        expanded = expand(step, known) if entry.loops else None
        if expanded is None:
            members.append((entry, step))
        elif expanded:
            members.extend((entry, member) for member in expanded)
        else:
            _skip(running, group, entry, f"{group['name']}.{entry.name}", "Skipped", "Skipped, empty params")
    return members


def _resolve(entry: Entry, known: Known) -> Json:
    step: Json = render(entry.tags, known)
    if entry.item_tags is not None:
        step = {**step, "withItems": render(entry.item_tags, known)}
    elif entry.items:
        step = {**step, "withItems": entry.items}
    return resolve_step(entry, step, known, "unable to resolve references: ")


def resolve_step(entry: Entry, step: Json, known: Known, complaint: str = "") -> Json:
    """Return a step or task with its artifact arguments resolved, unless it will not be executed anyway.

    Raises:
        TemplateError: One cannot be resolved, or ``when`` cannot be evaluated.
    """
    try:
        proceed = runs(step.get("when"))
    except TemplateError:
        if not entry.loops:
            raise
        proceed = True  # it may name the loop's item, which is not known yet
    if not proceed or not (step.get("arguments") or {}).get("artifacts"):
        return step
    return {**step, "arguments": resolve_artifacts(step["arguments"], known, complaint)}


def _skip(running: _Running, group: Node, entry: Entry, name: str, phase: str, message: str) -> None:
    node = running.executor.tree.create(
        name,
        "Skipped",
        phase,
        running.boundary.node,
        templateName=entry.written.get("template") or None,
        templateRef=entry.written.get("templateRef"),
        templateScope=running.work.scope.text,
        nodeFlag={},
        message=message,
    )
    running.executor.tree.add_child(group["id"], node["id"])


def _start(running: _Running, group: Node, entry: Entry, step: Json, name: str) -> asyncio.Task[Any] | None:
    """Start one member of a group; None when it is skipped.

    Raises:
        TemplateError: It cannot be executed.
        Abandoned: A sibling has failed, and the template fails fast.
    """
    executor, work = running.executor, running.work
    try:
        proceed = runs(step.get("when"))
    except TemplateError as error:
        _skip(running, group, entry, name, "Error", str(error))
        raise
    if not proceed:
        _skip(running, group, entry, name, "Skipped", f"when '{step['when']}' evaluated false")
        return None
    watches: list[Watch] = []

    def attach(node: Node) -> None:
        executor.tree.add_child(group["id"], node["id"])
        if entry.watched:
            prefix, depth = f"steps.{step['name']}", work.call.depth + 1
            watches.append(
                Watch(executor, step, node, prefix, lambda: running.known, running.boundary, work.scope, depth)
            )

    call = Call(
        name,
        entry.named_by(step),
        work.scope,
        step.get("arguments") or {},
        boundary=running.boundary,
        attach=attach,
        plain_name=entry.name,
        local=("steps.name", step["name"]),
        on_exit=work.call.on_exit,
        depth=work.call.depth + 1,
    )
    try:
        task = executor.start(call)
    except TemplateError as error:
        raise _deemed(name, error) from error
    return executor.spawn(_with_hooks(task, watches)) if entry.watched else task


async def _with_hooks(task: asyncio.Task[Node], watches: list[Watch]) -> None:
    try:
        await task
    except (TemplateError, Abandoned):
        for watch in watches:
            await watch.settle()
        raise
    for watch in watches:
        await watch.finish()


def _deemed(name: str, error: TemplateError) -> TemplateError:
    if isinstance(error, (DepthExceeded, HookError)):
        return error
    return TemplateError(f"step group deemed errored due to child {name} error: {error}")


async def _collect(tasks: dict[str, asyncio.Task[Any]]) -> TemplateError | None:
    """Wait for all members of a group; return the first error that one could not be executed for."""
    first: TemplateError | None = None
    if tasks:
        await asyncio.wait(tasks.values())
    for name, task in tasks.items():
        try:
            task.result()
        except (Abandoned, DepthExceeded):
            continue  # there is no node, or one that has failed as any other does
        except TemplateError as error:
            first = first or _deemed(name, error)
    return first


def _take_in(running: _Running, group: Node, entries: list[Entry]) -> None:
    """Make known what the steps of a group gave.

    Raises:
        TemplateError: The results of a loop are not JSON.
    """
    tree = running.executor.tree
    for entry in entries:
        prefix = f"steps.{entry.name}"
        node = tree.named(f"{group['name']}.{entry.name}")
        if node is not None:
            add_node(running.texts, running.artifacts, prefix, node, tree)
            continue
        start = f"{group['name']}.{entry.name}("
        children = [tree.nodes[child] for child in group.get("children") or ()]
        members = [n for n in children if n["type"] != "Skipped" and n["name"].startswith(start)]
        if members:
            add_loop(running.texts, prefix, members)
