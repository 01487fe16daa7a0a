"""What went wrong in a run, for people: which steps failed, what they printed last, how to run them again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dflow_hpc.engines.local.rundir import RunDir
from dflow_hpc.engines.local.state import LEAF_TYPES, RunState, failures

_TAIL_LINES = 12
_TAIL_BYTES = 8192
_SHOWN = 5


@dataclass(frozen=True)
class FailedStep:
    """A step that failed by itself."""

    id: str
    name: str
    """Its full name in the tree."""
    phase: str
    message: str
    log: Path | None
    """Where its output is; None if it never ran."""
    tail: tuple[str, ...]
    """The last lines of that."""


def last_lines(path: Path, lines: int = _TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines of a log, reading no more than its end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ()
    return tuple(text.splitlines()[-lines:])


def failed_steps(run: RunDir, state: RunState) -> list[FailedStep]:
    """Return the steps of a run that failed by themselves, in the order of their end."""
    found = []
    for node in failures(state.tree.nodes):
        log = run.leaf_dir(node) / "log.txt" if node["type"] in LEAF_TYPES else None
        if log is not None and not log.exists():
            log = None
        tail = last_lines(log) if log else ()
        found.append(FailedStep(node["id"], node["name"], node["phase"], node.get("message", ""), log, tail))
    return found


def parting(here: int, there: Mapping[str, int]) -> str:
    """Return what becomes of what is at work when a session breaks off.

    Args:
        here: Steps that run on this host.
        there: Jobs, by machine.
    """
    found = [f"{here} step{'s' * (here != 1)} here {'is' if here == 1 else 'are'} ended"] if here else []
    for machine, jobs in there.items():
        found.append(f"{jobs} job{'s' * (jobs != 1)} on {machine} live{'s' * (jobs == 1)} on")
    return ", ".join(found) or "nothing is at work"


def indented(text: str, width: int) -> str:
    """Return a text whose further lines stand below its first one, so many blanks from the left."""
    return text.replace("\n", "\n" + " " * width)


def lines(run: RunDir, state: RunState) -> Iterator[str]:
    """Yield what ``submit`` says at the end of a run."""
    message = state.tree.head.get("message")
    yield f"{run.name}: {state.phase}" + (f": {message}" if message and state.phase != "Succeeded" else "")
    if state.phase == "Succeeded":
        return
    alike: dict[tuple[str, ...], list[FailedStep]] = {}
    for step in failed_steps(run, state):
        told = (step.id,) if step.log else (step.phase, step.message)
        alike.setdefault(told, []).append(step)
    groups = list(alike.values())
    for step, *others in groups[:_SHOWN]:
        more = f" and {len(others)} more" if others else ""
        yield f"  {step.name} ({step.id}){more}: {step.phase}: {indented(step.message, 4)}"
        for line in step.tail:
            yield f"    | {line}"
        if step.log is not None:
            yield f"    all of its output: {step.log}"
    if left := sum(map(len, groups[_SHOWN:])):
        yield f"  and {left} more: dflow-hpc get {run.name}"
    yield f"Run what failed again: dflow-hpc retry {run.name}"
