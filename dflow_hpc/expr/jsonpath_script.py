"""The expressions of JSONPath's filters and scripts.

An expression is cut at the first place of its loosest operator, so ``5 - 2 - 1`` is 4: the operators are right
associative, a fault of the original. Trap: a text that a path selects gets single quotes before it is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import gojson, golang, goregexp

MAX_DEPTH = 50
"""How deep paths and expressions may nest in each other."""

Names = Mapping[str, Any]
"""``$`` and ``@``, ``nil`` and ``null``, and what they stand for."""
Tree = Callable[[Names], Any]
Selector = Callable[[str, int], Tree]
"""Makes of a path, at a depth, what selects by it."""

_OPERATORS = (
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "=~", "!", "+", "-", "**", "*", "/", "%", "not in", "in", "@", "$",
)  # fmt: skip
"""The loosest first. An expression is cut at the first place of the first of these that it holds."""
_WORDS = {"nil": None, "null": None}


class Script:
    """An expression of a filter or a script.

    Attributes:
        text: Its text.
    """

    def __init__(self, text: str, depth: int, select: Selector):
        self.text = text
        self._tree = _tree(text, _OPERATORS, depth + 1, select)

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


def _tree(text: str, operators: tuple[str, ...], depth: int, select: Selector) -> Tree | None:
    if depth > MAX_DEPTH:
        raise ExpressionError(f"the expression nests deeper than {MAX_DEPTH} levels")
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
            return _quoted(select(text, depth))
        if not right or (not left) is not (symbol == "!"):
            continue
        operands = [_operand(side, rest, depth, select) for side in (left, right)]
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


def _operand(text: str, operators: tuple[str, ...], depth: int, select: Selector) -> Any:
    tree = _tree(text, operators, depth + 1, select)
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


def _quoted(tree: Tree) -> Tree:
    """Put quotes around the text that a path selects, so that it is told from a word of the expression."""

    def select(names: Names) -> Any:
        value = tree(names)
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
