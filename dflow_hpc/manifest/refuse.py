"""What the local engine does not interpret: said by name before anything runs, never found out half-way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dflow_hpc.manifest.view import Json, kind_of

_KINDS = {
    "resource": "it acts on a Kubernetes API",
    "http": "Argo's agent makes the call",
    "plugin": "a plugin of Argo's agent runs it",
    "data": "Argo's executor lists the keys of an object storage",
}
_FIELDS = {
    "daemon": "a pod that others talk to by its address",
    "sidecars": "containers that share a pod's network",
    "initContainers": "containers that share a pod's volumes",
}


def refused(workflow: Json) -> list[str]:
    """Return why the local engine cannot run a Workflow, one line a reason; empty when it can.

    Args:
        workflow: The Workflow; templates of WorkflowTemplates that it refers to are looked at apart.
    """
    templates = (workflow.get("spec") or {}).get("templates") or ()
    return [reason for template in _all(templates) for reason in _reasons(template)]


def _all(templates: Iterable[Json]) -> Iterator[Json]:
    for template in templates:
        yield template
        written = [
            step for group in template.get("steps") or () for step in (group if isinstance(group, list) else [group])
        ]
        written += (template.get("dag") or {}).get("tasks") or ()
        yield from _all([{"name": step["name"], **step["inline"]} for step in written if step.get("inline")])


def _reasons(template: Json) -> Iterator[str]:
    name = template.get("name")
    if kind_of(template) in _KINDS:
        kind = kind_of(template)
        yield f"template {name!r} is of kind {kind!r} ({_KINDS[kind]}); it runs under Argo only"
    for field, what in _FIELDS.items():
        if template.get(field):
            yield f"template {name!r} has {field!r} ({what}); it runs under Argo only"
