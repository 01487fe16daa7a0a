"""JSON as Go reads and writes it.

Go writes it compactly with sorted keys and with ``<``, ``>`` and ``&`` escaped; it reads numbers as float64 and tells
errors in its own words, which users of Argo see: ``invalid character 'h' looking for beginning of value``.

Trap: Python's ``json`` takes ``NaN`` and lone surrogates; here both are as in Go (an error, and U+FFFD).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang

_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
    "<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029",
}  # fmt: skip
_TO_ESCAPE = re.compile('["\\\\\x00-\x1f<>&\u2028\u2029\ud800-\udfff]')
_TO_ESCAPE_NOT_HTML = re.compile('["\\\\\x00-\x1f\u2028\u2029\ud800-\udfff]')
_MAX_DEPTH = 500
"""Deeper values are refused: Go stops at 10,000, Python's stack before."""


def escape(text: str, *, html: bool = True) -> str:
    """Return a text as it stands between the quotes of Go's JSON."""
    return (_TO_ESCAPE if html else _TO_ESCAPE_NOT_HTML).sub(_escape_match, text)


def _escape_match(match: re.Match[str]) -> str:
    character = match[0]
    short = _ESCAPES.get(character)
    if short is not None:
        return short
    return "\\ufffd" if character >= "\ud800" else f"\\u{ord(character):04x}"


def dumps(value: Any, *, indent: str = "", html: bool = True) -> str:
    """Return ``json.Marshal`` of a value, or ``json.MarshalIndent`` with an ``indent``.

    Args:
        value: The value.
        indent: What each level is indented by; empty: one line without blanks.
        html: Whether ``<``, ``>`` and ``&`` are escaped, as Go does unless told not to.

    Raises:
        ExpressionError: It has no JSON, with Go's text: ``json: unsupported value: NaN``.
    """
    return _Writer(indent, html).write(value, 0)


class _Writer:
    def __init__(self, indent: str, html: bool):
        self.indent, self.html = indent, html
        self.colon = ": " if indent else ":"

    def write(self, value: Any, depth: int) -> str:
        if isinstance(value, str):
            return f'"{escape(value, html=self.html)}"'
        if value is None or isinstance(value, bool):
            return {None: "null", True: "true", False: "false"}[value]
        if isinstance(value, int):
            return str(int(value))
        if isinstance(value, float):
            return number_text(value)
        if depth > _MAX_DEPTH:
            raise ExpressionError(f"json: a value nested deeper than {_MAX_DEPTH} levels cannot be written")
        if isinstance(value, (golang.NilList, golang.NilMap)):
            return "null"
        if isinstance(value, Mapping):
            go_type = golang.type_name(value)
            if go_type.startswith("map[interface {}]"):
                raise ExpressionError(f"json: unsupported type: {go_type}")
            items = [
                f'"{escape(str(key), html=self.html)}"{self.colon}{self.write(value[key], depth + 1)}'
                for key in sorted(value, key=golang.sort_key)
            ]
            return self._bracket("{", items, "}", depth)
        if isinstance(value, (list, tuple)):
            return self._bracket("[", [self.write(item, depth + 1) for item in value], "]", depth)
        to_json = getattr(value, "to_json", None)  # a time says its own
        if to_json is None:
            raise ExpressionError(f"json: unsupported type: {golang.type_name(value)}")
        return str(to_json())

    def _bracket(self, opening: str, items: list[str], closing: str, depth: int) -> str:
        if not items or not self.indent:
            return opening + ",".join(items) + closing
        line = "\n" + self.indent * (depth + 1)
        return opening + line + ("," + line).join(items) + "\n" + self.indent * depth + closing


def number_text(value: float) -> str:
    """Print a float as JSON: plain digits between 1e-6 and 1e21.

    Raises:
        ExpressionError: It is infinite or not a number.
    """
    if math.isnan(value) or math.isinf(value):
        raise ExpressionError(f"json: unsupported value: {golang.float_text(value)}")
    if value == 0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    sign = "-" if value < 0 else ""
    digits, point = golang.decimal_digits(abs(value))
    if 1e-6 <= abs(value) < 1e21:
        return sign + golang.plain_digits(digits, point)
    fraction = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"


def loads(text: str) -> Any:
    """Return ``json.Unmarshal`` into ``interface{}``: numbers are floats.

    Raises:
        ExpressionError: It is not JSON, with Go's text.
    """
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ExpressionError("exceeded max depth") from None
    except ValueError:
        raise ExpressionError(error_of(text) or "exceeded max depth") from None
    return _without_surrogates(value) if _MAY_HOLD_SURROGATE.search(text) else value


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ExpressionError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return value


def _constant(name: str) -> float:
    raise ValueError(name)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", key): _without_surrogates(item) for key, item in value.items()}
    return value


_DECODER = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_constant)
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAY_HOLD_SURROGATE = re.compile(r"[\ud800-\udfff]|\\u[dD][89a-fA-F]")
_BLANK = " \t\r\n"
_CLOSING = {"{": "}", "[": "]"}
_LITERALS = {word[0]: word for word in ("true", "false", "null")}
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_SIMPLE_ESCAPES = '"\\/bfnrt'


def error_of(text: str) -> str:
    """Return Go's words for what is wrong with a JSON text; empty when nothing is."""
    try:
        _Scanner(text).document()
    except _BadJson as error:
        return str(error)
    return ""


class _BadJson(Exception):
    pass


def _quoted_character(character: str) -> str:
    if character == "'":
        return r"'\''"
    if character == '"':
        return "'\"'"
    return "'" + golang.quote(character)[1:-1] + "'"


class _Scanner:
    """Walks a text by JSON's grammar, without building values and without recursion, to word the first error."""

    def __init__(self, text: str):
        self.text, self.at = text, 0
        self.open: list[str] = []
        self.due = False  # whether a value must come now

    def fail(self, context: str) -> _BadJson:
        if self.at >= len(self.text):
            # Go ends the text with a blank, and tells of it where none may stand.
            if (context.startswith("in ") and context != "in string literal") or context.startswith("after decimal"):
                return _BadJson(f"invalid character ' ' {context}")
            return _BadJson("unexpected end of JSON input")
        # Go scans bytes: of a character outside ASCII it names the first one.
        first = self.text[self.at]
        first = first if first < "\x80" else chr(golang.to_bytes(first)[0])
        return _BadJson(f"invalid character {_quoted_character(first)} {context}")

    def blank(self) -> str:
        while self.at < len(self.text) and self.text[self.at] in _BLANK:
            self.at += 1
        return self.text[self.at] if self.at < len(self.text) else ""

    def document(self) -> None:
        self.value("looking for beginning of value")
        while self.open:
            if self.due:
                self.due = False
                self.value("looking for beginning of value")
            else:
                self.after_value()
        if self.blank():
            raise self.fail("after top-level value")

    def value(self, context: str) -> None:
        """Read a scalar, or the opening of a list or object."""
        character = self.blank()
        if character in ("{", "["):
            self.at += 1
            self.open.append(character)
            if self.blank() == _CLOSING[character]:
                self.close()
            elif character == "{":
                self.key()
            else:
                self.due = True
        elif character == '"':
            self.string()
        elif character == "-" or character in _DIGITS:
            self.number()
        elif character in _LITERALS:
            self.literal(_LITERALS[character])
        else:
            raise self.fail(context)

    def close(self) -> None:
        self.at += 1
        self.open.pop()

    def key(self) -> None:
        if self.blank() != '"':
            raise self.fail("looking for beginning of object key string")
        self.string()
        if self.blank() != ":":
            raise self.fail("after object key")
        self.at += 1
        self.due = True

    def after_value(self) -> None:
        character = self.blank()
        if character == _CLOSING[self.open[-1]]:
            self.close()
        elif character != ",":
            raise self.fail("after array element" if self.open[-1] == "[" else "after object key:value pair")
        else:
            self.at += 1
            if self.open[-1] == "{":
                self.key()
            else:
                self.due = True

    def string(self) -> None:
        self.at += 1
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == '"':
                self.at += 1
                return
            if character < " ":
                raise self.fail("in string literal")
            self.at += 1
            if character == "\\":
                self.string_escape()
        raise self.fail("")

    def string_escape(self) -> None:
        character = self.text[self.at : self.at + 1]
        if character == "u":
            for _ in range(4):
                self.at += 1
                if self.text[self.at : self.at + 1] not in _HEX:
                    raise self.fail("in \\u hexadecimal character escape")
        elif not character or character not in _SIMPLE_ESCAPES:
            raise self.fail("in string escape code")
        self.at += 1

    def digits(self, context: str) -> None:
        if self.text[self.at : self.at + 1] not in _DIGITS:
            raise self.fail(context)
        while self.text[self.at : self.at + 1] in _DIGITS:
            self.at += 1

    def number(self) -> None:
        if self.text[self.at] == "-":
            self.at += 1
        if self.text[self.at : self.at + 1] == "0":
            self.at += 1
        else:
            self.digits("in numeric literal")
        if self.text[self.at : self.at + 1] == ".":
            self.at += 1
            self.digits("after decimal point in numeric literal")
        if self.text[self.at : self.at + 1] in ("e", "E"):
            self.at += 1
            if self.text[self.at : self.at + 1] in ("+", "-"):
                self.at += 1
            self.digits("in exponent of numeric literal")

    def literal(self, word: str) -> None:
        for expected in word:
            if self.text[self.at : self.at + 1] != expected:
                raise self.fail(f"in literal {word} (expecting {_quoted_character(expected)})")
            self.at += 1
