r"""The catalogue of an artifact: which path in it is which element of a list, a dict or a nested dict.

An artifact that holds more than one file or directory has a directory ``.dflow`` (setting ``catalog_dir_name``) with
JSON files, each ``{"path_list": [{"dflow_list_item": path or null, "order": int or "a.b.0"}]}``. Their union is the
object; that is how the outputs of slices, written apart under one prefix, become one list.

A trap: orders that are all ints are a *compact* list (index 7 missing leaves no hole), dotted orders are expanded, and
there a level whose keys are all ints becomes a list with None in its holes. A dot inside a dict's own key is written
``\.``, which dflow does not do: there, ``{"a.txt": ...}`` comes back as ``{"a": {"txt": ...}}``.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from dflow_hpc.config import config
from dflow_hpc.errors import StorageError

Order = Union[int, str]

_MAX_HOLES = 1_000_000  # a key such as "20261124" is a name, not an index of a list that long


class Entry(NamedTuple):
    """One element: where it lies (relative to the artifact, None if there is none), and its place in the object."""

    path: Optional[str]
    order: Order


def directory_name() -> str:
    """Return the name of the catalogue's directory in an artifact."""
    return str(config["catalog_dir_name"])


def read(artifact: Path) -> List[Entry]:
    """Return the union of an artifact's catalogue files.

    Args:
        artifact: The artifact's directory; a file, or a directory without a catalogue, has no entries.

    Raises:
        StorageError: A catalogue file is not one.
    """
    directory = artifact / directory_name()
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return union(parse((directory / name).read_bytes(), str(directory / name)) for name in names)


def parse(text: Union[str, bytes], source: str = "a catalogue") -> List[Entry]:
    """Read the text of one catalogue file.

    Args:
        text: Its JSON.
        source: What it is, for the message.

    Raises:
        StorageError: It is not a catalogue.
    """
    try:
        return [Entry(_inside(item["dflow_list_item"]), item["order"]) for item in json.loads(text)["path_list"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{source} was read as a catalogue of paths; it is not one ({type(error).__name__}: {error}). "
            'Expected {"path_list": [{"dflow_list_item": path, "order": int or text}]}.'
        ) from error


def _inside(path: Optional[str]) -> Optional[str]:
    if path is not None and (path.startswith("/") or ".." in path.split("/")):
        raise ValueError(f"the path {path!r} leads out of the artifact")
    return path


def write(artifact: Path, entries: Iterable[Entry]) -> Path:
    """Add one catalogue file to an artifact.

    Its name is a digest of its content, so that equal runs make equal artifacts and different ones never clash.

    Returns:
        The file.
    """
    text = render(entries)
    directory = artifact / directory_name()
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / hashlib.sha256(text.encode()).hexdigest()[:32]
    file.write_text(text, encoding="utf-8")
    return file


def render(entries: Iterable[Entry]) -> str:
    """Return the text of a catalogue file."""
    return json.dumps({"path_list": [{"dflow_list_item": entry.path, "order": entry.order} for entry in entries]})


def union(catalogues: Iterable[Iterable[Entry]]) -> List[Entry]:
    """Put catalogues together, in linear time.

    For one order a path hides None, equal paths are one, and different paths are all kept.
    """
    found: Dict[Order, Dict[Optional[str], None]] = {}
    for catalogue in catalogues:
        for path, order in catalogue:
            found.setdefault(order, {})[path] = None
    return [
        Entry(path, order) for order, paths in found.items() for path in paths if path is not None or len(paths) == 1
    ]


def assemble(entries: Sequence[Entry]) -> Any:
    """Return the list, dict or nested dict of paths that entries stand for; ``[]`` for none."""
    if all(isinstance(entry.order, int) for entry in entries):
        return [entry.path for entry in sorted(entries, key=lambda entry: int(entry.order))]
    return expand({str(entry.order): entry.path for entry in entries})


def entries_of(value: Any) -> List[Entry]:
    """Return the entries of a list, dict or nested dict of paths: the reverse of ``assemble``."""
    if isinstance(value, (list, tuple)) and not any(isinstance(item, (list, tuple, Mapping)) for item in value):
        return [Entry(item, index) for index, item in enumerate(value)]
    return [Entry(path, order) for order, path in flatten(value).items()]


def flatten(value: Any) -> Dict[str, Any]:
    """Turn nested lists and dicts into one dict with dotted keys."""
    return {".".join(keys): leaf for keys, leaf in _leaves(value, ())}


def _leaves(value: Any, above: Tuple[str, ...]) -> Iterator[Tuple[Tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*above, str(key).replace("\\", "\\\\").replace(".", "\\.")))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, (*above, str(index)))
    else:
        yield above, value


def split(order: str) -> List[str]:
    """Split a dotted order or path into its keys."""
    if "\\" not in order:
        return order.split(".")
    parts = re.findall(r"((?:[^.\\]|\\.)*)(?:\.|$)", order)
    return [re.sub(r"\\(.)", r"\1", part) for part in (parts[:-1] if order and parts[-1] == "" else parts)]


def expand(flat: Mapping[str, Any]) -> Any:
    """Turn a dict with dotted keys into nested dicts; a level whose keys are all ints becomes a list.

    Raises:
        StorageError: One key names a leaf and another something below it.
    """
    root: Dict[str, Any] = {}
    levels: List[Dict[str, Any]] = [root]
    made = {id(root)}
    for order, leaf in flat.items():
        keys, level = split(order), root
        for key in keys[:-1]:
            below = level.get(key)
            if below is None:
                below = level[key] = {}
                levels.append(below)
                made.add(id(below))
            elif id(below) not in made:
                raise _conflict(order)
            level = below
        if id(level.get(keys[-1])) not in made:
            level[keys[-1]] = leaf
        elif leaf is not None:  # as in `union`, what is there hides null
            raise _conflict(order)
    lists = {id(level): _as_list(level) for level in reversed(levels)}
    return _replace(root, lists)


def _conflict(order: str) -> StorageError:
    return StorageError(
        f"a catalogue has the order {order!r} and another that goes on below it or ends above it; "
        "an element is a path or a dict of elements, not both."
    )


def _as_list(level: Dict[str, Any]) -> Optional[List[Any]]:
    if not level or not all(key.isdecimal() and key.isascii() for key in level):
        return None
    size = max(map(int, level)) + 1
    if size - len(level) > _MAX_HOLES:
        return None
    items: List[Any] = [None] * size
    for key, item in level.items():
        items[int(key)] = item
    return items


def _replace(level: Dict[str, Any], lists: Dict[int, Optional[List[Any]]]) -> Any:
    items = lists[id(level)]
    if items is not None:
        return [_replace(item, lists) if id(item) in lists else item for item in items]
    return {key: _replace(item, lists) if id(item) in lists else item for key, item in level.items()}


def pick(value: Any, where: Union[int, str, Sequence[Union[int, str]]], name: str) -> Any:
    """Return the part of an assembled object that a slice names.

    Args:
        value: Nested lists and dicts.
        where: An index, a dotted path, or a list of them (which gives a list).
        name: What ``value`` is, for the message.

    Raises:
        StorageError: There is no such part.
    """
    if isinstance(where, (list, tuple)):
        return [pick(value, one, name) for one in where]
    keys: List[str] = [str(where)] if isinstance(where, int) else split(str(where))
    part = value
    while keys:
        if isinstance(part, Mapping):
            part, keys = _enter(part, keys, where, name)
        elif (
            isinstance(part, (list, tuple))
            and keys[0].lstrip("-").isdecimal()
            and -len(part) <= int(keys[0]) < len(part)
        ):
            part, keys = part[int(keys[0])], keys[1:]
        else:
            raise _no_part(part, where, name)
    return part


def _enter(part: Mapping[Any, Any], keys: List[str], where: Any, name: str) -> Tuple[Any, List[str]]:
    # A user writes art["a.txt"] for a key that has a dot itself: the longest key that exists is meant.
    for end in range(len(keys), 0, -1):
        key = ".".join(keys[:end])
        if key in part:
            return part[key], keys[end:]
    raise _no_part(part, where, name)


def _no_part(part: Any, where: Any, name: str) -> StorageError:
    if isinstance(part, Mapping):
        there = "a dict with the keys " + ", ".join(map(repr, list(part)[:20]))
    elif isinstance(part, (list, tuple)):
        there = f"a list of {len(part)}"
    else:
        there = f"{part!r}, which has no parts"
    return StorageError(f"slice {where!r} of {name} was asked for; found {there}. Check Slices(...) and the loop.")
