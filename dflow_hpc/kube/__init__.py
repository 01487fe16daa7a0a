"""The Kubernetes API, as far as this project asks it: the only place that imports ``kubernetes``.

``connect()`` gives a ``Cluster``: objects of one namespace as plain dicts, events without gaps, logs of pods.
"""

from dflow_hpc.kube.cluster import (
    CONFIG_MAPS,
    LEASES,
    NODES,
    PODS,
    SECRETS,
    TASK_RESULTS,
    WORKFLOWS,
    Cluster,
    Kind,
    put,
)
from dflow_hpc.kube.connection import connect
from dflow_hpc.kube.errors import Conflict, Gone, KubeError, NotFound, Unreachable
from dflow_hpc.kube.watch import Event

__all__ = [
    "CONFIG_MAPS",
    "LEASES",
    "NODES",
    "PODS",
    "SECRETS",
    "TASK_RESULTS",
    "WORKFLOWS",
    "Cluster",
    "Conflict",
    "Event",
    "Gone",
    "Kind",
    "KubeError",
    "NotFound",
    "Unreachable",
    "connect",
    "put",
]
