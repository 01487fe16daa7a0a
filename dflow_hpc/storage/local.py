"""The local store: objects are files and directory trees, kept unpacked, read-only, on the file system of the run.

A key of a run (``<workflow>/...``, where ``<workdir>/<workflow>/workflow.json`` exists) lies in that run's ``store/``;
any other key, such as an upload, below ``<workdir>/<artifact_dir>/``. An object is complete or absent: it is made in
``.incoming`` beside the keys and renamed. What a killed process leaves in there is never listed or read.

An object may lie in S3, with a record of that here (``elsewhere.py``): it is brought when somebody reads its key.

Not here: where nodes get their keys (the engine), what is inside an artifact (``op/catalog.py``).

Trap: several leaves merge into one prefix at a time. Each file comes whole, the catalogue after the files that it
names, and where two leaves have a file of one name the later one wins, as on S3; ``put`` tells about it.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from pathlib import Path
from typing import Iterator, List, Optional, Tuple, Union

from dflow_hpc.config import config
from dflow_hpc.errors import StorageError
from dflow_hpc.storage import elsewhere, trees
from dflow_hpc.storage.trees import Snapshot, changed, snapshot

__all__ = ["LocalStore", "Snapshot", "changed", "snapshot"]

_INCOMING = ".incoming"
# A file object that was archived and *is* an archive by itself must not be unpacked once more when it is fetched.
_WHOLE = ".whole"
_OWN = (_INCOMING, _WHOLE, elsewhere.DIRECTORY)
_HOW = {
    None: trees.CHEAPEST,
    "reflink": (trees.REFLINK, trees.COPY),
    "hardlink": (trees.HARDLINK, trees.SYMLINK, trees.COPY),
    "link": (trees.HARDLINK, trees.SYMLINK, trees.COPY),  # dflow's word
    "symlink": (trees.SYMLINK, trees.COPY),
    "copy": trees.INDEPENDENT,
    "small": trees.CHEAPEST,
}
_ADVICE = {
    errno.ENOSPC: "the file system is full: free some space and resume",
    errno.EDQUOT: "the quota is used up: free some space and resume",
    errno.EACCES: "make it readable for the user who runs the workflow",
    errno.EROFS: "the file system is read-only: set debug_workdir to a place that can be written",
    errno.ENAMETOOLONG: "use a shorter name",
}


class LocalStore:
    """A place for objects on this machine.

    Args:
        workdir: Directory in which runs lie (``config["debug_workdir"]``).
        artifact_dir: Directory below it for keys that belong to no run (``config["debug_artifact_dir"]``).
    """

    def __init__(self, workdir: Union[str, Path], artifact_dir: str = "."):
        self._workdir = os.path.abspath(workdir)
        self._others = os.path.normpath(os.path.join(self._workdir, artifact_dir))

    def path_of(self, key: str) -> Path:
        """Return the path of the object ``key``, whether or not it exists.

        Raises:
            StorageError: The key is absolute, or holds ``..`` or a name that the store uses itself.
        """
        return Path(self._path(key))

    def _path(self, key: str) -> str:
        return os.path.join(*self._place(key)).rstrip(os.sep)

    def _place(self, key: str) -> Tuple[str, str]:
        """Split a key into a directory that it shares with others, and the rest: empty for the name of a run."""
        first, _, rest = _checked(key, "key").partition("/")
        run = os.path.join(self._workdir, first)
        if os.path.exists(os.path.join(run, "workflow.json")):
            return os.path.join(run, "store"), rest
        return (os.path.join(self._others, first), rest) if rest else (self._others, first)

    def full_key(self, key: str) -> str:
        """Return the key: there are no prefixes here."""
        return key

    def note(self, key: str, location: elsewhere.Location, objects: List[elsewhere.Stored], *, merge: bool) -> None:
        """Note that an artifact lies in an object storage; see ``elsewhere.note``."""
        base, rest = self._place(key)
        with _explained(f"cannot note where {key!r} is"):
            elsewhere.note(base, rest, location, objects, merge=merge)

    def elsewhere(self, key: str) -> List[elsewhere.Part]:
        """Return what of an object, or of a path in it, lies in an object storage only."""
        return elsewhere.parts(*self._place(key))

    def bring(self, key: str) -> None:
        """See that nothing of an object lies elsewhere any more; reading it does that by itself.

        Raises:
            StorageError: It cannot be fetched.
        """
        base, rest = self._place(key)
        if not rest or not os.path.isdir(os.path.join(base, elsewhere.DIRECTORY)):
            return
        top = key[: len(key.rstrip("/")) - len(rest)]
        with _explained(f"cannot bring {key!r}"), self._incoming(base) as room:

            def place(path: str, below: str, merge: bool) -> None:
                trees.seal(path)
                os.makedirs(os.path.dirname(os.path.join(base, below)), exist_ok=True)
                self._install(path, top + below, "none" if merge else "tar", room)

            elsewhere.bring(base, rest, place, room)

    def put(self, source: Union[str, Path], key: str, *, archive: str = "tar", move: bool = False) -> List[str]:
        """Store a file or a directory tree.

        Args:
            source: What to store. Its files become read-only where it is moved.
            key: Its name.
            archive: ``"none"`` merges a directory into the prefix ``key``; any other replaces what is there.
            move: Use ``source`` up: it is renamed where that is possible.

        Returns:
            Notices for the user: which files of a prefix had another content before.

        Raises:
            StorageError: The source cannot be read or the store not written, or a name clashes; nothing is left of
                an object that did not become complete, except files of a merge.
        """
        path = os.fspath(source)
        base, rest = self._place(key)
        if not rest:
            raise StorageError(f"cannot store {path} under {key!r}: that is the name of a run; add a name below it")
        target = os.path.join(base, rest)
        with _explained(f"cannot store {path} under {key!r}"), self._incoming(base) as staging:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            # A link at the top is the author's way to name a file that lies elsewhere: that file is not ours to move.
            if move and not os.path.islink(path):
                trees.seal(path)
                try:
                    replaced = self._install(path, key, archive, staging)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                else:
                    trees.remove(path)  # the directories that a merge leaves
                    return _clash_notice(key, replaced)
            staged = os.path.join(staging, "object")
            trees.clone(path, staged, trees.Cloner(trees.INDEPENDENT), follow=False)
            trees.seal(staged)
            replaced = self._install(staged, key, archive, staging)
            if move:
                trees.remove(path)
        return _clash_notice(key, replaced)

    def _install(self, staged: str, key: str, archive: str, staging: str) -> List[str]:
        """Rename a sealed file or tree to its key; return the files of a merge that it replaced."""
        target = self._path(key)
        if archive == "none" and os.path.isdir(staged):
            return trees.merge(staged, target, last=config["catalog_dir_name"])
        self._mark(key, archive != "none" and _kind(staged) is not None)
        try:
            os.rename(staged, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR):
                raise
            # Only a directory without entries, or a file by a file, is replaced in one step.
            os.rename(target, os.path.join(staging, "old"))
            os.rename(staged, target)
        return []

    def get(
        self,
        key: str,
        target: Union[str, Path],
        *,
        archive: Optional[str] = None,
        sub_path: str = "",
        how: Optional[str] = None,
        skip: Optional[str] = None,
        keep_existing: bool = False,
        bring: bool = True,
    ) -> str:
        """Bring an object to ``target``.

        Args:
            key: Its name.
            target: Where it shall be. A directory that is there is merged with; files are replaced.
            archive: ``"none"`` takes it as it is; otherwise a file that was stored un-archived and is a tar or zip
                archive is unpacked, as Argo does: one with a single top entry becomes that entry.
            sub_path: What to take of it, relative to it.
            how: ``reflink``, ``hardlink`` (or ``link``), ``symlink``, ``copy`` (files of one's own, writable); None
                is the cheapest for a reader who does not write, ``small`` the same with small files of one's own.
            skip: An entry at its top that stays behind.
            keep_existing: Leave files alone that are already there.
            bring: Fetch first what of it lies elsewhere.

        Returns:
            How its files came: ``reflink``, ``hardlink``, ``symlink`` or ``copy``.

        Raises:
            StorageError: There is no such object, or it cannot be fetched.
        """
        if how not in _HOW:
            known = ", ".join(str(name) for name in _HOW if name)
            raise StorageError(f"cannot fetch {key!r} by {how!r}; known ways are {known} (setting debug_copy_method)")
        path = self._path(key)
        path = os.path.join(path, _checked(sub_path, "sub path")) if sub_path else path
        if bring:
            self.bring(f"{key}/{sub_path}" if sub_path else key)
        goal = os.fspath(target)
        with _explained(f"cannot fetch {key!r} to {goal}"):
            if not os.path.lexists(path):
                raise self._absent(key, path, sub_path)
            os.makedirs(os.path.dirname(os.path.abspath(goal)), exist_ok=True)
            # As Argo: a gzipped tar is recognised where nothing is said; a zip is not, many files are one inside.
            if archive != "none" and not sub_path and _kind(path) == (archive or "tar") and not self._marked(key):
                from dflow_hpc.storage.archive import extract

                extract(path, goal)
                return trees.COPY
            cloner = trees.Cloner(_HOW[how], writable=how == "copy", small=how == "small")
            left_out = self._left_out(key, path, skip)
            trees.clone(path, goal, cloner, skip=left_out, keep_existing=keep_existing)
            return cloner.way

    def _left_out(self, key: str, path: str, skip: Optional[str]) -> Tuple[str, ...]:
        """Return which entries of the directory ``path`` are none of an object's, or are not wanted."""
        shared = "/" not in key.rstrip("/") and path == self._path(key)  # keys below it: the store works there too
        own = _OWN if shared else ()
        return (*own, skip) if skip else own

    def _absent(self, key: str, path: str, sub_path: str) -> StorageError:
        what = f"{sub_path!r} of the artifact {key!r}" if sub_path else f"the artifact {key!r}"
        parent = os.path.dirname(path)
        there = sorted(name for name in os.listdir(parent) if _visible(name))[:10] if os.path.isdir(parent) else []
        beside = f"beside it are {', '.join(there)}" if there else f"{parent} is empty or absent"
        return StorageError(f"{what} was asked for; there is no {path}, {beside}")

    def exists(self, key: str) -> bool:
        """Say whether there is an object, or anything below the prefix, ``key``."""
        if not os.path.lexists(self._path(key)) and any(part.sub_path for part in self.elsewhere(key)):
            self.bring(key)  # only the archive knows what is in it
        return os.path.lexists(self._path(key)) or bool(self.elsewhere(key))

    def list(self, prefix: str, recursive: bool = False) -> List[str]:
        """Return the keys below a prefix, sorted; directories end in ``/`` and are listed where not ``recursive``.

        A prefix that is a file is listed as itself.
        """
        self.bring(prefix)
        root = self._path(prefix)
        name = prefix.rstrip("/")
        if not os.path.isdir(root):
            return [name] if os.path.lexists(root) else []
        keys = []
        stack = [(root, name + "/")]
        while stack:
            here, start = stack.pop()
            with os.scandir(here) as entries:
                for entry in entries:
                    if not _visible(entry.name):
                        continue
                    if not entry.is_dir(follow_symlinks=False):
                        keys.append(start + entry.name)
                    elif recursive:
                        stack.append((entry.path, start + entry.name + "/"))
                    else:
                        keys.append(start + entry.name + "/")
        return sorted(keys)

    def copy(self, source: str, target: str, *, skip: Optional[str] = None) -> None:
        """Copy an object, or all below a prefix: into what is there, as S3 would.

        Args:
            source: Key of the object.
            target: Key of the copy.
            skip: An entry at its top that stays behind.
        """
        self.bring(source)
        base, _ = self._place(target)
        with _explained(f"cannot copy {source!r} to {target!r}"), self._incoming(base) as staging:
            path, staged = self._path(source), os.path.join(staging, "object")
            if not os.path.lexists(path):
                raise self._absent(source, path, "")
            # Both are read-only objects, so they may share what they are made of.
            cloner = trees.Cloner((trees.HARDLINK, trees.COPY))
            trees.clone(path, staged, cloner, skip=self._left_out(source, path, skip))
            self.put(staged, target, archive="none", move=True)
            self._mark(target, self._marked(source))

    def delete(self, key: str) -> None:
        """Remove an object, or all below a prefix; one that is not there is no error."""
        with _explained(f"cannot delete {key!r}"):
            trees.remove(self._path(key))
            self._mark(key, False)
            elsewhere.forget(*self._place(key))

    @contextlib.contextmanager
    def staging(self, key: str) -> Iterator[str]:
        """Give a fresh directory from which ``put(..., key, move=True)`` is a rename; it is removed in the end."""
        base, _ = self._place(key)
        with _explained(f"cannot stage {key!r}"), self._incoming(base) as path:
            yield path

    @contextlib.contextmanager
    def _incoming(self, base: str) -> Iterator[str]:
        path = os.path.join(base, _INCOMING, uuid.uuid4().hex)
        os.makedirs(path)
        try:
            yield path
        finally:
            trees.remove(path)

    def _marker(self, key: str) -> str:
        base, rest = self._place(key)
        return os.path.join(base, _WHOLE, rest.replace("%", "%25").replace("/", "%2F"))

    def _mark(self, key: str, whole: bool) -> None:
        marker = self._marker(key)
        if whole:
            os.makedirs(os.path.dirname(marker), exist_ok=True)
            with open(marker, "wb"):
                pass
        else:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(marker)

    def _marked(self, key: str) -> bool:
        return os.path.exists(self._marker(key))


def _checked(name: str, what: str) -> str:
    """Return a key or sub path without a trailing slash; refuse one that leads elsewhere."""
    parts = name.rstrip("/").split("/")
    bad = [part for part in parts if part in ("", ".", "..", *_OWN) or "\0" in part]
    if bad:
        raise StorageError(
            f"the {what} {name!r} was asked for; it must be relative, without the parts {bad}. "
            "For a file of this machine use LocalArtifact(path)."
        )
    return "/".join(parts)


def _visible(name: str) -> bool:
    return name not in _OWN


def _kind(path: str) -> Optional[str]:
    """Return which kind of archive a file is; ``archive.py`` is loaded for what may be one only."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            if file.read(2) not in (b"\x1f\x8b", b"PK"):
                return None
    except FileNotFoundError:
        return None
    from dflow_hpc.storage.archive import kind_of

    return kind_of(path)


def _clash_notice(key: str, replaced: List[str]) -> List[str]:
    if not replaced:
        return []
    names = ", ".join(sorted(replaced)[:5]) + (", ..." if len(replaced) > 5 else "")
    return [
        f"artifact {key!r}: {len(replaced)} file(s) had been there with another content and were replaced ({names}). "
        "If they come from different slices, give them different names or set Slices(create_dir=True)."
    ]


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the file system's refusal into an error that says what was wanted and what to do."""
    try:
        yield
    except OSError as error:
        names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name)
        found = f"{error.strerror}{f' ({names})' if names else ''}"
        advice = _ADVICE.get(error.errno or 0, "see the reason above")
        raise StorageError(f"{what}: {found}; {advice}") from error
