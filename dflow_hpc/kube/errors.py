"""What the Kubernetes API refuses, as this project's errors: what was asked, what it said, and what to do.

Not here: which of them are tried again (``connection.py``).
"""

from __future__ import annotations

import json

from dflow_hpc.errors import EngineError

_ADVICE = {
    400: "The request is not one that this version of the API knows",
    401: "The API does not know this token or certificate, or it has expired: log in anew, renew the kubeconfig, or "
    "set config['token'] (DFLOW_TOKEN)",
    403: "Ask the administrator of the namespace for a Role with that verb on that resource, or use another account "
    "or namespace (config['namespace'], DFLOW_NAMESPACE)",
    404: "See whether it was deleted, and whether config['namespace'] (DFLOW_NAMESPACE) and the cluster are the right "
    "ones",
    409: "Somebody made or changed it at the same time: look at it, then ask again",
    410: "That version of it is too old: read it anew",
    413: "It is too large for the API: take large values out of the manifest (BigParameter, artifacts)",
    422: "The object is not one that Kubernetes accepts: correct the field that it names",
}


class KubeError(EngineError):
    """The API did not do what was asked."""

    status: int = 0
    """The HTTP status; 0 where no answer came."""


class NotFound(KubeError):
    """There is no such object, or no such kind of object (404)."""


class Conflict(KubeError):
    """It exists already, or was changed meanwhile (409)."""


class Gone(KubeError):
    """The version of a list from which changes were asked for is too old (410)."""


class Unreachable(KubeError):
    """No answer came, or none but that the server is busy."""


_KINDS = {404: NotFound, 409: Conflict, 410: Gone}
BUSY = frozenset({429, 500, 502, 503, 504})
"""Statuses that may be another one a moment later."""


def refusal(what: str, status: int, body: bytes) -> KubeError:
    """Return the error for an answer that is none of success.

    Args:
        what: What was asked, in words: ``"read the workflow 'hello'"``.
        status: The HTTP status.
        body: What came with it: a ``Status`` object, or any text.
    """
    kind = Unreachable if status in BUSY else _KINDS.get(status, KubeError)
    advice = _ADVICE.get(status, "See what the API server's administrator says of it")
    error = kind(f"Kubernetes was asked to {what}; it answered {status}: {_message(body)}. {advice}.")
    error.status = status
    return error


def _message(body: bytes) -> str:
    text = body.decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        text = str(found.get("message") or found.get("reason") or text)
    return text[:2000].rstrip(".") or "nothing more"
