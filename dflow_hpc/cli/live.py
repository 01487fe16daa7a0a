"""The view of a run that goes on: a live tree in a terminal, plain lines where there is none.

Both are fed with the records of the journal, in the process that runs the workflow or in another one.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from dflow_hpc.cli import tree
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.engines.local import report
from dflow_hpc.engines.local.engine import LocalEngine
from dflow_hpc.engines.local.state import LEAF_TYPES, RunState, workflow_object

if TYPE_CHECKING:
    from rich.text import Text

Record = dict[str, Any]
_CUT = 60
_REDRAW = 0.25
"""Seconds from a change to the drawing that shows it: quicker nobody reads, and each costs time that leaves want."""


class View(Protocol):
    """Something that shows a run."""

    def change(self, record: Record) -> None:
        """Take a record of the journal."""
        ...

    def say(self, line: str) -> None:
        """Show a line for the user."""
        ...

    def close(self) -> None:
        """Show the end."""
        ...


class PlainView:
    """One line for each leaf that starts or ends: for logs, pipes and continuous integration."""

    def __init__(self, name: str = ""):
        self._state = RunState(name)
        self._told: dict[str, str] = {}
        self._messages: set[str] = set()

    def change(self, record: Record) -> None:
        """Print a line if a leaf has changed its phase."""
        self._state.apply(record)
        if "phase" not in record.get("set", ()):
            return
        node = self._state.tree.nodes[record["node"]]
        phase = node["phase"]
        quiet = node["type"] not in LEAF_TYPES | {"Skipped"} or phase == "Pending"
        if quiet or self._told.get(node["id"]) == phase:
            return
        self._told[node["id"]] = phase
        message = f": {self._message(node['message'])}" if node.get("message") else ""
        progress = self._state.tree.progress if phase != "Running" else ""
        name = node["name"].partition(".")[2] or node["name"]
        line = f"{time.strftime('%H:%M:%S')} {tree.SYMBOLS.get(phase, '?')} {name} {phase}{message}"
        self.say(f"{line}  [{progress}]" if progress else line)

    def _message(self, text: str) -> str:
        """Return a node's message; one that another node had in full already, cut."""
        if text not in self._messages:
            self._messages.add(text)
            return report.indented(text, 4)
        first = text.splitlines()[0]
        return first if len(first) <= _CUT else first[:_CUT] + "…"

    def say(self, line: str) -> None:
        """Print a line on stderr: stdout belongs to the program, or to ``-o json``."""
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left to show."""


class LiveView:
    """The tree, drawn again and again in a terminal."""

    def __init__(self, name: str = ""):
        from rich.console import Console
        from rich.live import Live

        self._state = RunState(name)
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._lock = threading.Lock()  # of the state, which drawings read in threads of their own
        self._due: threading.Timer | None = None

    def change(self, record: Record) -> None:
        """Take a record; it is drawn soon, with what else comes until then, even if nothing follows for hours."""
        with self._lock:
            self._state.apply(record)
            if self._due is None:
                self._due = threading.Timer(_REDRAW, self._draw)
                self._due.daemon = True
                self._due.start()

    def _draw(self) -> None:
        with self._lock:
            self._due = None
            shown = self._picture()
        self._live.update(shown, refresh=True)

    def _picture(self) -> Text:
        from rich.text import Text

        workflow = workflow_object({"metadata": {"name": self._state.tree.workflow}, "spec": {}}, self._state)
        lines = tree.rows(workflow)
        room = max(5, self._console.height - 6)
        cut = len(lines) - room
        if cut > 0:  # what runs or has failed is worth the room, and the head of the tree
            telling = [i for i, row in enumerate(lines) if row.phase in ("Running", "Failed", "Error", "Pending")]
            keep = set(range(3)) | set(telling[-(room - 4) :])
            lines = [row for i, row in enumerate(lines) if i in keep]
        shown = Text(no_wrap=True, overflow="ellipsis")  # a wrapped line would push the tree out of the window
        for line, row in zip(tree.text(lines, self._console.width), [None, *lines], strict=True):
            shown.append(line + "\n", style=tree.STYLES.get(row.phase, "dim") if row else "bold")
        if cut > 0:
            shown.append(f"… {cut} more lines\n", style="dim")
        shown.append(f"{workflow['status'].get('progress', '')} {self._state.phase}", style="bold")
        return shown

    def say(self, line: str) -> None:
        """Print a line above the tree."""
        self._console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """Take the tree away: what stays is printed by the command."""
        with self._lock:
            due = self._due
        if due is not None:
            due.cancel()
            due.join()
        self._live.stop()


def open_view(name: str = "", *, plain: bool = False) -> View:
    """Return the view that fits where stderr goes."""
    return PlainView(name) if plain or not sys.stderr.isatty() else LiveView(name)


def follow_in_terminal(engine: LocalEngine | ArgoEngine, run: str, *, plain: bool = False) -> None:
    """Look on at a run that another process works on, until it has ended."""
    view = open_view(engine.find(run).name if isinstance(engine, LocalEngine) else run, plain=plain)
    try:
        for records in engine.follow(run):
            for record in records:
                view.change(record)
    finally:
        view.close()
