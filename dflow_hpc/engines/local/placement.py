"""Where a leaf is placed: the wish on its template against the machines' profiles.

This version runs leaves on this machine: a profile with ``scheduler = "shell"`` and no host gives the leaf its setup
lines and as many of the workers as the CPUs that it asks for. Any other profile is refused before anything runs.

Not here: the profiles themselves (``executors/machine.py``).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.machine import Machine, Machines, Resources, machine_files, step_resources

MACHINE_ANNOTATION = "dflow-hpc/machine"
RESOURCES_ANNOTATION = "dflow-hpc/resources"


class Place(NamedTuple):
    """What a leaf's placement means for the local workers."""

    slots: int = 1
    """Workers that it occupies."""
    setup: tuple[str, ...] = ()
    """Shell lines before its program."""


class Placements:
    """Answers for the placements of a run's leaves.

    Args:
        workers: Slots that there are; not above 0 is no limit.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self._machines: Machines | None = None
        self._places: dict[tuple[str, str], Place] = {}

    def of(self, template: dict[str, Any]) -> Place:
        """Return the place of a leaf.

        Raises:
            ConfigError: Its machine is unknown, is not one that this version can use, or its wishes are wrong.
        """
        annotations = (template.get("metadata") or {}).get("annotations") or {}
        name = annotations.get(MACHINE_ANNOTATION)
        if name is None:
            return Place()
        wished = annotations.get(RESOURCES_ANNOTATION) or "{}"
        key = (name, wished)
        if key not in self._places:
            self._places[key] = self._place(name, wished, f"step template {template.get('name', '')!r}")
        return self._places[key]

    def _place(self, name: str, wished: str, what: str) -> Place:
        if self._machines is None:
            self._machines = Machines(machine_files())
        machine = self._machines.get(name)
        if machine.scheduler != "shell" or machine.host is not None:
            raise ConfigError(_not_yet(machine))
        resources = step_resources(machine.resources, json.loads(wished), what)
        return Place(self._slots(resources), machine.setup)

    def _slots(self, resources: Resources) -> int:
        wanted = max(1, resources.cpus * resources.tasks)
        return wanted if self._workers <= 0 else min(wanted, self._workers)


def _not_yet(machine: Machine) -> str:
    return (
        f"machine {machine.name!r} asks for {machine.describe()}, which this version cannot run yet: it runs leaves on "
        f'this machine only. To run its steps here, put a profile [machine.{machine.name}] with scheduler = "shell" '
        "and no host into machines.toml beside the script."
    )


def check(manifest: dict[str, Any]) -> None:
    """Check the placements of all templates, before anything runs.

    Args:
        manifest: A Workflow.

    Raises:
        ConfigError: One cannot be met; see ``Placements.of``.
    """
    placements = Placements(0)
    for template in manifest["spec"].get("templates") or []:
        placements.of(template)
