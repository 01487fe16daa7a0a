"""Limits: how many nodes may be active at once, in a Steps or DAG template and in the whole workflow.

A node over a limit is not made yet; it waits here, first come, first served. A slot belongs to one node that is active
(an attempt, where there are retries) and is given back when that node has ended.

Trap: ``failFast`` of a *template* (not ``dag.failFast``) lives here too: after a failure in it nothing more starts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from dflow_hpc.engines.local.interpret.errors import Abandoned
from dflow_hpc.engines.local.interpret.templates import Template
from dflow_hpc.manifest.view import Node

_Waiting = deque["tuple[asyncio.Future[None], bool]"]


@dataclass(eq=False)
class Boundary:
    """A Steps or DAG node that runs, as its direct children see it."""

    node: Node
    template: Template
    active: int = 0
    failed: int = 0
    waiting: _Waiting = field(default_factory=deque)

    @property
    def limit(self) -> int | None:
        """The template's ``parallelism``."""
        value = self.template.json.get("parallelism")
        return None if value is None else int(value)

    @property
    def fail_fast(self) -> bool:
        """Whether a failed child keeps others from starting, and fails the node."""
        return self.template.json.get("failFast") is True

    @property
    def failing(self) -> bool:
        """Whether it will fail because a child did."""
        return self.fail_fast and self.failed > 0


class Slots:
    """The slots of a workflow."""

    def __init__(self) -> None:
        self.limit: int | None = None
        """``spec.parallelism``: how many Pods may be active, None for no limit."""
        self._active = 0
        self._waiting: _Waiting = deque()

    def take(self, boundary: Boundary | None, pod: bool) -> bool:
        """Take a slot if one is free and nobody waits for it.

        Args:
            boundary: The node that it would be a child of.
            pod: Whether it is a Pod, which counts in the whole workflow.

        Raises:
            Abandoned: A sibling has failed and the template fails fast.
        """
        if boundary is not None:
            if boundary.failing:
                raise Abandoned
            if boundary.limit is not None and (boundary.waiting or boundary.active >= boundary.limit):
                return False
        if self.limit is not None and (self._waiting or self._active >= self.limit):
            return False
        if boundary is not None:
            boundary.active += 1
        self._active += pod
        return True

    async def wait(self, boundary: Boundary | None, pod: bool) -> None:
        """Wait for a slot and take it.

        Raises:
            Abandoned: A sibling failed meanwhile and the template fails fast.
        """
        if boundary is not None:
            if boundary.failing:
                raise Abandoned
            if boundary.limit is not None and (boundary.waiting or boundary.active >= boundary.limit):
                await _queue(boundary.waiting, pod)
            else:
                boundary.active += 1
        await self._enter(pod)

    async def again(self, boundary: Boundary | None, pod: bool) -> None:
        """Take a slot for a further attempt: only the workflow's limit counts, the template let it in already."""
        if boundary is not None:
            boundary.active += 1
        await self._enter(pod)

    def give_back(self, boundary: Boundary | None, pod: bool, failed: bool) -> None:
        """Give back a slot, because the node has ended."""
        if boundary is not None:
            boundary.active -= 1
            boundary.failed += failed
            if boundary.failing:
                for future, _ in boundary.waiting:
                    if not future.done():
                        future.set_exception(Abandoned())
                boundary.waiting.clear()
            limit = boundary.limit
            while boundary.waiting and limit is not None and boundary.active < limit:
                boundary.active += _wake(boundary.waiting) is not None
        if pod:
            self._active -= 1
        while self._waiting and self.limit is not None and self._active < self.limit:
            self._active += _wake(self._waiting) is True  # what is no Pod passes without taking one

    async def _enter(self, pod: bool) -> None:
        if self.limit is not None and (self._waiting or self._active >= self.limit):
            await _queue(self._waiting, pod)
        elif pod:
            self._active += 1


async def _queue(waiting: _Waiting, pod: bool) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting.append((future, pod))
    await future


def _wake(waiting: _Waiting) -> bool | None:
    """Wake the first that still waits; return whether it is a Pod, None when nobody waited."""
    future, pod = waiting.popleft()
    if future.done():
        return None
    future.set_result(None)
    return pod
