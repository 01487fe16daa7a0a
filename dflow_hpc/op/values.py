"""Parameters as text: dflow's wire format, read and written.

A ``str`` that is declared as one travels as it is, anything else as jsonpickle's JSON (``keys=True``). What plain JSON
can say is read and written here without jsonpickle, to the same text; it is imported for the rest only: a value that
needs it when writing, ``py/`` or ``json://`` in the text when reading.

A trap: jsonpickle makes objects of whatever class a text names. It is the format of the wire, so nothing is forbidden
here; parameters are as trusted as the code beside them.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import json
from typing import Any, Dict, List, Optional, Set, Union

from dflow_hpc.errors import SignError
from dflow_hpc.op.signs import Sign
from dflow_hpc.op.typecheck import check_type, type_name

_LIST_ITEM = "dflow_list_item"
_SCALARS = (type(None), bool, int, float, str)
_CONTAINERS = (list, dict)


def value_type(sign: Any) -> Any:
    """Return the type of a parameter's sign, which may be a bare type."""
    return sign.type if isinstance(sign, Sign) else sign


def dump(value: Any, declared: Any = None) -> str:
    """Return the text of a parameter's value.

    Args:
        value: The value. numpy's numbers in it become Python's: the text of a ``float`` is a number for everybody.
        declared: Its declared type; ``str`` values of type ``str`` stay as they are.
    """
    if declared is str and isinstance(value, str):
        return str(value)
    value = _plain_numbers(value)
    if _is_json(value, set()):
        return json.dumps(value)
    import jsonpickle

    return str(jsonpickle.dumps(value, keys=True))


def _is_json(value: Any, seen: Set[int]) -> bool:
    """Say whether jsonpickle would write the same text as json: exact types, plain keys, no object twice."""
    cls = type(value)
    if cls in _SCALARS:
        return True
    if cls not in _CONTAINERS or id(value) in seen:
        return False
    seen.add(id(value))
    if cls is list:
        return all(_is_json(item, seen) for item in value)
    return all(type(key) is str and not key.startswith(("json://", "py/")) for key in value) and all(
        _is_json(item, seen) for item in value.values()
    )


def _plain_numbers(value: Any) -> Any:
    cls = type(value)
    if cls in _SCALARS:
        return value
    if cls.__module__ == "numpy" and getattr(value, "shape", None) == () and cls.__name__ != "ndarray":
        plain = value.item()
        return plain if type(plain) in _SCALARS else value
    if cls in _CONTAINERS:
        return _plain_items(value, cls)
    return value


def _plain_items(value: Any, cls: type) -> Any:
    # Rebuilt only where something changes: jsonpickle writes an object that occurs twice as a reference.
    if cls is list:
        items = [_plain_numbers(item) for item in value]
        return value if all(new is old for new, old in zip(items, value)) else items
    pairs = {key: _plain_numbers(item) for key, item in value.items()}
    return value if all(pairs[key] is value[key] for key in value) else pairs


def load(text: str, declared: Any = Any, *, sliced: bool = False, name: str = "a parameter") -> Any:
    """Return the value of a parameter's text.

    A list of ``dflow_list_item`` records, which the outputs of slices make, becomes the list of their values, sorted
    by order. Text that is no JSON is taken as it is where the declared type accepts a text.

    Args:
        text: The text.
        declared: The declared type.
        sliced: Whether the OP gets an element of it; a declared ``str`` is then a list of them here.
        name: What it is, for the message.

    Raises:
        SignError: The text is not JSON, and the type is not one of text.
    """
    stacked = _LIST_ITEM in text
    if declared is str and not sliced and not stacked:
        return text
    try:
        value = loads(text)
    except ValueError as error:
        if not sliced and _accepts_text(declared):
            return text
        raise SignError(
            f"{name} is declared as {type_name(declared)}{' (sliced)' if sliced else ''}; found the text "
            f"{text[:200]!r}, which is not JSON. Give a value of the declared type, or declare it as str."
        ) from error
    if stacked:
        records: List[Dict[str, Any]] = []
        if _collect(value, records):
            return [record[_LIST_ITEM] for record in sorted(records, key=_by_order)]
        if declared is str and not sliced:
            return text
    return value


def loads(text: str) -> Any:
    """Read JSON, or jsonpickle's where the text has marks of it.

    Raises:
        ValueError: It is neither.
    """
    if "py/" not in text and "json://" not in text:
        return json.loads(text)
    import jsonpickle

    return jsonpickle.loads(text, keys=True)


def _accepts_text(declared: Any) -> bool:
    try:
        check_type("", "", declared)
    except SignError:
        return False
    return True


def _collect(value: Any, records: List[Dict[str, Any]]) -> bool:
    """Gather stacked records from lists, and from JSON texts in lists; say whether there is nothing else."""
    if isinstance(value, list):
        return all(_collect(item, records) for item in value)
    if isinstance(value, dict) and set(value) == {_LIST_ITEM, "order"}:
        records.append(value)
        return True
    if isinstance(value, str):
        try:
            inner = loads(value)
        except ValueError:
            return False
        return inner is None or (isinstance(inner, list) and _collect(inner, records))
    return value is None  # a slice that failed and was allowed to: it leaves no hole


def _by_order(record: Dict[str, Any]) -> Any:
    order = record["order"]
    return (0, order, "") if isinstance(order, int) else (1, 0, str(order))


def stack(values: List[Any], orders: List[Union[int, str]]) -> str:
    """Return the text of a sliced output: one record for each value."""
    return dump([{_LIST_ITEM: value, "order": order} for value, order in zip(values, orders)])


def restack(text: str, value: Any) -> Optional[str]:
    """Return the text of what replaces the outputs of slices; None where ``text`` is not such.

    Args:
        text: What they were.
        value: As many values as there were; of a single slice, its value alone will do.

    Raises:
        SignError: It is another number of values.
    """
    records: List[Dict[str, Any]] = []
    if _LIST_ITEM not in text or not _collect(loads(text), records):
        return None
    given: List[Dict[str, Any]] = []
    if isinstance(value, list) and _collect(value, given) and given:
        return dump(value)
    orders = [record["order"] for record in sorted(records, key=_by_order)]
    if isinstance(value, list) and len(value) == len(orders):
        return stack(value, orders)
    if len(orders) == 1:
        return stack([value], orders)
    raise SignError(
        f"the outputs of {len(orders)} slices were to be replaced; found {str(value)[:200]!r}. Give a list of "
        f"{len(orders)} values, in the order of the slices."
    )


def dump_state(op: object) -> Optional[str]:
    """Return the text of an OP instance's own attributes, or None if it has none."""
    state = {name: value for name, value in vars(op).items() if name not in _NOT_STATE}
    return dump(state) if state else None


def load_state(op: object, text: str) -> None:
    """Give an OP instance the attributes that ``dump_state`` wrote."""
    vars(op).update(loads(text))


_NOT_STATE = frozenset({"outputs", "slices", "template_kwargs", "task_kwargs", "publisher"})
