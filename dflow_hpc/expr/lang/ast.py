"""The tree of an expression.

Each node knows where it stands in the text (``at``) and, after the checker has seen it, what type it has (``type``).
Trap: the optimizer replaces nodes, so what is compiled is not always what was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dflow_hpc.expr.lang.types import UNKNOWN, Type


@dataclass(eq=False)
class Node:
    """Any node."""

    at: int = field(default=0, kw_only=True)
    type: Type = field(default=UNKNOWN, kw_only=True, repr=False)


@dataclass(eq=False)
class Constant(Node):
    """A literal, or a value that the optimizer computed: int, float, str, bool, None, list."""

    value: Any


@dataclass(eq=False)
class Identifier(Node):
    """A name: a variable of ``let``, of the environment, or a function."""

    name: str


@dataclass(eq=False)
class Unary(Node):
    """``-x``, ``+x``, ``!x``, ``not x``."""

    operator: str
    operand: Node


@dataclass(eq=False)
class Binary(Node):
    """``x + y`` and every other operator with two sides."""

    operator: str
    left: Node
    right: Node


@dataclass(eq=False)
class Chain(Node):
    """The whole of ``a?.b.c``: nil as soon as an optional member is reached through nil."""

    operand: Node


@dataclass(eq=False)
class Member(Node):
    """``x.name``, ``x[key]``, and their optional forms."""

    base: Node
    key: Node
    optional: bool = False
    method: bool = False


@dataclass(eq=False)
class Slice(Node):
    """``x[from:to]``."""

    base: Node
    start: Node | None
    end: Node | None


@dataclass(eq=False)
class Call(Node):
    """A call of a function of the environment."""

    callee: Node
    arguments: list[Node]


@dataclass(eq=False)
class BuiltinCall(Node):
    """A call of a function of the language.

    Attributes:
        throws: Whether finding nothing is an error: the optimizer makes ``find`` of ``filter(...)[0]``.
    """

    name: str
    arguments: list[Node]
    throws: bool = False


@dataclass(eq=False)
class Predicate(Node):
    """The ``# > 1`` in ``filter(xs, # > 1)``."""

    body: Node


@dataclass(eq=False)
class Pointer(Node):
    """``#``, ``#index``, ``#acc``, and the ``.`` of ``.name``."""

    name: str


@dataclass(eq=False)
class Let(Node):
    """``let name = value; body``."""

    name: str
    value: Node
    body: Node


@dataclass(eq=False)
class Sequence(Node):
    """``a; b; c``: the last one's value."""

    items: list[Node]


@dataclass(eq=False)
class Conditional(Node):
    """``c ? a : b`` and ``if c { a } else { b }``."""

    condition: Node
    then: Node
    otherwise: Node


@dataclass(eq=False)
class Array(Node):
    """``[a, b]``."""

    items: list[Node]


@dataclass(eq=False)
class Map(Node):
    """``{a: 1}``; keys and values one after the other."""

    items: list[Node]
