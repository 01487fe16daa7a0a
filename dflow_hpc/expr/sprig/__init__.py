"""sprig 3.3, the functions that Argo offers as ``sprig.*``, except ``env`` and ``expandenv``.

Each function is registered with the signature that it has in Go, because Go's reflection calls it: an ``int64`` (what
sprig's own arithmetic gives) where an ``int`` is wanted is an error there, and so it is here.

Trap: many of them give a zero value where one expects an error.
"""

from __future__ import annotations

import random

from dflow_hpc.expr.golang import Function
from dflow_hpc.expr.sprig import collections, dates, misc, numbers, texts

_PURE = {**texts.functions(), **numbers.functions(), **collections.functions(), **misc.PURE}


def functions(rng: random.Random, now: dates.Clock) -> dict[str, Function]:
    """Return all functions by name.

    Args:
        rng: Where random values come from.
        now: Tells the time.
    """
    return {**_PURE, **dates.functions(now), **misc.functions(rng)}
