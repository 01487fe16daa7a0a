"""Validating a manifest by Argo's rules and with Argo's words, before anything of it runs.

Here: the workflow, its templates one by one, their inputs and outputs. Steps and tasks are in ``validate_flow.py``,
what a tag may name in ``validate_names.py``, what says nothing of other templates in ``validate_parts.py``.

Not here: what the local engine cannot run although Argo can (``refuse.py``). Trap: Argo validates every template, used
or not, and stops at the first problem; so do we.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dflow_hpc.manifest.merging import not_found, whole_spec
from dflow_hpc.manifest.schema import Malformed, normalise, normalise_templates
from dflow_hpc.manifest.validate_flow import check_dag, check_steps
from dflow_hpc.manifest.validate_names import (
    ANY_WORKFLOW_PARAMETER,
    Problem,
    Scope,
    check_arguments,
    check_hooks,
    check_names,
    check_tags,
    is_tag,
    workflow_scope,
)
from dflow_hpc.manifest.validate_parts import check_location, check_metrics, check_pod_gc, check_resource
from dflow_hpc.manifest.view import LEAF_KINDS, TEMPLATE_KINDS, Json, kind_of, text_of

_KINDS_TEXT = "container, containerSet, steps, script, resource, dag, suspend, template, template ref"
_SOURCES = ("path", "jqFilter", "jsonPath", "parameter", "expression")
_POLICIES = (None, "", "Always", "OnError", "OnFailure", "OnTransientError")
_DEPTH = 150
"""How deeply references are followed; deeper templates are looked at by themselves, which gives a shorter prefix."""


def problem_of(workflow: Json, resources: Sequence[Json] = (), *, lint: bool = False) -> str:
    """Return what Argo would say about a manifest that it does not accept, or an empty text.

    Args:
        workflow: The Workflow; or a WorkflowTemplate or ClusterWorkflowTemplate, which is looked at by itself.
        resources: WorkflowTemplates and ClusterWorkflowTemplates that it may refer to.
        lint: It is looked at before it is submitted: parameters may get their values then.
    """
    try:
        whole = {"metadata": {}, **normalise(workflow)}
        known = [normalise_templates(resource) for resource in resources]
    except Malformed as error:
        return f"cannot unmarshall spec: {error}"
    if whole["spec"].get("workflowTemplateRef") and whole["spec"].get("templates"):
        return "invalid spec: Templates is invalid field in spec if workflow referred WorkflowTemplate reference"
    spec = whole_spec(whole, known)
    if spec is None:
        return not_found(whole)
    try:
        _Validation({**whole, "spec": spec}, known, lint, whole["spec"].get("workflowTemplateRef")).run()
    except Problem as problem:
        return f"invalid spec: {problem}"
    return ""


class _Validation:
    """One look at a manifest; it implements what ``validate_flow`` asks for."""

    def __init__(self, workflow: Json, resources: Sequence[Json], lint: bool, reference: Json | None) -> None:
        self.workflow, self.spec, self._reference = workflow, workflow["spec"], reference
        self._alone = workflow.get("kind") in ("WorkflowTemplate", "ClusterWorkflowTemplate")
        """It is a library: what a Workflow gives it is not known."""
        self._open_values = lint or self._alone
        self._local = {t.get("name"): t for t in self.spec.get("templates") or ()}
        self._foreign: dict[tuple[bool, str], Mapping[str, Json]] = {}
        for document in resources:
            if document["kind"] in ("WorkflowTemplate", "ClusterWorkflowTemplate"):
                cluster, name = document["kind"].startswith("Cluster"), document["metadata"]["name"]
                templates = (document.get("spec") or {}).get("templates") or ()
                self._foreign[cluster, name] = {t.get("name"): t for t in templates}
        self._seen: set[int] = set()
        self._depth = 0
        self.globals: Scope = {}

    def run(self) -> None:
        """Raise the first problem."""
        name = self.workflow["metadata"].get("name") or ""
        if len(name) > 63:
            what = "workflow template" if self._alone else "workflow"
            raise Problem(f'{what} name "{name}" must not be more than 63 characters long (currently {len(name)})')
        _check_integers(self.spec, "spec", ("activeDeadlineSeconds", "parallelism", "priority"))
        check_names(self.spec.get("templates") or (), "spec.templates", kind="field")
        arguments = self.spec.get("arguments") or {}
        check_arguments("spec.arguments.", arguments, open_values=self._open_values)
        self.globals = workflow_scope(self.workflow, self.spec)
        if self._alone:
            self.globals[ANY_WORKFLOW_PARAMETER] = True
        elif not self.spec.get("entrypoint"):
            raise Problem("spec.entrypoint is required")
        if self.spec.get("entrypoint"):
            given = None if self._alone else arguments
            self.check_holder(self._holder(self.spec["entrypoint"]), self._local, given)
        if self.spec.get("onExit"):
            self.globals["workflow.failures"] = True
            self.check_holder(self._holder(self.spec["onExit"]), self._local, arguments)
        check_hooks(self.spec.get("hooks") or {}, "hooks")
        check_pod_gc(self.spec.get("podGC") or {})
        for template in self.spec.get("templates") or ():
            try:
                self.check_holder(self._holder(template["name"]), self._local, None)
            except Problem as problem:
                raise Problem(f"templates.{template['name']} {problem}") from problem

    def _holder(self, name: str) -> Json:
        """Return what names a template of the workflow: it may lie in the WorkflowTemplate that it refers to."""
        return {"templateRef": {**self._reference, "template": name}} if self._reference else {"template": name}

    def check_holder(self, holder: Json, templates: Mapping[str, Json], arguments: Json | None) -> Json | None:
        """Check the template that a step, task or hook names.

        Args:
            holder: What names it.
            templates: Where the name is looked up.
            arguments: What is handed over; None when that is not known yet.

        Returns:
            The template, or None when the reference holds tags.
        """
        found, inner = self._find(holder, templates)
        if found is None:
            return None
        if not kind_of(found):
            raise Problem(f"template '{found.get('name') or ''}' type is unknown")
        strategy = found.get("retryStrategy") or {}
        if strategy.get("retryPolicy") not in _POLICIES:
            raise Problem(f"{strategy['retryPolicy']} is not a valid RetryPolicy")
        self._check_template(found, inner, arguments)
        return found

    def _find(self, holder: Json, templates: Mapping[str, Json]) -> tuple[Json | None, Mapping[str, Json]]:
        if holder.get("inline") is not None:
            return holder["inline"], templates
        reference, name = holder.get("templateRef"), holder.get("template") or ""
        if reference is None:
            if name not in templates:
                raise Problem(f"template name '{name}' undefined")
            return templates[name], templates
        if name:
            raise Problem("template name cannot be specified with templateRef.")
        for key, what in (("name", "resource"), ("template", "template")):
            if not reference.get(key):
                raise Problem(f"{what} name is required")
        if "{{" in reference["name"] + reference["template"]:
            return None, templates
        foreign = self._foreign.get((bool(reference.get("clusterScope")), reference["name"]))
        if foreign is None or reference["template"] not in foreign:
            raise Problem(f"template reference {reference['name']}.{reference['template']} not found")
        return foreign[reference["template"]], foreign

    def _check_template(self, template: Json, templates: Mapping[str, Json], arguments: Json | None) -> None:
        name, kind = template.get("name") or "", kind_of(template)
        first = id(template) not in self._seen
        if first:
            _check_integers(template, f"templates.{name}", ("parallelism",))
            _check_kind(template)
            scope = _input_scope(template)
        _check_supplied(template, arguments)
        if not first or self._depth > _DEPTH:
            return
        self._seen.add(id(template))
        self._depth += 1
        _check_timeout(template, kind)
        scope.update(_own_scope(template, kind))
        if kind == "steps":
            check_steps(self, template, templates, scope)
        elif kind == "dag":
            check_dag(self, template, templates, scope)
        else:
            self._check_leaf(template, scope)
        check_tags(template.get("outputs") or {}, scope, self.globals, f"templates.{name}.outputs ")
        _check_outputs(template, kind)
        check_location(template.get("archiveLocation") or {}, f"templates.{name}.archiveLocation")
        check_metrics(template)
        self._depth -= 1

    def _check_leaf(self, template: Json, scope: Scope) -> None:
        name = template.get("name") or ""
        check_tags(template, scope, self.globals, f"templates.{name}: ")
        for kind in ("container", "script"):
            main = template.get(kind)
            default = ((self.spec.get("templateDefaults") or {}).get(kind) or {}).get("image")
            if main is not None and not main.get("image") and not default:
                raise Problem(f"templates.{name}.{kind}.image may not be empty")
        if template.get("container"):
            _check_mounts(template)
        if template.get("containerSet") is not None:
            _check_container_set(template)
        if template.get("resource") is not None:
            check_resource(template)
        limit = template.get("activeDeadlineSeconds")
        if limit is not None and "{{" not in text_of(limit) and not text_of(limit).isdecimal():
            raise Problem(f"templates.{name}.activeDeadlineSeconds must be a positive integer > 0 or an argo variable")
        if template.get("parallelism") is not None:
            raise Problem(f"templates.{name}.parallelism is only valid for steps and dag templates")


def _check_integers(value: Json, where: str, fields: Sequence[str]) -> None:
    for name in fields:
        found = value.get(name)
        if found is not None and type(found) is not int:
            raise Problem(f"{where}.{name} must be an integer; it is {json.dumps(found)}")


def _check_kind(template: Json) -> None:
    if sum(template.get(kind) is not None for kind in TEMPLATE_KINDS) > 1:
        where = f"templates.{template.get('name') or ''}"
        raise Problem(f"{where} multiple template types specified. choose one of: {_KINDS_TEXT}")
    if not all(container.get("name") for container in template.get("initContainers") or ()):
        raise Problem("initContainers must all have container name")


def _input_scope(template: Json) -> Scope:
    name, inputs = template.get("name") or "", template.get("inputs") or {}
    scope: Scope = {}
    for side in ("parameters", "artifacts"):
        check_names(inputs.get(side) or (), f"templates.{name}.inputs.{side}", kind="value")
    for parameter in inputs.get("parameters") or ():
        scope[f"inputs.parameters.{parameter['name']}"] = True
        scope["inputs.parameters"] = True
    leaf = kind_of(template) not in ("steps", "dag")
    for artifact in inputs.get("artifacts") or ():
        reference = f"inputs.artifacts.{artifact['name']}"
        scope[reference] = True
        if leaf:
            _check_path(artifact, f"templates.{name}.{reference}")
            scope[f"{reference}.path"] = True
        elif artifact.get("path"):
            raise Problem(f"templates.{name}.{reference}.path only valid in container/script templates")
        if artifact.get("from"):
            raise Problem(f"templates.{name}.{reference}.from not valid in inputs")
        check_location(artifact, f"templates.{name}.{reference}")
    return scope


def _check_path(artifact: Json, where: str) -> None:
    path = artifact.get("path") or ""
    if not path:
        raise Problem(f"error in {where}: Artifact has no path")
    if ".." in path.split("/") and "{{" not in path and re.match(r"(.*/)?\.\.(/|$)", path):
        raise Problem(f"error in {where}: Path \"{path}\" contains '..' which is not allowed")


def _check_supplied(template: Json, arguments: Json | None) -> None:
    if arguments is None:
        return
    where, inputs = f"templates.{template.get('name') or ''}", template.get("inputs") or {}
    given = {p["name"]: p for p in arguments.get("parameters") or ()}
    for parameter in inputs.get("parameters") or ():
        argument = given.get(parameter["name"]) or {}
        values = (argument.get("value"), argument.get("valueFrom"), parameter.get("value"), parameter.get("default"))
        if all(value is None for value in (*values, parameter.get("valueFrom"))):
            raise Problem(f"{where} inputs.parameters.{parameter['name']} was not supplied")
    artifacts = {a["name"] for a in arguments.get("artifacts") or ()}
    for artifact in inputs.get("artifacts") or ():
        located = any(
            isinstance(value, dict) for key, value in artifact.items() if key not in ("archive", "artifactGC")
        )
        if not artifact.get("optional") and not located and artifact["name"] not in artifacts:
            raise Problem(f"{where} inputs.artifacts.{artifact['name']} was not supplied")


def _check_timeout(template: Json, kind: str) -> None:
    timeout = template.get("timeout")
    if timeout and kind in ("steps", "dag"):
        raise Problem(f"{kind.upper() if kind == 'dag' else 'Steps'} template doesn't support timeout field.")
    if timeout and text_of(timeout).lstrip("+-").isdecimal():
        raise Problem(f"{template.get('name') or ''} has invalid duration format in timeout.")


def _own_scope(template: Json, kind: str) -> Scope:
    """Return the names that only this template's own tags may use."""
    scope: Scope = {}
    if kind in (*LEAF_KINDS, "resource", "data"):
        scope["pod.name"] = True
    if template.get("retryStrategy") is not None:
        scope["retries"] = True
        scope.update({f"lastRetry.{key}": True for key in ("exitCode", "status", "duration", "message")})
    return scope


def _check_mounts(template: Json) -> None:
    name = template.get("name") or ""
    taken: dict[str, str] = {}
    mounts = [(f"container.volumeMounts[{i}].mountPath", m.get("mountPath"), f"container.volumeMounts.{m.get('name')}")
              for i, m in enumerate(template["container"].get("volumeMounts") or ())]  # fmt: skip
    inputs = (template.get("inputs") or {}).get("artifacts") or ()
    mounts += [(f"inputs.artifacts[{i}].path", a.get("path"), f"inputs.artifacts.{a['name']}")
               for i, a in enumerate(inputs)]  # fmt: skip
    for where, path, what in mounts:
        if path in taken:
            raise Problem(f"templates.{name}.{where} '{path}' already mounted in {taken[path]}")
        taken[path] = what


def _check_container_set(template: Json) -> None:
    where = f"templates.{template.get('name') or ''}.containerSet."
    containers = template["containerSet"].get("containers") or []
    if not containers:
        raise Problem(f"{where}containers must have at least one container")
    check_names(containers, f"{where}containers", kind="field")
    known = {container["name"] for container in containers}
    ready: set[str] = set()
    for container in containers:
        for need in container.get("dependencies") or ():
            if need not in known:
                raise Problem(f"{where}containers.{container['name']} dependency '{need}' not defined")
    while len(ready) < len(containers):
        more = {c["name"] for c in containers if set(c.get("dependencies") or ()) <= ready} - ready
        if not more:
            raise Problem(f"{where}containers dependency cycle detected: {'->'.join(sorted(known - ready))}")
        ready |= more
    outputs = template.get("outputs") or {}
    used = (template.get("inputs") or {}).get("artifacts") or outputs.get("parameters") or outputs.get("artifacts")
    if used and "main" not in known:
        raise Problem(f'{where}containers must have a container named "main" for input or output')


def _check_outputs(template: Json, kind: str) -> None:
    name, outputs = template.get("name") or "", template.get("outputs") or {}
    for side in ("parameters", "artifacts"):
        check_names(outputs.get(side) or (), f"templates.{name}.outputs.{side} ", kind="value")
    for artifact in outputs.get("artifacts") or ():
        where = f"templates.{name}.outputs.artifacts.{artifact['name']}"
        if kind not in ("steps", "dag"):
            _check_path(artifact, where)
        elif artifact.get("path"):
            raise Problem(f"{where}.path only valid in container/script templates")
        _check_global_name(artifact, where)
    for parameter in outputs.get("parameters") or ():
        where = f"templates.{name}.outputs.parameters.{parameter['name']}"
        _check_source(parameter, where)
        _check_source_of_kind(parameter, where, kind)
        _check_global_name(parameter, where)


def _check_source(parameter: Json, where: str) -> None:
    source: Any = parameter.get("valueFrom")
    if parameter.get("value") is not None:
        if source is not None:
            raise Problem(f"{where} has both valueFrom and value specified. Choose one.")
        return
    if source is None:
        raise Problem(f"{where} does not have valueFrom or value specified")
    count = sum(bool(source.get(key)) for key in _SOURCES) + (source.get("supplied") is not None)
    if not count:
        raise Problem("valueFrom type unspecified. choose one of: path, jqFilter, jsonPath, parameter, raw, expression")
    if count > 1:
        raise Problem("multiple valueFrom types specified. choose one of: path, jqFilter, jsonPath, parameter, raw")


def _check_source_of_kind(parameter: Json, where: str, kind: str) -> None:
    source = parameter.get("valueFrom")
    if source is None:
        return
    shown = {"steps": "Steps", "dag": "DAG", "container": "Container", "script": "Script"}.get(kind, "ContainerSet")
    if kind in LEAF_KINDS and not source.get("path"):
        raise Problem(f"{where}.path must be specified for {shown} templates")
    if kind == "resource" and not source.get("jqFilter") and not source.get("jsonPath"):
        raise Problem(f"{where} .jqFilter or jsonPath must be specified for Resource templates")
    if kind in ("steps", "dag") and not source.get("parameter") and not source.get("expression"):
        raise Problem(f"{where}.parameter or expression must be specified for {shown} templates")


def _check_global_name(entry: Json, where: str) -> None:
    name = entry.get("globalName")
    if name and not is_tag(name) and not re.fullmatch(r"[-a-zA-Z0-9_]+", name):
        raise Problem(
            f"{where}.globalName: Parameter/Artifact name must consist of alpha-numeric characters, '_' or '-' "
            "e.g. my_param_1, MY-PARAM-1"
        )
