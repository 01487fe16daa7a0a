"""The functions of expr-lang, except those that take a predicate (``compiler`` has them).

Each takes the context of the run (for the clock and the memory budget) and its arguments. Their signatures are in
``signatures``: what reaches a function here has passed the checker, but arguments of unknown type can be anything.

Trap: the order of a map's keys is random in Go; here ``keys``, ``values`` and ``toPairs`` give them sorted.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import gojson, golang, gotext, gotime, gotime_parse
from dflow_hpc.expr.golang import NilList, TypedList, TypedMap, format_value, strings, type_name
from dflow_hpc.expr.lang import runtime
from dflow_hpc.expr.lang.errors import Fault
from dflow_hpc.expr.lang.runtime import is_integer, is_list, is_number


class Context(Protocol):
    """What a function may ask of the run it is called in."""

    def now(self) -> gotime.Time:
        """Return the time."""
        ...

    def grow(self, size: int) -> None:
        """Take from the memory budget."""
        ...


Builtin = Callable[..., Any]


def _text(value: Any) -> str:
    """Return a string; anything else faults as Go's type assertion does."""
    if isinstance(value, str):
        return value
    raise not_a(value, "string")


def not_a(value: Any, wanted: str) -> Fault:
    """Return the fault of Go's type assertion."""
    found = "nil" if value is None else type_name(value)
    return Fault(f"interface conversion: interface {{}} is {found}, not {wanted}")


def _plain(call: Callable[..., Any]) -> Builtin:
    """Return a function that needs nothing of the run."""
    return lambda _, *arguments: call(*arguments)


def _texts(call: Callable[..., Any]) -> Builtin:
    """Return a function whose arguments are all strings."""
    return lambda _, *arguments: call(*[_text(argument) for argument in arguments])


def _or_fault(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except ExpressionError as error:
        raise Fault(str(error)) from None


# --- numbers


def to_int(value: Any) -> int:
    """Return ``int(value)``: also of a string, by ``strconv.Atoi``."""
    if isinstance(value, str):
        try:
            return golang.atoi(value)
        except ExpressionError:
            raise Fault(f"invalid operation: int({value})") from None
    if isinstance(value, golang.Duration):
        return int(value)
    if value is None:
        raise Fault("reflect: call of reflect.Value.Type on zero Value")
    return runtime.to_int(value)


def to_float(value: Any) -> float:
    """Return ``float(value)``: also of a string, by ``strconv.ParseFloat``."""
    if isinstance(value, str):
        try:
            return golang.parse_float(value)
        except ExpressionError:
            raise Fault(f"invalid operation: float({value})") from None
    return float(value) if is_number(value) else _bad("float", value)


def _bad(name: str, value: Any) -> Any:
    raise Fault(f"invalid operation: {name}({type_name(value)})")


def _absolute(value: Any) -> Any:
    if not is_number(value):
        raise Fault(f"invalid argument for abs (type {type_name(value)})")
    return runtime.negate(value) if value < 0 else value


def _rounding(name: str, call: Callable[[float], float]) -> Builtin:
    def apply(_: Context, value: Any) -> float:
        if not is_number(value):
            raise Fault(f"invalid argument for {name} (type {type_name(value)})")
        number = float(value)
        return number if math.isinf(number) or math.isnan(number) else float(call(number))

    return apply


def half_away(value: float) -> float:
    """Round to an integer, a half away from zero, as ``math.Round`` does."""
    whole = math.floor(abs(value))
    return math.copysign(whole + (abs(value) - whole >= 0.5), value)


def _extreme(name: str, symbol: str) -> Builtin:
    def find(_: Context, *arguments: Any) -> Any:
        found: Any = None
        for argument in arguments:
            if is_list(argument):
                for item in argument:
                    inner = find(_, item)
                    if not is_number(inner):
                        raise Fault(f"invalid argument for {name} (type {type_name(inner)})")
                    if found is None or runtime.compare(symbol, found, inner):
                        found = inner
            elif is_number(argument):
                if found is None or runtime.compare(symbol, found, argument):
                    found = argument
            elif len(arguments) == 1:
                return argument
            else:
                raise Fault(f"invalid argument for {name} (type {type_name(argument)})")
        return found

    return find


def _numbers(name: str, arguments: tuple[Any, ...]) -> list[float]:
    found: list[float] = []
    for argument in arguments:
        if is_list(argument):
            found += _numbers(name, tuple(argument))
        elif is_number(argument) or isinstance(argument, golang.Duration):
            found.append(float(argument))
        else:
            raise Fault(f"invalid argument for {name} (type {type_name(argument)})")
    return found


def _mean(*arguments: Any) -> float:
    values = _numbers("mean", arguments)
    total = 0.0
    for value in values:
        total += value
    return total / len(values) if values else 0.0


def _median(*arguments: Any) -> float:
    values = sorted(_numbers("median", arguments))
    middle = len(values) // 2
    if not values:
        return 0.0
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _bits(name: str, call: Callable[[int, int], int]) -> Builtin:
    def apply(_: Context, *arguments: Any) -> int:
        if len(arguments) != 2:
            raise Fault(f"invalid number of arguments for {name} (expected 2, got {len(arguments)})")
        for argument in arguments:
            if not is_integer(argument):
                raise Fault(f"cannot use {type_name(argument)} as argument (type int) to call {name}")
        left, right = map(int, arguments)
        if name in _SHIFTS and right < 0:
            raise Fault(f"invalid operation: negative shift count {right} (type int)")
        return golang.wrap_int(call(left, min(right, 64) if name in _SHIFTS else right))

    return apply


_SHIFTS = ("bitshl", "bitshr", "bitushr")


def _bit_not(value: Any) -> int:
    if not is_integer(value):
        raise Fault(f"cannot use {type_name(value)} as argument (type int) to call bitnot")
    return ~int(value)


# --- texts


def _count(value: Any) -> int:
    if isinstance(value, str):
        return gotext.rune_count(value)
    return runtime.length(value)


def _type(value: Any) -> str:
    if value is None:
        return "nil"
    name = type_name(value)
    if "." in name and not name.startswith(("[", "map[", "*", "func(")):
        return name
    kind = golang.kind_of_type(name)
    for shown, kinds in (("int", "int"), ("uint", "uint"), ("float", "float")):
        if kind.startswith(kinds):
            return shown
    return {"slice": "array", "ptr": "unknown"}.get(kind, kind)


def _trim(text: Any, *characters: Any) -> str:
    return gotext.trim(_text(text), *[_text(item) for item in characters])


def _cut_prefix(text: Any, prefix: Any = " ") -> str:
    return _text(text).removeprefix(_text(prefix))


def _cut_suffix(text: Any, suffix: Any = " ") -> str:
    return _text(text).removesuffix(_text(suffix))


def _split(after: bool) -> Callable[..., Any]:
    def apply(text: Any, separator: Any, limit: Any = -1) -> list[str]:
        count = runtime.to_int(limit)
        found = gotext.split(_text(text), _text(separator), count, keep=after)
        return strings(found) if count else NilList(go_type="[]string")

    return apply


def _replace(text: Any, old: Any, new: Any, limit: Any = -1) -> str:
    return gotext.replace(_text(text), _text(old), _text(new), runtime.to_int(limit))


_MAX_REPEAT = 1_000_000


def _repeat(context: Context, text: Any, times: Any) -> str:
    value, count = _text(text), runtime.to_int(times)
    if count < 0:
        raise Fault(f"invalid argument for repeat (expected positive integer, got {count})")
    if count > _MAX_REPEAT:
        raise Fault("memory budget exceeded")
    context.grow(len(golang.to_bytes(value)) * count)
    return value * count


def _join(items: Any, glue: Any = "") -> str:
    separator = _text(glue)
    if not is_list(items) or type_name(items) not in ("[]string", "[]interface {}"):
        raise Fault(f"invalid argument for join (type {'%!s(<nil>)' if items is None else type_name(items)})")
    return separator.join(_text(item) for item in items)


def _find(last: bool) -> Callable[[str, str], int]:
    def apply(text: str, part: str) -> int:
        data, wanted = golang.to_bytes(text), golang.to_bytes(part)
        return data.rfind(wanted) if last else data.find(wanted)

    return apply


def _to_json(value: Any) -> str:
    return str(_or_fault(functools.partial(gojson.dumps, indent="  "), value))


def _from_base64(text: str) -> str:
    return golang.from_bytes(_or_fault(decode_base64, text))


def decode_base64(text: str) -> bytes:
    """Decode standard base64; line ends are skipped.

    Raises:
        ExpressionError: It is none, with Go's text and the place of the first bad byte.
    """
    data = golang.to_bytes(text).replace(b"\r", b"").replace(b"\n", b"")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ExpressionError(f"illegal base64 data at input byte {_bad_base64(golang.to_bytes(text))}") from None


def _bad_base64(data: bytes) -> int:
    """Return where Go's decoder stops."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    held = 0
    for at, byte in enumerate(data):
        if byte in b"\r\n":
            continue
        if byte not in alphabet:
            if byte != ord("=") or held % 4 < 2:
                return at
            rest = data[at + 1 :].strip(b"\r\n")
            if held % 4 == 2 and rest[:1] != b"=":
                return len(data) if not rest else at + 1
            return at + 1 if held % 4 == 3 else at + 2
        held += 1
    return len(data) - held % 4


# --- time


def _now(context: Context, location: Any = None) -> gotime.Time:
    return context.now() if location is None else context.now().in_(location)


_LAYOUTS = (
    "2006-01-02", "15:04:05", "2006-01-02 15:04:05", gotime.RFC3339, gotime.RFC822, gotime.RFC850, gotime.RFC1123,
)  # fmt: skip


def _date(*arguments: Any) -> gotime.Time:
    location = None
    if isinstance(arguments[0], gotime.Location):
        location, *arguments = arguments  # type: ignore[assignment]
    text, *rest = [_text(argument) for argument in arguments]
    if len(rest) == 2:
        location = _or_fault(gotime.load_location, rest[1])
    if rest:
        return _or_fault(gotime_parse.parse, rest[0], text, location)  # type: ignore[no-any-return]
    for layout in _LAYOUTS:
        try:
            return gotime_parse.parse(layout, text, location)
        except ExpressionError:
            continue
    raise Fault(f"invalid date {text}")


# --- lists and maps


def _end(index: int) -> Callable[[Any], Any]:
    def apply(items: Any) -> Any:
        try:
            return runtime.fetch(items, index)
        except Fault:
            return None

    return apply


def get(base: Any, key: Any) -> Any:
    """Return ``base[key]``, nil if there is none."""
    if isinstance(base, str) or is_list(base):
        index = runtime.to_int(key)
        length = runtime.length(base)
        return runtime.fetch(base, key) if -length <= index < length else None
    if isinstance(base, Mapping):
        return base.get(runtime.map_key(base, key))
    if isinstance(key, str) and key in runtime.METHODS.get(type_name(base), {}):
        return runtime.fetch(base, key)
    return None


def _need_list(items: Any, verb: str) -> Any:
    if not is_list(items):
        raise Fault(f"cannot {verb} {golang.kind(items)}")
    return items


def _need_map(items: Any, verb: str) -> Mapping[Any, Any]:
    if not isinstance(items, Mapping):
        raise Fault(f"cannot {verb.format(golang.kind(items))}")
    return items


def _take(items: Any, count: Any) -> Any:
    _need_list(items, "take from")
    if not isinstance(count, int) or isinstance(count, bool):
        raise Fault(f"cannot take {golang.kind(count)} elements")
    if count < 0:
        raise Fault("reflect.Value.Slice: slice index out of bounds")
    return runtime.cut(items, 0, count)


def _sorted_keys(items: Mapping[Any, Any]) -> list[Any]:
    return sorted(items, key=golang.sort_key)


def _keys(items: Any) -> list[Any]:
    return [golang.plain_key(key) for key in _sorted_keys(_need_map(items, "get keys from {}"))]


def _values(items: Any) -> list[Any]:
    found = _need_map(items, "get values from {}")
    return [found[key] for key in _sorted_keys(found)]


def _to_pairs(items: Any) -> TypedList:
    found = _need_map(items, "transform {} to pairs")
    pairs = [TypedList([golang.plain_key(key), found[key]], "[2]interface {}") for key in _sorted_keys(found)]
    return TypedList(pairs, "[][2]interface {}")


def _from_pairs(items: Any) -> TypedMap:
    if not is_list(items):
        raise Fault(f"cannot transform {format_value(items)} from pairs")
    made: dict[Any, Any] = {}
    for pair in items:
        if not is_list(pair):
            raise Fault(f"invalid pair {format_value(pair)}")
        if len(pair) != 2:
            raise Fault(f"invalid pair length {format_value(pair)}")
        made[golang.any_key(hashable(pair[0]))] = pair[1]
    return TypedMap(made, "map[interface {}]interface {}")


def hashable(key: Any) -> Any:
    """Return the key of a map, or fault as Go does for one that cannot be compared."""
    if is_list(key) or isinstance(key, Mapping):
        raise Fault(f"hash of unhashable type: {type_name(key)}")
    return key


def _reverse(context: Context, items: Any) -> list[Any]:
    found = list(reversed(_need_list(items, "reverse")))
    context.grow(len(found))
    return found


def _unique(items: Any) -> list[Any]:
    found: list[Any] = []
    for item in _need_list(items, "uniq"):
        if not any(runtime.equal(item, other) for other in found):
            found.append(item)
    return found


def _concat(context: Context, *lists: Any) -> list[Any]:
    found: list[Any] = []
    for items in lists:
        found += _need_list(items, "concat")
    context.grow(len(found))
    return found or NilList()


def _flatten(context: Context, items: Any) -> list[Any]:
    found = _flat(_need_list(items, "flatten"))
    context.grow(len(found))
    return found


def _flat(items: Any) -> list[Any]:
    found: list[Any] = []
    for item in items:
        found += _flat(item) if is_list(item) else [item]
    return found


def sort_values(pairs: list[tuple[Any, Any]], order: Any) -> list[Any]:
    """Sort items by their values; the order is ``asc`` or ``desc``. Equal ones keep their order."""

    def compare(left: tuple[Any, Any], right: tuple[Any, Any]) -> int:
        if order == "desc":
            left, right = right, left
        return -1 if runtime.compare("<", left[0], right[0]) else int(runtime.compare("<", right[0], left[0]))

    return [item for _, item in sorted(pairs, key=functools.cmp_to_key(compare))]


def _sort(context: Context, items: Any, order: Any = "asc") -> list[Any]:
    if _text(order) not in ("asc", "desc"):
        raise Fault(f"invalid order {order}, expected asc or desc")
    if not is_list(items):
        return NilList()
    context.grow(len(items))
    return sort_values([(item, item) for item in items], order)


BUILTINS: dict[str, Builtin] = {
    "len": _plain(_count),
    "type": _plain(_type),
    "abs": _plain(_absolute),
    "ceil": _rounding("ceil", math.ceil),
    "floor": _rounding("floor", math.floor),
    "round": _rounding("round", half_away),
    "int": _plain(to_int),
    "float": _plain(to_float),
    "string": _plain(format_value),
    "trim": _plain(_trim),
    "trimPrefix": _plain(_cut_prefix),
    "trimSuffix": _plain(_cut_suffix),
    "upper": _texts(gotext.upper),
    "lower": _texts(gotext.lower),
    "split": _plain(_split(after=False)),
    "splitAfter": _plain(_split(after=True)),
    "replace": _plain(_replace),
    "repeat": _repeat,
    "join": _plain(_join),
    "indexOf": _texts(_find(last=False)),
    "lastIndexOf": _texts(_find(last=True)),
    "hasPrefix": _texts(str.startswith),
    "hasSuffix": _texts(str.endswith),
    "max": _extreme("max", "<"),
    "min": _extreme("min", ">"),
    "mean": _plain(_mean),
    "median": _plain(_median),
    "toJSON": _plain(_to_json),
    "fromJSON": _texts(functools.partial(_or_fault, gojson.loads)),
    "toBase64": _texts(lambda text: base64.b64encode(golang.to_bytes(text)).decode()),
    "fromBase64": _texts(_from_base64),
    "now": _now,
    "duration": _texts(functools.partial(_or_fault, golang.parse_duration)),
    "date": _plain(_date),
    "timezone": _texts(functools.partial(_or_fault, gotime.load_location)),
    "first": _plain(_end(0)),
    "last": _plain(_end(-1)),
    "get": _plain(get),
    "take": _plain(_take),
    "keys": _plain(_keys),
    "values": _plain(_values),
    "toPairs": _plain(_to_pairs),
    "fromPairs": _plain(_from_pairs),
    "reverse": _reverse,
    "uniq": _plain(_unique),
    "concat": _concat,
    "flatten": _flatten,
    "sort": _sort,
    "bitand": _bits("bitand", lambda left, right: left & right),
    "bitor": _bits("bitor", lambda left, right: left | right),
    "bitxor": _bits("bitxor", lambda left, right: left ^ right),
    "bitnand": _bits("bitnand", lambda left, right: left & ~right),
    "bitshl": _bits("bitshl", lambda left, right: left << right),
    "bitshr": _bits("bitshr", lambda left, right: left >> right),
    "bitushr": _bits("bitushr", lambda left, right: (left % (1 << 64)) >> right),
    "bitnot": _plain(_bit_not),
}
