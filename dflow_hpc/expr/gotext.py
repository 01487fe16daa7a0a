"""Go's ``strings`` where it differs from Python's ``str``.

Trap: an empty separator splits between characters, and an empty text to replace stands before each of them.
"""

from __future__ import annotations

from dflow_hpc.expr import golang

BLANK = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What ``unicode.IsSpace`` takes for blank; Python's ``isspace`` takes four separators of ASCII too."""


def trim(text: str, characters: str = BLANK) -> str:
    """Return ``strings.Trim``, without characters ``strings.TrimSpace``."""
    return text.strip(characters) if characters else text


def rune_count(text: str) -> int:
    """Return how many characters a text has; each byte that is not UTF-8 counts as one."""
    return len(text)


def split(text: str, separator: str, limit: int = -1, *, keep: bool = False) -> list[str]:
    """Return ``strings.SplitN``, or ``strings.SplitAfterN`` with ``keep``.

    A negative limit is none, 0 gives nothing.
    """
    if limit == 0:
        return []
    if not separator:
        pieces = list(text)
        return [*pieces[: limit - 1], "".join(pieces[limit - 1 :])] if 0 < limit < len(pieces) else pieces
    pieces = text.split(separator, limit - 1 if limit > 0 else -1)
    return [piece + separator for piece in pieces[:-1]] + pieces[-1:] if keep else pieces


def replace(text: str, old: str, new: str, limit: int = -1) -> str:
    """Return ``strings.Replace``; a negative limit is none."""
    return text.replace(old, new, limit)


def upper(text: str) -> str:
    """Return ``strings.ToUpper``: character by character, so that ``ß`` stays."""
    return text.upper() if text.isascii() else "".join(map(_one_upper, text))


def lower(text: str) -> str:
    """Return ``strings.ToLower``."""
    return text.lower() if text.isascii() else "".join(map(_one_lower, text))


def title(character: str) -> str:
    """Return ``unicode.ToTitle`` of a character."""
    made = character.title()
    return made if len(made) == 1 else character


def _one_upper(character: str) -> str:
    made = character.upper()
    return made if len(made) == 1 else character


def _one_lower(character: str) -> str:
    made = character.lower()
    return made if len(made) == 1 else made[0]


def byte_length(text: str) -> int:
    """Return the length in bytes, which is what Go's ``len`` tells."""
    return len(golang.to_bytes(text))
