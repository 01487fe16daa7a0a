"""Validating what stands for itself in a manifest: metrics, resources, locations of artifacts, the end of pods.

Not here: whatever looks at other templates or at names in scope.
"""

from __future__ import annotations

import re

import yaml

from dflow_hpc.manifest.validate_names import Problem
from dflow_hpc.manifest.view import Json, named

_ACTIONS = ("get", "create", "apply", "delete", "replace", "patch")
_POD_GC = (None, "", "OnPodCompletion", "OnPodSuccess", "OnWorkflowCompletion", "OnWorkflowSuccess")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_METRIC = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TAG = re.compile(r"\{\{.+?\}\}")


def check_pod_gc(pod_gc: Json) -> None:
    """Check when pods are removed, and which."""
    if pod_gc.get("strategy") not in _POD_GC:
        raise Problem(f"podGC.strategy unknown strategy '{pod_gc['strategy']}'")
    for wanted in (pod_gc.get("labelSelector") or {}).get("matchExpressions") or ():
        if wanted.get("operator") not in _OPERATORS:
            operator = f'"{wanted.get("operator") or ""}"'
            raise Problem(f"podGC.labelSelector invalid: {operator} is not a valid label selector operator")


def check_location(artifact: Json, where: str) -> None:
    """Check where an artifact lies."""
    if artifact.get("git") is not None and not artifact["git"].get("repo"):
        raise Problem(f"{where}.git.repo is required")


def check_metrics(template: Json) -> None:
    """Check the names, labels and values of a template's metrics."""
    where = f"templates.{template.get('name') or ''} metric"
    for metric in (template.get("metrics") or {}).get("prometheus") or ():
        name = metric.get("name") or ""
        if not _METRIC.fullmatch(name):
            raise Problem(f"{where} name '{name}' is invalid. Metric names must contain alphanumeric characters or '_'")
        for label in metric.get("labels") or ():
            if not _METRIC.fullmatch(label.get("key") or ""):
                raise Problem(
                    f"metric label '{label.get('key') or ''}' is invalid: keys may only contain alphanumeric "
                    "characters or '_'"
                )
        if not metric.get("help"):
            raise Problem(f"{where} '{name}' must contain a help string under 'help: ' field")
        for kind in ("gauge", "counter", "histogram"):
            value = (metric.get(kind) or {}).get("value")
            if metric.get(kind) is not None and not value:
                raise Problem(f"{where} '{name}' error: missing {kind}.value")
            if kind == "gauge" and value and metric[kind].get("realtime") and "resourcesDuration." in value:
                raise Problem(f"{where} '{name}' error: 'resourcesDuration.*' metrics cannot be used in real-time")


def check_resource(template: Json) -> None:
    """Check what a template of kind ``resource`` does, and with what."""
    name, resource = template.get("name") or "", template["resource"]
    action, manifest, source = resource.get("action") or "", resource.get("manifest"), resource.get("manifestFrom")
    if action not in _ACTIONS and "{{" not in action:
        raise Problem(f"templates.{name}.resource.action must be one of: {', '.join(_ACTIONS)}")
    if action in ("delete", "get"):
        return
    if not manifest and source is None:
        where = f"templates.{name}.resource"
        raise Problem(f"either {where}.manifest or {where}.manifestFrom must be specified")
    if manifest and source is not None:
        raise Problem("shouldn't have both `manifest` and `manifestFrom` specified in `Manifest` for resource template")
    wanted, artifacts = (source or {}).get("artifact"), (template.get("inputs") or {}).get("artifacts")
    if wanted and named(artifacts, wanted.get("name") or "") is None:
        raise Problem(f"artifact {wanted.get('name') or ''} in `manifestFrom` refer to a non-exist artifact")
    try:
        yaml.safe_load(_TAG.sub("tag", manifest or ""))
    except yaml.YAMLError as error:
        raise Problem(f"templates.{name}.resource.manifest must be a valid yaml") from error
