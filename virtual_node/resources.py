"""Amounts of Kubernetes, and what a pod's containers ask for together, as the resources of its job.

Not here: what the scheduler makes of them.

Trap: a job is given what a container may use at most: its limit, where it has one, else its request. Init containers
run before the others, so of the two the greater counts.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.machine import Machine, Resources, step_resources
from dflow_hpc.executors.schedulers.texts import memory_bytes
from dflow_hpc.virtual_node.node import GPU, Capacity
from dflow_hpc.virtual_node.sources import Refused

Object = dict[str, Any]

RESOURCES = "dflow-hpc/resources"
"""Annotation of a pod: what containers cannot say (queue, account, ...), as for a step; it counts most."""
_KNOWN = ("cpu", "memory", GPU)
_IGNORED = ("ephemeral-storage",)
_SPARE = 60
"""Seconds that the job has beyond the pod's own deadline, which this node watches itself."""
_AMOUNT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_UNITS = {unit: Fraction(1000) ** power for power, unit in enumerate(("n", "u", "m", "", "k", *"MGTPE"), -3)}
_UNITS |= {f"{unit}i": Fraction(1024) ** power for power, unit in enumerate("KMGTPE", 1)}


def job_resources(pod: Object, first: list[Object], then: list[Object], machine: Machine, most: Capacity) -> Resources:
    """Return what a pod's job asks for: the profile's, the containers', the annotation's; the last word counts.

    Args:
        pod: The pod.
        first: Its init containers; with restartPolicy Always they run on beside the others.
        then: The containers that run at once.
        machine: The profile.
        most: What the node has.

    Raises:
        Refused: It cannot be read, or is more than the node has.
    """
    wanted = _together(first, then)
    changes: Object = {}
    if wanted["cpu"]:
        changes["cpus"] = math.ceil(wanted["cpu"])
    if wanted["memory"]:
        changes["memory"] = f"{math.ceil(wanted['memory'] / (1 << 20))}MB"
    if wanted[GPU]:
        changes["gpus"] = math.ceil(wanted[GPU])
    if active := pod["spec"].get("activeDeadlineSeconds"):
        changes["time"] = f"{int(active) + _SPARE}s"
    said = (pod["metadata"].get("annotations") or {}).get(RESOURCES) or "{}"
    try:
        found = step_resources(replace(machine.resources, **changes), json.loads(said), f"the annotation {RESOURCES}")
        memory = memory_bytes(found.memory) if found.memory else 0
    except (ValueError, ConfigError) as error:
        raise Refused(f"its annotation {RESOURCES} cannot be read: {error}") from error
    for name, asked, there in (
        ("cpu", found.cpus * found.tasks * found.nodes, most.cpus),
        ("memory", memory * found.nodes, most.memory),
        (GPU, found.gpus * found.nodes, most.gpus),
    ):
        if asked > there:
            raise Refused(f"it asks for {name} {asked}; the whole node has {there}. Ask for less")
    return found


def _together(first: list[Object], then: list[Object]) -> dict[str, Fraction]:
    beside: dict[str, Fraction] = dict.fromkeys(_KNOWN, Fraction())
    peak = dict(beside)
    for container in first:
        own = _of(container)
        together = {name: beside[name] + own[name] for name in _KNOWN}
        peak = {name: max(peak[name], together[name]) for name in _KNOWN}
        beside = together if container.get("restartPolicy") == "Always" else beside
    for container in then:
        own = _of(container)
        beside = {name: beside[name] + own[name] for name in _KNOWN}
    return {name: max(peak[name], beside[name]) for name in _KNOWN}


def _of(container: Object) -> dict[str, Fraction]:
    asked = container.get("resources") or {}
    wanted = {**(asked.get("requests") or {}), **(asked.get("limits") or {})}
    if strange := [name for name in wanted if name not in (*_KNOWN, *_IGNORED)]:
        raise Refused(f"it asks for {', '.join(strange)}; this node knows {', '.join(_KNOWN)}")
    return {name: quantity(wanted.get(name, 0)) for name in _KNOWN}


def quantity(text: Any) -> Fraction:
    """Return an amount of Kubernetes as a number.

    Raises:
        Refused: It is none.
    """
    match = _AMOUNT.fullmatch(str(text))
    if match is None:
        raise Refused(f"{text!r} is no amount, such as 2, 500m or 1Gi")
    return Fraction(match[1]) * (Fraction(10) ** int(match[2]) if match[2] else _UNITS[match[3] or ""])


def resource_text(containers: list[Object], own: str, reference: Object, job: Resources) -> str:
    """Return what a ``resourceFieldRef`` means: rounded up, in units of its divisor.

    A container without a limit may use what its job has.

    Args:
        containers: Of the pod.
        own: The name of the container that asks.
        reference: With ``resource`` (``limits.cpu``), ``containerName``, ``divisor``.
        job: What the job asks for.
    """
    name = reference.get("containerName") or own
    container: Object = next((each for each in containers if each["name"] == name), {})
    kind, _, resource = str(reference["resource"]).partition(".")
    found = ((container.get("resources") or {}).get(kind) or {}).get(resource)
    if found is None:
        of_job = {"cpu": job.cpus, "memory": memory_bytes(job.memory) if job.memory else 0}
        found = of_job.get(resource, 0) if kind == "limits" else 0
    divisor = quantity(reference.get("divisor") or 1) or Fraction(1)
    return str(math.ceil(quantity(found) / divisor))
