"""Versions and constraints on them, as sprig's ``semver`` and ``semverCompare`` read them.

Trap: a constraint without a pre-release never takes one: ``>=1.0`` refuses ``1.1.0-beta``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.expr.golang import Uint64, function

_VERSION = re.compile(
    r"v?(0|[1-9]\d*)(?:\.(0|[1-9]\d*))?(?:\.(0|[1-9]\d*))?"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)
_PART = r"[0-9xX*|]+"
_WANTED = rf"v?(?:{_PART})(?:\.{_PART})?(?:\.{_PART})?(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z.-]+)?"
_OPERATOR = r"(?:!=|>=|=>|<=|=<|~>|=|>|<|~|\^|)"
_RANGE = re.compile(rf"\s*({_WANTED})\s+-\s+({_WANTED})\s*", re.ASCII)
_LIST = re.compile(rf"\s*{_OPERATOR}\s*{_WANTED}\s*(?:(?:\s+|,\s*){_OPERATOR}\s*{_WANTED}\s*)*", re.ASCII)
_ONE = re.compile(
    rf"({_OPERATOR})\s*v?({_PART})(?:\.({_PART}))?(?:\.({_PART}))?(-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?", re.ASCII
)


class Version:
    """A version; ``1.2`` is ``1.2.0``."""

    go_type = "*semver.Version"

    def __init__(self, text: str):
        match = _VERSION.fullmatch(text) if len(text) < 256 else None
        if match is None:
            raise ExpressionError("Invalid Semantic Version")
        self.original = text
        self.numbers = tuple(int(part or 0) for part in match.groups()[:3])
        self.prerelease, self.metadata = match[4] or "", match[5] or ""

    def __str__(self) -> str:
        text = ".".join(map(str, self.numbers))
        return (
            text + (f"-{self.prerelease}" if self.prerelease else "") + (f"+{self.metadata}" if self.metadata else "")
        )

    def to_json(self) -> str:
        """Return its JSON."""
        return f'"{self}"'

    def key(self) -> tuple[Any, ...]:
        """Return what it is ordered by: a release is above its pre-releases, numbers are below words."""
        parts = tuple(
            (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in self.prerelease.split(".") if part
        )
        return (self.numbers, not self.prerelease, parts)

    @property
    def go_methods(self) -> Mapping[str, golang.Function]:
        """Methods that an expression can call."""
        return _METHODS


_METHODS: Mapping[str, golang.Function] = {
    "Major": function(": uint64", lambda version: Uint64(version.numbers[0])),
    "Minor": function(": uint64", lambda version: Uint64(version.numbers[1])),
    "Patch": function(": uint64", lambda version: Uint64(version.numbers[2])),
    "Prerelease": function(": string", lambda version: version.prerelease),
    "Metadata": function(": string", lambda version: version.metadata),
    "Original": function(": string", lambda version: version.original),
    "String": function(": string", str),
}


def compare(constraint: str, text: str) -> bool:
    """Say whether a version fits a constraint such as ``>=1.2, <2 || ^3.1``.

    Raises:
        ExpressionError: One of them is none.
    """
    groups = [_read(part) for part in _RANGE.sub(r">= \1, <= \2 ", constraint).split("||")]
    version = Version(text)
    return any(all(_fits(version, *wanted) for wanted in group) for group in groups)


def _read(part: str) -> list[tuple[str, Version, int]]:
    """Return the conditions of a list: operator, version, and how many of its numbers were given."""
    if len(part) > 1000 or _LIST.fullmatch(part) is None:
        raise ExpressionError(f"improper constraint: {part}")
    found = []
    for match in _ONE.finditer(part):
        given: list[str] = []
        for number in match.groups()[1:4]:
            if number is None or number in ("x", "X", "*"):
                break
            given.append(number)
        try:
            wanted = Version(".".join([*given, "0", "0", "0"][:3]) + (match[5] or ""))
        except ExpressionError:
            raise ExpressionError("constraint Parser Error") from None
        found.append((match[1], wanted, len(given)))
    return found


def _fits(version: Version, operator: str, wanted: Version, given: int) -> bool:
    own, other = version.key(), wanted.key()
    if version.prerelease and not wanted.prerelease and not (operator == "!=" and given == 3):
        return False
    partial = given in (1, 2)
    if operator == "!=":
        return version.numbers[:given] != wanted.numbers[:given] if partial else own != other
    if operator in (">", "<=", "=<") and partial:
        above = version.numbers[:given] > wanted.numbers[:given]
        return above if operator == ">" else not above
    if operator == "<":
        return own < other
    if operator == ">":
        return own > other
    if operator in ("<=", "=<"):
        return own <= other if given else version.numbers[:2] <= wanted.numbers[:2]
    if operator == "^":
        return own >= other and _same_until_set(version, wanted, given)
    if operator in (">=", "=>") or own < other:
        return own >= other
    if operator in ("", "=") and given == 3:
        return own == other
    if wanted.numbers == (0, 0, 0) and not partial:
        return True
    return version.numbers[0] == wanted.numbers[0] and (given == 1 or version.numbers[1] == wanted.numbers[1])


def _same_until_set(version: Version, wanted: Version, given: int) -> bool:
    """Say whether the numbers agree up to the first that is not 0, or up to the last given."""
    for index, number in enumerate(wanted.numbers):
        if version.numbers[index] != number:
            return False
        if number > 0 or given == index + 1:
            return True
    return True
