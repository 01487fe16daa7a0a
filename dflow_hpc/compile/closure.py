"""Find the author's own modules that a piece of code imports, transitively, without importing anything.

A module is the author's unless it belongs to Python, lies in site-packages, is dflow_hpc, or is found through a
``PYTHONPATH`` that points away from the author's directory (a cluster's module system works so). A regular package
travels whole. Imports inside functions count: an OP that imports in ``execute`` needs them as well.

Not here: reading the files (``gather.py``).

The trap: what a program imports by a name that it computes is not seen here; such files travel only when they lie
beside the script.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from dflow_hpc.compile.gather import PACKAGE_HOME, Gathered

_STDLIB = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
_SKIPPED = frozenset(sys.stdlib_module_names) | {"dflow_hpc", "dflow", "__main__"}

_imports: dict[tuple[str, int, int], frozenset[str]] = {}


def imports_of(source: bytes | str) -> frozenset[str]:
    """Return the dotted names that ``source`` may import: ``from a.b import c`` gives ``a.b`` and ``a.b.c``.

    A text that is not Python imports nothing: packages carry templates and files for other versions.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return frozenset()
    found: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")
    return frozenset(found)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield all statements, those in functions too; expressions hold no imports, and are most of a tree."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, field, ()))


def imports_of_file(path: Path) -> frozenset[str]:
    """Return ``imports_of`` a file, remembered while its size and time stay."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _imports:
        _imports[key] = imports_of(path.read_bytes())
    return _imports[key]


def is_installed(path: Path) -> bool:
    """Say whether a file belongs to Python, to site-packages or to dflow_hpc."""
    # Both names count: Debian links sitecustomize.py out of the standard library.
    return any(
        {"site-packages", "dist-packages"} & {*name.parts}
        or any(name.is_relative_to(root) for root in (*_STDLIB, PACKAGE_HOME))
        for name in (path, path.resolve())
    )


def _away(path: Path) -> bool:
    """Say whether a file is found through a PYTHONPATH that neither holds nor lies in the current directory."""
    here = Path.cwd()
    for text in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        root = Path(text).resolve()
        if path.resolve().is_relative_to(root) and not (root.is_relative_to(here) or here.is_relative_to(root)):
            return True
    return False


class Closure:
    """The author's modules that were reached so far; each is looked at once."""

    def __init__(self, gathered: Gathered, roots: list[Path]) -> None:
        """Start with nothing reached.

        Args:
            gathered: Takes the files.
            roots: The author's directories, searched as ``sys.path`` is.
        """
        self._gathered = gathered
        self._roots = roots
        self._seen: set[str] = set()
        self._parsed: set[str] = set()
        self.uses_dflow = False
        self.foreign: set[str] = set()
        """Top-level modules of others that are imported and installed here: they must be where the OPs run, too."""

    def follow(self, names: Iterable[str]) -> None:
        """Take the author's modules among ``names``, and all that they import."""
        waiting = sorted(names)
        while waiting:
            name = waiting.pop()
            if name in self._seen:
                continue
            self._seen.add(name)
            top = name.partition(".")[0]
            self.uses_dflow = self.uses_dflow or top == "dflow"
            if top in _SKIPPED:
                continue
            before = len(self._gathered.files)
            self._take(name)
            if len(self._gathered.files) != before:
                waiting.extend(self.imports_of_gathered())

    def imports_of_gathered(self) -> set[str]:
        """Return what the Python files gathered so far import, those left out that were asked before."""
        found: set[str] = set()
        for name, path in self._gathered.files.items():
            if name.endswith(".py") and name not in self._parsed:
                self._parsed.add(name)
                found |= imports_of_file(path)
        return found

    def _take(self, name: str) -> None:
        top, *rest = name.split(".")
        for kind, path in self._locate(top):
            if kind == "namespace":
                self._take_below(path, [top], rest)
            elif self._stays(top, path):
                self.foreign.add(top)
            elif kind == "package":
                self._gathered.add_tree(path, f"{top}/")
            else:
                self._gathered.add(path.name, path)
                self._gathered.add_tree(path.parent, deep=False)

    def _take_below(self, directory: Path, parts: list[str], rest: list[str]) -> None:
        """Go down a namespace package to the first regular package or module of the dotted name."""
        for index, part in enumerate(rest):
            prefix = "/".join([*parts, *rest[:index]]) + "/"
            if (directory / part / "__init__.py").is_file():
                self._gathered.add_tree(directory / part, f"{prefix}{part}/")
                return
            if (directory / f"{part}.py").is_file():
                self._gathered.add(f"{prefix}{part}.py", directory / f"{part}.py")
                return
            directory = directory / part

    def _stays(self, name: str, path: Path) -> bool:
        """Say, with a notice, whether a module that is the author's by its place stays behind all the same."""
        if any(path.is_relative_to(root) for root in self._roots):
            return False
        compiled = path.is_dir() and any(path.rglob("*.so"))
        if not compiled and not _away(path) and path.suffix != ".so":
            return False
        why = "comes from PYTHONPATH" if not compiled else "holds compiled extensions"
        self._gathered.notices.append(
            f"module {name} ({path}) {why} and stays behind: it must be installed where the OPs run, or be named in "
            "upload_packages."
        )
        return True

    def _locate(self, top: str) -> list[tuple[str, Path]]:
        """Return ``(package | module | namespace, path)`` of a top-level name; nothing when it is not the author's."""
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError, AttributeError):  # modules made by hand have half a spec, or none
            spec = None
        if spec is None:
            spec = importlib.machinery.PathFinder.find_spec(top, [str(root) for root in self._roots])
        if spec is None:
            return []
        if spec.origin is None or spec.origin == "namespace":
            locations = [Path(place) for place in spec.submodule_search_locations or ()]
            return [("namespace", place) for place in locations if not is_installed(place / "x")]
        path = Path(spec.origin)
        path = path.parent.resolve() / path.name
        if not path.is_file() or is_installed(path):
            self.foreign.add(top)
            return []
        if spec.submodule_search_locations:
            return [("package", path.parent)]
        return [("module", path)]


def foreign_imports(script: Path) -> list[str]:
    """Return the modules of others that a script and the author's own modules import: sorted top-level names.

    Those of its functions count as well, also of functions that only the submitting side calls; what is not installed
    here does not.
    """
    closure = Closure(Gathered(), [script.resolve().parent])
    closure.follow(imports_of_file(script))
    return sorted(closure.foreign)
