"""What every store must do: the local one, an object storage by a plugin's client, and (rig) a real S3.

Trees of all shapes go in and come out the same; merges are unions; what is absent, or leads elsewhere, is refused by
name. What only the local store has is in test_local.py.
"""

import hashlib
import io
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dflow_hpc.errors import ConfigError, StorageError
from dflow_hpc.storage.local import LocalStore
from dflow_hpc.storage.objects import ObjectStore, client_from, object_store
from dflow_hpc.storage.store import store_for

NAMES = st.text("abcXYZ019 ._-é", min_size=1, max_size=8).filter(lambda name: name not in (".", "..", ".empty_dir"))
TREES = st.recursive(
    st.binary(max_size=64),
    lambda below: st.dictionaries(NAMES, below, max_size=4),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))
FEW = settings(max_examples=25, database=None, suppress_health_check=[HealthCheck.too_slow])


def plant(root, tree):
    """Make a tree from ``{name: bytes | dict}``."""
    root.mkdir(parents=True, exist_ok=True)
    for name, what in tree.items():
        if isinstance(what, dict):
            plant(root / name, what)
        else:
            (root / name).write_bytes(what)
    return root


def picture(root):
    """Return the tree that lies at ``root``."""
    return {
        entry.name: picture(entry.path) if entry.is_dir() else Path(entry.path).read_bytes()
        for entry in os.scandir(root)
    }


class FolderClient:
    """dflow's storage client protocol over a directory, for tests: flat keys, as an object storage has them."""

    def __init__(self, room=None):
        self.room = Path(room or tempfile.mkdtemp())

    def _path(self, key):
        return self.room / key.replace("%", "%25").replace("/", "%2F")

    def _keys(self):
        return [path.name.replace("%2F", "/").replace("%25", "%") for path in self.room.iterdir()]

    def upload(self, key, path):
        self._path(key).write_bytes(Path(path).read_bytes())

    def download(self, key, path):
        Path(path).write_bytes(self._path(key).read_bytes())

    def list(self, prefix, recursive=False):
        keys = [key for key in self._keys() if key.startswith(prefix)]
        if recursive:
            return keys
        cut = {key[: key.find("/", len(prefix)) + 1] or key for key in keys}
        return sorted(cut)

    def copy(self, src, dst):
        self.upload(dst, self._path(src))

    def get_md5(self, key):
        return hashlib.md5(self._path(key).read_bytes()).hexdigest()

    def delete(self, key):
        self._path(key).unlink(missing_ok=True)


@pytest.fixture(params=["local", "plugin", pytest.param("s3", marks=pytest.mark.rig)])
def any_store(request, tmp_path):
    if request.param == "local":
        return LocalStore(tmp_path / "work")
    if request.param == "plugin":
        (tmp_path / "bucket").mkdir()
        return ObjectStore(FolderClient(tmp_path / "bucket"))
    server = request.getfixturevalue("s3_server")
    return object_store(**server, prefix=f"{tmp_path.name}/")


def _stores(room):
    (room / "bucket").mkdir()
    return LocalStore(room / "work"), ObjectStore(FolderClient(room / "bucket"))


@FEW
@given(TREES, st.sampled_from(["tar", "zip", "none"]), st.booleans())
def test_trees_come_back_as_they_went(tree, archive, move):
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        for number, store in enumerate(_stores(room)):
            source = plant(room / f"source{number}", {"top": tree})
            store.put(source / "top", "run/pod/out", archive=archive, move=move)
            assert (source / "top").exists() == (not move)
            if number and archive == "none" and not tree:
                continue  # nothing but the mark of an empty directory: the same as in the test below
            store.get("run/pod/out", room / f"target{number}", archive=archive)
            assert picture(room / f"target{number}") == tree


@FEW
@given(st.lists(TREES, min_size=1, max_size=3))
def test_merges_are_unions(trees):
    trees = [{f"{number}-{name}": what for name, what in tree.items()} for number, tree in enumerate(trees)]
    expected = {name: what for tree in trees for name, what in tree.items()}
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        for store in _stores(room):
            for tree in trees:
                with tempfile.TemporaryDirectory(dir=room) as source:
                    assert store.put(plant(Path(source) / "out", tree), "run/all", archive="none", move=True) == []
            if expected:
                with tempfile.TemporaryDirectory(dir=room) as target:
                    store.get("run/all", Path(target) / "in")
                    assert picture(Path(target) / "in") == expected


def test_a_file_keeps_its_bytes_and_its_right_to_be_run(any_store, tmp_path):
    source = tmp_path / "program"
    source.write_bytes(b"#!/bin/sh\n")
    source.chmod(0o755)
    any_store.put(source, "run/pod/program.tgz")
    any_store.get("run/pod/program.tgz", tmp_path / "there" / "program")
    assert (tmp_path / "there" / "program").read_bytes() == b"#!/bin/sh\n"
    assert os.access(tmp_path / "there" / "program", os.X_OK)


def test_empty_directories_arrive(any_store, tmp_path):
    source = plant(tmp_path / "source", {"a": {}, "b": {"c": {}}, "d": b"1"})
    for archive in ("none", "tar"):
        any_store.put(source, f"run/{archive}", archive=archive)
        any_store.get(f"run/{archive}", tmp_path / archive)
        assert picture(tmp_path / archive) == {"a": {}, "b": {"c": {}}, "d": b"1"}


@pytest.mark.parametrize("archive", ["tar", "none"])
def test_part_of_an_artifact(any_store, tmp_path, archive):
    any_store.put(plant(tmp_path / "source", {"a": {"b": {"c": b"1"}}, "d": b"2"}), "run/x", archive=archive)
    any_store.get("run/x", tmp_path / "file", sub_path="a/b/c")
    any_store.get("run/x", tmp_path / "directory", sub_path="a")
    assert (tmp_path / "file").read_bytes() == b"1"
    assert picture(tmp_path / "directory") == {"b": {"c": b"1"}}
    with pytest.raises(StorageError, match="a/nope"):
        any_store.get("run/x", tmp_path / "nope", sub_path="a/nope")
    with pytest.raises(StorageError, match=r"\.\./d"):
        any_store.get("run/x", tmp_path / "out", sub_path="a/../../d")


def _tarball(path, entries):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_an_archive_that_was_stored_as_a_file_is_unpacked_where_nothing_is_said(any_store, tmp_path):
    any_store.put(_tarball(tmp_path / "one.tgz", {"top/a": b"1"}), "run/one.tgz", archive="none")
    any_store.put(_tarball(tmp_path / "two.tgz", {"a": b"1", "b": b"2"}), "run/two.tgz", archive="none")
    any_store.put(_tarball(tmp_path / "file.tgz", {"a": b"1"}), "run/file.tgz", archive="none")
    any_store.get("run/one.tgz", tmp_path / "one")
    any_store.get("run/two.tgz", tmp_path / "two")
    any_store.get("run/file.tgz", tmp_path / "file")
    any_store.get("run/one.tgz", tmp_path / "packed", archive="none")
    assert picture(tmp_path / "one") == {"a": b"1"}
    assert picture(tmp_path / "two") == {"a": b"1", "b": b"2"}
    assert (tmp_path / "file").read_bytes() == b"1"
    assert (tmp_path / "packed").read_bytes() == (tmp_path / "one.tgz").read_bytes()


def test_an_archive_that_is_an_output_is_not_unpacked_once_more(any_store, tmp_path):
    source = _tarball(tmp_path / "results.tgz", {"a": b"1"})
    any_store.put(source, "run/pod/results.tgz")
    any_store.copy("run/pod/results.tgz", "run/copy.tgz")
    for key in ("run/pod/results.tgz", "run/copy.tgz"):
        any_store.get(key, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_keys_are_listed_copied_deleted(any_store, tmp_path):
    source = plant(tmp_path / "source", {".dflow": {"x": b"{}"}, "a": b"1", "b": {"c": b"2"}})
    any_store.put(source, "run/x", archive="none")
    any_store.put(source / "a", "run/xy", archive="none")
    root = any_store.full_key("run/x")
    shift = len(root) - len("run/x") if any_store.list("run/x")[0].startswith(root) else 0
    assert [key[shift:] for key in any_store.list("run/x")] == ["run/x/.dflow/", "run/x/a", "run/x/b/"]
    assert [key[shift:] for key in any_store.list("run/x", recursive=True)] == [
        "run/x/.dflow/x",
        "run/x/a",
        "run/x/b/c",
    ]
    assert [key[shift:] for key in any_store.list("run/xy")] == ["run/xy"]
    any_store.copy("run/x", "run/z", skip=".dflow")
    any_store.get("run/z", tmp_path / "z")
    assert picture(tmp_path / "z") == {"a": b"1", "b": {"c": b"2"}}
    assert any_store.exists("run/x")
    assert any_store.exists("run/x/b")
    assert not any_store.exists("run/x/a-and-more")
    any_store.delete("run/x")
    any_store.delete("run/never-there")
    assert not any_store.exists("run/x")
    assert any_store.exists("run/xy")
    with pytest.raises(StorageError, match="run/x"):
        any_store.get("run/x", tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("key", ["/etc/passwd", "../x", "run/../../x", "run//x", "run/./x"])
def test_keys_that_lead_elsewhere_are_refused(any_store, tmp_path, key):
    for call in (any_store.exists, any_store.list, any_store.delete, lambda key: any_store.get(key, tmp_path / "x")):
        with pytest.raises(StorageError, match="must be relative"):
            call(key)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="must be relative"):
        any_store.put(tmp_path / "file", key)


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("archive", ["none", "tar", "zip"])
def test_links_that_lead_out_are_refused_by_name(any_store, tmp_path, archive, move):
    source = plant(tmp_path / "source", {"a": b"1"})
    (source / "out").symlink_to("/etc/passwd")
    with pytest.raises(StorageError, match=r"out -> /etc/passwd"):
        any_store.put(source, "run/x", archive=archive, move=move)
    assert not any_store.exists("run/x")
    assert picture(source)["a"] == b"1"


def test_the_settings_choose_the_store(here, monkeypatch):
    from dflow_hpc.config import config, s3_config

    assert isinstance(store_for(), LocalStore)
    monkeypatch.setitem(s3_config, "storage_client", FolderClient(here))
    assert isinstance(store_for(), LocalStore)
    monkeypatch.setitem(config, "debug_s3", True)
    assert isinstance(store_for().client, FolderClient)
    with pytest.raises(ConfigError, match="'s4'"):
        store_for("s4")
    with pytest.raises(ConfigError, match="buckets"):
        store_for(buckets="x")
    with pytest.raises(ConfigError, match=r"no_such_module\.Client"):
        client_from("no_such_module.Client")


def test_prefixes_are_put_before_keys_once(tmp_path):
    store = ObjectStore(FolderClient(tmp_path), prefix="mine/", extra_prefixes=["shared/"])
    assert store.full_key("upload/x") == "mine/upload/x"
    assert store.full_key("mine/upload/x") == "mine/upload/x"
    assert store.full_key("shared/x") == "shared/x"
