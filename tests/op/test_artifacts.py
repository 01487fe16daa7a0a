"""Artifacts of an OP: the values that it sees, and what becomes of the paths that it returns."""

# ruff: noqa: PTH102, PTH115, PTH121, PTH211  (links are made and read as the system has them)
import os
import sys
import types
from pathlib import Path
from typing import Dict, List, Set

import pytest

from dflow_hpc import OP, OPIO, Artifact, HDF5Datasets, NestedDict, OPIOSign
from dflow_hpc.errors import StorageError
from dflow_hpc.op import catalog
from dflow_hpc.op.artifacts import Publisher, Returned, Staged, read_staged, receive
from dflow_hpc.op.paths import ArtifactList, ArtifactStr, link_or_copy

from .conftest import stage

ONE = Staged(Path("/r"), ["a"])
TWO = Staged(Path("/r"), ["a", None, "d/b"])
TREE = Staged(Path("/r"), {"k": ["a", "b"], "l": {"m": "c"}})
NONE = Staged(Path("/r"), [])

RECEIVED = [
    (Artifact(Path), ONE, (), Path("/r/a")),
    (Artifact(str), ONE, (), "/r/a"),
    (Artifact(Path, sub_path=False), ONE, (), Path("/r")),
    (Artifact(Path), TWO, (), Path("/r")),
    (Artifact(Path), NONE, (), Path("/r")),
    (Artifact(Path), TWO, (2,), Path("/r/d/b")),
    (Artifact(Path), TWO, (1,), None),
    (Artifact(Path), TWO, (None, [0]), Path("/r/a")),
    (Artifact(Path), TREE, ("k.1",), Path("/r/b")),
    (Artifact(Path), TREE, ("k", 0), Path("/r/a")),
    (Artifact(List[Path]), ONE, (), [Path("/r/a")]),
    (Artifact(List[str]), TWO, (), ["/r/a", None, "/r/d/b"]),
    (Artifact(List[str]), TWO, ([2, 0],), ["/r/d/b", "/r/a"]),
    (Artifact(List[str]), TREE, (), ["/r/a", "/r/b", "/r/c"]),
    (Artifact(List[str]), NONE, (), []),
    (Artifact(Set[Path]), TWO, (), {Path("/r/a"), None, Path("/r/d/b")}),
    (Artifact(Dict[str, Path]), NONE, (), {}),
    (Artifact(Dict[str, Path]), TREE, ("l",), {"m": Path("/r/c")}),
    (Artifact(NestedDict[str]), TREE, (), {"k": ["/r/a", "/r/b"], "l": {"m": "/r/c"}}),
    (Artifact(Path), None, (), None),
]


@pytest.mark.parametrize(("sign", "staged", "where", "value"), RECEIVED)
def test_what_an_op_sees(sign, staged, where, value):
    found = receive("data", sign, staged, where)
    assert found == value
    assert found is None or found.art_root == Path("/r")


def test_values_are_ordinary_ones():
    path = receive("data", Artifact(Path), ONE)
    assert isinstance(path / "x", Path)
    assert type(receive("data", Artifact(str), ONE)) is ArtifactStr
    assert type(receive("data", Artifact(List[str]), ONE)) is ArtifactList


def test_staged_forms(tmp_path):
    inputs = tmp_path / "inputs/artifacts"
    stage(inputs / "data", {"a": "1", "d/b": "2"})
    inputs.joinpath("raw").write_text("text")
    inputs.joinpath("bare").mkdir()
    assert read_staged("data", tmp_path) == Staged(inputs / "data", ["a", "d/b"])
    assert read_staged("none", tmp_path) is None
    assert receive("raw", Artifact(Path), read_staged("raw", tmp_path)) == inputs / "raw"
    assert receive("bare", Artifact(List[Path]), read_staged("bare", tmp_path)) == []


def test_parts(tmp_path):
    inputs = tmp_path / "inputs/artifacts"
    stage(inputs / "dflow_data_0", {"a": "1", "b": "2"})
    stage(inputs / "dflow_data_1", {"c": "3"})
    inputs.joinpath("dflow_data_2").write_text("raw")
    listed = receive("data", Artifact(List[str]), read_staged("data", tmp_path, 3))
    names = ["dflow_data_0/a", "dflow_data_0/b", "dflow_data_1/c", "dflow_data_2"]
    assert listed == [str(inputs / name) for name in names]
    keyed = receive("data", Artifact(NestedDict[str]), read_staged("data", tmp_path, ["x", "y.z", "y.w"]))
    first, second, third, fourth = listed
    assert keyed == {"x": [first, second], "y": {"z": third, "w": fourth}}
    some = read_staged("data", tmp_path, 3, {"dflow_data_0": "1"})
    assert receive("data", Artifact(List[str]), some) == [second, third, fourth]
    with pytest.raises(StorageError, match="'7' of part 1 of the input artifact 'data'"):
        read_staged("data", tmp_path, 3, {"dflow_data_1": "7"})
    with pytest.raises(StorageError, match="part 2"):
        read_staged("data", tmp_path, 3, {"dflow_data_2": "a"})


class World:
    """An OP's directory with a few files, and the leaf around it."""

    def __init__(self, root):
        self.root = root
        self.workdir = root / "workdir"
        for name in ("a", "b", "d/f"):
            file = self.workdir / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)

    def publish(self, type_, value, where=None, **options):
        early = options.pop("early", False)
        publisher = Publisher("out", Artifact(type_, **options), self.root, early=early)
        entries = publisher.publish([Returned(value, where)])
        assert sorted(entries, key=str) == sorted(catalog.read(publisher.target), key=str)
        return [(entry.path, entry.order) for entry in entries]

    def files(self):
        top = self.root / "outputs/artifacts/out"
        return sorted(
            str(path.relative_to(top)) for path in top.rglob("*") if path.is_file() and ".dflow" not in path.parts
        )


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path)
    monkeypatch.chdir(made.workdir)
    return made


# As pydflow 1.8 writes them, but for the names of the catalogue's files.
PUBLISHED = [
    (List[Path], [Path("a"), Path("b")], 3, [("a", 3), ("b", 3)]),
    (List[Path], [Path("a"), Path("b")], [3, 5], [("a", 3), ("b", 5)]),
    (List[Path], [Path("a"), Path("b")], "k", [("a", "k.0"), ("b", "k.1")]),
    (List[Path], [Path("a"), None], None, [("a", 0), (None, 1)]),
    (List[Path], [Path("a"), Path("none")], None, [("a", 0), (None, 1)]),
    (Path, Path("a"), 2, [("a", 2)]),
    (str, "a", "x.y", [("a", "x.y")]),
    (Path, Path("a"), None, [("a", 0)]),
    (Path, None, None, [(None, 0)]),
    (Path, None, [4, 5], [(None, 4), (None, 5)]),
    (Dict[str, Path], {"k": Path("a"), "l": None}, None, [("a", "k"), (None, "l")]),
    (Dict[str, Path], {"k": Path("a"), "l": Path("b")}, 4, [("a", "k"), ("b", "l")]),
    (
        NestedDict[Path],
        {"k": [Path("a"), Path("b")], "l": {"z": Path("d")}},
        None,
        [("a", "k.0"), ("b", "k.1"), ("d", "l.z")],
    ),
    (Set[Path], {Path("b"), Path("a")}, None, [("a", 0), ("b", 1)]),
]


@pytest.mark.parametrize(("type_", "value", "where", "entries"), PUBLISHED)
def test_what_is_published(world, type_, value, where, entries):
    assert world.publish(type_, value, where) == entries


def test_paths_keep_their_place(world, tmp_path):
    elsewhere = tmp_path / "elsewhere/x"
    elsewhere.parent.mkdir()
    elsewhere.write_text("x")
    stage(tmp_path / "inputs/artifacts/data", {"sub/y": "y"})
    given = tmp_path / "inputs/artifacts/data/sub/y"
    absolute = str(elsewhere)[1:]
    paths = [world.workdir / "a", Path("../workdir/b"), Path("d"), elsewhere, given]
    assert world.publish(List[Path], paths) == [("a", 0), ("b", 1), ("d", 2), (absolute, 3), ("sub/y", 4)]
    assert world.files() == sorted(["a", "b", "d/f", absolute, "sub/y"])
    assert os.path.samefile("a", tmp_path / "outputs/artifacts/out/a")


def test_an_input_handed_on_whole_does_not_bring_its_catalogue(world, tmp_path):
    stage(tmp_path / "inputs/artifacts/data", {"x": "1", "y": "2"})
    assert world.publish(Path, tmp_path / "inputs/artifacts/data") == [(".", 0)]
    assert world.files() == ["x", "y"]
    assert catalog.assemble(catalog.read(tmp_path / "inputs/artifacts/data")) == ["x", "y"]


def test_a_missing_path_fails_unless_optional(world, capsys):
    with pytest.raises(StorageError, match=r"output artifact 'out' is 'none', which does not exist in .*workdir"):
        world.publish(Path, Path("none"))
    assert world.publish(Path, Path("none"), optional=True) == [(None, 0)]
    assert "'none' does not exist, noted as null" in capsys.readouterr().err


def test_a_missing_path_is_null_in_a_program_of_dflow(world, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "dflow", types.ModuleType("dflow"))
    assert world.publish(Path, Path("none")) == [(None, 0)]
    assert "'none' does not exist, noted as null" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("type_", "value", "where", "message"),
    [
        (Path, 3, None, "has the element 3, a int"),
        (List[Path], Path("a"), None, "is declared as Artifact"),
        (Dict[str, Path], [Path("a")], None, "is declared as Artifact"),
        (List[Path], [Path("a")], [1, 2], "belongs to 2 slices, .*found 1 paths"),
        (List[Path], [3], None, "has the element 3"),
    ],
)
def test_wrong_values(world, type_, value, where, message):
    with pytest.raises(TypeError, match=f"output artifact 'out' {message}"):
        world.publish(type_, value, where)


def test_links_in_a_tree(world, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("outside")
    os.symlink("f", "d/inside")
    os.symlink(outside, "d/out")
    os.symlink("nowhere", "d/dangling")
    os.mkdir("d/empty")
    world.publish(Path, "d")
    made = tmp_path / "outputs/artifacts/out/d"
    assert os.readlink(made / "inside") == "f"
    assert not (made / "out").is_symlink()
    assert (made / "out").read_text() == "outside"
    assert (made / "dangling").is_symlink()
    assert (made / "empty").is_dir()


def test_trees_that_cannot_be(world, tmp_path):
    os.symlink(world.workdir, "d/loop")
    with pytest.raises(StorageError, match="leads into itself"):
        world.publish(Path, "d")
    with pytest.raises(StorageError, match="contains the directory of the outputs"):
        world.publish(Path, tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(StorageError, match="neither a file nor a directory"):
        world.publish(Path, "pipe")


def test_one_name_for_two_files(world, tmp_path):
    stage(tmp_path / "inputs/artifacts/data", {"a": "another"})
    both = [Path("a"), tmp_path / "inputs/artifacts/data/a"]
    with pytest.raises(StorageError, match="two outputs of one artifact are to be"):
        world.publish(List[Path], both)
    assert world.publish(List[Path], [Path("a"), Path("a")]) == [("a", 0), ("a", 1)]


def test_copies_where_links_are_not_possible(world, monkeypatch, tmp_path):
    def refuse(*_args):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(Path("a"), tmp_path / "copy", own=Path.cwd())
    assert (tmp_path / "copy").read_text() == "a"
    assert not os.path.samefile("a", tmp_path / "copy")


def test_early_outputs_show_what_is_still_written(world, tmp_path):
    world.publish(Path, "a", early=True)
    Path("a").write_text("more")
    assert (tmp_path / "outputs/artifacts/out/a").read_text() == "more"
    world.publish(Path, "a")
    assert not (tmp_path / "outputs/artifacts/out/a").is_symlink()


class Datasets(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"data": Artifact(HDF5Datasets, optional=True)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"out": Artifact(HDF5Datasets)})

    @OP.exec_sign_check
    def execute(self, op_in):
        Path("text").write_text("é")
        Path("bytes").write_bytes(b"\xff\x00")
        Path("dir").mkdir()
        Path("dir/f").write_text("f")
        given = op_in["data"] or []
        return OPIO({"out": [*given, Path("text"), Path("bytes"), Path("dir"), None, 5]})


def test_hdf5(leaf, tmp_path, monkeypatch):
    pytest.importorskip("h5py", reason="h5py is not installed here")
    done = leaf(Datasets)
    assert done.code == 0
    (tmp_path / "next/inputs").mkdir(parents=True)
    (done.root / "outputs/artifacts").rename(tmp_path / "next/inputs/artifacts")
    found = receive("out", Artifact(HDF5Datasets), read_staged("out", tmp_path / "next"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text, data, directory, _none, number = found
    assert (text.get_data(), data.get_data(), number.get_data()) == ("é", b"\xff\x00", 5)
    assert [one.is_none() for one in found] == [False, False, False, True, False]
    assert text.recover().read_text() == "é"
    assert (directory.recover() / "f").read_text() == "f"
    with pytest.raises(StorageError, match="it holds 'data'"):
        number.recover()


def test_hdf5_without_h5py_says_how_to_get_it(leaf, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert leaf(Datasets).code == 1
    assert "pip install h5py" in capsys.readouterr().err
