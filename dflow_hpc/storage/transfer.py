"""Bring files into the store and out of it: what scripts call before a workflow and after it.

``upload_artifact`` keeps each file's place relative to the working directory and writes a catalogue that says which
file is which element of the list or dict; ``download_artifact`` reads it and gives the same object back, with paths.

Not here: how the store keeps them (``local.py``, ``s3.py``), and a leaf's own artifacts (``op/runner.py``).

Trap: a download is a copy of one's own, never a link to the store's read-only object, unless
``config["debug_copy_method"]`` says otherwise.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple, Union

from dflow_hpc.config import config
from dflow_hpc.errors import StorageError
from dflow_hpc.op import catalog
from dflow_hpc.op.catalog import Entry
from dflow_hpc.op.loader import forbid_while_loading
from dflow_hpc.storage import trees
from dflow_hpc.storage.artifact import CustomArtifact, HTTPArtifact, LocalArtifact, PathLike, S3Artifact
from dflow_hpc.storage.local import LocalStore
from dflow_hpc.storage.store import Store, store_for

Tree = Union[PathLike, List[Any], Set[Any], Dict[str, Any]]

_UPLOAD = re.compile(r"upload/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_uploads: Dict[str, LocalStore] = {}
"""Where this process has uploaded what: the working directory, and the store with it, may change until a submission."""


def bring_uploads(store: Store, text: str) -> None:
    """Copy what a text names of this process's uploads into a local store that has it not.

    Args:
        store: The store of a run.
        text: The run's manifest, and whatever else holds keys.
    """
    for key in sorted(set(_UPLOAD.findall(text)) & set(_uploads)):
        if isinstance(store, LocalStore) and not store.exists(key):
            store.put(_uploads[key].path_of(key), key)


def upload_artifact(
    path: Tree,
    archive: Optional[str] = "default",
    namespace: Optional[str] = None,
    dataset_name: Optional[str] = None,
    **settings: Any,
) -> S3Artifact:
    """Store files for a workflow to read: a copy, so that later edits do not show.

    Args:
        path: A file or a directory, or a list, set, dict or nested dict of them; None elements are left out.
        archive: ``"tar"`` or None (stored file by file); ``"default"`` is ``config["archive_mode"]``.
        namespace: With ``dataset_name``: where ``config["lineage"]``, if there is one, registers it.
        dataset_name: Its name there.
        **settings: Replace settings of ``s3_config``.

    Returns:
        The artifact, to be given to a step.

    Raises:
        StorageError: A file does not exist or cannot be read; it is named. Or the kind of archive is unknown.
    """
    forbid_while_loading("upload_artifact")
    archive = config["archive_mode"] if archive == "default" else archive
    if archive not in ("tar", "none", None):
        raise StorageError(f"upload with archive={archive!r} was asked for; known are 'tar' and None")
    store = store_for(**settings)
    key = f"upload/{uuid.uuid4()}"
    with _staging(store, key) as room:
        tree = Path(room) / "files"
        entries = [Entry(_place(str(entry.path), tree, store), entry.order) for entry in _entries(path)]
        catalog.write(tree, entries)
        if isinstance(store, LocalStore):
            artifact: S3Artifact = LocalArtifact(store.path_of(key), key)
            _uploads[key] = store
        else:
            key = store.full_key(key) + (".tgz" if archive == "tar" else "")
            artifact = S3Artifact(key)
        store.put(tree, key, archive=archive or "none", move=True)
    artifact.path_list = [{"dflow_list_item": entry.path, "order": entry.order} for entry in entries]
    if config.get("lineage") and namespace and dataset_name:
        artifact.urn = config["lineage"].register_artifact(namespace=namespace, name=dataset_name, uri=key)
    return artifact


def _entries(path: Tree) -> List[Entry]:
    if isinstance(path, (str, os.PathLike)):
        return [Entry(os.fspath(path), 0)]
    if isinstance(path, (set, frozenset)):
        path = sorted(path, key=str)
    if not isinstance(path, (list, tuple, Mapping)):
        raise StorageError(
            f"upload_artifact was given {path!r}; it takes a path, or a list, set, dict or nested dict of paths"
        )
    return [entry for entry in catalog.entries_of(path) if entry.path is not None]


def _place(path: str, tree: Path, store: Store) -> str:
    """Copy a file or directory into ``tree``; return its place there."""
    if not os.path.exists(path):
        raise StorageError(
            f"upload of {path!r} was asked for; there is no such file or directory (working directory {os.getcwd()})"
        )
    full = os.path.abspath(path)
    name = os.path.relpath(full, os.getcwd())
    name = full.lstrip(os.sep) if name.split(os.sep)[0] == os.pardir else name
    real = os.path.realpath(full)
    if trees.within(os.path.realpath(tree.parent), real):
        raise StorageError(
            f"upload of {path!r} was asked for; the store itself lies in it ({tree.parent.parent}). "
            "Name the files below it, or set debug_workdir to a directory elsewhere."
        )
    # A link is followed even where it leads out: the user named this tree, and the store shall have all of it.
    goal = tree / name
    goal.parent.mkdir(parents=True, exist_ok=True)
    ways = trees.INDEPENDENT if isinstance(store, LocalStore) else (trees.HARDLINK, trees.COPY)
    try:
        trees.clone(full, str(goal), trees.Cloner(ways))
    except OSError as error:
        raise StorageError(f"upload of {path!r} was asked for; {error.filename}: {error.strerror}") from error
    return name


@contextlib.contextmanager
def _staging(store: Store, key: str) -> Iterator[str]:
    """Give a directory from which the store can take a tree cheaply."""
    with store.staging(key) if isinstance(store, LocalStore) else tempfile.TemporaryDirectory() as room:
        yield room


def download_artifact(
    artifact: Any,
    extract: bool = True,
    sub_path: Optional[str] = None,
    slice: Optional[Union[int, str]] = None,
    path: PathLike = ".",
    remove_catalog: bool = True,
    skip_exists: bool = False,
    **settings: Any,
) -> Any:
    """Fetch an artifact.

    Args:
        artifact: An artifact that was uploaded, or one of a step's result: ``step.outputs.artifacts["name"]``.
        extract: Unpack what S3 holds as an archive; the local store holds none.
        sub_path: Fetch only what lies there in it.
        slice: Fetch only this element of its list or dict.
        path: The directory in which its files get the places that they had.
        remove_catalog: Leave the catalogue's files behind.
        skip_exists: Keep files that are there already.
        **settings: Replace settings of ``s3_config``.

    Returns:
        The list, dict or nested dict of paths (texts) that the artifact stands for; where it has no catalogue, the
        list of what lies at its top.

    Raises:
        StorageError: It is no artifact of a result, or it cannot be fetched.
    """
    target = Path(path)
    target.mkdir(parents=True, exist_ok=True)
    if isinstance(artifact, HTTPArtifact):
        return [artifact.download(target)]
    if isinstance(artifact, CustomArtifact):
        artifact.download("artifact", str(target))
        return [str(target)]
    store, key = _holder(artifact, settings)
    part = getattr(artifact, "slice", None) if slice is None else slice
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target) as room:
        tree = Path(room) / (os.path.basename((sub_path or "").rstrip("/")) or _file_name(artifact, key))
        how = config["debug_copy_method"] or "copy"
        if part is None or sub_path or not store.exists(f"{key}/{catalog.directory_name()}"):
            packed = "zip" if "zip" in (_field(artifact, "archive") or ()) else None
            store.get(key, tree, archive=packed if extract else "none", sub_path=sub_path or "", how=how)
            entries = catalog.read(tree)
        else:
            entries = _catalogue(store, key)
            for name in _leaves(catalog.pick(catalog.assemble(entries), part, f"the artifact {key!r}")):
                store.get(key, tree / name, archive="none", sub_path=name, how=how)
        found = _picture(tree, entries, part, key)
        if tree.is_dir():
            if remove_catalog:
                trees.remove(str(tree / catalog.directory_name()))
            if part is not None:
                _keep_only(tree, set(_leaves(found)))
            trees.merge(str(tree), str(target), keep_existing=skip_exists)
        elif not (skip_exists and (target / tree.name).exists()):
            tree.replace(target / tree.name)
    return _map(found, lambda name: str(target / name))


def _picture(tree: Path, entries: List[Entry], part: Any, key: str) -> Any:
    """Return the object of relative paths that a fetched artifact stands for."""
    if not tree.is_dir():
        return [tree.name]
    directory = catalog.directory_name()
    if not entries and not (tree / directory).exists():
        return sorted(entry.name for entry in tree.iterdir())
    found = catalog.assemble(entries)
    if part is None:
        return found
    found = catalog.pick(found, part, f"the artifact {key!r}")
    return [found] if found is None or isinstance(found, str) else found


def _keep_only(tree: Path, names: Set[str]) -> None:
    """Remove what is none of these files and directories, nor above or below one."""
    for here, directories, files in os.walk(tree):
        place = os.path.relpath(here, tree)
        for name in [*directories, *files]:
            full = os.path.normpath(os.path.join(place, name))
            if full in names:
                if name in directories:
                    directories.remove(name)
            elif not any(wanted.startswith(full + os.sep) for wanted in names):
                trees.remove(os.path.join(here, name))
                if name in directories:
                    directories.remove(name)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield value


def _map(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _map(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_map(item, change) for item in value]
    return None if value is None else change(value)


def key_of(artifact: Any) -> str:
    """Return the key of an artifact that was uploaded or is a step's result.

    Raises:
        StorageError: It has none.
    """
    if isinstance(artifact, S3Artifact):
        return str(artifact.location()["s3"]["key"])
    for kind in ("s3", "oss"):
        key = _field(_field(artifact, kind), "key")
        if key:
            return str(key)
    raise StorageError(
        f"an artifact was asked for; {artifact!r} has no key. Give one that upload_artifact() returned, or one of a "
        'result: workflow.query_step(name="...")[0].outputs.artifacts["..."]'
    )


def _field(artifact: Any, name: str) -> Any:
    return artifact.get(name) if isinstance(artifact, Mapping) else getattr(artifact, name, None)


def _file_name(artifact: Any, key: str) -> str:
    """Return the name for an artifact that is one file: the one it had where its step wrote it."""
    path = _field(artifact, "path")
    name = os.path.basename(str(path or key).rstrip("/"))
    return name[: -len(".tgz")] if not path and name.endswith(".tgz") else name


def _holder(artifact: Any, settings: Mapping[str, Any]) -> Tuple[Store, str]:
    """Return the store that has an artifact, and its key there."""
    store, key = store_for(**settings), key_of(artifact)
    if key in _uploads and isinstance(store, LocalStore) and not store.exists(key):
        store = _uploads[key]
    return store, key


def _catalogue(store: Store, key: str) -> List[Entry]:
    """Return the catalogue of an artifact, fetching as little of it as its archive allows."""
    directory = catalog.directory_name()
    with tempfile.TemporaryDirectory() as room:
        tree = Path(room) / "artifact"
        if store.exists(f"{key}/{directory}"):
            store.get(key, tree / directory, archive="none", sub_path=directory)
        else:
            store.get(key, tree)
        return catalog.read(tree)


def catalog_of_artifact(art: Any, **settings: Any) -> List[Dict[str, Any]]:
    """Return the catalogue of an artifact: ``[{"dflow_list_item": path, "order": i}]``.

    Args:
        art: An artifact that was uploaded or is a step's result.
        **settings: Replace settings of ``s3_config``.
    """
    entries = _catalogue(*_holder(art, settings))
    return [{"dflow_list_item": entry.path, "order": entry.order} for entry in entries]


def path_object_of_artifact(art: Any, **settings: Any) -> Any:
    """Return the list, dict or nested dict of paths in an artifact, without fetching them.

    Args:
        art: An artifact that was uploaded or is a step's result.
        **settings: Replace settings of ``s3_config``.
    """
    return catalog.assemble(_catalogue(*_holder(art, settings)))


def path_list_of_artifact(art: Any, **settings: Any) -> List[Optional[str]]:
    """Return the paths in an artifact as a flat list.

    Args:
        art: An artifact that was uploaded or is a step's result.
        **settings: Replace settings of ``s3_config``.
    """
    return list(catalog.flatten(path_object_of_artifact(art, **settings)).values())


def copy_artifact(src: Any, dst: S3Artifact, sort: bool = False, **settings: Any) -> S3Artifact:
    """Copy the files of one artifact into another, on the side of the store.

    Args:
        src: The artifact to copy; stored un-archived where it lies in S3.
        dst: The artifact that they are added to.
        sort: Let the elements of ``src`` follow those of ``dst``, instead of keeping their indices.
        **settings: Replace settings of ``s3_config``.

    Returns:
        ``dst``.

    Raises:
        StorageError: With ``sort``, one of the two is an archive, or stands for a dict.
    """
    store = store_for(**settings)
    source, target = key_of(src), key_of(dst)
    if not sort:
        store.copy(source, target)
        return dst
    for key in (source, target):
        if store.list(key) == [key]:
            raise StorageError(
                f"copy of {source!r} behind {target!r} was asked for (sort=True); {key!r} is one object, and nothing "
                "can be added to its catalogue. Upload it with archive=None."
            )
    there = [entry.order for entry in _catalogue(store, target)] if store.exists(target) else []
    added = _catalogue(store, source)
    if not all(isinstance(order, int) for order in [*there, *(entry.order for entry in added)]):
        raise StorageError(
            f"copy of {source!r} behind {target!r} was asked for (sort=True); one is a dict, and has no order. "
            "Use sort=False."
        )
    start = max((int(order) for order in there), default=-1) + 1
    store.copy(source, target, skip=catalog.directory_name())
    with tempfile.TemporaryDirectory() as room:
        tree = Path(room) / "files"
        catalog.write(tree, [Entry(entry.path, start + int(entry.order)) for entry in added])
        store.put(tree, target, archive="none", move=True)
    return dst


def upload_s3(path: PathLike, key: Optional[str] = None, prefix: Optional[str] = None, **settings: Any) -> str:
    """Store a file or a directory as it is, without a catalogue.

    Args:
        path: The file or directory.
        key: Its key; None is ``<prefix>/<basename>``.
        prefix: None is ``upload/<uuid>``.
        **settings: Replace settings of ``s3_config``.

    Returns:
        The key.
    """
    forbid_while_loading("upload_s3")
    name = os.path.basename(os.path.abspath(path))
    store = store_for(**settings)
    key = store.full_key(key or f"{prefix or f'upload/{uuid.uuid4()}'}/{name}")
    with _staging(store, key) as room:
        tree = Path(room)
        store.put(tree / _place(os.fspath(path), tree, store), key, archive="none", move=True)
    return key


def download_s3(
    key: str,
    path: PathLike = ".",
    recursive: bool = True,
    skip_exists: bool = False,
    keep_dir: bool = False,
    **settings: Any,
) -> str:
    """Fetch an object, or all below a prefix, as it is.

    Args:
        key: The key.
        path: The directory for it.
        recursive: Fetch what is in directories of a prefix, too.
        skip_exists: Keep files that are there already.
        keep_dir: Put what is below the prefix into a directory of the prefix's name.
        **settings: Replace settings of ``s3_config``.

    Returns:
        The path of the file; for a prefix the directory.
    """
    store = store_for(**settings)
    target = Path(path)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target) as room:
        tree = Path(room) / os.path.basename(key.rstrip("/"))
        store.get(key, tree, archive="none", how=config["debug_copy_method"] or "copy")
        if not tree.is_dir():
            if not (skip_exists and (target / tree.name).exists()):
                tree.replace(target / tree.name)
            return str(target / tree.name)
        if not recursive:
            for entry in tree.iterdir():
                if entry.is_dir():
                    trees.remove(str(entry))
        target = target / tree.name if keep_dir else target
        trees.merge(str(tree), str(target), keep_existing=skip_exists)
    return str(target)


def copy_s3(src_key: str, dst_key: str, recursive: bool = True, ignore_catalog: bool = False, **settings: Any) -> None:
    """Copy an object, or all below a prefix, on the side of the store.

    Args:
        src_key: The key.
        dst_key: The key of the copy.
        recursive: Must be True where ``src_key`` is a prefix; False refuses one.
        ignore_catalog: Leave the catalogue behind.
        **settings: Replace settings of ``s3_config``.
    """
    store = store_for(**settings)
    if not recursive and any(True for _ in store.list(src_key.rstrip("/") + "/")):
        raise StorageError(f"copy of {src_key!r} was asked for, not recursive; it is a prefix. Use recursive=True.")
    store.copy(src_key, dst_key, skip=catalog.directory_name() if ignore_catalog else None)
