"""Errors of expr-lang, with the place and the source line, as users see them in Argo.

Not here: what went wrong; each part words its own. Trap: a line with a character outside ASCII before the place is
shown without it.
"""

from __future__ import annotations

from dflow_hpc.errors import ExpressionError


class Fault(Exception):
    """Something is wrong at a place in the text; ``bind`` makes an ``ExpressionError`` of it."""

    def __init__(self, message: str, at: int | None = None):
        super().__init__(message)
        self.message, self.at = message, at

    def bind(self, source: str) -> ExpressionError:
        """Return the error with line, column and the line itself.

        Args:
            source: The text of the expression.
        """
        return ExpressionError(self.message + place(source, self.at or 0))


def place(source: str, at: int) -> str:
    """Return `` (1:5)``, the source line, and the mark below the place."""
    if not source:
        return ""
    before = source[:at]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1)
    text = source.split("\n")[line - 1].replace("\t", " ")
    shown = f" ({line}:{column + 1})\n | {text}"
    if text[: column + 1].isascii():
        shown += "\n | " + "." * min(column, len(text)) + "^"
    return shown
