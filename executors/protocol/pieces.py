"""Files that many leaves share: each goes to a machine once, into the cache there, and is linked into the leaves.

A file is known by the SHA-256 of its content, and by whether it can be executed, since a link has no mode of its own.

Not here: when a piece must be sent (``remote.py``), how it gets into a leaf (``stage.sh``).

Trap: a program that writes into its inputs would write into everybody's. ``own`` names those that it may write: they
are copied. Any other that changed in place is found out at the leaf's end, and leaves the cache.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGE = 64 << 10
"""Bytes from which on a file is shared; below that the list of pieces would cost as much as the files."""


@dataclass(frozen=True)
class Piece:
    """A file of a leaf that lies in the cache."""

    sha256: str
    executable: bool
    size: int
    """Bytes."""
    source: Path
    """The file here."""

    @property
    def name(self) -> str:
        """Its name in the cache."""
        return self.sha256 + "x" * self.executable


class Digests:
    """Hashes of files, each computed once as long as the file does not change."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int], str] = {}
        self._lock = threading.Lock()

    def of(self, path: str, found: os.stat_result) -> str:
        """Return the SHA-256 of a file, in hexadecimal.

        Args:
            path: The file.
            found: What ``stat`` says of it.
        """
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            known = self._known.get(identity)
        if known is None:
            with Path(path).open("rb") as file:
                known = hashlib.file_digest(file, "sha256").hexdigest()
            with self._lock:
                self._known[identity] = known
        return known


DIGESTS = Digests()
"""Of this process: machines that get the same files share it."""


class Pieces:
    """The pieces of one leaf, found while it is packed.

    Args:
        own: Paths below the leaf's directory that the program may write to; what lies at or below them is copied.
        pulls: What of the inputs lies in an object storage, as ``machines.py`` of the engine lists it.
    """

    def __init__(self, own: Sequence[str] = (), pulls: Sequence[Mapping[str, Any]] = ()):
        self._own = tuple(own)
        self._lines: list[str] = []
        self.found: list[Piece] = []
        for pull in pulls:
            self._pull(pull)

    def _pull(self, pull: Mapping[str, Any]) -> None:
        kind = {"tgz": "untar", "dir": "dir"}.get(pull["form"], "copy" if self._is_own(pull["path"]) else "link")
        if pull.get("sub_path"):
            self._lines.append(f"sub/-/-/{pull['sub_path']}\n")
        self._lines.append(f"{kind}/{pull['sha256'] or '-'}/644/{pull['path']}\n")

    def _is_own(self, below: str) -> bool:
        return any(below == name or below.startswith(name + "/") for name in self._own)

    def take(self, below: str, path: str, found: os.stat_result) -> bool:
        """Take a file, unless it is too small for that.

        Args:
            below: Its path in the leaf's directory.
            path: The file here.
            found: What ``stat`` says of it.
        """
        if found.st_size < LARGE or "\n" in below:
            return False
        piece = Piece(DIGESTS.of(path, found), bool(found.st_mode & 0o100), found.st_size, Path(path))
        mode = found.st_mode & 0o777 | 0o600
        self._lines.append(f"{'copy' if self._is_own(below) else 'link'}/{piece.name}/{mode:o}/{below}\n")
        self.found.append(piece)
        return True

    def listed(self) -> str:
        """Return the lines ``KIND/NAME/MODE/PATH`` that ``stage.sh`` reads; a slash keeps blanks in names."""
        return "".join(self._lines)
