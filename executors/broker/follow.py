"""Logs of jobs that run: brought in pieces while somebody looks, over the link that is there anyway.

``Logs`` is the site's side: how far each log is here, the command that brings what is new, and how the end of a log,
which comes with the marker, is joined to what was followed. ``Follower`` is the broker's: it looks every few seconds,
at the logs of leaves that somebody has asked for a short while ago.

Trap: a requeue begins the log anew, and a long log is not brought whole: a place in the file here is not the same place
there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dflow_hpc.errors import ExecutorError

LEASE = 20.0
"""Seconds for which a leaf is followed after somebody asked for it."""
_PAUSE = 3.0
_MOST = 262_144
"""Bytes that one look brings of one log; of more, only the last ones come."""
_END = 65_536

# "o" is where the answer begins, "s" how long the log is. A log that became shorter is another one: from its start.
_LOOK = (
    "o={offset}; f={file}; s=0; [ ! -e $f ] || s=$(($(wc -c <$f))); [ $o -le $s ] || o=0; "
    "[ $((s - o)) -le {most} ] || o=$((s - {end})); echo $o $s; "
    "[ $s -eq $o ] || tail -c +$((o + 1)) $f | head -c $((s - o))"
)


class Logs:
    """How far the logs of jobs were brought. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: dict[str, int | None] = {}
        """By token: the place there up to which its log is here; None once it is here to its end."""

    def forget(self, tokens: Iterable[str]) -> None:
        """Remember no more of the logs of jobs that have ended."""
        with self._lock:
            for token in tokens:
                self._offsets.pop(token, None)

    def command(self, token: str, directory: str) -> str:
        """Return the shell command that brings what is new.

        Args:
            token: The job's.
            directory: The leaf's there, absolute.
        """
        with self._lock:
            offset = self._offsets.setdefault(token, 0) or 0
        return _LOOK.format(offset=offset, file=shlex.quote(f"{directory}/log.txt"), most=_MOST, end=_END)

    def take(self, token: str, answer: bytes, log: Path) -> None:
        """Add to a log what the command gave. The file's time says that it was looked at, also where nothing came.

        Args:
            token: The job's.
            answer: The command's stdout.
            log: The file here.
        """
        head, _, data = answer.partition(b"\n")
        begin = int(head.split()[0]) if head else 0
        with self._lock:
            known = self._offsets.get(token)
            if known is None:  # its end has come meanwhile
                return
            if begin > known:
                data = _left_out(begin - known) + data
            with log.open("wb" if known == 0 or begin < known else "ab") as file:
                file.write(data)
            os.utime(log)
            self._offsets[token] = int(head.split()[1]) if head else known

    def join(self, token: str, log: Path, tail: Path, size: int | None) -> None:
        """Join the end of a long log, which has come with the marker, to what was followed of it.

        Args:
            token: The job's.
            log: The file here.
            tail: The file with the end, which is taken away; without it the whole log has come.
            size: Bytes of the whole log there; None where the job did not say.
        """
        with self._lock:
            known = self._offsets.get(token)
            if token in self._offsets:
                self._offsets[token] = None
            if not tail.exists():
                return
            if not known or size is None or not log.exists():
                tail.replace(log)
                return
            end = tail.read_bytes()
            begin = size - len(end)
            with log.open("ab") as file:
                file.write(end[known - begin :] if known >= begin else _left_out(begin - known) + end)
            tail.unlink()


def _left_out(size: int) -> bytes:
    return b"\n[%d bytes are left out here; the machine has them]\n" % size


class Follower:
    """Looks at the logs of leaves as long as somebody asks for them.

    Args:
        peek: Brings what is new in the logs of jobs, by token and leaf's directory; blocks.
        running: Gives the jobs that run now of these leaves, by token, with their directories.
        clock: Seconds; only differences count.
    """

    def __init__(
        self,
        peek: Callable[[Mapping[str, Path]], None],
        running: Callable[[set[str]], dict[str, Path]],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._peek = peek
        self._running = running
        self._clock = clock
        self._until: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def follow(self, key: str) -> None:
        """Look at a leaf's log from now on, for ``LEASE`` seconds."""
        self._until[key] = self._clock() + LEASE
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while wanted := {key for key, until in self._until.items() if until > self._clock()}:
            if jobs := self._running(wanted):
                with contextlib.suppress(ExecutorError):  # the next look, or the broker's round, will tell
                    await asyncio.to_thread(self._peek, jobs)
            await asyncio.sleep(_PAUSE)
        self._until.clear()

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
