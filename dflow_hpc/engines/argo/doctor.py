"""Whether workflows can run on a cluster, as one user in one namespace: each part tried, each failure with the way out.

What is tried builds on what was tried before: API, Argo's kinds, rights, artifact repository, and a workflow of one
step that reads an object of ours from that repository, so that we and the pods are seen to mean the same one.

Not here: how findings are printed (``cli/doctor.py``).

Trap: a user of one namespace sees little of the cluster. What cannot be seen (the controller, say) is judged by what
it does.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dflow_hpc.config import config, randstr
from dflow_hpc.engines.argo import repository, status
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.engines.argo.lower import MANAGED
from dflow_hpc.errors import DflowError, EngineError
from dflow_hpc.kube import PODS, WORKFLOWS, Cluster, KubeError, NotFound
from dflow_hpc.manifest.view import COMPLETED
from dflow_hpc.storage.objects import ObjectStore, object_store

Finding = tuple[bool, str]
_ROOM = "/tmp"  # noqa: S108  (in the pod)
_SECONDS = 120.0
"""For the probe workflow; an image may have to be pulled."""


@dataclass(frozen=True)
class Right:
    """What the account of a user must be allowed to do."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    purpose: str
    """What does not work without it."""


RIGHTS = (
    Right(
        "argoproj.io",
        "workflows",
        ("get", "list", "watch", "create", "update", "patch", "delete"),
        "to submit, look on and steer",
    ),
    Right("", "secrets", ("get", "create", "update", "patch"), "for Secret(value) and the keys of the repository"),
    Right("", "configmaps", ("get", "create", "update"), "for the artifact repository and reuse_step"),
    Right("", "pods", ("get", "delete"), "for retry"),
    Right("", "pods/log", ("get",), "for logs"),
)
"""All that the engine asks for, as ``docs/argo.md`` says it."""


def examine(engine: ArgoEngine) -> Iterator[Finding]:
    """Yield whether each part is well, with what was seen and what to do; ends where nothing more can be tried.

    Args:
        engine: Where and as whom.
    """
    try:
        cluster = engine.cluster
        yield True, _api(cluster)
        yield True, _kinds(cluster)
        missing = [finding for right in RIGHTS if (finding := _right(cluster, right)) is not None]
        yield from ((False, text) for text in missing)
        if not missing:
            yield True, f"all rights that are needed in the namespace {cluster.namespace}"
        store = object_store(**repository.settings(cluster))
        with _Planted(store) as planted:
            yield True, f"the artifact repository takes and gives objects ({_place(cluster)})"
            yield _probe(engine, planted)
    except DflowError as error:
        yield False, str(error)


def _api(cluster: Cluster) -> str:
    version = cluster.connection.request("say its version", "GET", "/version")
    return f"Kubernetes {version['gitVersion']} at {cluster.connection.server}"


def _kinds(cluster: Cluster) -> str:
    try:
        known = cluster.connection.request("list the kinds of Argo", "GET", f"/apis/{WORKFLOWS.version}")
    except NotFound as error:
        raise EngineError(
            f"Argo Workflows was looked for at {cluster.connection.server}; it knows no {WORKFLOWS.version}. Ask its "
            "administrator to install Argo Workflows (with its CRDs), or use another cluster: k8s_config_file, "
            "k8s_context."
        ) from error
    names = sorted(one["name"] for one in known["resources"] if "/" not in one["name"])
    return f"Argo Workflows is installed: {', '.join(names)}"


def _right(cluster: Cluster, right: Right) -> str | None:
    """Return what is missing of a right, and how it is granted; None: nothing."""
    resource, _, sub = right.resource.partition("/")
    refused = [verb for verb in right.verbs if not cluster.may(verb, right.group, resource, sub)]
    if not refused:
        return None
    rule = f'{{apiGroups: ["{right.group}"], resources: [{right.resource}], verbs: [{", ".join(refused)}]}}'
    return (
        f"you may not {', '.join(refused)} {right.resource} in the namespace {cluster.namespace} ({right.purpose}). "
        f"Ask its administrator for a Role with the rule {rule}"
    )


def _place(cluster: Cluster) -> str:
    from dflow_hpc.config import s3_config

    found = {**{name: s3_config[name] for name in ("bucket_name", "endpoint")}, **repository.settings(cluster)}
    return f"bucket {found['bucket_name']} at {found['endpoint']}"


class _Planted:
    """An object with a word in it, while it is needed: its full key and the word."""

    def __init__(self, store: ObjectStore):
        self._store, self.word = store, randstr(12)
        self.key = store.full_key(f"dflow-hpc/doctor/{self.word}")

    def __enter__(self) -> _Planted:
        with tempfile.TemporaryDirectory() as room:
            file, back = Path(room) / "word", Path(room) / "back"
            file.write_text(self.word)
            self._store.put(file, self.key, archive="none")
            self._store.get(self.key, back, archive="none")
            if back.read_text() != self.word:
                raise EngineError(
                    f"the artifact repository was tried; the object {self.key} came back with another content. See "
                    "what lies between you and the storage: a proxy, or another bucket of that name."
                )
        return self

    def __exit__(self, *_: object) -> None:
        self._store.delete(self.key)


def _probe(engine: ArgoEngine, planted: _Planted) -> Finding:
    """Run a workflow of one step that reads the object, and remove it."""
    cluster = engine.cluster
    name = f"dflow-hpc-doctor-{randstr(8)}"
    cluster.create(WORKFLOWS, _workflow(name, planted.key))
    try:
        phase = engine.wait(name, _SECONDS)
        workflow = engine.query(name)
        version = _argo_version(cluster, name)
    finally:
        cluster.delete(WORKFLOWS, name)
    nodes = status.nodes_of(workflow).values()
    if phase == "Succeeded":
        said = [p["value"] for node in nodes for p in (node.get("outputs") or {}).get("parameters") or []]
        good = said == [planted.word]
        text = f"a workflow of one step ran{version}, and read from the repository what was put there"
        return good, text if good else f"a workflow of one step ran; it read {said} instead of {planted.word!r}"
    return False, _why(workflow, phase, cluster.namespace)


def _workflow(name: str, key: str) -> dict[str, Any]:
    source = f"import shutil; shutil.copyfile('{_ROOM}/word', '{_ROOM}/said')"
    artifact = {"name": "word", "path": f"{_ROOM}/word", "s3": {"key": key}, "archive": {"none": {}}}
    template = {
        "name": "probe",
        "inputs": {"artifacts": [artifact]},
        "outputs": {"parameters": [{"name": "said", "valueFrom": {"path": f"{_ROOM}/said"}}]},
        "script": {"image": config["util_image"], "command": ["python3"], "source": source},
    }
    spec = {"entrypoint": "probe", "templates": [template], "activeDeadlineSeconds": int(_SECONDS)}
    return {"metadata": {"name": name, "labels": MANAGED}, "spec": spec}


def _argo_version(cluster: Cluster, name: str) -> str:
    """Return the version of Argo by the image of its executor, where the pod can still be seen."""
    try:
        pod = cluster.get(PODS, name)
    except KubeError:  # gone already, or not ours to see
        return ""
    containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    found = [match[1] for one in containers if (match := re.search(r"argoexec:(v?[\w.-]+)", one["image"]))]
    return f" (Argo {found[0]})" if found else ""


def _why(workflow: dict[str, Any], phase: str, namespace: str) -> str:
    """Say why the probe did not succeed, as far as it can be seen, and what to do."""
    nodes = status.nodes_of(workflow).values()
    if not nodes and phase not in COMPLETED:
        return (
            f"a workflow of one step was submitted; no controller has taken it within {_SECONDS:.0f} s. Ask the "
            f"administrator whether Argo's controller runs, and looks at the namespace {namespace} (its options "
            "--namespaced, --managed-namespace; its instanceID)."
        )
    messages = [node["message"] for node in nodes if node.get("message")]
    said = "; ".join(dict.fromkeys([*messages, (workflow["status"].get("message") or phase)]))
    return (
        f"a workflow of one step was submitted; it is {phase}: {said}. Its image was {config['util_image']} (set "
        "DFLOW_UTIL_IMAGE to one that the cluster can pull); the pod's account needs what Argo's installation notes "
        "ask for (create and patch workflowtaskresults); and pods must reach the artifact repository."
    )
