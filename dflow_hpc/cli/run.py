"""``run`` and ``submit``: a Python program or an Argo manifest."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from dflow_hpc.cli.live import open_view
from dflow_hpc.cli.look import output_option, pairs, print_workflow
from dflow_hpc.cli.program import ProgramEngines, lint_manifest, lint_program, run_manifest, run_program
from dflow_hpc.config import config, set_config
from dflow_hpc.errors import EngineError

_MANIFESTS = (".yaml", ".yml", ".json")
_MODES = {"local": "debug", "argo": "argo"}
_arguments = (
    click.argument("file", type=click.Path(path_type=Path)),
    click.argument("arguments", nargs=-1, type=click.UNPROCESSED),
    click.option("-p", "--parameter", "texts", multiple=True, metavar="NAME=VALUE", help="A workflow parameter."),
    click.option(
        "--machine",
        "places",
        multiple=True,
        metavar="[STEP=]MACHINE",
        expose_value=False,
        callback=lambda _context, _option, given: set_config(place=list(given)) if given else None,
        help="Run steps of this name (* stands for anything), or all, on this machine; `local` is this host.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "argo"]),
        expose_value=False,
        callback=lambda _context, _option, given: set_config(mode=_MODES[given]) if given else None,
        help="What runs it: this machine, or Argo; as the settings say (mode) unless given.",
    ),
    click.option("--workdir", type=click.Path(file_okay=False), help="Directory for the run (default: here)."),
    click.option("--workers", type=int, help="Steps that run at once (default: as many as cores)."),
    click.option(
        "--runtime",
        type=click.Choice(["host", "podman", "docker", "apptainer"]),
        help="How containers run; host ignores images and runs commands as you.",
    ),
    click.option(
        "--as-dflow",
        is_flag=True,
        expose_value=False,
        callback=lambda _context, _option, given: _as_dflow() if given else None,
        help="`import dflow` in FILE means dflow_hpc, although pydflow is installed.",
    ),
)


def _as_dflow() -> None:
    from dflow_hpc import compat

    compat.install(force=True)


def _with_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in reversed(_arguments):
        function = decorate(function)
    return function


@click.command("run")
@output_option
@click.option("--plain", is_flag=True, help="Plain lines, although this is a terminal.")
@_with_arguments
def run_command(
    file: Path,
    arguments: tuple[str, ...],
    texts: tuple[str, ...],
    workdir: str | None,
    workers: int | None,
    runtime: str | None,
    output: str,
    plain: bool,
) -> int:
    """Run FILE (a Python program or an Argo manifest), on this machine or on Argo, and look on.

    ARGUMENTS are the program's own; if they begin with a dash, write -- before them. The exit code is 0 only if every
    workflow succeeded.
    """
    _settings(workdir, workers, runtime)
    view = open_view(plain=plain)
    engines = ProgramEngines(pairs(texts), False, say=view.say, on_change=view.change)
    try:
        with _stdout_to_stderr(output != "text"):
            code = _start(file, arguments, engines, view.say)
    finally:
        view.close()
    return _report(engines, output, code)


@click.command("submit")
@_with_arguments
def submit_command(
    file: Path,
    arguments: tuple[str, ...],
    texts: tuple[str, ...],
    workdir: str | None,
    workers: int | None,
    runtime: str | None,
) -> int:
    """Run FILE in the background, and print the names of its runs."""
    _settings(workdir, workers, runtime)
    engines = ProgramEngines(pairs(texts), True)
    code = _start(file, arguments, engines, lambda line: click.echo(line, err=True))
    for name in engines.submitted:
        click.echo(name)
    return code


@click.command("lint")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lint_command(file: Path, arguments: tuple[str, ...]) -> int:
    """Say what looks wrong in the workflow of FILE, a Python program or an Argo manifest. Nothing of it runs.

    A program runs up to its first submit(), and that workflow is compiled. A manifest is judged by Argo's rules.
    """
    findings = lint_manifest(file) if file.suffix in _MANIFESTS else lint_program(file, arguments)
    for finding in findings:
        click.echo(str(finding))
    if not findings:
        click.echo(f"{file}: nothing looks wrong")
    return 1 if findings else 0


def _settings(workdir: str | None, workers: int | None, runtime: str | None) -> None:
    given = {"debug_workdir": workdir, "debug_pool_workers": workers, "runtime": runtime}
    set_config(**{name: value for name, value in given.items() if value is not None})
    # `run` and `submit` mean this machine unless the user's settings say otherwise; a program may still assign it.
    if config.layer("mode") == "default":
        set_config(mode="debug")


def _start(file: Path, arguments: tuple[str, ...], engines: ProgramEngines, say: Callable[[str], None]) -> int:
    if file.suffix in _MANIFESTS:
        if arguments:
            raise click.UsageError(
                f"{' '.join(arguments)!r} follows {file}; a manifest takes parameters: -p NAME=VALUE."
            )
        run_manifest(file, engines, say)
        return 0
    if file.suffix != ".py" and not file.is_file():
        raise EngineError(
            f"{file} was to be run; there is no such file. A program (.py) or a manifest (.yaml) is needed."
        )
    try:
        run_program(file, arguments, engines)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        click.echo(end.code, err=True)
        return 1
    return 0


def _report(engines: ProgramEngines, output: str, code: int) -> int:
    workflows = engines.results()
    if output != "text" and len(workflows) == 1:
        print_workflow(workflows[0], output)
    elif output != "text":
        print_workflow({"apiVersion": "v1", "kind": "List", "items": workflows}, output)
    else:
        for workflow in workflows:
            click.echo()
            print_workflow(workflow, output)
    failed = any(workflow["status"]["phase"] != "Succeeded" for workflow in workflows)
    return code or (1 if failed else 0)


@contextlib.contextmanager
def _stdout_to_stderr(wanted: bool) -> Iterator[None]:
    """Keep stdout for the JSON: what the program and its children print goes to stderr meanwhile."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
