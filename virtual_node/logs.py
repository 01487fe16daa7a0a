"""What a container wrote, as ``kubectl logs`` asks for it: its end, since when, with times, while it grows.

A job's log is a file here that grows while somebody looks (``executors/broker/follow.py``) and is whole at the end. It
has no times: a line counts as written when this process first saw that it is here, which is noted beside it.

Not here: HTTP (``kubelet_api.py``); who has the file brought (``pods.py``).

Trap: a requeued job begins its log anew: a file that has become shorter is another one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

_BLOCK = 65_536
_NOTE = "log.times"
_lock = threading.Lock()
"""Of all notes: two who look at one log must not both note the same."""


@dataclass(frozen=True)
class Options:
    """What of a log is wanted."""

    follow: bool = False
    tail: int | None = None
    """Only so many of the last lines."""
    since: float | None = None
    """Only what came later, in seconds since the epoch."""
    timestamps: bool = False
    limit: int | None = None
    """Bytes, after which it ends."""
    previous: bool = False

    @classmethod
    def read(cls, query: Mapping[str, str], now: float) -> Options:
        """Return what the parameters of a request say; those of ``PodLogOptions``.

        Raises:
            ValueError: One of them is not what it should be.
        """
        since = None
        if "sinceSeconds" in query:
            since = now - int(query["sinceSeconds"])
        elif "sinceTime" in query:
            since = datetime.fromisoformat(query["sinceTime"]).timestamp()
        return cls(
            follow=_flag(query, "follow"),
            tail=_number(query, "tailLines"),
            since=since,
            timestamps=_flag(query, "timestamps"),
            limit=_number(query, "limitBytes"),
            previous=_flag(query, "previous"),
        )


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1", "t")


def _number(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    number = int(query[name])
    if number < 0:
        raise ValueError(f"{name} is {number}")
    return number


class LogReader:
    """Reads one log for one who asked.

    Args:
        path: The log; it may not be there yet.
        options: What of it.
    """

    def __init__(self, path: Path, options: Options):
        self._path = path
        self._options = options
        self._place: int | None = None
        self._left = options.limit

    @property
    def full(self) -> bool:
        """Whether as much came as was asked for."""
        return self._left == 0

    def read(self, *, last: bool) -> Iterator[bytes]:
        """Yield what came since the last call: whole lines, unless it is the ``last``."""
        if not self._path.exists():
            return
        size, times = noted(self._path)
        with self._path.open("rb") as file:
            if self._place is None:
                begin = next((before for before, _end, at in times if at >= (self._options.since or 0.0)), size)
                self._place = max(begin, _tail(file, size, self._options.tail))
            if self._place > size:
                self._place = 0
            file.seek(self._place)
            while self._place < size and not self.full:
                line = file.readline(min(_BLOCK, size - self._place))
                if not line.endswith(b"\n") and len(line) < _BLOCK and not last:
                    break
                yield self._cut(self._stamp(times) + line)
                self._place += len(line)

    def _stamp(self, times: list[tuple[int, int, float]]) -> bytes:
        if not self._options.timestamps:
            return b""
        at = next(at for _begin, end, at in times if end > (self._place or 0))
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()

    def _cut(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        data = data[: self._left]
        self._left -= len(data)
        return data


def noted(path: Path) -> tuple[int, list[tuple[int, int, float]]]:
    """Return a log's size, and which bytes came when: begin, end, seconds since the epoch. What is new is noted."""
    note = path.with_name(_NOTE)
    with _lock:
        lines = note.read_text().splitlines() if note.exists() else []
        known = [(int(end), float(at)) for end, at in (line.split() for line in lines)]
        found = path.stat()
        if known and known[-1][0] > found.st_size:
            known = []
            note.unlink()
        if (known[-1][0] if known else 0) < found.st_size:
            known.append((found.st_size, found.st_mtime))
            with note.open("a") as file:
                file.write(f"{found.st_size} {found.st_mtime}\n")
    begins = [0, *(end for end, _ in known)]
    return found.st_size, [(begin, end, at) for begin, (end, at) in zip(begins, known, strict=False)]


def _tail(file: IO[bytes], size: int, lines: int | None) -> int:
    """Return where the last lines of a file begin."""
    if lines is None:
        return 0
    if lines == 0:
        return size
    data, place = b"", size
    while place > 0 and data.count(b"\n", 0, -1) < lines:
        step = min(_BLOCK, place)
        place -= step
        file.seek(place)
        data = file.read(step) + data
    ends = [number for number, byte in enumerate(data[:-1]) if byte == 0x0A]
    return place + ends[-lines] + 1 if len(ends) >= lines else place
