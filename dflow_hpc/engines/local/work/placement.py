"""Where a leaf is placed: the wish on its template against the machines' profiles.

A profile with ``scheduler = "shell"``, no host and no transport is this host: its leaves go to the local workers, with
its setup lines and as many of the workers as the CPUs that they ask for. Leaves of any other become jobs.

Not here: the profiles themselves (``executors/profiles/machine.py``), and rules that re-place steps
(``executors/profiles/placing.py``).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dflow_hpc.engines.local.rundir import write_atomic
from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.machine import (
    Limits,
    Machine,
    Resources,
    Waits,
    resources_from,
    step_resources,
)
from dflow_hpc.manifest.placing import wish_of

_FILE = "machines.json"


class Place(NamedTuple):
    """Where a leaf runs, and what that means there."""

    slots: int = 1
    """Workers that it occupies."""
    setup: tuple[str, ...] = ()
    """Shell lines before its program."""
    machine: Machine | None = None
    """The machine on which it becomes a job; None is a local worker."""
    resources: Resources = Resources()
    """What the job asks for."""


class Placements:
    """Answers for the placements of a run's leaves.

    Args:
        workers: Slots that there are; not above 0 is no limit.
        run_dir: The run's directory, in which ``keep`` left the profiles.
    """

    def __init__(self, workers: int, run_dir: Path):
        self._workers = workers
        self._run_dir = run_dir
        self._profiles: dict[str, Machine] | None = None
        self._places: dict[tuple[str, str], Place] = {}

    def of(self, template: dict[str, Any]) -> Place:
        """Return the place of a leaf.

        Raises:
            ConfigError: The run has no profile of its machine, or its wishes are wrong.
        """
        name, wished = wish_of(template)
        if name is None:
            return Place()
        if (name, wished) not in self._places:
            self._places[name, wished] = self._place(name, wished, template)
        return self._places[name, wished]

    def _place(self, name: str, wished: str, template: dict[str, Any]) -> Place:
        if self._profiles is None:
            self._profiles = profiles(self._run_dir)
        if name not in self._profiles:
            raise ConfigError(
                f"template {template.get('name')!r} is placed on machine {name!r}; the run was started without a "
                f"profile of that name ({self._run_dir / _FILE}). Submit it anew."
            )
        machine = self._profiles[name]
        resources = _resources(machine.resources, wished, template)
        if not machine.is_here:
            return Place(machine=machine, resources=resources)
        wanted = max(1, resources.cpus * resources.tasks)
        return Place(wanted if self._workers <= 0 else min(wanted, self._workers), machine.setup)


def keep(run_dir: Path, found: Mapping[str, Machine]) -> None:
    """Leave profiles with a run, so that it can go on from anywhere as it began.

    Args:
        run_dir: The run's directory.
        found: By the names that the manifest has for them; see ``placing.settle``.
    """
    if found:
        text = json.dumps({name: dataclasses.asdict(machine) for name, machine in found.items()})
        write_atomic(run_dir / _FILE, text, 0o600)  # setup lines may set variables that are secret


def profiles(run_dir: Path) -> dict[str, Machine]:
    """Return the profiles of a run's machines by their names, as they were at the submission."""
    path = run_dir / _FILE
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: _machine(values) for name, values in found.items()}


def _resources(defaults: Resources, wished: str, template: dict[str, Any]) -> Resources:
    return step_resources(defaults, json.loads(wished), f"template {template.get('name')!r}")


def _machine(kept: dict[str, Any]) -> Machine:
    """Return a profile from the form in which ``keep`` left it."""
    parts = {"resources": resources_from(kept["resources"]), "limits": Limits(**kept["limits"])}
    lists = {key: tuple(value) for key, value in kept.items() if isinstance(value, list)}
    return Machine(**{**kept, **lists, **parts, "waits": Waits(**kept["waits"])})
