"""Make the bundle: one zip of the author's code, and for each OP the entry that says where it is in there.

The bundle is content-addressed: sorted, with fixed times, so the same files give the same bytes. It also carries the
part of dflow_hpc that an author's script loads (``lib/``), as source, because the other side may run another Python.

Not here: which files belong to the author (``closure.py``, ``gather.py``), loading them again (``op/loader.py``).

The trap: a class is found again by its name only if that name still leads to it. A class made inside a function, or
one that a REPL shadowed, travels as a pickle instead, which binds it to this minor version of Python.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from dflow_hpc.compile import Bundle
from dflow_hpc.compile.closure import Closure, imports_of, imports_of_file, is_installed
from dflow_hpc.compile.extract import extract
from dflow_hpc.compile.gather import PACKAGE_HOME, Gathered
from dflow_hpc.compile.notebook import CannotWriteSource, script_for
from dflow_hpc.errors import BundleError

__all__ = ["bundle", "diff", "extract"]

NOTEBOOK = "__notebook__.py"
_TRAVELS = (
    *("__init__.py", "errors.py", "hooks.py", "config.py", "python.py"),
    *("op/**/*.py", "model/**/*.py", "manifest/__init__.py", "manifest/result.py", "storage/*.py"),
)
_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

_last: tuple[object, Bundle] | None = None


def bundle(ops: Sequence[type | object], packages: Sequence[Path] = ()) -> tuple[Bundle, list[dict[str, Any]]]:
    """Bundle the code of OPs.

    Args:
        ops: OP classes, or instances of them.
        packages: Directories of packages, or single modules, that travel whole whatever they are.

    Returns:
        The bundle, and for each OP the ``entry`` of its op record.

    Raises:
        BundleError: An OP cannot travel, a package is not there, or a compiled extension is among the files.
    """
    builder = _Builder(packages)
    entries = [builder.entry(op) for op in ops]
    return builder.finish(), entries


def diff(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the files that differ between two bundles (``Bundle.files``), those on one side only included."""
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


class _Builder:
    """One bundle in the making."""

    def __init__(self, packages: Sequence[Path]) -> None:
        self._gathered = Gathered()
        self._roots: list[Path] = []  # the author's part of the import path
        self._walks: list[tuple[Path, str]] = []  # taken in the end: (directory, prefix below code/)
        self._generated: dict[str, bytes] = {}
        self._imports: set[str] = set()
        self._notebook: list[str] = []
        self._pickled = False
        self._script: str | None = None
        self._package: str | None = None
        for path in packages:
            if Path(path).absolute() != PACKAGE_HOME:  # it travels anyway, in another place
                self._add_package(Path(path).absolute())
        self._packages = frozenset(name.partition("/")[0].removesuffix(".py") for name in self._gathered.files)

    def entry(self, op: type | object) -> dict[str, Any]:
        """Return where ``op`` will be found, and note what must be carried for that."""
        cls = op if isinstance(op, type) else type(op)
        name = cls.__qualname__
        module = sys.modules.get(cls.__module__)
        if "<locals>" in name or module is None or not _leads_to(module, name, cls):
            return self._pickle(cls, module)
        if cls.__module__ != "__main__":
            return self._module(module, name)
        shell = _shell()
        if shell is not None and vars(module) is shell.user_ns:
            if not self._add_to_notebook(name.partition(".")[0], shell):
                return self._pickle(cls, module)
            return {"kind": "script", "file": NOTEBOOK, "name": name}
        file = _file(module)
        if file is None or not _defined_in(cls, file):
            return self._pickle(cls, module)
        return {"kind": "script", "file": self._take_script(module, file), "name": name}

    def finish(self) -> Bundle:
        """Collect the files and zip them."""
        self._take_values_home()
        closure = Closure(self._gathered, self._roots)
        closure.follow(self._imports | closure.imports_of_gathered())
        for directory, prefix in self._walks:
            self._gathered.add_tree(directory, prefix)
        files: dict[str, Path | bytes] = {f"code/{name}": path for name, path in self._gathered.files.items()}
        files.update(self._generated)
        compat = closure.uses_dflow and dflow_is_ours()
        files.update(_lib(compat, self._pickled))
        about = {"python": _PYTHON, "script": self._script, "package": self._package, "compat": compat}
        return _zip(files, about, self._gathered.all_notices())

    def _add_package(self, path: Path) -> None:
        if path.is_dir():
            self._gathered.add_tree(path, f"{path.name}/", bounded=False)
        elif path.is_file():
            self._gathered.add(path.name, path)
        else:
            raise BundleError(
                f"package {path} was to travel (python_packages, upload_packages); it does not exist. Name the "
                "directory of a package, or a module's file: for an imported package p it is p.__path__[0]."
            )

    def _take_values_home(self) -> None:
        """Take the running script although no OP is in it: values of its classes may travel, as `__main__.Name`."""
        main = sys.modules["__main__"]
        file = _file(main)
        if self._script is not None or file is None or file.suffix != ".py" or is_installed(file):
            return
        if any(file.is_relative_to(root) for root in self._roots):
            self._take_script(main, file)

    def _take_script(self, module: ModuleType, file: Path) -> str:
        file = file.resolve()  # as Python does to find the directory that it puts on sys.path
        spec = module.__spec__
        dotted = spec.name if spec is not None else "__main__"  # `python -m pkg.run` has a name
        root, prefix = _root(file, dotted)
        if root / prefix != file.parent:
            root, prefix = file.parent, ""
        self._script, self._package = prefix + file.name, prefix.rstrip("/").replace("/", ".") or None
        self._gathered.add(self._script, file)
        self._imports |= imports_of_file(file)
        self._add_root(root, prefix)
        return self._script

    def _module(self, module: ModuleType, name: str) -> dict[str, Any]:
        entry = {"kind": "module", "module": module.__name__, "name": name}
        file = _file(module)
        top = module.__name__.partition(".")[0]
        if file is None or top in self._packages or is_installed(file):
            return entry
        self._take_module(module.__name__, file)
        return entry

    def _take_module(self, dotted: str, file: Path) -> None:
        root, prefix = _root(file, dotted)
        last = file.name if file.name == "__init__.py" else dotted.rpartition(".")[2] + file.suffix
        self._gathered.add(prefix + last, file)
        self._imports |= imports_of_file(file)
        # The whole regular package, up to where a namespace or the import path begins; else what lies beside it.
        top, packages = file.parent, prefix.rstrip("/")
        while "/" in packages and (top / "__init__.py").is_file() and (top.parent / "__init__.py").is_file():
            top, packages = top.parent, packages.rpartition("/")[0]
        if root / prefix != file.parent:
            return  # its name does not tell its place, so nothing tells what belongs to it
        if packages and (top / "__init__.py").is_file():
            self._gathered.add_tree(top, f"{packages}/")
            self._add_root(root)
        else:
            self._add_root(root, prefix)

    def _add_root(self, root: Path, beside: str | None = None) -> None:
        """Search ``root`` for modules; with ``beside``, a prefix or empty, take the files in that directory of it."""
        if root not in self._roots:
            self._roots.append(root)
        if beside is not None and (root / beside, beside) not in self._walks:
            self._walks.append((root / beside, beside))

    def _add_to_notebook(self, name: str, shell: Any) -> bool:
        """Add a name to the script made of cells; say whether the cells tell where it comes from."""
        try:
            source = script_for([*self._notebook, name], shell.history_manager.input_hist_parsed, shell.user_ns)
        except CannotWriteSource:
            return False
        self._notebook.append(name)
        self._generated[f"code/{NOTEBOOK}"] = source.encode()
        self._script = NOTEBOOK
        self._imports |= imports_of(source)
        self._add_root(Path.cwd(), "")
        return True

    def _pickle(self, cls: type, module: ModuleType | None) -> dict[str, Any]:
        try:
            import cloudpickle  # type: ignore[import-untyped]
        except ImportError as error:
            raise BundleError(
                f"OP {cls.__qualname__} has no source file and would travel as a pickle; cloudpickle is not installed. "
                "Run `pip install cloudpickle`, or put the OP at the top level of a file."
            ) from error
        try:
            data = cloudpickle.dumps((cls, _values_of_prompt(module)), protocol=4)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise BundleError(
                f"OP {cls.__qualname__} has no name at the top level of a file and must travel as a pickle; it cannot "
                f"be pickled: {error}. Put it at the top level of a file, or drop what it refers to."
            ) from error
        name = f"ops/{hashlib.sha256(data).hexdigest()}.pkl"
        self._generated[name] = data
        self._pickled = True
        file = _file(module) if module is not None else None
        if file is None:
            self._add_root(Path.cwd(), "")
            self._imports |= {name.partition(".")[0] for name in sys.modules}
        elif module is sys.modules["__main__"]:
            self._take_script(module, file)
        elif module is not None and not is_installed(file):
            self._take_module(module.__name__, file)
        return {"kind": "pickle", "file": name, "python": _PYTHON}


def _values_of_prompt(module: ModuleType | None) -> dict[str, type]:
    """Return the classes typed at a prompt: no file has them, and values of them may travel as ``__main__.Name``."""
    if module is not sys.modules["__main__"] or _file(module) is not None:
        return {}
    return {
        name: item
        for name, item in vars(module).items()
        if getattr(item, "__module__", "") == "__main__" and isinstance(item, type)
    }


def _leads_to(module: ModuleType, name: str, cls: type) -> bool:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is cls or type(found) is cls  # `@OP.function` leaves an instance under the function's name


def _defined_in(cls: type, file: Path) -> bool:
    """Say whether loading ``file`` defines the class: not typed after it (``python -i``), not below its guard."""
    members = [getattr(value, "__func__", value) for value in vars(cls).values()]
    functions = [inspect.unwrap(member) for member in members if isinstance(member, FunctionType)]
    names = {Path(function.__code__.co_filename).name for function in functions}
    if names and file.name not in names:
        return False
    return cls.__qualname__.partition(".")[0] in _names_outside_the_guard(file.read_bytes())


@lru_cache(maxsize=4)
def _names_outside_the_guard(source: bytes) -> frozenset[str]:
    nodes = [node for statement in ast.parse(source).body if not _is_guard(statement) for node in ast.walk(statement)]
    return frozenset(name for node in nodes for name in _bound_by(node))


def _is_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in {
        inner.id for inner in ast.walk(node.test) if isinstance(inner, ast.Name)
    }


def _bound_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    return [node.asname or node.name] if isinstance(node, ast.alias) else []


def _file(module: ModuleType) -> Path | None:
    path = Path(getattr(module, "__file__", None) or "")
    if not path.is_file():  # `python - < FILE` says <stdin>
        return None
    return path.parent.resolve() / path.name  # the name stays: a link to a file is imported under its own name


def _root(file: Path, dotted: str) -> tuple[Path, str]:
    """Return the directory from which ``dotted`` leads to ``file``, and the packages on the way as a prefix."""
    parents = dotted.split(".") if file.name == "__init__.py" else dotted.split(".")[:-1]
    root = file.parent
    for part in reversed(parents):
        if root.name != part:
            # Loaded under a name that its place does not give: it travels alone, placed where the name leads.
            return file.parent, "".join(f"{name}/" for name in parents)
        root = root.parent
    return root, "".join(f"{name}/" for name in parents)


def _shell() -> Any:
    """Return the running IPython shell, if there is one."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def dflow_is_ours() -> bool:
    """Say whether ``import dflow`` means dflow_hpc in this process."""
    try:
        spec = importlib.util.find_spec("dflow")
    except ValueError:
        return False
    return spec is not None and spec.origin == "dflow_hpc.compat"


@lru_cache(maxsize=4)
def _lib(compat: bool, pickled: bool) -> dict[str, Path | bytes]:
    """Return what is carried besides the author's code: the part of dflow_hpc that scripts load, and pure packages."""
    patterns = (*_TRAVELS, "compat/**/*.py") if compat else _TRAVELS
    files: dict[str, Path | bytes] = {}
    for pattern in patterns:
        files.update(
            {f"lib/dflow_hpc/{path.relative_to(PACKAGE_HOME).as_posix()}": path for path in PACKAGE_HOME.glob(pattern)}
        )
    for package in ("jsonpickle", "cloudpickle") if pickled else ("jsonpickle",):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations if spec is not None else None) or ():
            for path in Path(place).rglob("*.py"):
                files[f"lib/{package}/{path.relative_to(place).as_posix()}"] = path
    return files


def _zip(files: Mapping[str, Path | bytes], about: dict[str, Any], notices: tuple[str, ...]) -> Bundle:
    global _last  # noqa: PLW0603  (one bundle is asked for again and again while a notebook is worked on)
    key = (tuple(sorted((name, _fingerprint(item)) for name, item in files.items())), sorted(about.items()), notices)
    if _last is not None and _last[0] == key:
        return _last[1]
    contents = {name: _read(item) for name, item in files.items()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    contents["bundle.json"] = json.dumps({"files": hashes, **about}, sort_keys=True, indent=1).encode()
    buffer = io.BytesIO()
    # Not compressed: a third of what compiling a small workflow costs, for less than a megabyte.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o100444 << 16
            archive.writestr(info, contents[name])
    data = buffer.getvalue()
    made = Bundle(hashlib.sha256(data).hexdigest(), data, hashes, notices)
    _last = (key, made)
    return made


def _fingerprint(item: Path | bytes) -> tuple[str, int, int]:
    if isinstance(item, bytes):
        return hashlib.sha256(item).hexdigest(), len(item), 0
    status = item.stat()
    return str(item), status.st_size, status.st_mtime_ns


def _read(item: Path | bytes) -> bytes:
    if isinstance(item, bytes):
        return item
    try:
        return item.read_bytes()
    except OSError as error:
        raise BundleError(
            f"the author's code was to be bundled; {item} cannot be read: {error.strerror}. Make it readable, or name "
            "it in a .dflowignore."
        ) from error
