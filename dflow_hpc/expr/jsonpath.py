"""JSONPath as Argo's ``jsonpath(text, path)`` knows it (evilmonkeyinc/jsonpath 0.8).

``$.a.b[0]``, ``['key']``, negative indexes, ``[1:3]``, ``[0,2]``, ``*``, ``..name``, ``.length``, filters
``[?(@.price > 10)]`` and scripts ``[(@.length-1)]``. A missing key is an error at the end of a plain path, and nothing
behind ``*``, ``..``, ``[a,b]``, ``[a:b]`` and filters.

Trap: the results of these are always lists, even of one; a filter's strings are compared with their quotes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import gojson, golang, goregexp

_MAX_DEPTH = 50


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
    if depth > _MAX_DEPTH:
        raise ExpressionError(f"the path nests deeper than {_MAX_DEPTH} levels")
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
    script: _Script

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
    script: _Script

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
    if not isinstance(argument, _Script):
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
        return _Filter(_Script(inner[2:-1].strip(), depth))
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
            arguments.append(_Script(inner[at + 1 : end - 1], depth))
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
    if isinstance(argument, _Script):
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


# --- scripts and filters -------------------------------------------------------------------------------------------

_OPERATORS = (
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "=~", "!", "+", "-", "**", "*", "/", "%", "not in", "in", "@", "$",
)  # fmt: skip
"""The loosest first. An expression is cut at the first place of the first of these that it holds."""
_WORDS = {"nil": None, "null": None}


class _Script:
    """An expression of a filter or a script."""

    def __init__(self, text: str, depth: int):
        self.text = text
        self._tree = _tree(text, _OPERATORS, depth + 1)

    def evaluate(self, root: Any, current: Any) -> Any:
        """Return its value.

        Raises:
            ExpressionError: An operand is not what its operator takes.
        """
        if not self.text:
            raise ExpressionError("invalid expression. is empty")
        names = {"$": root, "@": current, **_WORDS}
        if self._tree is not None:
            return self._tree(names)
        if self.text in names:
            return names[self.text]
        for convert in (_number, _boolean):
            try:
                return convert(self.text, names)
            except ExpressionError:
                continue
        return self.text


Names = Mapping[str, Any]
Tree = Callable[[Names], Any]


def _tree(text: str, operators: tuple[str, ...], depth: int) -> Tree | None:
    if depth > _MAX_DEPTH:
        raise ExpressionError(f"the expression nests deeper than {_MAX_DEPTH} levels")
    text = text.strip()
    if not text:
        return None
    if text[0] == "(" and text[-1] == ")":
        text = text[1:-1].strip()
        operators = _OPERATORS
    for index, symbol in enumerate(operators):
        at = _find(text, symbol)
        if at < 0:
            continue
        left, right = text[:at].strip(), text[at + len(symbol) :].strip()
        rest = operators[index:]
        if symbol in ("@", "$"):
            if left:
                continue
            return _selector(text, depth)
        if not right or (not left) is not (symbol == "!"):
            continue
        operands = [_operand(side, rest, depth) for side in (left, right)]
        return _operation(symbol, operands[0], operands[1])
    return None


def _find(text: str, symbol: str) -> int:
    """Return where an operator stands outside quotes and brackets."""
    quote, squares, rounds = "", 0, 0
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
            if quote or character in "'\"":
                continue
        elif character in "[]" and not rounds:
            squares += 1 if character == "[" else -1
        elif character in "()" and squares <= 0:
            rounds += 1 if character == "(" else -1
        elif character in "'\"" and squares <= 0 and rounds <= 0:
            quote = character
        if quote or squares > 0 or rounds > 0:
            continue
        start = at + 1 - len(symbol)
        if start >= 0 and text[start : at + 1] == symbol:
            return start
    return -1


def _operand(text: str, operators: tuple[str, ...], depth: int) -> Any:
    tree = _tree(text, operators, depth + 1)
    if tree is not None:
        return tree
    if not text:
        return None
    if text[0] + text[-1] in ("[]", "{}"):
        try:
            return gojson.loads(text)
        except ExpressionError:
            return text
    return text


def _selector(text: str, depth: int) -> Tree:
    first, *rest = _steps(text, depth)

    def select(names: Names) -> Any:
        value = first.apply(names["$"], names["@"], rest)
        # A text gets quotes, so that it is told from a word of the expression.
        if isinstance(value, str) and not (len(value) > 1 and value[0] == value[-1] == "'"):
            return f"'{value}'"
        return value

    return select


def _resolved(operand: Any, names: Names) -> Any:
    value = operand(names) if callable(operand) else operand
    return names[value] if isinstance(value, str) and value in names else value


def _number(operand: Any, names: Names) -> float:
    if operand is None:
        raise ExpressionError("invalid argument. is nil")
    try:
        return golang.parse_float(golang.format_value(_resolved(operand, names)))
    except ExpressionError:
        raise ExpressionError("invalid argument. expected number") from None


def _whole(operand: Any, names: Names) -> int:
    if operand is None:
        raise ExpressionError("invalid argument. is nil")
    try:
        return golang.parse_int(golang.format_value(_resolved(operand, names)), 10)
    except ExpressionError:
        raise ExpressionError("invalid argument. expected integer") from None


_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def _boolean(operand: Any, names: Names) -> bool:
    value = _resolved(operand, names)
    if value is None:
        return False
    text = golang.format_value(value)
    if text not in _TRUE + _FALSE:
        raise ExpressionError("invalid argument. expected boolean")
    return text in _TRUE


def _text(operand: Any, names: Names) -> str:
    if operand is None:
        raise ExpressionError("invalid argument. is nil")
    value = operand(names) if callable(operand) else operand
    if isinstance(value, str):
        named = value in names
        if named and not isinstance(names[value], str):
            return golang.format_value(names[value])
        text = names[value] if named else value
        if len(text) > 1 and text[0] == text[-1] == '"':
            return f"'{text[1:-1]}'"
        quoted = len(text) > 1 and text[0] == text[-1] == "'"
        return f"'{text}'" if named and not quoted else str(text)
    return golang.format_value(value)


def _bare(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text


def _elements(operand: Any, names: Names) -> list[Any]:
    if operand is None:
        raise ExpressionError("invalid argument. is nil")
    value = _resolved(operand, names)
    if isinstance(value, str) and value[:1] + value[-1:] in ("{}", "[]"):
        try:
            value = gojson.loads(value)
        except ExpressionError:
            raise ExpressionError("invalid argument") from None
    if value is None:
        raise ExpressionError("invalid argument. is nil")
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    raise ExpressionError("invalid argument. expected array, map, or slice")


def _equal(left: Any, right: Any, names: Names) -> bool:
    try:
        return bool(_number(left, names) == _number(right, names))
    except ExpressionError:
        return bool(_text(left, names) == _text(right, names))


def _member(left: Any, right: Any, names: Names) -> bool:
    item: Any = left
    for convert in (_number, _text, _boolean):
        try:
            item = convert(left, names)
            break
        except ExpressionError:
            continue
    return any(type(element) is type(item) and bool(element == item) for element in _elements(right, names))


def _regex(left: Any, right: Any, names: Names) -> bool:
    text, pattern = _bare(_text(left, names)), _bare(_text(right, names))
    try:
        return goregexp.matches(pattern, text)
    except ExpressionError:
        raise ExpressionError("invalid argument. expected a valid regexp") from None


def _modulo(left: Any, right: Any, names: Names) -> int:
    one, two = _whole(left, names), _whole(right, names)
    if two == 0:
        raise ExpressionError("runtime error: integer divide by zero")
    return golang.Int64(abs(one) % abs(two) * (-1 if one < 0 else 1))


def _numbers(operation: Callable[[float, float], Any]) -> Callable[[Any, Any, Names], Any]:
    return lambda left, right, names: operation(_number(left, names), _number(right, names))


def _booleans(operation: Callable[[bool, bool], bool]) -> Callable[[Any, Any, Names], bool]:
    return lambda left, right, names: operation(_boolean(left, names), _boolean(right, names))


_APPLY: dict[str, Callable[[Any, Any, Names], Any]] = {
    "||": _booleans(lambda left, right: left or right),
    "&&": _booleans(lambda left, right: left and right),
    "==": _equal,
    "!=": lambda left, right, names: not _equal(left, right, names),
    "<=": _numbers(lambda left, right: left <= right),
    ">=": _numbers(lambda left, right: left >= right),
    "<": _numbers(lambda left, right: left < right),
    ">": _numbers(lambda left, right: left > right),
    "=~": _regex,
    "!": lambda _, right, names: not _boolean(right, names),
    "+": _numbers(lambda left, right: left + right),
    "-": _numbers(lambda left, right: left - right),
    "**": _numbers(golang.power),
    "*": _numbers(lambda left, right: left * right),
    "/": _numbers(golang.divide),
    "%": _modulo,
    "not in": lambda left, right, names: not _member(left, right, names),
    "in": _member,
}


def _operation(symbol: str, left: Any, right: Any) -> Tree:
    apply = _APPLY[symbol]
    return lambda names: apply(left, right, names)
