r"""Go's regular expressions (RE2 syntax): read, refused with Go's words, and run on Python's ``re``.

The languages differ in what they accept and in a few meanings: ``$`` without ``(?m)`` is the very end, ``\d`` and
``\b`` know ASCII only, ``\pL`` and ``[[:alpha:]]`` exist, back references and look-around do not.

RE2 takes linear time and ``re`` does not: where a pattern and a text could take long, ``goregexp_linear`` runs the same
tree in linear time. Trap: an empty match right behind another match does not count in Go, and does in Python.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from dflow_hpc.errors import ExpressionError

_MAX_REPEAT = 1000
_MAX_DEPTH = 100
_MAX_COST = 1e7
"""Above this many steps in the worst case of backtracking, the linear engine runs."""


@dataclass
class Node:
    """A part of a pattern.

    Attributes:
        kind: ``char`` (a class of characters), ``empty``, ``assert``, ``concat``, ``alternate``, ``repeat``, ``group``.
        text: Python's pattern of a ``char`` or an ``assert``.
        items: Parts below.
        least: Of a repeat: how often at least.
        most: How often at most; None: no limit.
        lazy: Whether it takes as few as it can.
        name: Of a group: its number; None when it does not capture.
    """

    kind: str
    text: str = ""
    items: list[Node] = field(default_factory=list)
    least: int = 0
    most: int | None = 0
    lazy: bool = False
    name: int | None = None

    def to_python(self) -> str:
        """Return the pattern for Python's ``re``."""
        if self.kind in ("char", "assert"):
            return self.text
        inner = [item.to_python() for item in self.items]
        if self.kind == "alternate":
            return "(?:" + "|".join(inner) + ")"
        if self.kind == "group":
            return ("(?:" if self.name is None else "(") + "".join(inner) + ")"
        if self.kind == "repeat":
            bounds = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get(
                (self.least, self.most), f"{{{self.least},{'' if self.most is None else self.most}}}"
            )
            return f"(?:{''.join(inner)}){bounds}{'?' if self.lazy else ''}"
        return "".join(inner)

    def unbounded(self) -> tuple[int, bool]:
        """Return how many repeats have no limit (or a high one), and whether one stands inside another."""
        count, nested = 0, False
        for item in self.items:
            below, deep = item.unbounded()
            count, nested = count + below, nested or deep
        if self.kind == "repeat" and (self.most is None or self.most > 10):
            return count + 1, nested or count > 0
        return count, nested


class Match(Protocol):
    """What a match tells, of either engine."""

    def start(self, group: int = 0, /) -> int:
        """Return where a group begins; -1 if it took no part."""
        ...

    def end(self, group: int = 0, /) -> int:
        """Return where a group ends."""
        ...


class Regexp:
    """A compiled pattern."""

    def __init__(self, pattern: str):
        parser = _Parser(pattern)
        self.pattern, self.tree = pattern, parser.run()
        self.names, self.groups = parser.names, parser.groups
        self._python = re.compile(self.tree.to_python())
        self._repeats, self._nested = self.tree.unbounded()

    def search(self, text: str, at: int = 0) -> Match | None:
        """Find the first match from a place on."""
        rest = len(text) - at
        if (self._nested and rest > 12) or (rest + 1) ** min(self._repeats + 1, 10) > _MAX_COST:
            from dflow_hpc.expr import goregexp_linear

            return goregexp_linear.search(self, text, at)
        return self._python.search(text, at)

    def finditer(self, text: str) -> Iterator[Match]:
        """Find all matches that do not overlap, as Go counts them."""
        at, before = 0, -1
        while at <= len(text):
            match = self.search(text, at)
            if match is None:
                return
            start, end = match.start(), match.end()
            if not start == end == before:
                yield match
            before = end
            at = end + (start == end)

    def findall(self, text: str, limit: int) -> list[str] | None:
        """Return the texts of the matches, None if there are none; a negative limit is none."""
        found = [text[match.start() : match.end()] for match in self.finditer(text)]
        found = found if limit < 0 else found[:limit]
        return found or None

    def replace(self, text: str, template: str, *, literal: bool = False) -> str:
        """Replace all matches; ``$1`` and ``${name}`` stand for groups unless ``literal``."""
        made, at = [], 0
        for match in self.finditer(text):
            made += [text[at : match.start()], template if literal else self._expand(template, text, match)]
            at = match.end()
        return "".join([*made, text[at:]])

    def _expand(self, template: str, text: str, match: Match) -> str:
        def value(reference: re.Match[str]) -> str:
            if reference[0] == "$$":
                return "$"
            name = reference[1] or reference[2]
            number = int(name) if name.isdecimal() and len(name) < 6 else self.names.get(name, -1)
            if not 0 <= number <= self.groups or match.start(number) < 0:
                return ""
            return text[match.start(number) : match.end(number)]

        return re.sub(r"\$\$|\$(\w+)|\$\{(\w+)\}", value, template)

    def split(self, text: str, limit: int) -> list[str] | None:
        """Cut a text at the matches, as ``regexp.Split`` does; None for a limit of 0."""
        if limit == 0:
            return None
        if self.pattern and not text:
            return [""]
        made: list[str] = []
        begin = end = 0
        for match in self.finditer(text):
            if 0 < limit == len(made) + 1:
                break
            end = match.start()
            if match.end() != 0:
                made.append(text[begin:end])
            begin = match.end()
        if end != len(text):
            made.append(text[begin:])
        return made


@lru_cache(maxsize=256)
def compile(pattern: str) -> Regexp:  # noqa: A001
    """Compile a pattern of Go's.

    Raises:
        ExpressionError: It is none, with Go's text: ``error parsing regexp: missing closing ): `a(```.
    """
    return Regexp(pattern)


def matches(pattern: str, text: str) -> bool:
    """Say whether a pattern is found in a text."""
    return compile(pattern).search(text) is not None


def quote(text: str) -> str:
    """Return a pattern that matches a text and nothing else."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


# --- reading -------------------------------------------------------------------------------------------------------

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": "\\x00-\\x7f", "blank": "\\t ", "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~",
    "space": "\\t\\n\\v\\f\\r ", "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_PERL = {"d": "0-9", "w": "0-9A-Za-z_", "s": "\\t\\n\\f\\r "}
_ESCAPES = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_ALL = ((0, sys.maxunicode),)

Ranges = tuple[tuple[int, int], ...]


def _ranges_of(text: str) -> Ranges:
    """Return the ranges of a class that is written as Python would."""
    raw = re.findall(r"\\x[0-9a-f]{2}|\\.|.", text, re.DOTALL)
    codes = [_code_of(item) for item in raw]
    found, at = [], 0
    while at < len(codes):
        span = 2 if raw[at + 1 : at + 2] == ["-"] and at + 2 < len(codes) else 0
        found.append((codes[at], codes[at + span]))
        at += span + 1
    return tuple(found)


def _code_of(item: str) -> int:
    if len(item) == 1:
        return ord(item)
    return int(item[2:], 16) if item[1] == "x" else _ESCAPES.get(item[1], ord(item[1]))


def _negated(ranges: Ranges) -> Ranges:
    made, at = [], 0
    for low, high in sorted(ranges):
        if low > at:
            made.append((at, low - 1))
        at = max(at, high + 1)
    return (*made, (at, sys.maxunicode)) if at <= sys.maxunicode else tuple(made)


@lru_cache(maxsize=64)
def _category(name: str) -> Ranges | None:
    """Return the characters of a Unicode category; scripts are not known to Python."""
    if name == "Any":
        return _ALL
    if not re.fullmatch("[A-Z][a-z]?", name):
        return None
    found: list[tuple[int, int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)).startswith(name) and name != "C":
            if found and found[-1][1] == code - 1:
                found[-1] = (found[-1][0], code)
            else:
                found.append((code, code))
    return tuple(found) or None


def _class_text(ranges: Ranges, fold: bool) -> str:
    if not ranges:
        return "[^\\x00-\\U0010ffff]"
    text = "[" + "".join(_code(low) + (f"-{_code(high)}" if high > low else "") for low, high in ranges) + "]"
    return f"(?i:{text})" if fold else text


def _code(code: int) -> str:
    return f"\\U{code:08x}"


class _Parser:
    def __init__(self, pattern: str):
        self.pattern, self.at = pattern, 0
        self.flags = {"i": False, "m": False, "s": False, "U": False}
        self.names: dict[str, int] = {}
        self.groups = 0
        self.depth = 0

    def error(self, what: str, part: str) -> ExpressionError:
        return ExpressionError(f"error parsing regexp: {what}: `{part}`")

    def run(self) -> Node:
        tree = self.alternatives()
        if self.at < len(self.pattern):
            raise self.error("unexpected )", self.pattern)
        return tree

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def alternatives(self) -> Node:
        branches = [self.sequence()]
        while self.peek("|"):
            self.at += 1
            branches.append(self.sequence())
        return branches[0] if len(branches) == 1 else Node("alternate", items=branches)

    def sequence(self) -> Node:
        items: list[Node] = []
        last_repeat = ""
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            start = self.at
            bounds = self.repeat_bounds()
            if bounds is None:
                last_repeat = ""
                item = self.atom()
                if item is not None:
                    items.append(item)
                continue
            lazy = self.peek("?")
            self.at += lazy
            operator = self.pattern[start : self.at]
            if last_repeat:
                raise self.error("invalid nested repetition operator", last_repeat + operator)
            if not items:
                raise self.error("missing argument to repetition operator", operator)
            last_repeat = operator
            least, most = bounds
            items[-1] = Node("repeat", items=[items[-1]], least=least, most=most, lazy=lazy != self.flags["U"])
        return items[0] if len(items) == 1 else Node("concat", items=items)

    def repeat_bounds(self) -> tuple[int, int | None] | None:
        character = self.pattern[self.at]
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(character)
        if simple is not None:
            self.at += 1
            return simple
        match = re.compile(r"\{(\d+)(,(\d*))?\}", re.ASCII).match(self.pattern, self.at)
        if match is None:
            return None
        least = int(match[1][:9])
        most = least if match[2] is None else int(match[3][:9]) if match[3] else None
        if least > _MAX_REPEAT or (most is not None and (most > _MAX_REPEAT or most < least)):
            raise self.error("invalid repeat count", match[0])
        self.at = match.end()
        return least, most

    def atom(self) -> Node | None:
        character = self.pattern[self.at]
        if character == "(":
            return self.group()
        if character == "[":
            return self.bracket()
        if character == "\\":
            return self.escape()
        self.at += 1
        if character == ".":
            return self.char(_ALL if self.flags["s"] else _negated(((10, 10),)))
        if character == "^":
            return Node("assert", "(?m:^)" if self.flags["m"] else r"\A")
        if character == "$":
            return Node("assert", "(?m:$)" if self.flags["m"] else r"\Z")
        return self.char(((ord(character), ord(character)),))

    def char(self, ranges: Ranges) -> Node:
        return Node("char", _class_text(ranges, self.flags["i"]))

    def group(self) -> Node | None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.error("expression nests too deeply", self.pattern)
        start, outer = self.at, dict(self.flags)
        self.at += 1
        number: int | None = None
        if self.peek("?P<") or self.peek("?<"):
            number = self.named(start)
        elif self.peek("?"):
            if self.set_flags(start):
                self.depth -= 1
                return None
        else:
            self.groups += 1
            number = self.groups
        inner = self.alternatives()
        if not self.peek(")"):
            raise self.error("missing closing )", self.pattern)
        self.at += 1
        self.flags = outer
        self.depth -= 1
        return Node("group", items=[inner], name=number)

    def named(self, start: int) -> int:
        end = self.pattern.find(">", self.at)
        if end < 0:
            raise self.error("invalid named capture", self.pattern[start:])
        name = self.pattern[self.pattern.index("<", self.at) + 1 : end]
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise self.error("invalid named capture", self.pattern[start : end + 1])
        self.at = end + 1
        self.groups += 1
        self.names.setdefault(name, self.groups)
        return self.groups

    def set_flags(self, start: int) -> bool:
        """Read ``(?i)`` or ``(?i:``; say whether it was the former."""
        match = re.compile(r"\?([imsU]*)(?:-([imsU]+))?([:)])").match(self.pattern, self.at)
        if match is None:
            bad = re.compile(r"\?[imsU]*(?:-[imsU]*)?.?", re.DOTALL).match(self.pattern, self.at)
            end = bad.end() if bad else self.at
            raise self.error("invalid or unsupported Perl syntax", self.pattern[start:end])
        self.flags = {**self.flags, **dict.fromkeys(match[1], True), **dict.fromkeys(match[2] or "", False)}
        self.at = match.end()
        return match[3] == ")"

    def escape(self) -> Node | None:
        letter = self.pattern[self.at + 1 : self.at + 2]
        if letter == "":
            raise self.error("trailing backslash at end of expression", "")
        asserts = {"A": r"\A", "z": r"\Z", "b": r"(?a:\b)", "B": r"(?a:\B)"}
        if letter in asserts:
            self.at += 2
            return Node("assert", asserts[letter])
        if letter == "Q":
            end = self.pattern.find("\\E", self.at + 2)
            literal = self.pattern[self.at + 2 : end if end >= 0 else None]
            self.at = end + 2 if end >= 0 else len(self.pattern)
            return Node("concat", items=[self.char(((ord(item), ord(item)),)) for item in literal]) if literal else None
        if letter == "C":
            raise self.error("invalid escape sequence", "\\C")
        return self.char(self.class_escape() or self.code_escape())

    def class_escape(self) -> Ranges | None:
        """Read a class such as that of the digits, or of a Unicode category."""
        letter = self.pattern[self.at + 1 : self.at + 2]
        if letter.lower() in _PERL and letter:
            self.at += 2
            ranges = _ranges_of(_PERL[letter.lower()])
            return ranges if letter.islower() else _negated(ranges)
        match = re.compile(r"\\([pP])(?:\{(\^?)([^}]*)\}|(.))", re.DOTALL).match(self.pattern, self.at)
        if letter not in ("p", "P"):
            return None
        if match is None:
            raise self.error("invalid character class range", self.pattern[self.at :])
        found = _category(match[3] if match[3] is not None else match[4])
        if found is None:
            raise self.error("invalid character class range", match[0])
        self.at = match.end()
        return _negated(found) if (match[1] == "P") != bool(match[2]) else found

    def code_escape(self) -> Ranges:
        """Read the escape of one character."""
        match = re.compile(
            r"\\(?:x\{([0-9a-fA-F]+)\}|x([0-9a-fA-F]{2})|([1-7][0-7]{1,2}|0[0-7]{0,2})|([afnrtv])|([^\w\s]))", re.ASCII
        ).match(self.pattern, self.at)
        code = -1
        if match is not None:
            hexadecimal = match[1] or match[2]
            if hexadecimal:
                code = int(hexadecimal, 16)
            elif match[3]:
                code = int(match[3], 8)
            else:
                code = _ESCAPES[match[4]] if match[4] else ord(match[5])
        if match is None or code > sys.maxunicode or (match[5] is not None and not match[5].isascii()):
            bad = re.compile(r"\\x\{[0-9a-fA-F]{0,6}|\\x[0-9a-fA-F]?|\\", re.DOTALL).match(self.pattern, self.at)
            end = (bad.end() if bad else self.at) + (code < 0)
            raise self.error("invalid escape sequence", self.pattern[self.at : end])
        self.at = match.end()
        return ((code, code),)

    def bracket(self) -> Node:
        start = self.at
        self.at += 1
        negative = self.peek("^")
        self.at += negative
        found: list[tuple[int, int]] = []
        first = True
        while first or not self.peek("]"):
            if self.at >= len(self.pattern):
                raise self.error("missing closing ]", self.pattern[start:])
            first = False
            found += self.posix_class() or self.perl_in_bracket() or self.span(start)
        self.at += 1
        # With (?i) both cases are left out of a negative class, so the negation must stay with Python.
        if negative and self.flags["i"]:
            return Node("char", f"(?i:[^{_class_text(tuple(found), False)[1:-1]}])")
        return self.char(_negated(tuple(found)) if negative else tuple(found))

    def posix_class(self) -> Ranges | None:
        match = re.compile(r"\[:(\^?)([^\]:]*):\]").match(self.pattern, self.at)
        if match is None:
            return None
        if match[2] not in _POSIX:
            raise self.error("invalid character class range", match[0])
        self.at = match.end()
        ranges = _ranges_of(_POSIX[match[2]])
        return _negated(ranges) if match[1] else ranges

    def perl_in_bracket(self) -> Ranges | None:
        return self.class_escape() if self.peek("\\") else None

    def span(self, bracket: int) -> Ranges:
        start = self.at
        low = self.member(bracket)
        high = low
        if self.peek("-") and not self.peek("-]") and self.at + 1 < len(self.pattern):
            self.at += 1
            high = self.member(bracket)
            if high < low:
                raise self.error("invalid character class range", self.pattern[start : self.at])
        return ((low, high),)

    def member(self, bracket: int) -> int:
        if self.at >= len(self.pattern):
            raise self.error("missing closing ]", self.pattern[bracket:])
        if self.peek("\\"):
            if self.at + 1 >= len(self.pattern):
                raise self.error("missing closing ]", self.pattern[bracket:])
            return self.code_escape()[0][0]
        self.at += 1
        return ord(self.pattern[self.at - 1])
