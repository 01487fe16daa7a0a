"""Named places at which a test may kill, cut or delay; in use they do nothing.

A test sets ``hook`` and gets each name as the work passes it. Names are ``<part>.<what is about to happen>``.
"""

from collections.abc import Callable

hook: Callable[[str], None] | None = None
"""Called with the name of each place; None in use."""


def fault(name: str) -> None:
    """Pass a named place."""
    if hook is not None:
        hook(name)
