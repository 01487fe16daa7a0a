"""Who asks the node's API, and whether the cluster lets them: as a kubelet asks for both.

Who: a client certificate that the cluster's authority for clients signed, or a bearer token (TokenReview). Whether: a
SubjectAccessReview of the node's subresource for that path; the API server's own certificate has those rights.

Not here: TLS (``serving.py``), paths (``kubelet_api.py``).

Trap: an answer is remembered for a while, so a right that is taken away works that much longer.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dflow_hpc.kube import CONFIG_MAPS, Cluster, NotFound

_GRANTED, _DENIED = 300.0, 30.0
"""Seconds for which an answer holds: a kubelet's own defaults."""
_MOST = 1000
"""Answers that are remembered."""
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PARTS = {"pods": "pods", "runningpods": "pods", "stats": "stats", "metrics": "metrics"}
"""By the first part of a path: the subresource that opens it; all else needs ``proxy``, which opens these two too."""
_PROXY_TOO = ("pods",)


@dataclass(frozen=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...]


def of_certificate(certificate: Mapping[str, Any] | None) -> User | None:
    """Return whom a client certificate names, as ``ssl`` gives it once it was verified; None without one."""
    subject = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    name = next((value for key, value in subject if key == "commonName"), None)
    if name is None:
        return None
    return User(name, tuple(value for key, value in subject if key == "organizationName"))


def client_authority(cluster: Callable[[str], Cluster]) -> str | None:
    """Return the authority (PEM) that signs clients of the cluster's servers, as the API server publishes it.

    Args:
        cluster: Returns the objects of a namespace.
    """
    try:
        found = cluster("kube-system").get(CONFIG_MAPS, "extension-apiserver-authentication")
    except NotFound:
        return None
    return (found.get("data") or {}).get("client-ca-file")


def subresources(path: str) -> tuple[str, ...]:
    """Return the node's subresources of which one must be granted for a path."""
    first = path.strip("/").split("/")[0].lower()
    part = _PARTS.get(first)
    if part is None:
        return ("proxy",)
    return (part, "proxy") if part in _PROXY_TOO else (part,)


class Access:
    """Asks the cluster about those who ask the node.

    Args:
        node: The node's name.
        cluster: What the API has in no namespace.
        clock: Seconds; only differences count.
    """

    def __init__(self, node: str, cluster: Cluster, clock: Callable[[], float] = time.monotonic):
        self._node = node
        self._connection = cluster.connection
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[Any, ...], tuple[float, Any]] = {}

    def user(self, certificate: Mapping[str, Any] | None, authorization: str | None) -> User | None:
        """Return who asks; None where that is not known.

        Args:
            certificate: The verified client certificate.
            authorization: The header of that name.

        Raises:
            KubeError: The API server did not say.
        """
        user = of_certificate(certificate)
        kind, _, token = (authorization or "").partition(" ")
        if user is not None or kind.lower() != "bearer" or not token:
            return user
        key = ("token", hashlib.sha256(token.encode()).hexdigest())
        found: User | None = self._remembered(key, lambda: self._review(token))
        return found

    def _review(self, token: str) -> User | None:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        status = self._connection.request("say whose a token is", "POST", path, body=body)["status"]
        if not status.get("authenticated"):
            return None
        return User(status["user"]["username"], tuple(status["user"].get("groups") or ()))

    def allows(self, user: User, method: str, path: str) -> bool:
        """Say whether somebody may ask for something.

        Args:
            user: Who.
            method: The HTTP method.
            path: The path.

        Raises:
            KubeError: The API server did not say.
        """
        verb = _VERBS.get(method, method.lower())
        return any(
            self._remembered((user, verb, part), lambda part=part: self._may(user, verb, part))  # type: ignore[misc]
            for part in subresources(path)
        )

    def _may(self, user: User, verb: str, part: str) -> bool:
        wish = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": part, "name": self._node}
        spec = {"user": user.name, "groups": list(user.groups), "resourceAttributes": wish}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        what = f"say whether {user.name} may {verb} nodes/{part}"
        return bool(self._connection.request(what, "POST", path, body=body)["status"].get("allowed"))

    def _remembered(self, key: tuple[Any, ...], ask: Callable[[], Any]) -> Any:
        now = self._clock()
        with self._lock:
            until, answer = self._known.get(key, (0.0, None))
        if now < until:
            return answer
        answer = ask()
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = (now + (_GRANTED if answer else _DENIED), answer)
        return answer
