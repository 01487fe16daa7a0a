"""Turn what a notebook's OPs need of its cells into one script, so that they travel as source.

For each free name the last statement that binds it is taken, and what that needs, transitively; the rest of the
notebook (plots, submissions, other experiments) stays where it is. ``%magic`` lines are calls in the history that
IPython keeps, and are needed by nothing.

Not here: data files beside the notebook (``gather.py``).

The trap: cells run in any order and again, so the order of the *executions* counts, not that of the page.
"""

from __future__ import annotations

import ast
import builtins
import symtable
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_IPYTHON = frozenset({"get_ipython", "In", "Out", "_", "__", "___"})


class CannotWriteSource(Exception):
    """The cells do not say where a needed name comes from; the OP must be pickled."""


@dataclass(frozen=True)
class _Statement:
    text: str
    cell: int
    binds: frozenset[str]
    uses: frozenset[str]
    adds: bool
    """It changes what it binds (``x += 1``), so that the earlier binding is needed too."""


def script_for(names: Iterable[str], cells: Sequence[str], namespace: Mapping[str, Any]) -> str:
    """Return a script that defines ``names`` as the cells did.

    Args:
        names: Top-level names that must be defined.
        cells: Source of the executed cells, in the order of execution.
        namespace: The notebook's live globals: what no cell binds is looked up here.

    Raises:
        CannotWriteSource: A needed name was bound by no cell that can be executed again.
    """
    statements = [statement for number, cell in enumerate(cells) for statement in _statements(cell, number)]
    chosen = {index for index, statement in enumerate(statements) if _always(statement)}
    waiting = sorted({*names, *(name for index in chosen for name in statements[index].uses)})
    done: set[str] = set()
    modules: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        found = _binding(name, statements)
        if not found:
            _from_namespace(name, namespace, modules)
        for index in found - chosen:
            waiting.extend(sorted(statements[index].uses))
        chosen |= found
    return _write([statements[index] for index in sorted(chosen)], modules)


def _binding(name: str, statements: Sequence[_Statement]) -> set[int]:
    """Return the last statement that binds ``name`` anew, and those after it that change it."""
    found: set[int] = set()
    for index in range(len(statements) - 1, -1, -1):
        if name in statements[index].binds:
            found.add(index)
            if not statements[index].adds:
                break
    return found


def _from_namespace(name: str, namespace: Mapping[str, Any], modules: dict[str, str]) -> None:
    if name in _IPYTHON:
        raise CannotWriteSource(f"{name!r} exists only in the notebook")
    value = namespace.get(name)
    if isinstance(value, types.ModuleType):
        modules[name] = value.__name__
    elif name in namespace and not hasattr(builtins, name):
        raise CannotWriteSource(f"{name!r} was defined by no cell")
    # Else it is a builtin, or nothing: then the OP raises NameError here as it would in the notebook.


def _always(statement: _Statement) -> bool:
    """Say whether a statement works on names that cannot be followed: star imports, the import path."""
    return statement.text.startswith(("sys.path.", "from __future__ ")) or (
        statement.text.startswith("from ") and statement.text.rstrip().endswith("import *")
    )


def _statements(cell: str, number: int) -> list[_Statement]:
    try:
        tree = compile(cell, "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError):
        return []  # it never ran either
    result = []
    for node in tree.body:
        text = _text(node, cell, tree.body)
        try:
            table = symtable.symtable(text, "<cell>", "exec")
        except SyntaxError:
            continue  # a top-level await: not something to execute again
        binds, uses = _names(table)
        uses |= _names_in_annotations(node)
        result.append(_Statement(text, number, frozenset(binds), frozenset(uses), isinstance(node, ast.AugAssign)))
    return result


def _text(node: ast.stmt, cell: str, siblings: Sequence[ast.stmt]) -> str:
    """Return the author's own lines of a statement; when it shares one with another, its text made anew."""
    first, last = _lines(node)
    for other in siblings:
        if other is not node and _lines(other)[0] <= last and first <= _lines(other)[1]:
            return ast.unparse(node)
    return "\n".join(cell.splitlines()[first - 1 : last])


def _lines(node: ast.stmt) -> tuple[int, int]:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return first, node.end_lineno or node.lineno


def _names(table: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """Return the top-level names that a statement binds, and those that it or a scope in it reads."""
    binds, uses = set(), set()
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported():
            binds.add(symbol.get_name())
        if symbol.is_referenced():
            uses.add(symbol.get_name())
    waiting = list(table.get_children())
    while waiting:
        scope = waiting.pop()
        waiting.extend(scope.get_children())
        uses |= {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global()}
    return binds, uses


def _names_in_annotations(node: ast.AST) -> set[str]:
    """Return the names in annotations: those written as strings are looked up when a sign is made."""
    found: set[str] = set()
    for inner in ast.walk(node):
        annotation = getattr(inner, "annotation", None) or getattr(inner, "returns", None)
        if annotation is None:
            continue
        for part in ast.walk(annotation):
            if isinstance(part, ast.Name):
                found.add(part.id)
            elif isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.isidentifier():
                found.add(part.value)
    return found


def _write(statements: Sequence[_Statement], modules: Mapping[str, str]) -> str:
    future = [item for item in statements if item.text.startswith("from __future__ ")]
    lines = [item.text for item in future]
    lines += [f"import {module} as {name}" for name, module in sorted(modules.items())]
    cell = None
    for item in statements:
        if item in future:
            continue
        if item.cell != cell:
            lines.append(f"\n# In [{item.cell}]")
            cell = item.cell
        lines.append(item.text)
    return "\n".join(lines) + "\n"
