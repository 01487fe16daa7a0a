"""``machine``: the profiles of machines; whether one works, down to a real job; whom to trust; what to remove.

Not here: what ``check`` looks at (``machine_check.py``).

Trap: a host key that was stored is trusted by every later run. It is stored only after a yes, or for just the
fingerprint that was given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import click

from dflow_hpc.cli.machine_check import Check, Wrong
from dflow_hpc.cli.profiles import import_command, profile_text
from dflow_hpc.cli.secret import secret_command
from dflow_hpc.compile.closure import foreign_imports
from dflow_hpc.errors import ConfigError, ExecutorError
from dflow_hpc.executors.profiles.machine import Machine, Machines, machine_files
from dflow_hpc.executors.protocol import Scripts
from dflow_hpc.executors.transport import UnknownHost, open_transport


@click.group("machine")
def machine_command() -> None:
    """Look at the profiles of machines, and prove that one works."""


machine_command.add_command(import_command)
machine_command.add_command(secret_command)


def _profile(name: str) -> Machine:
    return Machines(machine_files()).get(name)


@machine_command.command("list")
def list_command() -> None:
    """List the profiles, and the files that they come from."""
    files = machine_files()
    machines = Machines(files)
    if not machines.names:
        click.echo("no profiles yet: write a table [machine.NAME] into machines.toml beside your script")
        return
    rows = [("NAME", "SCHEDULER", "HOST", "ROOT")]
    for name in machines.names:
        machine = machines.get(name)
        rows.append((name, machine.scheduler, machine.host or "(this host)", machine.root or "(default)"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    click.echo("from " + ", ".join(map(str, files)))


@machine_command.command("show")
@click.argument("name")
def show_command(name: str) -> None:
    """Print profile NAME with everything that it extends, as TOML."""
    click.echo(profile_text(name, dataclasses.asdict(_profile(name))))


@machine_command.command("trust")
@click.argument("name")
@click.option("--fingerprint", help="Accept just this one, without a question: SHA256:...")
def trust_command(name: str, fingerprint: str | None) -> int:
    """Show the host key of machine NAME (and of the hosts on the way to it), and store it if you say so.

    NAME may be USER@HOST[:PORT], for a machine that a program describes itself.
    """
    machine = Machine(name, host=name) if "@" in name else _profile(name)
    if machine.host is None or machine.transport == "local":
        click.echo(f"machine {name!r} is this host: there is no key to trust")
        return 0
    from dflow_hpc.executors.transport import paramiko

    while (key := paramiko.unknown_key(machine.host, machine.ssh_config, machine.ssh_options)) is not None:
        click.echo(f"{key.host}\nshows the {key.kind} key\n\n    {key.fingerprint}\n")
        if fingerprint is not None and fingerprint != key.fingerprint:
            raise UnknownHost(f"{fingerprint} was to be trusted, and another was shown. Nothing is stored.")
        if fingerprint is None and not click.confirm("Compare it with what the site publishes. Do you trust it?"):
            click.echo("nothing is stored")
            return 1
        click.echo(f"stored in {paramiko.store_key(key)}")
    click.echo(f"the host keys of machine {name!r} are known")
    return 0


@machine_command.command("clean")
@click.argument("name")
@click.option(
    "--days", type=click.IntRange(1), default=30, show_default=True, help="Age of what nobody has fetched; see below."
)
def clean_command(name: str, days: int) -> None:
    """Remove on machine NAME what no live run needs.

    Leaves whose outcome is safe go at once. Everything else goes when it did not change for --days, which must be
    longer than any of your jobs waits and runs.
    """
    machine = _profile(name)
    transport = open_transport(machine)
    try:
        removed = Scripts(transport, machine.root).clean(days)
    finally:
        transport.close()
    click.echo("removed: " + ", ".join(f"{number} {kind}" for kind, number in removed.items()))


@machine_command.command("check")
@click.argument("name")
@click.option("--import", "modules", multiple=True, help="A Python module that your OPs import; may be given again.")
@click.option(
    "--for",
    "script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Import what this script and its own modules import of others.",
)
@click.option("--no-job", is_flag=True, help="Do not submit a job.")
@click.option(
    "--timeout", type=click.IntRange(1), default=600, show_default=True, help="Seconds that the job may take to end."
)
def check_command(name: str, modules: tuple[str, ...], script: Path | None, no_job: bool, timeout: int) -> int:
    """Prove that machine NAME works: login, directory, scheduler, and a real job."""
    machine = _profile(name)
    if script is not None:
        found = foreign_imports(script)
        click.echo(f"{script} imports {', '.join(found) or 'nothing of others'}")
        modules = (*modules, *found)
    click.echo(f"machine {name}: {machine.describe()}")
    transport = open_transport(machine, login_pause=0.0)
    check = Check(machine, transport, modules, timeout)
    steps = [check.login, check.directory, check.scheduler, *([] if no_job else [check.job])]
    try:
        return 0 if all(_passes(step) for step in steps) else 1
    finally:
        transport.close()


def _passes(step: Callable[[], str]) -> bool:
    try:
        click.echo(f"ok  {step()}")
    except (ExecutorError, ConfigError, Wrong) as error:
        click.echo(f"BAD {error}")
        return False
    return True
