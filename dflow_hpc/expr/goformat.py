"""Go's ``fmt.Sprintf`` for one integer or text: the ``format`` of ``withSequence``.

Trap: Go never fails here. A verb that does not fit prints ``%!s(int=5)``, a missing argument ``%!d(MISSING)``, and what
is left over ``%!(EXTRA int=5)``; a sequence with such items runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dflow_hpc.expr import golang

_VERB = re.compile(r"%([-+# 0]*)(\d{0,7})(?:(\.)(\d{0,7}))?(.)?", re.DOTALL)


def sprintf(form: str, *values: Any) -> str:
    """Return a text with the values in place of the verbs.

    Args:
        form: A text with ``%d``, ``%02X``, ``%v``, ``%s``, ``%q`` and the like.
        values: Integers, texts, floats, booleans.
    """
    rest = list(values)
    used = 0

    def put(match: re.Match[str]) -> str:
        nonlocal used
        flags, width, point, precision, verb = match.groups()
        if verb is None:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        if used >= len(rest):
            return f"%!{verb}(MISSING)"
        value = rest[used]
        used += 1
        return _Verb(flags, int(width or 0), None if point is None else int(precision or 0)).print(verb, value)

    made = _VERB.sub(put, form)
    if used < len(rest):
        made += "%!(EXTRA " + ", ".join(_typed(value) for value in rest[used:]) + ")"
    return made


def _typed(value: Any) -> str:
    return "<nil>" if value is None else f"{golang.type_name(value)}={golang.format_value(value)}"


class _Verb:
    """The flags, width and precision of one verb."""

    def __init__(self, flags: str, width: int, precision: int | None):
        self.minus, self.plus, self.sharp, self.space = (flag in flags for flag in "-+# ")
        self.zero = "0" in flags and not self.minus
        self.width, self.precision = width, precision

    def print(self, verb: str, value: Any) -> str:
        """Return the value by a verb."""
        if verb == "T":
            return self.pad(golang.type_name(value))
        if isinstance(value, bool):
            return self.pad(golang.format_value(value)) if verb in "tv" else self.bad(verb, value)
        if isinstance(value, int):
            return self.integer(verb, value)
        if isinstance(value, float):
            return self.floating(verb, value)
        if isinstance(value, str):
            return self.text(verb, value)
        return self.pad(golang.format_value(value)) if verb in "vs" else self.bad(verb, value)

    def bad(self, verb: str, value: Any) -> str:
        return f"%!{verb}({_typed(value)})"

    def pad(self, text: str) -> str:
        missing = self.width - len(text)
        if missing <= 0:
            return text
        return text + " " * missing if self.minus else ("0" if self.zero else " ") * missing + text

    def integer(self, verb: str, value: int) -> str:
        if verb == "c":
            return self.pad(chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF else "\ufffd")
        if verb == "q":
            text = chr(value) if 0 <= value <= 0x10FFFF else "\ufffd"
            return self.pad("'" + (golang.quote(text)[1:-1].replace('\\"', '"') if text != "'" else "\\'") + "'")
        if verb == "U":
            return self.pad(f"U+{value % (1 << 64):04X}")
        if verb in "eEfFgG":
            return self.bad(verb, value)
        digits = _DIGITS.get(verb)
        if digits is None:
            return self.bad(verb, value)
        text = digits(abs(value))
        sign = "-" if value < 0 else "+" if self.plus else " " if self.space else ""
        prefix = (
            {"x": "0x", "X": "0X", "b": "0b", "o": "0" * (value != 0)}.get(verb, "")
            if self.sharp
            else "0o" * (verb == "O")
        )
        if self.precision is not None:
            text = "" if self.precision == 0 and value == 0 else text.rjust(self.precision, "0")
            self.zero = False
        elif self.zero:
            text = text.rjust(self.width - len(sign), "0")
        return self.pad(sign + prefix + text)

    def floating(self, verb: str, value: float) -> str:
        if verb not in "vgGeEfF":
            return self.bad(verb, value)
        if verb == "v" or (verb in "gG" and self.precision is None):
            text = golang.float_text(value)
        else:
            text = f"{value:.{6 if self.precision is None else self.precision}{verb}}"
        if self.plus and not text.startswith(("-", "+")):
            text = "+" + text
        if self.zero and text[:1] in "+-" and len(text) < self.width:
            return text[0] + text[1:].rjust(self.width - 1, "0")
        return self.pad(text)

    def text(self, verb: str, value: str) -> str:
        cut = value if self.precision is None else value[: self.precision]
        if verb in "sv":
            return self.pad(cut)
        if verb == "q":
            return self.pad(golang.quote(cut))
        if verb in "xX":
            data = golang.to_bytes(cut).hex(" ") if self.space else golang.to_bytes(cut).hex()
            return self.pad(data.upper() if verb == "X" else data)
        return self.bad(verb, value)


_DIGITS: dict[str, Callable[[int], str]] = {
    "d": str,
    "v": str,
    "x": lambda value: f"{value:x}",
    "X": lambda value: f"{value:X}",
    "o": lambda value: f"{value:o}",
    "O": lambda value: f"{value:o}",
    "b": lambda value: f"{value:b}",
}
