"""Commands that only look: ``list``, ``get``, ``logs``, ``wait``."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from dflow_hpc.cli import tree
from dflow_hpc.cli.engines import chosen
from dflow_hpc.cli.live import follow_in_terminal
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.engines.local.engine import LeafLog

_NO_RUNS = "no runs yet; start one with `dflow-hpc run FILE.py`"
_ASK_AGAIN = 10.0
"""Seconds between two requests to go on with bringing logs from machines: each holds for twice as long."""
output_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", help="How to print; json is Argo's."
)


def pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """Return what ``-p NAME=VALUE`` said, as a dict."""
    for text in texts:
        if "=" not in text:
            raise click.UsageError(f"-p {text!r} was given; what is needed is -p NAME=VALUE.")
    return dict(text.split("=", 1) for text in texts)


def print_workflow(workflow: dict[str, Any], output: str, *, limit: int = 8) -> None:
    """Print a Workflow object as a tree, or as ``kubectl get workflow -o json`` would."""
    if output == "json":
        click.echo(json.dumps(workflow, indent=2))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(workflow, sort_keys=False), nl=False)
    else:
        width = shutil.get_terminal_size((140, 40)).columns
        click.echo("\n".join([*tree.summary(workflow), "", *tree.text(tree.rows(workflow, limit=limit), width)]))


@click.command("list")
@output_option
def list_command(output: str) -> None:
    """List the runs of this machine, wherever their directories lie; with Argo, those of the namespace."""
    engine = chosen()
    if isinstance(engine, ArgoEngine):
        _list_argo(engine, output)
        return
    runs = engine.list_runs()
    if output != "text":
        objects = {"apiVersion": "v1", "kind": "List", "items": [engine.query(str(info.path)) for info in runs]}
        print_workflow(objects, output)
        return
    if not runs:
        click.echo(_NO_RUNS)
        return
    width = max(len(info.id) for info in runs)
    click.echo(f"{'NAME':<{width}}  {'PHASE':<20}  {'AGE':>6}  DIRECTORY")
    for info in runs:
        dead = info.phase in ("Running", "Pending") and not info.alive
        phase = f"{info.phase} (not alive)" if dead else info.phase
        age = tree.duration_text(time.time() - info.created)
        click.echo(f"{info.id:<{width}}  {phase:<20}  {age:>6}  {info.path}")


def _list_argo(engine: ArgoEngine, output: str) -> None:
    runs = engine.list_runs()
    if output != "text":
        objects = {"apiVersion": "v1", "kind": "List", "items": [engine.query(info.id) for info in runs]}
        print_workflow(objects, output)
        return
    if not runs:
        click.echo(_NO_RUNS)
        return
    width = max(len(info.id) for info in runs)
    click.echo(f"{'NAME':<{width}}  {'PHASE':<10}  {'AGE':>6}")
    for info in runs:
        click.echo(f"{info.id:<{width}}  {info.phase:<10}  {tree.duration_text(time.time() - info.created):>6}")


@click.command("get")
@click.argument("run")
@output_option
@click.option("-w", "--watch", is_flag=True, help="Look on until it has ended.")
@click.option("--all", "all_members", is_flag=True, help="Show every member of a loop.")
def get_command(run: str, output: str, watch: bool, all_members: bool) -> None:
    """Show RUN (its name, the beginning of its name, or its directory)."""
    engine = chosen()
    if watch:
        follow_in_terminal(engine, run)
    workflow = engine.query(run)
    print_workflow(workflow, output, limit=10**9 if all_members else 8)
    if isinstance(engine, ArgoEngine):
        return
    if output == "text" and workflow["status"]["phase"] in ("Running", "Pending") and not engine.engine_alive(run):
        name = workflow["metadata"]["name"]
        click.echo(f"\nNo process works on it: go on with `dflow-hpc resume {name}`.")


@click.command("logs")
@click.argument("run")
@click.argument("step", required=False)
@click.option("-f", "--follow", is_flag=True, help="Print what is added, until the run has ended.")
@click.option("--tail", type=click.IntRange(0), help="Only so many last lines of each step.")
def logs_command(run: str, step: str | None, follow: bool, tail: int | None) -> None:
    """Print the output of the steps of RUN, or of STEP alone (its name, key or node id)."""
    engine = chosen()
    if isinstance(engine, ArgoEngine):
        _print_pod_logs(engine, run, step, follow, tail)
        return
    if notice := engine.bring_logs(run, step):
        click.echo(notice, err=True)
    logs = engine.logs(run, step)
    prefix = len(logs) > 1 or (follow and step is None)
    places: dict[Path, int] = {}
    for log in logs:
        _print_log(log, places, prefix, tail)
    if not follow:
        return
    # Nothing tells of a line in a log, so the files are looked at; the end of the run wakes us at once.
    asked = time.monotonic()
    while engine.engine_alive(run):
        if time.monotonic() - asked > _ASK_AGAIN:
            asked = time.monotonic()
            engine.follow_logs(run)
        for log in engine.logs(run, step):
            _print_log(log, places, prefix, None)
        engine.find(run).lock.wait(0.3)
    for log in engine.logs(run, step):
        _print_log(log, places, prefix, None)


def _print_pod_logs(engine: ArgoEngine, run: str, step: str | None, follow: bool, tail: int | None) -> None:
    logs = engine.logs(run, step)
    for log in logs:
        name = log.name.partition(".")[2] or log.name
        for line in log.lines(follow=follow, tail=tail):
            text = line.decode("utf-8", "replace")
            click.echo(f"{name}: {text}" if len(logs) > 1 else text)


def _print_log(log: LeafLog, places: dict[Path, int], prefix: bool, tail: int | None) -> None:
    """Print what a log holds beyond the place up to which it was printed."""
    try:
        with log.path.open("rb") as file:
            file.seek(places.get(log.path, 0))
            data = file.read(64 << 20)
    except FileNotFoundError:
        return
    if not data:
        return
    # A line that is not complete waits for its end, unless the step is over.
    if log.phase == "Running" and not data.endswith(b"\n"):
        data = data[: data.rfind(b"\n") + 1]
    places[log.path] = places.get(log.path, 0) + len(data)
    lines = data.decode("utf-8", "replace").splitlines()
    if tail is not None:
        lines = lines[max(0, len(lines) - tail) :]
    name = log.name.partition(".")[2] or log.name
    for line in lines:
        click.echo(f"{name}: {line}" if prefix else line)


@click.command("wait")
@click.argument("run")
@click.option("--timeout", type=float, help="At most so many seconds.")
def wait_command(run: str, timeout: float | None) -> int:
    """Wait until RUN has ended; the exit code is 0 only if it succeeded."""
    began = datetime.now(UTC)
    phase = chosen().wait(run, timeout)
    seconds = (datetime.now(UTC) - began).total_seconds()
    click.echo(f"{run}: {phase} after {tree.duration_text(seconds)}")
    return 0 if phase == "Succeeded" else 1
