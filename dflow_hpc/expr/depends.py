"""Which results of other tasks a task of a DAG waits for: ``depends`` and ``dependencies``.

Trap: every task that the text mentions must have ended before it is evaluated; there is no short circuit. And Argo
replaces every ``-`` by ``_`` before it evaluates, so ``a-b`` and ``a_b`` are one name there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr.golang import TypedMap
from dflow_hpc.expr.lang.program import Program, compile  # noqa: A004

RESULTS = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed")

_MENTION = re.compile(r"(?P<result>[a-zA-Z0-9][-a-zA-Z0-9]*?\.[A-Z][a-zA-Z]+)|(?P<bare>[a-zA-Z0-9][-a-zA-Z0-9]*)")

ContinueOn = Callable[[str], tuple[bool, bool]]
"""Tells of a task whether its ``continueOn`` has ``error``, and whether it has ``failed``."""


def _stops(_: str) -> tuple[bool, bool]:
    return False, False


def task_results(phase: str, *, daemoned: bool = False, children: Iterable[str] | None = None) -> dict[str, bool]:
    """Return the results of a task that has ended.

    Args:
        phase: Phase of its node.
        daemoned: Whether it runs on as a daemon, past Pending.
        children: Phases of the children of a TaskGroup; None for any other node.
    """
    phases = list(children or ())
    return {
        "Succeeded": phase == "Succeeded",
        "Failed": phase == "Failed",
        "Errored": phase == "Error",
        "Skipped": phase == "Skipped",
        "Omitted": phase == "Omitted",
        "Daemoned": daemoned and phase != "Pending",
        "AnySucceeded": "Succeeded" in phases,
        "AllFailed": bool(phases) and all(child == "Failed" for child in phases),
    }


@dataclass(frozen=True)
class Depends:
    """A condition on the results of tasks.

    Attributes:
        text: The condition, with bare names expanded.
        tasks: The tasks that it mentions, in the order of the text; all of them must end first.
        of_items: Those whose loop's members are asked about (``AnySucceeded``, ``AllFailed``).
    """

    text: str
    tasks: tuple[str, ...]
    of_items: frozenset[str]

    def evaluate(self, results: Mapping[str, Mapping[str, bool]]) -> bool:
        """Say whether the task runs.

        Args:
            results: ``task_results`` of each task in ``tasks``.

        Raises:
            ExpressionError: It cannot be evaluated: ``unable to evaluate expression '...': ...``.
        """
        if not self.text:
            return True
        text = self.text.replace("-", "_")
        environment = {name.replace("-", "_"): _struct(results[name]) for name in reversed(self.tasks)}
        try:
            result = _program(text).run(environment)
        except ExpressionError as error:
            raise ExpressionError(f"unable to evaluate expression '{text}': {error}") from error
        if not isinstance(result, bool):
            raise ExpressionError(
                f"unable to evaluate expression '{text}': unable to cast expression result '{result}' to bool"
            )
        return result


def _struct(results: Mapping[str, bool]) -> TypedMap:
    return TypedMap({name: bool(results.get(name)) for name in RESULTS}, "controller.TaskResults")


_programs: dict[str, Program] = {}


def _program(text: str) -> Program:
    program = _programs.get(text)
    if program is None:
        if len(_programs) > 1000:
            _programs.clear()
        program = _programs[text] = compile(text)
    return program


def parse_depends(text: str, continue_on: ContinueOn = _stops) -> Depends:
    """Read a ``depends``.

    A bare task name means that it succeeded, was skipped, or is a daemon that runs; with ``continueOn`` also that it
    failed so. A task that was omitted does not count.

    Args:
        text: The condition: task names with ``&& || ! ( )``.
        continue_on: Tells of each task what its ``continueOn`` has.
    """
    tasks: dict[str, bool] = {}

    def expand(mention: re.Match[str]) -> str:
        if mention["bare"]:
            tasks[mention["bare"]] = False
            return _expansion(mention["bare"], continue_on)
        name, result = mention["result"].split(".")
        tasks[name] = tasks.get(name, False) or result in ("AnySucceeded", "AllFailed")
        return mention[0]

    expanded = _MENTION.sub(expand, text)
    return Depends(expanded, tuple(tasks), frozenset(name for name, items in tasks.items() if items))


def parse_dependencies(names: Iterable[str], continue_on: ContinueOn = _stops) -> Depends:
    """Read a list of ``dependencies``: each of them as a bare name, all of them."""
    tasks = tuple(dict.fromkeys(names))
    return Depends(" && ".join(_expansion(name, continue_on) for name in tasks), tasks, frozenset())


def invalid_results(text: str) -> list[tuple[str, str]]:
    """Return the task and the result of each ``task.Result`` in a ``depends`` whose result does not exist."""
    pairs = [tuple(mention["result"].split(".")) for mention in _MENTION.finditer(text) if mention["result"]]
    return [(task, result) for task, result in pairs if result not in RESULTS]


def _expansion(name: str, continue_on: ContinueOn) -> str:
    on_error, on_failed = continue_on(name)
    results = ["Succeeded", "Skipped", "Daemoned"] + ["Errored"] * on_error + ["Failed"] * on_failed
    return "(" + " || ".join(f"{name}.{result}" for result in results) + ")"
