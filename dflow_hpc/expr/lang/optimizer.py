"""What expr-lang computes or rewrites before it runs an expression, as far as it shows.

It shows in errors and in what is evaluated at all: ``x && false`` never looks at ``x``, ``1 % 0`` does not compile,
``filter(xs, p)[0]`` stops at the first hit, ``x in ["a", "b"]`` wants ``x`` to be a string. Rewrites that only make
things faster are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from dflow_hpc.expr import golang
from dflow_hpc.expr.lang import ast, runtime, types
from dflow_hpc.expr.lang.errors import Fault

_MAX_ROUNDS = 1000


def optimize(node: ast.Node) -> ast.Node:
    """Return the expression as it runs.

    Raises:
        Fault: It divides by the constant zero.
    """
    node, _ = _rewrite(node, _membership)
    for _ in range(_MAX_ROUNDS):
        node, changed = _rewrite(node, _fold)
        if not changed:
            break
    for rule in (_range_membership, _first_found, _sum_of_array):
        node, _ = _rewrite(node, rule)
    return node


Rule = Callable[[Any], "ast.Node | None"]


def _rewrite(node: ast.Node, rule: Rule) -> tuple[ast.Node, bool]:
    """Apply a rule to each node, those below first; a new node takes the place of the old in the text."""
    changed = False
    for name in _CHILDREN[type(node)]:
        value = getattr(node, name)
        if isinstance(value, list):
            for index, item in enumerate(value):
                value[index], new = _rewrite(item, rule)
                changed |= new
        elif value is not None:
            made, new = _rewrite(value, rule)
            if new or made is not value:
                setattr(node, name, made)
                changed = True
    made_here = rule(node)
    if made_here is None:
        return node, changed
    made_here.at = node.at
    return made_here, True


_CHILDREN: dict[type[ast.Node], tuple[str, ...]] = {
    kind: tuple(
        item.name for item in fields(kind) if item.name not in ("at", "type") and "Node" in str(item.type)
    )
    for kind in (
        ast.Constant, ast.Identifier, ast.Unary, ast.Binary, ast.Chain, ast.Member, ast.Slice, ast.Call,
        ast.BuiltinCall, ast.Predicate, ast.Pointer, ast.Let, ast.Sequence, ast.Conditional, ast.Array, ast.Map,
    )
}  # fmt: skip


def _constant(value: Any) -> ast.Constant:
    return ast.Constant(value, type=types.type_of(value))


def _values(nodes: list[ast.Node], *kinds: type) -> list[Any] | None:
    """Return the values of nodes that are all constants of the kinds, else None."""
    found = [node.value for node in nodes if isinstance(node, ast.Constant) and type(node.value) in kinds]
    return found if len(found) == len(nodes) else None


def _membership(node: ast.Node) -> ast.Node | None:
    if not (isinstance(node, ast.Binary) and node.operator == "in" and isinstance(node.right, ast.Array)):
        return None
    items = node.right.items
    for kind, name in ((int, "int"), (str, "string")):
        if kind is int and node.left.type.name != "int":
            continue
        values = _values(items, kind)
        if values:
            keys = golang.TypedMap(dict.fromkeys(values), f"map[{name}]struct {{}}")
            return ast.Binary("in", node.left, _constant(keys), type=node.type)
    return None


def _fold(node: ast.Node) -> ast.Node | None:
    if isinstance(node, ast.Unary):
        return _fold_unary(node)
    if isinstance(node, ast.Binary):
        return _fold_boolean(node) if node.operator in _BOOLEAN else _fold_binary(node)
    if isinstance(node, ast.Array) and node.items:
        values = _values(node.items, int, float, str, bool)
        return None if values is None else _constant(values)
    if isinstance(node, ast.BuiltinCall) and node.name == "filter":
        inner = node.arguments[0]
        if isinstance(inner, ast.BuiltinCall) and inner.name == "filter":
            bodies = [predicate.body for predicate in (inner.arguments[1], node.arguments[1])]  # type: ignore[attr-defined]
            return ast.BuiltinCall("filter", [inner.arguments[0], ast.Binary("&&", *bodies)], type=node.type)
    return None


def _fold_unary(node: ast.Unary) -> ast.Node | None:
    value = node.operand.value if isinstance(node.operand, ast.Constant) else None
    if node.operator in ("!", "not"):
        return _constant(not value) if isinstance(value, bool) else None
    if type(value) not in (int, float):
        return None
    return _constant(runtime.negate(value) if node.operator == "-" else value)


_BOOLEAN = {"and": True, "&&": True, "or": False, "||": False}
_ARITHMETIC = frozenset(["+", "-", "*", "/", "**", "^"])


def _fold_boolean(node: ast.Binary) -> ast.Node | None:
    """Drop the side that decides nothing; the side that decides alone wins."""
    neutral = _BOOLEAN[node.operator]
    sides = [side.value if isinstance(side, ast.Constant) else None for side in (node.left, node.right)]
    if sides[0] is neutral:
        return node.right
    if sides[1] is neutral:
        return node.left
    return _constant(not neutral) if (not neutral) in [side for side in sides if isinstance(side, bool)] else None


def _fold_binary(node: ast.Binary) -> ast.Node | None:
    if not (isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant)):
        return None
    left, right = node.left.value, node.right.value
    kinds = {type(left), type(right)}
    if kinds <= {int, float} and node.operator in _ARITHMETIC:
        return _constant(runtime.arithmetic(node.operator, left, right))
    if kinds == {int} and node.operator == "%":
        if right == 0:
            raise Fault("integer divide by zero", node.at)
        return _constant(runtime.arithmetic("%", left, right))
    if kinds == {str} and node.operator == "+":
        return _constant(left + right)
    if node.operator == "==" and kinds in ({int}, {str}, {bool}):
        return _constant(left == right)
    return None


def _range_membership(node: ast.Node) -> ast.Node | None:
    if not (isinstance(node, ast.Binary) and node.operator == "in" and node.left.type.name == "int"):
        return None
    span = node.right
    if not (isinstance(span, ast.Binary) and span.operator == ".." and _values([span.left, span.right], int)):
        return None
    above = ast.Binary(">=", node.left, span.left, type=types.BOOL)
    return ast.Binary("and", above, ast.Binary("<=", node.left, span.right, type=types.BOOL), type=node.type)


def _first_found(node: ast.Node) -> ast.Node | None:
    if isinstance(node, ast.Member) and not node.optional and isinstance(node.key, ast.Constant):
        filtered, throws = node.base, True
        find = {0: "find", -1: "findLast"}.get(node.key.value) if type(node.key.value) is int else None
    elif isinstance(node, ast.BuiltinCall) and len(node.arguments) == 1:
        filtered, throws = node.arguments[0], False
        find = {"first": "find", "last": "findLast"}.get(node.name)
    else:
        return None
    if find is None or not (isinstance(filtered, ast.BuiltinCall) and filtered.name == "filter"):
        return None
    return ast.BuiltinCall(find, filtered.arguments, throws, type=node.type)


def _sum_of_array(node: ast.Node) -> ast.Node | None:
    if not (isinstance(node, ast.BuiltinCall) and node.name == "sum" and len(node.arguments) == 1):
        return None
    array = node.arguments[0]
    if not (isinstance(array, ast.Array) and len(array.items) > 1):
        return None
    total = array.items[-1]
    for item in reversed(array.items[:-1]):
        total = ast.Binary("+", item, total)
    total.type = node.type
    return total
