"""Matching in linear time: all ways through a pattern at once (Thompson, Pike), each with its groups.

Slower than ``re`` by far on ordinary patterns, and the only one that ends on ``(a+)+$``. The order of the threads is
their priority, which gives the same match as backtracking would.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from dflow_hpc.errors import ExpressionError

if TYPE_CHECKING:
    from dflow_hpc.expr.goregexp import Node, Regexp

_MAX_INSTRUCTIONS = 20_000

# Instructions: (what, operands). "char": test; "assert": pattern; "split": first, second; "jump": to; "save": slot.
_Instruction = tuple[str, object, object]


class LinearMatch:
    """A match: where its groups begin and end."""

    def __init__(self, slots: tuple[int, ...]):
        self.slots = slots

    def start(self, group: int = 0, /) -> int:
        """Return where a group begins; -1 if it took no part."""
        return self.slots[2 * group]

    def end(self, group: int = 0, /) -> int:
        """Return where a group ends."""
        return self.slots[2 * group + 1]


def search(regexp: Regexp, text: str, at: int) -> LinearMatch | None:
    """Find the first match from a place on.

    Raises:
        ExpressionError: The pattern, with its repeats written out, is too large.
    """
    program = _Program()
    program.add(regexp.tree)
    program.emit("match")
    return _Machine(program.code, text, 2 * (regexp.groups + 1)).run(at)


class _Program:
    def __init__(self) -> None:
        self.code: list[_Instruction] = []

    def emit(self, what: str, first: object = None, second: object = None) -> int:
        if len(self.code) >= _MAX_INSTRUCTIONS:
            raise ExpressionError("error parsing regexp: expression too large")
        self.code.append((what, first, second))
        return len(self.code) - 1

    def add(self, node: Node) -> None:
        if node.kind == "char":
            self.emit("char", _tester(node.text))
        elif node.kind == "assert":
            self.emit("assert", re.compile(node.text))
        elif node.kind == "alternate":
            self.alternate(node.items)
        elif node.kind == "repeat":
            self.repeat(node)
        elif node.kind == "group" and node.name is not None:
            self.emit("save", 2 * node.name)
            self.add(node.items[0])
            self.emit("save", 2 * node.name + 1)
        else:
            for item in node.items:
                self.add(item)

    def alternate(self, branches: list[Node]) -> None:
        ends = []
        for branch in branches[:-1]:
            split = self.emit("split")
            self.add(branch)
            ends.append(self.emit("jump"))
            self.code[split] = ("split", split + 1, len(self.code))
        self.add(branches[-1])
        for end in ends:
            self.code[end] = ("jump", len(self.code), None)

    def repeat(self, node: Node) -> None:
        for _ in range(node.least):
            self.add(node.items[0])
        if node.most is None:
            split = self.emit("split")
            self.add(node.items[0])
            self.emit("jump", split)
            self.code[split] = self.choice(split + 1, len(self.code), node.lazy)
            return
        splits = []
        for _ in range(node.most - node.least):
            splits.append(self.emit("split"))
            self.add(node.items[0])
        for split in splits:
            self.code[split] = self.choice(split + 1, len(self.code), node.lazy)

    def choice(self, inside: int, outside: int, lazy: bool) -> _Instruction:
        return ("split", outside, inside) if lazy else ("split", inside, outside)


def _tester(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    known: dict[str, bool] = {}

    def test(character: str) -> bool:
        found = known.get(character)
        if found is None:
            found = known[character] = compiled.fullmatch(character) is not None
        return found

    return test


class _Machine:
    def __init__(self, code: list[_Instruction], text: str, slots: int):
        self.code, self.text, self.none = code, text, (-1,) * slots

    def run(self, at: int) -> LinearMatch | None:
        threads: dict[int, tuple[int, ...]] = {}
        best: tuple[int, ...] | None = None
        while True:
            if best is None:  # a match that begins further left has the priority
                self.follow(threads, 0, at, (at, *self.none[1:]))
            character = self.text[at : at + 1]
            following: dict[int, tuple[int, ...]] = {}
            for place, slots in threads.items():
                what, test, _ = self.code[place]
                if what == "match":
                    best = (slots[0], at, *slots[2:])
                    break  # what comes behind has less priority
                if character and test(character):  # type: ignore[operator]
                    self.follow(following, place + 1, at + 1, slots)
            if not character or (not following and best is not None):
                return None if best is None else LinearMatch(best)
            threads, at = following, at + 1

    def follow(self, threads: dict[int, tuple[int, ...]], place: int, at: int, slots: tuple[int, ...]) -> None:
        """Add the threads that a place leads to without reading, in the order of their priority."""
        pending, seen = [(place, slots)], set(threads)
        while pending:
            place, slots = pending.pop()
            if place in seen:
                continue
            seen.add(place)
            what, first, second = self.code[place]
            if what == "jump":
                pending.append((first, slots))  # type: ignore[arg-type]
            elif what == "split":
                pending += [(second, slots), (first, slots)]  # type: ignore[list-item]
            elif what == "save":
                slot = int(first)  # type: ignore[call-overload]
                pending.append((place + 1, (*slots[:slot], at, *slots[slot + 1 :])))
            elif what == "assert":
                if first.match(self.text, at):  # type: ignore[attr-defined]
                    pending.append((place + 1, slots))
            else:
                threads[place] = slots
