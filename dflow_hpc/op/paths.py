"""Files and directories on their way into and out of an OP: the values that it sees, and how outputs are linked.

The values of input artifacts are ordinary ``str``, ``Path``, ``list``, ``set`` and ``dict`` with one attribute more,
``art_root``, the directory of the whole artifact.

Outputs are hard links to what the OP wrote (copies of what lies elsewhere): cheap, and the OP's directory stays as it
was for whoever looks at it. A trap: symbolic links are followed, except those that stay inside the tree they are in.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import io
import os
import shutil
from pathlib import Path, PosixPath, PurePath, WindowsPath
from typing import Any, Dict, FrozenSet, List, Optional, Set, Tuple

from dflow_hpc.errors import StorageError

EMPTY_DIR_MARK = ".empty_dir"
"""A file that stands for an empty directory where the transport has no directories (setting detect_empty_dir)."""


class ArtifactStr(str):
    """A path as text, with the root of its artifact."""

    art_root: Optional[Path] = None


class ArtifactPosixPath(PosixPath):
    """A path, with the root of its artifact."""

    art_root: Optional[Path] = None


class ArtifactWindowsPath(WindowsPath):
    """A path on Windows, with the root of its artifact."""

    art_root: Optional[Path] = None


class ArtifactList(List[Any]):
    """A list of paths, with the root of their artifact."""

    art_root: Optional[Path] = None


class ArtifactSet(Set[Any]):
    """A set of paths, with the root of their artifact."""

    art_root: Optional[Path] = None


class ArtifactDict(Dict[str, Any]):
    """A dict of paths, with the root of their artifact."""

    art_root: Optional[Path] = None


_SUBCLASSES: Tuple[Tuple[type, Any], ...] = (
    (str, ArtifactStr),
    (PurePath, ArtifactPosixPath if os.name == "posix" else ArtifactWindowsPath),
    (list, ArtifactList),
    (set, ArtifactSet),
    (dict, ArtifactDict),
)


def with_root(value: Any, root: Path) -> Any:
    """Return a path, list, set or dict as the subclass that carries ``art_root``; None stays None."""
    if value is None:
        return None
    for kind, subclass in _SUBCLASSES:
        if isinstance(value, kind):
            made = subclass(value)
            made.art_root = root
            return made
    return value


def link_or_copy(source: Path, target: Path, own: Path) -> None:
    """Make ``target`` (a new name) the same file or directory tree as ``source``.

    Args:
        source: A file or a directory.
        target: The new name.
        own: What lies below this directory is the leaf's own and is hard-linked. Anything else is copied: the store
            makes what it gets read-only, which must not happen to a file of the user's.

    Raises:
        StorageError: The target lies in the source, is another file already, or something in it is no file.
    """
    absolute = os.path.abspath(source)
    if os.path.isdir(absolute):
        if os.path.abspath(target).startswith(absolute.rstrip(os.sep) + os.sep):
            raise StorageError(
                f"the output path {str(source)!r} contains the directory of the outputs ({target}); "
                "give a directory that the OP made below its current directory."
            )
        _link_tree(absolute, str(target), absolute, frozenset(), os.path.realpath(own))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        _link_file(absolute, str(target), os.path.realpath(own))


def _link_file(source: str, target: str, own: str) -> None:
    real = os.path.realpath(source)
    if not os.path.isfile(real):
        raise StorageError(f"the output {source!r} is neither a file nor a directory; only those can be artifacts.")
    if not real.startswith(own.rstrip(os.sep) + os.sep):
        if not os.path.exists(target):  # the place of such a file is its whole path: what is there is its copy
            shutil.copy2(real, target)
        return
    try:
        os.link(real, target)
    except FileExistsError:
        if not os.path.samefile(real, target):
            raise StorageError(
                f"two outputs of one artifact are to be {target!r}: one of them is {source!r}. Give them different "
                "names, or use Slices(create_dir=True) where they belong to different slices."
            ) from None
    except OSError:  # another file system, or one without hard links, or without the right to make them
        shutil.copy2(real, target)


def _link_tree(source: str, target: str, top: str, above: FrozenSet[str], own: str) -> None:
    real = os.path.realpath(source)
    if real in above:
        raise StorageError(f"the output directory {top!r} has a link that leads into itself: {source!r}. Remove it.")
    os.makedirs(target, exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            goal = os.path.join(target, entry.name)
            if entry.is_symlink() and _stays_inside(entry.path, top):
                if not os.path.islink(goal):
                    os.symlink(os.readlink(entry.path), goal)
            elif entry.is_dir():
                _link_tree(entry.path, goal, top, above | {real}, own)
            else:
                _link_file(entry.path, goal, own)


def _stays_inside(link: str, top: str) -> bool:
    where = os.readlink(link)
    if os.path.isabs(where):
        return False
    return os.path.normpath(os.path.join(os.path.dirname(link), where)).startswith(top.rstrip(os.sep) + os.sep)


def mark_empty_directories(top: Path) -> None:
    """Put a marker file into each empty directory below ``top``."""
    for directory, below, files in os.walk(top):
        if not below and not files:
            Path(directory, EMPTY_DIR_MARK).touch()


def remove_marks(top: Path) -> None:
    """Remove the marker files of empty directories below ``top``."""
    for directory, _, files in os.walk(top):
        if EMPTY_DIR_MARK in files:
            Path(directory, EMPTY_DIR_MARK).unlink()


def extract_tar(data: bytes, target: Path) -> None:
    """Unpack a tar's bytes below ``target``, and nowhere else.

    Raises:
        StorageError: A member would land elsewhere, or is neither a file nor a directory.
    """
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            path = os.path.normpath(member.name)
            if path.startswith(("..", os.sep)) or not (member.isfile() or member.isdir()):
                raise StorageError(f"an archive has the member {member.name!r}, which is no file or leads out of it.")
            goal = target / path
            if member.isdir():
                goal.mkdir(parents=True, exist_ok=True)
                continue
            goal.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            goal.write_bytes(content.read() if content is not None else b"")
            goal.chmod(member.mode & 0o777)
