"""Outputs of earlier steps that a run takes over: as Argo's memoization caches, which hold them from the start.

A template with a key (input parameter ``dflow_key``) looks in a ConfigMap for the hash of that key; what is there
stands for a run of it. The outputs are spread over sixteen of them, by the hash's first digit: one holds 1 MiB.

Pure: nothing is asked or made here (``engine.py``).

Trap: Argo writes into the same ConfigMaps what was not there and has succeeded meanwhile, so none may begin full.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dflow_hpc.engines.argo.lower import MANAGED
from dflow_hpc.errors import EngineError

_KEY = "sprig.sha256sum(inputs.parameters.dflow_key)"
_CACHE = {"workflows.argoproj.io/configmap-type": "Cache"}
"""The label without which Argo refuses to use a ConfigMap so."""
_MOST = 700_000
"""Bytes that one may begin with."""


def take_over(
    workflow: Mapping[str, Any], outputs: Mapping[str, Any], now: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a Workflow whose steps of these keys take their outputs over, and the ConfigMaps that it needs.

    Args:
        workflow: The Workflow, under its name.
        outputs: Outputs in the form of a node's, by step key.
        now: The time, as Argo writes it.

    Raises:
        EngineError: There is more to take over than ConfigMaps hold.
    """
    name = f"{workflow['metadata']['name']}-reused-"
    cache = {"configMap": {"name": name + "{{=" + _KEY + "[0:1]}}"}}
    memoize = {"key": "{{=" + _KEY + "}}", "cache": cache}
    templates = [
        {**template, "memoize": memoize} if _has_key(template) else template
        for template in workflow["spec"].get("templates") or []
    ]
    parts: dict[str, dict[str, str]] = {digit: {} for digit in "0123456789abcdef"}
    for key, found in outputs.items():
        digest = hashlib.sha256(key.encode()).hexdigest()
        times = {"creationTimestamp": now, "lastHitTimestamp": now}
        parts[digest[0]][digest] = json.dumps({"nodeID": "reused", "outputs": found, **times})
    largest = max(sum(map(len, data.values())) for data in parts.values())
    if largest > _MOST:
        raise EngineError(
            f"{len(outputs)} steps were to be reused on Argo; a sixteenth of their outputs has {largest} bytes, and "
            f"{_MOST} is the most that fits into a ConfigMap. Reuse fewer steps, or make large outputs artifacts or "
            "big parameters."
        )
    caches = [
        {"metadata": {"name": name + digit, "labels": {**MANAGED, **_CACHE}}, "data": data}
        for digit, data in parts.items()
    ]
    return {**workflow, "spec": {**workflow["spec"], "templates": templates}}, caches


def _has_key(template: Mapping[str, Any]) -> bool:
    parameters = (template.get("inputs") or {}).get("parameters") or []
    return any(one["name"] == "dflow_key" for one in parameters)
