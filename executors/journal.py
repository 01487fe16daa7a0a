"""The journal: an append-only file of JSON lines, each with a checksum, which is the truth about a run or a machine.

A line is ``{"c":"<8 hex digits>","r":<record>}``; the checksum is the CRC-32 of the record's bytes, seeded with the
checksum of the line before, so that a line that was lost, doubled or moved is noticed as well as one that was altered.
What the records mean is the business of who writes them: the local engine, and the broker of a machine.

Not here: locks. One process writes a journal at a time; for both, who holds the run's ``engine.lock``.

Trap: ``append`` only buffers. Whoever starts something that the journal must know of first calls ``flush`` before.
Nothing is fsynced until ``close``: the page cache outlives the death of every process, and only that is promised.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dflow_hpc.errors import EngineError

Record = dict[str, Any]

_encode = json.JSONEncoder(separators=(",", ":")).encode
_HEAD = len('{"c":"00000000","r":')


class JournalDamaged(EngineError):
    """A line of a journal is not what was written, and it is not the last one."""


def encode(record: Record, previous: int) -> tuple[bytes, int]:
    """Return the line for ``record``, and its checksum.

    Args:
        record: Plain data.
        previous: The checksum of the line before, 0 for the first.
    """
    body = _encode(record).encode("ascii")
    checksum = zlib.crc32(body, previous)
    return b'{"c":"%08x","r":%b}\n' % (checksum, body), checksum


def _decode(line: bytes, previous: int) -> tuple[Record | None, int]:
    """Return the record of a line without its line end and its checksum; None if the line is damaged."""
    body = line[_HEAD:-1]
    checksum = zlib.crc32(body, previous)
    if line[:_HEAD] != b'{"c":"%08x","r":' % checksum or line[-1:] != b"}":
        return None, previous
    record: Record = json.loads(body)
    return record, checksum


class Reader:
    """Reads a journal, once or again and again while another process appends to it."""

    def __init__(self, path: Path):
        self.path = path
        self.offset = 0
        """Bytes that were read as whole, good lines."""
        self.checksum = 0
        self._line = 0

    def read(self) -> list[Record]:
        """Return the records that were added since the last call; see ``each``."""
        return list(self.each())

    def each(self) -> Iterator[Record]:
        """Yield the records that were added since the last one was; those of a file that is not there are none.

        A last line that is torn is left alone: its writer is still at work, or died.

        Raises:
            JournalDamaged: A line that others follow is not what was written.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self.offset)
            for line in file:
                record, checksum = _decode(line[:-1], self.checksum) if line[-1:] == b"\n" else (None, 0)
                if record is None:
                    if b"\n" not in file.read():
                        return  # the last line: torn when the machine went down
                    raise JournalDamaged(
                        f"the journal {self.path} was read; its line {self._line + 1} (byte {self.offset}) was altered "
                        f"or lost after it was written, so what follows cannot be trusted. Restore the file, or move "
                        f"it away and run the workflow anew; the {self._line} lines before it are good."
                    )
                self.offset += len(line)
                self.checksum = checksum
                self._line += 1
                yield record


class Journal:
    """Appends to a journal, one ``write`` a batch.

    Opening one drops its torn last line; ``records`` then holds what it had.

    Args:
        path: The file; made when it is not there.
        defer: How to have ``flush`` called soon, such as ``loop.call_soon``; without it the owner calls it.
        on_failure: Called once with the error when writing fails (a full disk). What was not written is kept and tried
            again by the next ``flush``.
    """

    def __init__(
        self,
        path: Path,
        *,
        defer: Callable[[Callable[[], object]], object] | None = None,
        on_failure: Callable[[OSError], None] | None = None,
    ):
        reader = Reader(path)
        self.records = reader.read()
        self._path = path
        self.failure: OSError | None = None
        self._checksum = reader.checksum
        self._defer = defer
        self._on_failure = on_failure
        self._buffer = bytearray()
        self._frozen = False
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._fd, reader.offset)

    def append(self, record: Record) -> None:
        """Add a record to the batch."""
        if self._frozen:
            return
        line, self._checksum = encode(record, self._checksum)
        if not self._buffer and self._defer is not None:
            self._defer(self.flush)
        self._buffer += line

    def flush(self) -> bool:
        """Write what was appended; when it returns true the file has all of it, whatever process dies then."""
        while self._buffer:
            try:
                written = os.write(self._fd, self._buffer)
            except OSError as error:
                if self.failure is None:
                    self.failure = error
                    if self._on_failure is not None:
                        self._on_failure(error)
                return False
            del self._buffer[:written]
        self.failure = None
        return True

    def replace(self, records: Iterable[Record]) -> bool:
        """Begin anew with records that say all that was written and appended so far; no reader may be half-way.

        Where that cannot be written (a full disk), the file stays as it is, and is appended to.
        """
        part, checksum, lines = self._path.with_name(f"{self._path.name}.part"), 0, bytearray()
        for record in records:
            line, checksum = encode(record, checksum)
            lines += line
        new = -1
        try:
            new = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
            view = memoryview(lines)
            while view:
                view = view[os.write(new, view) :]
            os.fsync(new)  # a name that was moved to a file without its content would lose all of it
            part.replace(self._path)
        except OSError:
            if new >= 0:
                os.close(new)
            return False
        os.close(self._fd)
        self._fd, self._checksum = new, checksum
        self._buffer.clear()
        return True

    def freeze(self) -> None:
        """Take no more records: what the dying parts of an interrupted run report is no result."""
        self._frozen = True

    def close(self) -> None:
        """Write what is left, bring the file to the disk and close it.

        Raises:
            OSError: It cannot be written.
        """
        if self._fd < 0:
            return
        try:
            if not self.flush() and self.failure is not None:
                raise self.failure
            os.fsync(self._fd)
        finally:
            os.close(self._fd)
            self._fd = -1
