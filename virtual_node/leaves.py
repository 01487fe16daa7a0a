"""What a pod asks for, as a leaf: template, variables with their values, where its artifacts are, resources.

A pod of Argo's brings the leaf's template. Any other pod with one container is a leaf without inputs and outputs.

Not here: running it (``pods.py``).

Trap: values of Secrets stand in what is made here. It stays in this process's memory and goes to files (0600) beside
the job; it must never be written down or said.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dflow_hpc.errors import ConfigError, ManifestError
from dflow_hpc.executors.profiles.machine import Machine, Resources
from dflow_hpc.kube import CONFIG_MAPS, SECRETS, Cluster, NotFound
from dflow_hpc.virtual_node import argo_pod
from dflow_hpc.virtual_node.argo_pod import ArgoPod

Object = dict[str, Any]

_VOLUMES = ("emptyDir",)
"""Kinds of volumes that a pod without Argo may have; ``projected`` tokens are left out, never brought."""
_NAME = "main"


@dataclass(frozen=True)
class PodLeaf:
    """A pod as a leaf."""

    argo: ArgoPod | None
    """None: not a pod of Argo's."""
    template: Object
    workflow: str
    workflow_uid: str
    node_id: str
    node_name: str
    resources: Resources
    storage: Object | None
    """Settings of an S3 client; None where the template names no storage."""
    deadline: float | None
    """In seconds since the epoch."""
    timeout: float | None
    """Seconds from its start."""


class Refused(ManifestError):
    """A pod that cannot be run on this node, for ever."""


def read(pod: Object, cluster: Cluster, machine: Machine) -> PodLeaf:
    """Return what a pod asks for; it reads the ConfigMaps and Secrets that the pod names.

    Args:
        pod: The pod.
        cluster: Objects of its namespace.
        machine: The node's.

    Raises:
        Refused: It cannot be run here; the text says why.
        KubeError: The API did not say what it needs.
    """
    spec = pod["spec"]
    try:
        leaf = argo_pod.read(pod)
    except (ManifestError, ValueError) as error:
        raise Refused(str(error)) from error
    container = _main(pod, leaf)
    env = _environment(pod, container, cluster)
    if leaf is None:
        template, storage = _plain(pod, container), None
    else:
        if leaf.template is None:
            offloaded = _values(cluster, CONFIG_MAPS, leaf.offloaded or "")["ARGO_TEMPLATE"]
            leaf = replace(leaf, template=json.loads(offloaded))
        template = _of_argo(leaf)
        storage = _storage(template, cluster)
    kind = "script" if "script" in template else "container"
    template[kind] = {**template[kind], "env": env}
    uid = pod["metadata"]["uid"]
    active = spec.get("activeDeadlineSeconds")
    return PodLeaf(
        argo=leaf,
        template=template,
        workflow=leaf.workflow if leaf else pod["metadata"]["name"],
        workflow_uid=leaf.workflow_uid if leaf else uid,
        node_id=leaf.node_id if leaf else uid,
        node_name=leaf.node_name if leaf else pod["metadata"]["name"],
        resources=_resources(container, machine),
        storage=storage,
        deadline=datetime.fromisoformat(leaf.deadline).timestamp() if leaf and leaf.deadline else None,
        timeout=float(active) if active else None,
    )


def _main(pod: Object, leaf: ArgoPod | None) -> Object:
    containers = pod["spec"]["containers"]
    if leaf is not None:
        others = [each["name"] for each in containers if each["name"] not in ("main", "wait")]
        others += [each["name"] for each in pod["spec"].get("initContainers") or [] if each["name"] != "init"]
    else:
        others = [each["name"] for each in containers[1:] + (pod["spec"].get("initContainers") or [])]
    if others:
        raise Refused(
            f"the pod has the containers {', '.join(others)} beside its main one; this node runs one container a pod. "
            "Make pods of them, or place it on another node"
        )
    found: Object = next((each for each in containers if leaf and each["name"] == _NAME), containers[0])
    return found


def _plain(pod: Object, container: Object) -> Object:
    """Return the template of a pod that is none of Argo's."""
    kept = []
    for volume in pod["spec"].get("volumes") or []:
        kinds = [key for key in volume if key != "name"]
        if "projected" in kinds and volume["name"].startswith("kube-api-access"):
            continue
        if not set(kinds) <= set(_VOLUMES):
            raise Refused(
                f"the volume {volume['name']!r} is of the kind {', '.join(kinds)}; this node knows "
                f"{', '.join(_VOLUMES)}. Give the pod its data otherwise"
            )
        kept.append(volume)
    if pod["spec"].get("restartPolicy", "Always") != "Never":
        raise Refused("its restartPolicy is not Never; a job runs once. Set it, or place the pod on another node")
    names = {volume["name"] for volume in kept}
    mounts = [mount for mount in container.get("volumeMounts") or [] if mount["name"] in names]
    return {"name": container["name"], "volumes": kept, "container": {**container, "volumeMounts": mounts}}


def _of_argo(leaf: ArgoPod) -> Object:
    """Return the leaf's template with the command that Argo found, and without notes for our own engine."""
    template = dict(leaf.template or {})
    template.pop("metadata", None)  # an OP runs by its bootstrap, as in any pod
    if "script" not in template and "container" not in template:
        known = ("containerSet", "resource", "data", "http", "plugin")
        kind = next((each for each in known if each in template), "nothing")
        raise Refused(f"its template runs {kind}; this node runs script and container. Place it on another node")
    if "container" in template:
        own = {"command": list(leaf.command), "args": list(leaf.args)}
        template["container"] = {**template["container"], **own}
    return template


# Variables


def _environment(pod: Object, container: Object, cluster: Cluster) -> list[Object]:
    found = []
    for source in container.get("envFrom") or []:
        kind, reference = _reference(source)
        values = _values(cluster, kind, reference["name"], optional=bool(reference.get("optional")))
        found += [_literal(f"{source.get('prefix', '')}{name}", value) for name, value in values.items()]
    for variable in container.get("env") or []:
        name, source = variable["name"], variable.get("valueFrom")
        if name.startswith("ARGO_") or name == "GODEBUG":
            continue  # given by who runs the leaf
        if source is None:
            found.append({"name": name, "value": variable.get("value") or ""})
        elif "fieldRef" in source:
            found.append(_literal(name, _field(pod, source["fieldRef"]["fieldPath"])))
        elif "resourceFieldRef" in source:
            raise Refused(f"the variable {name!r} comes from resourceFieldRef, which this node does not know")
        else:
            kind, reference = _reference(source)
            optional = bool(reference.get("optional"))
            values = _values(cluster, kind, reference["name"], optional=optional)
            if reference["key"] in values:
                found.append(_literal(name, values[reference["key"]]))
            elif not optional:
                raise Refused(f"the variable {name!r} comes from the key {reference['key']!r}, which is not there")
    return found


def _literal(name: str, value: str) -> Object:
    """Return a variable whose value is not expanded."""
    return {"name": name, "value": value.replace("$(", "$$(")}


def _reference(source: Object) -> tuple[Any, Object]:
    for key, kind in (
        ("secretKeyRef", SECRETS),
        ("configMapKeyRef", CONFIG_MAPS),
        ("secretRef", SECRETS),
        ("configMapRef", CONFIG_MAPS),
    ):
        if key in source:
            return kind, source[key]
    raise Refused(f"a variable comes from {', '.join(source)}, which this node does not know")


def _values(cluster: Cluster, kind: Any, name: str, *, optional: bool = False) -> dict[str, str]:
    try:
        found = cluster.get(kind, name)
    except NotFound as error:
        if optional:
            return {}
        raise Refused(str(error)) from error
    data = found.get("data") or {}
    if kind is SECRETS:
        return {key: base64.b64decode(value).decode() for key, value in data.items()}
    return dict(data)


def _field(pod: Object, path: str) -> str:
    metadata = pod["metadata"]
    found = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", ""),
        "metadata.uid": metadata["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
    }
    for kind in ("labels", "annotations"):
        found |= {f"metadata.{kind}['{key}']": value for key, value in (metadata.get(kind) or {}).items()}
    if path not in found:
        raise Refused(f"the field {path!r} of the pod was asked for, which this node does not know")
    return str(found[path])


# Where its artifacts are


def _storage(template: Object, cluster: Cluster) -> Object | None:
    s3 = (template.get("archiveLocation") or {}).get("s3")
    if not s3 or "bucket" not in s3:
        return None

    def secret(selector: Object | None) -> str | None:
        return _values(cluster, SECRETS, selector["name"])[selector["key"]] if selector else None

    return {
        "endpoint": s3["endpoint"],
        "bucket_name": s3["bucket"],
        "secure": not s3.get("insecure", False),
        "access_key": secret(s3.get("accessKeySecret")),
        "secret_key": secret(s3.get("secretKeySecret")),
    }


# Resources


def _resources(container: Object, machine: Machine) -> Resources:
    """Return what the job asks for: the profile's, and what the container *limits or requests* beyond a fraction."""
    asked = container.get("resources") or {}
    wanted = {**(asked.get("requests") or {}), **(asked.get("limits") or {})}
    changes: Object = {}
    try:
        if "cpu" in wanted:
            changes["cpus"] = max(1, -(-int(_number(wanted["cpu"]) * 1000) // 1000))
        if "memory" in wanted:
            changes["memory"] = f"{max(1, -(-int(_number(wanted['memory'])) // (1 << 20)))}MB"
        if "nvidia.com/gpu" in wanted:
            changes["gpus"] = int(wanted["nvidia.com/gpu"])
        return replace(machine.resources, **changes)
    except (ValueError, ConfigError) as error:
        raise Refused(f"its resources cannot be read: {error}") from error


_UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def _number(quantity: Any) -> float:
    """Return a Kubernetes quantity as a number."""
    text = str(quantity)
    for unit, factor in sorted(_UNITS.items(), key=lambda item: -len(item[0])):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)
