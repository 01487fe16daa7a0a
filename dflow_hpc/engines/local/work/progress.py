"""Progress of leaves: each reports ``n/m`` in a file of its own, all in one directory, watched by one inotify.

Argo looks at such a file every few seconds; here the kernel tells, and a leaf that reports nothing costs nothing.

Not here: what the numbers mean for the tree.

Trap: the file is named by the node's id, and a program may rewrite it in place, so a read may see a part of the text;
what is not ``n/m`` is skipped, and the last text is read once more when the leaf has ended.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
from collections.abc import Callable
from pathlib import Path

_IN_CLOSE_WRITE = 0x8
_IN_MOVED_TO = 0x80
_HEADER = 16
"""Bytes before the name in struct inotify_event: wd, mask, cookie, length of the name."""


class ProgressWatch:
    """Watches the directory of progress files.

    Args:
        directory: It is made.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._fd = -1
        self._seen: set[str] = set()

    def start(self, tell: Callable[[str, str], None]) -> None:
        """Call ``tell(node id, "n/m")`` from the running loop whenever a leaf reports.

        Raises:
            OSError: The kernel gives no inotify (limits of the user).
        """
        self._directory.mkdir(exist_ok=True)
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1 for progress files; see /proc/sys/fs/inotify")
        if libc.inotify_add_watch(self._fd, os.fsencode(self._directory), _IN_CLOSE_WRITE | _IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(self._directory))
        asyncio.get_running_loop().add_reader(self._fd, self._on_event, tell)

    def _on_event(self, tell: Callable[[str, str], None]) -> None:
        data = os.read(self._fd, 1 << 16)
        names = []
        while data:
            length = int.from_bytes(data[12:_HEADER], "little")
            names.append(os.fsdecode(data[_HEADER : _HEADER + length].rstrip(b"\0")))
            data = data[_HEADER + length :]
        for name in dict.fromkeys(names):
            self._seen.add(name)
            text = self.last(name)
            if text:
                tell(name, text)

    def last(self, node_id: str) -> str:
        """Return what a leaf reported last, or nothing."""
        if node_id not in self._seen:
            return ""
        try:
            text = (self._directory / node_id).read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return ""
        return text if re.fullmatch(r"\d+/\d+", text) else ""

    def forget(self, node_id: str) -> None:
        """Remove a leaf's file."""
        if node_id in self._seen:
            self._seen.discard(node_id)
            (self._directory / node_id).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
