"""``when``: govaluate (2017) with every variable turned into a text, as Argo uses it.

So ``heads == tails`` compares two words, numbers are float64, and much that looks harmless is an error: a word with a
dash or a slash, a number like ``10m``, a text with either kind of quote in it.

Not here: substitution of tags; ``when`` is evaluated after it. Trap: everything behind a complete expression is
ignored where a parenthesis closed it, and either quote ends a text, whichever began it.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang, goregexp, gotext, gotime, gotime_parse

PREFIX, NUMERIC, BOOLEAN, STRING, PATTERN, TIME, VARIABLE, SEPARATOR, ACCESSOR = (
    "PREFIX", "NUMERIC", "BOOLEAN", "STRING", "PATTERN", "TIME", "VARIABLE", "SEPARATOR", "ACCESSOR",
)  # fmt: skip
COMPARATOR, LOGICALOP, MODIFIER, CLAUSE, CLAUSE_CLOSE, TERNARY, UNKNOWN = (
    "COMPARATOR", "LOGICALOP", "MODIFIER", "CLAUSE", "CLAUSE_CLOSE", "TERNARY", "UNKNOWN",
)  # fmt: skip

_MAX_DEPTH = 60
"""How deep parentheses may nest: each level is a chain of calls, one for each precedence."""


@dataclass
class _Token:
    kind: str
    value: Any

    @property
    def shown(self) -> str:
        """The value as ``%v`` prints it; Go keeps a parenthesis as its code."""
        if self.kind in (CLAUSE, CLAUSE_CLOSE):
            return str(ord(self.value))
        return golang.format_value(self.value)


class _Pattern(str):
    """A text behind ``=~``: compiled, and no text any more for any other operator."""


class _Problem(Exception):
    """An error of govaluate, in its own words."""


def evaluate_when(text: str) -> bool:
    """Say whether a ``when`` holds.

    Args:
        text: The condition after substitution; an empty one holds.

    Raises:
        ExpressionError: With Argo's text: ``Invalid 'when' expression '...': ...``, ``Failed to parse ...``,
            ``Failed to evaluate ...`` or ``Expected boolean evaluation for '...'. Got ...``.
    """
    if not text:
        return True
    try:
        tokens = _Lexer(text).run()
        _check(tokens)
        _plan(tokens)
    except _Problem as problem:
        hint = ' (hint: try wrapping the affected expression in quotes ("))' if "Invalid token" in str(problem) else ""
        raise ExpressionError(f"Invalid 'when' expression '{text}': {problem}{hint}") from None
    tokens = [_Token(STRING, token.value) if token.kind == VARIABLE else token for token in tokens]
    try:
        _check(tokens)
        stage = _plan(tokens)
    except _Problem as problem:
        raise ExpressionError(f"Failed to parse 'when' expression '{text}': {problem}") from None
    try:
        result = stage() if stage is not None else None
    except _Problem as problem:
        # The word is Argo's.
        raise ExpressionError(f"Failed to evaluate 'when' expresion '{text}': {problem}") from None
    if not isinstance(result, bool):
        raise ExpressionError(f"Expected boolean evaluation for '{text}'. Got {golang.format_value(result)}")
    return result


# --- tokens --------------------------------------------------------------------------------------------------------

_COMPARATORS = ("==", "!=", ">", ">=", "<", "<=", "=~", "!~")
_MODIFIERS = ("+", "-", "*", "/", "%", "**", "&", "|", "^", ">>", "<<")
_KINDS = {
    **dict.fromkeys(_MODIFIERS, MODIFIER),
    "&&": LOGICALOP,
    "||": LOGICALOP,
    **dict.fromkeys(_COMPARATORS, COMPARATOR),
    "?": TERNARY,
    ":": TERNARY,
    "??": TERNARY,
}
_PREFIXES = ("-", "!", "~")

_VALUES = (NUMERIC, BOOLEAN, VARIABLE, ACCESSOR, STRING)
_AFTER_VALUE = (MODIFIER, COMPARATOR, LOGICALOP, CLAUSE_CLOSE, SEPARATOR)
_NEXT: dict[str, tuple[str, ...]] = {
    UNKNOWN: (PREFIX, *_VALUES, PATTERN, TIME, CLAUSE),
    CLAUSE: (PREFIX, *_VALUES, PATTERN, TIME, CLAUSE, CLAUSE_CLOSE),
    CLAUSE_CLOSE: (*_AFTER_VALUE, NUMERIC, BOOLEAN, VARIABLE, STRING, PATTERN, TIME, CLAUSE, TERNARY),
    NUMERIC: (*_AFTER_VALUE, TERNARY),
    BOOLEAN: (*_AFTER_VALUE, TERNARY),
    STRING: (*_AFTER_VALUE, TERNARY),
    VARIABLE: (*_AFTER_VALUE, TERNARY),
    TIME: _AFTER_VALUE,
    PATTERN: _AFTER_VALUE,
    MODIFIER: (PREFIX, *_VALUES, CLAUSE, CLAUSE_CLOSE),
    COMPARATOR: (PREFIX, *_VALUES, TIME, CLAUSE, CLAUSE_CLOSE, PATTERN),
    LOGICALOP: (PREFIX, *_VALUES, TIME, CLAUSE, CLAUSE_CLOSE),
    PREFIX: (NUMERIC, BOOLEAN, VARIABLE, ACCESSOR, CLAUSE, CLAUSE_CLOSE),
    TERNARY: (PREFIX, *_VALUES, TIME, CLAUSE, SEPARATOR),
    ACCESSOR: (CLAUSE, *_AFTER_VALUE, TERNARY),
    SEPARATOR: (PREFIX, *_VALUES, TIME, CLAUSE),
}
"""Which kinds may follow a kind; UNKNOWN is the beginning."""
_MAY_END = (CLAUSE_CLOSE, NUMERIC, BOOLEAN, STRING, TIME, PATTERN, VARIABLE, ACCESSOR)


def _is_number(character: str) -> bool:
    return character.isdecimal() or character == "."


def _is_name(character: str) -> bool:
    return character.isalpha() or character.isdecimal() or character in "_."


def _is_symbol(character: str) -> bool:
    return not (character.isalpha() or character.isdecimal() or character in "()[]'\"")


class _Lexer:
    def __init__(self, text: str):
        self.text, self.at = text, 0
        self.tokens: list[_Token] = []

    def run(self) -> list[_Token]:
        while True:
            while self.at < len(self.text) and self.text[self.at] in gotext.BLANK:
                self.at += 1
            if self.at == len(self.text):
                break
            self.tokens.append(self.token(self.text[self.at]))
        opened = sum(token.kind == CLAUSE for token in self.tokens)
        if opened != sum(token.kind == CLAUSE_CLOSE for token in self.tokens):
            raise _Problem("Unbalanced parenthesis")
        return self.tokens

    def token(self, character: str) -> _Token:
        if _is_number(character):
            return _Token(NUMERIC, self.number())
        if character in ",()":
            self.at += 1
            return _Token({",": SEPARATOR, "(": CLAUSE, ")": CLAUSE_CLOSE}[character], character)
        if character == "[":
            return _Token(VARIABLE, self.enclosed("]", "Unclosed parameter bracket"))
        if character.isalpha():
            return self.word()
        if character in "'\"":
            text = self.enclosed("'\"", "Unclosed string literal")
            time = _time(text)
            return _Token(STRING, text) if time is None else _Token(TIME, time)
        return self.symbol()

    def read(self, accepts: Callable[[str], bool], *, blanks: bool = False) -> str:
        """Read as long as the characters are accepted; a backslash takes whatever follows it.

        Args:
            accepts: Says of a character whether it belongs.
            blanks: Whether blanks belong; otherwise they end what has begun.
        """
        found: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "\\":
                if self.at + 1 == len(self.text):
                    raise _Problem("a backslash at the end escapes nothing")
                found.append(self.text[self.at + 1])
                self.at += 2
                continue
            if not blanks and character in gotext.BLANK:
                self.at += 1
                if found:
                    break
                continue
            if not accepts(character):
                break
            found.append(character)
            self.at += 1
        return "".join(found)

    def enclosed(self, end: str, unclosed: str) -> str:
        self.at += 1
        found = self.read(lambda character: character not in end, blanks=True)
        if self.at == len(self.text):
            raise _Problem(unclosed)
        self.at += 1
        return found

    def number(self) -> float:
        if self.text.startswith("0x", self.at) and self.at + 2 < len(self.text):
            self.at += 2
            text = self.read(lambda character: character.isdecimal() or character.lower() in "abcdef")
            try:
                value = int(text, 16)
            except ValueError:
                value = 1 << 64
            if not text or value >= 1 << 64:
                raise _Problem(f"Unable to parse hex value '{text}' to uint64\n")
            return float(value)
        text = self.read(_is_number)
        try:
            return golang.parse_float(text)
        except ExpressionError:
            raise _Problem(f"Unable to parse numeric value '{text}' to float64\n") from None

    def word(self) -> _Token:
        text = self.read(_is_name)
        if text in ("true", "false"):
            return _Token(BOOLEAN, text == "true")
        if text in ("in", "IN"):
            return _Token(COMPARATOR, "in")
        if "." not in text[1:]:
            return _Token(VARIABLE, text)
        if text.endswith("."):
            raise _Problem(f"Hanging accessor on token '{text}'")
        parts = text.split(".")
        for part in parts[1:]:
            if part and gotext.upper(part[0]) != part[0]:
                raise _Problem(f"Unable to access unexported field '{part}' in token '{text}'")
        return _Token(ACCESSOR, golang.strings(parts))

    def symbol(self) -> _Token:
        text = self.read(_is_symbol)
        before = self.tokens[-1].kind if self.tokens else UNKNOWN
        if text in _PREFIXES and PREFIX in _NEXT[before]:
            return _Token(PREFIX, text)
        if text not in _KINDS:
            raise _Problem(f"Invalid token: '{text}'")
        return _Token(_KINDS[text], text)


_TIME_LAYOUTS = (
    gotime.ANSIC, gotime.UNIX_DATE, gotime.RUBY_DATE, gotime.KITCHEN, gotime.RFC3339, gotime.RFC3339_NANO,
    "2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02 15:04:05-07:00", "2006-01-02T15Z0700",
    "2006-01-02T15:04Z0700", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05.999999999Z0700",
)  # fmt: skip


def _time(text: str) -> gotime.Time | None:
    """Return the time that a quoted text stands for, if it looks like one."""
    if not re.search(r"\d", text) or len(text) > 64:
        return None
    for layout in _TIME_LAYOUTS:
        try:
            return gotime_parse.parse(layout, text)
        except ExpressionError:
            continue
    return None


def _check(tokens: list[_Token]) -> None:
    """Check that each token may follow the one before."""
    before = _Token(UNKNOWN, None)
    for token in tokens:
        if token.kind not in _NEXT[before.kind]:
            if before.kind == VARIABLE and token.kind == CLAUSE:
                raise _Problem(f"Undefined function {before.value}")
            raise _Problem(
                f"Cannot transition token types from {before.kind} [{before.shown}] to {token.kind} [{token.shown}]"
            )
        before = token
    if before.kind not in _MAY_END:
        raise _Problem("Unexpected end of expression")


# --- evaluation ----------------------------------------------------------------------------------------------------

_Stage = Callable[[], Any]

_LEVELS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    # the loosest first: kind, how a wrong operand is told, symbols
    (SEPARATOR, "", (",",)),
    (TERNARY, "Value '{}' cannot be used with the ternary operator '{}', it is not a bool", ("?", ":", "??")),
    (LOGICALOP, "Value '{}' cannot be used with the logical operator '{}', it is not a bool", ("||",)),
    (LOGICALOP, "Value '{}' cannot be used with the logical operator '{}', it is not a bool", ("&&",)),
    (COMPARATOR, "Value '{}' cannot be used with the comparator '{}', it is not a number", (*_COMPARATORS, "in")),
    (MODIFIER, "Value '{}' cannot be used with the modifier '{}', it is not a number", ("^", "&", "|")),
    (MODIFIER, "Value '{}' cannot be used with the modifier '{}', it is not a number", (">>", "<<")),
    (MODIFIER, "Value '{}' cannot be used with the modifier '{}', it is not a number", ("+", "-")),
    (MODIFIER, "Value '{}' cannot be used with the modifier '{}', it is not a number", ("*", "/", "%")),
    (MODIFIER, "Value '{}' cannot be used with the modifier '{}', it is not a number", ("**",)),
)
_PREFIX_FORMAT = "Value '{}' cannot be used with the prefix '{}'"


class _Never:
    """The value of a branch that was not taken."""


_NEVER = _Never()


def _plan(tokens: list[_Token]) -> _Stage | None:
    """Return what evaluates the tokens. Texts behind ``=~`` become patterns, in the list itself as in govaluate."""
    for before, token in itertools.pairwise(tokens):
        if before.kind == COMPARATOR and before.value in ("=~", "!~") and token.kind == STRING:
            try:
                goregexp.compile(token.value)
            except ExpressionError as error:
                raise _Problem(str(error)) from None
            token.kind, token.value = PATTERN, _Pattern(token.value)
    planner = _Planner(tokens)
    return planner.level(0)


class _Planner:
    """Builds the stages by precedence. What is left over when it is done is ignored, as govaluate does."""

    def __init__(self, tokens: list[_Token]):
        self.tokens, self.at, self.depth = tokens, 0, 0

    def level(self, number: int) -> _Stage | None:
        if number == len(_LEVELS):
            return self.prefixed()
        kind, wrong, symbols = _LEVELS[number]
        first = self.level(number + 1)
        others: list[tuple[str, _Stage | None]] = []
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.kind != kind or token.value not in symbols:
                break
            self.at += 1
            others.append((token.value, self.level(number + 1)))
        return _chain(first, others, wrong) if others else first

    def prefixed(self) -> _Stage | None:
        if self.at < len(self.tokens) and self.tokens[self.at].kind == PREFIX:
            symbol = self.tokens[self.at].value
            self.at += 1
            return _prefix(symbol, self.value())
        return self.value()

    def value(self) -> _Stage | None:
        if self.at == len(self.tokens):
            return None
        token = self.tokens[self.at]
        if token.kind == CLAUSE_CLOSE:
            return None
        self.at += 1
        if token.kind == CLAUSE:
            return self.clause()
        if token.kind == ACCESSOR:
            return self.accessor(token)
        if token.kind not in (NUMERIC, STRING, PATTERN, BOOLEAN, TIME, VARIABLE):
            raise _Problem(f"Unable to plan token kind: '{token.kind}', value: '{token.shown}'")
        value = token.value
        if token.kind == TIME:
            value = float(token.value.nanoseconds // golang.SECOND)
        return lambda: value

    def clause(self) -> _Stage:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _Problem(f"parentheses nest deeper than {_MAX_DEPTH} levels")
        inner = self.level(0)
        self.at += 1
        self.depth -= 1
        return inner or (lambda: None)

    def accessor(self, token: _Token) -> _Stage:
        if self.at < len(self.tokens) and self.tokens[self.at].kind == CLAUSE:
            self.level(0)

        def missing() -> Any:
            raise _Problem(f"No parameter '{token.value[0]}' found.")

        return missing


def _run(stage: _Stage | None) -> Any:
    return None if stage is None else stage()


def _chain(first: _Stage | None, others: list[tuple[str, _Stage | None]], wrong: str) -> _Stage:
    """Return what evaluates operators of one precedence from left to right, however many there are."""

    def stage() -> Any:
        value = _run(first)
        for symbol, right in others:
            value = _apply(symbol, value, right, wrong)
        return value

    return stage


def _apply(symbol: str, left: Any, right: _Stage | None, wrong: str) -> Any:
    if symbol in _SHORT and (found := _SHORT[symbol](left)) is not _NEVER:
        return found
    skipped = (symbol == "?" and left is False) or (symbol == ":" and left is not None)
    second = _NEVER if skipped else _run(right)
    check, operation = _OPERATIONS[symbol]
    bad = check(left, second)
    if bad is not None:
        raise _Problem(wrong.format(golang.format_value(bad[0]), "=" if symbol == "==" else symbol))
    return operation(left, second)


def _prefix(symbol: str, operand: _Stage | None) -> _Stage:
    def stage() -> Any:
        value = _run(operand)
        if isinstance(value, bool) is not (symbol == "!") or not isinstance(value, (bool, float)):
            raise _Problem(_PREFIX_FORMAT.format(golang.format_value(value), symbol))
        if symbol == "!":
            return not value
        return -value if symbol == "-" else float(~golang.truncate(value))

    return stage


Bad = tuple[Any] | None
"""The operand that an operator does not take, if there is one."""


def _first_not(kind: type) -> Callable[[Any, Any], Bad]:
    def check(left: Any, right: Any) -> Bad:
        for value in (left, right):
            if not isinstance(value, kind):
                return (value,)
        return None

    return check


def _same_kind(left: Any, right: Any) -> Bad:
    """Take two numbers or two texts; if they are not, the left one is told."""
    numbers = isinstance(left, float) and isinstance(right, float)
    return None if numbers or (_is_text(left) and _is_text(right)) else (left,)


def _numbers_or_a_text(left: Any, right: Any) -> Bad:
    numbers = isinstance(left, float) and isinstance(right, float)
    return None if numbers or _is_text(left) or _is_text(right) else (left,)


def _text_and_pattern(left: Any, right: Any) -> Bad:
    if not _is_text(left):
        return (left,)
    return None if isinstance(right, str) else (right,)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, _Pattern)


def _right_is_list(_: Any, right: Any) -> Bad:
    return None if isinstance(right, list) else (right,)


def _left_is_bool(left: Any, _: Any) -> Bad:
    return None if isinstance(left, bool) else (left,)


def _anything(_: Any, __: Any) -> Bad:
    return None


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return type(left) is type(right) and bool(left == right)


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, float) and isinstance(right, float):
        return left + right
    return golang.format_value(left) + golang.format_value(right)


def _separate(left: Any, right: Any) -> list[Any]:
    return [*left, right] if isinstance(left, list) else [left, right]


def _matches(left: str, right: str) -> bool:
    try:
        return goregexp.matches(right, left)
    except ExpressionError as error:
        raise _Problem(f"Unable to compile regexp pattern '{right}': {error}") from None


def _bits(operation: Callable[[int, int], int]) -> Callable[[float, float], float]:
    return lambda left, right: float(operation(golang.truncate(left), golang.truncate(right)))


def _unsigned(value: float) -> int:
    return (
        golang.truncate(value) % (1 << 64) if value < 2.0**63 or math.isnan(value) else min(int(value), (1 << 64) - 1)
    )


def _shift_left(left: float, right: float) -> float:
    return float((_unsigned(left) << min(_unsigned(right), 64)) % (1 << 64))


def _shift_right(left: float, right: float) -> float:
    return float(_unsigned(left) >> min(_unsigned(right), 64))


_BOOLS, _FLOATS = _first_not(bool), _first_not(float)
_OPERATIONS: dict[str, tuple[Callable[[Any, Any], Bad], Callable[[Any, Any], Any]]] = {
    ",": (_anything, _separate),
    "?": (_left_is_bool, lambda left, right: right if left else None),
    ":": (_anything, lambda left, right: left if left is not None else right),
    "??": (_anything, lambda left, right: left if left is not None else right),
    "||": (_BOOLS, lambda left, right: left or right),
    "&&": (_BOOLS, lambda left, right: left and right),
    "==": (_anything, _equal),
    "!=": (_anything, lambda left, right: not _equal(left, right)),
    ">": (_same_kind, operator.gt),
    ">=": (_same_kind, operator.ge),
    "<": (_same_kind, operator.lt),
    "<=": (_same_kind, operator.le),
    "=~": (_text_and_pattern, _matches),
    "!~": (_text_and_pattern, lambda left, right: not _matches(left, right)),
    "in": (_right_is_list, lambda left, right: any(_equal(left, item) for item in right)),
    "^": (_FLOATS, _bits(operator.xor)),
    "&": (_FLOATS, _bits(operator.and_)),
    "|": (_FLOATS, _bits(operator.or_)),
    "<<": (_FLOATS, _shift_left),
    ">>": (_FLOATS, _shift_right),
    "+": (_numbers_or_a_text, _add),
    "-": (_FLOATS, operator.sub),
    "*": (_FLOATS, operator.mul),
    "/": (_FLOATS, golang.divide),
    "%": (_FLOATS, golang.remainder),
    "**": (_FLOATS, golang.power),
}
_SHORT: dict[str, Callable[[Any], Any]] = {
    "&&": lambda left: False if left is False else _NEVER,
    "||": lambda left: True if left is True else _NEVER,
    "??": lambda left: left if left is not None else _NEVER,
}
"""Operators that may be decided by their left side alone."""
