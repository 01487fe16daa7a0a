"""The cluster's artifact repository: what Argo itself stores in, so that a user types no keys.

Argo looks for it as its documentation says: the ConfigMap ``artifact-repositories`` of the namespace (its key by
``s3_config["repo_key"]``, else by its annotation), then the controller's own ConfigMap. The keys to it are in a Secret.

Whatever a user did set in ``s3_config`` wins: an address that only pods can reach is replaced by that of a forwarded
port, say, while the keys still come from the cluster.

Trap: none of this may be readable for a user, who then sets all of ``s3_config`` himself: that is no error here.
"""

from __future__ import annotations

import base64
from typing import Any

from dflow_hpc.config import s3_config
from dflow_hpc.errors import ConfigError
from dflow_hpc.kube import CONFIG_MAPS, SECRETS, Cluster, Kind, KubeError, connect

REPOSITORIES = "artifact-repositories"
CONTROLLER = "workflow-controller-configmap"
DEFAULT_KEY = "workflows.argoproj.io/default-artifact-repository"
_NAMES = ("endpoint", "bucket_name", "secure", "access_key", "secret_key")
_HIDDEN = (401, 403, 404)

_known: dict[tuple[str, str, str | None], dict[str, Any]] = {}
"""What was found, by server, namespace and key: it is asked for once a process."""


def settings(cluster: Cluster | None = None) -> dict[str, Any]:
    """Return what the cluster says of those settings of ``s3_config`` that the user has left at their defaults.

    Args:
        cluster: Where to look; None: the one that the settings name.

    Raises:
        ConfigError: The repository is of a kind that this version does not know, or the settings name no cluster.
        KubeError: The API cannot be asked.
    """
    wanted = [name for name in _NAMES if s3_config.layer(name) == "default"]
    if not wanted or s3_config["storage_client"] is not None:
        return {}
    cluster = cluster or connect()
    key = (cluster.connection.server, cluster.namespace, s3_config["repo_key"])
    if key not in _known:
        _known[key] = _read(cluster, s3_config["repo_key"])
    return {name: _known[key][name] for name in wanted if name in _known[key]}


def _read(cluster: Cluster, wish: str | None) -> dict[str, Any]:
    found = _declared(cluster, wish)
    if found is None:
        return {}
    if "s3" not in found:
        raise ConfigError(
            f"the artifact repository of the namespace {cluster.namespace!r} was asked for; it is declared by "
            f"{', '.join(sorted(found)) or 'nothing'}, and this version reads s3 only. Set s3_config (endpoint, "
            "bucket_name, access_key, secret_key), or its storage_client."
        )
    s3 = found["s3"]
    values = {
        "endpoint": s3.get("endpoint"),
        "bucket_name": s3.get("bucket"),
        "secure": not s3.get("insecure", False),
        "access_key": _secret(cluster, s3.get("accessKeySecret")),
        "secret_key": _secret(cluster, s3.get("secretKeySecret")),
    }
    return {name: value for name, value in values.items() if value is not None}


def _declared(cluster: Cluster, wish: str | None) -> dict[str, Any] | None:
    """Return the repository as Argo's configuration declares it; None where it cannot be seen."""
    listed = _visible(cluster, CONFIG_MAPS, REPOSITORIES) or {"metadata": {}}
    names = listed.get("data") or {}
    key = wish or (listed["metadata"].get("annotations") or {}).get(DEFAULT_KEY)
    if key in names:
        return _yaml(names[key])
    if wish is not None:
        raise ConfigError(
            f"the artifact repository {wish!r} was asked for (s3_config['repo_key']); the ConfigMap {REPOSITORIES!r} "
            f"in the namespace {cluster.namespace!r} has: {', '.join(names) or 'none'}."
        )
    controller = _visible(cluster, CONFIG_MAPS, CONTROLLER) or {}
    text = (controller.get("data") or {}).get("artifactRepository")
    return None if text is None else _yaml(text)


def _yaml(text: str) -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load(text) or {})


def _secret(cluster: Cluster, selector: dict[str, str] | None) -> str | None:
    secret = _visible(cluster, SECRETS, selector["name"]) if selector else None
    value = (secret.get("data") or {}).get(selector["key"]) if secret and selector else None
    return None if value is None else base64.b64decode(value).decode()


def _visible(cluster: Cluster, kind: Kind, name: str) -> dict[str, Any] | None:
    """Return an object; None where there is none, or none that we may see."""
    try:
        return cluster.get(kind, name)
    except KubeError as error:
        if error.status in _HIDDEN:
            return None
        raise
