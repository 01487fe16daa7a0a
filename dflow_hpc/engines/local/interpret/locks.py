"""Mutexes and semaphores of ``synchronization``, among all workflows that one process interprets.

A request may name several locks; it gets all of them or waits. Among those that wait the higher ``spec.priority`` comes
first, then who came first. A semaphore's limit is read from a ConfigMap when it is asked for.

Not here: locks among processes or machines; those of Argo live in its controller, or in a database of it. What wants
the latter is refused in the words of a controller that has none.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.manifest.view import Json


@dataclass(order=True)
class _Waiting:
    order: tuple[int, int]
    """Lower comes first: the negated priority, then a counter."""
    names: list[str] = field(compare=False)
    holder: str = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)


class Locks:
    """The locks of a process."""

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._holders: dict[str, set[str]] = {}
        self._waiting: list[_Waiting] = []
        self._count = itertools.count()

    async def acquire(
        self,
        wanted: Json,
        holder: str,
        *,
        namespace: str,
        resources: Iterable[Json],
        priority: int = 0,
        on_wait: Callable[[str, str], None],
    ) -> None:
        """Take all locks that a ``synchronization`` names, waiting until they are free.

        Args:
            wanted: The ``synchronization``, tags replaced.
            holder: Who takes them; a name that no other workflow has.
            namespace: Where a lock is that names no namespace itself.
            resources: Documents; the ConfigMaps hold the limits of semaphores.
            priority: The workflow's.
            on_wait: Called once with Argo's message and the lock's name if there is something to wait for.

        Raises:
            TemplateError: A semaphore has no limit, or a lock is in a database.
        """
        names = list(self._names(wanted, namespace, resources))
        blocking = self._blocking(names, self._waiting)
        if blocking is None:
            self._take(names, holder)
            return
        limit = self._limits[blocking]
        free = limit - len(self._holders.get(blocking, ()))
        on_wait(f"Waiting for {blocking} lock. Lock status: {free}/{limit}", blocking)
        entry = _Waiting((-priority, next(self._count)), names, holder, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._waiting.sort()
        try:
            await entry.granted
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            self.release(holder)
            raise

    def check(self, wanted: Json, *, namespace: str, resources: Iterable[Json]) -> None:
        """Raise what ``acquire`` would raise."""
        for _ in self._names(wanted, namespace, resources):
            pass

    def release(self, holder: str) -> None:
        """Give back all that the holder has; whoever waits for it goes on."""
        for holders in self._holders.values():
            holders.discard(holder)
        ahead: list[_Waiting] = []
        for entry in self._waiting:
            if self._blocking(entry.names, ahead) is None:
                self._take(entry.names, entry.holder)
                entry.granted.set_result(None)
            else:
                ahead.append(entry)
        self._waiting = ahead

    def _blocking(self, names: list[str], ahead: Iterable[_Waiting]) -> str | None:
        """Return the first lock that is not free, or that somebody waits for who comes first."""
        taken = {name for entry in ahead for name in entry.names}
        full = (n for n in names if n in taken or len(self._holders.get(n, ())) >= self._limits[n])
        return next(full, None)

    def _take(self, names: list[str], holder: str) -> None:
        for name in names:
            self._holders.setdefault(name, set()).add(holder)

    def _names(self, wanted: Json, namespace: str, resources: Iterable[Json]) -> Iterable[str]:
        mutexes = [*([wanted["mutex"]] if wanted.get("mutex") else []), *(wanted.get("mutexes") or ())]
        semaphores = [*([wanted["semaphore"]] if wanted.get("semaphore") else []), *(wanted.get("semaphores") or ())]
        for semaphore in semaphores:
            where = semaphore.get("namespace") or namespace
            if semaphore.get("database"):
                raise _no_database(f"semaphore {where}/Database/{semaphore['database'].get('key')}")
            reference = semaphore.get("configMapKeyRef") or {}
            name = f"{where}/ConfigMap/{reference.get('name')}/{reference.get('key')}"
            self._limits[name] = _limit(name, reference, resources)
            yield name
        for mutex in mutexes:
            where = mutex.get("namespace") or namespace
            if mutex.get("database"):
                raise _no_database(f"mutex {where}/Database/{mutex.get('name')}")
            name = f"{where}/Mutex/{mutex.get('name')}"
            self._limits[name] = 1
            yield name


def _no_database(lock: str) -> TemplateError:
    return TemplateError(f"database session is not available for {lock}")


def _limit(name: str, reference: Json, resources: Iterable[Json]) -> int:
    for document in resources:
        if document["kind"] == "ConfigMap" and document["metadata"]["name"] == reference.get("name"):
            text = (document.get("data") or {}).get(reference.get("key"))
            try:
                limit = golang.atoi(str(text)) if text is not None else 0
            except ExpressionError:
                limit = 0
            if limit > 0:
                return limit
    raise TemplateError(f"failed to initialize semaphore {name} with limit")
