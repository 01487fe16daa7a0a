"""Checked trees into closures.

Each node becomes a function of the run's ``Machine``. What may go wrong in a node is given the place of that node.

Trap: values are shared, never copied: a function that changes a list it was given changes the constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang, goregexp, gotime
from dflow_hpc.expr.lang import ast, builtins, runtime
from dflow_hpc.expr.lang.errors import Fault

Run = Callable[["Machine"], Any]

MEMORY_BUDGET = 1_000_000
"""Items and bytes that one evaluation may make, as in expr-lang."""
MAX_ITERATIONS = 2_000_000
"""How often predicates may be evaluated in one evaluation; expr-lang has no such limit and would run for hours."""


class Machine:
    """One evaluation."""

    def __init__(self, environment: Mapping[str, Any], clock: Callable[[], gotime.Time], variables: int):
        self.environment, self.clock = environment, clock
        self.variables: list[Any] = [None] * variables
        self.scopes: list[Scope] = []
        self.memory = 0
        self.iterations = 0

    def now(self) -> gotime.Time:
        """Return the time of the run's clock."""
        return self.clock()

    def grow(self, size: int) -> None:
        """Take from the memory budget."""
        self.memory += size
        if self.memory >= MEMORY_BUDGET:
            raise Fault("memory budget exceeded")


class Scope:
    """The state of one loop over a list."""

    __slots__ = ("accumulator", "index", "items")

    def __init__(self, items: Any):
        self.items, self.index, self.accumulator = items, 0, None


class CannotCompile(Exception):
    """Something that the checker did not see, in an argument of an unknown function."""


def compile_tree(node: ast.Node) -> tuple[Run, int]:
    """Return the function that evaluates a tree, and how many variables it needs."""
    compiler = _Compiler()
    run = compiler.compile(node)
    return run, compiler.variables


def _placed(at: int, call: Callable[[Machine], Any]) -> Run:
    """Return a function whose faults are at a place, unless they already are."""

    def run(machine: Machine) -> Any:
        try:
            return call(machine)
        except Fault as fault:
            if fault.at is None:
                fault.at = at
            raise

    return run


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise builtins.not_a(value, "bool")


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise builtins.not_a(value, "string")


class _Compiler:
    def __init__(self) -> None:
        self.variables = 0
        self.names: list[tuple[str, int]] = []
        self.chains: list[Any] = []

    def compile(self, node: ast.Node) -> Run:
        compiled: Run = _COMPILERS[type(node)].__get__(self)(node)
        return compiled

    # --- values and names

    def constant(self, node: ast.Constant) -> Run:
        value = node.value
        return lambda _: value

    def identifier(self, node: ast.Identifier) -> Run:
        name = node.name
        for known, index in reversed(self.names):
            if known == name:
                return lambda machine: machine.variables[index]
        if name == "$env":
            return lambda machine: machine.environment
        return lambda machine: machine.environment.get(name)

    def pointer(self, node: ast.Pointer) -> Run:
        if node.name == "index":
            return lambda machine: machine.scopes[-1].index
        if node.name == "acc":
            return lambda machine: machine.scopes[-1].accumulator
        if node.name:
            raise CannotCompile(f"unknown pointer {node.name}")

        def current(machine: Machine) -> Any:
            if not machine.scopes:
                raise Fault("runtime error: index out of range [-1]")
            return _item(machine.scopes[-1])

        return _placed(node.at, current)

    def let(self, node: ast.Let) -> Run:
        value = self.compile(node.value)
        index = self.variables
        self.variables += 1
        self.names.append((node.name, index))
        body = self.compile(node.body)
        self.names.pop()

        def run(machine: Machine) -> Any:
            machine.variables[index] = value(machine)
            return body(machine)

        return run

    def sequence(self, node: ast.Sequence) -> Run:
        runs = [self.compile(item) for item in node.items]
        return lambda machine: [run(machine) for run in runs][-1]

    def array(self, node: ast.Array) -> Run:
        runs = [self.compile(item) for item in node.items]

        def run(machine: Machine) -> Any:
            made = [item(machine) for item in runs]
            machine.grow(len(made))
            return made

        return _placed(node.at, run)

    def map(self, node: ast.Map) -> Run:
        runs = [self.compile(item) for item in node.items]

        def run(machine: Machine) -> Any:
            values = [item(machine) for item in runs]
            machine.grow(len(values) // 2)
            # Go fills it from the end, so that the first of two equal keys wins.
            return {_string(key): item for key, item in zip(values[-2::-2], values[-1::-2], strict=True)}

        return _placed(node.at, run)

    def conditional(self, node: ast.Conditional) -> Run:
        condition, then, otherwise = map(self.compile, (node.condition, node.then, node.otherwise))
        test = _placed(node.at, lambda machine: _truth(condition(machine)))
        return lambda machine: then(machine) if test(machine) else otherwise(machine)

    # --- operators

    def unary(self, node: ast.Unary) -> Run:
        operand = self.compile(node.operand)
        if node.operator == "+":
            return operand
        if node.operator == "-":
            return _placed(node.at, lambda machine: runtime.negate(operand(machine)))
        return _placed(node.at, lambda machine: not _truth(operand(machine)))

    def binary(self, node: ast.Binary) -> Run:
        left = self.compile(node.left)
        if node.operator == "matches" and isinstance(node.right, ast.Constant) and isinstance(node.right.value, str):
            return self.matches(node, left, node.right.value)
        right = self.compile(node.right)
        if node.operator in ("and", "&&", "or", "||"):
            return self.logical(node, left, right)
        if node.operator == "??":
            return self.coalesce(left, right)
        operation = self.operation(node)
        return _placed(node.at, lambda machine: operation(machine, left(machine), right(machine)))

    def logical(self, node: ast.Binary, left: Run, right: Run) -> Run:
        test = _placed(node.at, lambda machine: _truth(left(machine)))
        if node.operator in ("or", "||"):
            return lambda machine: test(machine) or right(machine)
        return lambda machine: test(machine) and right(machine)

    def coalesce(self, left: Run, right: Run) -> Run:
        def run(machine: Machine) -> Any:
            found = left(machine)
            return right(machine) if runtime.is_nil(found) else found

        return run

    def matches(self, node: ast.Binary, left: Run, pattern: str) -> Run:
        try:
            goregexp.compile(pattern)
        except ExpressionError as error:
            raise CannotCompile(str(error)) from None

        def run(machine: Machine) -> bool:
            text = left(machine)
            return not runtime.is_nil(text) and goregexp.matches(pattern, _string(text))

        return _placed(node.at, run)

    def operation(self, node: ast.Binary) -> Callable[[Machine, Any, Any], Any]:
        symbol = node.operator
        if symbol in ("==", "!="):
            return lambda _, left, right: runtime.equal(left, right) is (symbol == "==")
        if symbol in ("<", ">", "<=", ">="):
            return lambda _, left, right: runtime.compare(symbol, left, right)
        if symbol == "in":
            return lambda _, left, right: runtime.contains(left, right)
        if symbol == "..":
            return _range
        if symbol in _TEXT_TESTS:
            test = _TEXT_TESTS[symbol]
            return lambda _, left, right: (
                not runtime.is_nil(left) and not runtime.is_nil(right) and test(_string(left), _string(right))
            )
        return lambda _, left, right: runtime.arithmetic(symbol, left, right)

    # --- members

    def chain(self, node: ast.Chain) -> Run:
        end = object()
        self.chains.append(end)
        operand = self.compile(node.operand)
        self.chains.pop()

        def run(machine: Machine) -> Any:
            try:
                found = operand(machine)
            except _ChainEnds as ends:
                if ends.chain is end:
                    return None
                raise
            return None if runtime.is_nil(found) else found

        return run

    def member(self, node: ast.Member) -> Run:
        base, key = self.compile(node.base), self.compile(node.key)
        if node.optional and self.chains:
            chain = self.chains[-1]

            def optional(machine: Machine) -> Any:
                found = base(machine)
                if runtime.is_nil(found):
                    raise _ChainEnds(chain)
                return runtime.fetch(found, key(machine))

            return _placed(node.at, optional)
        return _placed(node.at, lambda machine: runtime.fetch(base(machine), key(machine)))

    def slice(self, node: ast.Slice) -> Run:
        base = self.compile(node.base)
        start = self.compile(node.start) if node.start is not None else None
        end = self.compile(node.end) if node.end is not None else None

        def run(machine: Machine) -> Any:
            items = base(machine)
            last = runtime.length(items) if end is None else end(machine)
            return runtime.cut(items, 0 if start is None else start(machine), last)

        return _placed(node.at, run)

    # --- calls

    def call(self, node: ast.Call) -> Run:
        arguments = [self.compile(argument) for argument in node.arguments]
        callee = self.compile(node.callee)

        def run(machine: Machine) -> Any:
            values = [argument(machine) for argument in arguments]
            try:
                return runtime.call(callee(machine), values)
            except ExpressionError as error:
                raise Fault(str(error)) from error

        return _placed(node.at, run)

    def builtin(self, node: ast.BuiltinCall) -> Run:
        if node.name in _LOOPS:
            return self.loop(node)
        function = builtins.BUILTINS[node.name]
        arguments = [self.compile(argument) for argument in node.arguments]
        return _placed(node.at, lambda machine: function(machine, *[argument(machine) for argument in arguments]))

    def predicate(self, node: ast.Predicate) -> Run:
        return self.compile(node.body)

    def loop(self, node: ast.BuiltinCall) -> Run:
        collection, *rest = [self.compile(argument) for argument in node.arguments]
        body = rest[0] if rest else self.pointer(ast.Pointer("", at=node.at))
        extra = rest[1] if len(rest) > 1 else None
        loop = _LOOPS[node.name]
        throws = node.throws

        def run(machine: Machine) -> Any:
            scope = Scope(_items(collection(machine)))
            machine.scopes.append(scope)
            try:
                found = loop(machine, scope, body, extra)
            finally:
                machine.scopes.pop()
            if found is _NOTHING:
                if throws:
                    raise Fault("reflect: slice index out of range")
                return None
            return found

        return _placed(node.at, run)


class _ChainEnds(Exception):
    """An optional member was reached through nil."""

    def __init__(self, chain: Any):
        super().__init__()
        self.chain = chain


def _range(machine: Machine, left: Any, right: Any) -> Any:
    first, last = runtime.to_int(left), runtime.to_int(right)
    machine.grow(max(last - first + 1, 0))
    return golang.ints(range(first, last + 1))


_TEXT_TESTS: dict[str, Callable[[str, str], bool]] = {
    "matches": lambda left, right: _match(right, left),
    "contains": lambda left, right: right in left,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
}


def _match(pattern: str, text: str) -> bool:
    try:
        return goregexp.matches(pattern, text)
    except ExpressionError as error:
        raise Fault(str(error)) from None


# --- loops ---------------------------------------------------------------------------------------------------------


class _Nothing:
    """What a search gives that found nothing."""


_NOTHING = _Nothing()


def _items(value: Any) -> Any:
    if runtime.is_list(value):
        return value
    if isinstance(value, str):
        return golang.to_bytes(value)
    if isinstance(value, Mapping):
        return _Unindexable(len(value))
    if value is None:
        raise Fault("reflect: call of reflect.Value.Len on zero Value")
    raise Fault(f"reflect: call of reflect.Value.Len on {golang.kind(value)} Value")


class _Unindexable:
    """A map where a list is wanted: it has a length, and no items by index."""

    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        raise Fault("reflect: call of reflect.Value.Index on map Value")


def _each(machine: Machine, scope: Scope, body: Run) -> Any:
    """Evaluate the predicate for each item, from the scope's index on."""
    count = len(scope.items)
    while scope.index < count:
        machine.iterations += 1
        if machine.iterations > MAX_ITERATIONS:
            raise Fault(f"evaluation stopped after {MAX_ITERATIONS} evaluations of predicates")
        yield body(machine)
        scope.index += 1


def _backwards(machine: Machine, scope: Scope, body: Run) -> Any:
    for index in range(len(scope.items) - 1, -1, -1):
        scope.index = index
        machine.iterations += 1
        if machine.iterations > MAX_ITERATIONS:
            raise Fault(f"evaluation stopped after {MAX_ITERATIONS} evaluations of predicates")
        yield body(machine)


def _item(scope: Scope) -> Any:
    items = scope.items
    return golang.Uint8(items[scope.index]) if isinstance(items, bytes) else items[scope.index]


def _all(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    return all(_truth(found) for found in _each(machine, scope, body))


def _none(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    return not any(_truth(found) for found in _each(machine, scope, body))


def _any(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    return any(_truth(found) for found in _each(machine, scope, body))


def _count(machine: Machine, scope: Scope, body: Run, _: Run | None) -> int:
    return sum(_truth(found) for found in _each(machine, scope, body))


def _one(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    return _count(machine, scope, body, _) == 1


def _filter(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    found = [_item(scope) for hit in _each(machine, scope, body) if _truth(hit)]
    machine.grow(len(found))
    return found


def _map(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    found = list(_each(machine, scope, body))
    machine.grow(len(found))
    return found


def _sum(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    total: Any = 0
    for found in _each(machine, scope, body):
        total = runtime.arithmetic("+", found, total)
    return total


def _find(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    return next((_item(scope) for hit in _each(machine, scope, body) if _truth(hit)), _NOTHING)


def _find_index(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    return next((scope.index for hit in _each(machine, scope, body) if _truth(hit)), _NOTHING)


def _find_last(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    return next((_item(scope) for hit in _backwards(machine, scope, body) if _truth(hit)), _NOTHING)


def _find_last_index(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    return next((scope.index for hit in _backwards(machine, scope, body) if _truth(hit)), _NOTHING)


def _group_by(machine: Machine, scope: Scope, body: Run, _: Run | None) -> Any:
    groups: dict[Any, list[Any]] = {}
    for key in _each(machine, scope, body):
        groups.setdefault(golang.any_key(builtins.hashable(key)), []).append(_item(scope))
    return golang.TypedMap(groups, "map[interface {}][]interface {}")


def _sort_by(machine: Machine, scope: Scope, body: Run, order: Run | None) -> Any:
    direction = "asc" if order is None else _string(order(machine))
    if direction not in ("asc", "desc"):
        raise Fault("unknown order, use asc or desc")
    pairs = [(value, _item(scope)) for value in _each(machine, scope, body)]
    machine.grow(len(pairs))
    return builtins.sort_values(pairs, direction)


def _reduce(machine: Machine, scope: Scope, body: Run, first: Run | None) -> Any:
    if first is not None:
        scope.accumulator = first(machine)
    else:
        if not len(scope.items):
            raise Fault("reflect: slice index out of range")
        scope.accumulator = _item(scope)
        scope.index = 1
    for found in _each(machine, scope, body):
        scope.accumulator = found
    return scope.accumulator


_LOOPS: dict[str, Callable[[Machine, Scope, Run, Run | None], Any]] = {
    "all": _all,
    "none": _none,
    "any": _any,
    "one": _one,
    "count": _count,
    "filter": _filter,
    "map": _map,
    "sum": _sum,
    "find": _find,
    "findIndex": _find_index,
    "findLast": _find_last,
    "findLastIndex": _find_last_index,
    "groupBy": _group_by,
    "sortBy": _sort_by,
    "reduce": _reduce,
}

_COMPILERS: dict[type[ast.Node], Callable[..., Run]] = {
    ast.Constant: _Compiler.constant,
    ast.Identifier: _Compiler.identifier,
    ast.Unary: _Compiler.unary,
    ast.Binary: _Compiler.binary,
    ast.Chain: _Compiler.chain,
    ast.Member: _Compiler.member,
    ast.Slice: _Compiler.slice,
    ast.Call: _Compiler.call,
    ast.BuiltinCall: _Compiler.builtin,
    ast.Predicate: _Compiler.predicate,
    ast.Pointer: _Compiler.pointer,
    ast.Let: _Compiler.let,
    ast.Sequence: _Compiler.sequence,
    ast.Conditional: _Compiler.conditional,
    ast.Array: _Compiler.array,
    ast.Map: _Compiler.map,
}
