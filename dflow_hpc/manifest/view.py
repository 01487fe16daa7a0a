"""A view of Argo's spec and status as this project uses them: plain dicts, and what must be known about them.

A manifest stays the dict that it is in YAML, because Argo's schema is large, and what we do not know must pass through.
This module says what a template *is* and which text a value *has*; it neither validates (``validate.py``) nor changes
anything.

Trap: Argo's values are texts. A YAML number passes through Go's float64 on its way, so ``1.0`` is ``1``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

Json = dict[str, Any]
"""An object of Argo's schema."""

Node = dict[str, Any]
"""An entry of ``status.nodes``: id, name, displayName, type, phase, message, templateName, templateScope, boundaryID,
children, outboundNodes, inputs, outputs, nodeFlag, startedAt, finishedAt, progress, memoizationStatus."""

LEAF_KINDS = ("container", "script", "containerSet")
"""Fields that make a template one that runs something."""
TEMPLATE_KINDS = (*LEAF_KINDS, "steps", "dag", "suspend", "resource", "data", "http", "plugin")
POD_KINDS = (*LEAF_KINDS, "resource", "data")

FULFILLED = frozenset({"Succeeded", "Failed", "Error", "Skipped", "Omitted"})
COMPLETED = frozenset({"Succeeded", "Failed", "Error"})
UNSUCCESSFUL = frozenset({"Failed", "Error"})
COUNTED = frozenset({"Pod", "Container", "HTTP", "Suspend"})
"""Node types that progress counts."""


def kind_of(template: Mapping[str, Any]) -> str:
    """Return which kind of template it is (``steps``, ``script``, ...), or ``""``.

    ``steps: []`` and ``suspend: {}`` count: Argo looks at whether the field is there.
    """
    for kind in TEMPLATE_KINDS:
        if template.get(kind) is not None:
            return kind
    return ""


def node_type(template: Mapping[str, Any]) -> str:
    """Return the type of a node that runs the template, retries aside."""
    return {"steps": "Steps", "dag": "DAG", "suspend": "Suspend", "http": "HTTP", "plugin": "Plugin"}.get(
        kind_of(template), "Pod"
    )


def text_of(value: Any) -> str:
    """Return the text that Argo makes of a value of a parameter.

    Numbers are written as Go writes a float64 in JSON; null, lists and maps silently give an empty text, as there.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    return ""


def float_text(value: float) -> str:
    """Return a number as Go's JSON writes a float64: the shortest digits, an exponent below 1e-6 and from 1e21 on."""
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    mantissa, mark, exponent = repr(value).partition("e")
    return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}" if mark else mantissa


def compact(value: Any) -> str:
    """Return JSON as Go writes it: no blanks, keys sorted, nothing but what must be escaped."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def named(entries: Any, name: str) -> Json | None:
    """Return the entry of a list of objects that has this name."""
    return next((entry for entry in entries or () if entry.get("name") == name), None)


def annotations_of(template: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the annotations of a template."""
    return (template.get("metadata") or {}).get("annotations") or {}
