"""Schedulers by name: Slurm, PBS, Torque, none (``shell``), and what third parties register.

A plugin is an entry point of the group ``dflow_hpc.schedulers``: its name is what a profile says, its value a class
that is called without arguments and has the methods of ``base.Scheduler``. Nothing is loaded before it is asked for,
so a broken plugin stops only the machines that use it.

Trap: a built-in name wins over a plugin of the same name; nobody's ``slurm`` is swapped by an installation.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.schedulers.base import (
    Accepted,
    Enterable,
    Facts,
    JobScript,
    JobState,
    Phase,
    Refused,
    Scheduler,
    SchedulerSilent,
    Unclear,
)

__all__ = [
    "Accepted",
    "Enterable",
    "Facts",
    "JobScript",
    "JobState",
    "Phase",
    "Refused",
    "Scheduler",
    "SchedulerSilent",
    "Unclear",
    "get",
    "names",
]

GROUP = "dflow_hpc.schedulers"
_HERE = "dflow_hpc.executors.schedulers"
_BUILT_IN = {
    "pbs": EntryPoint("pbs", f"{_HERE}.pbs:Pbs", GROUP),
    "shell": EntryPoint("shell", f"{_HERE}.shell:Shell", GROUP),
    "slurm": EntryPoint("slurm", f"{_HERE}.slurm:Slurm", GROUP),
    "torque": EntryPoint("torque", f"{_HERE}.pbs:Torque", GROUP),
}


def names() -> list[str]:
    """Return the names of all schedulers, sorted; those of plugins that do not load, too."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def get(name: str) -> Scheduler:
    """Return a scheduler.

    Raises:
        ConfigError: There is none of that name, or its plugin is broken.
    """
    point = _BUILT_IN.get(name) or next(iter(entry_points(group=GROUP, name=name)), None)
    if point is None:
        raise ConfigError(
            f"scheduler {name!r} was asked for; known are {', '.join(names())}. "
            f"A plugin is registered by an entry point of the group {GROUP!r}."
        )
    plugin = f"scheduler {name!r} was asked for; its plugin {point.value!r}"
    try:
        scheduler = point.load()()
    except Exception as error:  # whatever a stranger's module raises while it loads
        raise ConfigError(f"{plugin} does not load: {type(error).__name__}: {error}. Repair or remove it.") from error
    wanted = [word for word in vars(Scheduler) if not word.startswith("_")]
    if missing := [word for word in wanted if not callable(getattr(scheduler, word, None))]:
        raise ConfigError(f"{plugin} has no {', '.join(missing)}. Repair or remove it.")
    return cast(Scheduler, scheduler)
