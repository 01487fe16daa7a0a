"""Where rules that re-place steps come from: ``[place]`` of the machines' files, and the setting ``place``.

    [place]                        # machines.toml
    "label*" = "cpu"
    "train" = "local"              # this host

The setting is a list of texts ``STEP=MACHINE``: ``dflow-hpc run --machine STEP=MACHINE``, or ``DFLOW_PLACE``. It counts
more than the files, a higher file more than a lower one, a later line more than an earlier.

Every engine passes a workflow through ``settle`` before it looks at it. Not here: what a rule does
(``manifest/placing.py``).

Trap: files hold rules for many workflows, so one that matches nothing there is no mistake; one of the setting is.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dflow_hpc.compile import Compiled
from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.machine import Machine, Machines, machine_files, machine_from, step_resources
from dflow_hpc.manifest import placing
from dflow_hpc.manifest.placing import HERE, Rule, wishes


def rules_of(texts: Iterable[str]) -> list[Rule]:
    """Return the rules of texts ``STEP=MACHINE``; ``MACHINE`` alone is for all steps.

    Raises:
        ConfigError: One is no such text.
    """
    rules = []
    for text in texts:
        steps, _, machine = (text if "=" in text else f"*={text}").partition("=")
        if not (steps.strip() and machine.strip()):
            raise ConfigError(
                f"steps were to be placed by {text!r}; that is written STEP=MACHINE, such as 'label*=cpu' or "
                "'train=local', or MACHINE alone for all steps."
            )
        rules.append(Rule(steps.strip(), machine.strip()))
    return rules


def settle(
    compiled: Compiled, beside: Path | None = None, rules: Iterable[str] = ()
) -> tuple[Compiled, dict[str, Machine]]:
    """Place the steps of a workflow as rules say, and find the machines that it needs, before anything runs.

    Args:
        compiled: The workflow.
        beside: The script's directory, where ``machines.toml`` is looked for before the current directory.
        rules: The setting ``place``.

    Returns:
        The workflow that is to run, without what belongs to machines that it does not use any more; and its machines by
        the names that it has for them.

    Raises:
        ConfigError: A machine is unknown, or a step's wishes are wrong.
        ManifestError: A rule matches no step.
    """
    machines = Machines(machine_files(beside))
    manifest = placed(compiled.manifest, machines, rules, own=compiled.machines)
    found: dict[str, Machine] = {}
    for template, name, wished in wishes(manifest):
        own = compiled.machines.get(name)
        found[name] = machines.wished(name) if own is None else machine_from(name, own, "the program")
        step_resources(found[name].resources, json.loads(wished), f"template {template.get('name')!r}")
    unused = compiled.machines.keys() - found.keys()
    settled = dataclasses.replace(
        compiled,
        manifest=manifest,
        machines={name: table for name, table in compiled.machines.items() if name in found},
        secrets=tuple(secret for secret in compiled.secrets if secret.name not in unused),
    )
    return settled, found


def current(names: Iterable[str], beside: Path) -> dict[str, Machine]:
    """Return the profiles of these names as the files have them now, without those that no file has (any more).

    Args:
        names: As ``settle`` gave them.
        beside: A directory that is looked at before the current one.

    Raises:
        ConfigError: A file cannot be read, or a value of such a profile is wrong.
    """
    machines = Machines(machine_files(beside))
    return {name: machines.wished(name) for name in names if name in machines.names or "=" in name}


def script_directory() -> Path | None:
    """Return where the running script lies; None in a notebook or a REPL."""
    script = Path(sys.argv[0]) if sys.argv else Path()
    return script.parent if script.suffix == ".py" else None


def placed(
    manifest: dict[str, Any], machines: Machines, texts: Iterable[str] = (), own: Iterable[str] = ()
) -> dict[str, Any]:
    """Return a manifest with its steps placed as the files and the setting say.

    Args:
        manifest: A Workflow; it stays as it is.
        machines: The profiles, with the rules of their files.
        texts: The setting ``place``.
        own: Machines that the workflow brings itself, which a rule may name too.

    Raises:
        ConfigError: A rule names a machine that is unknown.
        ManifestError: One of the setting matches no step.
    """
    rules = [*(Rule(steps, machine, required=False) for steps, machine in machines.places), *rules_of(texts)]
    for rule in rules:
        if rule.machine not in (*HERE, *own):
            machines.get(rule.machine)
    return placing.placed(manifest, rules)
