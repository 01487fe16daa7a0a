"""sprig's functions on time.

The clock is passed in, so that a run that is resumed sees the same time. ``Local`` is UTC, as in Argo's controller.

Trap: ``duration`` takes an ``int64`` or a text, an ``int`` gives 0; what is no date at all is formatted as now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang, gotime, gotime_parse
from dflow_hpc.expr.golang import Duration, Int64
from dflow_hpc.expr.gotime import Time

Clock = Callable[[], Time]


def _seconds(value: int) -> Time:
    return Time(int(value) * golang.SECOND)


def functions(now: Clock) -> dict[str, golang.Function]:
    """Return the functions by name.

    Args:
        now: Tells the time.
    """

    def as_time(value: Any) -> Time:
        if isinstance(value, Time):
            return value
        return _seconds(value) if type(value) in (int, Int64) else now()

    def in_zone(layout: str, value: Any, zone: str) -> str:
        try:
            location = gotime.load_location(zone)
        except ExpressionError:
            location = gotime.UTC
        return as_time(value).in_(location).format(layout)

    def ago(value: Any) -> str:
        size = now().since(as_time(value))
        return golang.duration_text(
            (abs(size) + golang.SECOND // 2) // golang.SECOND * golang.SECOND * (1 if size >= 0 else -1)
        )

    def rounded(value: Any) -> str:
        size = 0
        if isinstance(value, str):
            size = _or_zero(value)
        elif isinstance(value, Time):
            size = now().since(value)
        elif type(value) is Int64:
            size = int(value)
        return _largest_unit(abs(size))

    table: dict[str, tuple[str, Callable[..., Any]]] = {
        "now": (": time.Time", now),
        "date": ("string, any: string", lambda layout, value: in_zone(layout, value, "")),
        "dateInZone": ("string, any, string: string", in_zone),
        "date_in_zone": ("string, any, string: string", in_zone),
        "htmlDate": ("any: string", lambda value: in_zone("2006-01-02", value, "")),
        "htmlDateInZone": ("any, string: string", lambda value, zone: in_zone("2006-01-02", value, zone)),
        "ago": ("any: string", ago),
        "durationRound": ("any: string", rounded),
        "duration": ("any: string", _duration),
        "dateModify": ("string, time.Time: time.Time", lambda text, time: time.add(_or_zero(text))),
        "date_modify": ("string, time.Time: time.Time", lambda text, time: time.add(_or_zero(text))),
        "mustDateModify": ("string, time.Time: time.Time", lambda text, time: time.add(golang.parse_duration(text))),
        "must_date_modify": ("string, time.Time: time.Time", lambda text, time: time.add(golang.parse_duration(text))),
        "toDate": ("string, string: time.Time", _to_date),
        "mustToDate": ("string, string: time.Time", gotime_parse.parse),
        "unixEpoch": ("time.Time: string", lambda time: str(time.nanoseconds // golang.SECOND)),
    }
    return {name: golang.function(signature, call) for name, (signature, call) in table.items()}


def _or_zero(text: str) -> int:
    try:
        return golang.parse_duration(text)
    except ExpressionError:
        return 0


def _to_date(layout: str, text: str) -> Time:
    try:
        return gotime_parse.parse(layout, text)
    except ExpressionError:
        return gotime.ZERO


def _duration(value: Any) -> str:
    seconds = 0
    if isinstance(value, str):
        try:
            seconds = golang.parse_int(value, 10)
        except ExpressionError:
            seconds = 0
    elif type(value) is Int64:
        seconds = int(value)
    return golang.duration_text(Duration(golang.wrap_int(seconds * golang.SECOND)))


_UNITS = (
    (365 * golang.DAY, "y"), (30 * golang.DAY, "mo"), (golang.DAY, "d"), (golang.HOUR, "h"), (golang.MINUTE, "m"),
    (golang.SECOND, "s"),
)  # fmt: skip


def _largest_unit(size: int) -> str:
    return next((f"{size // unit}{name}" for unit, name in _UNITS if size > unit), "0s")
