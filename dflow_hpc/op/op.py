"""OP, the base class of everything that an author lets run: its signs, its checks, its progress.

A subclass declares ``get_input_sign`` and ``get_output_sign`` and defines ``execute``, which is an ordinary method:
``MyOP().execute(OPIO({...}))`` works in any program and test. ``@OP.exec_sign_check`` around it checks what goes in and
out. How an OP is run as a leaf is the runner's business; how it becomes a template is the model's.

A trap: a subclass's ``__init__`` need not call ours, so nothing here may depend on it.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import abc
import copy
import functools
import json
import os
import re
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, Generic, List, Mapping, NamedTuple, Optional, Sequence, Set, TypeVar

from dflow_hpc import hooks
from dflow_hpc.errors import ModelError, SignError
from dflow_hpc.op.opio import OPIO, OPIOSign
from dflow_hpc.op.signs import Artifact, BigParameter, Sign, is_declaration
from dflow_hpc.op.typecheck import check_type, type_name

_T = TypeVar("_T")
_NAME = re.compile(r"[-a-zA-Z0-9_]+\Z")
_PROGRESS = ("progress_current", "progress_total")

upload_packages: List[str] = []
"""Paths of Python packages that travel with every OP of this program (dflow's list; append to it)."""


class TransientError(Exception):
    """An OP failed for a reason that may be gone when it is tried again: the leaf ends with exit code 1."""


class FatalError(Exception):
    """An OP failed for a reason that no retry mends: the leaf ends with exit code 2."""


class Signs(NamedTuple):
    """What an OP class declares, checked."""

    inputs: OPIOSign
    outputs: OPIOSign


class _Own(Generic[_T]):
    """An attribute whose value each instance makes for itself when it is first used."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self.make = make
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: Optional[type] = None) -> _T:
        value = self.make()
        if instance is not None:
            instance.__dict__[self.name] = value
        return value


class OP(abc.ABC):
    """What an author lets run: typed inputs, typed outputs, and a method between them.

    Attributes:
        progress_total: How many steps of progress there are; assigning reports it.
        progress_current: How many are done; assigning reports it.
        key: The key of the step, when run as a leaf of a step that has one.
        workflow_name: The name of the workflow, when run as a leaf.
        outputs: What ``set_output`` has published; saved even if ``execute`` raises.
        slices: The slice, or slices, that this run handles, for each sliced name.
        tmp_root: The root of the leaf.
        create_slice_dir: Run each slice in a directory of its own, named by the slice.
        pool_size: How many slices of this leaf run at once, when run as a leaf with ``Slices(pool_size=)``.
        template_kwargs: Options of the template that a call in a workflow makes (``@OP.function(...)``).
        task_kwargs: Options of the task that a call in a workflow makes (``use``).
    """

    progress_total: int = 1
    progress_current: int = 0
    key: Optional[str] = None
    workflow_name: Optional[str] = None
    tmp_root: str = "/tmp"  # noqa: S108  (where Argo's leaves have their files)
    create_slice_dir: bool = False
    pool_size: Optional[int] = None
    outputs: ClassVar["_Own[Dict[str, Any]]"] = _Own(dict)
    slices: ClassVar["_Own[Dict[str, Any]]"] = _Own(dict)
    template_kwargs: ClassVar["_Own[Dict[str, Any]]"] = _Own(dict)
    task_kwargs: ClassVar["_Own[Dict[str, Any]]"] = _Own(dict)
    publisher: Optional[Callable[[str, Any, bool], None]] = None
    """Set by the runner: takes (name, value, symlink) of an output that is published early."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: B027  (takes anything, as dflow's does)
        pass

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _PROGRESS:
            self._report_progress()

    def _report_progress(self) -> None:
        file = os.environ.get("ARGO_PROGRESS_FILE")
        if file:
            Path(file).write_text(f"{self.progress_current}/{self.progress_total}", encoding="utf-8")

    @classmethod
    @abc.abstractmethod
    def get_input_sign(cls) -> OPIOSign:
        """Return what the OP takes."""

    @classmethod
    @abc.abstractmethod
    def get_output_sign(cls) -> OPIOSign:
        """Return what the OP gives."""

    @abc.abstractmethod
    def execute(self, op_in: OPIO) -> OPIO:
        """Run it."""

    @staticmethod
    def exec_sign_check(execute: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap an ``execute`` that it checks what goes in before, and what comes out after."""

        @functools.wraps(execute)
        def checked(self: "OP", op_in: Mapping[str, Any]) -> OPIO:
            signs = signs_of(type(self))
            given = op_in if isinstance(op_in, OPIO) else OPIO(op_in)
            self._check_signature(given, signs.inputs, True)
            found = as_outputs(self, execute(self, given))
            self._check_signature(found, signs.outputs, False)
            return found

        return checked

    @classmethod
    def _check_signature(cls, opio: OPIO, sign: Mapping[str, Any], is_input: bool) -> None:
        """Fill in defaults, and check keys and types. The name is dflow's.

        Raises:
            SignError: A key is missing or not declared, or a value does not fit.
        """
        side = "input" if is_input else "output"
        for name, declared in sign.items():
            if name not in opio:
                opio[name] = _default(cls, side, name, declared, opio)
        for name, value in opio.items():
            if name not in sign:
                raise SignError(
                    f"{side} {name!r} of {cls.__name__} was given; its {side} sign has {_keys(sign)}. "
                    f"Declare it in get_{side}_sign, or leave it out."
                )
            if value is not None:
                wanted = _checked_type(sign[name])
                if wanted is not None:
                    check_type(f"{side} {name!r} of {cls.__name__}", value, wanted)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the inputs that a call names.

        Args:
            args: Values by position, in the order of the input sign.
            kwargs: Values by name.

        Raises:
            SignError: There are too many, or one is not declared, or is given twice.
        """
        names = list(signs_of(type(self)).inputs)
        found = dict(zip(names, args))
        twice = sorted(set(found) & set(kwargs))
        unknown = sorted(set(kwargs) - set(names))
        if len(args) > len(names) or twice or unknown:
            problem = f"{len(args)} values by position" if len(args) > len(names) else f"{twice or unknown}"
            raise SignError(
                f"{type(self).__name__} was called with {problem}{' twice' if twice else ''}; its inputs are "
                f"{', '.join(names) or 'none'}. Give each at most once."
            )
        found.update(kwargs)
        return found

    def unwrap(self, outputs: Mapping[str, Any]) -> Any:
        """Return outputs by name in the form that a call of this OP gives; function OPs have other forms."""
        return outputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make a task of the open workflow, DAG or steps; where none is open, run it here and now."""
        outputs = hooks.resolve("call_op")(self, args, kwargs)
        if outputs is hooks.NO_CONTEXT:
            outputs = self.execute(OPIO(self.bind(args, kwargs)))
        return self.unwrap(outputs)

    def use(self, **task_kwargs: Any) -> "OP":
        """Return a copy whose calls make tasks with these options, such as ``key`` or ``executor``."""
        made = copy.copy(self)
        made.__dict__["task_kwargs"] = {**self.task_kwargs, **task_kwargs}
        return made

    def set_output(self, name: str, value: Any, symlink: bool = True) -> None:
        """Publish an output now; it is kept even if ``execute`` raises later.

        Args:
            name: The output's name.
            value: Its value, as ``execute`` would return it.
            symlink: Link files symbolically until the OP ends, so that what is still being written shows.

        Raises:
            SignError: There is no such output.
        """
        sign = signs_of(type(self)).outputs
        if name not in sign:
            raise SignError(f"output {name!r} of {type(self).__name__} was set; its output sign has {_keys(sign)}.")
        self.outputs[name] = value
        if self.publisher is not None:
            self.publisher(name, value, symlink)

    def handle_outputs(self, outputs: Mapping[str, Any], symlink: bool = False) -> None:
        """Publish several outputs now."""
        for name, value in outputs.items():
            self.set_output(name, value, symlink)

    def get_input_artifact_storage_key(self, name: str) -> str:
        """Return the storage key of an input artifact, from Argo's environment."""
        return self._storage_key("inputs", name)

    def get_output_artifact_storage_key(self, name: str) -> str:
        """Return the storage key of an output artifact, from Argo's environment."""
        return self._storage_key("outputs", name)

    def _storage_key(self, side: str, name: str) -> str:
        text = os.environ.get("ARGO_TEMPLATE")
        if not text:
            raise ModelError(
                f"the storage key of the {side[:-1]} artifact {name!r} was asked for; ARGO_TEMPLATE is not set. "
                "Only a leaf that an engine runs knows its keys."
            )
        template = json.loads(text)
        for artifact in template.get(side, {}).get("artifacts", []):
            if artifact["name"] == name:
                for where in ("s3", "oss"):
                    if "key" in artifact.get(where, {}):
                        return str(artifact[where]["key"])
        location = template.get("archiveLocation", {}).get("s3", {})
        raise ModelError(
            f"the storage key of the {side[:-1]} artifact {name!r} was asked for; the template has none for it "
            f"(archive location: {location or 'none'})."
        )

    @classmethod
    def get_info(cls) -> str:
        """Return a text for people: the class's documentation and its signs."""
        import inspect  # costs more than the rest of this module

        return f"{inspect.getdoc(cls) or cls.__name__}\n\n{cls.get_opio_info()}"

    @classmethod
    def get_opio_info(cls) -> str:
        """Return a text for people: the inputs and outputs with their types."""
        signs = signs_of(cls)
        lines = []
        for title, sign in (("Inputs", signs.inputs), ("Outputs", signs.outputs)):
            lines.append(f"{title}:")
            shown = {name: repr(one) if isinstance(one, Sign) else type_name(one) for name, one in sign.items()}
            lines += [f"    {name}: {text}" for name, text in shown.items()] or ["    none"]
        return "\n".join(lines)

    @classmethod
    def function(cls, func: Optional[Callable[..., Any]] = None, **template_kwargs: Any) -> Any:
        """Make an OP of an annotated function: ``@OP.function`` or ``@OP.function(image="...")``."""
        from dflow_hpc.op.function import make_op

        return make_op(func, template_kwargs) if func is not None else lambda func: make_op(func, template_kwargs)

    @classmethod
    def superfunction(cls, func: Optional[Callable[..., Any]] = None, **dag_kwargs: Any) -> Any:
        """Make a DAG of an annotated function whose body calls OPs."""
        make = hooks.resolve("superfunction")
        return make(func, dag_kwargs) if func is not None else lambda func: make(func, dag_kwargs)


def as_outputs(op: OP, result: Any) -> OPIO:
    """Return what ``execute`` returned as an OPIO.

    Raises:
        SignError: It is no mapping.
    """
    if isinstance(result, OPIO):
        return result
    sign = signs_of(type(op)).outputs
    if result is None and not sign:
        return OPIO()
    if isinstance(result, Mapping):
        return OPIO(result)
    raise SignError(
        f"{type(op).__name__}.execute returned {result!r}; its output sign has {_keys(sign)}. "
        "Return OPIO({...}) with a value for each."
    )


def _keys(sign: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, sign)) or "none"


def _default(cls: type, side: str, name: str, declared: Any, opio: Mapping[str, Any]) -> Any:
    if hasattr(declared, "default"):
        return copy.deepcopy(declared.default)  # an OP may change what it gets, and the sign is shared
    if isinstance(declared, Artifact) and declared.optional:
        return None
    raise SignError(
        f"{side} {name!r} of {cls.__name__} is declared in its {side} sign and is missing; there are "
        f"{_keys(opio)}. {'Pass it' if side == 'input' else 'Return it from execute'}."
    )


def _checked_type(declared: Any) -> Any:
    """Return the type that a value is checked against, or None: as in dflow, some signs are not checked."""
    if isinstance(declared, BigParameter):
        return None
    if not isinstance(declared, Artifact):
        return declared.type if isinstance(declared, Sign) else declared
    element: Any = Optional[declared.element]
    if declared.kind == "dict":
        return Dict[str, element]
    if declared.kind in ("list", "set"):
        return List[element] if declared.kind == "list" else Set[element]
    return None


def signs_of(op_class: type) -> Signs:
    """Return what an OP class declares; checked, and asked for only once a class.

    Raises:
        SignError: A sign is no mapping, a name or a type in it is wrong. It names the class and the key.
    """
    found = op_class.__dict__.get("_dflow_signs")
    if found is None:
        if not (isinstance(op_class, type) and issubclass(op_class, OP)):
            raise SignError(f"the signs of {op_class!r} were asked for; it is not a subclass of OP.")
        found = Signs(checked_sign(op_class, "input"), checked_sign(op_class, "output"))
        op_class._dflow_signs = found  # type: ignore[attr-defined]
    return found


def checked_sign(op: Any, side: str) -> OPIOSign:
    """Return one sign of an OP class, or of an instance whose signs are its own.

    Args:
        op: The OP.
        side: ``"input"`` or ``"output"``.

    Raises:
        SignError: It is no mapping, a name or a type in it is wrong. It names the class and the key.
    """
    sign = getattr(op, f"get_{side}_sign")()
    owner = getattr(op, "__name__", type(op).__name__)
    if not isinstance(sign, Mapping):
        raise SignError(f"{owner}.get_{side}_sign() returned {sign!r}; expected OPIOSign({{name: type, ...}}).")
    for name, declared in sign.items():
        if not isinstance(name, str) or not _NAME.match(name):
            raise SignError(f"the {side} sign of {owner} has the key {name!r}; a name is letters, digits, - and _.")
        if not isinstance(declared, Sign) and not is_declaration(declared):
            raise SignError(
                f"{side} {name!r} of {owner} is declared as {declared!r}; expected a type, Artifact(...), "
                "Parameter(...) or BigParameter(...)."
            )
    return sign if isinstance(sign, OPIOSign) else OPIOSign(sign)
