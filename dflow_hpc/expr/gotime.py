"""Go's ``time``: instants with nanoseconds and a zone, layouts (``2006-01-02``), and Argo's strftime letters.

Durations are in ``golang``, reading a time by a layout in ``gotime_parse``. Not here: which clock is read; whoever
evaluates an expression passes ``now`` in.
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
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
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
        return MONTHS[int(self) - 1]


class Weekday(int):
    """A ``time.Weekday``; Sunday is 0."""

    go_type = "time.Weekday"

    def __str__(self) -> str:
        return DAYS[(int(self) - 1) % 7]


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
        return "".join(_print(piece, civil, self) if index % 2 else piece for index, piece in enumerate(cut(layout)))


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


def cut(layout: str) -> list[str]:
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


def is_fraction(piece: str) -> bool:
    """Say whether an element stands for parts of a second."""
    return len(piece) > 1 and piece[0] in ".," and set(piece[1:]) in ({"0"}, {"9"})


def _clock12(civil: datetime.datetime) -> int:
    return civil.hour % 12 or 12


_PRINT: dict[str, Callable[[datetime.datetime], str]] = {
    "January": lambda civil: MONTHS[civil.month - 1],
    "Jan": lambda civil: MONTHS[civil.month - 1][:3],
    "1": lambda civil: str(civil.month),
    "01": lambda civil: f"{civil.month:02d}",
    "Monday": lambda civil: DAYS[civil.weekday()],
    "Mon": lambda civil: DAYS[civil.weekday()][:3],
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
    if is_fraction(piece):
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
