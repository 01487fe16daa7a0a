"""What the node's API may ask of its pods, from threads of its own.

Not here: HTTP (``kubelet_api.py``), pods (``pods.py``).

Trap: pods and broker belong to the event loop; each question goes there and waits for its answer.
"""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dflow_hpc.errors import DflowError
from dflow_hpc.executors.broker.broker import Broker
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.executors.transport import Answer
from dflow_hpc.virtual_node.metrics import Numbers
from dflow_hpc.virtual_node.pods import Pods

Object = dict[str, Any]
_T = TypeVar("_T")

_SECONDS = 30.0
_AT_ONCE = 2
"""Commands in jobs at once: each has a channel of the one login, which the rounds need too."""


class Refused(DflowError):
    """What was asked of a pod cannot be done."""


class Inside:
    """The pods of a node, for those who ask from other threads.

    Args:
        loop: Where the pods live.
        pods: They.
        broker: Of the node's account.
        site: The machine.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pods: Pods, broker: Broker, site: RemoteSite):
        self._loop = loop
        self._pods = pods
        self._broker = broker
        self._site = site
        self._commands = threading.BoundedSemaphore(_AT_ONCE)

    def _there(self, call: Callable[[], _T]) -> _T:
        async def work() -> _T:
            return call()

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(_SECONDS)

    def pods(self) -> list[Object]:
        """Return the pods that the API server shows."""
        return self._there(lambda: list(self._pods.shown.values()))

    def find(self, namespace: str, name: str) -> Object | None:
        """Return a pod; None where there is none."""

        def named(pod: Object) -> bool:
            return (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (namespace, name)

        return next((pod for pod in self.pods() if named(pod)), None)

    def log(self, uid: str, container: str) -> Path | None:
        """Return the file of what a container writes; None where nobody keeps that."""
        return self._pods.log_of(uid, container)

    def follow(self, uid: str) -> bool:
        """Have what a pod writes brought for a while; return whether it has ended, and all is here."""
        return self._there(lambda: self._pods.follow(uid))

    def stop(self, uid: str) -> None:
        """End what a pod runs; its status says how it ended."""
        self._there(lambda: self._pods.stop(uid))

    def run(self, uid: str, words: Sequence[str], stdin: bytes) -> Answer:
        """Run a command in the environment of a pod's job, to its end.

        Raises:
            Refused: There is no such job, or its scheduler gives no way into it.
            HostUnreachable: Nobody knows whether it ran.
        """
        place = self._there(lambda: self._broker.place(self._pods.key_of(uid)))
        if place is None:
            raise Refused(f"{shlex.join(words)!r} was to be run in the pod's job, which does not run. See its status.")
        if not self._commands.acquire(blocking=False):
            raise Refused(f"{_AT_ONCE} commands run in jobs of this node already; ask again when one has ended.")
        try:
            answer = self._site.run_inside(*place, words, stdin)
        finally:
            self._commands.release()
        if answer is None:
            raise Refused(
                f"{shlex.join(words)!r} was to be run in the pod's job; its scheduler gives no way into a job that "
                "runs. Log in to the machine."
            )
        return answer

    def numbers(self) -> Numbers:
        """Return what ``/metrics`` tells."""
        transport = self._site.transport
        return self._there(
            lambda: Numbers(
                pods=list(self._pods.shown.values()),
                asked=dict(self._broker.asked),
                orphans=len(self._pods.orphans),
                statuses=self._pods.reports.sent,
                paused=bool(self._broker.dispatcher.paused),
                jobs=len(self._broker.dispatcher.open),
                logins=transport.logins,
                commands=transport.commands,
                sent=transport.sent,
                received=transport.received,
            )
        )
