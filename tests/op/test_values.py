"""Parameters as text: the texts are jsonpickle's, and plain JSON does not load it."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Optional, Union

import jsonpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import SignError
from dflow_hpc.op import values


class Thing:
    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return isinstance(other, Thing) and self.n == other.n

    __hash__ = None


shared = [1]
KEYS = st.one_of(st.text(max_size=5), st.sampled_from(["py/object", "json://1", "a.b", ""]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_text_is_jsonpickles(value):
    assert values.dump(value) == jsonpickle.dumps(value, keys=True)


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1, 2}, {1: 2}, [shared, shared], {"a": shared, "b": shared}, b"ab", Path("a"), Thing(3), [Thing(1)]],
)
def test_what_json_cannot_say_travels_too(value):
    text = values.dump(value)
    assert text == jsonpickle.dumps(value, keys=True)
    assert values.load(text) == value


def test_plain_values_do_not_load_jsonpickle():
    program = (
        "import sys; from dflow_hpc.op import values\n"
        "t = values.dump({'a': [1, None, 2.5, 'x']}); values.load(t, dict); "
        "values.stack([1], [0]); sys.exit('jsonpickle' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_str_travels_as_it_is():
    assert values.dump("a\n'b'", str) == "a\n'b'"
    assert values.load("a\n'b'", str) == "a\n'b'"
    assert values.load("null", str) == "null"
    assert values.dump("a") == '"a"'
    assert values.dump(None, str) == "null"


def test_special_floats():
    assert math.isnan(values.load(values.dump(math.nan)))
    assert values.load(values.dump(-math.inf)) == -math.inf


def test_numpy_numbers_become_plain():
    numpy = pytest.importorskip("numpy", reason="numpy is not installed here")
    assert values.dump(numpy.float64(1.5), float) == "1.5"
    assert values.dump({"a": [numpy.int32(1), 2], "b": numpy.bool_(True)}) == '{"a": [1, 2], "b": true}'
    back = values.load(values.dump(numpy.arange(3)))
    assert (back == numpy.arange(3)).all()


def stacked(*pairs):
    return json.dumps([json.dumps([{"dflow_list_item": value, "order": order}]) for value, order in pairs])


def test_stacked_outputs_are_sorted_by_order():
    assert values.load(stacked((3, 1), ("q", 0)), List[int]) == ["q", 3]
    assert values.load(stacked((3, 10), (4, 10), (5, 9)), list) == [5, 3, 4]
    assert values.load(stacked((3, "b"), (4, "a")), list) == [4, 3]
    assert values.load(stacked((3, 1), (4, 0)), str, sliced=True) == [4, 3]
    assert values.load('[[{"dflow_list_item": [1], "order": 0}], null]', list) == [[1]]
    assert values.load(json.dumps(["null", "[" + json.dumps({"dflow_list_item": 1, "order": 0}) + "]"]), list) == [1]


def test_a_text_that_only_mentions_the_mark_is_a_text():
    assert values.load('say "dflow_list_item"', str) == 'say "dflow_list_item"'
    assert values.load('["dflow_list_item"]', list) == ["dflow_list_item"]


def test_text_that_is_no_json():
    assert values.load("abc", Any) == "abc"
    assert values.load("abc", Union[int, str]) == "abc"
    assert values.load("abc", Optional[str]) == "abc"
    with pytest.raises(SignError, match=r"input parameter 'n' is declared as int; found the text 'abc'"):
        values.load("abc", int, name="input parameter 'n'")


def test_state_of_an_instance():
    thing, other = Thing(5), Thing(0)
    values.load_state(other, values.dump_state(thing))
    assert other == thing
    empty = Thing(0)
    del empty.n
    assert values.dump_state(empty) is None
