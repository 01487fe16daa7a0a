"""sprig's functions on strings.

Trap: ``trunc``, ``substr``, ``abbrev`` and ``wrap`` count bytes, and may cut a character in two.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang, gotext
from dflow_hpc.expr.golang import TypedMap, strings
from dflow_hpc.expr.sprig import cast

_MAX_LENGTH = 10_000_000
"""Longer texts are not made; Go would try."""


def _bounds(length: int, start: int, end: int) -> None:
    if end > length:
        raise ExpressionError(f"runtime error: slice bounds out of range [:{end}] with length {length}")
    if start > end:
        raise ExpressionError(f"runtime error: slice bounds out of range [{start}:{end}]")


def trunc(count: int, text: str) -> str:
    """Return the first bytes, or with a negative count the last."""
    data = golang.to_bytes(text)
    if count < 0 and len(data) + count > 0:
        return golang.from_bytes(data[count:])
    return golang.from_bytes(data[:count]) if 0 <= count < len(data) else text


def substr(start: int, end: int, text: str) -> str:
    """Return the bytes from ``start`` to ``end``; a negative bound is none."""
    data = golang.to_bytes(text)
    if start < 0:
        if end < 0:
            raise ExpressionError(f"runtime error: slice bounds out of range [:{end}]")
        _bounds(len(data), 0, end)
        return golang.from_bytes(data[:end])
    if end < 0 or end > len(data):
        end = len(data)
    _bounds(len(data), start, end)
    return golang.from_bytes(data[start:end])


def abbreviate(text: str, offset: int, width: int) -> str:
    """Shorten a text to a width with ``...``, in front too if the offset is beyond its head."""
    data = golang.to_bytes(text)
    if len(data) <= width:
        return text
    offset = min(offset, len(data))
    if len(data) - offset < width - 3:
        offset = len(data) - (width - 3)
    if offset <= 4:
        return golang.from_bytes(data[: width - 3] + b"...")
    if width < 7:
        return ""
    if offset + width - 3 < len(data):
        rest = golang.from_bytes(data[offset:])
        return "..." + (abbreviate(rest, 0, width - 3) if width - 3 >= 4 else "")
    return golang.from_bytes(b"..." + data[len(data) - (width - 3) :])


def abbrev(width: int, text: str) -> str:
    """Shorten a text from behind; a width below 4 leaves it."""
    return text if width < 4 else abbreviate(text, 0, width)


def abbrev_both(left: int, right: int, text: str) -> str:
    """Shorten a text on both sides."""
    return text if right < 4 or (left > 0 and right < 7) else abbreviate(text, left, right)


def title(text: str) -> str:
    """Make the first letter of each word a capital, as ``strings.Title`` does."""
    made, before = [], " "
    for character in text:
        made.append(character if _in_word(before) else gotext.title(character))
        before = character
    return "".join(made)


def _in_word(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character == "_"
    return character.isalpha() or character.isdecimal() or not character.isspace()


def untitle(text: str) -> str:
    """Make the first letter of each word small."""
    made, first = [], True
    for character in text:
        made.append(gotext.lower(character) if first and character not in gotext.BLANK else character)
        first = character in gotext.BLANK
    return "".join(made)


def swap_case(text: str) -> str:
    """Swap capitals and small letters; a small letter that begins a word becomes a title letter."""
    made, blank = [], True
    for character in text:
        if character.isupper() or unicodedata.category(character) == "Lt":
            made.append(gotext.lower(character))
            blank = False
        elif character.islower():
            made.append(gotext.title(character) if blank else gotext.upper(character))
            blank = False
        else:
            made.append(character)
            blank = character in gotext.BLANK
    return "".join(made)


def initials(text: str) -> str:
    """Return the first byte of each word, as a character."""
    made, gap = [], True
    for code in golang.to_bytes(text):
        blank = chr(code) in gotext.BLANK
        if gap and not blank:
            made.append(chr(code))
        gap = blank
    return "".join(made)


def no_space(text: str) -> str:
    """Return the text without blanks; each byte becomes a character of its own, a fault of the original."""
    return "".join(chr(code) for code in golang.to_bytes(text) if chr(code) not in gotext.BLANK)


def wrap(width: int, separator: str, text: str, *, cut_words: bool) -> str:
    """Break a text into lines of at most ``width`` bytes, at blanks."""
    data, width = golang.to_bytes(text), max(width, 1)
    mark = golang.to_bytes(separator or "\n")
    made, at = b"", 0
    while len(data) - at > width:
        if data[at : at + 1] == b" ":
            at += 1
            continue
        end = data.rfind(b" ", at, at + width + 1)
        skip = 1
        if end < 0:
            if cut_words:
                end, skip = at + width, 0
            else:
                end = data.find(b" ", at + width)
        if end < 0:
            made, at = made + data[at:], len(data)
        else:
            made, at = made + data[at:end] + mark, end + skip
    return golang.from_bytes(made + data[at:])


def repeat(count: int, text: str) -> str:
    """Repeat a text."""
    if count < 0:
        raise ExpressionError("strings: negative Repeat count")
    if len(text) * count > _MAX_LENGTH:
        raise ExpressionError(
            f"sprig.repeat would make a text of {len(text) * count} characters; allowed are {_MAX_LENGTH}"
        )
    return text * count


def quote(*values: Any) -> str:
    """Quote each value that is not nil with double quotes."""
    return " ".join(golang.quote(cast.to_text(value)) for value in values if value is not None)


def single_quote(*values: Any) -> str:
    """Quote each value that is not nil with single quotes."""
    return " ".join(f"'{golang.format_value(value)}'" for value in values if value is not None)


def cat(*values: Any) -> str:
    """Join the values that are not nil with blanks."""
    return " ".join(golang.format_value(value) for value in values if value is not None)


def indent(spaces: int, text: str) -> str:
    """Put blanks before each line."""
    pad = repeat(spaces, " ")
    return pad + text.replace("\n", "\n" + pad)


def numbered(pieces: list[str]) -> Mapping[str, str]:
    """Return the pieces of a text as ``_0``, ``_1``, ..."""
    return TypedMap({f"_{index}": piece for index, piece in enumerate(pieces)}, "map[string]string")


# --- snake_case and its like

_NUMBER, _UPPER, _LETTERS, _CONNECTOR, _PUNCTUATION, _OTHER = (
    "number",
    "upper",
    "letters",
    "connector",
    "punct",
    "other",
)


def _is_connector(character: str) -> bool:
    return character in "-_" or character in gotext.BLANK


def _class(character: str) -> str:
    if _is_connector(character):
        return _CONNECTOR
    category = unicodedata.category(character)
    if category.startswith("P"):
        return _PUNCTUATION
    if category == "Lu":
        return _UPPER
    if _is_letter(character):
        return _LETTERS
    return _NUMBER if category.startswith("N") else _OTHER


def _is_letter(character: str) -> bool:
    """Say whether it is a letter of a script that has cases; the others count as symbols."""
    return character.isalpha() and unicodedata.category(character) != "Lo"


def _words(text: str) -> list[tuple[str, str]]:
    """Cut a text into runs of one class; ``HTTPServer`` into ``HTTP`` and ``Server``."""
    found, at = [], 0
    while at < len(text):
        kind, end = _class(text[at]), at + 1
        if kind == _UPPER:
            end = _end_of(text, end, _UPPER)
            if end == at + 1:
                end = _end_of(text, end, _LETTERS)
            elif end < len(text) and _is_letter(text[end]):
                end -= 1
        else:
            end = _end_of(text, end, kind)
        found.append((kind, text[at:end]))
        at = end
    return found


def _end_of(text: str, at: int, kind: str) -> int:
    while at < len(text) and _class(text[at]) == kind:
        at += 1
    return at


def lower_words(text: str, connector: str) -> str:
    """Return ``snake_case`` or ``kebab-case``.

    A number belongs to the word before it, unless small letters follow: with them it begins a word.
    """
    words = _words(text)
    made: list[str] = []
    at = 0
    while at < len(words):
        kind, word = words[at]
        following = words[at + 1][0] if at + 1 < len(words) else ""
        made.append(connector * len(word) if kind == _CONNECTOR else gotext.lower(word))
        at += 1
        if kind in (_CONNECTOR, _PUNCTUATION):
            continue
        if kind != _NUMBER and following == _NUMBER and at + 1 < len(words):
            if words[at + 1][0] != _LETTERS:
                made.append(words[at][1])
                at += 1
                following = words[at][0] if at < len(words) else ""
            else:
                made.append(connector)
                following, kind = _NUMBER, _NUMBER
        elif kind != _NUMBER and following == _NUMBER:
            continue
        if kind == _NUMBER:
            while at < len(words) and words[at][0] in (_LETTERS, _NUMBER):
                made.append(gotext.lower(words[at][1]))
                at += 1
            following = words[at][0] if at < len(words) else ""
        if following and following not in (_CONNECTOR, _PUNCTUATION):
            made.append(connector)
    return "".join(made)


def pascal_case(text: str) -> str:
    """Return ``PascalCase``; connectors in front stay, and one of several between words."""
    head = len(text) - len(text.lstrip("-_" + gotext.BLANK))
    if head >= len(text):
        return text + text[-1:]  # the original writes the last connector twice
    made = [text[:head]]
    current, was_upper = gotext.upper(text[head]), text[head].isupper()
    for character in text[head + 1 :]:
        before, current = current, character
        if _is_connector(before):
            if _is_connector(character):
                made.append(before)
                continue
            was_upper = character.isupper()
            current = gotext.upper(character)
            continue
        if was_upper:
            if character.isupper():
                current = gotext.lower(character)
            else:
                was_upper = False
        made.append(before)
    return "".join([*made, current])


def functions() -> dict[str, golang.Function]:
    """Return the functions by name."""
    table: dict[str, tuple[str, Callable[..., Any]]] = {
        "abbrev": ("int, string: string", abbrev),
        "abbrevboth": ("int, int, string: string", abbrev_both),
        "trunc": ("int, string: string", trunc),
        "trim": ("string: string", gotext.trim),
        "upper": ("string: string", gotext.upper),
        "lower": ("string: string", gotext.lower),
        "title": ("string: string", title),
        "untitle": ("string: string", untitle),
        "substr": ("int, int, string: string", substr),
        "repeat": ("int, string: string", repeat),
        "trimall": ("string, string: string", lambda characters, text: gotext.trim(text, characters)),
        "trimAll": ("string, string: string", lambda characters, text: gotext.trim(text, characters)),
        "trimSuffix": ("string, string: string", lambda suffix, text: text.removesuffix(suffix)),
        "trimPrefix": ("string, string: string", lambda prefix, text: text.removeprefix(prefix)),
        "nospace": ("string: string", no_space),
        "initials": ("string: string", initials),
        "swapcase": ("string: string", swap_case),
        "snakecase": ("string: string", lambda text: lower_words(text, "_")),
        "camelcase": ("string: string", pascal_case),
        "kebabcase": ("string: string", lambda text: lower_words(text, "-")),
        "wrap": ("int, string: string", lambda width, text: wrap(width, "\n", text, cut_words=False)),
        "wrapWith": ("int, string, string: string", lambda *arguments: wrap(*arguments, cut_words=True)),
        "contains": ("string, string: bool", lambda part, text: part in text),
        "hasPrefix": ("string, string: bool", lambda part, text: text.startswith(part)),
        "hasSuffix": ("string, string: bool", lambda part, text: text.endswith(part)),
        "quote": ("...any: string", quote),
        "squote": ("...any: string", single_quote),
        "cat": ("...any: string", cat),
        "indent": ("int, string: string", indent),
        "nindent": ("int, string: string", lambda spaces, text: "\n" + indent(spaces, text)),
        "replace": ("string, string, string: string", lambda old, new, text: text.replace(old, new)),
        "plural": ("string, string, int: string", lambda one, many, count: one if count == 1 else many),
        "toString": ("any: string", cast.to_text),
        "toStrings": ("any: []string", lambda value: strings(cast.texts(value))),
        "join": ("string, any: string", lambda glue, items: glue.join(cast.texts(items))),
        "sortAlpha": ("any: []string", lambda items: strings(sorted(cast.texts(items), key=golang.to_bytes))),
        "split": ("string, string: map[string]string", lambda mark, text: numbered(gotext.split(text, mark))),
        "splitList": ("string, string: []string", lambda mark, text: strings(gotext.split(text, mark))),
        "splitn": (
            "string, int, string: map[string]string",
            lambda mark, count, text: numbered(gotext.split(text, mark, count)),
        ),
    }
    return {name: golang.function(signature, call) for name, (signature, call) in table.items()}
