"""Recognises a pod that Argo made for a leaf, and takes from it what the leaf is.

Argo wraps the user's command in its emissary and tells its ``init`` and ``wait`` containers what to do by the template
in their environment. A node that plays those two itself needs that template, and the user's own command line.

Not here: running it, and pods that Argo did not make (``read`` returns None for them).

Trap: a template above 128 KiB is not in the environment but in a ConfigMap of the pod's name; ``offloaded`` says so.
"""

import json
from dataclasses import dataclass
from typing import Any

from dflow_hpc.errors import ManifestError

_NODE_ID = "workflows.argoproj.io/node-id"
_NODE_NAME = "workflows.argoproj.io/node-name"
_WORKFLOW = "workflows.argoproj.io/workflow"
_EMISSARY = "/var/run/argo/argoexec"
_NO_DEADLINE = "0001-01-01T00:00:00Z"


@dataclass(frozen=True)
class ArgoPod:
    """A leaf of an Argo workflow, as its pod describes it."""

    workflow: str
    workflow_uid: str
    node_id: str
    node_name: str
    template: dict[str, Any] | None
    """The leaf's template; None where it is offloaded to the ConfigMap ``offloaded``."""
    offloaded: str | None
    include_result: bool
    """Whether stdout is wanted as ``outputs.result``."""
    deadline: str | None
    """RFC 3339 time by which it must have ended."""


def is_argos(pod: dict[str, Any]) -> bool:
    """Say whether Argo's controller made a pod for a leaf: its containers ``init`` and ``wait`` are the node's part."""
    metadata, spec = pod["metadata"], pod["spec"]
    return (
        _NODE_ID in (metadata.get("annotations") or {})
        and _WORKFLOW in (metadata.get("labels") or {})
        and any(each["name"] == "wait" for each in spec["containers"])
        and any(each["name"] == "init" for each in spec.get("initContainers") or [])
    )


def read(pod: dict[str, Any]) -> ArgoPod | None:
    """Return the leaf that a pod stands for.

    Args:
        pod: The pod as the API gives it.

    Returns:
        None for a pod that Argo's controller did not make for a leaf.

    Raises:
        ManifestError: It looks like one and lacks what one must have.
    """
    if not is_argos(pod):
        return None
    metadata = pod["metadata"]
    init = next(each for each in pod["spec"]["initContainers"] if each["name"] == "init")
    environment = {item["name"]: item.get("value", "") for item in init.get("env", [])}
    text = environment.get("ARGO_TEMPLATE")
    if text is None:
        raise ManifestError(
            f"the pod {metadata.get('name')} has Argo's node id and should say what to run; its init container has no "
            "ARGO_TEMPLATE. Argo 3.4 and later set it; which version made the pod?"
        )
    away = text == "offloaded"
    deadline = environment.get("ARGO_DEADLINE")
    return ArgoPod(
        workflow=metadata["labels"][_WORKFLOW],
        workflow_uid=environment.get("ARGO_WORKFLOW_UID") or _owner(metadata),
        node_id=metadata["annotations"][_NODE_ID],
        node_name=metadata["annotations"].get(_NODE_NAME) or metadata["annotations"][_NODE_ID],
        template=None if away else json.loads(text),
        offloaded=metadata["name"] if away else None,
        include_result=environment.get("ARGO_INCLUDE_SCRIPT_OUTPUT") == "true",
        deadline=None if deadline in (None, "", _NO_DEADLINE) else deadline,
    )


def _owner(metadata: dict[str, Any]) -> str:
    return next((owner["uid"] for owner in metadata.get("ownerReferences") or [] if owner["kind"] == "Workflow"), "")


def unwrapped(command: list[str]) -> list[str]:
    """Return a container's own command: what follows the first ``--`` of the emissary's command line.

    Args:
        command: As the pod has it.
    """
    wrapped = command[:1] == [_EMISSARY] and "--" in command
    return command[command.index("--") + 1 :] if wrapped else command
