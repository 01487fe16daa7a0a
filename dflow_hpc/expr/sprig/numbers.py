"""sprig's arithmetic: on ``int64``, and on exact decimals in the functions that end in ``f``.

Trap: everything is first made an integer, so ``add("1.7", 1)`` is 2; ``div`` is integer division.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.expr.golang import Int64, ints
from dflow_hpc.expr.sprig import cast

_DIVISION_PLACES = 16
_MAX_ITEMS = 1_000_000


def _int64(value: int) -> Int64:
    return Int64(golang.wrap_int(value))


def _folded(operation: Callable[[int, int], int]) -> Callable[..., Int64]:
    def apply(*values: Any) -> Int64:
        return _int64(
            functools.reduce(lambda one, two: golang.wrap_int(operation(one, two)), map(cast.to_int, values), 0)
        )

    return apply


def _multiply(first: Any, *others: Any) -> Int64:
    made = cast.to_int(first)
    for other in others:
        made = golang.wrap_int(made * cast.to_int(other))
    return _int64(made)


def _divide(left: Any, right: Any) -> tuple[int, int]:
    """Return quotient and rest, rounded toward zero."""
    one, two = cast.to_int(left), cast.to_int(right)
    if two == 0:
        raise ExpressionError("runtime error: integer divide by zero")
    quotient = abs(one) // abs(two)
    quotient = -quotient if (one < 0) != (two < 0) else quotient
    return quotient, one - quotient * two


def _decimal(value: Any) -> Fraction:
    number = cast.to_float(value)
    if math.isnan(number) or math.isinf(number):
        raise ExpressionError(f"Cannot create a Decimal from {golang.float_text(number)}")
    return Fraction(Decimal(repr(number)))


def _decimals(operation: Callable[[Fraction, Fraction], Fraction], *, start: Any = None) -> Callable[..., float]:
    def apply(*values: Any) -> float:
        operands = [_decimal(value) for value in values]
        if start is not None:
            operands = [Fraction(start), *operands]
        made = functools.reduce(operation, operands)
        try:
            return float(made)
        except OverflowError:
            return math.inf if made > 0 else -math.inf

    return apply


def _divide_decimals(left: Fraction, right: Fraction) -> Fraction:
    """Divide to 16 places, a half away from zero."""
    if right == 0:
        raise ExpressionError("decimal division by 0")
    scaled = abs(left / right) * 10**_DIVISION_PLACES
    whole = math.floor(scaled + Fraction(1, 2))
    return Fraction(whole if (left < 0) == (right < 0) else -whole, 10**_DIVISION_PLACES)


def _round(value: Any, places: int, *half: float) -> float:
    number = cast.to_float(value)
    scale = golang.power(10.0, float(places))
    digits = scale * number
    if math.isnan(digits) or math.isinf(digits):
        return golang.divide(digits, scale)
    rest = math.modf(digits)[0]
    whole = math.ceil(digits) if rest >= (half[0] if half else 0.5) else math.floor(digits)
    return golang.divide(float(whole), scale)


def _whole(operation: Callable[[float], int]) -> Callable[[Any], float]:
    def apply(value: Any) -> float:
        number = cast.to_float(value)
        return number if math.isnan(number) or math.isinf(number) else float(operation(number))

    return apply


def until_step(start: int, stop: int, step: int) -> golang.TypedList:
    """Return the numbers from ``start`` to before ``stop``; nothing if the step leads away."""
    if step == 0 or (stop < start) != (step < 0):
        return ints([])
    found = range(start, stop, step)
    if len(found) > _MAX_ITEMS:
        raise ExpressionError(f"a sequence of {len(found)} numbers was asked for; allowed are {_MAX_ITEMS}")
    return ints(found)


def sequence(*numbers: int) -> str:
    """Return what the shell's ``seq`` prints, on one line."""
    if len(numbers) == 1:
        start, step, end = 1, 1, numbers[0]
    elif len(numbers) == 2:
        start, end = numbers
        step = 1
    elif len(numbers) == 3:
        start, step, end = numbers
        if end < start and step > 0:
            return ""
    else:
        return ""
    direction = -1 if end < start else 1
    if len(numbers) < 3:
        step = direction
    return " ".join(map(str, until_step(start, end + direction, step)))


def _octal(value: Any) -> Int64:
    try:
        return Int64(golang.parse_int(golang.format_value(value), 8))
    except ExpressionError:
        return Int64(0)


def _atoi(text: str) -> int:
    try:
        return golang.atoi(text)
    except ExpressionError as error:
        if "out of range" in str(error):  # Go gives the bound beside the error, and sprig drops the error
            return golang.INT_MIN if text.startswith("-") else golang.INT_MAX
        return 0


def functions() -> dict[str, golang.Function]:
    """Return the functions by name."""
    table: dict[str, tuple[str, Callable[..., Any]]] = {
        "atoi": ("string: int", _atoi),
        "int64": ("any: int64", lambda value: Int64(cast.to_int(value))),
        "int": ("any: int", cast.to_int),
        "float64": ("any: float64", cast.to_float),
        "seq": ("...int: string", sequence),
        "toDecimal": ("any: int64", _octal),
        "until": ("int: []int", lambda count: until_step(0, count, -1 if count < 0 else 1)),
        "untilStep": ("int, int, int: []int", until_step),
        "add1": ("any: int64", lambda value: _int64(cast.to_int(value) + 1)),
        "add": ("...any: int64", _folded(lambda left, right: left + right)),
        "sub": ("any, any: int64", lambda left, right: _int64(cast.to_int(left) - cast.to_int(right))),
        "div": ("any, any: int64", lambda left, right: _int64(_divide(left, right)[0])),
        "mod": ("any, any: int64", lambda left, right: _int64(_divide(left, right)[1])),
        "mul": ("any, ...any: int64", _multiply),
        "add1f": ("any: float64", _decimals(lambda left, right: left + right, start=1)),
        "addf": ("...any: float64", _decimals(lambda left, right: left + right, start=0)),
        "subf": ("any, ...any: float64", _decimals(lambda left, right: left - right)),
        "divf": ("any, ...any: float64", _decimals(_divide_decimals)),
        "mulf": ("any, ...any: float64", _decimals(lambda left, right: left * right)),
        "biggest": ("any, ...any: int64", lambda *values: Int64(max(map(cast.to_int, values)))),
        "max": ("any, ...any: int64", lambda *values: Int64(max(map(cast.to_int, values)))),
        "min": ("any, ...any: int64", lambda *values: Int64(min(map(cast.to_int, values)))),
        "maxf": ("any, ...any: float64", lambda *values: max(map(cast.to_float, values))),
        "minf": ("any, ...any: float64", lambda *values: min(map(cast.to_float, values))),
        "ceil": ("any: float64", _whole(math.ceil)),
        "floor": ("any: float64", _whole(math.floor)),
        "round": ("any, int, ...float64: float64", _round),
    }
    return {name: golang.function(signature, call) for name, (signature, call) in table.items()}
