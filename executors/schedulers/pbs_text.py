"""What PBS's commands print about jobs and servers (``qstat -f``), brought to records of texts.

What is left of an answer that was cut is read, too.

Not here: what the values mean (``pbs.py``).

Trap: long lines are broken, with a tab at the start of the next one.
"""

from __future__ import annotations

import calendar
import re

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CTIME = re.compile(r"\w{3} (\w{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4})", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(?:(\d+):)?(\d+)", re.ASCII)
_FIELD = re.compile(r"    (\S+) = ?(.*)")


class Record(dict[str, str]):
    """One job's attributes, by lower-case name; ``resource_list.walltime``."""

    def number(self, key: str) -> int | None:
        """Return a value as an integer; None where it is none."""
        text = self.get(key, "")
        return int(text) if re.fullmatch(r"-?\d{1,9}", text, re.ASCII) else None

    def variable(self, name: str) -> str | None:
        """Return a variable of the job's environment."""
        match = re.search(rf"(?:^|,){name}=([^,]*)", self.get("variable_list", ""))
        return match and match[1]


def records(text: str) -> dict[str, Record]:
    """Return the jobs in an answer by the id that is printed."""
    found = {}
    for part in re.split(r"^Job Id: ?", text, flags=re.MULTILINE)[1:]:
        printed, _, rest = part.partition("\n")
        found[printed.strip()] = attributes(rest)
    return found


def attributes(text: str) -> Record:
    """Return the attributes that ``qstat -f`` and ``qstat -B -f`` list, long lines joined again."""
    lines = text.replace("\n\t", "").splitlines()
    return Record({match[1].lower(): match[2].strip() for line in lines if (match := _FIELD.fullmatch(line))})


def ctime_seconds(text: str) -> float | None:
    """Read ``Tue Nov 24 22:57:04 2026``, in UTC as our commands ask for it, whatever the locale is here."""
    match = _CTIME.fullmatch(text)
    if match is None or match[1] not in _MONTHS:
        return None
    day, hour, minute, second, year = (int(part) for part in match.groups()[1:])
    if not 1 <= day <= 31 or year < 1970:
        return None
    return float(calendar.timegm((year, _MONTHS.index(match[1]) + 1, day, hour, minute, second)))


def clock_seconds(text: str) -> float | None:
    """Read ``24:00:00``, ``300``."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    total = 0
    for part in match.groups():
        total = total * 60 + int(part or 0)
    return float(total)
