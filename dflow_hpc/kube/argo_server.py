"""Argo's own server, asked for what the Kubernetes API does not have: node trees in its database, archived Workflows.

Not here: anything that works without it, which is all the rest.
"""

from __future__ import annotations

from typing import Any

from dflow_hpc.kube.cluster import Cluster


def workflow(cluster: Cluster, name: str) -> dict[str, Any] | None:
    """Return a Workflow with its whole node tree, of an archived one too; None where the server is not known.

    Args:
        cluster: The namespace, who asks, and where the server is.
        name: The Workflow's.

    Raises:
        KubeError: The server does not give it.
    """
    if cluster.argo_server is None:
        return None
    server = cluster.connection.elsewhere(cluster.argo_server)
    what = f"read the Workflow {name!r} in the namespace {cluster.namespace!r} through the Argo Server"
    found: dict[str, Any] = server.request(what, "GET", f"/api/v1/workflows/{cluster.namespace}/{name}")
    return found
