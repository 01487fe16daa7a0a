"""Reading a time by one of Go's layouts: ``time.Parse``.

Trap: a zone's name alone tells no offset. ``CET`` is read as a zone of that name at UTC, as Go does where it does not
know better; only ``UTC``, ``GMT+2`` and numbers count.
"""

from __future__ import annotations

import datetime
import re

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.expr.gotime import DAYS, MONTHS, UTC, Location, Time, cut, date, fixed_zone, is_fraction


class _Parts:
    """What has been read of a time."""

    def __init__(self) -> None:
        self.year, self.month, self.day, self.yearday = 0, -1, -1, -1
        self.hour, self.minute, self.second, self.nanoseconds = 0, 0, 0, 0
        self.afternoon: bool | None = None
        self.offset: int | None = None
        self.utc = False
        self.zone = ""


class _Mismatch(Exception):
    """The value does not go on as the layout does; the argument is what is left of it, if it is less than before."""


class _OutOfRange(Exception):
    """A number cannot be; the argument is which."""


_READ_NUMBER: dict[str, tuple[str, str, int, int]] = {
    # element: pattern, attribute, least, most
    "01": (r"\d\d", "month", 1, 12), "1": (r"\d\d?", "month", 1, 12),
    "02": (r"\d\d", "day", 0, 99), "2": (r"\d\d?", "day", 0, 99), "_2": (r" ?\d\d?", "day", 0, 99),
    "002": (r"\d\d\d", "yearday", 0, 999), "__2": (r" {0,2}\d{1,3}", "yearday", 0, 999),
    "15": (r"\d\d?", "hour", 0, 23), "03": (r"\d\d", "hour", 0, 12), "3": (r"\d\d?", "hour", 0, 12),
    "04": (r"\d\d", "minute", 0, 59), "4": (r"\d\d?", "minute", 0, 59),
    "05": (r"\d\d", "second", 0, 59), "5": (r"\d\d?", "second", 0, 59),
    "2006": (r"\d{4}", "year", 0, 9999), "06": (r"\d\d", "year", 0, 99),
}  # fmt: skip
_OFFSET = {
    "-0700": r"[+-]\d{4}", "-07:00": r"[+-]\d\d:\d\d", "-07": r"[+-]\d\d", "-070000": r"[+-]\d{6}",
    "-07:00:00": r"[+-]\d\d:\d\d:\d\d",
}  # fmt: skip
_ZONE_NAME = re.compile(
    r"UTC|ChST|MeST|GMT[+-]\d{1,2}|[+-]\d\d(?:\d\d)?|[A-Z]{5}(?=[^A-Z]|$)|[A-Z]{4}(?=[^A-Z]|$)|[A-Z]{3}"
)


def parse(layout: str, value: str, location: Location | None = None) -> Time:
    """Read a time by a layout, as ``time.Parse`` and ``time.ParseInLocation`` do.

    Args:
        layout: The layout.
        value: The text.
        location: The zone of a text that names none; left out: UTC.

    Raises:
        ExpressionError: It does not fit, with Go's text: ``parsing time "x" as "2006": cannot parse "x" as "2006"``.
    """
    parts, rest = _Parts(), value
    what = f"parsing time {golang.quote_bytes(value)}"
    pieces = cut(layout)
    for index, piece in enumerate(pieces):
        try:
            if index % 2 == 0:
                rest = _skip(piece, rest)
            else:
                following = pieces[index + 1] + (pieces[index + 2] if index + 2 < len(pieces) else "")
                rest = _read(piece, rest, parts, following)
        except _Mismatch as mismatch:
            shown = f"{golang.quote_bytes(mismatch.args[0] if mismatch.args else rest)} as {golang.quote_bytes(piece)}"
            raise ExpressionError(f"{what} as {golang.quote_bytes(layout)}: cannot parse {shown}") from None
        except _OutOfRange as error:
            raise ExpressionError(f"{what}: {error} out of range") from None
    if rest:
        raise ExpressionError(f"{what}: extra text: {golang.quote_bytes(rest)}")
    try:
        return _assemble(parts, location or UTC)
    except _OutOfRange as error:
        raise ExpressionError(f"{what}: {error} out of range") from None


def _skip(text: str, value: str) -> str:
    while text:
        if text[0] == " ":
            if value and value[0] != " ":
                raise _Mismatch(value)
            text, value = text.lstrip(" "), value.lstrip(" ")
            continue
        if not value.startswith(text[0]):
            raise _Mismatch(value)
        text, value = text[1:], value[1:]
    return value


def _read(element: str, value: str, parts: _Parts, following: str) -> str:
    """Read one element from the head of the value, and return the rest."""
    if element in _READ_NUMBER:
        return _read_number(element, value, parts, following)
    if element in ("January", "Jan", "Monday", "Mon"):
        return _read_name(element, value, parts)
    if element in ("PM", "pm"):
        wanted = ("PM", "AM") if element == "PM" else ("pm", "am")
        if value[:2] not in wanted:
            raise _Mismatch
        parts.afternoon = value[:2] == wanted[0]
        return value[2:]
    if is_fraction(element):
        return _read_fraction(element, value, parts)
    if element == "MST":
        match = _ZONE_NAME.match(value)
        if match is None:
            raise _Mismatch
        parts.zone = match[0]
        parts.utc = match[0] == "UTC"
        return value[match.end() :]
    if element[0] == "Z" and value.startswith("Z"):
        parts.utc = True
        return value[1:]
    match = re.match(_OFFSET["-" + element[1:]], value, re.ASCII)
    if match is None:
        raise _Mismatch
    digits = match[0][1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if hours > 24 or minutes >= 60 or seconds >= 60:
        raise _OutOfRange("time zone offset " + ("hour" if hours > 24 else "minute" if minutes >= 60 else "second"))
    parts.offset = (-1 if match[0][0] == "-" else 1) * (hours * 3600 + minutes * 60 + seconds)
    return value[match.end() :]


def _read_number(element: str, value: str, parts: _Parts, following: str) -> str:
    pattern, attribute, least, most = _READ_NUMBER[element]
    match = re.match(pattern, value, re.ASCII)
    if match is None or (element == "2006" and len(value) >= 4 and not value[:4].isdigit()):
        raise _Mismatch
    number = int(match[0])
    if not least <= number <= most:
        raise _OutOfRange(attribute)
    if element == "06":
        number += 1900 if number >= 69 else 2000
    setattr(parts, attribute, number)
    rest = value[match.end() :]
    if attribute == "second" and not _begins_fraction(following):
        # Seconds may bring a fraction that the layout does not mention.
        fraction = re.match(r"[.,](\d+)", rest, re.ASCII)
        if fraction is not None:
            parts.nanoseconds = int(fraction[1][:9].ljust(9, "0"))
            rest = rest[fraction.end() :]
    return rest


def _begins_fraction(text: str) -> bool:
    return re.match(r"[.,](?:0+|9+)(?!\d)", text) is not None


def _read_name(element: str, value: str, parts: _Parts) -> str:
    names: tuple[str, ...] = MONTHS if element[0] == "J" else DAYS
    if len(element) == 3:
        names = tuple(name[:3] for name in names)
    for number, name in enumerate(names, 1):
        if value[: len(name)].lower() == name.lower():
            if element[0] == "J":
                parts.month = number
            return value[len(name) :]
    raise _Mismatch


def _read_fraction(element: str, value: str, parts: _Parts) -> str:
    if element[1] == "9":
        match = re.match(r"[.,](\d+)", value, re.ASCII)
        if match is None:
            return value
    else:
        match = re.match(rf"[.,](\d{{{len(element) - 1}}})", value, re.ASCII)
        if match is None:
            raise _Mismatch
    parts.nanoseconds = int(match[1][:9].ljust(9, "0"))
    return value[match.end() :]


def _assemble(parts: _Parts, location: Location) -> Time:
    hour = parts.hour
    if parts.afternoon is not None:
        hour = hour % 12 + 12 * parts.afternoon
    month, day = max(parts.month, 1), parts.day if parts.day >= 0 else 1
    if parts.yearday >= 0:
        first = datetime.date(max(parts.year, 1), 1, 1)
        found = first + datetime.timedelta(days=parts.yearday - 1)
        if parts.yearday < 1 or found.year != first.year:
            raise _OutOfRange("day-of-year")
        month, day = found.month, found.day
    if day < 1 or day > _days_in(parts.year, month):
        raise _OutOfRange("day")
    # Python has no year 0, which Go gives to a time of day without a date: 400 years are the same calendar.
    shift = 400 if parts.year == 0 else 0
    time = date((parts.year + shift, month, day), (hour, parts.minute, parts.second), parts.nanoseconds)
    time = time.add(-shift // 400 * 146097 * golang.DAY)
    if parts.offset is not None:
        same = UTC if parts.offset == 0 and parts.zone in ("", "UTC") else fixed_zone(parts.zone, parts.offset)
        return Time(time.nanoseconds - parts.offset * golang.SECOND, same)
    if parts.utc or location is UTC:
        if parts.utc or not parts.zone:
            return time
        # Go knows no offset of a name, except of GMT+2 and its like, and then only shows the instant there.
        hours = int(parts.zone[3:]) if re.fullmatch(r"GMT[+-]\d+", parts.zone) else 0
        return Time(time.nanoseconds, fixed_zone(parts.zone, hours * 3600))
    return date((parts.year, month, day), (hour, parts.minute, parts.second), parts.nanoseconds, location)


def _days_in(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
