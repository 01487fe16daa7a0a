"""From a manifest to what Argo can run: the run's name and labels, and a refusal of what only the local engine can do.

Pure: nothing is asked or made here (``publish.py``, ``engine.py``).
"""

from __future__ import annotations

import copy
from typing import Any

from dflow_hpc.config import randstr
from dflow_hpc.errors import EngineError
from dflow_hpc.manifest.view import annotations_of

MANAGED = {"app.kubernetes.io/managed-by": "dflow-hpc"}
"""Labels of everything that the engine makes."""
_LONGEST = 63 - 11
"""Of a name, which is the value of a label of each pod (63 characters), what is left before a dash and the random."""


def lower(manifest: dict[str, Any], *, id: str | None = None) -> dict[str, Any]:
    """Return the Workflow to be made, under a name of its own.

    Args:
        manifest: What the compiler gave.
        id: The run's name, instead of the manifest's or one that is made up.

    Raises:
        EngineError: A step is placed on a machine.
    """
    _refuse_placements(manifest)
    workflow = copy.deepcopy(manifest)
    metadata = workflow.setdefault("metadata", {})
    prefix = metadata.pop("generateName", None) or "workflow-"
    metadata["name"] = id or metadata.get("name") or f"{prefix.rstrip('-')[:_LONGEST]}-{randstr(10)}"
    metadata.pop("namespace", None)  # the connection's
    metadata["labels"] = {**(metadata.get("labels") or {}), **MANAGED}
    return workflow


def _refuse_placements(manifest: dict[str, Any]) -> None:
    templates = manifest.get("spec", {}).get("templates") or []
    placed = [
        f"{template['name']} (on {annotations_of(template)['dflow-hpc/machine']})"
        for template in templates
        if "dflow-hpc/machine" in annotations_of(template)
    ]
    if placed:
        raise EngineError(
            f"a workflow was to be submitted to Argo; these templates are placed on machines: {', '.join(placed)}. "
            "This version runs such steps with the local engine only: set config['mode'] = 'debug', or leave out "
            "`executor=`."
        )
