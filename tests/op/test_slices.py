"""Slices: their options, their expressions, and which slices a leaf handles."""

import json

import pytest

from dflow_hpc.config import config
from dflow_hpc.errors import ExpressionError, ModelError
from dflow_hpc.op.evaluate import evaluate
from dflow_hpc.op.slices import Slices, resolve

VALUES = [
    ("3", 3),
    ("-3", -3),
    ("int('3') * 2 + 1", 7),
    ("[3*2, 3*2+1]", [6, 7]),
    ("'a.b'", "a.b"),
    ("range(2, 8, 3)", [2, 5]),
    ("[i*i for i in range(4) if i % 2]", [1, 9]),
    ("[a + str(b) for a, b in zip(['x', 'y'], [1, 2])]", ["x1", "y2"]),
    ("{k: v for k, v in {'a': 1}.items()}['a']", 1),
    ("sorted([3, 1])[::-1][0]", 3),
    ('{"order": 2, "x": null, "y": true}["order"]', 2),
    ("1 if 2 > 1 and not 3 == 4 else 0", 1),
    ("1 < 2 < 3", True),
    ("'a/b'.split('/')[1]", "b"),
    ("f'{1}-{\"x\"}'", "1-x"),
    ("sum(len(x) for x in ['a', 'bc'])", 3),
    ("max(1, 2) - min([1, 2])", 1),
    ("[i for row in [[1], [2]] for i in row]", [1, 2]),
    ("list(enumerate('ab'))", [(0, "a"), (1, "b")]),
    ("7 // 2 ** 1", 3),
    (" 1 ", 1),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_expressions(text, value):
    assert evaluate(text) == value


REFUSED = [
    ("__import__('os')", "calls '__import__'"),
    ("().__class__", "uses Attribute"),
    ("'a'.format(1)", r"calls .format\(\) of a str"),
    ("(lambda: 1)()", "calls something"),
    ("open('x')", "calls 'open'"),
    ("abc", "the name 'abc'.*write quotes"),
    ("a b", "no Python expression"),
    ("x := 1", "no Python expression"),
    ("(x := 1)", "uses NamedExpr"),
    ("'x' * 10**9", "too big"),
    ("[0] * 999999999", "too big"),
    ("2 ** 99999", "too big"),
    ("range(10**9)", "at most"),
    ("[[0] * 90000 for i in range(90000)]", "takes more than"),
    ("[i for i in range(90000) for j in range(90000)]", "takes more than"),
    ("'%999999999d' % 1", "formats a text with %"),
    ("f'{1:999999999}'", "f-string"),
    ("'a'.zfill(999999999)", "too big"),
    ("1 / 0", "ZeroDivisionError"),
    ("[1][5]", "IndexError"),
    ("1 + 'a'", "TypeError"),
    ("int('a')", "ValueError"),
    ("max(1, key=2)", "by name"),
    ("{**{}}", r"\*\* in a dict"),
    ("(" * 500 + ")" * 500, "no Python expression"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_expressions_refuse(text, message):
    with pytest.raises(ExpressionError, match=message):
        evaluate(text)


def texts(**parameters):
    return parameters.get


def test_one_slice():
    assert resolve({"slices": "${dflow_var_0}"}, texts(dflow_var_0="4")) == 4
    assert resolve({"slices": "'${dflow_var_0}'"}, texts(dflow_var_0="a.b")) == "a.b"
    assert resolve({"slices": "[${dflow_var_0}*2, ${dflow_var_0}*2+1]"}, texts(dflow_var_0="2")) == [4, 5]
    assert resolve({"slices": "range(${n})"}, texts(n="3")) == [0, 1, 2]


@pytest.mark.parametrize(("text", "found"), [("1.5", "1.5, a float"), ("true", "True, a bool"), ("null", "None")])
def test_what_is_no_slice(text, found):
    with pytest.raises(ExpressionError, match=f"gave {found}"):
        resolve({"slices": "${v}"}, texts(v=text))


def test_a_missing_parameter():
    with pytest.raises(ExpressionError, match="needs the input parameter 'v'"):
        resolve({"slices": "${v}"}, texts())


def group(expression, size, index, **parameters):
    record = Slices(expression, group_size=size).record(expression)
    return resolve(record, texts(dflow_group=str(index), **parameters))


def test_groups():
    assert group("${item}", 4, 0, dflow_nslices="6") == [0, 1, 2, 3]
    assert group("${item}", 4, 1, dflow_nslices="6") == [4, 5]
    assert group("${item}", 2, 1, dflow_range_start="10", dflow_range_end="20", dflow_range_step="3") == [16, 19]
    assert group("int('${item}')", 2, 0, dflow_sequence_start="5", dflow_sequence_end="3") == [5, 4]
    assert group("'${item}'", 9, 0, dflow_sequence_count="2", dflow_sequence_format="x%02d") == ["x00", "x01"]
    assert group("'${item}'", 2, 1, dflow_with_param='["a", "b", "c"]') == ["c"]
    items = json.dumps([{"order": 3, "name": "x"}, {"order": 5, "name": "y"}])
    assert group("${item.order}", 2, 0, dflow_with_param=items) == [3, 5]
    assert group("[${item}*2, ${item}*2+1]", 2, 0, dflow_nslices="2") == [0, 1, 2, 3]


def test_shuffled_groups_deal_each_item_once():
    record = Slices(group_size=3, shuffle=True, random_seed=7).record("${item}")
    dealt = [resolve(record, texts(dflow_group=str(index), dflow_nslices="8")) for index in range(3)]
    assert sorted(item for group_ in dealt for item in group_) == list(range(8))
    assert dealt != [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert dealt == [resolve(record, texts(dflow_group=str(index), dflow_nslices="8")) for index in range(3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": 3}, "Python expression as text"),
        ({"input_parameter": "x"}, "a list of names"),
        ({"output_artifact": [1]}, "a list of names"),
        ({"group_size": 0}, "an int above 0"),
        ({"group_size": True}, "an int above 0"),
        ({"pool_size": -2}, "or -1 for all"),
        ({"shuffle": True}, "without group_size"),
        ({"pool_timeout": 3}, "without pool_size"),
        ({"pool_timeout": 0, "pool_size": 1}, "seconds above 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ModelError, match=message):
        Slices(**options)


def test_record(monkeypatch):
    assert Slices().slices == "{{item}}"
    assert Slices(sub_path=True).slices == "{{item.order}}"
    grouped = Slices(sub_path=True, group_size=2)
    assert grouped.slices == "{{item}}"
    assert grouped.record("${item}") == {"slices": "${item}", "group_size": 2}
    slices = Slices("{{item}}", ["a"], output_parameter=("b",), pool_size=-1)
    record = {"slices": "${v}", "input_parameter": ["a"], "output_parameter": ["b"], "pool_size": -1}
    assert slices.record("${v}") == record
    monkeypatch.setitem(config, "raise_for_group", True)
    assert slices.record("${v}")["raise_for_group"] is True
