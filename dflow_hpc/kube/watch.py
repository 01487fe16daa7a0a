"""Changes of a list of objects, with no gap and nothing twice, over links that break.

A watch starts at the version of a list and remembers the version of the last thing that it saw. When its link is cut,
it is taken up there; when the server does not know that version any more (410 Gone), the list is read anew and compared
with what was seen. Each event is then either new or left out.

Not here: HTTP (``connection.py``). ``follow`` gets its two sources as functions, and is tried against simulated ones.

Trap: versions are opaque: they can be compared for equality, never ordered. After a list that was read anew, changes
in between are one change: what counts is the state, not its history.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dflow_hpc.kube.errors import Gone, Unreachable

Object = dict[str, Any]

PATIENCE = 600.0
"""Seconds for which nothing but failures may come before the watch gives up."""


@dataclass(frozen=True)
class Event:
    """What became of an object."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object
    """As it is now; of a deleted one, as it was last seen."""
    missed: bool = False
    """Nobody saw it go: it is missing from a list that was read anew."""


def follow(
    list_: Callable[[], tuple[list[Object], str]],
    stream: Callable[[str, float | None], Iterator[Object]],
    *,
    seconds: float | None = None,
    patience: float = PATIENCE,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Event]:
    """Yield what there is, as ADDED, and then each change, until whoever asks ends it.

    Args:
        list_: Returns the objects and the version of their list.
        stream: Yields the server's events (``{"type", "object"}``) from a version on, for so many seconds at most
            (None: as long as the server likes). It ends when the server ends it, and raises ``Unreachable`` or
            ``Gone``.
        seconds: After how many it ends; None: never.
        patience: Seconds for which nothing but failures may come.
        pause: Waits before another attempt.
        clock: Returns seconds.

    Raises:
        Unreachable: Nothing but failures came for ``patience`` seconds.
        KubeError: What was asked is refused.
    """
    seen: dict[str, Object] = {}
    version: str | None = None
    since, delay = clock(), 0.2
    end = None if seconds is None else since + seconds
    while end is None or clock() < end:
        try:
            if version is None:
                items, version = list_()
                yield from _differences(seen, items)
            for event in stream(version, None if end is None else end - clock()):
                version = event["object"]["metadata"]["resourceVersion"]
                since, delay = clock(), 0.2
                if event["type"] != "BOOKMARK" and (change := _change(seen, event)):
                    yield change
            since = clock()  # the server ended it, as it does now and then
        except Gone:
            version = None
            continue
        except Unreachable:
            if clock() - since > patience:
                raise
        pause(delay if end is None else max(0.0, min(delay, end - clock())))
        delay = min(2 * delay, 10.0)


def _differences(seen: dict[str, Object], items: list[Object]) -> Iterator[Event]:
    """Yield what a list that was read anew has that was not seen, and note it."""
    there = {item["metadata"]["uid"] for item in items}
    for uid in [uid for uid in seen if uid not in there]:
        yield Event("DELETED", seen.pop(uid), missed=True)
    for item in items:
        if change := _change(seen, {"type": "MODIFIED", "object": item}):
            yield change


def _change(seen: dict[str, Object], event: Object) -> Event | None:
    """Return what an event of the server's means for who saw what was seen, and note it; None: nothing new."""
    item = event["object"]
    uid = item["metadata"]["uid"]
    before = seen.get(uid)
    if event["type"] == "DELETED":
        seen.pop(uid, None)
        return Event("DELETED", item) if before is not None else None
    seen[uid] = item
    if before is None:
        return Event("ADDED", item)
    if before["metadata"]["resourceVersion"] == item["metadata"]["resourceVersion"]:
        return None
    return Event("MODIFIED", item)
