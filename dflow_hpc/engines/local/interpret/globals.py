"""The variables ``workflow.*``: what the manifest and its metadata give to every template."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable, Mapping
from typing import Any

from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.engines.local.interpret.names import Known
from dflow_hpc.engines.local.interpret.templates import config_value
from dflow_hpc.expr import gojson, golang
from dflow_hpc.manifest.ids import pod_name
from dflow_hpc.manifest.view import UNSUCCESSFUL, Json, Node, text_of

_DATE_LETTERS = "BbmAadHIMSYyp"


def variables(workflow: Json, spec: Json, resources: Iterable[Json], known: Known) -> dict[str, str]:
    """Return the variables that stand before anything has run: of these the spec itself is made.

    Args:
        workflow: The Workflow, with name, uid and creationTimestamp.
        spec: Its spec, a workflowTemplateRef merged in.
        resources: Documents among which ConfigMaps are looked for.
        known: Whose functions the expressions of ``labelsFrom`` may use.

    Raises:
        TemplateError: A parameter has no value, or a label cannot be evaluated.
    """
    metadata = workflow["metadata"]
    found = {
        "workflow.name": metadata["name"],
        "workflow.namespace": metadata.get("namespace") or "default",
        "workflow.uid": metadata.get("uid") or "",
        "workflow.mainEntrypoint": spec.get("entrypoint") or "",
        "workflow.serviceAccountName": spec.get("serviceAccountName") or "",
    }
    if spec.get("priority") is not None:
        found["workflow.priority"] = str(spec["priority"])
    scheduled = (metadata.get("annotations") or {}).get("workflows.argoproj.io/scheduled-time")
    if scheduled:
        found["workflow.scheduledTime"] = scheduled
    found.update(_times(metadata.get("creationTimestamp") or "1970-01-01T00:00:00Z"))
    found.update(_metadata(metadata, spec.get("workflowMetadata") or {}))
    found.update(_parameters((spec.get("arguments") or {}).get("parameters") or [], resources))
    for label, source in ((spec.get("workflowMetadata") or {}).get("labelsFrom") or {}).items():
        found[f"workflow.labels.{label}"] = text_of(known.over(found).evaluate(source["expression"]))
    return found


def _times(created: str) -> dict[str, str]:
    moment = time.strptime(created, "%Y-%m-%dT%H:%M:%SZ")
    name = "workflow.creationTimestamp"
    found = {f"{name}.{letter}": time.strftime(f"%{letter}", moment) for letter in _DATE_LETTERS}
    seconds = str(calendar.timegm(moment))
    found.update({f"{name}.Z": "UTC", f"{name}.z": "+0000", f"{name}.L": "000", f"{name}.s": seconds})
    return {**found, name: created, f"{name}.RFC3339": created}


def _metadata(metadata: Json, more: Json) -> dict[str, str]:
    found: dict[str, str] = {}
    for side in ("labels", "annotations"):
        own = metadata.get(side) or {}
        found[f"workflow.{side}"] = found[f"workflow.{side}.json"] = gojson.dumps(own)
        for key, value in {**own, **(more.get(side) or {})}.items():
            found[f"workflow.{side}.{key}"] = text_of(value)
    return found


def own_metadata(spec: Json, texts: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and the annotations that a workflow gets by its ``workflowMetadata``.

    Args:
        spec: Its spec.
        texts: Its variables.
    """
    more = spec.get("workflowMetadata") or {}
    labels = [*(more.get("labels") or ()), *(more.get("labelsFrom") or ())]
    return (
        {name: texts[f"workflow.labels.{name}"] for name in labels},
        {name: texts[f"workflow.annotations.{name}"] for name in more.get("annotations") or ()},
    )


def _parameters(parameters: list[Json], resources: Iterable[Json]) -> dict[str, str]:
    found: dict[str, str] = {}
    listed = [{**p, "value": text_of(p["value"])} if p.get("value") is not None else p for p in parameters]
    found["workflow.parameters"] = found["workflow.parameters.json"] = gojson.dumps(listed)
    for parameter in parameters:
        value: Any = parameter.get("value")
        reference = (parameter.get("valueFrom") or {}).get("configMapKeyRef")
        if value is None and reference:
            value = config_value(resources, reference)
            if value is None:
                value = parameter["valueFrom"].get("default")
            if value is None:
                raise TemplateError(
                    f"failed to set global parameter {parameter['name']} from configmap with name "
                    f"{reference.get('name')} and key {reference.get('key')}: not found"
                )
        if value is None:
            raise TemplateError(
                f"either value or valueFrom must be specified in order to set global parameter {parameter['name']}"
            )
        found[f"workflow.parameters.{parameter['name']}"] = text_of(value)
    return found


def failures(workflow: str, nodes: Iterable[Node]) -> str:
    """Return ``workflow.failures``: a JSON list of what failed, its keys in the order of Argo, and quoted once more."""
    found = [
        {
            "displayName": node["displayName"],
            "message": node.get("message") or "",
            "templateName": node.get("templateName") or "",
            "phase": node["phase"],
            "podName": pod_name(workflow, node["name"], node.get("templateName") or ""),
            "finishedAt": node.get("finishedAt"),
        }
        for node in nodes
        if node["phase"] in UNSUCCESSFUL
    ]
    texts = ["{" + ",".join(f'"{key}":{gojson.dumps(value)}' for key, value in entry.items()) + "}" for entry in found]
    return golang.quote(f"[{','.join(texts)}]" if texts else "null")
