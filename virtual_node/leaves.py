"""What a pod asks for, as a leaf: template, variables with their values, where its artifacts are, resources.

A pod of Argo's brings the leaf's template. Any other pod with one container is a leaf without inputs and outputs.

Not here: running it (``pods.py``); what its variables and volumes hold (``variables.py``, ``volumes.py``).

Trap: values of Secrets stand in what is made here. It stays in this process's memory and goes to files (0600) beside
the job; it must never be written down or said.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dflow_hpc.engines.local.work.environment import expand
from dflow_hpc.errors import ManifestError
from dflow_hpc.executors.profiles.machine import Machine, Resources
from dflow_hpc.kube import CONFIG_MAPS, SECRETS, Cluster
from dflow_hpc.virtual_node import argo_pod
from dflow_hpc.virtual_node.argo_pod import ArgoPod
from dflow_hpc.virtual_node.node import Capacity
from dflow_hpc.virtual_node.resources import job_resources
from dflow_hpc.virtual_node.sources import Refused, Sources
from dflow_hpc.virtual_node.variables import variables
from dflow_hpc.virtual_node.volumes import is_default_token, mounted, volumes

Object = dict[str, Any]

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


def read(pod: Object, cluster: Cluster, machine: Machine, capacity: Capacity) -> PodLeaf:
    """Return what a pod asks for; it reads the ConfigMaps and Secrets that the pod names.

    Args:
        pod: The pod.
        cluster: Objects of its namespace.
        machine: The node's.
        capacity: What the node has.

    Raises:
        Refused: It cannot be run here; the text says why.
        KubeError: The API did not say what it needs.
    """
    spec, metadata = pod["spec"], pod["metadata"]
    sources = Sources(pod, cluster)
    try:
        leaf = argo_pod.read(pod)
    except (ManifestError, ValueError) as error:
        raise Refused(str(error)) from error
    if leaf is not None and leaf.template is None:
        offloaded = sources.values(CONFIG_MAPS, leaf.offloaded or "")["ARGO_TEMPLATE"]
        leaf = replace(leaf, template=json.loads(offloaded))
    container = _main(pod, leaf)
    resources = job_resources(pod, [], [container], machine, capacity)
    template, storage = (_plain(pod), None) if leaf is None else (_of_argo(leaf), _storage(leaf, sources))
    kind = "script" if "script" in template else "container"
    own = template.get(kind) or container
    env = variables(container, spec["containers"], sources, resources, argo=leaf is not None)
    template[kind] = {**own, "env": env, "volumeMounts": _mounts(own, env)}
    template["volumes"] = volumes(mounted([template[kind]]), pod, sources, resources)
    active = spec.get("activeDeadlineSeconds")
    return PodLeaf(
        argo=leaf,
        template=template,
        workflow=leaf.workflow if leaf else metadata["name"],
        workflow_uid=leaf.workflow_uid if leaf else metadata["uid"],
        node_id=leaf.node_id if leaf else metadata["uid"],
        node_name=leaf.node_name if leaf else metadata["name"],
        resources=resources,
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


_NOT_RUN = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "volumeDevices")


def _plain(pod: Object) -> Object:
    """Return the beginnings of the template of a pod that is none of Argo's."""
    if pod["spec"].get("restartPolicy", "Always") != "Never":
        raise Refused("its restartPolicy is not Never; a job runs once. Set it, or place the pod on another node")
    for container in pod["spec"]["containers"]:
        if found := [key for key in _NOT_RUN if container.get(key)]:
            raise Refused(
                f"its container {container['name']!r} has {', '.join(found)}, which this node cannot do. Leave it out, "
                "or place the pod on another node"
            )
        if container.get("ports") and not pod["spec"].get("hostNetwork"):
            raise Refused(
                f"its container {container['name']!r} has ports; a pod on this node has no address, its job uses its "
                "host's. Say hostNetwork: true, or place the pod on another node"
            )
        if (container.get("securityContext") or {}).get("privileged"):
            raise Refused(f"its container {container['name']!r} is privileged; a job has the rights of its user only")
    return {"name": pod["metadata"]["name"]}


def _mounts(container: Object, env: list[Object]) -> list[Object]:
    """Return what a container mounts, without the token of the API that each pod gets."""
    known: dict[str, str] = {}
    for variable in env:
        known[variable["name"]] = expand(variable["value"], known)
    found = []
    for mount in container.get("volumeMounts") or []:
        part = expand(mount.get("subPathExpr") or "", known) or mount.get("subPath") or ""
        if posixpath.isabs(part) or ".." in part.split("/"):
            raise Refused(f"it mounts {part!r} of the volume {mount['name']!r}, which leads out of it")
        if not is_default_token(mount["name"]):
            found.append({"name": mount["name"], "mountPath": mount["mountPath"], "subPath": part})
    return found


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


def _storage(leaf: ArgoPod, sources: Sources) -> Object | None:
    """Return the settings of a client of the storage in which the leaf's artifacts are."""
    s3 = ((leaf.template or {}).get("archiveLocation") or {}).get("s3")
    if not s3 or "bucket" not in s3:
        return None

    def secret(selector: Object | None) -> str | None:
        value = sources.value(selector, SECRETS, "a key of its artifacts' storage") if selector else None
        return None if value is None else value.decode()

    return {
        "endpoint": s3["endpoint"],
        "bucket_name": s3["bucket"],
        "secure": not s3.get("insecure", False),
        "access_key": secret(s3.get("accessKeySecret")),
        "secret_key": secret(s3.get("secretKeySecret")),
    }
