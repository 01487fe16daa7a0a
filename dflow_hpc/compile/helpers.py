"""The helper steps around a sliced step, as templates: what seeds its artifacts, joins them, counts its successes.

They run OPs of this package (``op/util_ops.py``), under Argo in ``config["util_image"]`` unless the step names one.

Not here: when one is needed (``loops.py``), and its place in a scope (``scopes.py``).
"""

from __future__ import annotations

import json
from typing import Any

from dflow_hpc.compile.leaves import IN, OP_RECORD, OUT, PACKAGES, PROGRESS, SHARED_KEY, Code, saved_place
from dflow_hpc.compile.loops import Loop
from dflow_hpc.config import config
from dflow_hpc.model.python_template import PythonOPTemplate
from dflow_hpc.model.templates import as_command
from dflow_hpc.op.bootstrap import source

JOINED = "dflow_joined"
"""The artifact that ``JoinSlice`` takes and gives."""
_MODULE = "dflow_hpc.op.util_ops"
_ROOM = "{{workflow.name}}/{{pod.name}}"


def init_template(step: Any, loop: Loop, keyed: bool, code: Code) -> dict[str, Any]:
    """Return the template, without its name, of the helper step before a loop."""
    values = {"dflow_outputs": loop.outputs, "dflow_counted": loop.counted, "dflow_sub_path": loop.sub_path}
    parameters = [{"name": name, "value": json.dumps(value)} for name, value in values.items()]
    outputs: list[dict[str, Any]] = [{"name": "dflow_artifact_key", "value": _ROOM}] if loop.outputs else []
    for name in ("dflow_nslices", "dflow_slices_path") if loop.counted else ():
        outputs.append({"name": name, "valueFrom": {"path": f"{OUT}/parameters/{name}"}})
    artifacts = [
        {
            "name": name,
            "path": f"{OUT}/artifacts/{name}",
            "archive": {"none": {}},
            **(_saved(step.template, name) or {"s3": {"key": f"{_ROOM}/{name}"}}),
        }
        for name in loop.outputs
    ]
    staged = [{"name": name, "path": f"{IN}/artifacts/{name}"} for name in loop.counted]
    return _template(step, "InitArtifactForSlices", parameters, staged, keyed, code, outputs, artifacts)


def join_template(step: Any, shared: str, optional: bool, create_dir: bool, code: Code) -> dict[str, Any]:
    """Return the template, without its name, of the helper step that leaves one slice's artifact.

    Args:
        step: A step that the artifact comes from.
        shared: The artifact's name under the key that the slices share.
        optional: Whether it may be missing.
        create_dir: Whether it is put into a directory named by the slice.
        code: Where the code of OPs is.
    """
    staged = {"name": JOINED, "path": f"{IN}/artifacts/{JOINED}", **({"optional": True} if optional else {})}
    left = {
        "name": JOINED,
        "path": f"{OUT}/artifacts/{JOINED}",
        "archive": {"none": {}},
        "s3": {"key": f"{SHARED_KEY}/{shared}"},
    }
    parameters = [
        *_named("dflow_slice", "dflow_artifact_key"),
        {"name": "dflow_create_dir", "value": json.dumps(create_dir)},
    ]
    return _template(step, "JoinSlice", parameters, [staged], False, code, artifacts=[left])


def check_template(step: Any, keyed: bool, code: Code) -> dict[str, Any]:
    """Return the template, without its name, of the helper step that counts a loop's successes."""
    if step.continue_on_num_success is not None:
        return _template(step, "CheckNumSuccess", _named("success", "threshold"), [], keyed, code)
    return _template(step, "CheckSuccessRatio", _named("success", "total", "threshold"), [], keyed, code)


def _saved(template: Any, name: str) -> dict[str, Any] | None:
    return saved_place(template, name) if isinstance(template, PythonOPTemplate) else None


def _named(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


def _template(
    step: Any,
    op: str,
    parameters: list[dict[str, Any]],
    staged: list[dict[str, Any]],
    keyed: bool,
    code: Code,
    outputs: list[dict[str, Any]] | None = None,
    artifacts: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    record = {"bundle": code.sha256, "entry": {"kind": "module", "module": _MODULE, "name": op}}
    key = [{"name": "dflow_key"}] if keyed else []
    bundle = {
        "name": PACKAGES,
        "path": f"{IN}/artifacts/{PACKAGES}",
        "s3": {"key": f"dflow-hpc/bundles/{code.sha256}.zip"},
        "archive": {"none": {}},
    }
    script = {
        "image": step.util_image or config["util_image"],
        "imagePullPolicy": step.util_image_pull_policy or config["util_image_pull_policy"],
        "command": as_command(step.util_command or "python3"),
        "source": source(record),
    }
    result: dict[str, Any] = {
        "metadata": {"annotations": {OP_RECORD: json.dumps(record, sort_keys=True), PROGRESS: "0/1"}},
        "inputs": {"parameters": key + parameters, "artifacts": [*staged, bundle]},
        "outputs": {"parameters": outputs or [], "artifacts": artifacts or []},
        "script": {name: value for name, value in script.items() if value},
    }
    result["outputs"] = {name: value for name, value in result["outputs"].items() if value}
    return {name: value for name, value in result.items() if value}
