"""Which template a step names, and everything about a template that is worth knowing once.

A template is resolved in a *scope*: the workflow itself, or the WorkflowTemplate that was entered by a templateRef;
names inside it are looked up there. Defaults (``spec.templateDefaults``, ``spec.retryStrategy``) are merged in here.

Not here: arguments and tags (``inputs.py``). Trap: a template's tags are parsed once and shared by all its nodes, so a
template is never changed in place.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr.tags import TagTemplate
from dflow_hpc.manifest.merging import merge
from dflow_hpc.manifest.view import LEAF_KINDS, Json, annotations_of, compact, kind_of, node_type

_RESULT = re.compile(r"(?:steps|tasks)(?:\.([-\w]+)|\[\\*['\"]([-\w]+)\\*['\"]\])\.outputs\.result")
_ALL_PARAMETERS = re.compile(r"\{\{\s*inputs\.parameters\s*\}\}")
_LOOPS = ("withItems", "withParam", "withSequence")


@dataclass(frozen=True)
class Scope:
    """Where template names are looked up."""

    text: str
    """As ``templateScope`` stands in a node: ``local/<workflow>``, ``namespaced/<name>``, ``cluster/<name>``."""
    templates: Mapping[str, Json]


def _parse(value: Any) -> TagTemplate:
    try:
        return TagTemplate.parse(value)
    except ExpressionError as error:
        raise TemplateError(str(error)) from error


class Entry:
    """A step or a task as it is written, with its tags parsed once."""

    def __init__(self, written: Json) -> None:
        self.written = written
        self.name: str = written["name"]
        self.loops = any(written.get(key) for key in _LOOPS)
        self.items: list[Any] = written.get("withItems") or []
        # Items are texts of their own and may be many: they are substituted apart, and only when a tag is in them.
        self.tags = _parse({key: value for key, value in written.items() if key != "withItems"})
        self.item_tags = _parse(self.items) if "{{" in compact(self.items) else None
        self.watched = bool(written.get("hooks") or written.get("onExit"))
        self._named_by = _naming(written)

    def named_by(self, step: Json) -> Json:
        """Return what of a step made from this one names its template; the same object for all where it is the same."""
        found = _naming(step)
        return self._named_by if found == self._named_by else found


def _naming(step: Json) -> Json:
    keys = ("template", "templateRef") if step.get("inline") is None else ("name", "inline")
    return {key: step[key] for key in keys if key in step}


@dataclass
class Template:
    """A template with its defaults merged in."""

    json: Json
    kind: str = field(init=False)
    name: str = field(init=False)
    node_type: str = field(init=False)

    def __post_init__(self) -> None:
        self.kind = kind_of(self.json)
        self.name = self.json.get("name") or ""
        self.node_type = node_type(self.json)

    @property
    def is_pod(self) -> bool:
        """Say whether a node of it is a Pod."""
        return self.node_type == "Pod"

    @cached_property
    def parameters(self) -> list[Json]:
        """Its declared input parameters."""
        return list((self.json.get("inputs") or {}).get("parameters") or ())

    @cached_property
    def artifacts(self) -> list[Json]:
        """Its declared input artifacts."""
        return list((self.json.get("inputs") or {}).get("artifacts") or ())

    @cached_property
    def body(self) -> TagTemplate:
        """All of it that is substituted when it is executed: not its inputs, steps and tasks, which come apart.

        The script of a Python OP stays out too: the runner gets what it needs as files, and its one tag is the most
        expensive there is.
        """
        body = {key: value for key, value in self.json.items() if key not in ("inputs", "steps", "dag")}
        if "script" in body and "dflow-hpc/op" in annotations_of(body):
            body["script"] = {key: value for key, value in body["script"].items() if key != "source"}
        return _parse(body)

    @cached_property
    def groups(self) -> list[list[Entry]]:
        """Its steps."""
        return [[Entry(step) for step in group] for group in self.json.get("steps") or []]

    @cached_property
    def tasks(self) -> list[Entry]:
        """Its tasks."""
        return [Entry(task) for task in (self.json.get("dag") or {}).get("tasks") or ()]

    @cached_property
    def paths(self) -> dict[str, str]:
        """The variables that name paths: ``inputs.artifacts.X.path`` and the like."""
        found = {}
        for side in ("inputs", "outputs"):
            for artifact in (self.json.get(side) or {}).get("artifacts") or ():
                if artifact.get("path"):
                    found[f"{side}.artifacts.{artifact['name']}.path"] = artifact["path"]
        for parameter in (self.json.get("outputs") or {}).get("parameters") or ():
            if (parameter.get("valueFrom") or {}).get("path"):
                found[f"outputs.parameters.{parameter['name']}.path"] = parameter["valueFrom"]["path"]
        return found

    @cached_property
    def wants_parameters(self) -> bool:
        """Say whether ``{{inputs.parameters}}``, all of them as one JSON text, stands in it."""
        return bool(_ALL_PARAMETERS.search(compact(self.json)))

    @cached_property
    def results_used(self) -> frozenset[str]:
        """Names of the steps or tasks whose ``outputs.result`` it mentions: only theirs is captured."""
        return frozenset(match[0] or match[1] for match in _RESULT.findall(compact(self.json)))


class Templates:
    """All templates that a workflow may use.

    Args:
        workflow: Name of the workflow.
        spec: Its spec, with a workflowTemplateRef already merged in.
        resources: WorkflowTemplates and ClusterWorkflowTemplates, as documents.
    """

    def __init__(self, workflow: str, spec: Json, resources: Iterable[Json] = ()) -> None:
        self.local = Scope(f"local/{workflow}", {t["name"]: t for t in spec.get("templates") or ()})
        self.stored: dict[str, Json] = {}
        """Templates reached by templateRef, under Argo's keys of ``status.storedTemplates``."""
        self._defaults: Json = spec.get("templateDefaults") or {}
        self._retry: Json | None = spec.get("retryStrategy")
        self._volumes: list[Json] = spec.get("volumes") or []
        claims = spec.get("volumeClaimTemplates") or ()
        self.claims: set[str] = {(claim.get("metadata") or {}).get("name") or "" for claim in claims}
        """Names of the volumes that are made for the workflow."""
        self._foreign: dict[tuple[bool, str], Scope] = {}
        for document in resources:
            if document["kind"] in ("WorkflowTemplate", "ClusterWorkflowTemplate"):
                cluster, name = document["kind"].startswith("Cluster"), document["metadata"]["name"]
                known = {t["name"]: t for t in (document.get("spec") or {}).get("templates") or ()}
                self._foreign[cluster, name] = Scope(f"{'cluster' if cluster else 'namespaced'}/{name}", known)
        self._made: dict[int, Template] = {}

    def resolve(self, holder: Json, scope: Scope) -> tuple[Template, Scope]:
        """Return the template that a step, task or hook names, and the scope that its own names are looked up in.

        Raises:
            TemplateError: There is none.
        """
        if holder.get("inline") is not None:
            return self._make(holder["inline"], scope, f"inline/{holder.get('name', '')}"), scope
        reference = holder.get("templateRef")
        if reference is None:
            name = holder.get("template") or ""
            if name not in scope.templates:
                raise TemplateError(f"template {name} not found")
            return self._make(scope.templates[name], scope, name), scope
        cluster, name = bool(reference.get("clusterScope")), reference.get("name") or ""
        foreign = self._foreign.get((cluster, name))
        if foreign is None:
            kind = "clusterworkflowtemplates" if cluster else "workflowtemplates"
            raise TemplateError(f'{kind}.argoproj.io "{name}" not found')
        wanted = reference.get("template") or ""
        if wanted not in foreign.templates:
            raise TemplateError(f"template {wanted} not found in workflow template {name}")
        return self._make(foreign.templates[wanted], foreign, wanted), foreign

    def _complete(self, template: Json) -> Json:
        """Return a template with what it has from the workflow, and what every run needs to know of it."""
        added: Json = {}
        if template.get("retryStrategy") is None and self._retry is not None:
            added["retryStrategy"] = self._retry
        if kind_of(template) in LEAF_KINDS:
            if self._volumes:
                added["volumes"] = [*(template.get("volumes") or ()), *self._volumes]
            for side in ("inputs", "outputs"):
                if (template.get(side) or {}).get("artifacts"):
                    added[side] = _clean(template[side])
        return {**template, **added} if added else template

    def _make(self, written: Json, scope: Scope, name: str) -> Template:
        if id(written) in self._made:
            return self._made[id(written)]
        template = merge(self._defaults, written) if self._defaults else written
        if self._defaults:  # a default never changes what kind of template it is
            template = {key: value for key, value in template.items() if key in written or not _is_kind(key)}
        made = Template(self._complete(template))
        self._made[id(written)] = made
        if scope is not self.local:
            self.stored[f"{scope.text}/{name}"] = written
        return made


def _clean(side: Json) -> Json:
    """Return inputs or outputs with the paths of artifacts in their shortest form, as Argo keeps them."""
    artifacts = [{**a, "path": posixpath.normpath(a["path"])} if a.get("path") else a for a in side["artifacts"]]
    return {**side, "artifacts": artifacts}


def _is_kind(key: str) -> bool:
    return kind_of({key: {}}) == key


def config_value(resources: Iterable[Json], reference: Json) -> str | None:
    """Return what a ``configMapKeyRef`` names, or None when there is no such ConfigMap or key.

    Raises:
        TemplateError: The ConfigMap is not labelled as one of parameters, which Argo asks for.
    """
    maps = [r for r in resources if r["kind"] == "ConfigMap" and r["metadata"]["name"] == reference.get("name")]
    if not maps:
        return None
    label = "workflows.argoproj.io/configmap-type"
    if (maps[0]["metadata"].get("labels") or {}).get(label) != "Parameter":
        raise TemplateError(
            f"ConfigMap '{reference.get('name')}' needs to have the label {label}: Parameter to load parameters"
        )
    return (maps[0].get("data") or {}).get(reference.get("key"))
