"""Archives: written the same for the same files, unpacked without trusting what they hold.

Argo's default archive of an artifact is a gzipped tar whose entries stand below the basename of the path; unpacked, one
top entry becomes the target itself. Only regular files, directories and links that stay inside are taken.

Not here: when something is archived (the stores). Trap: permissions travel, owners and times do not, so that equal
trees give equal bytes.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from typing import IO, BinaryIO, Iterator, Optional, Tuple

from dflow_hpc.errors import StorageError
from dflow_hpc.storage import trees

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can hold
_BLOCK = 1 << 20


def kind_of(path: str) -> Optional[str]:
    """Return ``"tar"`` for a gzipped tar, ``"zip"`` for a zip, and None for any other file."""
    with open(path, "rb") as file:
        head = file.read(4)
    if head in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip" if zipfile.is_zipfile(path) else None
    if head[:2] != b"\x1f\x8b":
        return None
    try:
        with tarfile.open(path, "r:gz"):
            return "tar"
    except (tarfile.TarError, OSError, EOFError, zlib.error):
        return None


def _entries(source: str, name: str) -> Iterator[Tuple[str, str]]:
    """Yield (path, name in the archive), parents first, sorted."""
    yield source, name
    if os.path.isdir(source) and not os.path.islink(source):
        for entry in sorted(os.listdir(source)):
            yield from _entries(os.path.join(source, entry), f"{name}/{entry}")


def pack(source: str, writer: BinaryIO, *, kind: str = "tar", name: Optional[str] = None) -> None:
    """Write a file or a tree as an archive.

    Args:
        source: A file or a directory.
        writer: Where the bytes go; it need not be seekable for ``tar``.
        kind: ``tar`` (gzipped) or ``zip``.
        name: The top entry; None is the basename of ``source``.

    Raises:
        StorageError: The kind is unknown, or the tree has a special file or a link that leads out.
    """
    top = name or os.path.basename(os.path.abspath(source))
    if kind == "tar":
        _pack_tar(source, writer, top)
    elif kind == "zip":
        _pack_zip(source, writer, top)
    else:
        raise StorageError(f"cannot archive {source} as {kind!r}; known are 'tar', 'zip' and 'none'")


def _pack_tar(source: str, writer: BinaryIO, top: str) -> None:
    root = os.path.realpath(source)
    zipped = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=writer, mtime=0)
    with zipped, tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path, name in _entries(source, top):
            info = tarfile.TarInfo(name)
            found = os.lstat(path)
            info.mode = stat.S_IMODE(found.st_mode)
            if stat.S_ISDIR(found.st_mode):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif stat.S_ISLNK(found.st_mode):
                info.type = tarfile.SYMTYPE
                info.linkname = _link(path, root)
                tar.addfile(info)
            elif stat.S_ISREG(found.st_mode):
                info.size = found.st_size
                with open(path, "rb") as file:
                    tar.addfile(info, file)
            else:
                raise trees.special(path)


def _link(path: str, root: str) -> str:
    text = trees.link_text(path, root)
    if text is None:
        raise trees.leads_out(path, root)
    return text


def _pack_zip(source: str, writer: BinaryIO, top: str) -> None:
    with zipfile.ZipFile(writer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        root = os.path.realpath(source)
        for path, name in _entries(source, top):
            if path != source and os.path.islink(
                path
            ):  # a zip has no links that every reader knows: it gets the content
                _link(path, root)
            mode = os.stat(path).st_mode
            info = zipfile.ZipInfo(name + ("/" if stat.S_ISDIR(mode) else ""), _EPOCH)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            if stat.S_ISDIR(mode):
                archive.writestr(info, b"")
            else:
                info.file_size = os.path.getsize(path)  # lets zipfile choose the 64-bit form where it is needed
                with open(path, "rb") as file, archive.open(info, "w") as entry:
                    shutil.copyfileobj(file, entry, _BLOCK)


def extract(path: str, target: str) -> None:
    """Unpack an archive; one with a single top entry becomes that entry, as Argo does.

    Args:
        path: A tar (gzipped or not) or zip file.
        target: What comes out: a file or a directory. A directory that is there is merged with.

    Raises:
        StorageError: It is no archive, is damaged, or holds an entry that leads out of the target.
    """
    kind = kind_of(path)
    if kind is None:
        raise StorageError(f"cannot unpack {path}: it is neither a tar nor a zip archive; declare archive=None for it")
    parent = os.path.dirname(os.path.abspath(target))
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=parent) as room:
        inside = os.path.join(os.path.realpath(room), "tree")
        os.mkdir(inside)
        try:
            (_extract_tar if kind == "tar" else _extract_zip)(path, inside)
            _refuse_links_out(path, inside)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise StorageError(f"cannot unpack {path}: it is damaged ({error}); fetch or make it again") from error
        tops = os.listdir(inside)
        result = os.path.join(inside, tops[0]) if len(tops) == 1 else inside
        if os.path.isdir(result) and not os.path.islink(result):
            trees.merge(result, target)
        else:
            os.replace(result, target)


def _goal(archive: str, name: str, root: str) -> str:
    """Return where an entry goes; refuse one that would go elsewhere, by its name or through a link."""
    goal = os.path.normpath(os.path.join(root, name))
    if os.path.isabs(name) or not trees.within(goal, root):
        raise StorageError(f"refused to unpack {archive}: its entry {name!r} leads out of the target")
    if goal != root and not trees.within(os.path.realpath(os.path.dirname(goal)), root):
        raise StorageError(f"refused to unpack {archive}: its entry {name!r} goes through a link that leads out")
    return goal


def _refuse_links_out(archive: str, root: str) -> None:
    for here, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(here, name)
            if os.path.islink(path) and trees.link_text(path, root) is None:
                raise StorageError(
                    f"refused to unpack {archive}: its link {os.path.relpath(path, root)!r} -> {os.readlink(path)!r} "
                    "leads out of the target"
                )


def _extract_tar(path: str, root: str) -> None:
    with tarfile.open(path, "r:*") as tar:
        for info in tar:
            goal = _goal(path, info.name, root)
            if info.isdir():
                os.makedirs(goal, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(goal), exist_ok=True)
            if os.path.lexists(goal):  # a later entry of one name wins, and is never written through a link
                trees.remove(goal)
            if info.issym():
                os.symlink(info.linkname, goal)
            elif info.islnk():
                os.link(_goal(path, info.linkname, root), goal)
            elif info.isreg():
                _write(tar.extractfile(info), goal, info.mode)
            else:
                raise StorageError(f"refused to unpack {path}: its entry {info.name!r} is a device or a pipe")


def _extract_zip(path: str, root: str) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            goal = _goal(path, info.filename, root)
            if info.is_dir():
                os.makedirs(goal, exist_ok=True)
                continue
            mode = info.external_attr >> 16
            if mode and not stat.S_ISREG(mode):
                raise StorageError(f"refused to unpack {path}: its entry {info.filename!r} is a link or special")
            os.makedirs(os.path.dirname(goal), exist_ok=True)
            with archive.open(info) as file:
                _write(file, goal, mode or 0o644)


def _write(reader: Optional[IO[bytes]], goal: str, mode: int) -> None:
    assert reader is not None  # noqa: S101  (tarfile gives None for what is no file only)
    with open(goal, "wb") as file:
        shutil.copyfileobj(reader, file, _BLOCK)
    os.chmod(goal, stat.S_IMODE(mode) & 0o777 | stat.S_IRUSR | stat.S_IWUSR)
