"""Inputs and outputs: the dicts that hold the parameters and artifacts of a template or a step.

Not here: parameters and artifacts themselves (``declared.py``).

Trap: a container names and binds what is put into it, so one declaration put into two templates belongs to the second.
Step-bound ones are made by the step when first asked for.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, Dict, Mapping, Optional

from dflow_hpc.errors import ModelError
from dflow_hpc.model.checks import UnknownName, check_io_name, close, listed
from dflow_hpc.model.declared import Declared, InputArtifact, InputParameter, OutputArtifact, OutputParameter


class AutonamedDict(Dict[str, Any]):
    """A dict of parameters or artifacts that names and binds what is put into it.

    Args:
        *args: As for ``dict``.
        step: The step that its members belong to.
        template: The template that declares them.
        **kwargs: As for ``dict``.
    """

    item: Any = None
    """The class that a value given in place of a declaration becomes, where there is one."""

    def __init__(self, *args: Any, step: Any = None, template: Any = None, **kwargs: Any):
        super().__init__()
        self.step, self.template = step, template
        self.update(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        check_io_name(name, f"a parameter or artifact of {self._owner()}")
        if not isinstance(value, Declared):
            value = self._declaration(name, value)
        value.name, value.step, value.template = name, self.step, self.template
        super().__setitem__(name, value)

    def _declaration(self, name: str, value: Any) -> Any:
        raise ModelError(
            "{!r} of {} was set to {!r}; it takes a declaration such as `{}(...)`.".format(
                name, self._owner(), value, self.item.__name__ if self.item else "InputParameter"
            )
        )

    def __missing__(self, name: str) -> Any:
        raise UnknownName(f"{name!r} was asked for; {self._owner()} has {listed(self)}{close(str(name), self)}.")

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Put several in, as ``dict.update`` does."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the member ``name``, putting ``default`` in if there is none."""
        if name not in self:
            self[name] = default
        return self[name]

    def bind(self, step: Any, template: Any) -> None:
        """Let all members belong to a step or template."""
        self.step, self.template = step, template
        for value in self.values():
            value.step, value.template = step, template

    def _owner(self) -> str:
        step = getattr(self.step, "name", None)  # one that is being copied has none yet
        if step is not None:
            return f"step {step!r}"
        name = getattr(self.template, "name", None)
        return f"template {name!r}" if name else "this container"


class InputParameters(AutonamedDict):
    """The input parameters of a template or step; a constant put in is a declaration with that default."""

    item = InputParameter

    def _declaration(self, _name: str, value: Any) -> Any:
        return InputParameter(value=value)


class InputArtifacts(AutonamedDict):
    """The input artifacts of a template or step."""

    item = InputArtifact


class OutputParameters(AutonamedDict):
    """The output parameters of a template or step."""

    item = OutputParameter


class OutputArtifacts(AutonamedDict):
    """The output artifacts of a template or step."""

    item = OutputArtifact


class _Side:
    """Inputs or outputs: ``.parameters`` and ``.artifacts``; a plain dict may be assigned to either."""

    _parameters_class: Any = AutonamedDict
    _artifacts_class: Any = AutonamedDict

    def __init__(
        self,
        parameters: Optional[Mapping[str, Any]] = None,
        artifacts: Optional[Mapping[str, Any]] = None,
        step: Any = None,
        template: Any = None,
    ):
        self.step, self.template = step, template
        self.parameters = parameters or {}
        self.artifacts = artifacts or {}

    @property
    def parameters(self) -> Any:
        """The parameters, by name."""
        return self._parameters

    @parameters.setter
    def parameters(self, value: Mapping[str, Any]) -> None:
        self._parameters = self._parameters_class(_mapping(value), step=self.step, template=self.template)

    @property
    def artifacts(self) -> Any:
        """The artifacts, by name."""
        return self._artifacts

    @artifacts.setter
    def artifacts(self, value: Mapping[str, Any]) -> None:
        self._artifacts = self._artifacts_class(_mapping(value), step=self.step, template=self.template)

    def bind(self, step: Any = None, template: Any = None) -> None:
        """Let all members belong to a step or template."""
        self.step, self.template = step, template
        self._parameters.bind(step, template)
        self._artifacts.bind(step, template)


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise ModelError(f"parameters or artifacts were set to {value!r}; they are a dict, name to declaration.")


class Inputs(_Side):
    """What a template takes.

    Args:
        parameters: Name -> ``InputParameter``.
        artifacts: Name -> ``InputArtifact``.
        step: The step that they belong to.
        template: The template that declares them.
    """

    _parameters_class = InputParameters
    _artifacts_class = InputArtifacts


class Outputs(_Side):
    """What a template gives.

    Args:
        parameters: Name -> ``OutputParameter``.
        artifacts: Name -> ``OutputArtifact``.
        step: The step that they belong to.
        template: The template that declares them.
    """

    _parameters_class = OutputParameters
    _artifacts_class = OutputArtifacts
