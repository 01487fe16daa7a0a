"""Go's ``time``: instants with nanoseconds and a zone, layouts (``2006-01-02``), and Argo's strftime letters.

Durations are in ``golang``. Not here: which clock is read; whoever evaluates an expression passes ``now`` in.
Trap: a layout is an example, not a pattern: ``02`` is the day and ``2`` too; ``20060`` is the year and ``0``.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable, Mapping
from functools import total_ordering
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.expr.golang import Duration, function

ZERO_NANOSECONDS = -62135596800 * golang.SECOND
_CYCLE = 146097 * 86400
"""Seconds in 400 years."""
_EPOCH = datetime.datetime(1970, 1, 1)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip

RFC3339 = "2006-01-02T15:04:05Z07:00"
RFC3339_NANO = "2006-01-02T15:04:05.999999999Z07:00"
RFC822 = "02 Jan 06 15:04 MST"
RFC850 = "Monday, 02-Jan-06 15:04:05 MST"
RFC1123 = "Mon, 02 Jan 2006 15:04:05 MST"
ANSIC = "Mon Jan _2 15:04:05 2006"
UNIX_DATE = "Mon Jan _2 15:04:05 MST 2006"
RUBY_DATE = "Mon Jan 02 15:04:05 -0700 2006"
KITCHEN = "3:04PM"


class Location:
    """A ``*time.Location``: a zone by name, or one with a fixed offset."""

    go_type = "*time.Location"

    def __init__(self, name: str, zone: datetime.tzinfo):
        self.name, self.zone = name, zone

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Location) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def to_json(self) -> str:
        """Return its JSON; Go shows nothing of it."""
        return "{}"


UTC = Location("UTC", datetime.UTC)


def fixed_zone(name: str, seconds: int) -> Location:
    """Return a zone with a fixed offset, in seconds east of UTC."""
    offset = datetime.timedelta(seconds=seconds)
    return Location(name, datetime.timezone(offset, name) if name else datetime.timezone(offset))


def load_location(name: str) -> Location:
    """Return a zone by its name in the zone database; empty and ``Local`` are UTC here.

    A run must not depend on the zone of the machine it is resumed on.

    Raises:
        ExpressionError: There is none, with Go's text.
    """
    if name in ("", "UTC", "Local"):
        return UTC
    try:
        return Location(name, zoneinfo.ZoneInfo(name))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ExpressionError(f"unknown time zone {name}") from None


class Month(int):
    """A ``time.Month``."""

    go_type = "time.Month"

    def __str__(self) -> str:
        return _MONTHS[int(self) - 1]


class Weekday(int):
    """A ``time.Weekday``; Sunday is 0."""

    go_type = "time.Weekday"

    def __str__(self) -> str:
        return _DAYS[(int(self) - 1) % 7]


@total_ordering
class Time:
    """A ``time.Time``: nanoseconds since the epoch, seen in a zone. Equal instants are equal, whatever the zone."""

    go_type = "time.Time"

    def __init__(self, nanoseconds: int, location: Location = UTC):
        self.nanoseconds, self.location = nanoseconds, location

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Time) and self.nanoseconds == other.nanoseconds

    def __lt__(self, other: Time) -> bool:
        return self.nanoseconds < other.nanoseconds

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    def __str__(self) -> str:
        return self.format("2006-01-02 15:04:05.999999999 -0700 MST")

    def to_json(self) -> str:
        """Return its JSON."""
        return f'"{self.format(RFC3339_NANO)}"'

    @property
    def year(self) -> int:
        """The year in its zone."""
        return self.civil().year - 400 * self._cycles()

    def _cycles(self) -> int:
        """Return how many times 400 years, which are the same calendar again, bring it into Python's range."""
        return max(-((self.nanoseconds - ZERO_NANOSECONDS - golang.DAY) // (400 * 365 * golang.DAY)), 0)

    def civil(self) -> datetime.datetime:
        """Return date and time of day in its zone, to the second; before the year 1 in a later year, see ``year``."""
        seconds = self.nanoseconds // golang.SECOND + self._cycles() * _CYCLE
        try:
            moment = (_EPOCH + datetime.timedelta(seconds=seconds)).replace(tzinfo=datetime.UTC)
            return moment.astimezone(self.location.zone)
        except (OverflowError, ValueError):
            raise ExpressionError(f"a time of {seconds} seconds since 1970 lies outside the years 1 to 9999") from None

    def in_(self, location: Location) -> Time:
        """Return the same instant in another zone."""
        return Time(self.nanoseconds, location)

    def add(self, nanoseconds: int) -> Time:
        """Return the instant some nanoseconds later."""
        return Time(self.nanoseconds + int(nanoseconds), self.location)

    def since(self, other: Time) -> Duration:
        """Return how much later it is than another; 292 years at most, as in Go."""
        return Duration(min(max(self.nanoseconds - other.nanoseconds, golang.INT_MIN), golang.INT_MAX))

    def add_date(self, years: int, months: int, days: int) -> Time:
        """Return the same time of day some years, months and days later; the 31st of a short month runs over."""
        civil = self.civil()
        month = civil.month - 1 + months
        return date(
            (civil.year + years + month // 12, month % 12 + 1, civil.day + days),
            (civil.hour, civil.minute, civil.second),
            self.nanoseconds % golang.SECOND,
            self.location,
        )

    def truncate(self, size: int) -> Time:
        """Return the last multiple of a duration (counted from the year 1) that is not after it."""
        return self if size <= 0 else self.add(-((self.nanoseconds - ZERO.nanoseconds) % size))

    def round(self, size: int) -> Time:
        """Return the nearest multiple of a duration; a half goes up."""
        if size <= 0:
            return self
        rest = (self.nanoseconds - ZERO.nanoseconds) % size
        return self.add(-rest if rest + rest < size else size - rest)

    def format(self, layout: str) -> str:
        """Print it by a layout."""
        civil = self.civil()
        return "".join(_print(piece, civil, self) if index % 2 else piece for index, piece in enumerate(_cut(layout)))


def from_datetime(moment: datetime.datetime) -> Time:
    """Return the time of a ``datetime``; one without a zone is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    offset = moment.utcoffset() or datetime.timedelta(0)
    seconds = (moment.replace(tzinfo=None) - offset - _EPOCH) // datetime.timedelta(microseconds=1)
    location = UTC if not offset else fixed_zone("", int(offset.total_seconds()))
    return Time(seconds * golang.MICROSECOND, location)


def from_unix(seconds: float) -> Time:
    """Return the time of some seconds since the epoch, in UTC, to the microsecond."""
    return Time(round(seconds * 1_000_000) * golang.MICROSECOND)


def date(day: tuple[int, int, int], time: tuple[int, int, int], nanoseconds: int = 0, location: Location = UTC) -> Time:
    """Return the instant of a civil date and time in a zone; a day after the month's last runs over."""
    year, month, number = day
    hour, minute, second = time
    try:
        civil = datetime.datetime(year, month, 1) + datetime.timedelta(
            days=number - 1, hours=hour, minutes=minute, seconds=second
        )
        offset = civil.replace(tzinfo=location.zone).utcoffset() or datetime.timedelta(0)
    except (OverflowError, ValueError):
        raise ExpressionError(f"the date {year}-{month:02d}-{number:02d} lies outside the years 1 to 9999") from None
    seconds = (civil - offset - _EPOCH) // datetime.timedelta(seconds=1)
    return Time(seconds * golang.SECOND + nanoseconds, location)


ZERO = Time(ZERO_NANOSECONDS)
"""The zero time: 1 January of the year 1."""


# --- layouts -------------------------------------------------------------------------------------------------------

_ELEMENT = re.compile(
    r"January|Jan(?![a-z]{1})|Monday|Mon(?![a-z]{1})|MST|2006|002|0[1-6]|_2006|__2|_2|15|[1-5]|PM|pm"
    r"|-070000|-07:00:00|-0700|-07:00|-07|Z070000|Z07:00:00|Z0700|Z07:00|Z07|[.,](?:0+|9+)(?!\d)"
)


def _cut(layout: str) -> list[str]:
    """Cut a layout into elements and the text between them."""
    pieces, at = [], 0
    while at < len(layout):
        match = _ELEMENT.search(layout, at)
        if match is None:
            break
        element, start = match[0], match.start()
        if element == "_2006":  # the blank belongs to no element
            start, element = start + 1, "2006"
        pieces += [layout[at:start], element]
        at = start + len(element)
    return [*pieces, layout[at:]]


def _is_fraction(piece: str) -> bool:
    return len(piece) > 1 and piece[0] in ".," and set(piece[1:]) in ({"0"}, {"9"})


def _clock12(civil: datetime.datetime) -> int:
    return civil.hour % 12 or 12


_PRINT: dict[str, Callable[[datetime.datetime], str]] = {
    "January": lambda civil: _MONTHS[civil.month - 1],
    "Jan": lambda civil: _MONTHS[civil.month - 1][:3],
    "1": lambda civil: str(civil.month),
    "01": lambda civil: f"{civil.month:02d}",
    "Monday": lambda civil: _DAYS[civil.weekday()],
    "Mon": lambda civil: _DAYS[civil.weekday()][:3],
    "2": lambda civil: str(civil.day),
    "_2": lambda civil: f"{civil.day:2d}",
    "02": lambda civil: f"{civil.day:02d}",
    "__2": lambda civil: f"{civil.timetuple().tm_yday:3d}",
    "002": lambda civil: f"{civil.timetuple().tm_yday:03d}",
    "15": lambda civil: f"{civil.hour:02d}",
    "3": lambda civil: str(_clock12(civil)),
    "03": lambda civil: f"{_clock12(civil):02d}",
    "4": lambda civil: str(civil.minute),
    "04": lambda civil: f"{civil.minute:02d}",
    "5": lambda civil: str(civil.second),
    "05": lambda civil: f"{civil.second:02d}",
    "PM": lambda civil: "PM" if civil.hour >= 12 else "AM",
    "pm": lambda civil: "pm" if civil.hour >= 12 else "am",
}


def _print(piece: str, civil: datetime.datetime, time: Time) -> str:
    if piece in _PRINT:
        return _PRINT[piece](civil)
    if piece in ("2006", "06"):
        return f"{time.year:04d}" if piece == "2006" else f"{time.year % 100:02d}"
    if _is_fraction(piece):
        return _print_fraction(piece, time.nanoseconds % golang.SECOND)
    offset = int((civil.utcoffset() or datetime.timedelta(0)).total_seconds())
    if piece == "MST":
        name = civil.tzname() or ""
        # A zone without a name of its own is shown by its offset.
        return name if name and not name.startswith(("UTC+", "UTC-")) else _offset_text("-0700", offset)
    if piece[0] == "Z" and offset == 0:
        return "Z"
    return _offset_text(piece, offset)


def _print_fraction(piece: str, nanoseconds: int) -> str:
    digits = f"{nanoseconds:09d}"[: len(piece) - 1].ljust(len(piece) - 1, "0")
    if piece[1] == "9":
        digits = digits.rstrip("0")
    return piece[0] + digits if digits else ""


def _offset_text(piece: str, offset: int) -> str:
    sign, rest = ("-" if offset < 0 else "+"), abs(offset)
    colon = ":" if ":" in piece else ""
    text = f"{sign}{rest // 3600:02d}"
    digits = len(piece.replace(":", "")) - 1
    if digits >= 4:
        text += f"{colon}{rest // 60 % 60:02d}"
    return text + f"{colon}{rest % 60:02d}" if digits >= 6 else text


# --- reading -------------------------------------------------------------------------------------------------------


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
    pieces = _cut(layout)
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
    if _is_fraction(element):
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
    names: tuple[str, ...] = _MONTHS if element[0] == "J" else _DAYS
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


# --- Argo's strftime -----------------------------------------------------------------------------------------------

STRFTIME = {
    "B": "January", "b": "Jan", "m": "01", "A": "Monday", "a": "Mon", "d": "02", "H": "15", "I": "03", "M": "04",
    "S": "05", "Y": "2006", "y": "06", "p": "PM", "Z": "MST", "z": "-0700", "L": ".000",
}  # fmt: skip
"""The letters of ``workflow.creationTimestamp.<letter>`` and the layouts they stand for."""


def strftime(form: str, time: Time) -> str:
    """Print a time by letters: ``%Y-%m-%d``. An unknown letter stays."""

    def replace(match: re.Match[str]) -> str:
        letter = match[1]
        return "%" if letter == "%" else time.format(STRFTIME[letter]) if letter in STRFTIME else match[0]

    return re.sub(r"%(.)", replace, form, flags=re.DOTALL)


def timestamp_variables(time: Time) -> dict[str, str]:
    """Return ``workflow.creationTimestamp`` and all its variants, by name."""
    name = "workflow.creationTimestamp"
    found = {f"{name}.{letter}": time.format(layout) for letter, layout in STRFTIME.items()}
    text = time.format(RFC3339)
    return {**found, name: text, f"{name}.RFC3339": text, f"{name}.s": str(time.nanoseconds // golang.SECOND)}


# --- methods -------------------------------------------------------------------------------------------------------


def _civil(part: Callable[[datetime.datetime], Any]) -> Callable[[Time], Any]:
    return lambda time: part(time.civil())


METHODS: Mapping[str, Mapping[str, golang.Function]] = {
    "time.Time": {
        "Year": function(": int", lambda time: time.year),
        "Month": function(": time.Month", _civil(lambda civil: Month(civil.month))),
        "Day": function(": int", _civil(lambda civil: civil.day)),
        "Hour": function(": int", _civil(lambda civil: civil.hour)),
        "Minute": function(": int", _civil(lambda civil: civil.minute)),
        "Second": function(": int", _civil(lambda civil: civil.second)),
        "Nanosecond": function(": int", lambda time: time.nanoseconds % golang.SECOND),
        "YearDay": function(": int", _civil(lambda civil: civil.timetuple().tm_yday)),
        "Weekday": function(": time.Weekday", _civil(lambda civil: Weekday((civil.weekday() + 1) % 7))),
        "Unix": function(": int64", lambda time: golang.Int64(time.nanoseconds // golang.SECOND)),
        "UnixMilli": function(": int64", lambda time: golang.Int64(time.nanoseconds // golang.MILLISECOND)),
        "UnixNano": function(": int64", lambda time: golang.Int64(time.nanoseconds)),
        "UTC": function(": time.Time", lambda time: time.in_(UTC)),
        "In": function("*time.Location: time.Time", lambda time, location: time.in_(location)),
        "Format": function("string: string", lambda time, layout: time.format(layout)),
        "Add": function("time.Duration: time.Time", lambda time, duration: time.add(duration)),
        "AddDate": function("int, int, int: time.Time", lambda time, *parts: time.add_date(*parts)),
        "Sub": function("time.Time: time.Duration", lambda time, other: time.since(other)),
        "Before": function("time.Time: bool", lambda time, other: time < other),
        "After": function("time.Time: bool", lambda time, other: time > other),
        "Equal": function("time.Time: bool", lambda time, other: time == other),
        "IsZero": function(": bool", lambda time: time == ZERO),
        "Truncate": function("time.Duration: time.Time", lambda time, size: time.truncate(size)),
        "Round": function("time.Duration: time.Time", lambda time, size: time.round(size)),
        "String": function(": string", str),
    },
    "time.Duration": {
        "Hours": function(": float64", lambda duration: duration / golang.HOUR),
        "Minutes": function(": float64", lambda duration: duration / golang.MINUTE),
        "Seconds": function(": float64", lambda duration: duration / golang.SECOND),
        "Milliseconds": function(": int64", lambda duration: golang.Int64(_toward_zero(duration, golang.MILLISECOND))),
        "Microseconds": function(": int64", lambda duration: golang.Int64(_toward_zero(duration, golang.MICROSECOND))),
        "Nanoseconds": function(": int64", golang.Int64),
        "String": function(": string", golang.duration_text),
    },
}
"""Methods of times and durations that expressions can call, by type and name."""


def _toward_zero(value: int, size: int) -> int:
    return -(-value // size) if value < 0 else value // size
