"""The objects by which a cluster shows itself to Kubernetes: a Node and its Lease, as plain data.

Pure functions from what the scheduler has to what the API server wants; sending them is somebody else's.

Trap: a node without allocatable ``pods``, ``cpu`` and ``memory`` gets no pod, whatever its capacity says.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dflow_hpc.engines.argo.lower import NODE_LABEL, NODE_TAINT

GPU = "nvidia.com/gpu"
"""The extended resource that stands for the scheduler's GPUs."""
LEASE_SECONDS = 40
"""How long the control plane waits for the next renewal (the kubelet's own default)."""


@dataclass(frozen=True)
class Capacity:
    """What a machine's partitions or queues offer together."""

    cpus: int
    memory: int
    """Bytes."""
    gpus: int = 0
    pods: int = 1000
    """Jobs that may be in the queue at once."""


def node_object(name: str, machine: str, capacity: Capacity | None, address: str, port: int) -> dict[str, Any]:
    """Return the Node to create.

    Args:
        name: The node's name.
        machine: The profile behind it.
        capacity: What it offers; None while that is not known.
        address: The InternalIP at which the API server finds our endpoint.
        port: Port of that endpoint; 10250 would be another kubelet's.
    """
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "type": "virtual-kubelet",
                "virtual-kubelet.io/provider": "dflow-hpc",
                NODE_LABEL: machine,
            },
        },
        "spec": {"taints": [{"key": NODE_TAINT, "value": "dflow-hpc", "effect": "NoSchedule"}]},
        "status": node_status(capacity, address, port),
    }


def node_status(
    capacity: Capacity | None, address: str, port: int, why: str = "", now: datetime | None = None
) -> dict[str, Any]:
    """Return the Node's status.

    Args:
        capacity: What it offers; None while that is not known: then it is not ready, and what stands there stays.
        address: See ``node_object``.
        port: See there.
        why: Why the machine cannot be asked now; nothing while it can.
        now: Instead of the present time.
    """
    ready = capacity is not None and not why
    return {
        **({} if capacity is None else _resources(capacity)),
        # Only InternalIP: the API server would try a Hostname first, which nothing resolves.
        "addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [
            {
                "type": "Ready",
                "status": "True" if ready else "False",
                "reason": "MachineReachable" if ready else "MachineUnreachable" if why else "MachineNotSeenYet",
                "message": why,
                "lastHeartbeatTime": (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        ],
    }


def _resources(capacity: Capacity) -> dict[str, Any]:
    resources = {"cpu": str(capacity.cpus), "memory": str(capacity.memory), "pods": str(capacity.pods)}
    if capacity.gpus:
        resources[GPU] = str(capacity.gpus)
    return {"capacity": resources, "allocatable": dict(resources)}


def lease_object(name: str, now: datetime) -> dict[str, Any]:
    """Return the Lease whose renewal keeps the node Ready; its time has microseconds."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }
