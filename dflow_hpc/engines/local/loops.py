"""Loops: the items of ``withItems``, ``withParam`` and ``withSequence``, and the members that they make of a step.

Names of members hold the item (``x(0:a)``), so what an item's text is decides ids; Argo keeps a number as it was
written and a text in its escaped JSON form, without the quotes.

Trap: a member is substituted strictly. Whatever tag is still in the step then is an error, unlike in a plain step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dflow_hpc.engines.local.errors import TemplateError
from dflow_hpc.engines.local.names import Known, Number, parse_json, write_json
from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import goformat, golang
from dflow_hpc.expr.govaluate import evaluate_when
from dflow_hpc.expr.tags import TagTemplate
from dflow_hpc.manifest.view import Json, float_text

_LOOP_FIELDS = ("withItems", "withParam", "withSequence")


def runs(when: str | None) -> bool:
    """Return whether a step whose ``when`` is this, substituted, is executed.

    Raises:
        TemplateError: It cannot be evaluated.
    """
    if not when:
        return True
    try:
        return evaluate_when(when)
    except ExpressionError as error:
        raise TemplateError(str(error)) from error


def expand(step: Json, known: Known) -> list[Json] | None:
    """Return the members of a looped step; None when it is no loop.

    Args:
        step: The step, its references replaced.
        known: Whose functions its expressions may use; its names were used up already.

    Raises:
        TemplateError: The list cannot be read, or a member names what is not known.
    """
    items = _items(step)
    if items is None:
        return None
    plain = {key: value for key, value in step.items() if key not in _LOOP_FIELDS}
    try:
        tags = TagTemplate.parse(plain)
    except ExpressionError as error:
        raise TemplateError(str(error)) from error
    strict = not _is_false(step.get("when"))
    members = []
    for index, item in enumerate(items):
        label, variables = _describe(item)
        label = label.replace("(", "").replace(")", "")
        made = Known(variables, functions=known.functions).render(tags, strict)
        members.append({**made, "name": f"{step['name']}({index}:{label})"})
    return members


def _items(step: Json) -> list[Any] | None:
    try:
        if step.get("withItems"):
            return [_from_yaml(item) for item in step["withItems"]]
        if step.get("withParam"):
            return _from_param(step["withParam"])
        if step.get("withSequence"):
            return _sequence(step["withSequence"])
    except TemplateError:
        if _is_false(step.get("when")):
            return []  # it would not have been executed anyway
        raise
    return None


def _is_false(when: str | None) -> bool:
    try:
        return not runs(when)
    except TemplateError:
        return False


def _from_param(text: str) -> list[Any]:
    try:
        items, problem = parse_json(text), ""
    except TemplateError as error:
        items, problem = [], str(error)
    if items is None:
        return []
    if not problem and not isinstance(items, list):
        kind = {dict: "object", bool: "bool", Number: "number"}.get(type(items), "string")
        problem = f"json: cannot unmarshal {kind} into Go value of type []v1alpha1.Item"
    if problem:
        raise TemplateError(f"withParam value could not be parsed as a JSON list: {text.strip()}: {problem}")
    return list(items)


def _from_yaml(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return Number(float_text(value) if isinstance(value, float) else str(value))
    if isinstance(value, dict):
        return {key: _from_yaml(item) for key, item in value.items()}
    return [_from_yaml(item) for item in value]


def _sequence(sequence: Json) -> list[Any]:
    def number(key: str) -> int:
        try:
            return golang.atoi(str(sequence[key]))
        except ExpressionError as error:
            raise TemplateError(str(error)) from error

    start = number("start") if sequence.get("start") is not None else 0
    if sequence.get("end") is not None:
        end = number("end")
    elif sequence.get("count") is not None:
        count = number("count")
        if count == 0:
            return []
        end = start + count - 1
    else:
        raise TemplateError("neither end nor count was specified in withSequence")
    form = sequence.get("format") or "%d"
    values = range(start, end + 1) if start <= end else range(start, end - 1, -1)
    return [str(value) for value in values] if form == "%d" else [goformat.sprintf(form, value) for value in values]


def _describe(item: Any) -> tuple[str, Mapping[str, str]]:
    """Return the item's part of a member's name, and its variables."""
    if isinstance(item, dict):
        texts = {key: _text(value) for key, value in item.items()}
        variables = {f"item.{key}": text for key, text in texts.items()}
        return ",".join(sorted(f"{key}:{text}" for key, text in texts.items())), {**variables, "item": write_json(item)}
    if isinstance(item, list) or item is None:
        return f"[{' '.join(_text(part) for part in item or ())}]", {"item": write_json(item)}
    text = _text(item)
    return text, {"item": text}


def _text(item: Any) -> str:
    """Return an item as Argo prints it: a text in JSON's escapes but without the quotes, all else as JSON."""
    return json.dumps(item, ensure_ascii=False)[1:-1] if type(item) is str else write_json(item)
