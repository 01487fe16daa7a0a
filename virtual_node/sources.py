"""What a pod refers to: keys of ConfigMaps and Secrets, its own fields, tokens.

Each object is read once a pod. What is not there, or is not to leave the cluster, is a ``Refused``.

Not here: what the values are for (``variables.py``, ``volumes.py``).

Trap: the values are secret as long as nobody knows better. They stay in memory, and go to files (0600) beside the job.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from dflow_hpc.errors import ManifestError
from dflow_hpc.kube import CONFIG_MAPS, SECRETS, Cluster, NotFound
from dflow_hpc.kube.cluster import Kind

Object = dict[str, Any]

ALLOW = "dflow-hpc/allow"
"""Annotation of a pod: which of ``HOST_PATH`` and ``TOKEN`` it is to have, with commas between."""
HOST_PATH = "host-path"
TOKEN = "service-account-token"  # noqa: S105  a word of the annotation
_TOKEN_TYPE = "kubernetes.io/service-account-token"  # noqa: S105  a type of Secrets
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")


class Refused(ManifestError):
    """A pod that cannot be run on this node, for ever."""


class Sources:
    """What one pod refers to.

    Args:
        pod: The pod.
        cluster: Objects of its namespace.
    """

    def __init__(self, pod: Object, cluster: Cluster):
        self._pod = pod
        self._cluster = cluster
        self._found: dict[tuple[Kind, str], dict[str, bytes] | None] = {}
        allowed = ((pod["metadata"].get("annotations") or {}).get(ALLOW) or "").split(",")
        self._allowed = {word.strip() for word in allowed}

    def demand(self, word: str, what: str) -> None:
        """Refuse what the pod's annotation does not allow.

        Args:
            word: ``HOST_PATH`` or ``TOKEN``.
            what: What was asked for.
        """
        if word not in self._allowed:
            raise Refused(f"{what}; on this node that needs the annotation {ALLOW}: {word}")

    def values(self, kind: Kind, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """Return the keys of a ConfigMap or a Secret.

        Args:
            kind: Which.
            name: Its name.
            optional: It need not be there.
        """
        if (kind, name) not in self._found:
            self._found[kind, name] = self._read(kind, name)
        found = self._found[kind, name]
        if found is None and not optional:
            raise Refused(f"it names the {kind.kind} {name!r}, which its namespace does not have. Make it first")
        return found or {}

    def _read(self, kind: Kind, name: str) -> dict[str, bytes] | None:
        try:
            found = self._cluster.get(kind, name)
        except NotFound:
            return None
        if found.get("type") == _TOKEN_TYPE:
            self.demand(TOKEN, f"the Secret {name!r} is a token of the API")
        data = found.get("data") or {}
        if kind is SECRETS:
            return {key: base64.b64decode(value) for key, value in data.items()}
        binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        return {key: value.encode() for key, value in data.items()} | binary

    def value(self, selector: Object, kind: Kind, what: str) -> bytes | None:
        """Return what a key selector means; None where that is optional and not there.

        Args:
            selector: With ``name``, ``key`` and ``optional``.
            kind: What it selects from.
            what: Who asks, for a message.
        """
        optional = bool(selector.get("optional"))
        found = self.values(kind, selector["name"], optional=optional).get(selector["key"])
        if found is None and not optional:
            raise Refused(f"{what} is the key {selector['key']!r} of the {kind.kind} {selector['name']!r}; it has none")
        return found

    def field(self, path: str) -> str:
        """Return a field of the pod, as the downward API gives it."""
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        if match := _SUBSCRIPT.fullmatch(path):
            return str((metadata.get(match[1]) or {}).get(match[2], ""))
        found = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata.get("namespace", ""),
            "metadata.uid": metadata["uid"],
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            **{f"metadata.{kind}": _map_text(metadata.get(kind) or {}) for kind in ("labels", "annotations")},
        }
        if path not in found:
            raise Refused(
                f"it asks for its field {path!r}; this node knows {', '.join(found)}. A pod here has no address, "
                "and its host is known only when its job runs"
            )
        return str(found[path])

    def token(self, source: Object) -> str:
        """Return a token of the pod's service account, which ends with the pod.

        Args:
            source: Of a projected volume: ``audience``, ``expirationSeconds``.
        """
        self.demand(TOKEN, "it asks for a token of its service account")
        spec, metadata = self._pod["spec"], self._pod["metadata"]
        reference = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        asked = {"expirationSeconds": source.get("expirationSeconds", 3600), "boundObjectRef": reference}
        if source.get("audience"):
            asked["audiences"] = [source["audience"]]
        return self._cluster.token(spec.get("serviceAccountName") or "default", asked)


def _map_text(found: dict[str, str]) -> str:
    return "\n".join(f"{key}={json.dumps(found[key], ensure_ascii=False)}" for key in sorted(found))


def reference_of(source: Object) -> tuple[Kind, Object] | None:
    """Return the kind and the selector of a source that names a ConfigMap or a Secret; None: it names neither."""
    kinds = {"secret": SECRETS, "configMap": CONFIG_MAPS}
    for key, kind in kinds.items():
        for name in (key, f"{key}Ref", f"{key}KeyRef"):
            if name in source:
                return kind, source[name]
    return None
