"""Where a leaf is placed: the wish on its template against the machines' profiles.

A profile with ``scheduler = "shell"``, no host and no transport is this host: its leaves go to the local workers, with
its setup lines and as many of the workers as the CPUs that they ask for. Leaves of any other become jobs.

Not here: the profiles themselves (``executors/machine.py``).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from dflow_hpc.engines.local.rundir import write_atomic
from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.machine import (
    Limits,
    Machine,
    Machines,
    Resources,
    Waits,
    machine_files,
    resources_from,
    step_resources,
)

MACHINE_ANNOTATION = "dflow-hpc/machine"
RESOURCES_ANNOTATION = "dflow-hpc/resources"
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
        self._file = run_dir / _FILE
        self._profiles: dict[str, Any] | None = None
        self._places: dict[tuple[str, str], Place] = {}

    def of(self, template: dict[str, Any]) -> Place:
        """Return the place of a leaf.

        Raises:
            ConfigError: The run has no profile of its machine, or its wishes are wrong.
        """
        name, wished = _wish(template)
        if name is None:
            return Place()
        if (name, wished) not in self._places:
            self._places[name, wished] = self._place(name, wished, template)
        return self._places[name, wished]

    def _place(self, name: str, wished: str, template: dict[str, Any]) -> Place:
        if self._profiles is None:
            self._profiles = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        if name not in self._profiles:
            raise ConfigError(
                f"template {template.get('name')!r} is placed on machine {name!r}; the run was started without a "
                f"profile of that name ({self._file}). Submit it anew."
            )
        machine = _machine(self._profiles[name])
        resources = _resources(machine.resources, wished, template)
        if not _is_here(machine):
            return Place(machine=machine, resources=resources)
        wanted = max(1, resources.cpus * resources.tasks)
        return Place(wanted if self._workers <= 0 else min(wanted, self._workers), machine.setup)


def profiles(manifest: dict[str, Any], beside: Path | None = None) -> dict[str, Any]:
    """Return the profiles that a run of a manifest needs, before anything runs.

    Args:
        manifest: A Workflow.
        beside: The script's directory, where ``machines.toml`` is looked for before the current directory.

    Raises:
        ConfigError: A machine is unknown, or a step's wishes are wrong.
    """
    machines: Machines | None = None
    found: dict[str, Any] = {}
    for template in manifest["spec"].get("templates") or []:
        name, wished = _wish(template)
        if name is None:
            continue
        machines = machines or Machines(machine_files(beside))
        machine = machines.get(name)
        _resources(machine.resources, wished, template)
        found[name] = dataclasses.asdict(machine)
    return found


def keep(run_dir: Path, found: dict[str, Any]) -> None:
    """Leave profiles with a run, so that it can go on from anywhere as it began.

    Args:
        run_dir: The run's directory.
        found: What ``profiles`` returned.
    """
    if found:
        write_atomic(run_dir / _FILE, json.dumps(found))


def _wish(template: dict[str, Any]) -> tuple[str | None, str]:
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return annotations.get(MACHINE_ANNOTATION), annotations.get(RESOURCES_ANNOTATION) or "{}"


def _resources(defaults: Resources, wished: str, template: dict[str, Any]) -> Resources:
    return step_resources(defaults, json.loads(wished), f"template {template.get('name')!r}")


def _is_here(machine: Machine) -> bool:
    return machine.scheduler == "shell" and machine.host is None and machine.transport is None


def _machine(kept: dict[str, Any]) -> Machine:
    """Return a profile from the form in which ``keep`` left it."""
    resources, limits = resources_from(kept["resources"]), Limits(**kept["limits"])
    parts = {"resources": resources, "limits": limits, "waits": Waits(**kept["waits"])}
    return Machine(**{**kept, "setup": tuple(kept["setup"]), **parts})
