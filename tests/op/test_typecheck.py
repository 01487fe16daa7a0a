"""What fits a type, and what the message says when it does not."""

import collections
import enum
import typing
from pathlib import Path
from typing import Any, Callable, Dict, List, Literal, NamedTuple, Optional, Sequence, Set, Tuple, TypedDict, Union

import pytest

from dflow_hpc.errors import DflowError, SignError
from dflow_hpc.op.typecheck import check_type, is_type

T = typing.TypeVar("T", int, str)


class Point(NamedTuple):
    x: int
    y: float


class Options(TypedDict):
    n: int
    name: str


class Loose(TypedDict, total=False):
    n: int


class Colour(enum.Enum):
    RED = 1


FITS = [
    (1, int),
    (True, int),
    (1, float),
    (True, float),
    (1.5, complex),
    ("a", str),
    ([1, "a"], list),
    (None, None),
    (object(), Any),
    (3, object),
    ([1, 2], List[int]),
    ([], List[int]),
    ((1, 2), Sequence[int]),
    ("ab", Sequence[str]),
    ({"a": [1]}, Dict[str, List[int]]),
    (collections.OrderedDict(a=1), typing.Mapping[str, int]),
    ({1}, Set[int]),
    ((1, "a"), Tuple[int, str]),
    ((1, 2, 3), Tuple[int, ...]),
    ((), Tuple[()]),
    (None, Optional[int]),
    ("a", Union[int, str]),
    ("a", Literal["a", "b"]),
    (len, Callable[[Any], int]),
    (int, typing.Type[int]),
    (Point(1, 2), Point),
    ({"n": 1, "name": "a"}, Options),
    ({}, Loose),
    (Colour.RED, Colour),
    (Path("a"), Path),
    (1, T),
    (2, typing.NewType("Id", int)),
    (Point(1, 2), typing.ForwardRef("Point")),
    ([1], list[int]),
    ("a", int | str),
    ({"a": None}, dict[str, int | None]),
    (1, typing.Annotated[int, "metres"]),
    (collections.deque([1]), typing.Deque[int]),
]

DOES_NOT_FIT = [
    (1.0, int, "expected int, found 1.0 of type float"),
    ("1", int, "expected int, found '1' of type str"),
    ("1", float, "expected float"),
    (1, str, "expected str"),
    (1, bool, "expected bool"),
    ([1, "a"], List[int], "element [1]: expected int, found 'a' of type str"),
    ((1,), List[int], "expected List[int], found (1,) of type tuple"),
    ({"a": [1, "b"]}, Dict[str, List[int]], "element ['a'][1]: expected int"),
    ({1: 2}, Dict[str, int], "element  key 1: expected str"),
    ((1,), Tuple[int, str], "with 2 elements"),
    ((1, "a", 2), Tuple[int, ...], "element [1]"),
    (1, Optional[str], "expected Optional[str]"),
    (1.5, Union[int, str], "expected Union[int, str]"),
    (True, Literal[1], "expected Literal[1]"),
    (1, Callable, "expected Callable"),
    (str, typing.Type[int], "expected Type[int]"),
    (Point(1, "a"), Point, "element .y: expected float"),
    ({"n": 1}, Options, "has a key 'name'"),
    ({"n": 1, "name": "a", "m": 1}, Options, "has no key 'm'"),
    (1.5, T, "expected int or str"),
    (1, typing.ForwardRef("Point"), "expected Point"),
    ([1], list[str], "element [0]: expected str"),
    (1.5, int | str, "int | str"),
]


@pytest.mark.parametrize(("value", "expected"), FITS)
def test_fits(value, expected):
    assert is_type(expected)
    check_type("x", value, expected)


@pytest.mark.parametrize(("value", "expected", "message"), DOES_NOT_FIT)
def test_does_not_fit(value, expected, message):
    with pytest.raises(SignError) as error:
        check_type("input 'x' of Op", value, expected)
    assert str(error.value).startswith("input 'x' of Op")
    assert message in str(error.value)
    assert isinstance(error.value, TypeError)
    assert isinstance(error.value, DflowError)


def test_numpy_numbers_fit_what_they_stand_for():
    numpy = pytest.importorskip("numpy", reason="numpy is not installed here")
    check_type("x", numpy.int64(1), int)
    check_type("x", numpy.float32(1), float)
    check_type("x", numpy.bool_(True), bool)
    check_type("x", numpy.zeros(3), numpy.ndarray)
    with pytest.raises(SignError):
        check_type("x", numpy.float64(1), int)


@pytest.mark.parametrize("value", ["int", 3, [int], {"a": int}])
def test_what_is_no_type(value):
    assert not is_type(value)
