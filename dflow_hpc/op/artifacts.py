"""Artifacts of an OP: from staged files to the value it sees, and from the value it returns to files and a catalogue.

``receive`` reads ``<root>/inputs/artifacts/<name>``, ``publish`` fills ``<root>/outputs/artifacts/<name>``. Returned
paths keep their place relative to the current directory (what lies outside it keeps its full path, what is handed on
from an input its path in that input), so that artifacts of several slices merge without clashes.

What does not exist: one ``None``, and missing elements of a list or dict, are recorded as null, as dflow does. A single
path that was returned and does not exist fails, unless the artifact is optional: dflow's silent null hides a typo. In
a program that imports ``dflow`` it is null too, and said on stderr.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from dflow_hpc.errors import SignError, StorageError
from dflow_hpc.op import catalog, hdf5
from dflow_hpc.op.paths import link_or_copy, with_root
from dflow_hpc.op.signs import Artifact

Where = Union[None, int, str, Sequence[Union[int, str]]]
Parts = Union[int, Sequence[str]]


class Staged(NamedTuple):
    """An input artifact as it lies: its directory, and the (nested) list or dict of paths relative to it."""

    root: Path
    paths: Any


def read_staged(
    name: str, root: Path, parts: Optional[Parts] = None, elements: Optional[Mapping[str, Any]] = None
) -> Optional[Staged]:
    """Look at a staged input artifact.

    Args:
        name: The artifact's name.
        root: The leaf's root.
        parts: The artifact was given as a list of so many artifacts, or as a dict with these (dotted) keys; they lie
            beside each other as ``dflow_<name>_<i>``.
        elements: Which element of such a part was given, by the part's name; of others all.

    Returns:
        None if nothing was staged.

    Raises:
        StorageError: A part does not have that element.
    """
    directory = root / "inputs" / "artifacts"
    if parts is None:
        staged = directory / name
        return Staged(staged, catalog.assemble(catalog.read(staged))) if os.path.lexists(staged) else None
    count = parts if isinstance(parts, int) else len(parts)
    found = []
    for index in range(count):
        part = f"dflow_{name}_{index}"
        element = (elements or {}).get(part)
        if element is None and not (directory / part / catalog.directory_name()).is_dir():
            found.append(part)
            continue
        paths = catalog.assemble(catalog.read(directory / part))
        if element is not None:
            paths = catalog.pick(paths, element, f"part {index} of the input artifact {name!r}")
        found.append(_below(paths, part))
    if isinstance(parts, int):
        return Staged(directory, [path for item in found for path in (item if isinstance(item, list) else [item])])
    flat: Dict[str, Any] = {}
    for key, item in zip(parts, found):
        single = item[0] if isinstance(item, list) and len(item) == 1 else item
        flat.update({".".join(filter(None, (key, order))): path for order, path in catalog.flatten(single).items()})
    return Staged(directory, catalog.expand(flat))


def _below(paths: Any, directory: str) -> Any:
    return _map(paths, lambda path: os.path.normpath(os.path.join(directory, path)))


def _map(value: Any, function: Callable[[str], Any]) -> Any:
    if isinstance(value, list):
        return [_map(item, function) for item in value]
    if isinstance(value, dict):
        return {key: _map(item, function) for key, item in value.items()}
    return None if value is None else function(value)


def receive(name: str, sign: Artifact, staged: Optional[Staged], where: Sequence[Where] = ()) -> Any:
    """Return the value that the OP sees.

    Args:
        name: The artifact's name.
        sign: Its sign.
        staged: What ``read_staged`` found.
        where: Which part of it, then which part of that; empty or None for all.

    Raises:
        StorageError: There is no such part.
        SignError: The part does not have the shape that the sign declares.
    """
    if staged is None:
        return None
    title = f"input artifact {name!r}"
    element = sign.element

    def absolute(path: str) -> Any:
        return element(staged.root if path == "." else os.path.join(staged.root, path))

    part, cut = staged.paths, False
    if sign.kind == "hdf5":
        part = hdf5.open_datasets(_map(part, absolute))
    for step in where:
        if step is not None:
            part, cut = catalog.pick(part, step, title), True
    value = _shape(title, sign, part, cut, absolute)
    return with_root(value, staged.root)


def _shape(title: str, sign: Artifact, part: Any, cut: bool, absolute: Callable[[str], Any]) -> Any:
    kind = sign.kind
    if kind == "path":
        return _one_path(title, sign, part, cut, absolute)
    if kind in ("list", "set"):
        flat = list(_leaves(part))
        items = [None if path is None else absolute(path) for path in flat]
        return set(items) if kind == "set" else items
    if kind == "hdf5":
        return list(_leaves(part))
    return _map({} if part is None or (part == [] and kind == "dict") else part, absolute)


def _one_path(title: str, sign: Artifact, part: Any, cut: bool, absolute: Callable[[str], Any]) -> Any:
    if cut and isinstance(part, list) and len(part) != 1:
        raise SignError(
            f"{title} is declared as one path; the slice gives {len(part)} of them. Declare List[Path], "
            "or use Slices(pool_size=1) to handle them one by one."
        )
    if part is None:
        return None
    if isinstance(part, list) and len(part) == 1 and not isinstance(part[0], (list, dict)):
        part = part[0]
        if part is None:
            return None
    return absolute(part if isinstance(part, str) and sign.sub_path else ".")


def _leaves(part: Any) -> Iterator[Any]:
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from _leaves(item)
    else:
        yield part


class Returned(NamedTuple):
    """A value that an OP returned for an output artifact, and the slice, or the slices, that it belongs to."""

    value: Any
    slice: Where = None
    cwd: Optional[Path] = None


class Publisher:
    """Puts what an OP returned for one output artifact into its place.

    Args:
        name: The artifact's name.
        sign: Its sign.
        root: The leaf's root.
        create_dir: Put what belongs to a slice into a directory named by it.
        early: The OP still runs: link symbolically, so that what it goes on writing shows, and let nothing be missing.
    """

    def __init__(self, name: str, sign: Artifact, root: Path, create_dir: bool = False, early: bool = False) -> None:
        self.name = name
        self.sign = sign
        self.inputs = root / "inputs" / "artifacts"
        self.target = root / "outputs" / "artifacts" / name
        self.create_dir = create_dir
        self.early = early

    def publish(self, returned: Sequence[Returned]) -> List[catalog.Entry]:
        """Replace the artifact by these values and write its catalogue.

        Returns:
            The entries of the catalogue.

        Raises:
            StorageError: A path does not exist that must, or cannot be linked.
            SignError: A value has another shape than the sign declares.
        """
        if os.path.lexists(self.target):
            shutil.rmtree(self.target)
        self.target.mkdir(parents=True)
        entries: List[catalog.Entry] = []
        for one in returned:
            base = (one.cwd or Path.cwd()).absolute()
            for order, path, piece in self._elements(one.value, one.slice):
                entries.append(catalog.Entry(self._place(path, piece, base), order))
        catalog.write(self.target, entries)
        return entries

    def _elements(self, value: Any, where: Where) -> Iterator[Tuple[catalog.Order, Any, Where]]:
        """Give (order, path, the slice that it belongs to) for each element of a value."""
        kind = self.sign.kind
        many = list(where) if isinstance(where, (list, tuple)) else None
        if kind == "hdf5" and not isinstance(value, (str, os.PathLike)) and value is not None:
            yield from self._datasets(value, where)
        elif value is None or (kind == "path" and many is None):
            for order in many if many is not None else [0 if where is None else where]:
                yield order, value, order if where is not None else None  # type: ignore[misc]
        elif many is not None and kind in ("path", "list", "set"):
            paths = list(value) if isinstance(value, (list, tuple, set)) else [value]
            if len(paths) != len(many):
                raise SignError(
                    f"output artifact {self.name!r} belongs to {len(many)} slices, {many!r}; found {len(paths)} paths. "
                    "Return a list with one path for each."
                )
            for order, path in zip(many, paths):
                yield order, path, order
        elif kind in ("list", "set"):
            self._require(value, (list, tuple, set))
            for index, path in enumerate(sorted(value, key=str) if isinstance(value, set) else value):
                # One int slice's paths share its order, as dflow has it: the whole stays a flat list.
                order = index if where is None else f"{where}.{index}" if isinstance(where, str) else where
                yield order, path, where  # type: ignore[misc]
        else:
            self._require(value, (dict, list) if kind == "nested" else (dict,))
            for entry in catalog.entries_of(value if isinstance(value, list) else dict(value)):
                yield entry.order, entry.path, where

    def _require(self, value: Any, kinds: Tuple[type, ...]) -> None:
        if not isinstance(value, kinds):
            raise SignError(
                f"output artifact {self.name!r} is declared as {self.sign!r}; found {value!r}, a "
                f"{type(value).__name__}. Return what is declared, or declare what you return."
            )

    def _datasets(self, value: Any, where: Where) -> Iterator[Tuple[catalog.Order, Any, Where]]:
        base = Path.cwd()
        items: Dict[str, Any] = dict(value) if isinstance(value, Mapping) else _numbered(value, where)
        file = hdf5.write_datasets(items, self.target, lambda path: self._relative(path, base))
        yield (where if isinstance(where, (int, str)) else 0), _Written(file.name), None

    def _place(self, path: Any, piece: Where, base: Path) -> Optional[str]:
        if isinstance(path, _Written):
            return str(path)
        if path is None:
            return None
        if not isinstance(path, (str, os.PathLike)):
            raise SignError(
                f"output artifact {self.name!r} has the element {path!r}, a {type(path).__name__}; "
                "expected a path (str or Path) or None."
            )
        source = Path(os.path.normpath(os.path.join(base, path)))
        if not source.exists() and not self.early:
            self._missing(path, base)
            return None
        relative = self._relative(source, base)
        if self.create_dir and piece is not None:
            relative = os.path.normpath(os.path.join(slice_directory(piece), relative))
        self._link(source, relative)
        return relative

    def _missing(self, path: Any, base: Path) -> None:
        # Programs written for dflow return paths of files that some settings never write, and count on the null.
        if self.sign.kind == "path" and not self.sign.optional and "dflow" not in sys.modules:
            raise StorageError(
                f"output artifact {self.name!r} is {str(path)!r}, which does not exist in {base}. Return the path of "
                "what was written, or None, or declare Artifact(..., optional=True)."
            )
        print(f"dflow: output artifact {self.name!r}: {str(path)!r} does not exist, noted as null", file=sys.stderr)  # noqa: T201

    def _relative(self, path: Path, base: Path) -> str:
        """Return where a path goes in the artifact."""
        text = os.path.normpath(os.path.join(base, path))
        for inputs in {str(self.inputs), os.path.realpath(self.inputs)}:
            if text.startswith(inputs + os.sep):
                first, _, rest = text[len(inputs) + 1 :].partition(os.sep)
                return rest or (first if os.path.isfile(text) else ".")
        for top in (str(base), os.path.realpath(base)):
            if text == top:
                return "."
            if text.startswith(top + os.sep):
                return text[len(top) + 1 :]
        return text.lstrip(os.sep)

    def _link(self, source: Path, relative: str) -> None:
        goal = self.target / relative
        if self.early and relative != ".":
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.symlink_to(source)
            return
        link_or_copy(source, goal, own=self.target.parents[2])
        if relative == ".":
            # The catalogue of an input that is handed on whole would add that input's elements to this artifact's.
            shutil.rmtree(goal / catalog.directory_name(), ignore_errors=True)


def _numbered(values: Sequence[Any], where: Where) -> Dict[str, Any]:
    if where is None:
        return {str(index): value for index, value in enumerate(values)}
    orders = list(where) if isinstance(where, (list, tuple)) else [where]
    if len(orders) == len(values):
        return {str(order): value for order, value in zip(orders, values)}
    return {f"{where}.{index}": value for index, value in enumerate(values)}


class _Written(str):
    """A path in the artifact of something that is there already."""


def slice_directory(piece: Where) -> str:
    """Return the directory named by a slice: ``a/b`` for ``"a.b"``.

    Raises:
        StorageError: It would lie outside of the directory that contains it.
    """
    directory = os.path.normpath(os.path.join(*catalog.split(piece)) if isinstance(piece, str) else str(piece))
    if os.path.isabs(directory) or directory.startswith(".."):
        raise StorageError(
            f"the slice {piece!r} was asked to name a directory (create_dir); it would lie outside. "
            "Let the slice expression give an int or a dotted path."
        )
    return directory
