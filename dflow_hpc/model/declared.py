"""Parameters and artifacts: declarations on templates, and references to those of steps.

One class serves both: ``OutputParameter(value_from_path=...)`` on a template, and what
``step.outputs.parameters["x"]`` gives. The container that it is put into says to which step or template it belongs.

Not here: those containers (``io.py``), what a Python OP declares (``op/signs.py``).

Trap: ``==`` of two parameters is an expression, so they are compared by ``is``.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, Iterable, List, Optional, Tuple

from dflow_hpc.config import config
from dflow_hpc.errors import ModelError
from dflow_hpc.model.refs import TEXT, ArgoVar, IfExpression, branch, constant_text

BIG = "dflow_bigpar_"
"""Prefix of the artifact that carries a big parameter."""

INIT_SUFFIX = "-init-artifact"
"""End of the name of the helper step before a sliced step."""

_UNSET: Any = object()


class Declared:
    """What parameters and artifacts share: a name, and the step or template that they belong to."""

    name: Optional[str]
    step: Any
    template: Any
    side = ""  # "inputs" or "outputs"
    group = ""  # "parameters" or "artifacts"

    def holder(self) -> str:
        """Return the name of the step that has it."""
        return str(self.step.name)

    def path_text(self) -> str:
        """Return ``steps.a.outputs.parameters.x`` or ``inputs.parameters.x``: what stands between the braces."""
        self._check_named()
        prefix = "" if self.step is None else f"{self.step.kind}.{self.holder()}."
        return f"{prefix}{self.side}.{self.group}.{self.name}"

    def path_expr(self) -> str:
        """Return the same for an expression, where names may hold ``-``."""
        self._check_named()
        prefix = "" if self.step is None else f"{self.step.kind}['{self.holder()}']."
        return f"{prefix}{self.side}.{self.group}['{self.name}']"

    def _check_named(self) -> None:
        if self.name is None:
            raise ModelError(
                f"an {type(self).__name__} was used as a reference before it belonged to a template. Put it into "
                f"`Inputs(...)`, `Outputs(...)` or a template's `.{self.side}.{self.group}` first."
            )


class ParameterRef(Declared, ArgoVar):
    """A parameter: a declaration on a template, or a reference to it."""

    group = "parameters"

    def __init__(self, name: Optional[str], step: Any, template: Any, type: Any, save_as_artifact: bool):
        self.name, self.step, self.template = name, step, template
        self.type = type
        self.save_as_artifact = save_as_artifact
        self.kind = TEXT
        self.sources = (self,)

    @property
    def expr(self) -> str:
        """The reference for an expression."""
        return self.path_expr()

    def __str__(self) -> str:
        return f"{{{{{self.path_text()}}}}}"


class InputParameter(ParameterRef):
    """A parameter that a template takes.

    Args:
        name: Its name; the container that it is put into names it.
        step: The step that it belongs to, when it is a step's.
        template: The template that declares it.
        type: Python type of the value, when known.
        save_as_artifact: Whether it is carried as a file (a *big* parameter), not as text in the manifest.
        path: Not used; dflow's argument for a file in the container.
        source: The value that a step gives it.
        **kwargs: ``value``: the default, ``description``: a text, ``options`` and others are kept as attributes.
    """

    side = "inputs"

    def __init__(
        self,
        name: Optional[str] = None,
        step: Any = None,
        template: Any = None,
        type: Any = None,
        save_as_artifact: bool = False,
        path: Optional[str] = None,
        source: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name, step, template, type, save_as_artifact)
        self.path = path
        self.source = source
        self.__dict__.update(kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "value" and self.step is not None:
            self.step.set_parameters({self.name: value})  # step.inputs.parameters["x"].value = ...

    @property
    def expr(self) -> str:
        """The reference for an expression."""
        if self.step is None:
            return self.path_expr()
        return branch(self._given())  # a step's input is what the step was given

    def __str__(self) -> str:
        if self.step is None:
            return f"{{{{{self.path_text()}}}}}"
        given = self._given()
        return str(given) if isinstance(given, ArgoVar) else constant_text(given)

    def _given(self) -> Any:
        if not hasattr(self, "value"):
            raise ModelError(
                f"the input parameter {self.name!r} of step {self.step.name!r} was used as a reference, but the step "
                "gives it no value. Give it in `Step(parameters=...)`."
            )
        return self.value


class OutputParameter(ParameterRef):
    """A parameter that a template gives.

    Args:
        value_from_path: File from which a script template takes it.
        value_from_parameter: Reference from which a Steps or DAG takes it.
        name: Its name; the container that it is put into names it.
        step: The step that it belongs to, when it is a reference to a step's output.
        template: The template that declares it.
        type: Python type of the value, when known.
        global_name: Name under which the whole workflow publishes it.
        value_from_expression: ``if_expression(...)`` or another expression from which a Steps or DAG takes it.
        save_as_artifact: Whether it is carried as a file (a *big* parameter).
        save_both: Accepted for dflow's sake; a big parameter is carried as a file only.
        **kwargs: ``default``: taken when there is none, ``value``: a fixed one, ``description``.
    """

    side = "outputs"

    def __init__(
        self,
        value_from_path: Optional[str] = None,
        value_from_parameter: Any = None,
        name: Optional[str] = None,
        step: Any = None,
        template: Any = None,
        type: Any = None,
        global_name: Optional[str] = None,
        value_from_expression: Any = None,
        save_as_artifact: bool = False,
        save_both: bool = False,
        **kwargs: Any,
    ):
        super().__init__(name, step, template, type, save_as_artifact)
        self.value_from_path = None if value_from_path is None else str(value_from_path)
        self.value_from_parameter = value_from_parameter
        self.value_from_expression = value_from_expression
        self.global_name = global_name
        self.save_both = save_both
        self.__dict__.update(kwargs)

    @property
    def expr(self) -> str:
        """The reference for an expression."""
        return self._looped("%s") or self.path_expr()

    def __str__(self) -> str:
        return self._looped("{{=%s}}") or f"{{{{{self.path_text()}}}}}"

    def _looped(self, form: str) -> str:
        """Return ``form`` around an expression that is ``[]`` when the loop that gives it had no item.

        Argo defines no outputs for a loop of zero items, so the plain tag would reach its reader as it stands. The
        test of the status also keeps the expression from being evaluated before the loop has run.
        """
        if self.step is None or not self.step.is_loop:
            return ""
        owner = f"{self.step.kind}['{self.step.name}']"
        return form % (f"{owner}.status == 'Skipped' ? '[]' : {self.path_expr()}")


class ArtifactRef(Declared):
    """An artifact: a declaration on a template, or a reference to it, or to a part of it."""

    group = "artifacts"

    def __init__(
        self, name: Optional[str], step: Any, template: Any, path: Any, type: Any, archive: Any, optional: bool
    ):
        self.name, self.step, self.template = name, step, template
        self.path = None if path is None else str(path)
        if self.path in ("/", "/tmp"):  # noqa: S108  (the directories that the runner itself works in)
            raise ModelError(
                f"the artifact {name!r} was given the path {self.path!r}, which holds more than the artifact. Give a "
                "file or directory of its own, such as '/tmp/data'."
            )
        self.type = type
        self.archive = config["archive_mode"] if archive == "default" else archive
        self.optional = optional
        self.slice: Any = None
        self.parent: Any = None
        self._sub_path = ""

    @property
    def expr(self) -> str:
        """The reference for an expression."""
        return self.path_expr()

    def __str__(self) -> str:
        return f"{{{{{self.path_text()}}}}}"

    def __repr__(self) -> str:
        return str(self) if self.name is not None else object.__repr__(self)

    def __getitem__(self, key: Any) -> Any:
        """Return a reference to one element of a list or dict artifact; ``key`` may be a parameter."""
        if not isinstance(key, (int, str, ArgoVar)) or isinstance(key, bool):
            raise ModelError(
                f"{self}[{key!r}] was asked for; the elements of an artifact are found by an integer, a text or a "
                "parameter."
            )
        part = self._part()
        part.slice = key if self.slice is None else f"{self.slice}.{key}"
        return part

    def __iter__(self) -> Any:  # without it Python would ask for [0], [1], ... for ever
        raise ModelError(
            f"the artifact {self} was iterated over; how many elements it has is known when the workflow runs. Slice "
            "a step over it by `Slices(input_artifact=[...])`."
        )

    def sub_path(self, path: Any) -> Any:
        """Return a reference to a file or directory inside the artifact.

        Args:
            path: Relative path; it may hold references.
        """
        part = self._part()
        part._sub_path = f"{self._sub_path}/{path}" if self._sub_path else str(path)
        return part

    def _part(self) -> Any:
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part.parent = self if self.parent is None else self.parent
        return part


class InputArtifact(ArtifactRef):
    """An artifact that a template takes.

    Args:
        path: Where a script template finds it; Python OPs get their own.
        name: Its name; the container that it is put into names it.
        step: The step that it belongs to, when it is a step's.
        template: The template that declares it.
        optional: Whether the template runs without it.
        type: Python type of the value, when known.
        source: What the step gives it.
        mode: Mode of the file (an integer such as ``0o755``).
        sub_path: Path inside the source.
        archive: ``"tar"``, ``None`` (as it is) or ``"default"`` (``config["archive_mode"]``).
        save_as_parameter: Refused: dflow's way of keeping paths as a parameter.
        writable: Whether the OP changes it, so that it gets a copy of its own.
        **kwargs: Kept as attributes.
    """

    side = "inputs"

    def __init__(
        self,
        path: Any = None,
        name: Optional[str] = None,
        step: Any = None,
        template: Any = None,
        optional: bool = False,
        type: Any = None,
        source: Any = None,
        mode: Optional[int] = None,
        sub_path: Optional[str] = None,
        archive: Any = "default",
        save_as_parameter: bool = False,
        writable: bool = False,
        **kwargs: Any,
    ):
        super().__init__(name, step, template, path, type, archive, optional)
        if save_as_parameter:
            raise ModelError(
                f"InputArtifact({name!r}) was given save_as_parameter=True, which is not supported. Use a Parameter."
            )
        self.source = source
        self.mode = mode
        self.writable = writable
        self._sub_path = sub_path or ""
        self.__dict__.update(kwargs)


class OutputArtifact(ArtifactRef):
    """An artifact that a template gives.

    Args:
        path: File or directory that a script template leaves.
        _from: Reference from which a Steps or DAG takes it.
        name: Its name; the container that it is put into names it.
        step: The step that it belongs to, when it is a reference to a step's output.
        template: The template that declares it.
        type: Python type of the value, when known.
        save: An ``S3Artifact`` (or a list with one) that says under which key it is stored.
        archive: ``"tar"``, ``None`` (as it is) or ``"default"`` (``config["archive_mode"]``).
        global_name: Name under which the whole workflow publishes it.
        from_expression: ``if_expression(...)`` from which a Steps or DAG takes it.
        optional: Whether it may be missing.
        **kwargs: Kept as attributes.
    """

    side = "outputs"

    def __init__(
        self,
        path: Any = None,
        _from: Any = None,
        name: Optional[str] = None,
        step: Any = None,
        template: Any = None,
        type: Any = None,
        save: Any = None,
        archive: Any = "default",
        global_name: Optional[str] = None,
        from_expression: Any = None,
        optional: bool = False,
        **kwargs: Any,
    ):
        super().__init__(name, step, template, path, type, archive, optional)
        self._from = _from
        self.from_expression = from_expression
        self.save: List[Any] = [] if save is None else list(save) if isinstance(save, (list, tuple)) else [save]
        self.global_name = global_name
        self.__dict__.update(kwargs)

    def holder(self) -> str:
        """Return the name of the step that has it: the slices of a loop fill what its helper step names."""
        slices = self.step.slices
        sliced = slices is not None and self.name in slices.output_artifact
        return str(self.step.name) + (INIT_SUFFIX if sliced else "")

    def pvc(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refused: passing an artifact through a volume while its step still runs needs Kubernetes.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            f"the output artifact {self.name!r} was asked for a volume (pvc) for asynchronous passing, which is not "
            "supported. Let the consumer take the artifact when the step has ended."
        )


def parameter_refs(value: Any) -> Iterable[ParameterRef]:
    """Yield every parameter that ``value`` reads: itself, in an expression, or inside a dict or list."""
    if isinstance(value, ArgoVar):
        for source in value.sources:
            if isinstance(source, ParameterRef):
                yield source
    elif isinstance(value, dict):
        for item in value.values():
            yield from parameter_refs(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from parameter_refs(item)


def artifact_refs(value: Any) -> Iterable[ArtifactRef]:
    """Yield every artifact reference that ``value`` holds, also inside lists, dicts and ``if_expression``."""
    if isinstance(value, ArtifactRef):
        yield value
    elif isinstance(value, IfExpression):
        for item in value.branches:
            yield from artifact_refs(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from artifact_refs(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from artifact_refs(item)


def default_of(parameter: Any) -> Tuple[bool, Any]:
    """Return ``(has a default value, the value)`` of a declared input parameter."""
    value = getattr(parameter, "value", _UNSET)
    return (False, None) if value is _UNSET else (True, value)
