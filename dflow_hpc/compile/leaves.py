"""Templates of leaves as plain data: Python OPs with their op records, scripts, containers, HTTP requests.

One template object may be written in several variants: with a key, cut by slices, with an input given in parts, with a
parameter that comes as a file. ``Variant`` says what a step asks for; equal ones share one template.

Not here: steps and their arguments (``scopes.py``, ``arguments.py``).

Trap: no text of an op record may hold ``{{``: Argo would take it for a tag.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dflow_hpc.compile import kubernetes
from dflow_hpc.compile.texts import description, parameter_text
from dflow_hpc.errors import CompileError
from dflow_hpc.model.declared import BIG, InputArtifact, OutputArtifact, default_of
from dflow_hpc.model.python_template import PythonOPTemplate
from dflow_hpc.model.templates import ContainerOPTemplate, HTTPOPTemplate, OPTemplate, ScriptOPTemplate, Secret
from dflow_hpc.op.bootstrap import source
from dflow_hpc.op.values import dump_state

IN, OUT = "/tmp/inputs", "/tmp/outputs"  # noqa: S108  (where a leaf's files are, by contract)
OP_RECORD = "dflow-hpc/op"
PACKAGES = "dflow_python_packages"
SHARED_KEY = "{{inputs.parameters.dflow_artifact_key}}"
SCRIPT_MARK = "# dflow-hpc: the script of the OP stands here\n"
"""What an executor of others finds as an OP's script; whatever it makes of it gets the real one."""
PROGRESS = "workflows.argoproj.io/progress"


@dataclass(frozen=True)
class Variant:
    """What a step asks of its template beyond what the template says."""

    parameters: tuple[str, ...] = ()
    """Further input parameters, such as ``dflow_key``."""
    big: frozenset[str] = frozenset()
    """Input parameters that come as files although the template does not say so."""
    read: frozenset[str] = frozenset()
    """Big output parameters that the workflow reads, so that they are given as text too."""
    left_out: frozenset[str] = frozenset()
    """Input artifacts that the step leaves out."""
    parts: tuple[tuple[str, tuple[str, ...] | int], ...] = ()
    """Input artifacts given in parts: so many of a list, or the dotted keys of a dict."""
    prefix: tuple[tuple[str, str], ...] = ()
    """Input artifacts, or parts of them (``dflow_<name>_<i>``), of which one element is taken."""
    slices: Any = None
    """The ``Slices`` that cut the leaf's inputs."""
    expression: str = ""
    """Their expression, with ``${name}`` for its tags."""
    success_tag: bool = False
    shared: tuple[tuple[str, str], ...] = ()
    """Output artifacts that the slices of an outer loop leave under one key: their names here, and there."""
    create_dir: bool = False
    """Whether those lie in a directory named by the slice."""


@dataclass(frozen=True)
class Code:
    """Where the code of OPs is."""

    sha256: str
    entries: dict[int, dict[str, Any]]
    """``id`` of an OP class or instance -> the ``entry`` of its op record."""


def leaf(template: OPTemplate, variant: Variant, code: Code | None, secrets: dict[str, Secret]) -> dict[str, Any]:
    """Return a leaf's template without its name.

    Args:
        template: The template.
        variant: What the step asks for.
        code: Where the code of OPs is; None when the workflow has no OP.
        secrets: Gets the secrets that its environment needs.
    """
    if isinstance(template, PythonOPTemplate):
        assert code is not None  # noqa: S101  (an OP was surveyed, so it was bundled)
        return _python(template, variant, code, secrets)
    if variant.big or variant.parts or variant.prefix or variant.shared or variant.slices is not None:
        raise CompileError(
            f"{template.title} was given something that only a Python OP can take: "
            + ", ".join(_python_only(variant))
            + ". Use an OP, or give it a plain parameter or a whole artifact."
        )
    if isinstance(template, HTTPOPTemplate):
        return _http(template, variant)
    if not isinstance(template, ScriptOPTemplate):
        raise CompileError(
            f"{template.title} is a {type(template).__name__}, which runs nothing. Use a script or an OP."
        )
    return _script(template, variant, secrets)


def _python_only(variant: Variant) -> list[str]:
    found = [f"the big parameter {name!r}" for name in sorted(variant.big)]
    found += [f"the artifact {name!r} in parts" for name, _ in variant.parts]
    found += [f"one element of the artifact {name!r}" for name, _ in variant.prefix]
    return found + (["Slices"] if variant.slices is not None or variant.shared else [])


# -- Python OPs ------------------------------------------------------------------------------------------------------


def _python(template: PythonOPTemplate, variant: Variant, code: Code, secrets: dict[str, Secret]) -> dict[str, Any]:
    record = _record(template, variant, code)
    inputs = _inputs(template, variant, code)
    script = source(record, parameters="parameters" in inputs)
    annotations = {PROGRESS: "0/1", **template.annotations}
    if template.script in ("", SCRIPT_MARK):
        annotations[OP_RECORD] = json.dumps(record, sort_keys=True)
    else:  # an executor has wrapped the script, so it must run as it stands
        script = template.script.replace(SCRIPT_MARK, script)
    result = {
        "metadata": {"annotations": annotations, **({"labels": template.labels} if template.labels else {})},
        "inputs": inputs,
        "outputs": _outputs(template, variant),
        "script": {**kubernetes.container(template, secrets), "source": script},
        **kubernetes.pod(template),
        **memoize(template),
    }
    return {key: value for key, value in result.items() if value}


def _record(template: PythonOPTemplate, variant: Variant, code: Code) -> dict[str, Any]:
    op = template.op_class
    record: dict[str, Any] = {"bundle": code.sha256, "entry": code.entries[id(op)]}
    if not isinstance(op, type):
        state = dump_state(op)
        if state is not None:
            record["instance"] = state
    if variant.slices is not None:
        record["slices"] = variant.slices.record(variant.expression)
    if variant.parts:
        record["parts"] = {name: list(part) if isinstance(part, tuple) else part for name, part in variant.parts}
    if variant.prefix:
        record["prefix"] = dict(variant.prefix)
    if variant.success_tag or template.success_tag:
        record["success_tag"] = True
    if variant.shared:
        names = [name for name, _ in variant.shared]
        record["slices"] = {"slices": "${dflow_slice}", "output_artifact": names}
        if variant.create_dir:
            record["slices"]["create_dir"] = True
    if template.create_slice_dir:
        record["create_slice_dir"] = True
    writable = [name for name, artifact in template.inputs.artifacts.items() if artifact.writable]
    if writable:
        record["writable"] = writable
    if "{{" in json.dumps(record):
        raise CompileError(
            f"{template.title} carries a text with `{{{{`, which Argo would take for a tag; its record is "
            f"{json.dumps(record)[:300]}. Give such a text as a parameter."
        )
    return record


def _inputs(template: OPTemplate, variant: Variant, code: Code | None) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [{"name": name} for name in variant.parameters]
    artifacts: list[dict[str, Any]] = []
    for name, parameter in template.inputs.parameters.items():
        has_default, default = default_of(parameter)
        if parameter.save_as_artifact or name in variant.big:
            big: dict[str, Any] = {"name": BIG + name, "path": f"{IN}/parameters/{name}"}
            if has_default:
                big["raw"] = {"data": parameter_text(default, parameter.type)}
            artifacts.append(big)
        else:
            parameters.append(input_parameter(name, parameter))
    parts = dict(variant.parts)
    sub_path = variant.slices is not None and variant.slices.sub_path
    for name, artifact in template.inputs.artifacts.items():
        if name in parts:
            part = parts[name]
            for index in range(part if isinstance(part, int) else len(part)):
                piece = f"dflow_{name}_{index}"
                artifacts.append({"name": piece, "path": f"{IN}/artifacts/{piece}"})
        else:
            artifacts.append(_input_artifact(name, artifact, variant, sub_path))
    if code is not None and isinstance(template, PythonOPTemplate):
        artifacts.append(
            {
                "name": PACKAGES,
                "path": f"{IN}/artifacts/{PACKAGES}",
                "s3": {"key": f"dflow-hpc/bundles/{code.sha256}.zip"},
                "archive": {"none": {}},
            }
        )
    return without_empty({"parameters": parameters, "artifacts": artifacts})


def input_parameter(name: str, parameter: Any) -> dict[str, Any]:
    """Return a declared input parameter as plain data."""
    found: dict[str, Any] = {"name": name, **description(parameter.type)}
    has_default, default = default_of(parameter)
    if has_default:
        found["value"] = parameter_text(default, parameter.type)
    return found


def _input_artifact(name: str, artifact: InputArtifact, variant: Variant, sub_path: bool) -> dict[str, Any]:
    path = artifact.path or f"{IN}/artifacts/{name}"
    if sub_path and name in variant.slices.input_artifact and name not in variant.left_out:
        path += "/{{inputs.parameters.dflow_" + name + "_sub_path}}"
    found: dict[str, Any] = {"name": name, "path": path}
    if artifact.optional or name in variant.left_out:
        found["optional"] = True
    if artifact.mode is not None:
        found["mode"] = artifact.mode
    return found


def _outputs(template: OPTemplate, variant: Variant) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = []
    artifacts: list[dict[str, Any]] = []
    for name, parameter in template.outputs.parameters.items():
        path = parameter.value_from_path or f"{OUT}/parameters/{name}"
        if parameter.save_as_artifact:
            artifacts.append({"name": BIG + name, "path": path, "archive": {"none": {}}})
        if not parameter.save_as_artifact or name in variant.read:
            parameters.append(_output_parameter(template, name, parameter, path))
    if variant.success_tag or getattr(template, "success_tag", False):
        tag: dict[str, Any] = {"valueFrom": {"path": f"{OUT}/success_tag", "default": "0"}}
        if not isinstance(template, PythonOPTemplate):
            tag = {"value": "1"}  # a member that failed gives no outputs, so the tag need say nothing more
        parameters.append({"name": "dflow_success_tag", **tag})
    places = _shared_places(template, variant)
    for name, artifact in template.outputs.artifacts.items():
        artifacts.append(_output_artifact(template, name, artifact, places.get(name)))
    return without_empty({"parameters": parameters, "artifacts": artifacts})


def _output_parameter(template: OPTemplate, name: str, parameter: Any, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    if hasattr(parameter, "value"):
        found["value"] = parameter_text(parameter.value, parameter.type)
    elif parameter.value_from_path is None and not isinstance(template, PythonOPTemplate):
        raise CompileError(
            f"{template.title} declares the output parameter {name!r} without a file to take it from. Declare "
            "OutputParameter(value_from_path='/tmp/...')."
        )
    else:
        found["valueFrom"] = {"path": path}
        if hasattr(parameter, "default"):
            found["valueFrom"]["default"] = parameter_text(parameter.default, parameter.type)
    if parameter.global_name:
        found["globalName"] = parameter.global_name
    found.update(description(parameter.type))
    return found


def _shared_places(template: OPTemplate, variant: Variant) -> dict[str, dict[str, Any]]:
    """Return where each output artifact goes that several slices fill."""
    places: dict[str, dict[str, Any]] = {}
    for name, shared in variant.shared:
        if template.outputs.artifacts[name].save:
            raise CompileError(
                f"{template.title} saves the output artifact {name!r} under a key of its own, and the slices of a step "
                "around it join it under a key that the run chooses. Leave out `save`."
            )
        places[name] = {"s3": {"key": f"{SHARED_KEY}/{shared}"}}
    for name in variant.slices.output_artifact if variant.slices is not None else ():
        places[name] = saved_place(template, name) or {"s3": {"key": f"{SHARED_KEY}/{name}"}}
    return places


def saved_place(template: OPTemplate, name: str) -> dict[str, Any] | None:
    """Return where the slices of a template leave an output artifact whose author says where: all of them there.

    Raises:
        CompileError: It is not one place for all of them.
    """
    save = template.outputs.artifacts[name].save
    if not save:
        return None
    place: dict[str, Any] = save[0].location()
    text = json.dumps(place)
    if "{{inputs." in text or "{{=" in text:
        raise CompileError(
            f"{template.title} saves the output artifact {name!r} at {text}, and slices fill it; they need one key for "
            "all of them. Leave the reference out of it, or leave out `save`."
        )
    return place


def _output_artifact(
    template: OPTemplate, name: str, artifact: OutputArtifact, place: dict[str, Any] | None
) -> dict[str, Any]:
    if artifact.path is None and not isinstance(template, PythonOPTemplate):
        raise CompileError(
            f"{template.title} declares the output artifact {name!r} without a path. Declare "
            "OutputArtifact(path='/tmp/...')."
        )
    found: dict[str, Any] = {"name": name, "path": artifact.path or f"{OUT}/artifacts/{name}"}
    if place is not None:
        found["archive"] = {"none": {}}
        found.update(place)
    else:
        if artifact.archive is None:
            found["archive"] = {"none": {}}
        for kept in artifact.save[:1]:
            found.update(kept.location())
    if artifact.global_name:
        found["globalName"] = artifact.global_name
    if artifact.optional:
        found["optional"] = True
    return found


# -- others ----------------------------------------------------------------------------------------------------------


def _script(template: ScriptOPTemplate, variant: Variant, secrets: dict[str, Secret]) -> dict[str, Any]:
    for name, artifact in template.inputs.artifacts.items():
        if artifact.path is None:
            raise CompileError(
                f"{template.title} declares the input artifact {name!r} without a path. Declare "
                "InputArtifact(path='/tmp/...')."
            )
    if any(parameter.save_as_artifact for parameter in template.inputs.parameters.values()):
        raise CompileError(f"{template.title} declares a big parameter; a script takes a file as an InputArtifact.")
    fields = kubernetes.container(template, secrets)
    if not template.image:
        raise CompileError(f"{template.title} has no image, which Argo needs. Give image='...'.")
    if isinstance(template, ContainerOPTemplate):
        body = {"container": {**fields, **({"args": template.args} if template.args else {})}}
    else:
        body = {"script": {**fields, "source": template.script}}
    annotations = {PROGRESS: template.init_progress, **template.annotations}
    result = {
        "metadata": {"annotations": annotations, **({"labels": template.labels} if template.labels else {})},
        "inputs": _inputs(template, variant, None),
        "outputs": _outputs(template, variant),
        **body,
        **kubernetes.pod(template),
        **memoize(template),
    }
    return {key: value for key, value in result.items() if value}


def _http(template: HTTPOPTemplate, variant: Variant) -> dict[str, Any]:
    request: dict[str, Any] = {"url": template.url, "method": template.method.upper()}
    if template.headers:
        request["headers"] = [{"name": name, "value": value} for name, value in sorted(template.headers.items())]
    optional = {
        "timeoutSeconds": template.timeout,
        "successCondition": template.success_condition,
        "body": template.body,
        "insecureSkipVerify": template.insecure_skip_verify,
    }
    request.update({key: value for key, value in optional.items() if value})
    result = {
        "inputs": _inputs(template, variant, None),
        "outputs": _outputs(template, variant),
        "http": request,
        **memoize(template),
    }
    return {key: value for key, value in result.items() if value}


def memoize(template: OPTemplate) -> dict[str, Any]:
    """Return the field that keeps a template's outputs and finds them again."""
    if not template.memoize_key:
        return {}
    return {"memoize": {"key": template.memoize_key, "maxAge": "", "cache": {"configMap": {"name": "dflow-memoize"}}}}


def without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that hold something."""
    return {key: value for key, value in fields.items() if value}
