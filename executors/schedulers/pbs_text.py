"""What PBS's commands print about jobs and servers, brought to records of texts.

Three forms: JSON (``-F json``), the same JSON where a value broke it (names of digits with leading zeros, quotes or
control characters in variables; seen in the trackers of OpenPBS), and the plain text of ``qstat -f``. What is left of
an answer that was cut is read, too.

Not here: what the values mean (``pbs.py``).

Trap: JSON shows a name of digits as a number. Numbers are kept as the text that was printed.
"""

from __future__ import annotations

import calendar
import json
import re
from typing import Any

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CTIME = re.compile(r"\w{3} (\w{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4})", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(?:(\d+):)?(\d+)", re.ASCII)
_JSON_JOB = re.compile(r'\s*"(\d+(?:\[\d*\])?(?:\.[^"]*)?)"\s*:\s*\{')
_JSON_FIELD = re.compile(r'\s*"([\w.]+)"\s*:\s*(.*?),?\s*')
_TEXT_FIELD = re.compile(r"    (\S+) = ?(.*)")


class Record(dict[str, str]):
    """One job's attributes, by lower-case name; those of nested ones joined by a dot."""

    def number(self, key: str) -> int | None:
        """Return a value as an integer; None where it is none."""
        text = self.get(key, "")
        return int(text) if re.fullmatch(r"-?\d{1,9}", text, re.ASCII) else None

    def variable(self, name: str) -> str | None:
        """Return a variable of the job's environment, from either form of ``Variable_List``."""
        told = self.get(f"variable_list.{name.lower()}")
        match = re.search(rf"(?:^|,){name}=([^,]*)", self.get("variable_list", ""))
        return told if told is not None else match and match[1]


def records(text: str) -> dict[str, Record]:
    """Return the jobs in an answer by the id that is printed, whatever form it has."""
    start = text.find("{")
    if "Job Id" in text and (start < 0 or text.find("Job Id") < start):
        return _of_text(text)
    if start < 0:
        return {}
    try:
        told, _ = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode(text[start:])
    except (ValueError, RecursionError):
        return _of_broken_json(text)
    jobs = told.get("Jobs") if isinstance(told, dict) else None
    if not isinstance(jobs, dict):
        return {}
    return {key: Record(_flat(job)) for key, job in jobs.items() if isinstance(job, dict)}


def attributes(text: str) -> Record:
    """Return the attributes that ``qstat -f`` and ``qstat -B -f`` list, long lines joined again."""
    lines = text.replace("\n\t", "").splitlines()
    return Record({match[1].lower(): match[2].strip() for line in lines if (match := _TEXT_FIELD.fullmatch(line))})


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


def _flat(job: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in job.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{key.lower()}."))
        else:
            found[f"{prefix}{key.lower()}"] = "" if value is None else str(value)
    return found


def _of_text(text: str) -> dict[str, Record]:
    found = {}
    for part in re.split(r"^Job Id: ?", text, flags=re.MULTILINE)[1:]:
        printed, _, rest = part.partition("\n")
        found[printed.strip()] = attributes(rest)
    return found


def _of_broken_json(text: str) -> dict[str, Record]:
    """Read line by line what a parser refuses: each attribute stands on its own line."""
    found: dict[str, Record] = {}
    prefix, job = "", Record()
    for line in text.splitlines():
        if head := _JSON_JOB.fullmatch(line):
            prefix, job = "", found.setdefault(head[1], Record())
        elif re.fullmatch(r"\s*\},?\s*", line):
            prefix = ""
        elif field := _JSON_FIELD.fullmatch(line):
            key, value = field[1].lower(), field[2]
            if value == "{":
                prefix = f"{key}."
            else:
                job[prefix + key] = value[1:-1] if re.fullmatch(r'".*"', value) else value
    return found
