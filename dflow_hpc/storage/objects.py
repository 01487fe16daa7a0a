"""Artifacts in an object storage, whatever its client: packed into one object, or a tree below a prefix.

A client needs five calls (``StorageClient``, which are dflow's own, so that its plugins work); ``s3.py`` has that
for S3. Everything that an artifact means - archives, trees, empty directories, links - is here.

Trap: an object storage has no directories and no links. A link's content is stored, and an empty directory by an empty
object ``.empty_dir`` in it (setting ``detect_empty_dir``).

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Protocol, Tuple, Union

from dflow_hpc import hooks
from dflow_hpc.config import config, is_local, s3_config
from dflow_hpc.errors import ConfigError, StorageError
from dflow_hpc.storage import archive as archives
from dflow_hpc.storage import trees

EMPTY = ".empty_dir"
_AT_ONCE = 8  # requests; small objects take a round trip each, whatever the bandwidth


class StorageClient(Protocol):
    """What an object storage must answer. A client may have ``delete(key)`` too."""

    def upload(self, key: str, path: str) -> None:
        """Store the file ``path`` as the object ``key``."""

    def download(self, key: str, path: str) -> None:
        """Fetch the object ``key`` to the file ``path``; its directory exists."""

    def list(self, prefix: str, recursive: bool = False) -> List[str]:
        """Return the keys that begin with ``prefix``; where not ``recursive``, cut behind the next ``/``."""
        ...

    def copy(self, src: str, dst: str) -> None:
        """Copy an object, on the side of the storage."""

    def get_md5(self, key: str) -> str:
        """Return the MD5 sum of an object, in hexadecimal."""
        ...


def client_from(setting: Union[str, StorageClient]) -> StorageClient:
    """Return the client that ``s3_config["storage_client"]`` means: an object, or the dotted name of a class.

    Raises:
        ConfigError: There is no such class.
    """
    if not isinstance(setting, str):
        return setting
    module, _, name = setting.rpartition(".")
    try:
        client: StorageClient = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"the storage client {setting!r} was asked for (s3_config['storage_client']); {error}. "
            "It must be a dotted name, package.module.Class, of a class that takes no arguments."
        ) from error
    return client


class ObjectStore:
    """A store of artifacts over a client.

    Args:
        client: How objects are moved.
        prefix: Put before each key that does not begin with it, or with one of ``extra_prefixes``.
        extra_prefixes: Beginnings of keys that are left as they are.
    """

    def __init__(self, client: StorageClient, prefix: str = "", extra_prefixes: Iterable[str] = ()):
        self.client = client
        self._prefix = prefix
        self._as_they_are = tuple(extra for extra in extra_prefixes if extra)

    def full_key(self, key: str) -> str:
        """Return the key with the prefix, as manifests need it.

        Raises:
            StorageError: The key leads elsewhere.
        """
        parts = key.rstrip("/").split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise StorageError(f"the key {key!r} was asked for; it must be relative, without empty parts, '.' and '..'")
        if key.startswith((self._prefix, *self._as_they_are)):
            return key
        return self._prefix + key

    def put(self, source: Union[str, Path], key: str, *, archive: str = "tar", move: bool = False) -> List[str]:
        """Store a file or a directory tree.

        Args:
            source: What to store.
            key: Its key, or with ``archive="none"`` and a directory the prefix that it is merged into.
            archive: ``tar`` (gzipped), ``zip`` or ``none``.
            move: Remove the source afterwards.

        Returns:
            No notices: what was replaced is not looked up.

        Raises:
            StorageError: The source cannot be read or the object not written.
        """
        path = os.path.realpath(source)
        name = self.full_key(key)
        try:
            if archive != "none":
                with tempfile.TemporaryDirectory(prefix=".pack-", dir=os.path.dirname(path)) as room:
                    packed = os.path.join(room, "packed")
                    with open(packed, "wb") as file:
                        archives.pack(path, file, kind=archive, name=os.path.basename(os.fspath(source)))
                    self.client.upload(name, packed)
            elif os.path.isdir(path):
                self._put_tree(path, name)
            else:
                self.client.upload(name, path)
            if move:
                trees.remove(os.fspath(source))
        except OSError as error:
            raise StorageError(f"cannot store {source} under {key!r}: {error.filename}: {error.strerror}") from error
        return []

    def _put_tree(self, root: str, key: str) -> None:
        catalogue = f"{key}/{config['catalog_dir_name']}/"
        with tempfile.NamedTemporaryFile() as empty:
            jobs = [(f"{key}/{name}", path or empty.name) for name, path in _files(root)]
            # The catalogue last: it must not name what is not there yet.
            self._all(self.client.upload, [job for job in jobs if not job[0].startswith(catalogue)])
            self._all(self.client.upload, [job for job in jobs if job[0].startswith(catalogue)])

    @staticmethod
    def _all(call: Any, jobs: List[Tuple[str, str]]) -> None:
        with ThreadPoolExecutor(min(_AT_ONCE, len(jobs) or 1)) as pool:
            for done in [pool.submit(call, *job) for job in jobs]:
                done.result()

    def get(
        self,
        key: str,
        target: Union[str, Path],
        *,
        archive: Optional[str] = None,
        sub_path: str = "",
        how: Optional[str] = None,  # noqa: ARG002  (there is one way only)
    ) -> str:
        """Bring an object, or all below a prefix, to ``target``.

        Args:
            key: Its key.
            target: Where it shall be.
            archive: ``none`` takes an object as it is; otherwise a gzipped tar is unpacked, and a zip for ``zip``.
            sub_path: What to take of it, relative to it.
            how: Of no meaning here.

        Returns:
            ``"download"``.

        Raises:
            StorageError: There is no such object, or it cannot be fetched.
        """
        goal = os.path.abspath(target)
        name = self.full_key(key)
        parent = os.path.dirname(goal)
        os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=parent) as room:
            if sub_path and self._is_object(name):
                self._fetch(name, os.path.join(room, "whole"), archive)
                path = os.path.join(room, "whole", self._checked(sub_path))
                if not os.path.lexists(path):
                    raise StorageError(
                        f"{sub_path!r} of the artifact {key!r} was asked for; there is no such path in it"
                    )
            else:
                path = os.path.join(room, "part")
                self._fetch(f"{name}/{self._checked(sub_path)}" if sub_path else name, path, archive)
            if os.path.isdir(path):
                trees.merge(path, goal)
            else:
                os.replace(path, goal)
        return "download"

    @staticmethod
    def _checked(sub_path: str) -> str:
        if os.path.isabs(sub_path) or ".." in sub_path.split("/"):
            raise StorageError(f"the sub path {sub_path!r} was asked for; it must be relative, without '..'")
        return sub_path.rstrip("/")

    def _is_object(self, name: str) -> bool:
        return name in self.client.list(name)

    def _fetch(self, name: str, path: str, archive: Optional[str]) -> None:
        if self._is_object(name):
            self.client.download(name, path)
            if archive != "none" and archives.kind_of(path) == (archive or "tar"):
                os.rename(path, path + ".packed")
                archives.extract(path + ".packed", path)
            return
        keys = [key for key in self.client.list(name + "/", recursive=True) if not key.endswith("/")]
        if not keys:
            raise StorageError(
                f"the artifact {name!r} was asked for; the storage has neither an object of that key nor any below it. "
                "See whether the step that makes it succeeded, and whether the settings s3_config name its bucket."
            )
        jobs = []
        for key in keys:
            goal = os.path.join(path, self._checked(key[len(name) + 1 :]))
            os.makedirs(os.path.dirname(goal), exist_ok=True)
            if os.path.basename(key) != EMPTY:
                jobs.append((key, goal))
        self._all(self.client.download, jobs)

    def exists(self, key: str) -> bool:
        """Say whether there is an object, or anything below the prefix, ``key``."""
        name = self.full_key(key)
        return self._is_object(name) or self._any_below(name + "/")

    def _any_below(self, prefix: str) -> bool:
        # Some servers go on listing directories for a while after the last object below them is gone.
        found = self.client.list(prefix)
        return any(not key.endswith("/") for key in found) or any(
            self._any_below(key) for key in found if key.endswith("/") and key != prefix
        )

    def list(self, prefix: str, recursive: bool = False) -> List[str]:
        """Return the keys below a prefix, sorted; where not ``recursive``, directories end in ``/``.

        A prefix that is an object is listed as itself.
        """
        name = self.full_key(prefix).rstrip("/")
        below = sorted(self.client.list(name + "/", recursive=recursive))
        return below or ([name] if self._is_object(name) else [])

    def copy(self, source: str, target: str, *, skip: Optional[str] = None) -> None:
        """Copy an object, or all below a prefix, into what is there.

        Args:
            source: Its key.
            target: Key of the copy.
            skip: An entry at its top that stays behind.
        """
        name, goal = self.full_key(source), self.full_key(target)
        if self._is_object(name):
            self.client.copy(name, goal)
            return
        left_out = f"{name}/{skip}/" if skip else "//"
        keys = [key for key in self.client.list(name + "/", recursive=True) if not key.startswith(left_out)]
        self._all(self.client.copy, [(key, goal + key[len(name) :]) for key in keys])

    def delete(self, key: str) -> None:
        """Remove an object, or all below a prefix; one that is not there is no error.

        Raises:
            StorageError: The client cannot delete.
        """
        name = self.full_key(key)
        delete = getattr(self.client, "delete", None)
        if delete is None:
            raise StorageError(f"deletion of {key!r} was asked for; the storage client {self.client!r} has no delete()")
        keys = [name] if self._is_object(name) else self.client.list(name + "/", recursive=True)
        for found in keys:
            delete(found)


def _files(root: str) -> Iterable[Tuple[str, Optional[str]]]:
    """Yield (name, path) of each file of a tree; for an empty directory its mark, without a path."""
    real = os.path.realpath(root)
    for here, directories, names in os.walk(real, followlinks=False):
        place = os.path.relpath(here, real)
        place = "" if place == "." else place + "/"
        for name in [*names, *(name for name in directories if os.path.islink(os.path.join(here, name)))]:
            path = os.path.join(here, name)
            if not os.path.islink(path):
                yield place + name, path
                continue
            if trees.link_text(path, real) is None:
                raise trees.leads_out(path, real)
            if os.path.isdir(path):
                raise StorageError(
                    f"cannot store the link {path} -> {os.readlink(path)}: S3 has no links to directories. "
                    "Store the artifact as an archive (archive='tar')."
                )
            yield place + name, os.path.realpath(path)
        if not directories and not names and config["detect_empty_dir"]:
            yield place + EMPTY, None


def object_store(**settings: Any) -> ObjectStore:
    """Return the object storage that ``s3_config`` describes, and for Argo the cluster's own artifact repository.

    Args:
        **settings: Replace settings of ``s3_config``.

    Raises:
        ConfigError: A setting is unknown.
    """
    unknown = sorted(set(settings) - set(s3_config))
    if unknown:
        raise ConfigError(f"settings {unknown} of the storage were given; known are {', '.join(sorted(s3_config))}")
    chosen = {**s3_config, **_of_cluster(), **settings}
    if chosen["storage_client"] is not None:
        client = client_from(chosen["storage_client"])
    else:
        from dflow_hpc.storage.s3 import MinioClient

        client = MinioClient(
            *(chosen[name] for name in ("endpoint", "access_key", "secret_key", "secure", "bucket_name"))
        )
    return ObjectStore(client, chosen["prefix"], chosen["extra_prefixes"])


def _of_cluster() -> Dict[str, Any]:
    """Return what Argo's cluster says of settings that were left at their defaults: its users type no keys."""
    if is_local():
        return {}
    try:
        find = hooks.resolve("repository")
    except ModuleNotFoundError:
        return {}  # in a pod: an engine is nothing that travels
    found: Dict[str, Any] = find()
    return found
