"""What must lie ready before a workflow can run: its bundle in the artifact repository, its secrets in Kubernetes.

A bundle is published once, by its content. A Secret belongs to the Workflow (or Workflows) that it was made for, and
goes with the last of them.

Trap: a Secret is made before the Workflow, whose pods need it, and can be owned only after it. One that a killed
``submit`` leaves behind has our label and no owner.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dflow_hpc.compile import Bundle, Compiled
from dflow_hpc.engines.argo.lower import MANAGED
from dflow_hpc.engines.bridge.template import secret_name
from dflow_hpc.errors import EngineError
from dflow_hpc.kube import SECRETS, Cluster, Conflict, Kind, NotFound
from dflow_hpc.storage.store import Store


def publish(bundle: Bundle, store: Store) -> bool:
    """Put a bundle where pods will fetch it; say whether it had to be sent."""
    key = f"dflow-hpc/bundles/{bundle.sha256}.zip"
    if store.exists(key):
        return False
    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / "bundle.zip"
        file.write_bytes(bundle.data)
        store.put(file, key, archive="none")
    return True


def make_secrets(compiled: Compiled, cluster: Cluster) -> list[str]:
    """Make the Secrets that a workflow brings along, each value under its key; return their names.

    Raises:
        EngineError: A Secret of that name exists, and is not ours to change.
    """
    wanted: dict[str, dict[str, str]] = {}
    for secret in compiled.secrets:
        wanted.setdefault(secret.name, {})[secret.key] = secret.value
    for name, values in wanted.items():
        content = {"metadata": {"name": name, "labels": MANAGED}, "type": "Opaque", "stringData": values}
        try:
            cluster.create(SECRETS, content)
        except Conflict:
            _check_ours(cluster, name)
            cluster.patch(SECRETS, name, {"stringData": values})
    return list(wanted)


def _check_ours(cluster: Cluster, name: str) -> None:
    labels = cluster.get(SECRETS, name)["metadata"].get("labels") or {}
    if not MANAGED.items() <= labels.items():
        raise EngineError(
            f"the Secret {name!r} was to be made in the namespace {cluster.namespace!r}; there is one that is not ours "
            f"(it lacks the label {next(iter(MANAGED))}). Give yours another name: Secret(value, name=...); or use the "
            "existing one: Secret(name=...)."
        )


def gateways(machines: Sequence[str], cluster: Cluster) -> set[str]:
    """Return those of the machines that have a gateway in the namespace.

    Raises:
        EngineError: A machine has neither a gateway nor a login there: its pods would wait for ever.
    """
    found = set()
    for machine in machines:
        if _data(cluster, secret_name(machine, gateway=True)):  # an empty one waits for its gateway
            found.add(machine)
        elif not _data(cluster, secret_name(machine)):
            raise EngineError(
                f"steps were to run on machine {machine!r} from Argo; the namespace {cluster.namespace!r} has no "
                f"Secret {secret_name(machine)!r}, with which a pod logs in there. "
                f"Make it: dflow-hpc machine secret {machine}"
            )
    return found


def _data(cluster: Cluster, name: str) -> dict[str, str]:
    try:
        data: dict[str, str] = cluster.get(SECRETS, name).get("data") or {}
    except NotFound:
        return {}
    return data


def own(kind: Kind, names: list[str], cluster: Cluster, workflow: dict[str, Any]) -> None:
    """Let a Workflow own its Secrets or ConfigMaps, beside others that do."""
    metadata = workflow["metadata"]
    owner = {"apiVersion": workflow["apiVersion"], "kind": workflow["kind"]}
    owner |= {"name": metadata["name"], "uid": metadata["uid"]}

    def add(owned: dict[str, Any]) -> dict[str, Any]:
        owners = [one for one in owned["metadata"].get("ownerReferences") or [] if one["uid"] != owner["uid"]]
        return {**owned, "metadata": {**owned["metadata"], "ownerReferences": [*owners, owner]}}

    for name in names:
        cluster.update(kind, name, add)
