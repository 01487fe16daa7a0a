"""``explain``: one step on one screen - where it is, why, what comes next, and how to look by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from dflow_hpc.cli.tree import duration_text
from dflow_hpc.engines.local.engine import LocalEngine
from dflow_hpc.engines.local.report import indented

_SHOWN = 5
Facts = dict[str, Any]


@click.command("explain")
@click.argument("run")
@click.argument("step", required=False)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@click.option("--all", "all_members", is_flag=True, help="Explain every member of a loop.")
def explain_command(run: str, step: str | None, output: str, all_members: bool) -> None:
    """Say where STEP of RUN is and why, and what comes next.

    STEP is a name, a key or a node id; without one, the steps that failed are explained, or else those that have not
    ended. Of a large loop, the members that are not well come first.
    """
    found = LocalEngine().explain(run, step)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo(f"{run}: no step of it has failed, and none is at work; name one to have it explained")
    shown = found if all_members else sorted(found, key=lambda facts: facts["phase"] == "Succeeded")[:_SHOWN]
    for number, facts in enumerate(shown):
        if number:
            click.echo()
        click.echo("\n".join(lines(facts, time.time())))
    if len(found) > len(shown):
        click.echo(f"\nand {len(found) - len(shown)} more: --all explains them, too")


def lines(facts: Facts, now: float) -> Iterator[str]:
    """Yield the lines about one leaf.

    Args:
        facts: What ``LocalEngine.explain`` gives.
        now: Seconds since the epoch.
    """
    where = f" on machine {facts['machine']}" if facts.get("machine") else ""
    yield f"{facts['name'].partition('.')[2] or facts['name']}: {facts['phase']}{where}"
    if facts.get("message"):
        yield _row("message", facts["message"])
    if facts.get("failure"):
        yield _row("class", facts["failure"])
    if facts.get("job"):
        yield from _job(facts["job"], now)
    elif facts.get("started"):
        yield _row("started", facts["started"])
    upcoming = facts["next"]
    yield _row("next", upcoming["text"] + (f" ({_when(upcoming['at'], now)})" if upcoming["at"] else ""))
    if facts.get("log"):
        yield _row("log", f"its end, of {facts['directory']}/log.txt")
        yield from (f"    | {line}" for line in facts["log"])
    if facts.get("commands"):
        yield _row("by hand", "")
        yield from (f"    {command}" for command in facts["commands"])


def _job(job: Facts, now: float) -> Iterator[str]:
    last = job["attempts"][-1]
    yield _row("token", last["token"] + (f", job name {job['job_name']}" if job["job_name"] else ""))
    if last["id"]:
        yield _row("job", last["id"] + (f", member {last['index']}" if last["index"] else ""))
    yield _row("state", f"{last['state']}: {last['meaning']}, since {_when(last['since'], now)}")
    if last["word"] and last["state"] != "ENDED":
        means = f": {last['reason_means']}" if last["reason_means"] else ""
        yield _row("scheduler", last["word"] + means)
    if last["state"] == "QUEUED" and last["expected"]:
        yield _row("start", f"expected {_when(last['expected'], now)}")
    if last["node"]:
        yield _row("node", last["node"])
    if job["paused"]:
        yield _row("paused", job["paused"])
    if last["resources"]:
        yield _row("asks for", _resources(last["resources"]))
    before = job["attempts"][:-1]
    for attempt in before:
        why = f"{attempt['failure'] or 'ended'}: {attempt['reason'] or attempt['word']}"
        node = f" on {attempt['node']}" if attempt["node"] else ""
        asked = f" [{_resources(attempt['resources'])}]" if attempt["resources"] else ""
        yield _row("before", f"attempt {attempt['token'].rpartition('-')[2]}, job {attempt['id']}{node}: {why}{asked}")


def _resources(resources: Facts) -> str:
    return ", ".join(f"{key} {value}" for key, value in resources.items())


def _row(label: str, text: str) -> str:
    return f"  {label:<10}{indented(text, 12)}".rstrip()


def _when(at: float, now: float) -> str:
    """Return a time of the day, and how far away it is."""
    moment = datetime.fromtimestamp(at).strftime("%H:%M:%S")
    away = duration_text(abs(at - now))
    return f"{moment}, in {away}" if at > now else f"{moment}, {away} ago"
