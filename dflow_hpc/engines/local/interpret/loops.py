"""Loops: the items of ``withItems``, ``withParam`` and ``withSequence``, and the members that they make of a step.

Names of members hold the item (``x(0:a)``), so what an item's text is decides ids; Argo keeps a number as it was
written and a text in its escaped JSON form, without the quotes.

Trap: a member is substituted strictly. Whatever tag is still in the step then is an error, unlike in a plain step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.engines.local.interpret.names import Known
from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import goformat, gojson, golang
from dflow_hpc.expr.govaluate import evaluate_when
from dflow_hpc.expr.tags import TagTemplate
from dflow_hpc.manifest.view import Json, text_of

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


class Number(str):
    """A number of a JSON text as it was written: ``1.50`` must stay ``1.50``."""

    __slots__ = ()


def _from_param(text: str) -> list[Any]:
    try:
        items, problem = json.loads(text, parse_int=Number, parse_float=Number), ""
    except ValueError:
        items, problem = None, gojson.error_of(text)
    if not problem and items is not None and not isinstance(items, list):
        kind = {dict: "object", bool: "bool", Number: "number"}.get(type(items), "string")
        problem = f"json: cannot unmarshal {kind} into Go value of type []v1alpha1.Item"
    if problem:
        raise TemplateError(f"withParam value could not be parsed as a JSON list: {text.strip()}: {problem}")
    return list(items or ())


def _from_yaml(value: Any) -> Any:
    """Return an item as it is after Argo made JSON of its YAML: keys sorted, numbers as Go writes them."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Number(text_of(value))
    if isinstance(value, dict):
        return {key: _from_yaml(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_from_yaml(item) for item in value]
    return value


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
        whole = _json({key: item[key] for key in sorted(item)})
        return ",".join(sorted(f"{key}:{text}" for key, text in texts.items())), {**variables, "item": whole}
    if isinstance(item, list) or item is None:
        return f"[{' '.join(_text(part) for part in item or ())}]", {"item": _json(item)}
    text = _text(item)
    return text, {"item": text}


def _text(item: Any) -> str:
    """Return an item as Argo prints it: a text in JSON's escapes but without the quotes, all else as JSON."""
    return json.dumps(item, ensure_ascii=False)[1:-1] if type(item) is str else _json(item)


def _json(value: Any) -> str:
    """Write an item as compact JSON, numbers and the order of keys as they are."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_json(value[key])}" for key in value) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    return json.dumps(value, ensure_ascii=False)
