"""Validating a manifest by Argo's rules, with Argo's words."""

from collections.abc import Sequence

from dflow_hpc.manifest.view import Json


def problem_of(workflow: Json, resources: Sequence[Json] = ()) -> str:  # noqa: ARG001
    """Return what Argo would say about a manifest that it does not accept, or an empty text."""
    spec = workflow.get("spec") or {}
    known = {template.get("name") for template in spec.get("templates") or ()}
    if not spec.get("entrypoint"):
        return "invalid spec: spec.entrypoint is required"
    if spec["entrypoint"] not in known:
        return f"invalid spec: template name '{spec['entrypoint']}' undefined"
    return ""
