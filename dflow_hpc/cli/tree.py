"""The node tree as lines of text: what ``get`` prints, what the live view shows, what the README quotes.

Pure functions from a Workflow object to rows. Nesting follows the boundary of each node (a step lies below the Steps
or DAG whose template lists it), loop members lie below their loop, attempts below their Retry node; step groups are
not shown, as in ``argo get``. A loop of a thousand members is shown by its unfinished and failed ones and a count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Node = dict[str, Any]

SYMBOLS = {
    "Pending": "◷",
    "Running": "●",
    "Succeeded": "✔",
    "Failed": "✖",
    "Error": "⚠",
    "Skipped": "○",
    "Omitted": "○",
}
STYLES = {"Running": "cyan", "Succeeded": "green", "Failed": "red", "Error": "red", "Pending": "yellow"}
_SHOWN_MEMBERS = 8
"""Members of one loop shown in full before the others are counted."""
_LEAST_MESSAGE = 20
"""Columns that a message gets in any case."""


@dataclass(frozen=True)
class Row:
    """One line of the tree."""

    lead: str
    """The branches before it."""
    symbol: str
    name: str
    template: str
    duration: str
    message: str
    phase: str


def seconds_between(start: str | None, end: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds between two times of a status, the second one being now where it is missing."""
    if not start:
        return None
    last = datetime.fromisoformat(end) if end else (now or datetime.now(UTC))
    return max(0.0, (last - datetime.fromisoformat(start)).total_seconds())


def duration_text(seconds: float | None) -> str:
    """Return a duration as people read it: ``3s``, ``2m10s``, ``1h05m``, ``2d03h``."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def _children_by_parent(nodes: dict[str, Node]) -> dict[str | None, list[Node]]:
    """Group nodes by the one that they are shown under, in the order of their creation."""
    loops = {(n.get("boundaryID"), n["name"]): n["id"] for n in nodes.values() if n["type"] == "TaskGroup"}
    retries = {n["name"]: n["id"] for n in nodes.values() if n["type"] == "Retry"}
    below: dict[str | None, list[Node]] = {}
    for node in nodes.values():
        if node["type"] == "StepGroup":
            continue
        base = node["name"].rpartition("(")[0]
        if (node.get("nodeFlag") or {}).get("retried") and base in retries:
            parent: str | None = retries[base]
        else:
            parent = loops.get((node.get("boundaryID"), base)) or node.get("boundaryID")
        below.setdefault(parent if parent != node["id"] else None, []).append(node)
    return below


def _loop_key(node: Node) -> str | None:
    """Return what the members of one loop have in common, or None for a node that is no member."""
    base, bracket, rest = node["name"].rpartition("(")
    return base if bracket and ":" in rest else None


def _select(members: list[Node], limit: int) -> Iterator[Node | str]:
    """Yield nodes, and a line of text in place of those that are left out."""
    runs: dict[str | None, list[Node]] = {}
    for node in members:
        runs.setdefault(_loop_key(node) or node["id"], []).append(node)
    for run in runs.values():
        if len(run) <= limit:
            yield from run
            continue
        telling = [n for n in run if n["phase"] not in ("Succeeded", "Pending", "Skipped", "Omitted")]
        shown = (telling or run)[:limit]
        ids = {n["id"] for n in shown}
        yield from shown
        counts: dict[str, int] = {}
        for node in run:
            if node["id"] not in ids:
                counts[node["phase"]] = counts.get(node["phase"], 0) + 1
        yield "… " + ", ".join(f"{count} more {phase}" for phase, count in sorted(counts.items()))


def rows(workflow: dict[str, Any], *, limit: int = _SHOWN_MEMBERS, now: datetime | None = None) -> list[Row]:
    """Return the tree of a Workflow object as rows.

    Args:
        workflow: ``{"metadata", "spec", "status"}``.
        limit: Members of one loop to show before the others are counted.
        now: The time for the durations of what still runs; the clock's where absent.
    """
    nodes: dict[str, Node] = workflow.get("status", {}).get("nodes") or {}
    below = _children_by_parent(nodes)
    result: list[Row] = []
    # An explicit stack: trees nest a hundred deep, and a chain by recursion of templates much deeper in rows.
    stack: list[tuple[Node | str, str, str]] = [(node, "", "") for node in reversed(below.get(None, []))]
    while stack:
        node, lead, indent = stack.pop()
        if isinstance(node, str):
            result.append(Row(lead, " ", node, "", "", "", ""))
            continue
        result.append(_row(node, lead, now))
        children = list(_select(below.get(node["id"], []), limit))
        for index, child in reversed(list(enumerate(children))):
            last = index == len(children) - 1
            stack.append((child, indent + ("└─" if last else "├─"), indent + ("  " if last else "│ ")))
    return result


def _row(node: Node, lead: str, now: datetime | None) -> Row:
    template = node.get("templateName") or (node.get("templateRef") or {}).get("template", "")
    ran = node["phase"] not in ("Skipped", "Omitted", "Pending")
    seconds = seconds_between(node.get("startedAt"), node.get("finishedAt"), now) if ran else None
    return Row(
        lead=lead,
        symbol=SYMBOLS.get(node["phase"], "?"),
        name=node.get("displayName") or node["name"],
        template=template,
        duration=duration_text(seconds),
        message=node.get("message") or "",
        phase=node["phase"],
    )


def text(lines: Iterable[Row], width: int = 120) -> list[str]:
    """Return rows as aligned plain text.

    Args:
        lines: The rows.
        width: Columns of the terminal. Where a fair message does not fit beside the templates, these are left out;
            messages are cut to it, names are not.
    """
    lines = list(lines)
    names = [f"{row.lead}{row.symbol} {row.name}" for row in lines]
    name_width = min(max((len(name) for name in names), default=4), 60)
    template_width = min(max([8, *(len(row.template) for row in lines)]), 30)
    if name_width + template_width + 12 + _LEAST_MESSAGE > width:
        template_width = 0

    def line_of(name: str, template: str, duration: str) -> str:
        column = f"{template[:template_width]:<{template_width}}  " if template_width else ""
        return f"{name:<{name_width}}  {column}{duration:>6}  "

    out = [line_of("STEP", "TEMPLATE", "TIME") + "MESSAGE"]
    for name, row in zip(names, lines, strict=True):
        line = line_of(name, row.template, row.duration)
        room = max(_LEAST_MESSAGE, width - len(line))
        message = row.message.replace("\n", " ")
        out.append((line + (message if len(message) <= room else message[: room - 1] + "…")).rstrip())
    return out


def summary(workflow: dict[str, Any]) -> list[str]:
    """Return the head lines above the tree: name, phase, times, progress, message."""
    status = workflow.get("status", {})
    seconds = seconds_between(status.get("startedAt"), status.get("finishedAt"))
    facts = [
        ("Name", workflow["metadata"]["name"]),
        ("Phase", status.get("phase") or "Pending"),
        ("Message", status.get("message")),
        ("Started", status.get("startedAt")),
        ("Duration", duration_text(seconds)),
        ("Progress", status.get("progress")),
    ]
    return [f"{label + ':':<10}{value}" for label, value in facts if value]
