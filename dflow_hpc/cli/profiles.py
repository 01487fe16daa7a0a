"""Profiles as texts: ``machine show`` prints them as TOML, ``machine import`` makes them of dpdispatcher's JSON.

Trap: what is printed is meant for a file, so a password of the JSON must not be in it; what is not TOML goes to stderr.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.dpdispatcher import translate
from dflow_hpc.executors.profiles.machine import machine_from


def profile_text(name: str, profile: Mapping[str, Any]) -> str:
    """Return a profile as TOML, without what says nothing.

    Args:
        name: Its name.
        profile: Its table; values that are tables become tables of their own.
    """
    tables = {key: value for key, value in profile.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in profile.items() if key not in tables and key != "name"}
    lines = []
    for title, table in [("", plain), *tables.items()]:
        lines.append(f"[machine.{name}{title and '.' + title}]")
        for key, value in table.items():
            if value not in (None, (), ""):
                lines.append(f"{key if re.fullmatch('[a-z_]+', key) else _toml(key)} = {_toml(value)}")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    # JSON's texts, lists and booleans are TOML's, too.
    return json.dumps(value, ensure_ascii=False)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Of the profile; else the file's.")
def import_command(file: Path, name: str | None) -> None:
    """Print the profiles that FILE means, as TOML: a JSON file with dpdispatcher's machine and resources."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} was to be imported; it cannot be read as JSON: {error}") from error
    found = list(_entries(content, name or re.sub(r"[^A-Za-z0-9_-]", "-", file.stem)))
    if not found:
        raise ConfigError(
            f'{file} was to be imported; there is no "machine" in it, as dpdispatcher has one (a dict with batch_type).'
        )
    for title, entry in found:
        try:
            translation = translate(entry["machine"], entry.get("resources"), entry.get("task"), grouped=True)
        except ConfigError as error:
            raise ConfigError(f"{file}: {title}: {error}") from error
        profile = {**translation.profile, "resources": translation.resources}
        machine_from(title, profile, str(file))
        click.echo(profile_text(title, profile))
        if translation.password is not None:
            click.echo(f"{title}: the password is left out; profiles have none. Use a key or the agent.", err=True)
        for notice in translation.notices:
            click.echo(f"{title}: {notice}", err=True)


def _entries(content: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the parts of a file that have a machine: the whole, or (as dpgen writes) one for each kind of task."""
    if isinstance(content, list):
        for number, part in enumerate(content):
            yield from _entries(part, name if len(content) == 1 else f"{name}-{number}")
    elif isinstance(content, Mapping) and "batch_type" in content:
        yield name, {"machine": content}
    elif isinstance(content, Mapping) and isinstance(content.get("machine"), Mapping):
        yield name, content
    elif isinstance(content, Mapping):
        for key, part in content.items():
            yield from _entries(part, key)
