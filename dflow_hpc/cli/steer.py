"""Commands that change what a run does: ``resume``, ``retry``, ``stop`` and their like, ``delete``, ``gc``."""

from __future__ import annotations

import re

import click

from dflow_hpc.cli.engines import chosen
from dflow_hpc.cli.live import follow_in_terminal, open_view
from dflow_hpc.cli.look import pairs
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.engines.local.engine import LocalEngine
from dflow_hpc.errors import EngineError

_detach = click.option("-d", "--detach", is_flag=True, help="Return at once; it goes on in the background.")
_runs = click.argument("runs", nargs=-1, required=True)


def _follow(engine: ArgoEngine, run: str, detach: bool) -> int:
    """Look on at a run of Argo that was just told to go on."""
    if detach:
        return 0
    follow_in_terminal(engine, run)
    return 0 if engine.query(run)["status"]["phase"] == "Succeeded" else 1


def _work(run: str, action: str, detach: bool, **options: object) -> int:
    if detach:
        engine = LocalEngine()
        getattr(engine, action)(run, detach=True, **options)
        return 0
    view = open_view(LocalEngine().find(run).name)
    engine = LocalEngine(say=view.say, on_change=view.change)
    try:
        getattr(engine, action)(run, **options)
    finally:
        view.close()
    # A living engine was only told; then its end is not ours to report.
    if engine.engine_alive(run):
        return 0
    return 0 if engine.query(run)["status"]["phase"] == "Succeeded" else 1


@click.command("resume")
@click.argument("run")
@click.option("--node", help="Only this suspended step (name or id).")
@click.option("-p", "--parameter", "texts", multiple=True, metavar="NAME=VALUE", help="A value that it waits for.")
@_detach
def resume_command(run: str, node: str | None, texts: tuple[str, ...], detach: bool) -> int:
    """Go on with RUN: finished steps are taken over, what was running is ended and starts again."""
    engine = chosen()
    if isinstance(engine, ArgoEngine):
        engine.resume(run, node=node, parameters=pairs(texts))
        return _follow(engine, run, detach)
    return _work(run, "resume", detach, node=node, parameters=pairs(texts))


@click.command("retry")
@click.argument("run")
@click.option("--same-code", is_flag=True, help="Keep the code that the run has; else it is bundled anew.")
@click.option("--node", "nodes", multiple=True, help="Run this step (node id) again too, although it succeeded.")
@_detach
def retry_command(run: str, same_code: bool, nodes: tuple[str, ...], detach: bool) -> int:
    """Run what failed in RUN again, with the code as it is now, and keep what succeeded."""
    from dflow_hpc.cli.program import rebuild

    engine = chosen()
    if isinstance(engine, ArgoEngine):
        engine.retry(run, only=nodes)
        return _follow(engine, run, detach)
    compiled_again = None if same_code else rebuild(LocalEngine().find(run))
    return _work(run, "retry", detach, rebuild=compiled_again, only=nodes)


@click.command("resubmit")
@click.argument("run")
@_detach
def resubmit_command(run: str, detach: bool) -> int:
    """Run the workflow of RUN anew, under a new name."""
    engine = chosen()
    if isinstance(engine, ArgoEngine):
        return _follow(engine, engine.resubmit(run), detach)
    return _work(run, "resubmit", detach)


@click.command("suspend")
@_runs
def suspend_command(runs: tuple[str, ...]) -> None:
    """Start nothing more in RUNS until they are resumed; what runs goes on."""
    for run in runs:
        chosen().suspend(run)
        click.echo(f"{run}: asked to suspend")


@click.command("stop")
@_runs
def stop_command(runs: tuple[str, ...]) -> None:
    """End the steps of RUNS; their exit handlers still run."""
    for run in runs:
        chosen().stop(run)
        click.echo(f"{run}: asked to stop")


@click.command("terminate")
@_runs
def terminate_command(runs: tuple[str, ...]) -> None:
    """End the steps of RUNS at once, without exit handlers."""
    for run in runs:
        chosen().terminate(run)
        click.echo(f"{run}: asked to terminate")


@click.command("delete")
@_runs
def delete_command(runs: tuple[str, ...]) -> None:
    """Remove RUNS with their artifacts."""
    for run in runs:
        chosen().delete(run)
        click.echo(f"{run}: deleted")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", text.strip())
    if match is None:
        raise EngineError(f"an age was asked for; {text!r} is none. Write 90s, 30m, 12h, 7d or 2w.")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]]


@click.command("gc")
@click.option("--older-than", default="7d", show_default=True, help="Age since the end: 90s, 30m, 12h, 7d, 2w.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
def gc_command(older_than: str, dry_run: bool) -> None:
    """Remove the runs that ended a while ago, with their artifacts."""
    removed = LocalEngine().gc(_seconds(older_than), dry_run=dry_run)
    for info in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {info.id} ({info.phase}) {info.path}")
    click.echo(f"{len(removed)} runs ended longer than {older_than} ago")
