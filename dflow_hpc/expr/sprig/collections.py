"""sprig's functions on lists and dicts, defaults, and types.

Trap: ``set``, ``unset``, ``merge`` and ``mergeOverwrite`` change the dict they are given, as in Go. The order of keys
is random there; here it is sorted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import gojson, golang
from dflow_hpc.expr.golang import NilList, TypedList, strings
from dflow_hpc.expr.lang import runtime
from dflow_hpc.expr.sprig import cast

_MUTABLE = "runtime error: invalid memory address or nil pointer dereference"


def _list(value: Any, refusal: str) -> Any:
    if isinstance(value, (list, tuple)):
        return value
    if value is None:
        raise ExpressionError(_MUTABLE)
    raise ExpressionError(f"{refusal} {golang.kind(value)}")


def _same(left: Any, right: Any) -> bool:
    return runtime.same(left, right)


def chunk(size: int, items: Any) -> TypedList:
    """Cut a list into lists of a size."""
    found = _list(items, "Cannot chunk type")
    if size <= 0:
        raise ExpressionError("runtime error: makeslice: len out of range")
    pieces = [list(found[at : at + size]) for at in range(0, len(found), size)]
    return TypedList(pieces, "[][]interface {}")


def cut(items: Any, *bounds: Any) -> Any:
    """Return a part of a list; nil of an empty one."""
    found = _list(items, "list should be type of slice or array but")
    if not found:
        return None
    start = cast.to_int(bounds[0]) if bounds else 0
    end = cast.to_int(bounds[1]) if len(bounds) > 1 else len(found)
    if not 0 <= start <= end <= len(found):
        raise ExpressionError("reflect.Value.Slice: slice index out of bounds")
    return TypedList(found[start:end], found.go_type) if isinstance(found, TypedList) else list(found[start:end])


def unique(items: Any) -> list[Any]:
    """Return the items without repetitions."""
    made: list[Any] = []
    for item in _list(items, "Cannot find uniq on type"):
        if not any(_same(item, other) for other in made):
            made.append(item)
    return made


def without(items: Any, *unwanted: Any) -> list[Any]:
    """Return the items but some."""
    found = _list(items, "Cannot find without on type")
    return [item for item in found if not any(_same(other, item) for other in unwanted)]


def has(needle: Any, items: Any) -> bool:
    """Say whether a list has an item."""
    if items is None:
        return False
    return any(_same(needle, item) for item in _list(items, "Cannot find has on type"))


def concat(*lists: Any) -> list[Any]:
    """Return the items of all lists."""
    made: list[Any] = []
    for items in lists:
        if items is not None and not isinstance(items, (list, tuple)):
            raise ExpressionError(f"Cannot concat type {golang.kind(items)} as list")
        made += _list(items, "")
    return made or NilList()


def _rest(items: Any, part: slice, word: str) -> list[Any]:
    found = _list(items, f"Cannot find {word} on type")
    return list(found[part]) if found else NilList()


def _end(items: Any, index: int, word: str) -> Any:
    found = _list(items, f"Cannot find {word} on type")
    return found[index] if found else None


def make_dict(*pairs: Any) -> dict[str, Any]:
    """Make a dict of keys and values in turn; a key without a value gets an empty text."""
    return {cast.to_text(pairs[at]): pairs[at + 1] if at + 1 < len(pairs) else "" for at in range(0, len(pairs), 2)}


def put(items: MutableMapping[str, Any], key: str, value: Any) -> Any:
    """Set a key, in place."""
    if isinstance(items, golang.NilMap):
        raise ExpressionError("assignment to entry in nil map")
    items[key] = value
    return items


def drop(items: MutableMapping[str, Any], key: str) -> Any:
    """Remove a key, in place."""
    items.pop(key, None)
    return items


def merge(overwrite: bool) -> Callable[..., Any]:
    """Return a function that merges dicts into the first, in place."""

    def into(target: MutableMapping[str, Any], source: Mapping[str, Any]) -> None:
        for key, value in source.items():
            own = target.get(key)
            if isinstance(own, MutableMapping) and isinstance(value, Mapping) and own:
                into(own, value)
            elif overwrite or cast.empty(own):
                target[key] = value

    def apply(target: Any, *sources: Any) -> Any:
        target = {} if isinstance(target, golang.NilMap) and sources else target
        for source in sources:
            into(target, source)
        return target

    return apply


def deep_copy(value: Any) -> Any:
    """Return a copy of a value and all in it."""
    if value is None:
        raise ExpressionError("reflect: call of reflect.Value.Type on zero Value")
    return copy.deepcopy(value)


def dig(*arguments: Any) -> Any:
    """Follow keys through dicts; the default if one is missing."""
    if len(arguments) < 3:
        raise ExpressionError("dig needs at least three arguments")
    *keys, default, items = arguments
    for key in keys:
        for value, wanted in ((items, "map[string]interface {}"), (key, "string")):
            if golang.type_name(value) != wanted:
                found = "nil" if value is None else golang.type_name(value)
                raise ExpressionError(f"interface conversion: interface {{}} is {found}, not {wanted}")
        if key not in items:
            return default
        items = items[key]
    return items


def default(fallback: Any, *given: Any) -> Any:
    """Return what is given unless it is empty."""
    return fallback if not given or cast.empty(given[0]) else given[0]


def coalesce(*values: Any) -> Any:
    """Return the first value that is not empty."""
    return next((value for value in values if not cast.empty(value)), None)


def _json(call: Callable[..., Any], fallback: Any) -> Callable[[Any], Any]:
    """Return a function that gives a fallback in place of an error."""

    def apply(value: Any) -> Any:
        try:
            return call(value)
        except ExpressionError:
            return fallback

    return apply


def _pretty(value: Any) -> str:
    return gojson.dumps(value, indent="  ")


def _raw(value: Any) -> str:
    return gojson.dumps(value, html=False)


def _keys(*dicts: Mapping[str, Any]) -> TypedList:
    return strings([key for items in dicts for key in sorted(items)])


_LISTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "push": ("any, any: []any", lambda items, value: [*_list(items, "Cannot push on type"), value]),
    "prepend": ("any, any: []any", lambda items, value: [value, *_list(items, "Cannot prepend on type")]),
    "first": ("any: any", lambda items: _end(items, 0, "first")),
    "rest": ("any: []any", lambda items: _rest(items, slice(1, None), "rest")),
    "last": ("any: any", lambda items: _end(items, -1, "last")),
    "initial": ("any: []any", lambda items: _rest(items, slice(None, -1), "initial")),
    "reverse": ("any: []any", lambda items: list(reversed(_list(items, "Cannot find reverse on type")))),
    "uniq": ("any: []any", unique),
    "without": ("any, ...any: []any", without),
    "has": ("any, any: bool", has),
    "slice": ("any, ...any: any", cut),
    "chunk": ("int, any: [][]any", chunk),
    "compact": (
        "any: []any",
        lambda items: [item for item in _list(items, "Cannot compact on type") if not cast.empty(item)],
    ),
    "append": ("any, any: []any", lambda items, value: [*_list(items, "Cannot push on type"), value]),
    "merge": ("map[string]any, ...map[string]any: any", merge(overwrite=False)),
    "mergeOverwrite": ("map[string]any, ...map[string]any: any", merge(overwrite=True)),
    "deepCopy": ("any: any", deep_copy),
}
"""Functions that have a twin, ``mustFirst`` of ``first``; both fail alike where an expression calls them."""

_OTHERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "list": ("...any: []any", lambda *items: list(items)),
    "tuple": ("...any: []any", lambda *items: list(items)),
    "concat": ("...any: any", concat),
    "dict": ("...any: map[string]any", make_dict),
    "get": ("map[string]any, string: any", lambda items, key: items.get(key, "")),
    "set": ("map[string]any, string, any: map[string]any", put),
    "unset": ("map[string]any, string: map[string]any", drop),
    "hasKey": ("map[string]any, string: bool", lambda items, key: key in items),
    "pluck": ("string, ...map[string]any: []any", lambda key, *dicts: [items[key] for items in dicts if key in items]),
    "keys": ("...map[string]any: []string", _keys),
    "pick": (
        "map[string]any, ...string: map[string]any",
        lambda items, *keys: {key: items[key] for key in keys if key in items},
    ),
    "omit": (
        "map[string]any, ...string: map[string]any",
        lambda items, *keys: {key: value for key, value in items.items() if key not in keys},
    ),
    "values": ("map[string]any: []any", lambda items: [items[key] for key in sorted(items)]),
    "dig": ("...any: any", dig),
    "default": ("any, ...any: any", default),
    "empty": ("any: bool", cast.empty),
    "coalesce": ("...any: any", coalesce),
    "all": ("...any: bool", lambda *values: not any(map(cast.empty, values))),
    "any": ("...any: bool", lambda *values: not all(map(cast.empty, values))),
    "ternary": ("any, any, bool: any", lambda yes, no, condition: yes if condition else no),
    "fromJson": ("string: any", _json(gojson.loads, None)),
    "toJson": ("any: string", _json(gojson.dumps, "")),
    "toPrettyJson": ("any: string", _json(_pretty, "")),
    "toRawJson": ("any: string", _raw),
    "mustFromJson": ("string: any", gojson.loads),
    "mustToJson": ("any: string", gojson.dumps),
    "mustToPrettyJson": ("any: string", _pretty),
    "mustToRawJson": ("any: string", _raw),
    "typeOf": ("any: string", golang.type_name),
    "typeIs": ("string, any: bool", lambda name, value: golang.type_name(value) == name),
    "typeIsLike": ("string, any: bool", lambda name, value: golang.type_name(value) in (name, "*" + name)),
    "kindOf": ("any: string", golang.kind),
    "kindIs": ("string, any: bool", lambda name, value: golang.kind(value) == name),
    "deepEqual": ("any, any: bool", _same),
}


def functions() -> dict[str, golang.Function]:
    """Return the functions by name."""
    table = {**_LISTS, **_OTHERS}
    table |= {"must" + name[0].upper() + name[1:]: entry for name, entry in _LISTS.items()}
    return {name: golang.function(signature, call) for name, (signature, call) in table.items()}
