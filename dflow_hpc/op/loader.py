"""Load an author's OP from an extracted bundle, on the side where it runs.

A script is executed statement by statement under a private name, so that its ``__main__`` guard does not fire. What
it does *besides* defining OPs (build a workflow, submit it) is cut off at the first submission or upload. Afterwards
the module answers to ``__main__``, because values that were pickled on the submitting side say ``__main__.Foo``, and
values that are pickled here must say so too.

Not here: how the bundle came to this machine (``op/bootstrap.py``, the local engine), and running an OP
(``op/runner.py``).

The trap: one process loads one bundle. ``sys.modules`` has one place for a module's name, so a second bundle with
another ``ops.py`` would silently get the first one's.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import ast
import contextlib
import importlib
import io
import json
import os
import pickle
import sys
import traceback
import types
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Type, Union

from dflow_hpc import hooks
from dflow_hpc.errors import BundleError, NotWhileLoading

_SCRIPT_NAME = "__dflow_main__"
_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

_depth = 0
_loaded: Dict[Tuple[str, str], Type[Any]] = {}
_prepared: Dict[str, Optional["_Script"]] = {}


def loading() -> bool:
    """Say whether an author's code is being loaded (and not: an OP of it executed)."""
    return _depth > 0


def forbid_while_loading(what: str) -> None:
    """Refuse what must happen once, on the submitting side, and not again in each leaf.

    Args:
        what: The action in the user's words, such as ``"submit"``.

    Raises:
        NotWhileLoading: An author's code is being loaded.
    """
    if loading():
        raise NotWhileLoading(
            f"{what} was asked for while the author's code is loaded to run one of its OPs; it is for the submitting "
            "side only. Put it below `if __name__ == '__main__':` to keep it from being reached."
        )


def load(entry: Mapping[str, str], code_dir: Union[str, Path]) -> Type[Any]:
    """Return the OP class that an op record's ``entry`` names.

    Args:
        entry: ``kind`` and what goes with it, as in docs/architecture.md, section 1.
        code_dir: The extracted bundle: the directory that holds ``code/``, ``lib/`` and ``bundle.json``.

    Raises:
        BundleError: The author's code cannot be loaded, or defines no such OP; the message names file and line.
    """
    key = (os.path.realpath(code_dir), json.dumps(dict(entry), sort_keys=True))
    if key not in _loaded:
        script = prepare(code_dir)
        found = _find(entry, Path(key[0]), script)
        # `@OP.function` leaves an instance under the function's name.
        _loaded[key] = found if isinstance(found, type) else type(found)
    return _loaded[key]


def prepare(code_dir: Union[str, Path]) -> Optional["_Script"]:
    """Make a bundle's modules importable and its script answer to ``__main__``; nothing is executed yet.

    Args:
        code_dir: The extracted bundle.

    Raises:
        BundleError: There is no bundle.
    """
    root = os.path.realpath(code_dir)
    if root in _prepared:
        return _prepared[root]
    try:
        about = json.loads(Path(root, "bundle.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"the bundle in {root} was to be loaded; its bundle.json cannot be read: {error}") from error
    sys.path.insert(0, os.path.join(root, "code"))
    lib = os.path.join(root, "lib")
    if lib not in sys.path:
        sys.path.append(lib)
    if about.get("compat"):
        hooks.resolve("compat")(force=True)  # the submitting side had no pydflow, or chose to do without
    script = None
    if about.get("script"):
        script = _Script(Path(root, "code", about["script"]), about.get("package"))
        sys.modules["__main__"] = script.module
    _prepared[root] = script
    return script


def _find(entry: Mapping[str, str], root: Path, script: Optional["_Script"]) -> Any:
    kind = entry["kind"]
    if kind == "script":
        if script is None:
            raise BundleError(f"the script {entry['file']} was asked for; the bundle in {root} has no script.")
        return script.find(entry["name"])
    if kind == "module":
        return _from_module(entry["module"], entry["name"], root / "code")
    if kind == "pickle":
        return _from_pickle(root / entry["file"], entry["python"])
    raise BundleError(f"an entry of kind {kind!r} was found; known are script, module and pickle: {dict(entry)}")


def _from_module(module_name: str, name: str, code: Path) -> Any:
    try:
        with _author_code(code, code):
            module = importlib.import_module(module_name)
    except NotWhileLoading as error:
        raise BundleError(
            f"module {module_name} was imported to run its OP {name}; {_where(error, code)} submits or uploads when "
            "imported. Move that into a function, or below `if __name__ == '__main__':`."
        ) from error
    except (Exception, SystemExit) as error:
        raise BundleError(
            f"module {module_name} was imported to run its OP {name}; {_where(error, code)}: {_one_line(error)}"
        ) from error
    try:
        return _attribute(module, name)
    except AttributeError as error:
        raise BundleError(
            f"OP {name} of module {module_name} was asked for; {getattr(module, '__file__', 'the module')} does not "
            "define it. Is another version of it installed here?"
        ) from error


def _from_pickle(path: Path, version: str) -> Any:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version != here:
        raise BundleError(
            f"an OP that was defined without a source file was pickled by Python {version}; this side runs Python "
            f"{here}, which cannot read it. Put the OP into a file, or use an image with Python {version}."
        )
    try:
        _import_cloudpickle(path.parent.parent / "lib")
        with _author_code(path.parent.parent / "code", path):
            op, values = pickle.loads(path.read_bytes())  # noqa: S301  (the author's own code)
    except (Exception, NotWhileLoading, SystemExit) as error:
        raise BundleError(f"the pickled OP {path} cannot be loaded: {_one_line(error)}") from error
    for name, value in values.items():
        vars(sys.modules["__main__"]).setdefault(name, value)
    return op


def _import_cloudpickle(lib: Path) -> None:
    """Take the cloudpickle that wrote the OP: an older one that is installed here may not know its names."""
    if not (lib / "cloudpickle").is_dir():
        return
    sys.path.insert(0, str(lib))
    try:
        importlib.import_module("cloudpickle")
    finally:
        sys.path.remove(str(lib))


class _Main(types.ModuleType):
    """What answers to ``__main__``: the script's own globals, which asks the script for what is not there yet."""

    __slots__ = ("_dflow_script",)  # a slot: the module's __dict__ belongs to the author
    _dflow_script: "_Script"

    def __getattr__(self, name: str) -> Any:
        # Tools probe `__main__` for dunder names; they execute nothing.
        if (name.startswith("__") and name.endswith("__")) or loading():
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        try:
            return self._dflow_script.find(name)
        except BundleError as error:
            raise AttributeError(str(error)) from error


class _Script:
    """The author's script: executed when something of it is first asked for."""

    def __init__(self, path: Path, package: Optional[str]) -> None:
        self.module = _Main(_SCRIPT_NAME)
        self.module._dflow_script = self
        self.module.__file__ = str(path)
        self.module.__package__ = package
        self._path = path
        self._rest: Optional[List[ast.stmt]] = None  # the statements that were not executed; None: not begun
        self._flags = 0
        self._failure: Optional[BaseException] = None
        self._told = False

    def find(self, name: str) -> Any:
        """Return what the script calls ``name`` (dotted), executing as much of it as that needs."""
        if self._rest is None:
            self._execute()
        try:
            found = _attribute(self.module, name, own=True)
        except AttributeError:
            pass
        else:
            self._tell()
            return found
        if self._failure is not None and not isinstance(self._failure, NotWhileLoading):
            raise BundleError(
                f"{self._path.name} was loaded to run its OP {name}; {_where(self._failure, self._path.parent)}: "
                f"{_one_line(self._failure)}. Nothing below that line was reached."
            ) from self._failure
        broken = self._define_rest()
        try:
            return _attribute(self.module, name, own=True)
        except AttributeError:
            where = "" if self._failure is None else f"; it submits or uploads at {self._line(self._failure)}"
            also = "" if broken is None else f", and {_where(broken, self._path.parent)}: {_one_line(broken)}"
            raise BundleError(
                f"OP {name} was asked for; loading {self._path.name} does not define it at its top level{where}{also}. "
                "Define OPs above the code that submits, and that code below `if __name__ == '__main__':`."
            ) from broken

    def _execute(self) -> None:
        source = self._path.read_bytes()
        try:
            tree = ast.parse(source, filename=str(self._path))
        except SyntaxError as error:
            raise BundleError(
                f"{self._path.name} was to be loaded; Python {sys.version_info[0]}.{sys.version_info[1]} does not "
                f"read its line {error.lineno}: {error.msg}. Which Python runs here?"
            ) from error
        self.module.__doc__ = ast.get_docstring(tree)
        self._flags = _future_flags(tree)
        self._rest = list(tree.body)
        with self._as_running():
            while self._rest:
                statement = self._rest.pop(0)
                try:
                    self._run(statement)
                except (Exception, SystemExit, NotWhileLoading) as error:
                    self._failure = error
                    break

    def _define_rest(self) -> Optional[BaseException]:
        """Execute the definitions below the place where loading stopped; return the first one's error."""
        broken: Optional[BaseException] = None
        with self._as_running():
            while self._rest:
                statement = self._rest.pop(0)
                if isinstance(statement, _DEFINITIONS):
                    try:
                        self._run(statement)
                    except (Exception, SystemExit, NotWhileLoading) as error:
                        broken = broken or error
        return broken

    def _run(self, statement: ast.stmt) -> None:
        body = ast.Module([statement], [])
        code = compile(body, str(self._path), "exec", flags=self._flags, dont_inherit=True)
        exec(code, vars(self.module))  # noqa: S102  (loading an author's own script is what this module is for)

    @contextlib.contextmanager
    def _as_running(self) -> Iterator[None]:
        # The guard compares __name__: it is __main__ only while nothing of the top level is executed.
        self.module.__name__ = _SCRIPT_NAME
        sys.modules[_SCRIPT_NAME] = self.module  # dataclasses look up the module of a class that they work on
        try:
            with _author_code(self._path.parent, self._path):
                yield
        finally:
            self.module.__name__ = "__main__"
            del sys.modules[_SCRIPT_NAME]
            _rename(list(vars(self.module).values()))

    def _tell(self) -> None:
        """Say once that the script was not executed to its end for a reason that the author may not expect."""
        if self._failure is None or self._told or isinstance(self._failure, NotWhileLoading):
            return
        self._told = True
        sys.stderr.write(
            f"dflow_hpc: loading stopped, {_where(self._failure, self._path.parent)}: {_one_line(self._failure)}; "
            "what is defined above it is used.\n"
        )

    def _line(self, error: BaseException) -> str:
        frames = _author_frames(error, self._path.parent)
        return f"line {frames[0].lineno}" if frames else "its top level"


def _future_flags(tree: ast.Module) -> int:
    """Return the compiler's flags of the ``__future__`` imports, which must hold for each statement."""
    import __future__

    flags = 0
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            for alias in statement.names:
                flags |= getattr(__future__, alias.name).compiler_flag
    return flags


def _attribute(module: types.ModuleType, name: str, own: bool = False) -> Any:
    first, *others = name.split(".")
    if own and first not in vars(module):
        raise AttributeError(first)
    found = getattr(module, first)
    for part in others:
        found = getattr(found, part)
    return found


def _rename(values: List[Any]) -> None:
    """Let classes and functions that a script defined say ``__main__``, as they do on the submitting side."""
    for value in values:
        # An instance tells its class: `@OP.function` leaves no other trace of the one that it makes.
        thing = value if isinstance(value, (type, types.FunctionType)) else type(value)
        if vars(thing).get("__module__", thing.__module__) == _SCRIPT_NAME:
            thing.__module__ = "__main__"
            if isinstance(thing, type):
                _rename(list(vars(thing).values()))


@contextlib.contextmanager
def _author_code(directory: Path, program: Path) -> Iterator[None]:
    """Give an author's top level the surroundings that it knows: its own directory, a plain argv, no terminal.

    What it prints goes to stderr: a leaf's stdout may be its result. ``input()`` raises instead of waiting.
    """
    global _depth  # noqa: PLW0603
    before = os.getcwd(), sys.argv, sys.stdin
    _depth += 1
    try:
        os.chdir(directory if directory.is_dir() else directory.parent)  # a bundle may hold installed modules' OPs only
        sys.argv = [str(program)]
        sys.stdin = io.StringIO("")
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _depth -= 1
        os.chdir(before[0])
        sys.argv, sys.stdin = before[1], before[2]


def _author_frames(error: BaseException, directory: Path) -> List[traceback.FrameSummary]:
    inside = str(directory) + os.sep
    return [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(inside)]


def _where(error: BaseException, directory: Path) -> str:
    """Return file and line of the author's code where ``error`` arose, relative to ``directory``."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.relpath(error.filename, directory)}, line {error.lineno}"
    frames = _author_frames(error, directory)
    if not frames:
        return "outside of the author's files"
    return f"{os.path.relpath(frames[-1].filename, directory)}, line {frames[-1].lineno}"


def _one_line(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text.splitlines()[0]
