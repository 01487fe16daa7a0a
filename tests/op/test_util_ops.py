"""The OPs that the compiler puts beside sliced steps."""

import pytest

from dflow_hpc import OPIO
from dflow_hpc.op import catalog
from dflow_hpc.op.util_ops import JoinSlice

from .conftest import stage


@pytest.fixture
def join(tmp_path):
    """Return a function that joins what lies in the input, and gives the entries that it wrote."""

    def run(piece, create_dir=False):
        op = JoinSlice()
        op.tmp_root = str(tmp_path)
        op.execute(OPIO({"dflow_slice": piece, "dflow_create_dir": create_dir}))
        output = tmp_path / "outputs/artifacts/dflow_joined"
        entries = catalog.read(output)
        assert all(path is None or (output / path).exists() for path, _ in entries)
        return entries

    run.input = tmp_path / "inputs/artifacts/dflow_joined"
    run.input.parent.mkdir(parents=True)
    return run


def test_a_list_belongs_to_its_slice(join):
    stage(join.input, {"a": "1", "d/b": "2"})
    assert join(3) == [("a", 3), ("d/b", 3)]


def test_a_directory_is_named_by_the_slice_on_demand(join):
    stage(join.input, {"a": "1"})
    assert join(3, create_dir=True) == [("3/a", 3)]


def test_keys_of_a_dict_stay(join):
    stage(join.input, {"a": "1", "b": "2"}, ["x", "y.0"])
    assert join(3) == [("a", "x"), ("b", "y.0")]


def test_what_has_no_name_is_named_by_the_slice(join):
    join.input.write_text("of a script")
    assert join(3) == [("3", 3)]


def test_a_whole_directory_leaves_its_catalogue_behind(join):
    stage(join.input, {"a": "1"})
    (join.input / ".dflow" / "more").write_text(catalog.render([catalog.Entry(".", 0)]))
    (join.input / ".dflow" / "others").write_text(catalog.render([catalog.Entry("a", 9)]))
    assert set(join(3)) == {(".", 3), ("a", 3)}


def test_what_was_left_out_adds_nothing(join):
    assert join(3) == []
