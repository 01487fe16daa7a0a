"""What a pod asks for, as a leaf: template, variables with their values, where its artifacts are, resources.

A pod of Argo's brings the leaf's template. Any other pod is a leaf without inputs and outputs: a container set with a
restartPolicy.

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
from dflow_hpc.virtual_node.argo_pod import ArgoPod, unwrapped
from dflow_hpc.virtual_node.node import Capacity
from dflow_hpc.virtual_node.resources import job_resources
from dflow_hpc.virtual_node.sources import Refused, Sources
from dflow_hpc.virtual_node.variables import variables
from dflow_hpc.virtual_node.volumes import is_default_token, mounted, volumes

Object = dict[str, Any]


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
    first = [each for each in spec.get("initContainers") or [] if leaf is None or each["name"] != "init"]
    then = [each for each in spec["containers"] if leaf is None or each["name"] != "wait"]
    for container in [*first, *then]:
        _check(container, pod)
    resources = job_resources(pod, first, then, machine, capacity)

    def made(container: Object) -> Object:
        everything = [*first, *then]
        return _made(container, variables(container, everything, sources, resources, argo=leaf is not None))

    inits, others = [made(each) for each in first], [made(each) for each in then]
    template, storage = (
        (_plain(pod, others), None) if leaf is None else (_of_argo(leaf, others), _storage(leaf, sources))
    )
    template |= {
        "initContainers": inits,
        "terminationGracePeriodSeconds": spec.get("terminationGracePeriodSeconds", 30),
    }
    template["volumes"] = volumes(mounted([*inits, *others]), pod, sources, resources)
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


_NOT_RUN = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "volumeDevices")
_ARGO_VOLUMES = ("var-run-argo", "tmp-dir-argo", "argo-staging", "input-artifacts")


def _check(container: Object, pod: Object) -> None:
    """Refuse a container that wants what a job cannot give."""
    name = container["name"]
    if found := [key for key in _NOT_RUN if container.get(key)]:
        raise Refused(
            f"its container {name!r} has {', '.join(found)}, which this node cannot do. Leave it out, or place the pod "
            "on another node"
        )
    if container.get("ports") and not pod["spec"].get("hostNetwork"):
        raise Refused(
            f"its container {name!r} has ports; a pod on this node has no address, its job uses its host's. Say "
            "hostNetwork: true, or place the pod on another node"
        )
    if (container.get("securityContext") or {}).get("privileged"):
        raise Refused(f"its container {name!r} is privileged; a job has the rights of its user only")


def _made(container: Object, env: list[Object]) -> Object:
    """Return a container as a template has it, with variables that have values."""
    known: dict[str, str] = {}
    for variable in env:
        known[variable["name"]] = expand(variable["value"], known)
    mounts = []
    for mount in container.get("volumeMounts") or []:
        part = expand(mount.get("subPathExpr") or "", known) or mount.get("subPath") or ""
        if posixpath.isabs(part) or ".." in part.split("/"):
            raise Refused(f"it mounts {part!r} of the volume {mount['name']!r}, which leads out of it")
        if not is_default_token(mount["name"]) and mount["name"] not in _ARGO_VOLUMES:
            mounts.append({"name": mount["name"], "mountPath": mount["mountPath"], "subPath": part})
    kept: Object = {
        key: container[key] for key in ("name", "image", "args", "workingDir", "restartPolicy") if key in container
    }
    return {**kept, "command": unwrapped(container.get("command") or []), "env": env, "volumeMounts": mounts}


def _plain(pod: Object, containers: list[Object]) -> Object:
    """Return the template of a pod that is none of Argo's."""
    policy = pod["spec"].get("restartPolicy", "Always")
    return {"name": pod["metadata"]["name"], "restartPolicy": policy, "containerSet": {"containers": containers}}


def _of_argo(leaf: ArgoPod, containers: list[Object]) -> Object:
    """Return the leaf's template with the containers that Argo made of it, and without notes for our own engine."""
    template = dict(leaf.template or {})
    template.pop("metadata", None)  # an OP runs by its bootstrap, as in any pod
    kind = next((each for each in ("script", "container", "containerSet") if each in template), None)
    if kind is None or template.get("daemon"):
        found = next((each for each in ("daemon", "resource", "data", "http", "plugin") if each in template), "nothing")
        raise Refused(
            f"its template runs {found}; this node runs script, container and containerSet. Place it on another node"
        )
    template["outputs"] = _clean(template.get("outputs") or {})
    own = {each["name"]: each for each in containers}
    if kind == "containerSet":
        group = template[kind]
        members = [{**each, **own.pop(each["name"])} for each in group["containers"]]
        template[kind] = {**group, "volumeMounts": [], "containers": members}
    else:
        main = own.pop("main")
        given = {"env": main["env"], "volumeMounts": main["volumeMounts"]}
        template[kind] = {**template[kind], **(main if kind == "container" else given)}
    return {**template, "sidecars": list(own.values())}


def _clean(outputs: Object) -> Object:
    """Return outputs with the paths of artifacts as Argo's ``wait`` tells them: ``/tmp/`` is ``/tmp``."""
    cleaned = [
        {**artifact, "path": posixpath.normpath(artifact["path"])} if artifact.get("path") else artifact
        for artifact in outputs.get("artifacts") or []
    ]
    return {**outputs, "artifacts": cleaned} if cleaned else outputs


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
