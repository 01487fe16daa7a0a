"""Hooks and exit handlers of steps and tasks: what runs because of what a node does.

A hook fires once, when its expression first holds, and runs beside the node; the exit handler runs when the node has
completed. Whoever comes after the node waits for both. How they end changes nothing for it.

Trap: the variables of the watched node itself are known to its hooks only; everybody else gets them when it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dflow_hpc.engines.local.interpret.call import Call
from dflow_hpc.engines.local.interpret.errors import Abandoned, HandlerError, HookError, TemplateError
from dflow_hpc.engines.local.interpret.names import Known, add_outputs, last_attempt
from dflow_hpc.engines.local.interpret.slots import Boundary
from dflow_hpc.engines.local.interpret.templates import Scope
from dflow_hpc.manifest.view import COMPLETED, Json, Node

if TYPE_CHECKING:
    from dflow_hpc.engines.local.interpret.execute import Executor


def exit_hook(step: Json, arguments: Json) -> Json | None:
    """Return the exit handler of a step, a task or a workflow's spec; None when it has none.

    Args:
        step: It.
        arguments: The workflow's arguments, which a handler without any of its own gets.
    """
    if step.get("onExit"):
        return {"template": step["onExit"], "arguments": arguments}
    hook: Json | None = (step.get("hooks") or {}).get("exit")
    return hook if hook is None or hook.get("arguments") else {**hook, "arguments": arguments}


def hook_holder(hook: Json) -> Json:
    """Return what names the template of a hook."""
    return {key: hook[key] for key in ("template", "templateRef") if hook.get(key)}


class Watch:
    """The hooks of one node.

    Args:
        executor: Runs them.
        step: The step or task, substituted.
        node: What is watched.
        prefix: ``steps.<name>`` or ``tasks.<name>``: what the hooks call the node.
        known: Returns what the hooks may name beside the node.
        boundary: The node whose template lists the step.
        scope: Where their templates are looked up.
        depth: How deeply they are nested.
    """

    def __init__(
        self,
        executor: Executor,
        step: Json,
        node: Node,
        prefix: str,
        known: Callable[[], Known],
        boundary: Boundary,
        scope: Scope,
        depth: int,
    ) -> None:
        self._executor, self._step, self._node, self._prefix = executor, step, node, prefix
        self._known, self._boundary, self._scope, self._depth = known, boundary, scope, depth
        self._pending: dict[str, Json] = {k: v for k, v in (step.get("hooks") or {}).items() if k != "exit"}
        self._running: list[asyncio.Task[Any]] = []
        self._error: TemplateError | None = None
        executor.watchers[node["id"]] = self._look
        self._look()

    async def settle(self) -> None:
        """Wait for the hooks that were fired."""
        self._executor.watchers.pop(self._node["id"], None)
        for task in self._running:
            # One that could not be executed has a node that says so, and that is all there is to it.
            with suppress(TemplateError, Abandoned):
                await task

    async def finish(self) -> None:
        """Wait for the hooks of a node that has ended, then run its exit handler and wait for that.

        Raises:
            HookError: A hook could not be executed; HandlerError: the exit handler could not.
        """
        await self.settle()
        if self._error is not None:
            raise HookError(str(self._error)) from self._error
        hook = exit_hook(self._step, self._executor.arguments)
        if hook is None or self._node["phase"] not in COMPLETED or self._executor.shutdown == "Terminate":
            return
        known = self._all_known()
        try:
            if not hook.get("expression") or known.condition(hook["expression"]):
                await self._start(f"{self._node['name']}.onExit", hook, known, on_exit=True)
        except TemplateError as error:
            raise HandlerError(str(error)) from error

    def _look(self) -> None:
        """Start the hooks whose expression holds now."""
        try:
            for name, hook in list(self._pending.items()):
                known = self._all_known()
                if known.condition(hook.get("expression") or ""):
                    del self._pending[name]
                    self._running.append(self._start(f"{self._node['name']}.hooks.{name}", hook, known))
        except TemplateError as error:
            self._error = error

    def _start(self, name: str, hook: Json, known: Known, on_exit: bool = False) -> asyncio.Task[Node]:
        call = Call(
            name,
            hook_holder(hook),
            self._scope,
            _arguments(hook.get("arguments") or {}, known),
            boundary=self._boundary,
            attach=lambda made: self._executor.tree.add_child(self._node["id"], made["id"]),
            plain_name=name.rpartition(".")[2],
            hooked=True,
            on_exit=on_exit,
            depth=self._depth,
        )
        return self._executor.start(call)

    def _all_known(self) -> Known:
        texts: dict[str, Any] = {}
        artifacts: dict[str, Any] = {}
        add_outputs(texts, artifacts, self._prefix, last_attempt(self._node, self._executor.tree).get("outputs"))
        root = self._prefix.partition(".")[0]
        texts[f"{self._prefix}.status"] = texts[f"{root}.{self._node['displayName']}.status"] = self._node["phase"]
        return self._known().over(texts, artifacts)


def _arguments(arguments: Json, known: Known) -> Json:
    """Return a hook's arguments with their references replaced.

    Raises:
        TemplateError: One cannot be.
    """
    return resolve_artifacts(known.substitute(arguments), known, "unable to resolve references: ")


def resolve_artifacts(arguments: Json, known: Known, complaint: str = "") -> Json:
    """Return arguments in which every ``from`` is an artifact; optional ones that are not there are left out.

    Raises:
        TemplateError: One is not there and is not optional.
    """
    if not arguments.get("artifacts"):
        return arguments
    made = []
    for artifact in arguments["artifacts"]:
        if not artifact.get("from") and not artifact.get("fromExpression"):
            made.append(artifact)
            continue
        try:
            made.append(known.artifact(artifact))
        except TemplateError as error:
            if not artifact.get("optional"):
                raise TemplateError(f"{complaint}{error}") from error
    return {**arguments, "artifacts": made}
