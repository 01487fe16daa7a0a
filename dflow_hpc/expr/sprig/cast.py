"""How sprig turns anything into a number, a text, or "empty".

Nothing here fails: what is no number is 0, as sprig's ``int("zz")``. Trap: a text is read with its prefix, so ``010``
is 8 and ``0x10`` is 16; and a fraction is cut off, so ``3.7`` is 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.expr.golang import TypedMap

_DECIMAL = re.compile(r"([-+]?\d*)(\.\d*)?", re.ASCII)


def to_int(value: Any) -> int:
    """Return an ``int``, 0 if it is none."""
    if isinstance(value, float):
        return golang.truncate(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and value:
        match = _DECIMAL.fullmatch(value)
        text = value
        if "." in value and match is not None:
            text = match[1] + "0" if match[1] in ("", "-", "+") else match[1]
        try:
            return golang.parse_int(text)
        except ExpressionError:
            return 0
    return 0


def to_float(value: Any) -> float:
    """Return a ``float64``, 0 if it is none."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str) and value:
        try:
            return golang.parse_float(value)
        except ExpressionError:
            return 0.0
    return 0.0


def to_text(value: Any) -> str:
    """Return a text: itself, or what ``%v`` prints."""
    return golang.format_value(value)


def texts(value: Any) -> list[str]:
    """Return a list of texts: of a list its items but nil, of anything else one."""
    if isinstance(value, (list, tuple)):
        return [to_text(item) for item in value if item is not None]
    return [] if value is None else [to_text(value)]


def empty(value: Any) -> bool:
    """Say whether a value is the zero value of its type, or has no length."""
    if isinstance(value, Mapping) and isinstance(value, TypedMap) and value.is_struct:
        return False
    if value is None or isinstance(value, (str, list, tuple, Mapping, int, float)):
        return not value
    return False
