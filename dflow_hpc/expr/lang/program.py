"""An expression, read once and run often.

Trap: the types of what it is run with belong to its meaning (``x + 1`` does not compile where ``x`` is a string), so it
is checked for each kind of environment it meets, and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang, gotime
from dflow_hpc.expr.lang import types
from dflow_hpc.expr.lang.checker import BUILTIN_NAMES, check
from dflow_hpc.expr.lang.compiler import CannotCompile, Machine, Run, compile_tree
from dflow_hpc.expr.lang.errors import Fault
from dflow_hpc.expr.lang.lexer import IDENTIFIER, lex
from dflow_hpc.expr.lang.optimizer import optimize
from dflow_hpc.expr.lang.parser import parse

CLOCK = "$now"
"""Name in an environment under which a function stands that tells the time to ``now()``."""

_MAX_VARIANTS = 16


class Program:
    """A compiled expression.

    Attributes:
        text: Its text.
        names: The identifiers in it, members among them: those of the environment that it may ask for.
    """

    def __init__(self, text: str):
        self.text = text
        self.names = frozenset(token.value for token in lex(text) if token.kind == IDENTIFIER)
        self._variants: dict[tuple[Any, ...], tuple[Run, int]] = {}

    def run(self, environment: Mapping[str, Any]) -> Any:
        """Evaluate it.

        Args:
            environment: Its variables and functions (``golang.Function``).

        Returns:
            A Python value; ``dflow_hpc.expr.golang`` says which stands for which of Go's.

        Raises:
            ExpressionError: It is wrong, or cannot be evaluated with these values; in expr-lang's words.
        """
        try:
            run, variables = self._compiled(environment)
            return run(Machine(environment, environment.get(CLOCK) or no_clock, variables))
        except Fault as fault:
            raise fault.bind(self.text) from fault.__cause__
        except CannotCompile as error:
            raise ExpressionError(str(error)) from None
        except RecursionError:
            raise ExpressionError("the expression, or a value in it, nests too deeply") from None

    def _compiled(self, environment: Mapping[str, Any]) -> tuple[Run, int]:
        """Return it checked against the types of an environment."""
        asked = environment if "$env" in self.names else self.names & environment.keys()
        known = {name: types.type_of(environment[name]) for name in asked}
        key = tuple(sorted((name, str(found), found.nil, id(found.function)) for name, found in known.items()))
        variant = self._variants.get(key)
        if variant is None:
            tree = parse(self.text, BUILTIN_NAMES, known.keys() & BUILTIN_NAMES)
            check(tree, known)
            variant = compile_tree(optimize(tree))
            if len(self._variants) < _MAX_VARIANTS:
                self._variants[key] = variant
        return variant


def no_clock() -> gotime.Time:
    """Stand where no clock was passed: a run that is resumed must see the time that it saw before.

    Raises:
        ExpressionError: Always.
    """
    raise ExpressionError("the time was asked for where none is known; pass `now` to dflow_hpc.expr.functions")


def compile(text: str) -> Program:  # noqa: A001
    """Read an expression.

    Raises:
        ExpressionError: It is not even made of tokens. Anything else shows when it is run.
    """
    return Program(text)


def evaluate(text: str, environment: Mapping[str, Any]) -> Any:
    """Read and evaluate an expression at once, see ``Program.run``."""
    return Program(text).run(environment)


def evaluate_bool(text: str, environment: Mapping[str, Any]) -> bool:
    """Evaluate a condition, as Argo does for ``depends``, hooks and retries.

    Raises:
        ExpressionError: It does not compile (expr-lang's text), does not run, or gives something else than a boolean.
    """
    result = evaluate(text, environment)
    if not isinstance(result, bool):
        raise ExpressionError(f"unable to cast expression result '{golang.format_value(result)}' to bool")
    return result
