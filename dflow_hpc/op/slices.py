"""Slices: one OP run over the elements of its inputs, each run a leaf of its own, outputs stacked again.

Here are the author's options, the fields of them that the leaf needs (``record``), and what the leaf makes of those:
which slice, or slices, it is to handle. The loop itself, its length and its keys are the model's business.

The expression is Python text with ``{{item}}`` or ``{{item.name}}``; in the record each stands as ``${name}``, the
name of an input parameter whose text is put there (with ``group_size``: ``${item}`` and ``${item.name}``, from the
items of the group). Then ``evaluate.py`` gives its value.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import json
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from dflow_hpc.config import config
from dflow_hpc.errors import ExpressionError, ModelError

Slice = Union[int, str]
Texts = Callable[[str], Optional[str]]
"""Gives the text of the leaf's input parameter of that name, or None."""

_NAMES = ("input_parameter", "input_artifact", "output_parameter", "output_artifact")
_TAG = re.compile(r"\$\{([-\w.]+)\}")


class Slices:
    """How an OP is run over slices.

    Args:
        slices: A Python expression with ``{{item}}`` that gives an index, a dotted path or a list of them; default
            ``"{{item}}"``, with ``sub_path`` and without ``group_size`` ``"{{item.order}}"``.
        input_parameter: Names of input parameters of which a leaf gets its element.
        input_artifact: Names of input artifacts of which a leaf gets its element.
        output_parameter: Names of output parameters that are stacked to a list.
        output_artifact: Names of output artifacts that are merged to a list.
        sub_path: Bring only the needed part of each artifact to the leaf. With ``group_size`` a leaf needs several
            parts, and gets the whole artifact as without ``sub_path``; dflow packs an artifact for each group.
        group_size: How many consecutive items one leaf handles.
        shuffle: Deal the items to groups in random order.
        random_seed: The seed of that order.
        pool_size: Run the slices of one leaf singly, in so many processes (1: one after the other, -1: all at once).
        pool_timeout: Seconds that one slice of a pool may take.
        register_first_only: Accepted for dflow's lineage, without effect here.
        create_dir: Put the outputs of each slice into a directory named by the slice.
        raise_for_group: Let a pool's first failure fail the leaf although ``continue_on_*`` is set; default
            ``config["raise_for_group"]``.

    Raises:
        ModelError: An option has a wrong type or value, or makes no sense without another.
    """

    def __init__(
        self,
        slices: Optional[str] = None,
        input_parameter: Optional[Sequence[str]] = None,
        input_artifact: Optional[Sequence[str]] = None,
        output_parameter: Optional[Sequence[str]] = None,
        output_artifact: Optional[Sequence[str]] = None,
        sub_path: bool = False,
        group_size: Optional[int] = None,
        shuffle: bool = False,
        random_seed: int = 0,
        pool_size: Optional[int] = None,
        pool_timeout: Optional[float] = None,
        register_first_only: bool = False,
        create_dir: bool = False,
        raise_for_group: bool = False,
    ) -> None:
        if slices is None:
            slices = "{{item.order}}" if sub_path and group_size is None else "{{item}}"
        if not isinstance(slices, str):
            raise ModelError(
                f"Slices({slices!r}) was given; its first argument is a Python expression as text, such as "
                '"{{item}}". Names of inputs go into input_parameter=[...].'
            )
        self.slices = slices
        self.input_parameter = _names("input_parameter", input_parameter)
        self.input_artifact = _names("input_artifact", input_artifact)
        self.output_parameter = _names("output_parameter", output_parameter)
        self.output_artifact = _names("output_artifact", output_artifact)
        self.sub_path = sub_path and group_size is None
        self.group_size = _positive("group_size", group_size)
        self.shuffle = shuffle
        self.random_seed = random_seed
        self.pool_size = pool_size if pool_size == -1 else _positive("pool_size", pool_size)
        self.pool_timeout = pool_timeout
        self.register_first_only = register_first_only
        self.create_dir = create_dir
        self.raise_for_group = raise_for_group
        self._check()

    def _check(self) -> None:
        if self.shuffle and self.group_size is None:
            raise ModelError(
                "Slices(shuffle=True) was given without group_size; only groups are dealt. Add group_size."
            )
        if self.pool_timeout is not None and self.pool_size is None:
            raise ModelError(
                "Slices(pool_timeout=...) was given without pool_size; it bounds a slice of a pool. "
                "Add pool_size=1, or give the template a timeout."
            )
        if self.pool_timeout is not None and not self.pool_timeout > 0:
            raise ModelError(f"Slices(pool_timeout={self.pool_timeout!r}) was given; expected seconds above 0.")

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in vars(self).items() if value not in (None, False, [], 0)]
        return f"Slices({', '.join(shown)})"

    def record(self, expression: str) -> Dict[str, Any]:
        """Return the fields that the leaf needs, for the op record.

        Args:
            expression: ``self.slices`` with ``${name}`` for each ``{{item...}}``.
        """
        fields: Dict[str, Any] = {"slices": expression}
        options = (*_NAMES, "sub_path", "group_size", "shuffle", "random_seed", "pool_size", "pool_timeout")
        for name in (*options, "create_dir", "raise_for_group"):
            value = getattr(self, name)
            if value not in (None, False, [], 0):
                fields[name] = value
        if config["raise_for_group"]:
            fields["raise_for_group"] = True
        return fields


def _names(option: str, names: Optional[Sequence[str]]) -> List[str]:
    found = [] if names is None else names
    if isinstance(found, str) or not all(isinstance(name, str) for name in found):
        raise ModelError(f"Slices({option}={names!r}) was given; expected a list of names, such as ['x'].")
    return list(found)


def _positive(option: str, number: Optional[int]) -> Optional[int]:
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        allowed = "an int above 0, or -1 for all" if option == "pool_size" else "an int above 0"
        raise ModelError(f"Slices({option}={number!r}) was given; expected {allowed}.")
    return number


def resolve(record: Mapping[str, Any], texts: Texts) -> Union[Slice, List[Slice]]:
    """Return the slice, or the slices, that this leaf handles.

    Args:
        record: What ``Slices.record`` gave.
        texts: The leaf's input parameters.

    Raises:
        ExpressionError: A parameter is missing, or the expression gives no slice.
    """
    from dflow_hpc.op.evaluate import evaluate  # an author who only declares slices need not load it

    expression = str(record["slices"])
    size = record.get("group_size")
    if size is None:
        return _checked(evaluate(_substitute(expression, texts)), expression)
    found: List[Slice] = []
    items = group_items(texts, int(size), record.get("random_seed", 0) if record.get("shuffle") else None)
    for item in items:
        value = _checked(evaluate(_substitute(expression, _item_texts(item, texts))), expression)
        found.extend(value if isinstance(value, list) else [value])
    return found


def _substitute(expression: str, texts: Texts) -> str:
    def text_of(match: "re.Match[str]") -> str:
        text = texts(match.group(1))
        if text is None:
            raise ExpressionError(
                f"the slice expression {expression!r} needs the input parameter {match.group(1)!r}; the leaf has none."
            )
        return text

    return _TAG.sub(text_of, expression)


def _item_texts(item: Any, texts: Texts) -> Texts:
    def of(name: str) -> Optional[str]:
        if name == "item":
            return _as_text(item)
        if name.startswith("item."):
            key = name[len("item.") :]
            return _as_text(item[key]) if isinstance(item, dict) and key in item else None
        return texts(name)

    return of


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _checked(value: Any, expression: str) -> Union[Slice, List[Slice]]:
    if isinstance(value, (list, tuple)):
        found: List[Slice] = []
        for item in value:
            one = _checked(item, expression)
            found.extend(one if isinstance(one, list) else [one])
        return found
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ExpressionError(
            f"the slice expression {expression!r} gave {value!r}, a {type(value).__name__}; a slice is an int, a "
            "dotted path as text, or a list of them. Use int(...) or // where a number is not whole."
        )
    return value


def group_items(texts: Texts, size: int, seed: Optional[int]) -> List[Any]:
    """Return the items of this leaf's group.

    The parameters ``dflow_group`` (the group's index) and one of ``dflow_with_param``, ``dflow_range_end`` (with
    ``_start`` and ``_step``), ``dflow_sequence_count`` or ``_end`` (with ``_start`` and ``_format``), or
    ``dflow_nslices`` say what there is.

    Args:
        texts: The leaf's input parameters.
        size: Items of a group.
        seed: The seed of their random order; None for the order in which they come.

    Raises:
        ExpressionError: The group's index, or all of the others, are missing.
    """
    index = texts("dflow_group")
    if index is None:
        raise ExpressionError("a slice with group_size needs the input parameter 'dflow_group'; the leaf has none.")
    first = int(index) * size
    items = _all_items(texts)
    if seed is None:
        return list(items[first : first + size])
    import random

    order = list(range(len(items)))
    random.Random(seed).shuffle(order)  # noqa: S311  (an order, not a secret)
    return [items[position] for position in order[first : first + size]]


def _all_items(texts: Texts) -> Sequence[Any]:
    def number(name: str, default: Optional[int] = None) -> Optional[int]:
        text = texts(name)
        return default if text is None or text == "" else int(text)

    listed = texts("dflow_with_param")
    if listed is not None:
        found = json.loads(listed)
        return found if isinstance(found, list) else []
    end = number("dflow_range_end")
    if end is not None:
        return range(number("dflow_range_start", 0) or 0, end, number("dflow_range_step", 1) or 1)
    count, end = number("dflow_sequence_count"), number("dflow_sequence_end")
    if count is not None or end is not None:
        return _sequence(number("dflow_sequence_start", 0) or 0, count, end, texts("dflow_sequence_format"))
    total = number("dflow_nslices")
    if total is None:
        raise ExpressionError(
            "a slice with group_size needs one of the input parameters dflow_with_param, dflow_range_end, "
            "dflow_sequence_count, dflow_sequence_end or dflow_nslices; the leaf has none."
        )
    return range(total)


def _sequence(start: int, count: Optional[int], end: Optional[int], form: Optional[str]) -> Sequence[Any]:
    """Return the items of Argo's ``withSequence``: texts, end inclusive, downwards where end is below start."""
    if count is not None:
        numbers = range(start, start + count)
    else:
        last = start if end is None else end
        numbers = range(start, last + 1) if last >= start else range(start, last - 1, -1)
    return [form % number if form else str(number) for number in numbers]
