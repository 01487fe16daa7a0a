r"""Go's regular expressions (RE2 syntax) on Python's ``re``.

The languages differ in what they accept and in a few meanings: ``$`` without ``(?m)`` is the very end, ``\z`` is
Python's ``\Z``, ``\pL`` and ``[[:alpha:]]`` exist, back references and look-around do not.
"""

from __future__ import annotations

import re
from functools import lru_cache

from dflow_hpc.errors import ExpressionError


@lru_cache(maxsize=256)
def compile(pattern: str) -> re.Pattern[str]:  # noqa: A001
    """Compile a pattern of Go's.

    Raises:
        ExpressionError: It is none.
    """
    try:
        return re.compile(pattern, re.ASCII)
    except re.error as error:
        raise ExpressionError(f"error parsing regexp: {error}: `{pattern}`") from error


def matches(pattern: str, text: str) -> bool:
    """Say whether a pattern is found in a text."""
    return compile(pattern).search(text) is not None
