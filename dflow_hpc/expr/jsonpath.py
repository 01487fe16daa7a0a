"""JSONPath as Argo's ``jsonpath(text, path)`` knows it (evilmonkeyinc/jsonpath 0.8).

``$.a.b[0]``, ``['key']``, negative indexes, ``[1:3]``, ``[0,2]``, ``*``, ``..name``, ``.length``, filters
``[?(@.price > 10)]`` and scripts ``[(@.length-1)]``. A missing key is an error at the end of a plain path, and nothing
behind ``*``, ``..``, ``[a,b]``, ``[a:b]`` and filters.

Trap: the results of these are always lists, even of one; a filter's strings are compared with their quotes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.expr.jsonpath_script import MAX_DEPTH, Script, Tree


def query(path: str, data: Any) -> Any:
    """Return what a path selects.

    Args:
        path: The path.
        data: What JSON's values became in Python.

    Raises:
        ExpressionError: The path is none, or leads nowhere, with the library's text.
    """
    first, *rest = _compiled(path)
    return first.apply(data, data, rest)


@lru_cache(maxsize=256)
def _compiled(path: str) -> list[Step]:
    try:
        return _steps(path)
    except ExpressionError as error:
        raise ExpressionError(f"invalid JSONPath selector '{path}' {error}") from error


def _steps(path: str, depth: int = 0) -> list[Step]:
    if depth > MAX_DEPTH:
        raise ExpressionError(f"the path nests deeper than {MAX_DEPTH} levels")
    return [_step(part, depth) for part in _cut(path)]


class _NotFound(ExpressionError):
    """A path leads nowhere."""


def _wrong_target(name: str, value: Any, *wanted: str) -> _NotFound:
    found = golang.kind(value) if value is not None else "nil"
    return _NotFound(f"{name}: invalid token target. expected [{' '.join(wanted)}] got [{found}]")


# --- cutting a path into steps


def _cut(path: str) -> list[str]:
    """Cut a path at its points and brackets, but not inside quotes, scripts and filters."""
    if path[:1] not in ("$", "@"):
        raise ExpressionError(f"unexpected token '{path[:1]}' at index 0")
    if len(path) > 1 and path[1] not in ".[":
        raise ExpressionError(f"unexpected token '{path[1]}' at index 1")
    parts, at = [path[0]], 1
    while at < len(path):
        if path.startswith("..", at):
            parts.append("..")
            at += 2
            # What follows needs no point of its own.
            if at < len(path) and path[at] not in ".[":
                end = _end_of_name(path, at)
                parts.append(path[at:end])
                at = end
        elif path[at] == "[" or path.startswith(".[", at):
            at += path[at] == "."
            end = _end_of_bracket(path, at)
            parts.append(path[at:end])
            at = end
        else:
            at += path[at] == "."
            end = _end_of_name(path, at)
            parts.append(path[at:end])
            at = end
    return parts


def _end_of_name(path: str, at: int) -> int:
    quoted = depth = 0
    while at < len(path):
        character = path[at]
        if character == "[" or (character == "." and quoted % 2 == 0 and depth == 0):
            break
        quoted += character == "'"
        depth += (character == "(") - (character == ")")
        at += 1
    return at


def _end_of_bracket(path: str, at: int) -> int:
    quoted = rounds = squares = 0
    for index in range(at, len(path)):
        character = path[index]
        quoted += character == "'"
        rounds += (character == "(") - (character == ")")
        squares += (character == "[") - (character == "]")
        if character == "]" and squares == 0 and quoted % 2 == 0 and rounds == 0:
            return index + 1
    return len(path)


# --- steps


class Step:
    """A step of a path."""

    name = ""

    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        """Return what this step and the rest of the path select from ``current``."""
        raise NotImplementedError


def _go_on(root: Any, value: Any, rest: list[Step]) -> Any:
    return rest[0].apply(root, value, rest[1:]) if rest else value


def _each(root: Any, values: list[Any], rest: list[Step]) -> list[Any]:
    """Return what the rest of the path selects from each value; what leads nowhere is left out."""
    if not rest:
        return values
    found = []
    for value in values:
        try:
            selected = _go_on(root, value, rest)
        except ExpressionError:
            continue
        if selected is not None:
            found.append(selected)
    return found


def _together_or_each(root: Any, values: list[Any], rest: list[Step]) -> Any:
    """An index behind several values means the list of them; anything else each of them."""
    if rest and isinstance(rest[0], _Index):
        return _go_on(root, values, rest)
    return _each(root, values, rest)


def _children(name: str, value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value)]
    if isinstance(value, (list, tuple)):
        return list(value)
    raise _wrong_target(name, value, "array", "map", "slice")


@dataclass(frozen=True)
class _Start(Step):
    """``$`` or ``@``."""

    of_root: bool

    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        return _go_on(root, root if self.of_root else current, rest)


@dataclass(frozen=True)
class _Key(Step):
    key: str

    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        if not isinstance(current, Mapping):
            raise _wrong_target("key", current, "map")
        if self.key not in current:
            raise _NotFound(f"key: invalid token key '{self.key}' not found")
        return _go_on(root, current[self.key], rest)


@dataclass(frozen=True)
class _Index(Step):
    index: int

    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        if not isinstance(current, (list, tuple)):
            raise _wrong_target("index", current, "array", "slice")
        if not -len(current) <= self.index < len(current):
            raise _NotFound("index: invalid token out of range")
        return _go_on(root, current[self.index], rest)


@dataclass(frozen=True)
class _Length(Step):
    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        if isinstance(current, Mapping) and "length" in current:
            return _go_on(root, current["length"], rest)
        if isinstance(current, str):
            return _go_on(root, golang.Int64(len(golang.to_bytes(current))), rest)
        if not isinstance(current, (list, tuple, Mapping)):
            raise _wrong_target("length", current, "array", "map", "slice", "string")
        return _go_on(root, golang.Int64(len(current)), rest)


@dataclass(frozen=True)
class _Wildcard(Step):
    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        return _each(root, _children("wildcard", current), rest)


@dataclass(frozen=True)
class _Recursive(Step):
    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        found: list[Any] = []
        pending = [current]
        while pending:
            value = pending.pop()
            if value is None:
                continue
            if not rest:
                found.append(value)
            else:
                try:
                    selected = _go_on(root, value, rest)
                except ExpressionError:
                    selected = None
                if selected is not None:
                    found += selected if isinstance(selected, (list, tuple)) else [selected]
            if isinstance(value, (Mapping, list, tuple)):
                pending += reversed(_children("recursive", value))
        return found


@dataclass(frozen=True)
class _Union(Step):
    arguments: tuple[Any, ...]

    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        picked = [self.argument(root, current, argument) for argument in self.arguments]
        kinds = {type(item) for item in picked}
        if kinds == {str, int}:
            first = type(picked[0])
            shown = ("string", "int") if first is int else ("int", "string")
            raise _NotFound(f"union: invalid token argument. expected [{shown[1]}] got [{shown[0]}]")
        if kinds == {str}:
            if not isinstance(current, Mapping):
                raise _wrong_target("union", current, "map")
            values = [current[key] for key in picked if key in current]
        else:
            if not isinstance(current, (list, tuple)):
                raise _wrong_target("union", current, "array", "slice")
            values = [current[index] for index in picked if -len(current) <= index < len(current)]
        return _together_or_each(root, values, rest)

    @staticmethod
    def argument(root: Any, current: Any, argument: Any) -> Any:
        value = _value(argument, root, current)
        if isinstance(value, str):
            return value
        number = _integer(value)
        if number is None:
            found = "nil" if value is None else golang.kind(value)
            raise _NotFound(f"union: invalid token argument. expected [int string] got [{found}]")
        return number


@dataclass(frozen=True)
class _Range(Step):
    start: Any
    end: Any
    step: Any

    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        if not isinstance(current, (list, tuple)):
            raise _wrong_target("range", current, "array", "slice")
        start, end, step = (
            None if bound is None else self.bound(root, current, bound) for bound in (self.start, self.end, self.step)
        )
        if step == 0:
            raise _NotFound("range: invalid token out of range")
        values = list(current[start if start is not None else 0 : end])
        if step is not None:
            values = values[::step]
        return _together_or_each(root, values, rest)

    @staticmethod
    def bound(root: Any, current: Any, argument: Any) -> int:
        value = _value(argument, root, current)
        number = _integer(value)
        if number is None:
            found = "nil" if value is None else golang.kind(value)
            raise _NotFound(f"range: invalid token unexpected expression result. expected [int] got [{found}]")
        return number


@dataclass(frozen=True)
class _Filter(Step):
    script: Script

    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        if not self.script.text:
            raise _NotFound("invalid expression. is empty")
        found = []
        for item in _children("filter", current):
            try:
                verdict = self.script.evaluate(root, item)
            except ExpressionError:
                continue
            if _holds(verdict):
                found.append(item)
        if rest and isinstance(rest[0], _Index):
            return _go_on(current, found, rest)
        return _each(root, found, rest)


@dataclass(frozen=True)
class _ScriptStep(Step):
    script: Script

    def apply(self, root: Any, current: Any, rest: list[Step]) -> Any:
        value = _value(self.script, root, current)
        if isinstance(value, str):
            return _Key(value).apply(root, current, rest)
        number = _integer(value)
        if number is None:
            found = "nil" if value is None else golang.kind(value)
            raise _NotFound(f"unexpected expression result. expected [int string] got [{found}]")
        return _Index(number).apply(root, current, rest)


def _holds(verdict: Any) -> bool:
    if isinstance(verdict, str):
        if len(verdict) > 1 and verdict[0] == verdict[-1] and verdict[0] in "'\"":
            verdict = verdict[1:-1]
        return bool(verdict)
    return bool(verdict)


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value == value // 1 else None


def _value(argument: Any, root: Any, current: Any) -> Any:
    if not isinstance(argument, Script):
        return argument
    try:
        return argument.evaluate(root, current)
    except ExpressionError as error:
        raise _NotFound(f"invalid expression. {error}") from error


# --- reading a step


def _step(text: str, depth: int) -> Step:
    text = text.strip()
    simple: dict[str, Step] = {
        "$": _Start(True), "@": _Start(False), "*": _Wildcard(), "..": _Recursive(), "length": _Length(),
    }  # fmt: skip
    if not text:
        raise ExpressionError("invalid token. token string is empty")
    if text in simple:
        return simple[text]
    if text[0] != "[":
        return _Key(text)
    inner = text[1:-1].strip()
    if text[-1] != "]" or not inner:
        raise _bad_format(text)
    if inner == "*":
        return _Wildcard()
    if inner[0] == "?":
        if not (inner.startswith("?(") and inner.endswith(")")):
            raise _bad_format(text)
        return _Filter(Script(inner[2:-1].strip(), depth, _selector))
    return _subscript(text, inner, depth)


def _bad_format(text: str) -> ExpressionError:
    return ExpressionError(f"invalid token. '{text}' does not match any token format")


_ARGUMENT = re.compile(r"\s*(?:('(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")|(-?\d+)|([,:]))\s*")


def _subscript(text: str, inner: str, depth: int) -> Step:
    """Read a key, an index, a script, several of them, or a range."""
    arguments: list[Any] = []
    at = 0
    while at < len(inner):
        match = _ARGUMENT.match(inner, at)
        if match is not None:
            if match[1] is not None:
                quote = match[1][0]
                arguments.append(match[1][1:-1].replace("\\" + quote, quote))
            else:
                arguments.append(int(match[2]) if match[2] else _Mark(match[3]))
            at = match.end()
        elif inner[at:].lstrip().startswith("("):
            at = inner.index("(", at)
            end = _end_of_round(inner, at)
            if inner[end - 1 : end] != ")" or end - at < 3:
                raise _bad_format(text)
            arguments.append(Script(inner[at + 1 : end - 1], depth, _selector))
            at = end
        else:
            raise _bad_format(text)
    marks = {argument.character for argument in arguments if isinstance(argument, _Mark)}
    if not marks:
        return _single(text, arguments)
    if marks == {","}:
        values = tuple(argument for argument in arguments if not isinstance(argument, _Mark))
        if len(arguments) - len(values) >= len(values):
            raise _bad_format(text)
        return _Union(values)
    if marks == {":"}:
        return _range(text, arguments)
    raise _bad_format(text)


@dataclass(frozen=True)
class _Mark:
    character: str


def _single(text: str, arguments: list[Any]) -> Step:
    if len(arguments) != 1:
        raise _bad_format(text)
    argument = arguments[0]
    if isinstance(argument, Script):
        return _ScriptStep(argument)
    return _Key(argument) if isinstance(argument, str) else _Index(argument)


def _range(text: str, arguments: list[Any]) -> Step:
    bounds: list[Any] = [None]
    for argument in arguments:
        if isinstance(argument, _Mark):
            bounds.append(None)
        elif bounds[-1] is not None:
            raise _bad_format(text)
        elif isinstance(argument, str):
            raise ExpressionError(f"invalid expression. invalid format '{argument}'")
        else:
            bounds[-1] = argument
    if len(bounds) > 3:
        raise _bad_format(text)
    return _Range(*[*bounds, None, None][:3])


def _end_of_round(text: str, at: int) -> int:
    depth = 0
    for index in range(at, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index + 1
    return len(text)


def _selector(text: str, depth: int) -> Tree:
    first, *rest = _steps(text, depth)
    return lambda names: first.apply(names["$"], names["@"], rest)
