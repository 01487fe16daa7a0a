"""The signs that an OP declares: Artifact, Parameter, BigParameter, and NestedDict for artifacts.

A wrong type or option is refused when the sign is built, in the author's own line. Values are not looked at here
(``typecheck.py``), nor is the way of files (``artifacts.py``).

A trap: signs are callable-looking (they have ``__call__``, which raises). ``typing.get_type_hints`` of Python 3.8 to
3.10 accepts nothing else as the value of a string annotation, and ``@OP.function`` needs them there.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import typing
from pathlib import Path
from typing import Any, Dict, Iterable, List, NoReturn, Optional, Set, Tuple, Union

from dflow_hpc.config import config
from dflow_hpc.errors import SignError
from dflow_hpc.hooks import speaks_dflow
from dflow_hpc.op.hdf5 import HDF5Datasets
from dflow_hpc.op.typecheck import is_type, type_name


class NestedDictStr:
    """Names the type "dicts and lists of texts, nested as deep as you like"; see ``NestedDict``."""


class NestedDictPath:
    """Names the type "dicts and lists of paths, nested as deep as you like"; see ``NestedDict``."""


NestedDict: Dict[Any, Any] = {str: NestedDictStr, Path: NestedDictPath}
"""``Artifact(NestedDict[Path])``: dicts and lists of files and directories, nested as deep as you like."""

_ALONE = (str, Path, NestedDictStr, NestedDictPath, HDF5Datasets)
_ARTIFACT_TYPES = (
    "str, Path, List[str], List[Path], Set[str], Set[Path], Dict[str, str], Dict[str, Path], NestedDict[str], "
    "NestedDict[Path], HDF5Datasets, or a Union of one of them with HDF5Datasets"
)


def _is_artifact_type(annotation: Any) -> bool:
    if annotation in _ALONE:
        return True
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (list, set):
        return args in ((str,), (Path,))
    if origin is dict:
        return args in ((str, str), (str, Path))
    if origin is Union:
        return HDF5Datasets in args and all(_is_artifact_type(arg) for arg in args)
    return False


def is_declaration(annotation: Any) -> bool:
    """Say whether something can be declared as the type of a value.

    dflow never looks at what is no type (``[str]``, ``"dpdata.System"``, ``any``), and programs written for it rely on
    that: there it stands, and the value is not checked.
    """
    return is_type(annotation) or (speaks_dflow() and not isinstance(annotation, Sign))


class Sign:
    """What the three kinds of sign have in common: a checked ``type``, and free attributes such as ``description``."""

    _known: Tuple[str, ...] = ("type", "global_name", "default")

    def __init__(self, type: Any, global_name: Optional[str] = None, **attributes: Any) -> None:
        self._check_attributes(attributes)
        self.type = type
        self.global_name = global_name
        self.__dict__.update(attributes)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "type":
            self._check_type(value)
        super().__setattr__(name, value)

    def _check_attributes(self, attributes: Iterable[str]) -> None:
        """Refuse a misspelled option, which would be kept as a free attribute and do nothing."""
        for name in attributes:
            if name in self._known:
                continue
            import difflib  # few signs have attributes

            if found := difflib.get_close_matches(name, self._known, n=1, cutoff=0.75):
                raise SignError(
                    f"{type(self).__name__}({name}=...) was asked for; did you mean {found[0]!r}? Options are "
                    f"{', '.join(self._known)}."
                )

    def _check_type(self, annotation: Any) -> None:
        if not is_declaration(annotation):
            raise SignError(
                f"{type(self).__name__}(type=...) was given {annotation!r}; expected a type, such as int, "
                "List[float] or Optional[str]. Write the type itself, not its name as text or a value of it."
            )

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: a sign is no function (see the head of the module for why this exists)."""
        raise TypeError(f"{self!r} was called like a function; a sign only stands in a sign or in an annotation.")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.__dict__.items() if name != "type" and value is not None]
        return f"{type(self).__name__}({', '.join([type_name(self.type), *shown])})"


class Parameter(Sign):
    """A value that travels as text: anything that jsonpickle can write.

    Args:
        type: Its Python type, checked by ``OP.exec_sign_check``.
        global_name: Publish an output under this name for the whole workflow.
        default: Taken when no value is given; the attribute exists only if this was passed.
        **attributes: Kept as attributes, such as ``description``.
    """


class BigParameter(Sign):
    """A parameter whose text is too big for a manifest or a node's status: it is stored as an artifact.

    Args:
        type: Its Python type. As in dflow it is not checked.
        **attributes: Kept as attributes, such as ``default`` and ``description``.
    """


class Artifact(Sign):
    """A file, a directory, or several of them.

    Args:
        type: What the OP sees: ``str`` or ``Path``, a ``List``, ``Set`` or ``Dict`` of them, ``NestedDict[Path]``,
            ``HDF5Datasets``.
        archive: How it is packed: ``"tar"`` or ``None``; ``"default"`` takes ``config["archive_mode"]`` now.
        save: Where an output is also kept: an ``S3Artifact`` or a list of them.
        optional: It may be missing. An input is then ``None``; an output path that does not exist is no error.
        global_name: Publish an output under this name for the whole workflow.
        sub_path: For one ``str`` or ``Path``: give the only file or directory in it, rather than what contains it.
        writable: The OP changes this input in place, so it gets a copy; others are read-only and shared.
        **attributes: Kept as attributes, such as ``description``.

    Raises:
        SignError: The type is not one of those, or ``archive`` is unknown.
    """

    _known = ("type", "archive", "save", "optional", "global_name", "sub_path", "writable")

    def __init__(
        self,
        type: Any,
        archive: Optional[str] = "default",
        save: Any = None,
        optional: bool = False,
        global_name: Optional[str] = None,
        sub_path: bool = True,
        writable: bool = False,
        **attributes: Any,
    ) -> None:
        super().__init__(type, global_name, **attributes)
        self.archive = config["archive_mode"] if archive == "default" else archive
        if self.archive not in ("tar", None):
            raise SignError(f"Artifact(archive={archive!r}) was asked for; known are 'tar', None and 'default'.")
        self.save = save
        self.optional = optional
        self.sub_path = sub_path
        self.writable = writable

    def _check_type(self, annotation: Any) -> None:
        if not _is_artifact_type(annotation):
            raise SignError(
                f"Artifact(type=...) was given {type_name(annotation)}; an artifact is one of: {_ARTIFACT_TYPES}. "
                "A value that is not a file belongs into a Parameter."
            )

    @property
    def kind(self) -> str:
        """Its shape: ``path``, ``list``, ``set``, ``dict``, ``nested`` or ``hdf5``."""
        if self.type in (str, Path):
            return "path"
        if self.type in (NestedDictStr, NestedDictPath):
            return "nested"
        origin = typing.get_origin(self.type)
        return {list: "list", set: "set", dict: "dict"}.get(origin, "hdf5") if origin is not None else "hdf5"

    @property
    def element(self) -> type:
        """What each path is given as: ``str`` or ``Path``."""
        if self.type is NestedDictStr or self.type is str:
            return str
        args = typing.get_args(self.type)
        return str if args and args[-1] is str else Path


AnySign = Union[Sign, type]

# Names that annotations of signs use, kept importable from here.
__all__ = ["AnySign", "Artifact", "BigParameter", "List", "NestedDict", "NestedDictPath", "NestedDictStr"]
__all__ += ["Parameter", "Set", "Sign"]
