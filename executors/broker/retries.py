"""What follows an attempt that did not end by its program's own will: the retry map of a profile.

    [machine.cpu.retry]
    oom = {limit = 2, memory = 1.5, most = "64GB"}       # each time so much more, up to most; not without this line
    walltime = {limit = 1, time = 2, most = "24h"}       # or time = 1, where a checkpoint lets it go on
    infra = {limit = 3, exclude = true}                  # the node that failed is not used again
    preempted = {limit = 10}
    lost = {limit = 1}

These attempts are the broker's: the node tree shows one node. A step's own policy (``retryStrategy``) sees only how the
last of them ended; each retry of its own starts again with what the step asks for.

Not here: when an attempt counts as failed, and as what (``jobs.py``, the schedulers).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.broker.jobs import Job
from dflow_hpc.executors.broker.records import Leaf
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Resources, resources_from
from dflow_hpc.executors.schedulers.texts import memory_bytes, seconds
from dflow_hpc.executors.site import Parcel

Rules = Mapping[str, Mapping[str, Any]]
"""A profile's retry map: options by the class's name in small letters."""

_OPTIONS: Mapping[FailureClass, Mapping[str, Any]] = {
    FailureClass.OOM: {"limit": 2, "memory": 1.5, "most": ""},
    FailureClass.WALLTIME: {"limit": 1, "time": 1, "most": ""},
    FailureClass.INFRA: {"limit": 3, "exclude": True},
    FailureClass.PREEMPTED: {"limit": 10},
    FailureClass.LOST: {"limit": 1},
}
"""What each class knows, with the values of options that a rule leaves out."""
_DECLARED = (FailureClass.OOM, FailureClass.WALLTIME)
"""Classes that are not tried again unless the profile has a rule for them: it costs more each time."""
_MIB = 1 << 20


def checked(rules: Any, where: str) -> dict[str, dict[str, Any]]:
    """Return a profile's retry map.

    Args:
        rules: As TOML gives it.
        where: The file and the profile, for messages.

    Raises:
        ConfigError: It says something unknown.
    """
    classes = {failure.value.lower(): options for failure, options in _OPTIONS.items()}
    if not isinstance(rules, Mapping):
        raise ConfigError(f"{where}, retry: a table was expected; found {rules!r}.")
    for name, rule in rules.items():
        if name not in classes:
            raise ConfigError(f"{where}, retry: {name!r} is no known class; known are {', '.join(classes)}.")
        known = classes[name]
        if not isinstance(rule, Mapping) or set(rule) - set(known):
            raise ConfigError(
                f"{where}, retry: {name} must be a table with keys of {', '.join(known)}; found {rule!r}."
            )
        _check_values(rule, memory_bytes if name == "oom" else seconds, f"{where}, retry, {name}")
    return {name: dict(rule) for name, rule in rules.items()}


def _check_values(rule: Mapping[str, Any], read_most: Callable[[str], int], where: str) -> None:
    for key, value in rule.items():
        if key == "exclude":
            right, wanted = isinstance(value, bool), "true or false"
        elif key == "limit":
            right, wanted = isinstance(value, int) and not isinstance(value, bool) and value >= 0, "a whole number"
        elif key == "most":
            right, wanted = isinstance(value, str), 'a text, such as "64GB" or "24h"'
        else:
            right, wanted = isinstance(value, int | float) and value >= 1, "a factor of at least 1"
        if not right:
            raise ConfigError(f"{where}: {key} must be {wanted}; found {value!r}.")
    if most := rule.get("most"):
        read_most(most)


def again(rules: Rules, asked: Resources, job: Job, before: Sequence[Job], scheduler: str) -> dict[str, Any] | None:
    """Say whether the broker starts a further attempt by itself, and what it asks for.

    Args:
        rules: The profile's.
        asked: What the step asks for.
        job: The attempt that ended.
        before: Those before it whose outcome was never told.
        scheduler: The profile's: not every one can leave nodes out.

    Returns:
        What differs from ``asked``; None: no further attempt.
    """
    if job.failure is FailureClass.CONFIG and job.changes.get("exclude"):
        return {key: value for key, value in job.changes.items() if key != "exclude"}  # no other node was left
    if job.failure is None or job.failure not in _OPTIONS:
        return None
    given = rules.get(job.failure.value.lower())
    options = {**_OPTIONS[job.failure], **(given or {})}
    limit = 0 if given is None and job.failure in _DECLARED else options["limit"]
    if sum(old.failure is job.failure for old in before) >= limit:
        return None
    changes = dict(job.changes)
    if job.failure is FailureClass.OOM:
        memory = _grown_memory(changes.get("memory") or asked.memory, options)
        return {**changes, "memory": memory} if memory else None
    if job.failure is FailureClass.WALLTIME:
        time = _grown_time(changes.get("time") or asked.time, options)
        return {**changes, "time": time} if time else changes
    alone = job.node.isascii() and job.node.replace("-", "").replace(".", "").replace("_", "").isalnum()
    if options.get("exclude") and alone and scheduler not in CANNOT_EXCLUDE:
        changes["exclude"] = sorted({*asked.exclude, *changes.get("exclude", ()), job.node})
    return changes


def further(leaf: Leaf) -> dict[str, Any] | None:
    """Return what a further attempt of a leaf whose last one has ended asks for; see ``again``."""
    job, parcel = leaf.jobs[-1], leaf.parcel
    if job.unwanted:  # and wanted again meanwhile?
        return {} if leaf.wanted and job.failure is FailureClass.CANCELLED else None
    if parcel is None:
        return None
    before = [old for old in leaf.jobs[:-1] if old.attempt > leaf.delivered]
    return again(parcel.machine.retry, parcel.resources, job, before, parcel.machine.scheduler)


def changed(parcel: Parcel, job: Job) -> Parcel:
    """Return what a leaf takes along in an attempt, which may ask for other resources than its step."""
    if not job.changes:
        return parcel
    resources = resources_from({**dataclasses.asdict(parcel.resources), **job.changes})
    return dataclasses.replace(parcel, resources=resources)


CANNOT_EXCLUDE = ("pbs", "torque", "shell")
"""Schedulers that have no word for nodes that are not to be used."""


def _grown_memory(memory: str | None, options: Mapping[str, Any]) -> str | None:
    """Return more memory; None where there is none to grow, or no more to have."""
    if memory is None:
        return None
    now = memory_bytes(memory)
    wanted = math.ceil(now * options["memory"])
    if options["most"]:
        wanted = min(wanted, memory_bytes(options["most"]))
    return f"{math.ceil(wanted / _MIB)}MB" if wanted > now else None


def _grown_time(time: str | None, options: Mapping[str, Any]) -> str | None:
    if time is None or options["time"] == 1:
        return None
    wanted = math.ceil(seconds(time) * options["time"])
    if options["most"]:
        wanted = max(seconds(time), min(wanted, seconds(options["most"])))
    return f"{wanted}s"
