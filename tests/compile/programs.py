"""What the tests of the compiler build workflows from: a few OPs, and short ways to look into a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

from dflow_hpc import OP, OPIO, Artifact, BigParameter, OPIOSign, Parameter, PythonOPTemplate, Slices, Workflow
from tests.argo_schema import check


def op(name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
    """Return an OP class with these signs."""

    def execute(self: Any, op_in: OPIO) -> OPIO:
        return OPIO()

    fields = {
        "get_input_sign": classmethod(lambda cls: OPIOSign(inputs)),
        "get_output_sign": classmethod(lambda cls: OPIOSign(outputs)),
        "execute": execute,
    }
    return type(name, (OP,), fields)


Make = op("Make", {"n": int}, {"n": int, "values": List[int], "text": str, "data": Artifact(Path)})
Use = op("Use", {"n": int, "data": Artifact(Path, optional=True)}, {"m": int})
Each = op("Each", {"value": int}, {"result": int, "file": Artifact(Path)})
Gather = op("Gather", {"results": List[int]}, {})
Files = op("Files", {"files": Artifact(List[Path])}, {"kept": Artifact(List[Path])})
Take = op("Take", {"file": Artifact(Path)}, {"out": Artifact(Path)})
Named = op("Named", {"files": Artifact(Dict[str, Path])}, {})
Big = op("Big", {"state": BigParameter(dict)}, {"state": BigParameter(dict), "done": bool})
Free = op("Free", {"value": Parameter(dict, default={})}, {"value": Parameter(dict)})
Flag = op("Flag", {}, {"head": bool, "one": str, "two": str, "a": Artifact(Path), "b": Artifact(Path)})


def each(**options: Any) -> PythonOPTemplate:
    """Return ``Each`` cut by plain slices."""
    names = {"input_parameter": ["value"], "output_parameter": ["result"], "output_artifact": ["file"]}
    return PythonOPTemplate(Each, slices=Slices("{{item}}", **{**names, **options}))


def compiled(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow's manifest, checked against Argo's schema, and compiled twice to the same bytes."""
    manifest = workflow.to_dict()
    check(manifest)
    assert json.dumps(manifest) == json.dumps(workflow.to_dict())
    return manifest


def templates(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the templates by name."""
    return {template["name"]: template for template in manifest["spec"]["templates"]}


def entry(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the entrypoint's template."""
    return templates(manifest)[manifest["spec"]["entrypoint"]]


def members(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the steps or tasks of a template, by name."""
    if "dag" in template:
        return {task["name"]: task for task in template["dag"]["tasks"]}
    return {step["name"]: step for group in template["steps"] for step in group}


def values(member: dict[str, Any]) -> dict[str, str]:
    """Return the parameters that a step is given."""
    return {item["name"]: item["value"] for item in member["arguments"]["parameters"]}


def sources(member: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the artifacts that a step is given, by name."""
    return {
        item["name"]: {key: value for key, value in item.items() if key != "name"}
        for item in member["arguments"]["artifacts"]
    }


def record(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template's op record."""
    found: dict[str, Any] = json.loads(template["metadata"]["annotations"]["dflow-hpc/op"])
    return found
