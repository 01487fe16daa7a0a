"""The containers of a leaf that runs several on a machine: which they are, in which order, and what became of them.

A template has ``initContainers``, ``sidecars`` and, instead of ``script`` or ``container``, ``containerSet``. Of a pod
that is not Argo's it has words of a pod's spec, too: ``restartPolicy`` and ``terminationGracePeriodSeconds``, and
``restartPolicy: Always`` of an init container. One job runs all of them (``executors/protocol/pod.sh``).

Not here: their command lines (``machines.py``); several containers on this host (``commands.py``).

Trap: what they left is read from files that may be missing: a job that was killed had no time to say everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local.work import leafrun, staging
from dflow_hpc.engines.local.work.commands import SCRIPT, seconds

PLACE = "pod"
"""Where, below the leaf's directory, each container has a directory of its own."""
_LIMIT = 4096
_ENDED_BY_US = (137, 143)


@dataclass(frozen=True)
class Member:
    """One container."""

    kind: str
    """``init``, ``helper``, ``main`` or ``sidecar``; see ``pod.sh``."""
    container: dict[str, Any]
    tries: int = 1
    pause: int = 0
    """Seconds between two of them."""
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The container's."""
        return str(self.container["name"])


def are_several(template: dict[str, Any]) -> bool:
    """Say whether it takes more than one program to run a template."""
    return any(template.get(key) for key in ("initContainers", "sidecars", "containerSet", "restartPolicy"))


def main_of(template: dict[str, Any]) -> dict[str, Any]:
    """Return the container of a script or a container template; a script's source is its last argument."""
    container = {**(template.get("script") or template.get("container") or {}), "name": "main"}
    if container.get("source"):
        container["args"] = [*(container.get("args") or []), SCRIPT]
    return container


def members(template: dict[str, Any]) -> list[Member]:
    """Return the containers of a template, in the order in which they are started."""
    found = [
        Member("helper" if container.get("restartPolicy") == "Always" else "init", container)
        for container in template.get("initContainers") or []
    ]
    group = template.get("containerSet")
    if group is None:
        found.append(Member("main", main_of(template)))
    else:
        retry = group.get("retryStrategy") or {}
        tries, pause = int(retry.get("retries", 1)), round(seconds(str(retry.get("duration") or "0")))
        shared = group.get("volumeMounts") or []
        for container in group["containers"]:
            mounts = [*(container.get("volumeMounts") or []), *shared]
            needs = tuple(container.get("dependencies") or ())
            found.append(Member("main", {**container, "volumeMounts": mounts}, tries, pause, needs))
    return [*found, *(Member("sidecar", container) for container in template.get("sidecars") or [])]


def log_of(root: str, template: dict[str, Any], name: str) -> str:
    """Return the file in which a container says why it ended; its directory is made."""
    if not are_several(template):
        return f"{root}/termination-log"
    directory = Path(root, PLACE, name)
    directory.mkdir(parents=True, exist_ok=True)
    return f"{directory}/termination-log"


def ends(root: str, template: dict[str, Any]) -> dict[str, Any]:
    """Return what became of the containers, by name; nothing where none of them says anything.

    Each has ``kind``, ``runs`` (lists of start, end and exit code), ``began`` (of a run of which no end is known; else
    None) and ``text``, what it said last.
    """
    found = {}
    for member in members(template) if are_several(template) else []:
        directory = Path(root, PLACE, member.name)
        lines = [line.split() for line in _lines(directory / "state")]
        runs = [[int(word) for word in words] for words in lines]
        began = [int(line) for line in _lines(directory / "began")]
        lost = began[0] if began and (not runs or runs[-1][0] != began[0]) else None
        text = staging.tail(f"{directory}/termination-log", _LIMIT)
        found[member.name] = {"kind": member.kind, "runs": runs, "began": lost, "text": text}
    return found if any(each["runs"] or each["began"] for each in found.values()) else {}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


def blame(found: dict[str, Any], code: int) -> dict[str, Any]:
    """Return the record that says how a pod ended, in Argo's order: init containers, mains by name, sidecars.

    Args:
        found: What ``ends`` gave.
        code: With which the job ended.
    """
    inits = [name for name, each in found.items() if each["kind"] == "init"]
    others = [sorted(name for name, each in found.items() if each["kind"] == kind) for kind in ("main", "sidecar")]
    for name in [*inits, *others[0], *others[1]]:
        each = found[name]
        last = each["runs"][-1][2] if each["runs"] else 0
        if last and not (each["kind"] == "sidecar" and last in _ENDED_BY_US):
            return leafrun.failed(last, each["text"], name)
    return leafrun.failed(code, "") if code else {"phase": "Succeeded"}


def told(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the nodes of a container set's members say."""
    return [
        leafrun.member(name, each["runs"][-1][2], each["text"], each["runs"][0][0], each["runs"][-1][1])
        for name, each in found.items()
        if each["kind"] == "main" and each["runs"]
    ]
