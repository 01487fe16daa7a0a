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
    command: tuple[str, ...]
    """The user's command of the container ``main``, without Argo's wrapper."""
    args: tuple[str, ...]
    include_result: bool
    """Whether stdout is wanted as ``outputs.result``."""
    deadline: str | None
    """RFC 3339 time by which it must have ended."""


def read(pod: dict[str, Any]) -> ArgoPod | None:
    """Return the leaf that a pod stands for.

    Args:
        pod: The pod as the API gives it.

    Returns:
        None for a pod that Argo's controller did not make for a leaf.

    Raises:
        ManifestError: It looks like one and lacks what one must have.
    """
    metadata = pod.get("metadata", {})
    node_id = (metadata.get("annotations") or {}).get(_NODE_ID)
    workflow = (metadata.get("labels") or {}).get(_WORKFLOW)
    main = _named(pod["spec"].get("containers", []), "main")
    init = _named(pod["spec"].get("initContainers", []), "init")
    if node_id is None or workflow is None or main is None or init is None:
        return None
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
        workflow=workflow,
        workflow_uid=environment.get("ARGO_WORKFLOW_UID") or _owner(metadata),
        node_id=node_id,
        node_name=metadata["annotations"].get(_NODE_NAME, node_id),
        template=None if away else json.loads(text),
        offloaded=metadata["name"] if away else None,
        command=_unwrapped(main.get("command") or []),
        args=tuple(main.get("args") or ()),
        include_result=environment.get("ARGO_INCLUDE_SCRIPT_OUTPUT") == "true",
        deadline=None if deadline in (None, "", _NO_DEADLINE) else deadline,
    )


def _owner(metadata: dict[str, Any]) -> str:
    return next((owner["uid"] for owner in metadata.get("ownerReferences") or [] if owner["kind"] == "Workflow"), "")


def _named(containers: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((container for container in containers if container.get("name") == name), None)


def _unwrapped(command: list[str]) -> tuple[str, ...]:
    """Return what follows the first ``--`` of the emissary's command line."""
    return tuple(command[command.index("--") + 1 :]) if "--" in command else tuple(command)
