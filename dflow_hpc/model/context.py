"""Which Workflow, Steps or DAG is being built: the stack behind ``with Workflow(...):``.

Not here: what happens with a step that is made inside one (``step.py``) and calls of OPs there (``functional.py``).

Trap: the stack belongs to the thread that builds; an OP called in another thread runs, it builds nothing.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import threading
from typing import Any, List, Optional


class _Building(threading.local):
    def __init__(self) -> None:
        self.stack: List[Any] = []


_building = _Building()


def current() -> Optional[Any]:
    """Return the innermost Workflow, Steps or DAG that is open in this thread, or None."""
    return _building.stack[-1] if _building.stack else None


def enter(scope: Any) -> None:
    """Open a scope: steps that are made from now on belong to it."""
    _building.stack.append(scope)


def leave(scope: Any) -> None:
    """Close a scope again; scopes that an exception left open inside it close with it."""
    while _building.stack and _building.stack.pop() is not scope:
        pass
