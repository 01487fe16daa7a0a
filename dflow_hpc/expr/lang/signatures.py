"""What the functions of expr-lang take and give, for the checker.

Two forms, as in the language itself: overloads that are tried in turn, and rules that look at the arguments. What
the functions do is in ``builtins``. Trap: the texts of the errors are what users see; some of them end in a blank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dflow_hpc.expr.lang import types
from dflow_hpc.expr.lang.types import Type

Overload = tuple[tuple[str, ...], str]
Rule = Callable[[Sequence[Type]], Type]


class Refused(Exception):
    """The arguments do not fit."""


def _overloads(*texts: str) -> tuple[Overload, ...]:
    found = []
    for text in texts:
        parameters, _, result = text.replace("any", "interface {}").partition(":")
        found.append((tuple(name.strip() for name in parameters.split(",") if name.strip()), result.strip()))
    return tuple(found)


OVERLOADS: dict[str, tuple[Overload, ...]] = {
    "type": _overloads("any: string"),
    "string": _overloads("any: string"),
    "trim": _overloads("string: string", "string, string: string"),
    "trimPrefix": _overloads("string, string: string", "string: string"),
    "trimSuffix": _overloads("string, string: string", "string: string"),
    "upper": _overloads("string: string"),
    "lower": _overloads("string: string"),
    "split": _overloads("string, string: []string", "string, string, int: []string"),
    "splitAfter": _overloads("string, string: []string", "string, string, int: []string"),
    "replace": _overloads("string, string, string, int: string", "string, string, string: string"),
    "repeat": _overloads("string, int: string"),
    "join": _overloads(
        "[]string, string: string", "[]any, string: string", "[]any: string", "[]string, string: string",
        "[]string: string",
    ),
    "indexOf": _overloads("string, string: int"),
    "lastIndexOf": _overloads("string, string: int"),
    "hasPrefix": _overloads("string, string: bool"),
    "hasSuffix": _overloads("string, string: bool"),
    "toJSON": _overloads("any: string"),
    "fromJSON": _overloads("string: any"),
    "toBase64": _overloads("string: string"),
    "fromBase64": _overloads("string: string"),
    "duration": _overloads("string: time.Duration"),
    "timezone": _overloads("string: *time.Location"),
    "sort": _overloads(
        "[]any, string: []any", "[]int, string: []any", "[]float64, string: []any", "[]string, string: []any",
        "[]any: []any", "[]float64: []any", "[]string: []any", "[]int: []any",
    ),
    **{
        name: _overloads("int, int: int")
        for name in ("bitand", "bitor", "bitxor", "bitnand", "bitshl", "bitshr", "bitushr")
    },
    "bitnot": _overloads("int: int"),
}  # fmt: skip


def _one(arguments: Sequence[Type]) -> Type:
    if len(arguments) != 1:
        raise Refused(f"invalid number of arguments (expected 1, got {len(arguments)})")
    return arguments[0]


def shown(argument: Type) -> str:
    """Return a type as ``%s`` prints it; Go has no name for that of nil."""
    return argument.name or ("%!s(<nil>)" if argument.nil else "interface {}")


def _kind_in(argument: Type, *kinds: str) -> bool:
    return argument.unknown or argument.kind in kinds


def _is_number(argument: Type) -> bool:
    return argument.unknown or argument.number or argument.kind == "int64"  # a duration counts as its kind


def _of_one(result: Type | None, accepts: Callable[[Type], bool], refusal: str) -> Rule:
    """Return a rule for one argument; without a result, it gives what it takes."""

    def rule(arguments: Sequence[Type]) -> Type:
        argument = _one(arguments)
        if not accepts(argument):
            raise Refused(refusal.format(shown(argument)))
        return (types.ANY if argument.unknown else argument) if result is None else result

    return rule


def _array(argument: Type) -> bool:
    return _kind_in(argument, "slice", "array")


def _map(argument: Type) -> bool:
    return _kind_in(argument, "map")


def _number_or_text(argument: Type) -> bool:
    return _is_number(argument) or argument.kind == "string"


def _element(refusal: str) -> Rule:
    def rule(arguments: Sequence[Type]) -> Type:
        argument = _one(arguments)
        if argument.unknown:
            return types.ANY
        if not _array(argument):
            raise Refused(refusal.format(shown(argument)))
        return Type(argument.name[argument.name.index("]") + 1 :])

    return rule


def _aggregate(name: str) -> Rule:
    def rule(arguments: Sequence[Type]) -> Type:
        if not arguments:
            raise Refused(f"not enough arguments to call {name}")
        for argument in arguments:
            if _array(argument):  # or unknown
                return types.ANY
            if not _is_number(argument):
                raise Refused(f"invalid argument for {name} (type {shown(argument)})")
        return arguments[0]

    return rule


def _take(arguments: Sequence[Type]) -> Type:
    if len(arguments) != 2:
        raise Refused(f"invalid number of arguments (expected 2, got {len(arguments)})")
    if not _array(arguments[0]):
        raise Refused(f"cannot take from {shown(arguments[0])}")
    if not _kind_in(arguments[1], "int", "int8", "int16", "int32", "int64"):
        raise Refused(f"cannot take {shown(arguments[1])} elements")
    return types.ANY if arguments[0].unknown else arguments[0]


def _concat(arguments: Sequence[Type]) -> Type:
    if not arguments:
        raise Refused("invalid number of arguments (expected at least 1, got 0)")
    for argument in arguments:
        if not _array(argument):
            raise Refused(f"cannot concat {shown(argument)}")
    return types.ARRAY


def _now(arguments: Sequence[Type]) -> Type:
    if arguments and not (len(arguments) == 1 and arguments[0].name == types.LOCATION.name):
        raise Refused(f"invalid number of arguments (expected 0, got {len(arguments)})")
    return types.TIME


def _date(arguments: Sequence[Type]) -> Type:
    if not arguments:
        raise Refused("invalid number of arguments (expected at least 1, got 0)")
    texts = arguments[1:] if arguments[0].name == types.LOCATION.name else arguments
    if len(texts) > 3:
        raise Refused(f"invalid number of arguments (expected at most 3, got {len(texts)})")
    return types.TIME


RULES: dict[str, Rule] = {
    "len": _of_one(
        types.INT,
        lambda argument: _kind_in(argument, "array", "map", "slice", "string"),
        "invalid argument for len (type {})",
    ),
    "abs": _of_one(None, _is_number, "invalid argument for abs (type {})"),
    "ceil": _of_one(types.FLOAT, _is_number, "invalid argument for ceil (type {})"),
    "floor": _of_one(types.FLOAT, _is_number, "invalid argument for floor (type {})"),
    "round": _of_one(types.FLOAT, _is_number, "invalid argument for round (type {})"),
    "int": _of_one(types.INT, _number_or_text, "invalid argument for int (type {})"),
    "float": _of_one(types.FLOAT, _number_or_text, "invalid argument for float (type {})"),
    "max": _aggregate("max"),
    "min": _aggregate("min"),
    "mean": _aggregate("mean"),
    "median": _aggregate("median"),
    "now": _now,
    "date": _date,
    "first": _element("cannot get first element from {}"),
    "last": _element("cannot get last element from {}"),
    "take": _take,
    "keys": _of_one(types.ARRAY, _map, "cannot get keys from {}"),
    "values": _of_one(types.ARRAY, _map, "cannot get values from {}"),
    "toPairs": _of_one(types.ARRAY, _map, "cannot transform {} to pairs"),
    "fromPairs": _of_one(types.ANY_MAP, _array, "cannot transform {} from pairs"),
    "reverse": _of_one(types.ARRAY, _array, "cannot reverse {}"),
    "uniq": _of_one(types.ARRAY, _array, "cannot uniq {}"),
    "concat": _concat,
    "flatten": _of_one(types.ARRAY, _array, "cannot flatten {}"),
}
