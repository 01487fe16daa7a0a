"""What the local engine does not interpret: said by name before anything runs, never found out half-way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dflow_hpc.manifest.merging import whole_spec
from dflow_hpc.manifest.schema import Malformed, normalise, normalise_templates
from dflow_hpc.manifest.view import Json, kind_of

_KINDS = {
    "resource": "it acts on a Kubernetes API",
    "http": "Argo's agent makes the call",
    "plugin": "a plugin of Argo's agent runs it",
    "data": "Argo's executor lists the keys of an object storage",
}


def refused(workflow: Json, resources: Iterable[Json] = ()) -> list[str]:
    """Return why the local engine cannot run a Workflow, one line a reason; empty when it can.

    Args:
        workflow: The Workflow.
        resources: Documents that it may refer to. Of those that it names all templates count.
    """
    try:
        workflow = normalise(workflow)
        resources = [normalise_templates(resource) for resource in resources]
    except Malformed:
        return []  # validation says what is wrong with it
    foreign = {
        (document["kind"].startswith("Cluster"), document["metadata"]["name"]): document["spec"].get("templates") or ()
        for document in resources
        if document["kind"] in ("WorkflowTemplate", "ClusterWorkflowTemplate")
    }
    looked_at: set[tuple[bool, str]] = set()
    reasons: list[str] = []
    pending = list((whole_spec(workflow, resources) or {}).get("templates") or ())
    while pending:
        template = pending.pop(0)
        reasons.extend(_reasons(template))
        for step in _written(template):
            if step.get("inline"):
                pending.append({"name": step.get("name"), **step["inline"]})
            reference = step.get("templateRef") or {}
            key = (bool(reference.get("clusterScope")), str(reference.get("name")))
            if key in foreign and key not in looked_at:
                looked_at.add(key)
                pending.extend(foreign[key])
    return reasons


def _written(template: Json) -> Iterator[Json]:
    for group in template.get("steps") or ():
        yield from group
    yield from (template.get("dag") or {}).get("tasks") or ()


def _reasons(template: Json) -> Iterator[str]:
    name = template.get("name")
    if kind_of(template) in _KINDS:
        kind = kind_of(template)
        yield f"template {name!r} is of kind {kind!r} ({_KINDS[kind]}); it runs under Argo only"
    if template.get("daemon"):
        yield f"template {name!r} is a 'daemon' (others talk to its pod by an address); it runs under Argo only"
