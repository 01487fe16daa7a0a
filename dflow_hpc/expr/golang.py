r"""Go's values as Python sees them: types, printing, numbers, durations.

Argo is written in Go, and its users see Go: ``[1 a]`` where a list was printed, ``1e+06``, ``\u003c``. The other
modules of this package compute on Python values; this one says which Go type each stands for and prints it as Go does.
A ``str`` stands for Go's byte string: bytes that are not UTF-8 are held as surrogate escapes (PEP 383).

Not here: JSON (``gojson``), ``fmt`` verbs (``goformat``), time (``gotime``), regular expressions (``goregexp``).
Trap: ``bool`` is an ``int`` in Python. Test for it first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dflow_hpc.errors import ExpressionError

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


class Int64(int):
    """An ``int64``: what sprig's arithmetic gives. Go does not take it for an ``int``."""


class Uint8(int):
    """A ``uint8``: what indexing a string gives."""


class Uint64(int):
    """A ``uint64``."""


class Duration(int):
    """A ``time.Duration``, in nanoseconds."""


class TypedList(list[Any]):
    """A slice that is not ``[]interface {}``, such as ``[]string``; ``go_type`` is its type in Go."""

    def __init__(self, items: Sequence[Any], go_type: str):
        super().__init__(items)
        self.go_type = go_type


class NilList(list[Any]):
    """A nil slice: empty, and ``null`` in JSON."""

    def __init__(self, go_type: str = "[]interface {}"):
        super().__init__()
        self.go_type = go_type


class TypedMap(dict[Any, Any]):
    """A map that is not ``map[string]interface {}``, or a struct; ``go_type`` is its type in Go."""

    def __init__(self, items: Mapping[Any, Any], go_type: str):
        super().__init__(items)
        self.go_type = go_type

    @property
    def is_struct(self) -> bool:
        """Whether it stands for a struct, whose fields are known when an expression is compiled."""
        return not self.go_type.startswith("map[")


class NilMap(TypedMap):
    """A nil map: empty, and ``null`` in JSON."""


class Function:
    """A function that expressions can call, with the signature that it has in Go.

    Attributes:
        parameters: Types of its parameters; of a variadic one the last is the type of each further argument.
        result: Type of its result.
    """

    def __init__(self, call: Callable[..., Any], parameters: tuple[str, ...], result: str, *, variadic: bool = False):
        self.call, self.parameters, self.result, self.variadic = call, parameters, result, variadic

    @property
    def go_type(self) -> str:
        """Its type, as ``%T`` prints it."""
        shown = list(self.parameters)
        if self.variadic:
            shown[-1] = "..." + shown[-1]
        return f"func({', '.join(shown)}) {self.result}"


def function(signature: str, call: Callable[..., Any]) -> Function:
    """Return a function with a signature such as ``"string, ...any: any"``; ``any`` is ``interface {}``."""
    parameters, _, result = signature.replace("any", "interface {}").partition(":")
    names = tuple(name.strip() for name in parameters.split(",") if name.strip())
    variadic = bool(names) and names[-1].startswith("...")
    if variadic:
        names = (*names[:-1], names[-1][3:])
    return Function(call, names, result.strip(), variadic=variadic)


class AnyKey(NamedTuple):
    """A key of a ``map[interface {}]...`` that is no string: there 1, 1.0 and true are three keys."""

    go_type: str
    value: Any


def any_key(value: Any) -> Any:
    """Return what stands for a key in a map whose keys can be anything."""
    return value if isinstance(value, str) else AnyKey(type_name(value), value)


def plain_key(key: Any) -> Any:
    """Return the key that ``any_key`` was given."""
    return key.value if isinstance(key, AnyKey) else key


def strings(items: Sequence[str]) -> TypedList:
    """Return a ``[]string``."""
    return TypedList(items, "[]string")


def ints(items: Sequence[int]) -> TypedList:
    """Return an ``[]int``."""
    return TypedList(items, "[]int")


def type_name(value: Any) -> str:
    """Return the Go type of a value as ``%T`` prints it, such as ``map[string]interface {}``."""
    if value is None:
        return "<nil>"
    known = _TYPE_NAMES.get(type(value))
    if known is not None:
        return known
    declared = getattr(value, "go_type", None)
    if isinstance(declared, str):
        return declared
    if callable(value):
        return "func(...interface {}) interface {}"
    if isinstance(value, Mapping):
        return "map[string]interface {}"
    return type(value).__name__


_TYPE_NAMES: dict[type, str] = {
    bool: "bool",
    int: "int",
    float: "float64",
    str: "string",
    list: "[]interface {}",
    tuple: "[]interface {}",
    dict: "map[string]interface {}",
    Int64: "int64",
    Uint8: "uint8",
    Uint64: "uint64",
    Duration: "time.Duration",
}


def kind(value: Any) -> str:
    """Return Go's ``reflect.Kind`` of a value: ``string``, ``slice``, ``map``, ``int``, ..., ``invalid`` for nil."""
    return kind_of_type(type_name(value)) if value is not None else "invalid"


def kind_of_type(name: str) -> str:
    """Return the ``reflect.Kind`` of a Go type's name."""
    if name.startswith("["):
        return "slice" if name.startswith("[]") else "array"
    if name.startswith("map["):
        return "map"
    if name.startswith("func("):
        return "func"
    if name.startswith("*"):
        return "ptr"
    if name in ("interface {}", "error"):
        return "interface"
    if name == "time.Duration":
        return "int64"
    return name if name in _BASIC_KINDS else "struct"


_BASIC_KINDS = frozenset(
    ["bool", "string", "float64", "float32"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in ("", "8", "16", "32", "64")]
)


def wrap_int(value: int) -> int:
    """Return an integer as 64 bits hold it: Go's arithmetic wraps around."""
    return value if INT_MIN <= value <= INT_MAX else (value - INT_MIN) % (1 << 64) + INT_MIN


def truncate(value: float) -> int:
    """Convert a float to an ``int`` as Go on amd64 does: toward zero; out of range gives the smallest integer."""
    if math.isnan(value) or not -9.3e18 < value < 9.3e18:
        return INT_MIN
    number = int(value)
    return number if INT_MIN <= number <= INT_MAX else INT_MIN


def to_bytes(text: str) -> bytes:
    """Return the bytes of a Go string."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: Go would hold U+FFFD
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")


def from_bytes(data: bytes) -> str:
    """Return the Go string of some bytes."""
    return data.decode("utf-8", "surrogateescape")


# --- numbers -------------------------------------------------------------------------------------------------------


def atoi(text: str) -> int:
    """Read a decimal integer as ``strconv.Atoi`` does.

    Raises:
        ExpressionError: With Go's text, such as ``strconv.Atoi: parsing "x": invalid syntax``.
    """
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        raise ExpressionError(f"strconv.Atoi: parsing {quote(text)}: invalid syntax")
    # Longer than any int64: refused before int() could take quadratic time over it.
    value = int(text) if len(text.lstrip("+-0")) < 25 else INT_MAX + 1
    if not INT_MIN <= value <= INT_MAX:
        raise ExpressionError(f"strconv.Atoi: parsing {quote(text)}: value out of range")
    return value


def parse_int(text: str, base: int = 0) -> int:
    """Read an integer as ``strconv.ParseInt(text, base, 64)`` does; base 0 takes the prefixes of Go, and ``_``.

    Raises:
        ExpressionError: It is none, or does not fit in 64 bits.
    """
    digits = text.lstrip("+-") if text[:1] in ("+", "-") else text
    octal = base == 0 and re.fullmatch(r"0[0-7_]*[0-7]", digits)
    invalid = ExpressionError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    if not re.fullmatch(r"[0-9a-zA-Z][0-9a-zA-Z_]*", digits, re.ASCII):
        raise invalid
    try:
        # What is longer than any int64 is refused before int() could take quadratic time over it.
        value = INT_MAX + 1 if len(digits) > 70 else int(digits, 8 if octal else base)
    except ValueError:
        raise invalid from None
    value = -value if text.startswith("-") else value
    if not INT_MIN <= value <= INT_MAX:
        raise ExpressionError(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return value


_DECIMAL_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DIGIT_SEPARATOR = re.compile(r"(?<=[0-9a-fA-FxX])_(?=[0-9a-fA-F])")
_SPECIAL_FLOAT = re.compile(r"[+-]?(inf|infinity)|nan", re.IGNORECASE | re.ASCII)
_HEX_FLOAT = re.compile(r"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?\d+", re.ASCII)


def parse_float(text: str) -> float:
    """Read a float as ``strconv.ParseFloat(text, 64)`` does.

    Raises:
        ExpressionError: With Go's text.
    """
    given, text = text, _DIGIT_SEPARATOR.sub("", text)
    if _DECIMAL_FLOAT.fullmatch(text) or _SPECIAL_FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value) and _DECIMAL_FLOAT.fullmatch(text):
            raise ExpressionError(f"strconv.ParseFloat: parsing {quote(given)}: value out of range")
        return value
    if _HEX_FLOAT.fullmatch(text):
        return float.fromhex(text)
    raise ExpressionError(f"strconv.ParseFloat: parsing {quote(given)}: invalid syntax")


def power(base: float, exponent: float) -> float:
    """Return ``math.Pow``: infinities and NaN where Python raises, and Go's last digit.

    Go multiplies the mantissa by squaring, which differs from the C library in the last bit: ``2 ** 1.5`` prints
    ``2.82842712474619`` there.
    """
    try:
        close = math.pow(base, exponent)
    except (OverflowError, ValueError):
        close = math.inf
        if base < 0 and exponent != math.floor(exponent):
            return math.nan
        odd = exponent % 2 == 1
        return math.copysign(close, base) if odd else close
    special = base in (0.0, 1.0, -1.0) or exponent in (0.0, 1.0, -1.0, 0.5, -0.5)
    if special or not math.isfinite(base) or not 1e-300 < abs(close) < 1e300 or abs(exponent) > 1 << 62:
        return close
    fraction, whole = math.modf(abs(exponent))
    if fraction > 0.5:
        fraction, whole = fraction - 1, whole + 1
    made, made_exponent = (math.exp(fraction * math.log(base)) if fraction else 1.0), 0
    factor, factor_exponent = math.frexp(base)
    rest = int(whole)
    while rest:
        if rest & 1:
            made, made_exponent = made * factor, made_exponent + factor_exponent
        factor, factor_exponent, rest = factor * factor, factor_exponent * 2, rest >> 1
        if factor < 0.5:
            factor, factor_exponent = factor * 2, factor_exponent - 1
    if exponent < 0:
        made, made_exponent = 1 / made, -made_exponent
    return math.ldexp(made, made_exponent)


def divide(left: float, right: float) -> float:
    """Return ``left / right`` of float64: infinities and NaN where Python raises."""
    try:
        return left / right
    except ZeroDivisionError:
        if left == 0 or math.isnan(left):
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1.0, right)


def remainder(left: float, right: float) -> float:
    """Return ``math.Mod``: NaN where Python raises."""
    try:
        return math.fmod(left, right)
    except ValueError:
        return math.nan


def decimal_digits(value: float) -> tuple[str, int]:
    """Return the shortest digits that give the (finite, positive) float again, and where the decimal point stands.

    Example:
        ``0.00125`` gives ``("125", -2)``: 0.125e-2.
    """
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return (digits, point) if digits else ("0", 1)


def float_text(value: float, threshold: int = 6) -> str:
    """Print a float with the fewest digits, with an exponent below 1e-4 or from 10**``threshold`` on.

    ``%v`` has the threshold 6: a million is ``1e+06``.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    digits, point = decimal_digits(abs(value)) if value else ("0", 1)
    exponent = point - 1
    if exponent < -4 or exponent >= threshold:
        fraction = "." + digits[1:] if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    return sign + plain_digits(digits, point)


def plain_digits(digits: str, point: int) -> str:
    """Print digits without an exponent."""
    if point <= 0:
        return "0." + "0" * -point + digits
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return digits[:point] + "." + digits[point:]


# --- texts ---------------------------------------------------------------------------------------------------------


def quote_bytes(text: str) -> str:
    """Quote a text as ``time`` does in its errors: every byte that is not plain ASCII by its number."""
    shown = [
        "\\" + chr(code) if code in b'"\\' else chr(code) if 0x20 <= code < 0x80 else f"\\x{code:02x}"
        for code in to_bytes(text)
    ]
    return '"' + "".join(shown) + '"'


_QUOTE_SHORT = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", '"': r"\"", "\\": r"\\",
}  # fmt: skip


def quote(text: str) -> str:
    """Return ``strconv.Quote`` of a text."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_quote_character, text)) + '"'


def _quote_character(character: str) -> str:
    short = _QUOTE_SHORT.get(character)
    if short is not None:
        return short
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, see to_bytes
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def sort_key(value: Any) -> tuple[int, Any]:
    """Order map keys as ``fmt`` and ``encoding/json`` do: by kind, then by value."""
    value = plain_key(value)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, value)
    return (3, to_bytes(value)) if isinstance(value, str) else (4, str(value))


def format_value(value: Any) -> str:
    """Print a value as ``%v`` does: ``[1 a]``, ``map[a:1]``, ``<nil>``, ``1e+06``."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Duration):
        return duration_text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, Mapping):
        if isinstance(value, TypedMap) and value.is_struct:
            return "{" + " ".join(format_value(item) for item in value.values()) + "}"
        keys = sorted(value, key=sort_key)
        return "map[" + " ".join(f"{format_value(plain_key(key))}:{format_value(value[key])}" for key in keys) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(format_value, value)) + "]"
    return str(value)


# --- durations -----------------------------------------------------------------------------------------------------

NANOSECOND, MICROSECOND, MILLISECOND, SECOND = 1, 10**3, 10**6, 10**9
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 24 * 3600 * SECOND
_UNITS = {
    "ns": 1, "us": MICROSECOND, "µs": MICROSECOND, "μs": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "m": MINUTE,
    "h": HOUR,
}  # fmt: skip
_DURATION_PART = re.compile(r"(?P<whole>\d*)(?P<dot>\.?)(?P<fraction>\d*)(?P<unit>[^\d.]*)", re.ASCII)


def parse_duration(text: str) -> Duration:
    """Read a duration as ``time.ParseDuration`` does: ``1h15m30.918s``, ``-1.5h``, ``0``.

    Returns:
        Nanoseconds.

    Raises:
        ExpressionError: With Go's text, such as ``time: missing unit in duration "10"``.
    """
    rest, negative = text, False
    if rest[:1] in ("+", "-"):
        negative, rest = rest[0] == "-", rest[1:]
    if rest == "0":
        return Duration(0)
    if not rest:
        raise ExpressionError(f"time: invalid duration {quote_bytes(text)}")
    total = 0
    while rest:
        part = _DURATION_PART.match(rest)
        if part is None or not (part["whole"] or part["fraction"]) or len(part["whole"]) > 19:
            raise ExpressionError(f"time: invalid duration {quote_bytes(text)}")
        if not part["unit"]:
            raise ExpressionError(f"time: missing unit in duration {quote_bytes(text)}")
        unit = _UNITS.get(part["unit"])
        if unit is None:
            raise ExpressionError(f"time: unknown unit {quote_bytes(part['unit'])} in duration {quote_bytes(text)}")
        fraction = part["fraction"][:18]
        total += int(part["whole"] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        rest = rest[part.end() :]
    total = -total if negative else total
    if not INT_MIN <= total <= INT_MAX:
        raise ExpressionError(f"time: invalid duration {quote_bytes(text)}")
    return Duration(total)


def parse_seconds_or_duration(text: str) -> Duration:
    """Read a duration as Argo's fields are written: an integer is seconds, anything else Go's text.

    Returns:
        Nanoseconds.

    Raises:
        ExpressionError: It is neither.
    """
    try:
        return Duration(wrap_int(atoi(text) * SECOND))
    except ExpressionError:
        try:
            return parse_duration(text)
        except ExpressionError as error:
            raise ExpressionError(f"unable to parse {text} as a duration: {error}") from error


def duration_text(nanoseconds: int) -> str:
    """Print a duration as Go does: ``1h15m30.918s``, ``1.5µs``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < SECOND:
        for unit, size in (("ms", MILLISECOND), ("µs", MICROSECOND), ("ns", NANOSECOND)):
            if rest >= size:
                return sign + _scaled(rest, size) + unit
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    text = f"{hours}h" if hours else ""
    if hours or minutes:
        text += f"{minutes}m"
    return sign + text + _scaled(rest, SECOND) + "s"


def _scaled(value: int, size: int) -> str:
    whole, fraction = divmod(value, size)
    digits = f"{fraction:0{len(str(size)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


_WEEK, _MONTH, _YEAR = 7 * DAY, 30 * DAY, 360 * DAY
_MAGNITUDES: tuple[tuple[int, str, int], ...] = (
    # below this, its text, divided by
    (SECOND, "0 seconds", SECOND), (2 * SECOND, "1 second", 1), (MINUTE, "{} seconds", SECOND),
    (2 * MINUTE, "1 minute", 1), (HOUR, "{} minutes", MINUTE), (2 * HOUR, "1 hour", 1), (DAY, "{} hours", HOUR),
    (2 * DAY, "1 day", 1), (_WEEK, "{} days", DAY), (2 * _WEEK, "1 week", 1), (_MONTH, "{} weeks", _WEEK),
    (2 * _MONTH, "1 month", 1), (_YEAR, "{} months", _MONTH), (18 * _MONTH, "1 year", 1), (2 * _YEAR, "2 years", 1),
    (37 * _YEAR, "{} years", _YEAR),
)  # fmt: skip


def humanize_duration(nanoseconds: int) -> str:
    """Print a duration in at most two units, as in Argo's ``Backoff for 1 minute 30 seconds``."""
    size = abs(nanoseconds)
    truncated = "a long while"
    for limit, text, divisor in _MAGNITUDES:
        if size < limit:
            truncated = text.format(size // divisor)
            break
    if nanoseconds < MINUTE:
        return truncated
    if nanoseconds < HOUR:
        return f"{truncated} {nanoseconds % MINUTE // SECOND} seconds"
    if nanoseconds < DAY:
        return f"{truncated} {nanoseconds % HOUR // MINUTE} minutes"
    return f"{truncated} {nanoseconds % DAY // HOUR} hours"
