"""How many times a step runs, said by expressions: ranges, lengths, sums, sequences, enumerations.

All are expr-lang and sprig, so Argo and the local engine evaluate the same text. ``Step(with_param=argo_range(n))``
runs a step for 0 .. n-1; ``with_sequence=argo_sequence(n, format="%03d")`` for formatted texts.

Trap: braces. A tag ends at its first ``}}``, so no text here holds a closure or a map literal in braces.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, List, Optional, Tuple

from dflow_hpc.errors import ModelError
from dflow_hpc.model.declared import ArtifactRef, ParameterRef
from dflow_hpc.model.refs import ANY, NUMBER, TEXT, ArgoVar, constant_text, text_literal

ELEMENT = "type(#) == 'map' ? #.dflow_list_item : #"
"""An element of a list, whether it is plain or the stacked output of a sliced step."""


class ArgoRange(ArgoVar):
    """The integers ``start, start + step, ...`` before ``end``, as a JSON list."""

    bounds: Tuple[Any, Any, Any]
    """``(start, end, step)`` as given."""


class ArgoLen(ArgoVar):
    """The length of a list, as a number."""


class ArgoSum(ArgoVar):
    """The sum of a list of numbers."""


class ArgoConcat(ArgoVar):
    """The lists of a list, joined to one list."""


class ArgoEnumerate(ArgoVar):
    """The items ``{"order": i, "value": v}`` of a list."""


class ArgoSequence:
    """A ``withSequence``: integers, formatted as texts.

    Args:
        count: How many, from 0 (or from ``start``).
        start: The first.
        end: The last, inclusive; smaller than ``start`` counts down.
        format: printf format such as ``"%03d"``.
    """

    def __init__(self, count: Any = None, start: Any = None, end: Any = None, format: Optional[str] = None):
        if (count is None) == (end is None):
            raise ModelError(
                f"argo_sequence(count={count!r}, end={end!r}) was asked for; give the number of items (count) or the "
                "last item (end), one of them."
            )
        self.count, self.start, self.end, self.format = count, start, end, format
        for value in (count, start, end):
            if value is not None:
                integer(value)  # refused here, with the author's line

    def values(self) -> List[Any]:
        """Return count, start and end, those that are given."""
        return [value for value in (self.count, self.start, self.end) if value is not None]


def integer(value: Any) -> str:
    """Return expr-lang text that yields an integer.

    Raises:
        ModelError: ``value`` is neither an integer nor a reference.
    """
    if isinstance(value, ArgoVar):
        return f"asInt({value.expr})"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ModelError(
        f"{value!r} was given where a loop needs a number; it is an integer, a reference, or argo_len(...)."
    )


def as_list(value: Any) -> str:
    """Return expr-lang text that yields the list in a parameter, a JSON text or a Python list."""
    if isinstance(value, ArgoVar):
        return f"sprig.fromJson({value.expr})" if value.kind == TEXT else value.expr
    if isinstance(value, (list, tuple)):
        return f"sprig.fromJson({text_literal(constant_text(list(value)))})"
    raise ModelError(f"{value!r} was given where a list is needed; it is a list or a reference to one.")


def argo_range(*args: Any) -> ArgoRange:
    """Return the range ``argo_range(end)`` or ``argo_range(start, end[, step])`` for ``with_param``.

    Args:
        *args: Integers, references to integers, or ``argo_len(...)``.
    """
    if not 1 <= len(args) <= 3:
        raise ModelError(f"argo_range{args!r} was asked for; it takes end, or start and end, or start, end and step.")
    start, end, step = (0, args[0], 1) if len(args) == 1 else (args[0], args[1], args[2] if len(args) == 3 else 1)
    text = f"sprig.untilStep({integer(start)}, {integer(end)}, {integer(step)})"
    found = ArgoRange(f"toJson({text})", TEXT, _all_sources(args))
    found.bounds = (start, end, step)
    return found


def argo_len(value: Any) -> ArgoLen:
    """Return the length of a list for ``argo_range`` and ``argo_sequence``.

    Args:
        value: A parameter that holds a list, ``argo_concat(...)``, a list, or an uploaded artifact of several paths.
    """
    if isinstance(value, ArtifactRef):
        raise ModelError(
            f"argo_len({value}) was asked for; how many paths an artifact has is known only to its OP. Give the "
            "number as an output parameter, or slice the step over the artifact without with_param."
        )
    paths = getattr(value, "path_list", None)
    if paths is not None and not isinstance(value, ArgoVar):
        return ArgoLen(str(len(paths)), NUMBER)
    return ArgoLen(f"len({_stacked(value)})", NUMBER, _all_sources((value,)))


def argo_sum(value: Any) -> ArgoSum:
    """Return the sum of a list of numbers, such as the stacked output of a sliced step.

    Args:
        value: A parameter that holds the list.
    """
    text = f"int(sum(map({_stacked(value)}, asFloat({ELEMENT}))))"
    return ArgoSum(text, NUMBER, _all_sources((value,)))


def argo_concat(value: Any) -> ArgoConcat:
    """Return the lists of a list joined, such as the stacked lists that a sliced step gives.

    Args:
        value: A parameter that holds the list of lists.
    """
    text = f"reduce(map({_stacked(value)}, {ELEMENT}), concat(#acc, #), [])"
    return ArgoConcat(text, ANY, _all_sources((value,)))


def argo_enumerate(*args: Any, **kwargs: Any) -> ArgoEnumerate:
    """Return items with their order, for ``with_param``.

    Args:
        *args: Lists or references: one gives ``{{item.value}}``, several ``{{item.value0}}``, ``{{item.value1}}`` ...
        **kwargs: Lists or references with the names that their elements get: ``{{item.<name>}}``.

    Returns:
        Items ``{"order": i, ...}``, as many as the first list has.
    """
    names = ["value"] if len(args) == 1 else [f"value{i}" for i in range(len(args))]
    lists = dict(zip(names, args), **kwargs)
    if not lists:
        raise ModelError("argo_enumerate() was asked for without a list. Give a list or a reference to one.")
    if "order" in lists:
        raise ModelError("argo_enumerate(order=...) was asked for; `order` is the item's number. Choose another name.")
    bound = "".join(f"let v{i} = {as_list(value)}; " for i, value in enumerate(lists.values()))
    fields = "".join(f", {text_literal(name)}, v{i}[#]" for i, name in enumerate(lists))
    items = f"map(sprig.untilStep(0, len(v0), 1), sprig.dict('order', #{fields}))"
    return ArgoEnumerate(f"{bound}toJson({items})", TEXT, _all_sources(lists.values()))


def argo_sequence(count: Any = None, start: Any = None, end: Any = None, format: Optional[str] = None) -> ArgoSequence:
    """Return a sequence for ``with_sequence``.

    Args:
        count: How many; an integer, a reference or ``argo_len(...)``.
        start: The first, 0 unless given.
        end: The last, inclusive, instead of ``count``.
        format: printf format such as ``"%03d"``.
    """
    return ArgoSequence(count, start, end, format)


def is_stacked(value: Any) -> bool:
    """Say whether a value is the joined outputs of slices, each a record with ``dflow_list_item``."""
    return isinstance(value, ParameterRef) and value.step is not None and value.step.stacks(str(value.name))


def _stacked(value: Any) -> str:
    """Return a list whose elements are plain, or records of a slice."""
    return f"flatten({as_list(value)})" if is_stacked(value) else as_list(value)


def elements(value: Any) -> str:
    """Return expr-lang text that yields the plain elements of a list."""
    return f"map({_stacked(value)}, {ELEMENT})" if is_stacked(value) else as_list(value)


def _all_sources(values: Any) -> Any:
    found: Any = ()
    for value in values:
        if isinstance(value, ArgoVar):
            found += tuple(value.sources)
    return found
