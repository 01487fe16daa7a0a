"""The volumes of a pod, as a template has them: directories of its own, files with their content, paths of the machine.

A volume of files is ``{"name": ..., "files": {path: {"mode": 0o600, "data": base64}}}``; they go to the leaf's
directory there, and leave it when the job has ended.

Not here: where a volume lies and how a path in it is found (``engines/local/work/views.py``).

Trap: a kubelet renews files when their source changes, and tokens before they end. Here they are what they were when
the pod was read.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Iterator
from typing import Any

from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.virtual_node.resources import resource_text
from dflow_hpc.virtual_node.sources import HOST_PATH, Refused, Sources, reference_of

Object = dict[str, Any]

_DEFAULT_TOKEN = "kube-api-access-"  # noqa: S105  how names of the volumes begin that admission adds
_MODE = 0o644
_PRIVATE = 0o700
"""Bits of a mode that are kept: the files may be secret, and nobody else is to use them."""
_PARTS = ("configMap", "secret", "downwardAPI", "serviceAccountToken")


def mounted(containers: list[Object]) -> set[str]:
    """Return the names of the volumes that containers mount."""
    return {mount["name"] for container in containers for mount in container.get("volumeMounts") or []}


def is_default_token(name: str) -> bool:
    """Say whether a volume is the token that admission gives to each pod; it does not leave the cluster."""
    return name.startswith(_DEFAULT_TOKEN)


def volumes(names: set[str], pod: Object, sources: Sources, job: Resources) -> list[Object]:
    """Return volumes of a pod.

    Args:
        names: Which.
        pod: The pod.
        sources: What it refers to.
        job: What its job asks for.

    Raises:
        Refused: One is of a kind that this node does not have, or its source is not there.
    """
    listed = [volume for volume in pod["spec"].get("volumes") or [] if volume["name"] in names]
    return [_volume(volume, pod, sources, job) for volume in listed]


def _volume(volume: Object, pod: Object, sources: Sources, job: Resources) -> Object:
    name = volume["name"]
    kind = next((key for key in volume if key != "name"), "emptyDir")
    if kind == "emptyDir":
        return {"name": name, "emptyDir": {}}
    if kind == "hostPath":
        path = volume["hostPath"]["path"]
        sources.demand(HOST_PATH, f"the volume {name!r} is the path {path} of the machine")
        return {"name": name, "hostPath": {"path": path}}
    if kind == "projected":
        parts = volume["projected"].get("sources") or []
        default = volume["projected"].get("defaultMode", _MODE)
    elif kind in _PARTS[:3]:
        parts = [{kind: {"name": volume[kind].get("secretName"), **volume[kind]}}]
        default = volume[kind].get("defaultMode", _MODE)
    else:
        raise Refused(
            f"the volume {name!r} is of the kind {kind}; this node knows emptyDir, hostPath, projected, "
            f"{', '.join(_PARTS[:3])}. Give the pod its data otherwise"
        )
    found: Object = {}
    for part in parts:
        for path, mode, data in _files(part, name, pod, sources, job):
            if posixpath.isabs(path) or ".." in path.split("/"):
                raise Refused(f"the volume {name!r} is to have the file {path!r}, which leads out of it")
            kept = (default if mode is None else mode) & _PRIVATE
            found[posixpath.normpath(path)] = {"mode": kept, "data": base64.b64encode(data).decode()}
    return {"name": name, "files": found}


def _files(
    part: Object, volume: str, pod: Object, sources: Sources, job: Resources
) -> Iterator[tuple[str, int | None, bytes]]:
    if "serviceAccountToken" in part:
        source = part["serviceAccountToken"]
        yield source["path"], 0o600, sources.token(source).encode()
    elif "downwardAPI" in part:
        containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
        for item in part["downwardAPI"].get("items") or []:
            if "fieldRef" in item:
                text = sources.field(item["fieldRef"]["fieldPath"])
            else:
                text = resource_text(containers, "", item["resourceFieldRef"], job)
            yield item["path"], item.get("mode"), text.encode()
    elif (reference := reference_of(part)) is not None:
        kind, source = reference
        if not source.get("items"):
            for key, value in sources.values(kind, source["name"], optional=bool(source.get("optional"))).items():
                yield key, None, value
        for item in source.get("items") or []:
            selector = {"name": source["name"], "key": item["key"], "optional": source.get("optional")}
            content = sources.value(selector, kind, f"a file of the volume {volume!r}")
            if content is not None:
                yield item["path"], item.get("mode"), content
    else:
        raise Refused(
            f"the volume {volume!r} is to have {', '.join(part)}; this node knows {', '.join(_PARTS)}. Give the pod "
            "its data otherwise"
        )
