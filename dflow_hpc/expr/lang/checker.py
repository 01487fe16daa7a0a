"""The types of an expression, before it runs.

Argo compiles an expression against the values it will see, so wrong types of literals and of top-level variables are
found here, and a name that does not exist. Below the top level everything is unknown, and found when it runs.

Trap: the first error counts, but the walk goes on in places after a part of unknown type, as in expr-lang.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import goregexp
from dflow_hpc.expr.lang import ast, runtime, signatures, types
from dflow_hpc.expr.lang.errors import Fault
from dflow_hpc.expr.lang.types import BOOL, DURATION, FLOAT, INT, NIL, STRING, TIME, UNKNOWN, Type


def check(node: ast.Node, environment: Mapping[str, Type]) -> Type:
    """Find the type of each node, and return that of the whole.

    Args:
        node: The expression; the types are written into it.
        environment: Types of its variables.

    Raises:
        Fault: With expr-lang's words and the place.
    """
    return _Checker(environment).visit(node)


class _Mismatch(Fault):
    """The arguments do not fit a function; another of the same name may take them."""


class _Scope:
    """What ``#``, ``#index`` and ``#acc`` mean in a predicate."""

    def __init__(self, collection: Type, variables: Mapping[str, Type]):
        self.collection, self.variables = collection, variables


class _Checker:
    def __init__(self, environment: Mapping[str, Type]):
        self.environment = environment
        self.scopes: list[_Scope] = []
        self.variables: list[tuple[str, Type]] = []

    def visit(self, node: ast.Node) -> Type:
        visitor: Callable[[Any], Type] = _VISITORS[type(node)].__get__(self)
        node.type = visitor(node)
        return node.type

    # --- values and names

    def constant(self, node: ast.Constant) -> Type:
        return types.type_of(node.value)

    def identifier(self, node: ast.Identifier) -> Type:
        for name, found in reversed(self.variables):
            if name == node.name:
                return found
        return UNKNOWN if node.name == "$env" else self.name(node, node.name)

    def name(self, node: ast.Node, name: str, *, strict: bool = True, builtins: bool = True) -> Type:
        found = self.environment.get(name)
        if found is not None:
            return found
        if builtins and name in BUILTIN_NAMES:
            return Type("func(...interface {}) (interface {}, error)")
        if strict:
            raise Fault(f"unknown name {name}", node.at)
        return UNKNOWN

    def pointer(self, node: ast.Pointer) -> Type:
        if not self.scopes:
            raise Fault("cannot use pointer accessor outside predicate", node.at)
        scope = self.scopes[-1]
        if not node.name:
            return UNKNOWN if scope.collection.unknown else scope.collection.element()
        if node.name not in scope.variables:
            raise Fault(f"unknown pointer #{node.name}", node.at)
        return scope.variables[node.name]

    def let(self, node: ast.Let) -> Type:
        if node.name in self.environment:
            raise Fault(f"cannot redeclare {node.name}", node.at)
        if node.name in BUILTIN_NAMES:
            raise Fault(f"cannot redeclare builtin {node.name}", node.at)
        if any(name == node.name for name, _ in self.variables):
            raise Fault(f"cannot redeclare variable {node.name}", node.at)
        value = self.visit(node.value)
        self.variables.append((node.name, value))
        body = self.visit(node.body)
        self.variables.pop()
        return body

    def sequence(self, node: ast.Sequence) -> Type:
        return [self.visit(item) for item in node.items][-1]

    def array(self, node: ast.Array) -> Type:
        found = [self.visit(item) for item in node.items]
        same = all(item.kind == found[0].kind for item in found)
        return types.array_of(found[-1] if found else UNKNOWN) if same else types.ARRAY

    def map(self, node: ast.Map) -> Type:
        for item in node.items:
            self.visit(item)
        return types.MAP

    def conditional(self, node: ast.Conditional) -> Type:
        condition = self.visit(node.condition)
        if not (condition.kind == "bool" or condition.unknown):
            raise Fault(f"non-bool expression (type {condition}) used as condition", node.condition.at)
        then, otherwise = self.visit(node.then), self.visit(node.otherwise)
        if then.nil != otherwise.nil:
            return otherwise if then.nil else then
        if then.nil:
            return NIL
        return then if then.assignable(otherwise) else UNKNOWN

    # --- operators

    def unary(self, node: ast.Unary) -> Type:
        operand = self.visit(node.operand)
        if node.operator in ("!", "not"):
            if operand.kind == "bool" or operand.unknown:
                return BOOL
        elif operand.number or operand.unknown:
            return operand if operand.number else UNKNOWN
        raise Fault(f"invalid operation: {node.operator} (mismatched type {operand})", node.at)

    def binary(self, node: ast.Binary) -> Type:
        left, right = self.visit(node.left), self.visit(node.right)
        found = self.operation(node, left, right)
        if found is None:
            raise Fault(f"invalid operation: {node.operator} (mismatched types {left} and {right})", node.at)
        return found

    def operation(self, node: ast.Binary, left: Type, right: Type) -> Type | None:
        """Return the type that an operator gives, None if it does not take these."""
        operator = node.operator
        if operator in ("==", "!="):
            return BOOL if left.comparable(right) else None
        if operator == "??":
            return _coalesced(left, right)
        if operator == "in":
            return self.membership(node, left, right)
        if operator == "matches" and isinstance(node.right, ast.Constant) and isinstance(node.right.value, str):
            try:
                goregexp.compile(node.right.value)
            except ExpressionError as error:
                raise Fault(str(error), node.at) from None
        return _result_of(operator, left, right)

    def membership(self, node: ast.Binary, left: Type, right: Type) -> Type | None:
        if right.kind == "struct":
            return BOOL if left.unknown or left.kind == "string" else None
        if right.kind == "map":
            if not left.unknown and not left.assignable(right.key()):
                raise Fault(f"cannot use {left} as type {right.key()} in map key", node.at)
            return BOOL
        if right.array:
            if not left.comparable(right.element()):
                raise Fault(f"cannot use {left} as type {right.element()} in array", node.at)
            return BOOL
        if right.unknown or (left.unknown and right.kind == "string"):
            return BOOL
        return None

    # --- members

    def chain(self, node: ast.Chain) -> Type:
        return self.visit(node.operand)

    def member(self, node: ast.Member) -> Type:
        name = node.key.value if isinstance(node.key, ast.Constant) and isinstance(node.key.value, str) else None
        if isinstance(node.base, ast.Identifier) and node.base.name == "$env":
            if name is None:
                return UNKNOWN
            return self.name(node, name, strict=not node.optional, builtins=False)
        base, key = self.visit(node.base), self.visit(node.key)
        if base.unknown:
            return UNKNOWN
        if name is not None:
            if base.nil:
                raise Fault(f"type nil has no field {name}", node.at)
            method = runtime.METHODS.get(base.name, {}).get(name)
            if method is not None:
                return Type(method.go_type, function=method)
        if base.kind == "map":
            if not key.assignable(base.key()) and not key.unknown:
                raise Fault(f"cannot use {key} to get an element from {base}", node.key.at)
            return base.element()
        if base.array:
            if not key.integer and not key.unknown:
                raise Fault(f"array elements can only be selected using an integer (got {key})", node.key.at)
            return base.element()
        if name is None:
            raise Fault(f"type {base}[{key}] is undefined", node.at)
        if base.fields is not None and name in base.fields:
            return base.fields[name]
        raise Fault(f"type {base} has no {'method' if node.method else 'field'} {name}", node.at)

    def slice(self, node: ast.Slice) -> Type:
        base = self.visit(node.base)
        if base.unknown:
            return UNKNOWN
        if not (base.array or base.kind == "string"):
            raise Fault(f"cannot slice {base}", node.at)
        for index in (node.start, node.end):
            if index is not None:
                found = self.visit(index)
                if not found.integer and not found.unknown:
                    raise Fault(f"non-integer slice index {found}", index.at)
        return base

    # --- calls

    def call(self, node: ast.Call) -> Type:
        callee = self.visit(node.callee)
        name = "function"
        if isinstance(node.callee, ast.Identifier):
            name = node.callee.name
        elif isinstance(node.callee, ast.Member) and isinstance(node.callee.key, ast.Constant):
            name = str(node.callee.key.value)
        if callee.unknown:
            # As in expr-lang, the arguments of a function of unknown type are not looked at: a name in them that does
            # not exist is nil when it runs.
            return UNKNOWN
        if callee.nil:
            raise Fault(f"{name} is nil; cannot call nil as function", node.at)
        if callee.function is None:
            raise Fault(f"{callee} is not callable", node.at)
        function = callee.function
        return self.arguments(name, function.parameters, function.result, node, variadic=function.variadic)

    def arguments(
        self,
        name: str,
        parameters: tuple[str, ...],
        result: str,
        node: ast.Call | ast.BuiltinCall,
        *,
        variadic: bool = False,
    ) -> Type:
        given = len(node.arguments)
        too_many = given > len(parameters) and not variadic
        if too_many or given < len(parameters) - variadic:
            for argument in node.arguments:  # what is wrong in them comes first
                self.visit(argument)
            raise _Mismatch(f"{'too many' if too_many else 'not enough'} arguments to call {name}", node.at)
        for index, argument in enumerate(node.arguments):
            wanted = Type(parameters[min(index, len(parameters) - 1)])
            found = self.visit(argument)
            if found.nil:
                if wanted.kind not in ("ptr", "interface"):
                    raise _Mismatch(f"cannot use nil as argument (type {wanted}) to call {name}", argument.at)
            elif not found.unknown and not found.assignable(wanted):
                raise _Mismatch(f"cannot use {found} as argument (type {wanted}) to call {name} ", argument.at)
        return Type(result)

    def builtin(self, node: ast.BuiltinCall) -> Type:
        if node.name in _PREDICATE_RESULTS:
            return self.predicate_call(node)
        if node.name == "get":
            return self.get(node)
        rule = signatures.RULES.get(node.name)
        if rule is not None:
            try:
                return rule([self.visit(argument) for argument in node.arguments])
            except signatures.Refused as refused:
                raise Fault(str(refused), node.at) from None
        *others, (parameters, result) = signatures.OVERLOADS[node.name]
        for other_parameters, other_result in others:
            try:
                return self.arguments(node.name, other_parameters, other_result, node)
            except _Mismatch:
                continue
        return self.arguments(node.name, parameters, result, node)

    def get(self, node: ast.BuiltinCall) -> Type:
        if len(node.arguments) != 2:
            raise Fault(f"invalid number of arguments (expected 2, got {len(node.arguments)})", node.at)
        base, key = (self.visit(argument) for argument in node.arguments)
        if base.unknown:
            return UNKNOWN
        if base.array:
            if not key.integer and not key.unknown:
                raise Fault(f"non-integer slice index {key}", node.arguments[1].at)
            return base.element()
        if base.kind == "map":
            if not key.assignable(base.key()) and not key.unknown:
                raise Fault(f"cannot use {key} to get an element from {base}", node.arguments[1].at)
            return base.element()
        raise Fault(f"type {base} does not support indexing", node.arguments[0].at)

    def predicate(self, node: ast.Predicate) -> Type:
        body = self.visit(node.body)
        return Type("func(interface {})", body=body)

    def predicate_call(self, node: ast.BuiltinCall) -> Type:
        """Check ``filter(xs, # > 1)`` and its like."""
        collection = self.visit(node.arguments[0])
        if not collection.array and not collection.unknown:
            raise Fault(f"builtin {node.name} takes only array (got {collection})", node.arguments[0].at)
        body: Type | None = None
        if len(node.arguments) > 1:
            extra = {"map": {"index": INT}, "reduce": {"index": INT, "acc": UNKNOWN}}.get(node.name, {})
            self.scopes.append(_Scope(collection, extra))
            body = self.visit(node.arguments[1]).body
            self.scopes.pop()
        if len(node.arguments) == 3:
            self.visit(node.arguments[2])
        return self.predicate_result(node, collection, body)

    def predicate_result(self, node: ast.BuiltinCall, collection: Type, body: Type | None) -> Type:
        if body is not None:
            if body.nil and node.name == "sum":
                found, wanted = "func(interface {})", "func(interface {}) bool"
                raise Fault(f"cannot use {found} as argument (type {wanted}) to call sum ", node.arguments[1].at)
            if body.nil:
                inputs = "two input" if node.name == "reduce" else "one input"
                raise Fault(f"predicate should has {inputs} and one output param", node.arguments[1].at)
            if node.name in _BOOLEAN_PREDICATES and not (body.kind == "bool" or body.unknown):
                raise Fault(f"predicate should return boolean (got {body})", node.arguments[1].at)
        return _PREDICATE_RESULTS[node.name](collection, body)


def _element(collection: Type) -> Type:
    return UNKNOWN if collection.unknown else collection.element()


_PREDICATE_RESULTS: dict[str, Callable[[Type, Type | None], Type]] = {
    **dict.fromkeys(("all", "none", "any", "one"), lambda *_: BOOL),
    **dict.fromkeys(("count", "findIndex", "findLastIndex"), lambda *_: INT),
    **dict.fromkeys(("find", "findLast"), lambda collection, _: _element(collection)),
    "filter": lambda collection, _: types.ARRAY if collection.unknown else types.array_of(collection.element()),
    "map": lambda _, body: types.array_of(body or UNKNOWN),
    "sum": lambda collection, body: _element(collection) if body is None else Type(body.name),
    "groupBy": lambda *_: Type("map[interface {}][]interface {}"),
    "sortBy": lambda collection, _: collection,
    "reduce": lambda _, body: body or UNKNOWN,
}
_BOOLEAN_PREDICATES = (
    "all", "none", "any", "one", "filter", "count", "find", "findLast", "findIndex", "findLastIndex",
)  # fmt: skip
BUILTIN_NAMES = frozenset([*_PREDICATE_RESULTS, *signatures.OVERLOADS, *signatures.RULES, "get"])


def _coalesced(left: Type, right: Type) -> Type:
    if left.nil != right.nil:
        return right if left.nil else left
    if left.nil:
        return NIL
    return left if right.assignable(left) else UNKNOWN


Class = Callable[[Type], bool]


def _number(item: Type) -> bool:
    return item.number


def _integer(item: Type) -> bool:
    return item.integer


def _text(item: Type) -> bool:
    return item.kind == "string"


def _bool(item: Type) -> bool:
    return item.kind == "bool"


def _time(item: Type) -> bool:
    return item.name == TIME.name


def _duration(item: Type) -> bool:
    return item.name == DURATION.name


def _combined(left: Type, right: Type) -> Type:
    return FLOAT if "float64" in (left.name, right.name) else INT


_COMPARISON: list[tuple[Class, Class, Type | None]] = [
    (same, same, BOOL) for same in (_number, _text, _time, _duration)
]
_PAIRS: dict[str, tuple[list[tuple[Class, Class, Type | None]], Type]] = {
    # operator: the pairs of classes that it takes with what they give (None: by the two), what unknown sides give
    **dict.fromkeys(("or", "||", "and", "&&"), ([(_bool, _bool, BOOL)], BOOL)),
    **dict.fromkeys(("<", ">", ">=", "<="), (_COMPARISON, BOOL)),
    "-": (
        [
            (_number, _number, None), (_time, _time, DURATION), (_time, _duration, TIME),
            (_duration, _duration, DURATION),
        ],
        UNKNOWN,
    ),
    "*": (
        [
            (_number, _number, None), (_number, _duration, DURATION), (_duration, _number, DURATION),
            (_duration, _duration, DURATION),
        ],
        UNKNOWN,
    ),
    "/": ([(_number, _number, FLOAT)], FLOAT),
    **dict.fromkeys(("**", "^"), ([(_number, _number, FLOAT)], FLOAT)),
    "%": ([(_integer, _integer, INT)], INT),
    "+": (
        [
            (_number, _number, None), (_text, _text, STRING), (_time, _duration, TIME), (_duration, _time, TIME),
            (_duration, _duration, DURATION),
        ],
        UNKNOWN,
    ),
    **dict.fromkeys(("matches", "contains", "startsWith", "endsWith"), ([(_text, _text, BOOL)], BOOL)),
    "..": ([(_integer, _integer, types.array_of(INT))], types.array_of(INT)),
}  # fmt: skip


def _result_of(operator: str, left: Type, right: Type) -> Type | None:
    pairs, otherwise = _PAIRS[operator]
    for takes_left, takes_right, result in pairs:
        if takes_left(left) and takes_right(right):
            return _combined(left, right) if result is None else result
    known = right if left.unknown else left
    if left.unknown and right.unknown:
        return otherwise
    if (left.unknown or right.unknown) and any(takes(known) for pair in pairs for takes in pair[:2]):
        return otherwise
    return None


_VISITORS: dict[type[ast.Node], Callable[..., Type]] = {
    ast.Constant: _Checker.constant,
    ast.Identifier: _Checker.identifier,
    ast.Unary: _Checker.unary,
    ast.Binary: _Checker.binary,
    ast.Chain: _Checker.chain,
    ast.Member: _Checker.member,
    ast.Slice: _Checker.slice,
    ast.Call: _Checker.call,
    ast.BuiltinCall: _Checker.builtin,
    ast.Predicate: _Checker.predicate,
    ast.Pointer: _Checker.pointer,
    ast.Let: _Checker.let,
    ast.Sequence: _Checker.sequence,
    ast.Conditional: _Checker.conditional,
    ast.Array: _Checker.array,
    ast.Map: _Checker.map,
}
