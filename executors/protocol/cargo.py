"""The tars that travel: packed with each file once, unpacked with path checks.

A link that leads out of a leaf's directory (staged inputs are links into a store) is packed as what it leads to; files
that are one on this side (hard links) are one on the other. Directories can be written there, files keep their modes.

Trap: all of it is in memory.
"""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from dflow_hpc.errors import StorageError


class Cargo:
    """A tar that is being packed. Names are relative, with ``/``."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._seen: dict[tuple[int, int], str] = {}
        """Names of files that others may be, by device and inode."""
        self._directories: set[str] = set()
        self._source = ""

    def text(self, name: str, content: str | bytes, mode: int = 0o600) -> None:
        """Add a file with this content."""
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), mode
        self._add(info, io.BytesIO(data))

    def file(self, name: str, source: Path, mode: int) -> None:
        """Add a file with permissions of its own.

        Args:
            name: Its name in the tar.
            source: The file.
            mode: Its permissions there.
        """
        info = tarfile.TarInfo(name)
        info.mode = mode
        with source.open("rb") as file:
            found = os.fstat(file.fileno())
            info.size, info.mtime = found.st_size, found.st_mtime
            self._add(info, file)

    def tree(
        self,
        name: str,
        source: Path,
        *,
        skip: Callable[[str], bool] = lambda _: False,
        apart: Callable[[str, str, os.stat_result], bool] = lambda *_: False,
    ) -> None:
        """Add a file, or a directory with all that is in it.

        Args:
            name: Its name in the tar.
            source: What to add.
            skip: Says of a path relative to ``source`` whether it stays behind.
            apart: Says of a regular file, by its path relative to ``source``, its path here and what ``stat`` says of
                it, whether it goes another way.
        """
        self._directories.clear()  # a thousand leaves have ten thousand; one that comes again does no harm
        self._source = top = os.path.realpath(source)
        self._entry(name, top, top, "", (skip, apart), ())

    def _entry(
        self,
        name: str,
        path: str,
        top: str,
        below: str,
        choice: tuple[Callable[[str], bool], Callable[[str, str, os.stat_result], bool]],
        line: tuple[str, ...],
    ) -> None:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            target = os.path.realpath(path)
            if target.startswith(top + "/") and not os.path.isabs(os.readlink(path)):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
                self._add(info)
                return
            if target in line:
                raise StorageError(f"{path} was to be sent to a machine; it leads to a directory that holds it.")
            path, top, found = target, target, os.stat(target)
        skip, apart = choice
        info = tarfile.TarInfo(name)
        info.mtime = found.st_mtime
        if stat.S_ISDIR(found.st_mode):
            info.type, info.mode = tarfile.DIRTYPE, found.st_mode & 0o777 | 0o700
            self._add(info)
            for child in sorted(os.listdir(path)):
                inner = f"{below}/{child}" if below else child
                if not skip(inner):
                    inside = (*line, os.path.realpath(path))
                    self._entry(f"{name}/{child}", os.path.join(path, child), top, inner, choice, inside)
        elif stat.S_ISREG(found.st_mode):
            if not apart(below, path, found):
                info.mode = found.st_mode & 0o777
                shared = found.st_nlink > 1 or top != self._source
                self._file(info, path, (found.st_dev, found.st_ino) if shared else None)
        else:
            raise StorageError(f"{path} was to be sent to a machine; it is neither a file, a directory nor a link.")

    def _file(self, info: tarfile.TarInfo, path: str, identity: tuple[int, int] | None) -> None:
        if identity is not None and identity in self._seen:
            info.type, info.linkname = tarfile.LNKTYPE, self._seen[identity]
            self._add(info)
            return
        with open(path, "rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            self._add(info, file)
        if identity is not None:
            self._seen[identity] = info.name

    def _add(self, info: tarfile.TarInfo, content: object = None) -> None:
        if (parent := posixpath.dirname(info.name)) and parent not in self._directories:
            directory = tarfile.TarInfo(parent)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o700
            self._add(directory)
        if info.isdir():
            self._directories.add(info.name)
        self._tar.addfile(info, content)  # type: ignore[arg-type]
        # It keeps each for a reader; a thousand leaves have ten thousand.
        self._tar.members = []  # type: ignore[attr-defined]

    def close(self) -> bytes:
        """Return the tar. Its last member, ``complete``, proves on the other side that nothing is missing."""
        self.text("complete", "")
        self._tar.close()
        return self._buffer.getvalue()


def unpack(data: bytes, place: Callable[[str], Path | None]) -> None:
    """Unpack a tar that came from a machine.

    Args:
        data: The tar, compressed or not.
        place: Gives for a member's name where it goes; None: nowhere.

    Raises:
        StorageError: It is cut, or a member leads out of its place.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            while (member := archive.next()) is not None:
                _unpack_member(archive, member, place)
                archive.members = []  # type: ignore[attr-defined]  # it would keep all: several MB for a thousand leaves
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StorageError(f"outputs of a machine were to be unpacked: {error}") from error


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Callable[[str], Path | None]) -> None:
    target = _placed(member.name, place)
    if target is None:
        return
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if member.issym():
        inside = os.path.normpath(PurePosixPath(member.name).parent / member.linkname)
        if os.path.isabs(member.linkname) or len(PurePosixPath(inside).parts) < 2 or inside.startswith(".."):
            raise StorageError(f"outputs of a machine hold the link {member.name!r}, which leads out of them.")
        target.symlink_to(member.linkname)
        return
    if member.islnk():  # a file that came before
        origin = _placed(member.linkname, place)
        if origin is None or not origin.is_file():
            raise StorageError(
                f"outputs of a machine hold {member.name!r}, a link to {member.linkname!r}, which is not."
            )
        shutil.copyfile(origin, target)
    else:
        source = archive.extractfile(member)
        if source is None:
            raise StorageError(f"outputs of a machine hold {member.name!r}, which is neither a file nor a directory.")
        with source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    target.chmod(member.mode & 0o777 | 0o600)


def _placed(name: str, place: Callable[[str], Path | None]) -> Path | None:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise StorageError(f"outputs of a machine were to be unpacked; the name {name!r} leads elsewhere.")
    return place(name)
