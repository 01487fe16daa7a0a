"""Files and directory trees on one file system: clone, seal, merge, compare.

These are the moves of which the local store is made. They know nothing of keys. Names that cannot be kept safely
(devices, sockets, links that lead out of their tree) are refused by name.

Trap: a hard link or a symlink shares its bytes with its source, so nothing here ever writes *into* an existing file;
a file is replaced by making a new one and renaming it over the old name.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from __future__ import annotations

import errno
import filecmp
import functools
import os
import shutil
import stat
from typing import Callable, Collection, List, NamedTuple, Optional, Tuple, Union

from dflow_hpc.errors import StorageError

REFLINK, HARDLINK, SYMLINK, COPY = "reflink", "hardlink", "symlink", "copy"
CHEAPEST = (REFLINK, HARDLINK, SYMLINK, COPY)
"""For readers that promise not to write: the first way that works here."""
INDEPENDENT = (REFLINK, COPY)
"""For files of one's own: later writes to source or target do not show in the other."""
SMALL = 1 << 20
"""Up to this many bytes a file is small: where small files are to be one's own, a copy of it costs next to nothing."""

_FICLONE = 0x40049409  # include/uapi/linux/fs.h: _IOW(0x94, 9, int)
# What these say is "not this way, here", never "not at all".
_TRY_NEXT = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EMLINK}
_CHUNK = 64 << 20


class Cloner:
    """Brings files to another place by the first of several ways that works, and remembers which that was.

    Args:
        ways: Ways in the order of preference. One that fails because the file system cannot do it is not tried again.
        writable: Let a file that is the target's own be writable for its owner, whatever its source was.
        small: Let small files be the target's own, writable, and only the others come by ``ways``.
    """

    def __init__(self, ways: Tuple[str, ...], writable: bool = False, small: bool = False):
        self._ways = list(ways)
        self._more_mode = stat.S_IWUSR if writable else 0
        self._small = Cloner(INDEPENDENT, writable=True) if small else None

    @property
    def way(self) -> str:
        """The way that works here, once a file was cloned."""
        return self._ways[0]

    def file(self, source: str, target: str) -> None:
        """Make ``target`` have the content of the file ``source``, which is no link; ``target`` must not exist.

        Raises:
            OSError: No way works; ``FileExistsError`` where ``target`` exists.
        """
        if self._small is not None and os.stat(source).st_size <= SMALL:
            self._small.file(source, target)
            return
        while True:
            try:
                if self._ways[0] == HARDLINK:
                    os.link(source, target)
                elif self._ways[0] == SYMLINK:
                    os.symlink(os.path.abspath(source), target)
                else:
                    self._own_file(source, target, _share_blocks if self._ways[0] == REFLINK else _copy_bytes)
            except OSError as error:
                if error.errno not in _TRY_NEXT or len(self._ways) == 1:
                    raise
                del self._ways[0]
            else:
                return

    def _own_file(self, source: str, target: str, fill: Callable[[int, int], None]) -> None:
        """Create ``target``, let ``fill(source fd, target fd)`` fill it, and give it the source's mode and times."""
        source_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            info = os.fstat(source_fd)
            target_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fill(source_fd, target_fd)
                os.fchmod(target_fd, stat.S_IMODE(info.st_mode) | self._more_mode)
                os.utime(target_fd, ns=(info.st_atime_ns, info.st_mtime_ns))
            except BaseException:
                os.unlink(target)
                raise
            finally:
                os.close(target_fd)
        finally:
            os.close(source_fd)


def _share_blocks(source_fd: int, target_fd: int) -> None:
    import fcntl

    fcntl.ioctl(target_fd, _FICLONE, source_fd)


def _copy_bytes(source_fd: int, target_fd: int) -> None:
    with os.fdopen(os.dup(source_fd), "rb") as reader, os.fdopen(os.dup(target_fd), "wb") as writer:
        size = os.fstat(source_fd).st_size
        try:
            # The kernel copies; it may give up early, or at once between file systems. The loop below ends the work.
            while size and os.sendfile(target_fd, source_fd, None, _CHUNK):
                pass
        except OSError as error:
            if error.errno not in _TRY_NEXT:
                raise
        shutil.copyfileobj(reader, writer, 1 << 20)


def clone(
    source: str,
    target: str,
    cloner: Cloner,
    *,
    follow: bool = True,
    skip: Collection[str] = (),
    keep_existing: bool = False,
) -> None:
    """Clone a file or a directory tree; directories are made anew, and what is there is merged with.

    A symbolic link that stays in the tree is made again as a link. One that leads out is followed, or refused.

    Args:
        source: A file or a directory; a link to one is followed.
        target: Where it shall be; its parent must exist.
        cloner: How files are cloned.
        follow: Clone what lies behind a link that leads out of the tree, instead of refusing it.
        skip: Names of entries of ``source`` that stay behind.
        keep_existing: Leave a file alone that is already at its target, instead of replacing it.

    Raises:
        StorageError: A special file, a link that leads out, or one to a directory that it lies in; it is named.
        OSError: The file system refuses.
    """
    root = os.path.realpath(source)
    if not os.path.isdir(root):
        if not stat.S_ISREG(os.stat(root).st_mode):
            raise special(source)
        _make(lambda: cloner.file(root, target), target, keep_existing)
        return
    stack = [(root, target, skip)]
    while stack:
        here, there, left_out = stack.pop()
        os.makedirs(there, exist_ok=True)
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name in left_out:
                    continue
                path = entry.path
                goal = there + os.sep + entry.name
                if entry.is_symlink():
                    text = link_text(path, root)
                    if text is not None:
                        _make(functools.partial(os.symlink, text, goal), goal, keep_existing)
                        continue
                    if not follow:
                        raise leads_out(path, root)
                    path = os.path.realpath(path)
                    if within(here, path):
                        raise StorageError(
                            f"cannot clone {source}: the link {entry.path} leads to a directory that holds it, so the "
                            "tree has no end; remove the link"
                        )
                if entry.is_dir():
                    stack.append((path, goal, ()))
                elif entry.is_file():
                    _make(functools.partial(cloner.file, path, goal), goal, keep_existing)
                elif entry.is_symlink() and not os.path.exists(path):
                    raise StorageError(f"cannot clone {source}: the link {entry.path} leads to {path}, which is absent")
                else:
                    raise special(entry.path)


def _make(make: Callable[[], None], target: str, keep_existing: bool) -> None:
    """Make a file or a link; one that is there is replaced, never written into."""
    try:
        make()
    except FileExistsError:
        if not keep_existing:
            os.unlink(target)
            make()


def special(path: str) -> StorageError:
    """Return the error for what is neither a file, a directory nor a link."""
    return StorageError(
        f"cannot store {path}: it is neither a file, a directory nor a link (a socket, a pipe or a device); remove it "
        "before the step ends"
    )


def leads_out(path: str, root: str) -> StorageError:
    """Return the error for a link that would not stay in the tree ``root``."""
    return StorageError(
        f"cannot store the link {path} -> {os.readlink(path)}: it leads out of {root}; store a copy of the file instead"
    )


def within(path: str, root: str) -> bool:
    """Say whether ``path`` is ``root`` or lies below it; both are absolute and real."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def link_text(link: str, root: str) -> Optional[str]:
    """Return the text with which a link would stay in the tree ``root`` wherever that goes; None when it leads out.

    Args:
        link: Path of a symbolic link below ``root``.
        root: The real path of the tree.
    """
    text = os.readlink(link)
    real = os.path.realpath(link)
    if not within(real, root):
        return None
    return os.path.relpath(real, os.path.realpath(os.path.dirname(link))) if os.path.isabs(text) else text


def seal(root: str) -> None:
    """Make a file or a tree fit to be an object: files read-only, links kept inside, nothing special.

    Directories keep (or get) their owner's write permission: a read-only directory could not be deleted.

    Raises:
        StorageError: A link that leads out of the tree, or a special file; it is named.
    """
    info = os.lstat(root)
    if stat.S_ISREG(info.st_mode):
        _seal_file(root, info.st_mode)
        return
    if not stat.S_ISDIR(info.st_mode):
        raise special(root)
    real = os.path.realpath(root)
    stack = [root]
    while stack:
        here = stack.pop()
        mode = os.stat(here).st_mode
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(here, stat.S_IMODE(mode) | stat.S_IRWXU)
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.is_symlink():
                    text = link_text(entry.path, real)
                    if text is None:
                        raise leads_out(entry.path, real)
                    if text != os.readlink(entry.path):
                        os.unlink(entry.path)
                        os.symlink(text, entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    _seal_file(entry.path, entry.stat(follow_symlinks=False).st_mode)
                else:
                    raise special(entry.path)


def _seal_file(path: str, mode: int) -> None:
    sealed = (stat.S_IMODE(mode) | stat.S_IRUSR) & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    if sealed != stat.S_IMODE(mode):
        os.chmod(path, sealed)


def merge(source: str, target: str, last: str = "", keep_existing: bool = False) -> List[str]:
    """Move the tree ``source`` into ``target`` on the same file system; ``source`` is used up.

    Each file appears whole (it is renamed). Several processes may merge into one target at a time.

    Args:
        source: A directory.
        target: A directory, or a name that is free; its parent must exist.
        last: Name of the entry that is moved when all others are there: the catalogue, which names them.
        keep_existing: Leave files alone that are there already.

    Returns:
        The files, relative to ``target``, that were there with another content and are replaced.

    Raises:
        StorageError: A file stands where a directory must go, or the other way round.
    """
    replaced: List[str] = []
    stack = [(source, target, "")]
    deferred: List[Tuple[str, str, str]] = []
    while stack or deferred:
        here, there, name = stack.pop() if stack else deferred.pop()
        if _rename_tree(here, there):
            continue
        with os.scandir(here) as entries:
            for entry in entries:
                path = name + entry.name
                goal = there + os.sep + entry.name
                if entry.is_dir(follow_symlinks=False):
                    todo = deferred if path == last else stack
                    todo.append((entry.path, goal, path + "/"))
                elif keep_existing and os.path.lexists(goal):
                    continue
                elif _rename_file(entry.path, goal):
                    replaced.append(path)
    return replaced


def _rename_tree(source: str, target: str) -> bool:
    """Move a whole directory where nothing, or an empty directory, is; return whether that was possible."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):  # busy: the target is "."
            return False
        if error.errno == errno.ENOTDIR:
            raise StorageError(
                f"cannot store the directory {os.path.basename(source)} at {target}: a file of that name is there; "
                "give one of the two another name"
            ) from error
        raise
    return True


def _rename_file(source: str, target: str) -> bool:
    """Move a file over whatever file is there; return whether that was one with another content."""
    try:
        there: Optional[os.stat_result] = os.lstat(target)
    except FileNotFoundError:
        there = None
    try:
        different = there is not None and stat.S_ISREG(there.st_mode) and not filecmp.cmp(source, target, shallow=False)
        os.rename(source, target)
    except IsADirectoryError as error:
        raise StorageError(
            f"cannot store the file {os.path.basename(source)} at {target}: a directory of that name is there; "
            "give one of the two another name"
        ) from error
    return different


def remove(path: str) -> None:
    """Remove a file or a tree; one that is not there is no error."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # macOS says EPERM for a directory
        shutil.rmtree(path)


class Snapshot(NamedTuple):
    """What the files below a path looked like: the tamper check of staged inputs."""

    root: str
    files: Tuple[Tuple[str, int, int], ...]
    """Path relative to ``root`` (empty for ``root`` itself), size in bytes, modification time in nanoseconds."""


def snapshot(path: Union[str, os.PathLike[str]], above: int = -1) -> Snapshot:
    """Return name, size and modification time of a file, or of every file of a tree; links are followed.

    Args:
        path: The file or tree.
        above: Leave files out that have at most so many bytes.
    """
    root = os.fspath(path)
    if not os.path.isdir(root):
        info = os.stat(root)
        return Snapshot(root, (("", info.st_size, info.st_mtime_ns),) if info.st_size > above else ())
    files = []
    stack = [(root, "")]
    while stack:
        here, name = stack.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append((entry.path, name + entry.name + "/"))
                elif entry.is_file():
                    info = entry.stat()
                    if info.st_size > above:
                        files.append((name + entry.name, info.st_size, info.st_mtime_ns))
    return Snapshot(root, tuple(files))


def changed(before: Snapshot) -> List[str]:
    """Return the files whose size or modification time is not what it was; removed and new ones are not counted."""
    found = []
    for name, size, modified in before.files:
        try:
            info = os.stat(before.root + os.sep + name if name else before.root)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if info.st_size != size or info.st_mtime_ns != modified:
            found.append(name or os.path.basename(before.root))
    return found
