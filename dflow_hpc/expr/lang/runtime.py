"""The operators of expr-lang on values.

Numbers mix: an integer with a float gives a float, ``/`` and ``**`` always do; integers wrap around at 64 bits.
Strings are bytes where they are cut or indexed, and characters nowhere.

Trap: the faults raised here know no place; the compiled node that calls adds its own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from dflow_hpc.expr import golang, gotime
from dflow_hpc.expr.golang import Duration, TypedList, TypedMap, Uint8, type_name
from dflow_hpc.expr.gotime import Time
from dflow_hpc.expr.lang.errors import Fault

METHODS: Mapping[str, Mapping[str, golang.Function]] = gotime.METHODS
"""Methods of values, by the name of the type: what ``now().Year()`` finds."""

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def is_integer(value: Any) -> bool:
    """Say whether a value is one of Go's integers; a duration is not."""
    return isinstance(value, int) and not isinstance(value, (bool, Duration))


def is_number(value: Any) -> bool:
    """Say whether a value is an integer or a float."""
    return is_integer(value) or isinstance(value, float)


def is_nil(value: Any) -> bool:
    """Say whether a value is nil, or a nil slice or map."""
    return value is None or isinstance(value, (golang.NilList, golang.NilMap))


def is_list(value: Any) -> bool:
    """Say whether a value is a slice or an array."""
    return isinstance(value, (list, tuple))


def equal(left: Any, right: Any) -> bool:
    """Return ``==``: numbers by value, lists item by item, anything else only if the types are the same too."""
    if is_number(left) and is_number(right):
        if isinstance(left, float) or isinstance(right, float):
            return float(left) == float(right)
        return int(left) == int(right)
    if is_list(left) and is_list(right) and "[]interface {}" in (type_name(left), type_name(right)):
        return len(left) == len(right) and all(map(equal, left, right))
    if is_nil(left) and is_nil(right):
        return True
    return same(left, right)


def same(left: Any, right: Any) -> bool:
    """Return ``reflect.DeepEqual``."""
    if type_name(left) != type_name(right):
        return False
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    if is_list(left):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def compare(symbol: str, left: Any, right: Any) -> bool:
    """Return ``<``, ``>``, ``<=``, ``>=`` of two numbers, strings, times or durations."""
    if is_number(left) and is_number(right):
        if isinstance(left, float) or isinstance(right, float):
            left, right = float(left), float(right)
        return _COMPARE[symbol](left, right)
    for kind in (str, Time, Duration):
        if isinstance(left, kind) and isinstance(right, kind):
            return _COMPARE[symbol](left, right)
    raise Fault(f"invalid operation: {type_name(left)} {symbol} {type_name(right)}")


def negate(value: Any) -> Any:
    """Return ``-value``."""
    if isinstance(value, float):
        return -value
    if is_integer(value):
        return type(value)(golang.wrap_int(-value))
    raise Fault(f"invalid operation: - {type_name(value) if value is not None else '<nil>'}")


def arithmetic(symbol: str, left: Any, right: Any) -> Any:
    """Return ``+ - * / % ** ^`` of two values."""
    if is_number(left) and is_number(right):
        return _ARITHMETIC[symbol](left, right)
    return _TIMES.get(symbol, _no_operation)(symbol, left, right)


def _integers(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(left: Any, right: Any) -> Any:
        if isinstance(left, float) or isinstance(right, float):
            return operation(float(left), float(right))
        return golang.wrap_int(operation(int(left), int(right)))

    return apply


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, float) or isinstance(right, float):
        return _no_operation("%", left, right)
    if right == 0:
        raise Fault("runtime error: integer divide by zero")
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


def _no_operation(symbol: str, left: Any, right: Any) -> Any:
    if symbol in ("**", "^"):
        bad = left if not is_number(left) else right
        raise Fault(f"invalid operation: float({type_name(bad)})")
    raise Fault(f"invalid operation: {type_name(left)} {symbol} {type_name(right)}")


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": _integers(operator.add),
    "-": _integers(operator.sub),
    "*": _integers(operator.mul),
    "/": lambda left, right: golang.divide(float(left), float(right)),
    "%": _modulo,
    "**": lambda left, right: golang.power(float(left), float(right)),
    "^": lambda left, right: golang.power(float(left), float(right)),
}


def _add(symbol: str, left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(right, Time):
        left, right = right, left
    if isinstance(left, Time) and isinstance(right, Duration):
        return left.add(right)
    if isinstance(left, Duration) and isinstance(right, Duration):
        return Duration(golang.wrap_int(int(left) + int(right)))
    return _no_operation(symbol, left, right)


def _subtract(symbol: str, left: Any, right: Any) -> Any:
    if isinstance(left, Time) and isinstance(right, Time):
        return left.since(right)
    if isinstance(left, Time) and isinstance(right, Duration):
        return left.add(-int(right))
    if isinstance(left, Duration) and isinstance(right, Duration):
        return Duration(golang.wrap_int(int(left) - int(right)))
    return _no_operation(symbol, left, right)


def _multiply(symbol: str, left: Any, right: Any) -> Any:
    if not all(is_number(side) or isinstance(side, Duration) for side in (left, right)):
        return _no_operation(symbol, left, right)
    if isinstance(left, float) or isinstance(right, float):
        return float(left) * float(right)
    return Duration(golang.wrap_int(int(left) * int(right)))


_TIMES: dict[str, Callable[[str, Any, Any], Any]] = {"+": _add, "-": _subtract, "*": _multiply}


# --- members -------------------------------------------------------------------------------------------------------


def to_int(value: Any) -> int:
    """Return a number as an ``int``."""
    if isinstance(value, float):
        return golang.truncate(value)
    if is_integer(value):
        return int(value)
    raise Fault(f"invalid operation: int({type_name(value)})")


def fetch(base: Any, key: Any) -> Any:
    """Return ``base[key]`` or ``base.key``; a key that a map does not have gives nil."""
    if isinstance(key, str):
        method = (METHODS.get(type_name(base)) or getattr(base, "go_methods", {})).get(key)
        if method is not None:
            return bound(method, base)
    if isinstance(base, str):
        return Uint8(_item(golang.to_bytes(base), key))
    if is_list(base):
        return _item(base, key)
    if isinstance(base, Mapping) and not (isinstance(base, TypedMap) and base.is_struct):
        return base.get(map_key(base, key), _zero_element(base))
    if isinstance(base, Mapping) and key in base:
        return base[key]
    raise Fault(f"cannot fetch {golang.format_value(key)} from {type_name(base)}")


def bound(method: golang.Function, base: Any) -> golang.Function:
    """Return a method of a value as a function."""
    return golang.Function(
        lambda *arguments: method.call(base, *arguments), method.parameters, method.result, variadic=method.variadic
    )


def _item(items: Any, key: Any) -> Any:
    index, length = to_int(key), len(items)
    index = length + index if index < 0 else index
    if not 0 <= index < length:
        raise Fault(f"index out of range: {index} (array length is {length})")
    return items[index]


def map_key(base: Mapping[Any, Any], key: Any) -> Any:
    """Return the key as the map's type takes it: nil is the zero value, another type a fault."""
    name = type_name(base)
    wanted = name[4 : name.index("]")]
    if wanted == "interface {}":
        return golang.any_key(key)
    if key is None:
        return "" if wanted == "string" else 0
    if type_name(key) != wanted:
        raise Fault(f"reflect.Value.MapIndex: value of type {type_name(key)} is not assignable to type {wanted}")
    return key


def _zero_element(base: Mapping[Any, Any]) -> Any:
    name = type_name(base)
    element = name[name.index("]") + 1 :]
    if element.startswith("[]"):
        return golang.NilList(element)
    return "" if element == "string" else None


def cut(base: Any, start: Any, end: Any) -> Any:
    """Return ``base[start:end]``; indexes out of range are moved to the ends."""
    if not (isinstance(base, str) or is_list(base)):
        raise Fault(f"cannot slice {golang.format_value(start)}")
    items: Any = golang.to_bytes(base) if isinstance(base, str) else base
    length = len(items)
    first, last = to_int(start), to_int(end)
    first = max(length + first if first < 0 else first, 0)
    last = min(max(length + last if last < 0 else last, 0), length)
    found = items[min(first, last) : last]
    if isinstance(base, str):
        return golang.from_bytes(found)
    return TypedList(found, base.go_type) if isinstance(base, TypedList) else list(found)


def contains(needle: Any, haystack: Any) -> bool:
    """Return ``needle in haystack``."""
    if haystack is None:
        return False
    if is_list(haystack):
        return any(equal(item, needle) for item in haystack)
    if isinstance(haystack, Mapping):
        if isinstance(haystack, TypedMap) and haystack.is_struct:
            return needle in haystack
        return map_key(haystack, needle) in haystack
    raise Fault(f'operator "in" not defined on {type_name(haystack)}')


def length(value: Any) -> int:
    """Return the length of a list, a map, or a string in bytes."""
    if isinstance(value, str):
        return len(golang.to_bytes(value))
    if is_list(value) or isinstance(value, Mapping):
        return len(value)
    raise Fault(f"invalid argument for len (type {type_name(value)})")


# --- functions of the environment ----------------------------------------------------------------------------------


def call(function: Any, arguments: list[Any]) -> Any:
    """Call a function of the environment as Go's reflection does: the types must be exactly its own.

    Raises:
        Fault: They are not, or the function refused, with its own text.
    """
    if not isinstance(function, golang.Function):
        if function is None:
            raise Fault("reflect: call of reflect.Value.Call on zero Value")
        raise Fault(f"reflect: call of reflect.Value.Call on {golang.kind(function)} Value")
    parameters = function.parameters
    fixed = len(parameters) - function.variadic
    if len(arguments) < fixed:
        raise Fault("reflect: Call with too few input arguments")
    if len(arguments) > fixed and not function.variadic:
        raise Fault("reflect: Call with too many input arguments")
    for index in reversed(range(len(arguments))):  # Go makes the zero values first, from the last argument on
        if arguments[index] is None:
            arguments[index] = _nil_as(function, index)
    for index, argument in enumerate(arguments):
        wanted = parameters[min(index, len(parameters) - 1)]
        found = type_name(argument) if argument is not None else wanted
        if wanted not in ("interface {}", found):
            if index >= fixed:
                raise Fault(f"reflect: cannot use {found} as type {wanted} in Call")
            raise Fault(f"reflect: Call using {found} as type {wanted}")
    return function.call(*arguments)


def _nil_as(function: golang.Function, index: int) -> Any:
    """Return what Go makes of a nil argument: the zero value of the parameter's type."""
    parameters = function.parameters
    if index >= len(parameters):
        raise Fault(f"runtime error: index out of range [{index}] with length {len(parameters)}")
    wanted = parameters[index]
    if function.variadic and index == len(parameters) - 1:
        return golang.NilList("[]" + wanted)  # the type of the parameter is that of all further arguments together
    if wanted.startswith("[]"):
        return golang.NilList(wanted)
    if wanted.startswith("map["):
        return golang.NilMap({}, wanted)
    return _ZEROS.get(wanted)


_ZEROS = {"string": "", "int": 0, "float64": 0.0, "bool": False, "time.Duration": Duration(0), "time.Time": gotime.ZERO}
