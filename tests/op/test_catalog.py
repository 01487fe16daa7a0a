"""The catalogue: its union, the object that it stands for, and parts of that."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import StorageError
from dflow_hpc.op import catalog
from dflow_hpc.op.catalog import Entry, assemble, entries_of, expand, flatten, pick, union


def test_int_orders_are_a_compact_list():
    assert assemble([Entry("c", 9), Entry("a", 2), Entry(None, 4)]) == ["a", None, "c"]
    assert assemble([]) == []


def test_dotted_orders_expand_and_ints_below_them_leave_holes():
    entries = [Entry("x", "a.0"), Entry("y", "a.2"), Entry("z", "b.c")]
    assert assemble(entries) == {"a": ["x", None, "y"], "b": {"c": "z"}}
    assert assemble([Entry("x", "0"), Entry("y", 2)]) == ["x", None, "y"]


def test_a_number_that_is_a_name_makes_no_list():
    assert assemble([Entry("x", "a.20261124")]) == {"a": {"20261124": "x"}}


def test_duplicates():
    one, two = [Entry("a", 0), Entry(None, 1)], [Entry("b", 0), Entry("c", 1), Entry("a", 0), Entry(None, 2)]
    assert union([one, two]) == [Entry("a", 0), Entry("b", 0), Entry("c", 1), Entry(None, 2)]
    assert assemble(union([one, two])) == ["a", "b", "c", None]


@pytest.mark.parametrize("orders", [("a", "a.b"), ("a.b", "a")])
def test_a_leaf_that_is_a_level_too(orders):
    with pytest.raises(StorageError, match="goes on below it"):
        assemble([Entry("x", order) for order in orders])


def test_null_is_hidden_by_what_is_there():
    assert assemble([Entry(None, "a"), Entry("x", "a.b")]) == {"a": {"b": "x"}}
    assert assemble([Entry("x", "a.b"), Entry(None, "a")]) == {"a": {"b": "x"}}


def test_keys_with_dots_come_back():
    value = {"a.txt": "x", "b\\": {"c.d": ["y"]}}
    assert assemble(entries_of(value)) == value


TREES = st.recursive(
    st.text("xyz", min_size=1, max_size=3) | st.none(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.text("ab.\\", min_size=1), inner, min_size=1, max_size=3)
    ),
)


@given(TREES.filter(lambda tree: isinstance(tree, (list, dict))))
def test_entries_and_back(tree):
    assert assemble(entries_of(tree)) == tree


@given(
    st.dictionaries(st.text("ab.\\", min_size=1), st.dictionaries(st.text("c.", min_size=1), st.integers(), min_size=1))
)
def test_flatten_and_back(tree):
    assert expand(flatten(tree)) == tree or tree == {}


def test_files(tmp_path):
    catalog.write(tmp_path, [Entry("a", 0)])
    catalog.write(tmp_path, [Entry("a", 0)])
    catalog.write(tmp_path, [Entry("b", 1)])
    assert len(list((tmp_path / ".dflow").iterdir())) == 2
    assert sorted(catalog.read(tmp_path)) == [Entry("a", 0), Entry("b", 1)]
    (tmp_path / "file").touch()
    assert catalog.read(tmp_path / "file") == catalog.read(tmp_path / "none") == []


ABSOLUTE, UPWARDS, NUMBER = (
    json.dumps({"path_list": [{"order": 0, "dflow_list_item": path}]}) for path in ("/etc/passwd", "a/../../b", 3)
)


@pytest.mark.parametrize("text", ["", "[]", '{"path_list": [{"order": 1}]}', ABSOLUTE, UPWARDS, NUMBER])
def test_a_file_that_is_no_catalogue(tmp_path, text):
    (tmp_path / ".dflow").mkdir()
    (tmp_path / ".dflow" / "x").write_text(text)
    with pytest.raises(StorageError, match=r"\.dflow/x was read as a catalogue"):
        catalog.read(tmp_path)


def test_work_is_linear_in_the_entries(tmp_path):
    """Counted, not timed: each entry is looked at once in the union, whatever the number of files."""
    files = [json.loads(catalog.render([Entry(str(i), i)])) for i in range(2000)]
    looked_at = 0

    def counting():
        nonlocal looked_at
        for file in files:
            for item in file["path_list"]:
                looked_at += 1
                yield [Entry(item["dflow_list_item"], item["order"])]

    assert len(assemble(union(counting()))) == looked_at == 2000


def test_pick():
    value = {"a": ["x", ["y", "z"]], "b.c": "w"}
    assert pick(value, "a.1.0", "it") == "y"
    assert pick(value, "b.c", "it") == "w"
    assert pick(["x", "y"], [1, "0"], "it") == ["y", "x"]
    assert pick(["x", "y"], -1, "it") == "y"


@pytest.mark.parametrize(
    ("where", "found"),
    [("a.9", "a list of 2"), ("c", "keys 'a'"), ("a.0.x", "'x', which has no parts"), (7, "keys 'a'")],
)
def test_pick_what_is_not_there(where, found):
    with pytest.raises(StorageError, match=f"slice {where!r} of input artifact 'data' was asked for; found .*{found}"):
        pick({"a": ["x", "y"]}, where, "input artifact 'data'")
