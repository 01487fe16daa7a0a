"""The real Argo's side of the comparison: what its controller says of each manifest of its own ``examples/`` folder.

The manifests are those of Argo's Go module, in the version that the rig runs, so whoever can build the rig has them.
Each is submitted under a name of its own, a dozen at a time, and its status is taken when it has ended or its time is
up. What a manifest refers to (templates, ConfigMaps) is applied first, and the rig's one image gets every name that is
asked for: there is no registry. Each has its own locks, or those that run beside it would hold them.

Trap: names of images without a tag are pulled each time unless told otherwise, so every container is told.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dflow_hpc.errors import ManifestError
from dflow_hpc.kube import CONFIG_MAPS, WORKFLOWS, KubeError, connect
from dflow_hpc.manifest.text import load

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "rig/kube"))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "rig"))

import build
import fixtures
from verdicts import ALONE

AT_ONCE = 12
SECONDS = 400
"""For one manifest, from its submission. On an idle machine the longest that ends by itself takes about 100."""
SECONDS_TO_STAND = 20
"""For how long a workflow must wait for somebody, so that it is taken as it stands."""
LABEL = "fidelity"
CACHES = "workflows.argoproj.io/configmap-type=Cache"
"""Label of the ConfigMaps in which Argo keeps memoized outputs."""
LONGEST = 60
"""Bytes of a workflow's name; Argo takes 63."""
ENDED = ("Succeeded", "Failed", "Error")
SETTLED = (*ENDED, "Skipped", "Omitted")
BY_PARAMETERS = ("alpine:3.6", "debian:8.9", "debian:9.1", "ubuntu:17.10")
"""Images whose names are put together while a workflow runs."""


def examples() -> Path:
    """Return the ``examples/`` folder of the Argo that the rig runs, fetched by the Go client into its own cache."""
    module = f"github.com/argoproj/argo-workflows/v3@v{build.ARGO}"
    with tempfile.TemporaryDirectory() as outside:  # of any other module
        words = ["go", "mod", "download", "-json", module]
        answer = subprocess.run(words, cwd=outside, capture_output=True, text=True, check=True, timeout=600)
    return Path(json.loads(answer.stdout)["Dir"]) / "examples"


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every plain Workflow by its file's name without suffix, under the name that both sides give it."""
    found = {}
    for path, documents in _read(folder):
        for number, workflow in enumerate(documents.workflows):
            name = "-".join(path.relative_to(folder).with_suffix("").parts) + (f"-{number}" if number else "")
            kept = {key: workflow["metadata"][key] for key in ("labels", "annotations") if key in workflow["metadata"]}
            workflow["metadata"] = {
                "name": re.sub(r"[^a-z0-9-]", "-", f"f-{name.lower()}")[:LONGEST].strip("-"),
                **kept,
            }
            workflow["spec"].setdefault("podSpecPatch", "{}")  # instead of the rig's own, which is about "main" alone
            _give_own_locks(workflow)
            found[name] = _never_pulling(workflow)
    return found


def _give_own_locks(workflow: dict[str, Any]) -> None:
    """Rename the locks of a workflow, so that those that run beside it do not hold them."""
    own = workflow["metadata"]["name"]
    for mutex in _synchronizers(workflow, "mutexes"):
        mutex["name"] = f"{own}-{mutex['name']}"
    for semaphore in _synchronizers(workflow, "semaphores"):
        if "configMapKeyRef" in semaphore:
            semaphore["configMapKeyRef"]["key"] = f"{own}-{semaphore['configMapKeyRef']['key']}"


def _synchronizers(workflow: dict[str, Any], kinds: str) -> Iterator[dict[str, Any]]:
    """Yield the ``mutexes`` or ``semaphores`` of a workflow, those of the older form (one, in the singular) too."""
    for holder in (workflow["spec"], *workflow["spec"].get("templates", ())):
        wanted = holder.get("synchronization") or {}
        yield from wanted.get(kinds, ())
        if one := wanted.get({"mutexes": "mutex", "semaphores": "semaphore"}[kinds]):
            yield one


def resources(folder: Path) -> list[dict[str, Any]]:
    """Return the templates and ConfigMaps of the folder, and one of limits: 1 for each key that is asked of it."""
    semaphores = [each for one in manifests(folder).values() for each in _synchronizers(one, "semaphores")]
    keys = {each["configMapKeyRef"]["key"] for each in semaphores if "configMapKeyRef" in each}
    limits = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "my-config"},
        "data": dict.fromkeys(sorted(keys), "1"),
    }
    return [*(_never_pulling(one) for _, documents in _read(folder) for one in documents.resources), limits]


def _read(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.rglob("*.y*ml")):
        try:
            yield path, load(path.read_text())
        except ManifestError:
            continue  # of other kinds: cron, events, quotas. No Workflow of the folder refers to them


def _waits(status: dict[str, Any]) -> bool:
    """Say whether a workflow waits for somebody, and for nothing else."""
    nodes = (status.get("nodes") or {}).values()
    under_way = [node for node in nodes if node["type"] in ("Pod", "Suspend") and node["phase"] not in SETTLED]
    latest = max((node["startedAt"] for node in under_way), default="9")
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - SECONDS_TO_STAND))
    return all(node["type"] == "Suspend" for node in under_way) and latest < before


def _never_pulling(document: dict[str, Any]) -> dict[str, Any]:
    for container in _containers(document):
        container["imagePullPolicy"] = "IfNotPresent"
    return document


def _containers(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("image"), str):
            yield value
        for each in value.values():
            yield from _containers(each)
    elif isinstance(value, list):
        for each in value:
            yield from _containers(each)


class RealArgo:
    """The rig's Argo.

    Args:
        kube: The facts of ``ctl up``: ``kubeconfig`` and ``namespace``, and ``kubectl`` to call.
    """

    def __init__(self, kube: Any) -> None:
        self._kube = kube
        self._cluster = connect(namespace=kube.namespace, k8s_config_file=kube.kubeconfig)

    def prepare(self, known: list[dict[str, Any]], workflows: Iterable[dict[str, Any]]) -> None:
        """Apply what manifests refer to, and give the rig's image the names that they ask for."""
        self._kube.kubectl("delete", "configmaps", f"--selector={CACHES}")  # an entry of an earlier run would be hit
        items = {"apiVersion": "v1", "kind": "List", "items": [*known, self._repositories()]}
        self._kube.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", text=json.dumps(items))
        named = {container["image"] for container in _containers([*known, *workflows])}
        images = {*(image for image in named if not re.search(r"[{\s]", image)), *BY_PARAMETERS}
        fixtures.run_ctl("name", *sorted(images), rig="kube")

    def _repositories(self) -> dict[str, Any]:
        """Return the ConfigMap with the repository that an example names: the cluster's one."""
        controller = self._cluster.get(CONFIG_MAPS, "workflow-controller-configmap")
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "artifact-repositories"},
            "data": {"my-key": controller["data"]["artifactRepository"]},
        }

    def run(self, workflows: dict[str, dict[str, Any]], record: Callable[[str, dict[str, Any]], None]) -> None:
        """Submit workflows, some at a time, and hand over each as the API shows it in the end.

        Args:
            workflows: By name, in their order; those in ``ALONE`` in the end, and alone.
            record: Called with the name and the object. An object whose phase is not final had no time left.
        """
        alone = {name: workflow for name, workflow in workflows.items() if name in ALONE}
        self._run({name: workflow for name, workflow in workflows.items() if name not in alone}, AT_ONCE, record)
        self._run(alone, 1, record)

    def _run(
        self,
        workflows: dict[str, dict[str, Any]],
        at_once: int,
        record: Callable[[str, dict[str, Any]], None],
    ) -> None:
        waiting = list(workflows)
        running: dict[str, float] = {}
        while waiting or running:
            while waiting and len(running) < at_once:
                name = waiting.pop(0)
                try:
                    self._submit(workflows[name])
                except KubeError as error:
                    record(name, {"metadata": {}, "status": {"phase": "Error", "message": str(error)}})
                else:
                    running[name] = time.monotonic() + SECONDS
            shown = {w["metadata"]["name"]: w for w in self._cluster.list(WORKFLOWS, labels=LABEL)}
            for name, deadline in list(running.items()):
                workflow = shown[workflows[name]["metadata"]["name"]]
                status = workflow.get("status", {})
                if status.get("phase") in ENDED or _waits(status) or time.monotonic() > deadline:
                    record(name, workflow)
                    del running[name]
                    self._forget(workflow["metadata"]["name"])
            time.sleep(1)  # a list a second is less for the API than a dozen watches, and nothing is timed by it

    def _submit(self, workflow: dict[str, Any]) -> None:
        metadata = workflow["metadata"]
        labels = {**metadata.get("labels", {}), LABEL: "true"}
        self._cluster.create(WORKFLOWS, {**workflow, "metadata": {**metadata, "labels": labels}})

    def _forget(self, name: str) -> None:
        """Remove a workflow at once; the collection of its artifacts is not what is looked at."""
        self._cluster.patch(WORKFLOWS, name, {"metadata": {"finalizers": None}})
        self._cluster.delete(WORKFLOWS, name)


@contextlib.contextmanager
def scratch(wished: Path | None) -> Iterator[Path]:
    """Give a directory for what Argo said: the wished one, or one that goes away."""
    if wished:
        wished.mkdir(parents=True, exist_ok=True)
        yield wished
    else:
        with tempfile.TemporaryDirectory(prefix="fidelity-") as made:
            yield Path(made)
