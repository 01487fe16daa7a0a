"""Texts of expr-lang into tokens.

Trap: ``not in`` and the like come as two tokens, and ``.5`` is a number where ``1..5`` is a range.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.expr.lang.errors import Fault

IDENTIFIER, NUMBER, STRING, OPERATOR, BRACKET, EOF = "Identifier", "Number", "String", "Operator", "Bracket", "EOF"

_WORD_OPERATORS = frozenset(
    ["in", "or", "and", "matches", "contains", "startsWith", "endsWith", "let", "if", "else", "not"]
)
_DIGITS = {
    prefix: re.compile(f"[{digits}_]*")
    for prefix, digits in (("", "0-9"), ("0x", "0-9a-fA-F"), ("0o", "0-7"), ("0b", "01"))
}
_OPERATOR = re.compile(r"\|\|?|::?|\?[.?]?|[&!=*<>][&=*]?|\.\.?|[,;%+\-^/]")
_COMMENT = re.compile(r"//[^\n]*\n?|/\*.*?\*/", re.DOTALL)
_STRING_PART = re.compile(
    r"[^\\'\"\n]+|['\"]|\\(?:[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[abfnrtv\\'\"])"
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Token(NamedTuple):
    """A token: its kind, its text (a string's without quotes and escapes), where it begins."""

    kind: str
    value: str
    at: int

    def __str__(self) -> str:
        return f"{self.kind}({golang.quote(self.value)})" if self.value else self.kind

    def is_(self, kind: str, *values: str) -> bool:
        """Say whether it is of a kind, and one of the values if any are given."""
        return self.kind == kind and (not values or self.value in values)


def is_word(character: str) -> bool:
    """Say whether a character may stand in a name."""
    return character in ("_", "$") or character.isalpha() or character.isdecimal()


def lex(source: str) -> list[Token]:
    """Cut a text into tokens; the last one is of the kind EOF.

    Raises:
        ExpressionError: It holds something that is no token.
    """
    try:
        return _Lexer(source).run()
    except Fault as fault:
        raise fault.bind(source) from None


class _Lexer:
    def __init__(self, source: str):
        self.source, self.at = source, 0
        self.tokens: list[Token] = []
        self.ends_in_comment = False

    def run(self) -> list[Token]:
        while self.at < len(self.source):
            self.one()
        # The end is shown under the last character, and behind a comment that lasts to the end.
        self.tokens.append(Token(EOF, "", max(len(self.source) - (not self.ends_in_comment), 0)))
        return self.tokens

    def emit(self, kind: str, value: str, end: int) -> None:
        self.tokens.append(Token(kind, value, self.at))
        self.at = end

    def one(self) -> None:
        character = self.source[self.at]
        following = self.source[self.at + 1 : self.at + 2]
        if character.isspace() and not "\x1c" <= character <= "\x1f":
            self.at += 1
        elif character in "'\"":
            self.string(character)
        elif character == "`":
            self.raw_string()
        elif character in "0123456789" or (character == "." and following in tuple("0123456789")):
            self.number()
        elif character == "/" and following in ("/", "*"):
            self.comment()
        elif character == "#":
            self.pointer()
        elif character in "([{)]}":
            self.emit(BRACKET, character, self.at + 1)
        elif match := _OPERATOR.match(self.source, self.at):
            self.emit(OPERATOR, match[0], match.end())
        elif is_word(character):
            self.word()
        else:
            raise Fault(f"unrecognized character: {_unicode_name(character)}", self.at)

    def word_end(self, at: int) -> int:
        while at < len(self.source) and is_word(self.source[at]):
            at += 1
        return at

    def word(self) -> None:
        end = self.word_end(self.at)
        word = self.source[self.at : end]
        self.emit(OPERATOR if word in _WORD_OPERATORS else IDENTIFIER, word, end)

    def pointer(self) -> None:
        double = self.source.startswith("##", self.at)
        self.emit(OPERATOR, "##" if double else "#", self.at + 1 + double)
        end = self.word_end(self.at)
        if end > self.at:
            self.emit(IDENTIFIER, self.source[self.at : end], end)

    def comment(self) -> None:
        match = _COMMENT.match(self.source, self.at)
        if match is None:
            raise Fault("unclosed comment", len(self.source))
        self.at = match.end()
        self.ends_in_comment = match[0].startswith("//") and not match[0].endswith("\n")

    def number(self) -> None:
        # A number may begin with its point.
        at = self.at + (self.source[self.at] == ".")
        prefix = self.source[at : at + 2].lower()
        digits = _DIGITS.get(prefix, _DIGITS[""])
        end = _end_of(digits, self.source, at + 2 * (prefix in _DIGITS))
        if self.source.startswith("..", end):
            return self.emit(NUMBER, self.source[self.at : end], end)
        if self.source.startswith(".", end):
            end = _end_of(digits, self.source, end + 1)
        if self.source[end : end + 1] in ("e", "E"):
            end += 1
            if self.source[end : end + 1] in ("+", "-"):
                end += 1
            end = _end_of(digits, self.source, end)
        if end < len(self.source) and is_word(self.source[end]):
            raise Fault(f"bad number syntax: {golang.quote(self.source[self.at : end + 1])}", end)
        return self.emit(NUMBER, self.source[self.at : end], end)

    def raw_string(self) -> None:
        end = self.source.find("`", self.at + 1)
        if end < 0:
            raise Fault("literal not terminated", len(self.source))
        self.emit(STRING, self.source[self.at + 1 : end], end + 1)

    def string(self, quote: str) -> None:
        at, pieces = self.at + 1, []
        while not self.source.startswith(quote, at):
            if at >= len(self.source) or self.source[at] == "\n":
                raise Fault("literal not terminated", at)
            match = _STRING_PART.match(self.source, at)
            if match is None or match[0] == "\\" + _OTHER_QUOTE[quote]:
                raise Fault("invalid char escape", self.bad_escape(at))
            pieces.append(match[0])
            at = match.end()
        value = "".join(_unescape(piece, at) if piece.startswith("\\") else piece for piece in pieces)
        self.emit(STRING, value, at + 1)

    def bad_escape(self, at: int) -> int:
        """Return where an escape that begins with the backslash at ``at`` goes wrong."""
        letter = self.source[at + 1 : at + 2]
        allowed = "01234567" if letter in tuple("01234567") else "0123456789abcdefABCDEF"
        at += 1 if letter in tuple("01234567") else 2
        if letter in tuple("01234567xuU"):
            while self.source[at : at + 1] in tuple(allowed):
                at += 1
            return at
        return at - 1


_OTHER_QUOTE = {"'": '"', '"': "'"}


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _unescape(escape: str, end: int) -> str:
    letter = escape[1]
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter in "xuU":
        code = int(escape[2:], 16)
    elif letter in "0123":
        code = int(escape[1:], 8)
    elif letter in "4567":
        code = 0x110000  # an octal escape above \377 passes the scan and not this
    else:
        return letter
    if code > 0x10FFFF:
        raise Fault("unable to unescape string", end)
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else chr(code)


def _unicode_name(character: str) -> str:
    shown = f" '{character}'" if character.isprintable() else ""
    return f"U+{ord(character):04X}{shown}"


def mentions(expression: str, name: str) -> bool:
    """Say whether an expression holds the tokens of a dotted name, one after the other.

    Argo asks this of the source before it evaluates. Blanks inside the name (``workflow .status``) hide it, and
    ``"workflow.status"`` in quotes does not count.
    """
    if name not in expression:
        return False
    try:
        tokens = [token[:2] for token in lex(expression)]
    except ExpressionError:
        return False
    wanted = [token[:2] for token in lex(name)[:-1]]
    return any(tokens[at : at + len(wanted)] == wanted for at in range(len(tokens) - len(wanted) + 1))
