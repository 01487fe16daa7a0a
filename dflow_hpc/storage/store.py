"""The store protocol: what an engine asks of whatever keeps artifacts.

Keys are Argo's: ``<workflow>/<pod>/<name>.tgz`` for an archived artifact, a prefix for an un-archived directory.
"""

from pathlib import Path
from typing import Iterable, List, Optional, Protocol


class Store(Protocol):
    """A place for objects under keys."""

    def put(self, source: Path, key: str, *, archive: str = "tar", move: bool = False) -> List[str]:
        """Store a file or a directory tree under ``key``; with ``archive="none"`` it merges into what is there.

        Returns:
            Notices for the user, such as files of a prefix that were replaced.
        """
        ...

    def get(
        self, key: str, target: Path, *, archive: Optional[str] = None, sub_path: str = "", how: Optional[str] = None
    ) -> str:
        """Bring an object to ``target``.

        Returns:
            How it was done: ``reflink``, ``hardlink``, ``symlink``, ``copy`` or ``download``.
        """
        ...

    def exists(self, key: str) -> bool:
        """Say whether there is an object, or anything below the prefix, ``key``."""
        ...

    def list(self, prefix: str, recursive: bool = False) -> Iterable[str]:
        """Return the keys below ``prefix``."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy an object, or all below a prefix."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object, or all below a prefix; one that is not there is no error."""
        ...
