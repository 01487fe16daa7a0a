"""What the process, or the host of a machine, that runs a leaf is told of it: its *spec*, plain data.

Not here: the leaf's process (``leafrun.py``).

Trap: a Python OP's script is left out: the runner gets what it needs as files.
"""

from __future__ import annotations

import json
import re
from typing import Any

from dflow_hpc.engines.local.work import leafrun, placement
from dflow_hpc.executors.leaf import LeafRequest


def leaf_spec(request: LeafRequest, root: str, place: placement.Place) -> dict[str, Any]:
    """Return what the process (or the host of a machine) that runs a leaf is told."""
    template = request.template
    if leafrun.OP_ANNOTATION in ((template.get("metadata") or {}).get("annotations") or {}):
        env = {key: value for key, value in (template.get("script") or {}).items() if key == "env" and value}
        template = {key: value for key, value in template.items() if key not in ("script", "inputs")} | env
    return {
        "id": request.node_id,
        "name": _short_name(request.node_name),
        "root": root,
        "template": json.dumps(template),
        "inputs": request.inputs,
        "pod": request.pod_name,
        "workflow": request.workflow_name,
        "uid": request.workflow_uid,
        "result": request.capture_result,
        "deadline": request.deadline,
        "timeout": request.timeout,
        "setup": place.setup,
    }


def _short_name(node_name: str) -> str:
    """Return the step's name in a node's name: ``wf[0].gen(0:a.b)(1)`` gives ``gen``."""
    return re.sub(r"\([^()]*\)", "", node_name).rpartition(".")[2]
