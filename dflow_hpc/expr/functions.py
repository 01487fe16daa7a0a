"""The functions that Argo gives to expressions: ``asInt``, ``asFloat``, ``jsonpath``, ``toJson`` and ``sprig``.

They are there in ``{{=...}}``; not in ``depends``, ``data`` and ``successCondition``. Trap: ``now()`` of expr-lang and
``sprig.now()`` both read the clock that is passed here, so a run that is resumed must pass the recorded one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import gojson, jsonpath, sprig
from dflow_hpc.expr.golang import function
from dflow_hpc.expr.gotime import Time
from dflow_hpc.expr.lang import builtins
from dflow_hpc.expr.lang.program import CLOCK, no_clock


def _query(text: str, path: str) -> Any:
    return jsonpath.query(path, gojson.loads(text))


_PLAIN = {
    "asInt": function("any: any", builtins.to_int),
    "asFloat": function("any: any", builtins.to_float),
    "jsonpath": function("string, string: any", _query),
    "toJson": function("any: string", gojson.dumps),
}


def functions(rng: random.Random | None = None, now: Callable[[], Time] | None = None) -> dict[str, Any]:
    """Return the functions, to be added to the variables of an expression.

    Args:
        rng: Where random values come from; seed it with what identifies the node, so that a resumed run draws the same.
        now: Tells the time (``gotime.from_unix``).

    Returns:
        The functions by name. Without a generator or a clock, what needs one raises.
    """
    clock = now or no_clock
    return {**_PLAIN, "sprig": sprig.functions(rng or _NoRandom(), clock), CLOCK: clock}


class _NoRandom(random.Random):
    """Stands where no generator was passed."""

    def random(self) -> float:
        """Refuse."""
        raise ExpressionError("a random value was asked for where none can be drawn; pass `rng` to functions()")

    def getrandbits(self, k: int, /) -> int:
        """Refuse."""
        del k
        self.random()
        return 0
