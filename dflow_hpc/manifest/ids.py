"""Names and ids of nodes and pods, by Argo's own algorithms.

A node's id is a function of its name, and its name of where it stands in the manifest: that is why a run can be
resumed, and why both engines report one tree. Not for workflow names: those are chosen by whoever submits.

Trap: the hash runs over the UTF-8 bytes of the *full* node name; two names with one hash would merge, as in Argo.
"""

import re

_MAX_POD_PREFIX = 252 - 10 - 1  # Kubernetes' limit of a name, less the hash and one
_SEPARATOR = re.compile(r"^(\[\d+\])?\.")


def fnv1a(text: str) -> int:
    """Return the 32-bit FNV-1a hash of the text's UTF-8 bytes."""
    value = 2166136261
    for byte in text.encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


def node_id(workflow: str, name: str) -> str:
    """Return the id of the node ``name``: the root's is the workflow's name."""
    return workflow if name == workflow else f"{workflow}-{fnv1a(name)}"


def pod_name(workflow: str, name: str, template: str) -> str:
    """Return the pod name (Argo's version 2) of the node ``name``, which is part of its artifacts' keys.

    Args:
        workflow: Name of the workflow.
        name: Full name of the node; for an attempt of a retry, the attempt's.
        template: Name of its template; empty for an inline one.
    """
    if name == workflow:
        return workflow
    prefix = f"{workflow}-{template}" if template else workflow
    return f"{prefix[:_MAX_POD_PREFIX]}-{fnv1a(name)}"


def display_name(name: str, boundary: str | None) -> str:
    """Return what a tree shows for the node: its name without that of the boundary node that it stands in."""
    if boundary is None:
        return name
    return _SEPARATOR.sub("", name.removeprefix(boundary), count=1)
