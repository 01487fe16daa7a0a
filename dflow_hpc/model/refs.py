"""References and expressions: what an author gets by ``step.outputs.parameters["x"]`` and computes with.

A reference prints as Argo's tag (``{{steps.a.outputs.parameters.x}}``), so it works in f-strings; operators give
expressions (``{{=asFloat(...) + 1}}``) in expr-lang, which both engines evaluate when the workflow runs.

Not here: the classes of parameters and artifacts (``io.py``), loops (``loops.py``).

Trap: nothing of this has a value while the workflow is being built. Python would silently take ``if ref > 3:`` for
true, so ``bool()`` of an expression, ``in`` and iteration raise and say what to write. Hashes are by identity.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import json
import re
from typing import Any, NoReturn, Optional, Tuple

from dflow_hpc.errors import ModelError

TEXT, NUMBER, BOOL, ANY = "text", "number", "bool", "any"
"""What an expression yields at run time. Parameters are always text, whatever their type."""


class ArgoVar:
    """An expression over values that exist only at run time.

    Args:
        expr: Its text in expr-lang.
        kind: What it yields: ``text``, ``number``, ``bool`` or ``any``.
        sources: The parameters that it reads; the compiler checks that they are in scope.
    """

    def __init__(self, expr: str = "", kind: str = ANY, sources: Tuple[Any, ...] = ()):
        self._expr = expr
        self.kind = kind
        self.sources = sources

    @property
    def expr(self) -> str:
        """The text in expr-lang, without braces."""
        return self._expr

    def __str__(self) -> str:
        return f"{{{{={self.expr}}}}}"

    def __repr__(self) -> str:
        return str(self)

    __hash__ = object.__hash__

    # -- comparisons -------------------------------------------------------------------------------------------------

    def __eq__(self, other: Any) -> "ArgoVar":  # type: ignore[override]
        return _compare(self, "==", other)

    def __ne__(self, other: Any) -> "ArgoVar":  # type: ignore[override]
        return _compare(self, "!=", other)

    def __lt__(self, other: Any) -> "ArgoVar":
        return _order(self, "<", other)

    def __le__(self, other: Any) -> "ArgoVar":
        return _order(self, "<=", other)

    def __gt__(self, other: Any) -> "ArgoVar":
        return _order(self, ">", other)

    def __ge__(self, other: Any) -> "ArgoVar":
        return _order(self, ">=", other)

    def __and__(self, other: Any) -> "ArgoVar":
        return ArgoVar(f"{condition(self)} && {condition(other)}", BOOL, _sources(self, other))

    def __or__(self, other: Any) -> "ArgoVar":
        return ArgoVar(f"{condition(self)} || {condition(other)}", BOOL, _sources(self, other))

    def __invert__(self) -> "ArgoVar":
        return ArgoVar(f"!{condition(self)}", BOOL, _sources(self))

    # -- arithmetic --------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        return str(self) + other if isinstance(other, str) else _arithmetic(self, "+", other)

    def __radd__(self, other: Any) -> Any:
        return other + str(self) if isinstance(other, str) else _arithmetic(other, "+", self)

    def __sub__(self, other: Any) -> "ArgoVar":
        return _arithmetic(self, "-", other)

    def __rsub__(self, other: Any) -> "ArgoVar":
        return _arithmetic(other, "-", self)

    def __mul__(self, other: Any) -> "ArgoVar":
        return _arithmetic(self, "*", other)

    def __rmul__(self, other: Any) -> "ArgoVar":
        return _arithmetic(other, "*", self)

    def __truediv__(self, other: Any) -> "ArgoVar":
        return _arithmetic(self, "/", other)

    def __rtruediv__(self, other: Any) -> "ArgoVar":
        return _arithmetic(other, "/", self)

    def __getitem__(self, key: Any) -> "ArgoVar":
        """Return the element ``key`` of a list or dict that a parameter holds as JSON."""
        text = self.expr if self.kind == TEXT else f"toJson({self.expr})"
        if isinstance(key, ArgoVar):
            path = "'$[' + %s + ']'" % (key.expr if key.kind == TEXT else f"string({key.expr})")
            return ArgoVar(f"jsonpath({text}, {path})", ANY, _sources(self, key))
        if not isinstance(key, (int, str)) or isinstance(key, bool):
            raise ModelError(
                f"{self}[{key!r}] was asked for; the elements of a parameter are found by an integer, a text or a "
                "reference. Slice it in an OP instead."
            )
        path = f"[{key}]" if isinstance(key, int) else "['{}']".format(key.replace("'", "\\'"))
        return ArgoVar("jsonpath({}, {})".format(text, text_literal("$" + path)), ANY, _sources(self))

    # -- what has no meaning before the workflow runs ----------------------------------------------------------------

    def __bool__(self) -> bool:  # noqa: PLE0304  (it never returns)
        _refuse(
            self,
            "used as a Python truth value (`if`, `and`, `or`, `not`, `in`, chained comparison)",
            "Give the condition to the step, `Step(..., when=condition)`, choose a value by "
            "`if_expression(condition, then, else)`, and join conditions by `&`, `|`, `~`",
        )

    def __iter__(self) -> Any:
        _refuse(self, "iterated over", "Use `with_param=` to run a step for each element, or `ref[i]` for one")

    def __contains__(self, item: Any) -> bool:
        _refuse(self, "searched by `in`", "Do it inside an OP")

    def __len__(self) -> int:  # noqa: PLE0303  (it never returns)
        _refuse(self, "asked for its len()", "Use `argo_len(ref)`")

    def __int__(self) -> int:
        _refuse(self, "converted to a number", "Compute with it as it is: `ref + 1` is an expression")

    def __float__(self) -> float:
        _refuse(self, "converted to a number", "Compute with it as it is: `ref + 1` is an expression")

    __index__ = __int__


def _refuse(reference: ArgoVar, what: str, instead: str) -> NoReturn:
    raise ModelError(f"{reference} was {what}; it has no value before the workflow runs. {instead}, or do it in an OP.")


class IfExpression(ArgoVar):
    """``condition ? then : else``, chosen when the workflow runs; the branch not chosen need not exist.

    Args:
        _if: A condition: an expression, a parameter that holds ``true``, or expr-lang text.
        _then: What it is when the condition holds: a reference (parameters or artifacts) or a constant.
        _else: What it is otherwise.
    """

    def __init__(self, _if: Any, _then: Any, _else: Any):
        super().__init__("", TEXT)
        self._if, self._then, self._else = _if, _then, _else

    @property
    def expr(self) -> str:
        """The text in expr-lang; made late, since a branch may be declared after the choice."""
        return f"{condition(self._if)} ? {branch(self._then)} : {branch(self._else)}"

    @property
    def branches(self) -> Tuple[Any, Any]:
        """``(then, else)``."""
        return self._then, self._else

    @property
    def sources(self) -> Tuple[Any, ...]:
        """The parameters that its condition and its branches read."""
        return _sources(self._if, self._then, self._else)

    @sources.setter
    def sources(self, value: Tuple[Any, ...]) -> None:
        """The base class's constructor sets it; what counts are the parts."""


def if_expression(_if: Any, _then: Any, _else: Any) -> IfExpression:
    """Choose between two values, or two artifacts, when the workflow runs.

    A falsy ``_then`` is chosen as any other; dflow's local mode takes ``_else`` for it.

    Args:
        _if: An expression (``step.outputs.parameters["x"] > 3``), a boolean parameter, or expr-lang text.
        _then: Reference or constant.
        _else: Reference or constant.

    Returns:
        What ``value_from_expression``, ``from_expression`` or a step's parameter takes.
    """
    return IfExpression(_if, _then, _else)


def condition(value: Any) -> str:
    """Return expr-lang text that yields a bool, in parentheses where it needs them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"({value})"
    if not isinstance(value, ArgoVar):
        raise ModelError(
            f"{value!r} was given as a condition; a condition is an expression such as `ref > 3`, a boolean "
            "parameter, or expr-lang text."
        )
    return f"({value.expr})" if value.kind == BOOL else f"({_as_text(value)} == 'true')"


def branch(value: Any) -> str:
    """Return expr-lang text for one branch of an ``if_expression``."""
    if isinstance(value, ArgoVar):
        return operand(value)
    expr = getattr(value, "expr", None)
    return expr if isinstance(expr, str) else text_literal(constant_text(value))


def text_literal(text: str) -> str:
    """Return ``text`` as a string literal of expr-lang.

    ``}}`` is split, because it would end the tag around the expression.
    """
    body = json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'")
    return "'{}'".format(re.sub(r"\}(?=\})", "}' + '", body))


def constant_text(value: Any) -> str:
    """Return the text of a constant as a parameter carries it: a text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    from dflow_hpc.op.values import dump  # needed for constants only

    return dump(value)


def _sources(*values: Any) -> Tuple[Any, ...]:
    found: Tuple[Any, ...] = ()
    for value in values:
        own = getattr(value, "sources", None)
        if own is not None:
            found += own
    return found


def _as_text(value: ArgoVar) -> str:
    return operand(value) if value.kind == TEXT else f"string({value.expr})"


def operand(value: ArgoVar) -> str:
    """Return an expression that can stand beside an operator; of all that we write, only ``?:`` binds less."""
    return f"({value.expr})" if " ? " in value.expr else value.expr


def _compare(left: ArgoVar, operator: str, right: Any) -> ArgoVar:
    sources = _sources(left, right)
    if isinstance(right, ArgoVar):
        if NUMBER in (left.kind, right.kind):
            return _order(left, operator, right)
        return ArgoVar(f"{_as_text(left)} {operator} {_as_text(right)}", BOOL, sources)
    if isinstance(right, float) or (left.kind == NUMBER and isinstance(right, (int, float))):
        return _order(left, operator, right)
    if left.kind == TEXT:  # the text of a parameter is compared: 'true', '3', 'null'
        return ArgoVar(f"{operand(left)} {operator} {text_literal(constant_text(right))}", BOOL, sources)
    if isinstance(right, str):
        literal: Optional[str] = text_literal(right)
    elif right is None:
        literal = "nil"
    else:
        literal = constant_text(right)
    return ArgoVar(f"{_parenthesised(left)} {operator} {literal}", BOOL, sources)


def _parenthesised(value: ArgoVar) -> str:
    return operand(value) if value.kind in (TEXT, ANY) else f"({value.expr})"


def _number(value: Any, operator: str) -> str:
    if isinstance(value, ArgoVar):
        return f"({value.expr})" if value.kind == NUMBER else f"asFloat({value.expr})"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value) if value >= 0 else f"({value!r})"
    raise ModelError(
        f"{value!r} was used with the operator {operator} beside a reference; it computes with numbers and references "
        "only. Give a number, or do it in an OP."
    )


def _order(left: ArgoVar, operator: str, right: Any) -> ArgoVar:
    text = f"{_number(left, operator)} {operator} {_number(right, operator)}"
    return ArgoVar(text, BOOL, _sources(left, right))


def _arithmetic(left: Any, operator: str, right: Any) -> ArgoVar:
    text = f"{_number(left, operator)} {operator} {_number(right, operator)}"
    return ArgoVar(text, NUMBER, _sources(left, right))
