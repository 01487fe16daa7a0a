"""Runs an author's program, or a manifest, as the commands ``run``, ``submit`` and ``retry`` do.

The program runs in this process as ``__main__``, as ``python FILE`` would run it; only the engine that its
``submit()`` gets is ours: it shows the run, sets the parameters of the command line, and remembers what was submitted.

Trap: the module of the program must stay in ``sys.modules`` until the runs are over, because the bundle and the values
of its classes are found through it.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import sys
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dflow_hpc import hooks
from dflow_hpc.compile import Compiled
from dflow_hpc.compile.compiler import compile_workflow
from dflow_hpc.compile.lint import Finding, lint
from dflow_hpc.config import config, is_local
from dflow_hpc.engines import engine_for
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.engines.local.engine import LocalEngine
from dflow_hpc.engines.local.rundir import RunDir
from dflow_hpc.errors import ConfigError, EngineError, ManifestError, NotWhileLoading
from dflow_hpc.manifest.refuse import refused

if TYPE_CHECKING:
    from dflow_hpc.manifest.text import Documents


class _FromProgram:
    """What becomes of an engine that a program gets from the command line.

    Args:
        parameters: Values for the workflow's parameters, instead of those of the program.
        detach: Runs go on in the background.
        options: The engine's own.
    """

    def __init__(self, parameters: Mapping[str, str], detach: bool, **options: Any):
        super().__init__(**options)
        self._parameters = parameters
        self.detach = detach
        self.submitted: list[tuple[str, Any]] = []
        """Names of its runs, each with the engine of the place that its workflow named."""
        self.deleted: set[str] = set()

    def submit(self, compiled: Compiled, *, detach: bool = False, **options: Any) -> str:
        """Submit with the parameters of the command line, and remember the run."""
        manifest = with_parameters(compiled.manifest, self._parameters)
        changed = dataclasses.replace(compiled, manifest=manifest)
        name: str = super().submit(changed, detach=detach or self.detach, **options)  # type: ignore[misc]
        self.submitted.append((name, self))
        return name

    def delete(self, id: str) -> None:
        """Delete a run, of which nothing can be shown in the end."""
        super().delete(id)  # type: ignore[misc]
        self.deleted.add(id)


class LocalProgram(_FromProgram, LocalEngine):
    """The local engine, as a program gets it."""


class ArgoProgram(_FromProgram, ArgoEngine):
    """The Argo engine, as a program gets it: it looks on until the end, as the local one does."""

    def __init__(self, *arguments: Any, on_change: Callable[[dict[str, Any]], None] | None = None, **options: Any):
        super().__init__(*arguments, **options)
        self._on_change = on_change

    def submit(self, compiled: Compiled, *, detach: bool = False, **options: Any) -> str:
        """Submit, and tell of each change until it has ended."""
        name = super().submit(compiled, detach=detach, **options)
        if detach or self.detach:
            return name
        for records in self.follow(name):
            for record in records:
                if self._on_change is not None:
                    self._on_change(record)
        return name


class ProgramEngines:
    """The engines that a program may ask for: which one, its settings say when it submits.

    Args:
        parameters: Values for the workflow's parameters, instead of those of the program.
        detach: Runs go on in the background.
        say: Called with each line for the user.
        on_change: Called with each change of a run: a record of its journal.
    """

    def __init__(
        self,
        parameters: Mapping[str, str],
        detach: bool,
        *,
        say: Callable[[str], None] | None = None,
        on_change: Callable[[dict[str, Any]], None] | None = None,
    ):
        options: dict[str, Any] = {} if say is None else {"say": say}
        self.local = LocalProgram(parameters, detach, on_change=on_change, **options)
        self.argo = ArgoProgram(parameters, detach, on_change=on_change, **options)

    def of(self, mode: str) -> Any:
        """Return the engine for a mode; an unknown one is refused by ``engine_for``."""
        if mode in ("debug", "local"):
            return self.local
        return self.argo if mode in ("argo", "default") else engine_for(mode)

    @property
    def submitted(self) -> list[str]:
        """Names of all runs, those of Argo last."""
        return [name for name, _ in [*self.local.submitted, *self.argo.submitted]]

    def results(self) -> list[dict[str, Any]]:
        """Return the Workflow object of each run that is still there."""
        submitted = [*self.local.submitted, *self.argo.submitted]
        return [engine.query(name) for name, engine in submitted if name not in engine.deleted]


def with_parameters(manifest: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Return a manifest with other values of its workflow parameters.

    Raises:
        ManifestError: There is no such parameter.
    """
    if not values:
        return manifest
    changed = copy.deepcopy(manifest)
    declared = changed.get("spec", {}).get("arguments", {}).get("parameters") or []
    by_name = {parameter["name"]: parameter for parameter in declared}
    for name, value in values.items():
        if name not in by_name:
            raise ManifestError(
                f"parameter {name!r} was set by -p; this workflow has {', '.join(sorted(by_name)) or 'no parameters'}. "
                "In Python they are declared by Workflow(parameters={...}), in a manifest by spec.arguments.parameters."
            )
        by_name[name].pop("valueFrom", None)
        by_name[name]["value"] = value
    return changed


def run_program(path: Path, argv: Sequence[str], engines: ProgramEngines) -> None:
    """Run a Python program; if it makes one workflow and submits none, submit that.

    Raises:
        EngineError: It cannot be read, or there is nothing in it to run.
        SystemExit: The program said so.
    """
    from dflow_hpc import compat

    compat.install()
    hooks.register("engine", engines.of)
    namespace = _execute(path, argv)
    if engines.submitted:
        return
    from dflow_hpc.model.workflow import Workflow

    found = [value for value in namespace.values() if isinstance(value, Workflow)]
    if len(found) != 1:
        raise EngineError(
            f"{path} was to be run; it submitted nothing and holds {len(found)} workflows. "
            "Call submit() on the one that is meant."
        )
    found[0].submit()


def _execute(path: Path, argv: Sequence[str]) -> dict[str, Any]:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise EngineError(f"the program {path} was to be run; it cannot be read: {error.strerror}.") from error
    module = types.ModuleType("__main__")
    module.__file__ = str(path.resolve())
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    sys.argv = [str(path), *argv]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102  the author's own program, which is what was asked for
    except (SystemExit, KeyboardInterrupt, NotWhileLoading):
        raise
    except Exception as error:
        _show(error, path)
        raise SystemExit(2) from error
    return module.__dict__


def _show(error: BaseException, path: Path) -> None:
    """Print an error of the program from its own first line on, without the lines of this command above it."""
    from dflow_hpc.errors import DflowError

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(path):
        trace = trace.tb_next
    if isinstance(error, DflowError):
        last = trace
        while (
            last is not None
            and last.tb_next is not None
            and "dflow_hpc" not in last.tb_next.tb_frame.f_code.co_filename
        ):
            last = last.tb_next
        where = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}: " if last else ""
        print(f"{where}{type(error).__name__}: {error}", file=sys.stderr)
        return
    traceback.print_exception(type(error), error, trace, file=sys.stderr)


def run_manifest(path: Path, engines: ProgramEngines, say: Callable[[str], None]) -> None:
    """Run the Workflows of a YAML or JSON file, with the other objects that lie in it.

    Args:
        path: The file.
        engines: What runs them.
        say: Called with each line for the user.

    Raises:
        EngineError: The file cannot be read.
        ManifestError: It holds no Workflow, or something that this engine does not interpret.
        ConfigError: It has containers, and no runtime was chosen.
    """
    documents = _documents(path)
    if not documents.workflows:
        raise ManifestError(f"{path} was to be run; there is no document of kind Workflow in it.")
    if not is_local():
        _submit_to_argo(path, documents, engines.argo)
        return
    for workflow in documents.workflows:
        _check_runs_here(path, workflow, documents.resources)
    if config["runtime"] == "host":
        say(f"{path}: images are ignored; its commands run on this machine, as you")
    for workflow in documents.workflows:
        engines.local.submit(Compiled(workflow), resources=documents.resources)


def _documents(path: Path) -> Documents:
    from dflow_hpc.manifest.text import load

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"the manifest {path} was to be read; it cannot be: {error}.") from error
    try:
        return load(text)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


def lint_manifest(path: Path) -> list[str]:
    """Return why Argo would not accept what lies in a YAML or JSON file, one line an object; nothing is run.

    Raises:
        EngineError: The file cannot be read.
        ManifestError: It holds something that is not understood here.
    """
    from dflow_hpc.manifest.validate import problem_of

    documents = _documents(path)
    found = []
    for document in documents.workflows + documents.resources:
        if document["kind"] != "ConfigMap" and (problem := problem_of(document, documents.resources, lint=True)):
            metadata = document.get("metadata") or {}
            name = metadata.get("name") or metadata.get("generateName") or "without a name"
            found.append(f"{path}: {document['kind']} {name}: {problem}")
    return found


def _submit_to_argo(path: Path, documents: Documents, engine: ArgoProgram) -> None:
    if documents.resources:
        kinds = ", ".join(sorted({resource["kind"] for resource in documents.resources}))
        raise ManifestError(
            f"{path} was to be submitted to Argo; it holds other objects than Workflows ({kinds}), which this version "
            "does not make there. Make them first, with `kubectl apply`, and leave them out of the file."
        )
    for workflow in documents.workflows:
        engine.submit(Compiled(workflow))


def _check_runs_here(path: Path, workflow: dict[str, Any], resources: Sequence[dict[str, Any]]) -> None:
    """Refuse, before anything runs, what would not run here as it was meant."""
    if reasons := refused(workflow, resources):
        raise ManifestError(
            f"{path} was to be run on this machine; the local engine does not interpret:\n  "
            + "\n  ".join(reasons)
            + "\nSubmit it to Argo: argo submit "
            + str(path)
        )
    if config["runtime"] is None:
        raise ConfigError(
            f"{path} runs containers; say how: --runtime host (ignores the images and runs the commands on this "
            "machine, as you), --runtime podman, docker or apptainer (or DFLOW_RUNTIME)."
        )


def lint_program(path: Path, argv: Sequence[str]) -> list[Finding]:
    """Return what looks wrong in the workflows that a program submits or leaves unsubmitted; nothing is run.

    Raises:
        CompileError: A workflow cannot be compiled at all.
    """
    from dflow_hpc import compat
    from dflow_hpc.model.workflow import Workflow

    compat.install()
    submitted: list[Workflow] = []

    def keep(workflow: Workflow) -> Compiled:
        submitted.append(workflow)
        raise NotWhileLoading("the program is only looked at")

    hooks.register("compile", keep)
    namespace: dict[str, Any] = {}
    with contextlib.suppress(NotWhileLoading):
        namespace = _execute(path, argv)
    found = submitted or [value for value in namespace.values() if isinstance(value, Workflow)]
    if not found:
        raise EngineError(f"{path} was to be looked at; it makes no workflow.")
    for workflow in found:
        compile_workflow(workflow)
    return [finding for workflow in found for finding in lint(workflow)]


def rebuild(run: RunDir) -> Callable[[], Compiled] | None:
    """Return what compiles the program of a run again, or None where the run did not come from a program's file."""
    origin = run.settings().get("origin")
    if not origin:
        return None
    return lambda: _compile_again(run, origin)


class _Capture(LocalEngine):
    """The local engine, but for one thing: it keeps what it is given, and ends the program there."""

    def __init__(self, name: str):
        super().__init__()
        self._name = name
        self.compiled: Compiled | None = None
        self.other = ""
        """Name of a workflow that the program submits before that."""

    def submit(self, compiled: Compiled, **_: Any) -> str:
        metadata = compiled.manifest["metadata"]
        name = metadata.get("generateName") or metadata.get("name") or ""
        if name and self._name.startswith(name):
            self.compiled = compiled
        else:
            self.other = name
        raise NotWhileLoading("the program is only compiled again")


def _compile_again(run: RunDir, origin: Mapping[str, Any]) -> Compiled:
    path = Path(origin["program"])
    capture = _Capture(run.name)
    hooks.register("engine", lambda _mode: capture)
    config["mode"] = "debug"
    if origin["compat"]:
        from dflow_hpc import compat

        compat.install(force=True)
    with contextlib.suppress(NotWhileLoading), contextlib.chdir(origin["directory"]):
        _execute(path, origin["argv"])
    if capture.compiled is None:
        why = f"submits {capture.other!r} before it, whose results it may need" if capture.other else "submits none now"
        raise EngineError(
            f"the code of {run.name} was to be bundled anew; {path} {why}. "
            f"Keep the code that the run has: dflow-hpc retry --same-code {run.name}"
        )
    return capture.compiled
