"""expr-lang 1.17.5, the language of ``{{=...}}``, ``depends``, hooks, retries and ``valueFrom.expression``.

``compile`` reads a text once into a ``Program``; ``Program.run`` checks its types against what it is run with, as Argo
does each time, and evaluates it. Values are Python's (``dflow_hpc.expr.golang`` says what they stand for), errors are
``ExpressionError`` with the text, place and source line that Argo prints.

Layout: ``lexer`` > ``ast``, ``parser`` > ``types``, ``checker`` > ``optimizer`` > ``compiler`` (to closures), over
``runtime`` and ``builtins``.

Trap: nothing here limits what a function of the environment does; the language itself is bounded (nodes, depth, memory,
iterations), so that any text ends.
"""

from dflow_hpc.expr.lang.lexer import mentions
from dflow_hpc.expr.lang.program import Program, compile, evaluate, evaluate_bool  # noqa: A004

__all__ = ["Program", "compile", "evaluate", "evaluate_bool", "mentions"]
