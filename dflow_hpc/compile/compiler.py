"""From a workflow to its manifest: an Argo ``Workflow`` as plain data, the bundle of code, the secrets it refers to.

Pure: the same model and the same files give the same bytes. Templates are named by their content, so that equal ones
are one, however many steps there are.

Not here: the code (``bundle.py``), and each kind of template (``leaves.py``, ``scopes.py``, ``helpers.py``).

Trap: nothing that belongs to one run or one site may enter: no random names, no settings of machines.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from dflow_hpc.compile import PASSWORD, Bundle, Compiled, nested
from dflow_hpc.compile.bundle import bundle
from dflow_hpc.compile.leaves import Code, Variant, leaf
from dflow_hpc.compile.nested import Joined
from dflow_hpc.compile.scopes import ScopeWriter
from dflow_hpc.compile.survey import Survey
from dflow_hpc.compile.texts import parameter_text
from dflow_hpc.errors import CompileError
from dflow_hpc.model.checks import MAX_TEMPLATE_NAME, at
from dflow_hpc.model.python_template import PythonOPTemplate
from dflow_hpc.model.templates import OPTemplate, Secret

API_VERSION = "argoproj.io/v1alpha1"
SERVICE_ACCOUNT = "argo"
MAX_DEPTH = 100
"""How deep Argo lets templates call each other."""


def compile_workflow(workflow: Any) -> Compiled:
    """Compile a workflow.

    Args:
        workflow: A ``model.workflow.Workflow``.

    Raises:
        CompileError: It cannot become a manifest; the text names the step, its file and line.
        BundleError: The code of an OP cannot travel.
    """
    if workflow.manifest is not None:
        return Compiled(manifest=workflow.manifest)
    if workflow.entrypoint is None:
        raise CompileError(f"{workflow.title} has no steps{at(workflow.where)}. Add one: workflow.add(Step(...)).")
    return Compiler(workflow).compile()


class Compiler:
    """One compilation.

    Args:
        workflow: The workflow.
    """

    def __init__(self, workflow: Any):
        self.workflow = workflow
        self.survey = Survey(workflow)
        self.secrets: dict[str, Secret] = {}
        self._templates: dict[str, dict[str, Any]] = {}
        self._by_content: dict[tuple[str, str], str] = {}
        self._leaves: dict[tuple[int, Variant], str] = {}
        self._scopes: dict[tuple[int, bool, Joined], str] = {}
        self._depth = 0
        self.bundle: Bundle | None = None
        self.code = self._bundle()

    def compile(self) -> Compiled:
        """Return the compiled workflow."""
        workflow = self.workflow
        entrypoint = self._scope(workflow.entrypoint, keyed=False)
        spec: dict[str, Any] = {"entrypoint": entrypoint, "serviceAccountName": SERVICE_ACCOUNT}
        if workflow.parameters:
            spec["arguments"] = {
                "parameters": [
                    {"name": name, "value": parameter_text(parameter.value, parameter.type)}
                    for name, parameter in workflow.parameters.items()
                ]
            }
        if workflow.on_exit is not None:
            spec["onExit"] = self._on_exit(workflow.on_exit)
        if workflow.parallelism is not None:
            spec["parallelism"] = workflow.parallelism
        if workflow.pod_gc_strategy is not None:
            spec["podGC"] = {"strategy": workflow.pod_gc_strategy}
        if workflow.image_pull_secrets:
            spec["imagePullSecrets"] = [{"name": name} for name in workflow.image_pull_secrets]
        spec["templates"] = [{"name": name, **content} for name, content in reversed(self._templates.items())]
        manifest = {"apiVersion": API_VERSION, "kind": "Workflow", "metadata": self._metadata(), "spec": spec}
        self._check_entry_inputs()
        return self._compiled(manifest)

    def _compiled(self, manifest: dict[str, Any]) -> Compiled:
        machines = {name: machine for name, machine in self.survey.machines.items() if machine.profile is not None}
        for name, machine in machines.items():
            if machine.password is not None:
                self.secrets[name] = Secret(machine.password, name=name, key=PASSWORD)
        return Compiled(
            manifest=manifest,
            bundle=self.bundle,
            secrets=tuple(self.secrets.values()),
            machines={name: dict(machine.profile or {}) for name, machine in machines.items()},
            notices=tuple(dict.fromkeys(notice for machine in machines.values() for notice in machine.notices)),
        )

    def _metadata(self) -> dict[str, Any]:
        workflow = self.workflow
        metadata: dict[str, Any] = {"name": workflow.id} if workflow.id else {"generateName": workflow.name + "-"}
        fields = {"namespace": workflow.namespace, "labels": workflow.labels, "annotations": workflow.annotations}
        metadata.update({name: value for name, value in fields.items() if value})
        return metadata

    def _check_entry_inputs(self) -> None:
        entry = self.workflow.entrypoint
        for name, parameter in entry.inputs.parameters.items():
            if not hasattr(parameter, "value") and name not in self.workflow.parameters:
                raise CompileError(
                    f"{entry.title} is the entrypoint of {self.workflow.title} and its input parameter {name!r} has "
                    f"no value{at(entry.where)}. Give InputParameter(value=...) or "
                    f"Workflow(parameters={{{name!r}: ...}})."
                )
        for name, artifact in entry.inputs.artifacts.items():
            if not artifact.optional:
                raise CompileError(
                    f"{entry.title} is the entrypoint of {self.workflow.title} and needs the input artifact {name!r}"
                    f"{at(entry.where)}, which nobody gives. Use it as the template of a step that gets the artifact."
                )

    def _on_exit(self, template: Any) -> str:
        target = self.survey.rendered(template, None)
        return self._scope(target, keyed=False) if target.super_op else self._leaf(target, Variant())

    # -- code --------------------------------------------------------------------------------------------------------

    def _bundle(self) -> Code:
        from dflow_hpc.op.op import upload_packages

        templates = self.survey.op_templates
        ops = list({id(template.op_class): template.op_class for template in templates}.values())
        given = [*upload_packages, *(path for template in templates for path in template.python_packages)]
        packages = list(dict.fromkeys(Path(path) for path in given))
        if not ops and not self.survey.has_helpers:
            return Code("", {})
        self.bundle, entries = bundle(ops, packages)
        return Code(self.bundle.sha256, {id(op): entry for op, entry in zip(ops, entries, strict=True)})

    # -- templates and their names -----------------------------------------------------------------------------------

    def template_of(self, step: Any, variant: Variant) -> str:
        """Return the name of the template that a step runs, writing it if it is new."""
        target = self.survey.target(step)
        if not target.super_op:
            return self._leaf(target, variant)
        joined = nested.joined(step, variant.shared, variant.create_dir)
        return self._scope(target, keyed="dflow_key" in variant.parameters, joined=joined)

    def _leaf(self, template: OPTemplate, variant: Variant) -> str:
        key = (id(template), variant)
        if key not in self._leaves:
            content = leaf(template, variant, self.code, self.secrets)
            if isinstance(template, PythonOPTemplate):
                self._leaves[key] = self.named(_as_name(template.op_name), content, hashed=True)
            else:
                base = template.name or _as_name(type(template).__name__)
                self._leaves[key] = self.named(base, content, hashed=template.name is None)
        return self._leaves[key]

    def named(self, base: str, content: dict[str, Any], *, hashed: bool) -> str:
        """Return the name of a template with this content.

        Args:
            base: What the name begins with.
            content: The template without its name.
            hashed: Whether the name ends with a digest in any case, not only to tell it from another.
        """
        text = json.dumps(content, sort_keys=True)
        known = self._by_content.get((base, text))
        if known is not None:
            return known
        name = base
        if hashed or base in self._templates:
            name = f"{base[: MAX_TEMPLATE_NAME - 11]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
        self._by_content[base, text] = name
        self._templates[name] = content
        return name

    def _scope(self, scope: Any, *, keyed: bool, joined: Joined = Joined()) -> str:  # noqa: B008  (it is frozen)
        key = (id(scope), keyed, joined)
        if key not in self._scopes:
            base = scope.name or _as_name(type(scope).__name__)
            # Reserved before its members are written: one of them may run this very scope.
            number, name = 1, base
            while name in self._templates:
                number += 1
                name = f"{base}-{number}"
            self._scopes[key] = name
            self._templates[name] = {}
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise CompileError(
                    f"{scope.title} is nested {self._depth} deep{at(scope.where)}; Argo runs templates up to "
                    f"{MAX_DEPTH} deep. Put the steps of some of them into one."
                )
            content = ScopeWriter(self, scope, keyed, joined).write()
            self._depth -= 1
            text = json.dumps(content, sort_keys=True)
            known = self._by_content.get((base, text))
            if known is not None:  # it does not contain itself, since its text would hold its name
                del self._templates[name]
                self._scopes[key] = known
            else:
                del self._templates[name]
                self._templates[name] = content  # behind those that it uses
                self._by_content[base, text] = name
        return self._scopes[key]


def _as_name(name: str) -> str:
    return re.sub(r"[^-a-z0-9]+", "-", name.lower()).strip("-") or "op"
