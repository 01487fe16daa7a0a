"""Where a leaf is placed: the wish on its template against the machines' profiles.

This version runs leaves on this machine only; a wish for anything else is refused before anything runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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

    def of(self, template: dict[str, Any]) -> Place:
        """Return the place of a leaf."""
        return Place()
