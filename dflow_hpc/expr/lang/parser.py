"""Tokens into a tree: a Pratt parser with the precedences of expr-lang.

Trap: ``not`` binds tighter than ``==``; ``-`` binds looser than ``**``; ``??`` may not be mixed with other operators
without parentheses; ``a < b < c`` means ``a < b && b < c``.
"""

from __future__ import annotations

from collections.abc import Collection

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.expr.lang import ast
from dflow_hpc.expr.lang.errors import Fault
from dflow_hpc.expr.lang.lexer import BRACKET, EOF, IDENTIFIER, NUMBER, OPERATOR, STRING, Token, is_word, lex

_MAX_NODES = 10_000
_MAX_DEPTH = 100
"""Nesting beyond this is refused: each level costs several frames of Python's stack."""

UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
BINARY = {
    "|": 0, "or": 10, "||": 10, "and": 15, "&&": 15, "==": 20, "!=": 20, "<": 20, ">": 20, ">=": 20, "<=": 20,
    "in": 20, "matches": 20, "contains": 20, "startsWith": 20, "endsWith": 20, "..": 25, "+": 30, "-": 30, "*": 60,
    "/": 60, "%": 60, "**": 100, "^": 100, "??": 500,
}  # fmt: skip
_RIGHT_ASSOCIATIVE = ("**", "^")
_COMPARISONS = ("<", ">", ">=", "<=")
_NEGATABLE = ("contains", "matches", "startsWith", "endsWith", "in")

_EXPRESSION, _PREDICATE, _OPTIONAL_PREDICATE, _OPTIONAL_EXPRESSION = range(4)
PREDICATES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        ("all", "none", "any", "one", "filter", "map", "find", "findIndex", "findLast", "findLastIndex", "groupBy"),
        (_EXPRESSION, _PREDICATE),
    ),
    **dict.fromkeys(("count", "sum"), (_EXPRESSION, _OPTIONAL_PREDICATE)),
    **dict.fromkeys(("sortBy", "reduce"), (_EXPRESSION, _PREDICATE, _OPTIONAL_EXPRESSION)),
}
"""Functions that take a predicate, and what their arguments are."""


def parse(source: str, builtins: Collection[str], hidden: Collection[str] = ()) -> ast.Node:
    """Parse a text.

    Args:
        source: The text.
        builtins: Names that mean functions of the language when they are called.
        hidden: Those of them that mean something else in the environment; ``::name()`` reaches the function still.

    Raises:
        ExpressionError: It is not an expression, with place and source line.
    """
    tokens = lex(source)
    try:
        return _Parser(tokens, builtins, hidden).run()
    except Fault as fault:
        raise fault.bind(source) from None


class _Parser:
    def __init__(self, tokens: list[Token], builtins: Collection[str], hidden: Collection[str]):
        self.tokens, self.builtins, self.hidden = tokens, builtins, hidden
        self.position, self.current = 0, tokens[0]
        self.predicates = 0  # how many predicates we are in
        self.nodes = 0
        self.depth = 0

    def run(self) -> ast.Node:
        node = self.sequence()
        if self.current.kind != EOF:
            raise self.unexpected(self.current)
        return node

    # --- tokens

    def unexpected(self, token: Token) -> Fault:
        return Fault(f"unexpected token {token}", token.at)

    def fault(self, message: str) -> Fault:
        return Fault(message, self.current.at)

    def next(self) -> None:
        self.position += 1
        if self.position >= len(self.tokens):
            raise self.fault("unexpected end of expression")
        self.current = self.tokens[self.position]

    def expect(self, kind: str, *values: str) -> Token:
        token = self.current
        if not token.is_(kind, *values):
            raise self.unexpected(token)
        self.next()
        return token

    def counted(self, node: ast.Node) -> ast.Node:
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise self.fault("compilation failed: expression exceeds maximum allowed nodes")
        return node

    # --- expressions

    def sequence(self) -> ast.Node:
        items = [self.expression(0)]
        while self.current.is_(OPERATOR, ";"):
            self.next()
            if self.current.kind == EOF:
                break
            items.append(self.expression(0))
        return items[0] if len(items) == 1 else self.counted(ast.Sequence(items, at=items[0].at))

    def expression(self, precedence: int) -> ast.Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.fault(f"compilation failed: expression nests deeper than {_MAX_DEPTH} levels")
        try:
            if precedence == 0 and self.current.is_(OPERATOR, "let"):
                return self.let()
            if precedence == 0 and self.current.is_(OPERATOR, "if"):
                return self.condition_if()
            node = self.operators(self.primary(), precedence)
            return self.conditional(node) if precedence == 0 else node
        finally:
            self.depth -= 1

    def operators(self, left: ast.Node, precedence: int) -> ast.Node:
        """Read the operators after ``left`` that bind at least as tightly as ``precedence``."""
        before = ""
        while self.current.kind == OPERATOR:
            token, negation = self.current, None
            if token.value == "not":
                position = self.position
                self.next()
                if self.current.value not in _NEGATABLE:
                    raise self.unexpected(self.current)
                if BINARY[self.current.value] < precedence:
                    self.position, self.current = position, token
                    break
                token = negation = self.current
            own = BINARY.get(token.value)
            if own is None or own < precedence:
                break
            self.next()
            if token.value == "|":
                left = self.call(self.expect(IDENTIFIER), [left])
            elif before == "??" and token.value != "??":
                raise Fault(
                    f"Operator ({token.value}) and coalesce expressions (??) cannot be mixed. "
                    "Wrap either by parentheses.",
                    token.at,
                )
            elif token.value in _COMPARISONS:
                left = self.comparison(left, token, own)
            else:
                right = self.expression(own if token.value in _RIGHT_ASSOCIATIVE else own + 1)
                left = self.counted(ast.Binary(token.value, left, right, at=token.at))
                if negation is not None:
                    left = self.counted(ast.Unary("not", left, at=negation.at))
            before = token.value
        return left

    def comparison(self, left: ast.Node, token: Token, precedence: int) -> ast.Node:
        """Read ``< b <= c``: each pair compared, all of them true."""
        root: ast.Node | None = None
        while True:
            right = self.expression(precedence + 1)
            pair = self.counted(ast.Binary(token.value, left, right, at=token.at))
            root = pair if root is None else self.counted(ast.Binary("&&", root, pair, at=token.at))
            left, token = right, self.current
            if not token.is_(OPERATOR, *_COMPARISONS):
                return root
            self.next()

    def let(self) -> ast.Node:
        self.expect(OPERATOR, "let")
        name = self.expect(IDENTIFIER)
        self.expect(OPERATOR, "=")
        value = self.expression(0)
        self.expect(OPERATOR, ";")
        return self.counted(ast.Let(name.value, value, self.sequence(), at=name.at))

    def condition_if(self) -> ast.Node:
        self.next()
        condition = self.expression(0)
        self.expect(BRACKET, "{")
        then = self.sequence()
        self.expect(BRACKET, "}")
        self.expect(OPERATOR, "else")
        self.expect(BRACKET, "{")
        otherwise = self.sequence()
        self.expect(BRACKET, "}")
        return ast.Conditional(condition, then, otherwise)

    def conditional(self, node: ast.Node) -> ast.Node:
        while self.current.is_(OPERATOR, "?"):
            self.next()
            if self.current.is_(OPERATOR, ":"):
                self.next()
                then, otherwise = node, self.expression(0)
            else:
                then = self.expression(0)
                self.expect(OPERATOR, ":")
                otherwise = self.expression(0)
            node = self.counted(ast.Conditional(node, then, otherwise, at=self.current.at))
        return node

    def primary(self) -> ast.Node:
        token = self.current
        if token.kind == OPERATOR and token.value in UNARY:
            self.next()
            operand = self.expression(UNARY[token.value])
            return self.postfix(self.counted(ast.Unary(token.value, operand, at=token.at)))
        if token.is_(BRACKET, "("):
            self.next()
            node = self.sequence()
            self.expect(BRACKET, ")")
            return self.postfix(node)
        if self.predicates and token.is_(OPERATOR, "#", "."):
            return self.postfix(self.pointer())
        if token.is_(OPERATOR, "::"):
            self.next()
            return self.postfix(self.call(self.expect(IDENTIFIER), [], global_=True))
        return self.secondary()

    def pointer(self) -> ast.Node:
        token, name = self.current, ""
        if token.value == "#":
            self.next()
            if self.current.kind == IDENTIFIER:
                name = self.current.value
                self.next()
        return self.counted(ast.Pointer(name, at=token.at))

    def secondary(self) -> ast.Node:
        token = self.current
        if token.kind == IDENTIFIER:
            self.next()
            if token.value in _WORDS:
                return self.counted(ast.Constant(_WORDS[token.value], at=token.at))
            if self.current.is_(BRACKET, "("):
                return self.postfix(self.call(token, []))
            return self.postfix(self.counted(ast.Identifier(token.value, at=token.at)))
        if token.kind == NUMBER:
            self.next()
            return self.counted(ast.Constant(self.number(token.value), at=token.at))
        if token.kind == STRING:
            self.next()
            return self.postfix(self.counted(ast.Constant(token.value, at=token.at)))
        if token.is_(BRACKET, "["):
            return self.postfix(self.array())
        if token.is_(BRACKET, "{"):
            return self.postfix(self.map())
        raise self.unexpected(token)

    def number(self, text: str) -> int | float:
        digits = text.replace("_", "")
        prefix = digits[:2].lower()
        name = {"0x": "hex", "0b": "binary", "0o": "octal"}.get(prefix, "integer")
        if prefix != "0x" and any(character in digits for character in ".eE"):
            name = "float"
        try:
            if name == "float":
                return golang.parse_float(digits)
            return golang.parse_int(digits, 10 if name == "integer" else 0)
        except ExpressionError as error:
            raise self.fault(f"invalid {name} literal: {error}") from None

    def call(self, name: Token, arguments: list[ast.Node], *, global_: bool = False) -> ast.Node:
        """Read the arguments of a call; ``a | f(b)`` brings the first one along.

        Args:
            name: The function.
            arguments: Those that stand before the parenthesis.
            global_: Whether the environment cannot hide a function of the language (after ``::``).
        """
        builtin = name.value in self.builtins and (global_ or name.value not in self.hidden)
        if builtin and name.value in PREDICATES:
            return self.counted(
                ast.BuiltinCall(name.value, self.predicate_arguments(name.value, arguments), at=name.at)
            )
        if builtin:
            return self.counted(ast.BuiltinCall(name.value, self.arguments(arguments), at=name.at))
        callee = self.counted(ast.Identifier(name.value, at=name.at))
        return self.counted(ast.Call(callee, self.arguments(arguments), at=name.at))

    def predicate_arguments(self, name: str, arguments: list[ast.Node]) -> list[ast.Node]:
        self.expect(BRACKET, "(")
        wanted = PREDICATES[name][len(arguments) :]
        arguments = list(arguments)
        for index, what in enumerate(wanted):
            if self.current.is_(BRACKET, ")"):
                if what in (_OPTIONAL_PREDICATE, _OPTIONAL_EXPRESSION):
                    break
                raise self.fault(f"expected at least {len(wanted)} arguments")
            if index > 0:
                self.expect(OPERATOR, ",")
            predicate = what in (_PREDICATE, _OPTIONAL_PREDICATE)
            arguments.append(self.predicate() if predicate else self.expression(0))
        if self.current.is_(OPERATOR, ","):
            self.next()
        self.expect(BRACKET, ")")
        return arguments

    def arguments(self, arguments: list[ast.Node]) -> list[ast.Node]:
        return arguments + self.comma_separated("(", ")")

    def comma_separated(self, opening: str, closing: str) -> list[ast.Node]:
        self.expect(BRACKET, opening)
        items: list[ast.Node] = []
        while not self.current.is_(BRACKET, closing):
            if items:
                self.expect(OPERATOR, ",")
                if self.current.is_(BRACKET, closing):
                    break
            items.append(self.expression(0))
        self.expect(BRACKET, closing)
        return items

    def predicate(self) -> ast.Node:
        start = self.current
        braces = start.is_(BRACKET, "{")
        self.predicates += 1
        if braces:
            self.next()
            node = self.sequence()
        else:
            node = self.expression(0)
            if self.current.is_(OPERATOR, ";"):
                raise self.fault("wrap predicate with brackets { and }")
        self.predicates -= 1
        if braces:
            self.expect(BRACKET, "}")
        return self.counted(ast.Predicate(node, at=start.at))

    def array(self) -> ast.Node:
        at = self.current.at
        return self.counted(ast.Array(self.comma_separated("[", "]"), at=at))

    def map(self) -> ast.Node:
        at = self.expect(BRACKET, "{").at
        items: list[ast.Node] = []
        while not self.current.is_(BRACKET, "}"):
            if items:
                self.expect(OPERATOR, ",")
                if self.current.is_(BRACKET, "}"):
                    break
                if self.current.is_(OPERATOR, ","):
                    raise self.unexpected(self.current)
            items.append(self.map_key())
            self.expect(OPERATOR, ":")
            items.append(self.expression(0))
            self.nodes += 1
        self.expect(BRACKET, "}")
        return self.counted(ast.Map(items, at=at))

    def map_key(self) -> ast.Node:
        token = self.current
        if token.kind in (NUMBER, STRING, IDENTIFIER):
            self.next()
            return self.counted(ast.Constant(token.value, at=token.at))
        if token.is_(BRACKET, "("):
            return self.expression(0)
        raise self.fault(
            "a map key must be a quoted string, a number, a identifier, or an expression enclosed in parentheses "
            f"(unexpected token {token})"
        )

    # --- what follows a value

    def postfix(self, node: ast.Node) -> ast.Node:
        depth = 0
        while True:
            token = self.current
            if token.kind not in (OPERATOR, BRACKET) or token.value not in (".", "?.", "["):
                return node
            depth += 1
            if depth > _MAX_DEPTH:
                raise self.fault(f"compilation failed: expression nests deeper than {_MAX_DEPTH} levels")
            if token.value == "[":
                node = self.index(node, optional=False)
                continue
            self.next()
            if token.value == "?." and self.current.is_(BRACKET, "["):
                node = self.index(node, optional=True)
            else:
                node = self.member(node, optional=token.value == "?.")

    def member(self, node: ast.Node, *, optional: bool) -> ast.Node:
        name = self.current
        self.next()
        if name.kind != IDENTIFIER and not (name.kind == OPERATOR and is_word(name.value[0])):
            raise self.fault("expected name")
        key = self.counted(ast.Constant(name.value, at=name.at))
        chained = isinstance(node, ast.Chain)
        base = node.operand if isinstance(node, ast.Chain) else node
        member = ast.Member(base, key, optional, at=name.at)
        result: ast.Node = self.counted(member)
        if self.current.is_(BRACKET, "("):
            member.method = True
            result = self.counted(ast.Call(member, self.arguments([]), at=name.at))
        if chained or optional:
            result = self.counted(ast.Chain(result, at=name.at))
        return result

    def index(self, node: ast.Node, *, optional: bool) -> ast.Node:
        """Read ``[key]``, ``[from:to]`` and their short forms."""
        at = self.expect(BRACKET, "[").at
        start = None if self.current.is_(OPERATOR, ":") else self.expression(0)
        if self.current.is_(OPERATOR, ":"):
            self.next()
            end = None if self.current.is_(BRACKET, "]") else self.expression(0)
            result = self.counted(ast.Slice(node, start, end, at=at))
        else:
            assert start is not None  # noqa: S101  (there was no colon)
            result = self.counted(ast.Member(node, start, optional, at=at))
            if optional:
                result = self.counted(ast.Chain(result, at=at))
        self.expect(BRACKET, "]")
        return result


_WORDS = {"true": True, "false": False, "nil": None}
