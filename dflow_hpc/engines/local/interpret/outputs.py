"""What Steps and DAG templates give, and what becomes an output of the whole workflow by ``globalName``.

The outputs of a leaf come from whoever ran it; not here.
"""

from __future__ import annotations

from typing import Any

from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.engines.local.interpret.names import Known
from dflow_hpc.engines.local.interpret.tree import NodeTree
from dflow_hpc.expr import golang
from dflow_hpc.manifest.view import Json, named, text_of


def of_template(outputs: Json, known: Known) -> Json | None:
    """Return the outputs of a Steps or DAG template that succeeded; None when it declares none.

    Args:
        outputs: As declared, tags of the template replaced.
        known: What its steps or tasks gave.

    Raises:
        TemplateError: One cannot be resolved and has no default.
    """
    made: Json = {}
    if outputs.get("parameters"):
        made["parameters"] = [_parameter(parameter, known) for parameter in outputs["parameters"]]
    if outputs.get("artifacts"):
        found = [_artifact(artifact, known) for artifact in outputs["artifacts"]]
        if given := [artifact for artifact in found if artifact is not None]:
            made["artifacts"] = given
    return made or None


def _parameter(declared: Json, known: Known) -> Json:
    source = declared.get("valueFrom")
    if source is None:
        raise TemplateError("output parameters must have a valueFrom specified")
    try:
        value = _value(source, known)
    except TemplateError:
        if source.get("default") is None:
            raise
        value = text_of(source["default"])
    return {**{key: item for key, item in declared.items() if key != "valueFrom"}, "value": value}


def _value(source: Json, known: Known) -> str:
    if source.get("expression"):
        value: Any = known.evaluate(source["expression"])
    elif source.get("parameter"):
        value = known.value(source["parameter"])
    else:
        value = ""
    return value if isinstance(value, str) else golang.format_value(value)


def _artifact(declared: Json, known: Known) -> Json | None:
    if not declared.get("from") and not declared.get("fromExpression"):
        return None
    try:
        return known.artifact(declared)
    except TemplateError as error:
        if declared.get("optional") and "Unable to resolve" in str(error):
            return None
        raise TemplateError(f"unable to resolve outputs from scope: {error}") from error


def export(outputs: Json | None, tree: NodeTree, texts: dict[str, str], artifacts: dict[str, Any]) -> None:
    """Make outputs with a ``globalName`` outputs of the workflow, in its status and as variables.

    Args:
        outputs: Outputs of a node.
        tree: Whose head holds the workflow's outputs.
        texts: Variables of the workflow.
        artifacts: Artifacts of the workflow.
    """
    for side in ("parameters", "artifacts"):
        for entry in (outputs or {}).get(side) or ():
            if entry.get("globalName"):
                name = entry["globalName"]
                if side == "parameters":
                    made = {"name": name, "value": entry.get("value")}
                    texts[f"workflow.outputs.parameters.{name}"] = text_of(entry.get("value"))
                else:
                    made = {key: value for key, value in entry.items() if key not in ("globalName", "path")}
                    made["name"] = name
                    artifacts[f"workflow.outputs.artifacts.{name}"] = made
                _store(tree, side, made)


def _store(tree: NodeTree, side: str, made: Json) -> None:
    before = tree.head.get("outputs") or {}
    entries = list(before.get(side) or ())
    old = named(entries, made["name"])
    if old is None:
        entries.append(made)
    else:
        entries[entries.index(old)] = made
    tree.set_head(outputs={**before, side: entries})
