"""What the API server is told of pods: of each pod one thing after the other, until the server has taken it.

A pod's news wait for an API server that is away; of those that wait only the latest is sent. After the last one (the
pod has ended) nothing more is said of that pod.

Not here: what a status looks like (``status.py``).

Trap: the calls block, for as long as a connection tries again. They have threads of their own, so that an API server
that is away keeps no job from being packed or taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from dflow_hpc.kube import PODS, Cluster, Conflict, KubeError, NotFound

Object = dict[str, Any]
_T = TypeVar("_T")

_THREADS = 6
_FIRST, _LONGEST = 1.0, 30.0
"""Seconds between two attempts."""
_NEVER = frozenset({400, 413, 422})
"""Statuses of a request that will be refused for ever."""


@dataclass
class _Line:
    """What one pod has to say."""

    pod: Object
    next: Object | None = None
    last: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Reports:
    """Tells the API server of pods.

    Args:
        cluster: Returns the objects of a namespace.
        say: Called with what the administrator should know.
        first: Seconds before a request is made again that was not answered; they double.
    """

    def __init__(self, cluster: Callable[[str], Cluster], say: Callable[[str], None], *, first: float = _FIRST):
        self._cluster = cluster
        self._say = say
        self._first = first
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="api")
        self._lines: dict[str, _Line] = {}
        self._trouble = ""
        self.sent = 0
        """Statuses that the API server has taken."""

    def tell(self, pod: Object, status: Object, *, last: bool = False) -> None:
        """Set a pod's status soon, unless the last one was told.

        Args:
            pod: The pod; another one of its name is not touched.
            status: Its status.
            last: Nothing may follow.
        """
        line = self._lines.setdefault(pod["metadata"]["uid"], _Line(pod))
        if line.last:
            return
        line.next, line.last = status, last
        if line.task is None or line.task.done():
            line.task = asyncio.create_task(self._send(line))

    async def told(self, uid: str) -> None:
        """Wait until the API server knows all that was told of a pod."""
        line = self._lines.get(uid)
        if line is not None and line.task is not None:
            await asyncio.shield(line.task)

    async def forget(self, uid: str) -> None:
        """Say no more of a pod."""
        line = self._lines.pop(uid, None)
        if line is not None and line.task is not None:
            line.task.cancel()
            await asyncio.gather(line.task, return_exceptions=True)

    async def _send(self, line: _Line) -> None:
        metadata = line.pod["metadata"]
        cluster = self._cluster(metadata["namespace"])

        def patch() -> Object | None:
            latest = line.next
            change = {"metadata": {"uid": metadata["uid"]}, "status": latest}
            cluster.patch(PODS, metadata["name"], change, part="status")
            return latest

        while line.next is not None:
            try:
                sent = await self.persist(patch)
            except (NotFound, Conflict):
                line.next = None  # it is gone
            except KubeError as error:
                line.next = None
                self._say(f"pod {metadata['namespace']}/{metadata['name']}: {error}")
            else:
                self.sent += 1
                if line.next is sent:
                    line.next = None

    async def ask(self, call: Callable[..., _T], *args: Any, **named: Any) -> _T:
        """Make a call that blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **named))

    async def persist(
        self, call: Callable[..., _T], *args: Any, trouble: Callable[[str], None] = lambda _why: None, **named: Any
    ) -> _T:
        """Make a call until the API server answers it.

        Args:
            call: Asks the API; it must bear being done twice.
            args: Its arguments.
            trouble: Called with why there is no answer yet, each time.
            named: Its arguments.

        Raises:
            NotFound: See there.
            Conflict: See there.
            KubeError: The server will never take it.
        """
        pause = self._first
        while True:
            try:
                answer = await self.ask(call, *args, **named)
            except (NotFound, Conflict):
                raise
            except KubeError as error:
                if error.status in _NEVER:
                    raise
                self._note(str(error))
                trouble(str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST)
            else:
                self._note("")
                return answer

    def _note(self, trouble: str) -> None:
        """Say when the API server begins to refuse or be silent, and when that is over."""
        if bool(trouble) != bool(self._trouble):
            self._say(trouble or "the API server answers again")
        self._trouble = trouble

    async def close(self) -> None:
        """Stop telling; what was not sent is told by the next life."""
        for uid in list(self._lines):
            await self.forget(uid)
        self._threads.shutdown(wait=False, cancel_futures=True)
