"""The small evaluator for the Python texts that authors write in ``Slices(...)``.

Literals, arithmetic, comparisons, indexing, comprehensions, a few functions and methods of texts, lists and dicts, over
``ast``: never ``eval``. What is not in it is refused by its name. Work and sizes are bounded, so that a text from a
manifest can neither run code nor eat the machine.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import ast
import operator
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set

from dflow_hpc.errors import ExpressionError

_MAX_TEXT = 1_000_000
_MAX_SIZE = 200_000
_MAX_WORK = 1_000_000
_MAX_BITS = 4096

_BINARY: Dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARE: Dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_UNARY: Dict[type, Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}


def _bounded_range(*args: int) -> List[int]:
    found = range(*args)
    if len(found) > _MAX_SIZE:
        raise ValueError(f"range of {len(found)} elements; at most {_MAX_SIZE}")
    return list(found)


def _listed(function: Callable[..., Iterable[Any]]) -> Callable[..., List[Any]]:
    return lambda *args: list(function(*args))


_FUNCTIONS: Dict[str, Callable[..., Any]] = {
    "abs": abs, "all": all, "any": any, "bool": bool, "dict": dict, "divmod": divmod, "float": float, "int": int,
    "len": len, "list": list, "max": max, "min": min, "round": round, "set": set, "sorted": sorted, "str": str,
    "sum": sum, "tuple": tuple, "range": _bounded_range, "enumerate": _listed(enumerate), "zip": _listed(zip),
    "reversed": _listed(reversed),
}  # fmt: skip
_CONSTANTS = {"true": True, "false": False, "null": None}  # an {{item}} that is JSON
_METHODS: Dict[type, Set[str]] = {
    str: {"split", "rsplit", "strip", "lstrip", "rstrip", "lower", "upper", "startswith", "endswith", "zfill"}
    | {"isdigit", "removeprefix", "removesuffix", "join", "replace", "find", "count", "index"},
    list: {"index", "count"},
    tuple: {"index", "count"},
    dict: {"get", "keys", "values", "items"},
}


def evaluate(text: str) -> Any:
    """Return the value of a Python expression of the small language.

    Args:
        text: The expression, such as ``"[int('3') * 2, 7]"``.

    Raises:
        ExpressionError: It is no expression, uses something else, is too big, or fails.
    """
    if len(text) > _MAX_TEXT:
        raise ExpressionError(f"a slice expression of {len(text)} characters was given; at most {_MAX_TEXT} are read.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(
            f"the slice expression {_short(text)} is no Python expression: {error}. If an item is a text, write "
            "quotes around it: Slices(\"'{{item}}'\")."
        ) from error
    try:
        return _Evaluator().value(tree.body)
    except _Refused as refused:
        raise ExpressionError(f"the slice expression {_short(text)} {refused}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise ExpressionError(
            f"the slice expression {_short(text)} failed: {type(error).__name__}: {error}."
        ) from error


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:197] + "...")


class _Refused(Exception):
    pass


class _Evaluator:
    """Walks one expression; ``work`` counts its steps, ``names`` holds the variables of comprehensions."""

    def __init__(self) -> None:
        self.work = 0
        self.names: Dict[str, Any] = {}

    def value(self, node: ast.AST) -> Any:
        self.work += 1
        if self.work > _MAX_WORK:
            raise _Refused(f"takes more than {_MAX_WORK} steps")
        method: Optional[Callable[[Any], Any]] = getattr(self, "_" + type(node).__name__.lower(), None)
        if method is None:
            raise _Refused(
                f"uses {type(node).__name__}, which slice expressions do not have. They have literals, arithmetic, "
                f"comparisons, indexing, comprehensions and: {', '.join(sorted(_FUNCTIONS))}."
            )
        return method(node)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        for table in (self.names, _CONSTANTS):
            if node.id in table:
                return table[node.id]
        raise _Refused(
            f"uses the name {node.id!r}, which is not known. If an item is a text, write quotes around it: "
            "Slices(\"'{{item}}'\")."
        )

    def _list(self, node: ast.List) -> List[Any]:
        return [self.value(item) for item in node.elts]

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.value(item) for item in node.elts)

    def _set(self, node: ast.Set) -> Any:
        return {self.value(item) for item in node.elts}

    def _dict(self, node: ast.Dict) -> Any:
        if None in node.keys:
            raise _Refused("uses ** in a dict, which slice expressions do not have.")
        return {self.value(key): self.value(item) for key, item in zip(node.keys, node.values) if key is not None}

    def _binop(self, node: ast.BinOp) -> Any:
        operation = _BINARY.get(type(node.op))
        if operation is None:
            raise _Refused(f"uses the operator {type(node.op).__name__}, which slice expressions do not have.")
        left, right = self.value(node.left), self.value(node.right)
        self._bound(node.op, left, right)
        return self._spend(operation(left, right))

    def _spend(self, value: Any) -> Any:
        """Count the elements of a value that was made: many big lists are as bad as one."""
        self.work += len(value) if hasattr(value, "__len__") else 0
        return value

    def _bound(self, op: ast.operator, left: Any, right: Any) -> None:
        too_big = False
        if isinstance(op, ast.Mult):
            counts = [(len(a), b) for a, b in ((left, right), (right, left)) if hasattr(a, "__len__")]
            too_big = any(isinstance(times, int) and size * times > _MAX_SIZE for size, times in counts)
        elif isinstance(op, ast.Pow) and isinstance(left, int) and isinstance(right, int):
            too_big = left.bit_length() * max(right, 0) > _MAX_BITS
        elif isinstance(op, ast.Mod) and isinstance(left, (str, bytes)):
            raise _Refused("formats a text with %, which slice expressions do not have; join texts with +.")
        if isinstance(left, int) and isinstance(right, int):
            too_big = too_big or left.bit_length() + right.bit_length() > 2 * _MAX_BITS
        if too_big:
            raise _Refused("makes a value that is too big")

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        return _UNARY[type(node.op)](self.value(node.operand))

    def _boolop(self, node: ast.BoolOp) -> Any:
        stop = isinstance(node.op, ast.Or)
        result = None
        for item in node.values:
            result = self.value(item)
            if bool(result) is stop:
                break
        return result

    def _compare(self, node: ast.Compare) -> Any:
        left = self.value(node.left)
        for op, right_node in zip(node.ops, node.comparators):
            right = self.value(right_node)
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _subscript(self, node: ast.Subscript) -> Any:
        return self.value(node.value)[self.value(node.slice)]

    def _index(self, node: Any) -> Any:  # around each index up to Python 3.8
        return self.value(node.value)

    def _slice(self, node: ast.Slice) -> slice:
        return slice(*(None if part is None else self.value(part) for part in (node.lower, node.upper, node.step)))

    def _joinedstr(self, node: ast.JoinedStr) -> str:
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                if part.format_spec is not None or part.conversion != -1:
                    raise _Refused("formats a value in an f-string; slice expressions only insert values.")
                part = part.value  # noqa: PLW2901
            parts.append(str(self.value(part)))
        return "".join(parts)

    def _call(self, node: ast.Call) -> Any:
        if node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
            raise _Refused("passes an argument by name or with *; slice expressions pass them by position.")
        if isinstance(node.func, ast.Name):
            function = _FUNCTIONS.get(node.func.id)
            if function is None:
                raise _Refused(f"calls {node.func.id!r}; known are: {', '.join(sorted(_FUNCTIONS))}.")
            return self._spend(function(*(self._argument(arg) for arg in node.args)))
        if isinstance(node.func, ast.Attribute):
            owner, name = self.value(node.func.value), node.func.attr
            if name not in _METHODS.get(type(owner), set()):
                raise _Refused(f"calls .{name}() of a {type(owner).__name__}, which slice expressions do not have.")
            args = [self._argument(arg) for arg in node.args]
            if name in ("zfill", "replace", "join"):
                _bound_text(owner, name, args)
            return self._spend(getattr(owner, name)(*args))
        raise _Refused("calls something that is not a plain function.")

    def _argument(self, node: ast.AST) -> Any:
        value = self.value(node)
        if isinstance(value, str) and len(value) > _MAX_SIZE:
            raise _Refused("makes a value that is too big")
        return value

    def _listcomp(self, node: ast.ListComp) -> List[Any]:
        return list(self._comprehend(node.generators, lambda: self.value(node.elt)))

    def _generatorexp(self, node: ast.GeneratorExp) -> List[Any]:
        return list(self._comprehend(node.generators, lambda: self.value(node.elt)))

    def _setcomp(self, node: ast.SetComp) -> Any:
        return set(self._comprehend(node.generators, lambda: self.value(node.elt)))

    def _dictcomp(self, node: ast.DictComp) -> Any:
        return dict(self._comprehend(node.generators, lambda: (self.value(node.key), self.value(node.value))))

    def _comprehend(self, loops: List[ast.comprehension], element: Callable[[], Any]) -> Iterator[Any]:
        if not loops:
            yield element()
            return
        first, before = loops[0], dict(self.names)
        for item in self.value(first.iter):
            self._assign(first.target, item)
            if all(self.value(condition) for condition in first.ifs):
                yield from self._comprehend(loops[1:], element)
        self.names = before

    def _assign(self, target: ast.AST, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            values = list(value)
            if len(values) != len(target.elts):
                raise _Refused(f"unpacks {len(values)} values into {len(target.elts)} names.")
            for part, item in zip(target.elts, values):
                self._assign(part, item)
        else:
            raise _Refused("assigns to something that is no name.")


def _bound_text(owner: str, name: str, args: List[Any]) -> None:
    if name == "zfill":
        size = args[0] if args and isinstance(args[0], int) else 0
    elif name == "replace":
        size = (len(owner) + 1) * len(args[1]) if len(args) > 1 and isinstance(args[1], str) else 0
    else:
        items = args[0] if args and isinstance(args[0], (list, tuple)) else []
        size = len(items) * len(owner) + sum(len(item) for item in items if isinstance(item, str))
    if size > _MAX_SIZE:
        raise _Refused("makes a value that is too big")
