"""The node in numbers: Prometheus' text, and the kubelet's summary of pods.

Pure functions, but for this process's own memory and time.

Trap: what a job uses is the scheduler's to know; nothing of it is told here.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Numbers:
    """What is counted."""

    pods: list[Object]
    asked: Mapping[str, int]
    """Questions to the machine, by kind."""
    orphans: int
    statuses: int
    """Of pods, that the API server took."""
    paused: bool
    jobs: int
    """Leaves with a job that has not ended."""
    logins: int
    commands: int
    sent: int
    received: int


def text(numbers: Numbers) -> str:
    """Return the numbers as Prometheus reads them."""
    phases = Counter((pod.get("status") or {}).get("phase") or "Pending" for pod in numbers.pods)
    used = resource.getrusage(resource.RUSAGE_SELF)
    asked = {f'{{kind="{kind}"}}': number for kind, number in sorted(numbers.asked.items())}
    found: list[tuple[str, str, str, Mapping[str, float]]] = [
        ("pods", "gauge", "Pods that are bound to the node", {f'{{phase="{name}"}}': n for name, n in phases.items()}),
        ("jobs", "gauge", "Leaves with a job that has not ended", {"": numbers.jobs}),
        ("orphans", "gauge", "Pods, jobs and directories that the API shows no pod for", {"": numbers.orphans}),
        ("paused", "gauge", "Whether the machine cannot be asked now", {"": int(numbers.paused)}),
        ("statuses_total", "counter", "Statuses of pods that the API server took", {"": numbers.statuses}),
        ("questions_total", "counter", "Questions to the machine", asked),
        ("logins_total", "counter", "Logins to the machine", {"": numbers.logins}),
        ("commands_total", "counter", "Commands on the machine", {"": numbers.commands}),
        ("sent_bytes_total", "counter", "Bytes to the machine", {"": numbers.sent}),
        ("received_bytes_total", "counter", "Bytes from the machine", {"": numbers.received}),
    ]
    lines = [line for name, kind, about, values in found for line in _lines(f"dflow_node_{name}", kind, about, values)]
    lines += _lines("process_resident_memory_bytes", "gauge", "Memory of this process", {"": _resident()})
    seconds = {"": used.ru_utime + used.ru_stime}
    lines += _lines("process_cpu_seconds_total", "counter", "Processor time of this process", seconds)
    return "\n".join(lines) + "\n"


def _lines(name: str, kind: str, about: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        yield f"{name}{labels} {value}"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def summary(node: str, since: str, pods: list[Object]) -> Object:
    """Return what ``/stats/summary`` tells: which pods there are, since when.

    Args:
        node: The node's name.
        since: When its process began.
        pods: Its pods.
    """
    told = []
    for pod in pods:
        status = pod.get("status") or {}
        reference = {name: pod["metadata"][name] for name in ("name", "namespace", "uid")}
        containers = []
        for each in status.get("containerStatuses") or ():
            if started := ((each.get("state") or {}).get("running") or {}).get("startedAt"):
                containers.append({"name": each["name"], "startTime": started})
        if status.get("phase") == "Running":
            told.append({"podRef": reference, "startTime": status.get("startTime"), "containers": containers})
    return {"node": {"nodeName": node, "startTime": since}, "pods": told}
