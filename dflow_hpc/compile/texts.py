"""Parameter values as the texts that a manifest carries, and the references in such texts.

A constant is JSON unless a plain text is wanted; a dict or list that holds references is JSON with their tags in it.

Not here: artifacts (``arguments.py``).

Trap: Argo inserts a value into a text without looking at the JSON around it. Texts inside a dict or list are therefore
inserted by ``toJson``, which brings its own quotes.
"""

from __future__ import annotations

import re
from typing import Any

from dflow_hpc.model.checks import TAG
from dflow_hpc.model.refs import TEXT, ArgoVar, constant_text
from dflow_hpc.op.typecheck import type_name
from dflow_hpc.op.values import dump

_MEMBER = re.compile(r"\b(steps|tasks)(?:\.([-a-zA-Z0-9]+)|\['([-a-zA-Z0-9]+)'\])\.")
_INPUT = re.compile(r"(?<![.\w])inputs\.(parameters|artifacts)(?:\.([-\w]+)|\['([-\w]+)'\])")
_ITEM = re.compile(r"\{\{=?\s*item\b.*?\}\}|\{\{=[^}]*\bitem\b.*?\}\}", re.DOTALL)
_MARK = "\x02dflow-ref-%d\x03"
_MARKED = re.compile(r'"\\u0002dflow-ref-(\d+)\\u0003"')


def parameter_text(value: Any, declared: Any) -> str:
    """Return the text of a value given to a parameter.

    Args:
        value: Constant, reference, or a dict or list that holds references.
        declared: The declared type, None where nothing is known.
    """
    if isinstance(value, ArgoVar):
        return str(value)
    if isinstance(value, str):
        # A text for a sign that takes more than texts must read back as a text.
        return value if declared in (None, str) or TAG.search(value) else dump(value)
    if isinstance(value, (dict, list, tuple)):
        found: list[ArgoVar] = []
        marked = _mark(value, found)
        if found:
            return _MARKED.sub(lambda match: _inserted(found[int(match.group(1))]), dump(marked))
    return constant_text(value)


def _mark(value: Any, found: list[ArgoVar]) -> Any:
    if isinstance(value, ArgoVar):
        found.append(value)
        return _MARK % (len(found) - 1)
    if isinstance(value, dict):
        return {key: _mark(item, found) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mark(item, found) for item in value]
    return value


def _inserted(reference: ArgoVar) -> str:
    if reference.kind != TEXT or getattr(reference, "type", None) is str:  # an element may be a text, too
        return "{{=toJson(" + reference.expr + ")}}"
    return str(reference)


def description(declared: Any) -> dict[str, str]:
    """Return the field that records a parameter's type, for whoever reads its value back."""
    return {} if declared is None else {"description": dump({"type": type_name(declared)})}


def has_item(text: str) -> bool:
    """Say whether a text depends on the item of a loop."""
    return _ITEM.search(text) is not None


def group_key(key: str) -> str:
    """Return the key of a loop as a whole: each tag of its item becomes ``group``."""
    return _ITEM.sub("group", key)


def item_tags(text: str) -> list[str]:
    """Return the distinct tags of a loop's item in a text, in order."""
    return list(dict.fromkeys(_ITEM.findall(text)))


def references(document: Any) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return what the tags of a document refer to.

    Args:
        document: Dicts, lists and texts; texts under ``expression`` and the like count as tags.

    Returns:
        ``{("steps", name), ...}`` and ``{("parameters", name), ...}`` of inputs.
    """
    members: set[tuple[str, str]] = set()
    inputs: set[tuple[str, str]] = set()
    for text in _tag_texts(document):
        for kind, plain, quoted in _MEMBER.findall(text):
            members.add((kind, plain or quoted))
        for group, plain, quoted in _INPUT.findall(text):
            inputs.add((group, plain or quoted))
    return members, inputs


_EXPRESSIONS = ("expression", "fromExpression")


def _tag_texts(document: Any) -> Any:
    queue = [document]
    while queue:
        current = queue.pop()
        if isinstance(current, str):
            if "{{" in current:
                yield from TAG.findall(current)
        elif isinstance(current, dict):
            for key, value in current.items():
                if key in _EXPRESSIONS:
                    yield value
                else:
                    queue.append(value)
        elif isinstance(current, list):
            queue.extend(current)
