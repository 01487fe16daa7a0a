"""How resources and texts are written for schedulers: memory, times, names, quoting.

Not for reading what tools print (each scheduler has its own words for that).

Trap: the units of memory are the schedulers' own, powers of 1024: 256MB, 256M and 256Mi are 268,435,456 bytes,
which is what ``--mem=256M`` and ``mem=256mb`` ask for. Nothing is rounded down.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction

from dflow_hpc.errors import ConfigError, ExpressionError
from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.expr.golang import SECOND, parse_duration

_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGTP])i?B?|B)\s*", re.ASCII | re.IGNORECASE)
_POWERS = "KMGTP"


def memory_bytes(text: str) -> int:
    """Return the bytes that ``"256MB"``, ``"1.5G"`` or ``"4Gi"`` say.

    Raises:
        ConfigError: It is no such text, or nothing.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ConfigError(f'memory = {text!r}: a number with a unit was expected, such as "256MB", "1.5GB" or "4GiB".')
    power: int = _POWERS.index(match[2].upper()) + 1 if match[2] else 0
    size: int = math.ceil(Fraction(match[1]) * 1024**power)
    if size == 0:
        raise ConfigError(f"memory = {text!r} asks for none; leave it out for the scheduler's default.")
    return size


def memory_text(text: str, units: Sequence[str], times: int = 1) -> str:
    """Return a memory in the greatest unit that says it without a fraction.

    Args:
        text: See ``memory_bytes``.
        units: The scheduler's words for 1024, 1024², ... bytes. A rest below the first unit counts as one more.
        times: How often it is asked for, where the scheduler takes the sum.
    """
    size: int = math.ceil(Fraction(memory_bytes(text) * times, 1024))
    power = 0
    while size % 1024 == 0 and power < len(units) - 1:
        size, power = size // 1024, power + 1
    return f"{size}{units[power]}"


def seconds(text: str) -> int:
    """Return a Go duration in whole seconds, rounded up.

    Raises:
        ConfigError: It is none, or not more than 0.
    """
    try:
        value = math.ceil(Fraction(int(parse_duration(text)), SECOND))
    except ExpressionError as error:
        raise ConfigError(
            f'time = {text!r}: a duration was expected, such as "90s", "10m" or "36h": {error}'
        ) from error
    if value <= 0:
        raise ConfigError(f"time = {text!r}: a longest run time must be more than nothing.")
    return value


def clock(value: int) -> str:
    """Return seconds as ``HH:MM:SS``; hours go beyond 24."""
    return f"{value // 3600:02}:{value // 60 % 60:02}:{value % 60:02}"


def iso(value: float) -> str:
    """Return seconds since the epoch as ``2026-11-24T12:14:40``, in UTC, rounded down."""
    return datetime.fromtimestamp(math.floor(max(value, 0)), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def plain(text: str, longest: int) -> str:
    """Return a text as a name that no scheduler, shell or file system takes apart: letters, digits and ``._-``."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:longest]


def one_line(text: str) -> str:
    """Return a text without control characters, which would end a directive."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def counted(resources: Resources) -> Resources:
    """Return resources whose counts make sense.

    Raises:
        ConfigError: One does not.
    """
    for key, least in (("nodes", 1), ("tasks", 1), ("cpus", 1), ("gpus", 0)):
        if getattr(resources, key) < least:
            raise ConfigError(f"{key} = {getattr(resources, key)}: at least {least} was expected.")
    for directive in resources.extra:
        if not directive.strip() or one_line(directive) != directive:
            raise ConfigError(f"extra: each entry is one directive on one line; found {directive!r}.")
    return resources


def warning(resources: Resources, warn: int | None) -> list[str]:
    """Return shell lines that send USR2 to their own shell before the time limit, for schedulers that do not.

    Args:
        resources: With the time limit.
        warn: Seconds before it.
    """
    if not warn or not resources.time:
        return []
    pause = max(seconds(resources.time) - warn, 1)
    return [f"( sleep {pause}; kill -s USR2 $$ ) </dev/null >/dev/null 2>&1 &"]


def lots(ids: Sequence[str], size: int) -> list[Sequence[str]]:
    """Return ids in groups that fit one command."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def words(out: str, err: str) -> str:
    """Return what a tool said, for a message: stderr, else stdout; its end where it is long."""
    said = err.strip() or out.strip() or "nothing"
    return said if len(said) <= 2000 else "... " + said[-2000:]
