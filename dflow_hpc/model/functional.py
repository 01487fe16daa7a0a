"""The functional interface: calling an OP inside ``with Workflow():`` makes a step instead of running it.

``op/function.py`` makes OPs of functions and calls ``call_op`` through a hook, since the OP layer knows no steps.

Not here: turning a function's annotations into signs (``op/function.py``), the stack of open scopes (``context.py``).

Trap: step names are numbered in their scope (``train``, ``train-2``), never random, so that one program gives one
manifest.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import copy
import re
from typing import Any, Callable, Dict, List, Mapping, Tuple

from dflow_hpc import hooks
from dflow_hpc.errors import ModelError
from dflow_hpc.model import context
from dflow_hpc.model.checks import UnknownName, at, author_frame, close, listed
from dflow_hpc.model.dag import DAG
from dflow_hpc.model.declared import ArtifactRef, InputArtifact, InputParameter, OutputArtifact, OutputParameter
from dflow_hpc.model.io import Inputs, Outputs
from dflow_hpc.model.python_template import PythonOPTemplate
from dflow_hpc.model.refs import ArgoVar, IfExpression
from dflow_hpc.model.step import Step


def call_op(op: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
    """Make a step of an OP that was called, if a workflow is being built.

    Args:
        op: The OP instance; ``template_kwargs`` and ``task_kwargs`` are options for its template and step.
        args: Positional arguments, in the order of its input sign.
        kwargs: Arguments by name.

    Returns:
        References to its outputs by name (``OP.__call__`` gives them the form that a call returns), or
        ``hooks.NO_CONTEXT`` when nothing is being built.
    """
    scope = context.current()
    if scope is None:
        return hooks.NO_CONTEXT
    template = PythonOPTemplate(op, **op.template_kwargs)
    return _use(scope, template, template.op_name, args, kwargs, op.task_kwargs)


def _use(
    scope: Any, template: Any, name: str, args: Tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]
) -> Dict[str, Any]:
    step_class = scope.step_class() if hasattr(scope, "step_class") else scope.member
    parameters, artifacts = _split(template, name, args, kwargs)
    options = dict(options)
    step = step_class(
        options.pop("name", None) or unique_name(scope, name),
        template,
        parameters={**parameters, **options.pop("parameters", {})},
        artifacts={**artifacts, **options.pop("artifacts", {})},
        **options,
    )
    return references(step)


def references(step: Step) -> Dict[str, Any]:
    """Return a step's outputs, parameters and artifacts, by name."""
    return {**step.outputs.parameters, **step.outputs.artifacts}


def unique_name(scope: Any, name: str) -> str:
    """Return a step's name that is free in a scope: the name, or the name with the first free number."""
    base = re.sub(r"[^-a-zA-Z0-9]+", "-", name).strip("-") or "step"
    taken = scope.names()
    counts = scope.__dict__.setdefault("_numbers", {})  # so that 10,000 calls of one OP do not search again each time
    number = counts.get(base, 1)
    while (base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    counts[base] = number + 1
    return base if number == 1 else f"{base}-{number}"


def _split(
    template: Any, name: str, args: Tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    declared: List[str] = list(getattr(template, "input_order", None) or _sign_order(template))
    if len(args) > len(declared):
        raise ModelError(
            f"{name} was called with {len(args)} arguments{at(author_frame())}; it takes {len(declared)}: "
            f"{listed(declared)}."
        )
    given = dict(zip(declared, args))
    for key, value in kwargs.items():
        if key in given:
            raise ModelError(f"{name} was called with {key!r} twice{at(author_frame())}.")
        if key not in declared:
            raise UnknownName(
                f"{name} was called with {key!r}{at(author_frame())}; it takes "
                f"{listed(declared)}{close(key, declared)}."
            )
        given[key] = value
    parameters = {key: value for key, value in given.items() if key in template.inputs.parameters}
    return parameters, {key: value for key, value in given.items() if key not in parameters}


def _sign_order(template: Any) -> List[str]:
    if isinstance(template, PythonOPTemplate):
        return list(template.op_class.get_input_sign())
    return [*template.inputs.parameters, *template.inputs.artifacts]


class SuperFunction(DAG):
    """A function whose body made tasks: a DAG that is called like a function.

    Args:
        function: The function; it is called once, with references to its own inputs.
        **kwargs: As for ``DAG``.
    """

    def __init__(self, function: Callable[..., Any], **kwargs: Any):
        from dflow_hpc.op.function import describe

        self.function = function
        self.signs = describe(function)
        self.task_kwargs: Dict[str, Any] = {}
        self.__name__ = function.__name__
        name = kwargs.pop("name", None) or re.sub(r"[^-a-zA-Z0-9]+", "-", function.__name__).strip("-")
        super().__init__(name=name, inputs=_declared_inputs(self.signs.inputs), **kwargs)
        own = {**self.inputs.parameters, **self.inputs.artifacts}
        with self:
            returned = function(**{key: own[key] for key in self.signs.inputs})
        self.outputs = _declared_outputs(self.signs.outputs, self.signs.collect(returned), self)

    @property
    def input_order(self) -> List[str]:
        """The names of its inputs, in the order of the function's parameters."""
        return list(self.signs.inputs)

    def use(self, **task_kwargs: Any) -> "SuperFunction":
        """Return a copy whose task gets these options (``when``, ``key``, ``with_param`` and others)."""
        new = copy.copy(self)
        new.task_kwargs = {**self.task_kwargs, **task_kwargs}
        return new

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make a task of it in the workflow that is being built; outside of one, run the function itself."""
        scope = context.current()
        if scope is None:
            return self.function(*args, **kwargs)
        return self.signs.unwrap(_use(scope, self, self.__name__, args, kwargs, self.task_kwargs))


def superfunction(function: Callable[..., Any], dag_kwargs: Mapping[str, Any]) -> SuperFunction:
    """Answer the hook of ``OP.superfunction``.

    Args:
        function: The function.
        dag_kwargs: Options of the DAG.
    """
    return SuperFunction(function, **dag_kwargs)


def _declared_inputs(signs: Mapping[str, Any]) -> Inputs:
    from dflow_hpc.op.signs import Artifact, BigParameter, Parameter

    inputs = Inputs()
    for name, sign in signs.items():
        if isinstance(sign, Artifact):
            inputs.artifacts[name] = InputArtifact(type=sign.type, optional=sign.optional, archive=sign.archive)
        elif isinstance(sign, (Parameter, BigParameter)):
            default = {"value": sign.default} if hasattr(sign, "default") else {}
            inputs.parameters[name] = InputParameter(
                type=sign.type, save_as_artifact=isinstance(sign, BigParameter), **default
            )
        else:
            inputs.parameters[name] = InputParameter(type=sign)
    return inputs


def _declared_outputs(signs: Mapping[str, Any], returned: Mapping[str, Any], dag: DAG) -> Outputs:
    outputs = Outputs()
    for name in signs:
        if name not in returned:
            raise ModelError(
                f"superfunction {dag.name} declares the output {name!r} and did not return it; it returned "
                f"{listed(returned)}."
            )
        value = returned[name]
        if isinstance(value, ArtifactRef) or (isinstance(value, IfExpression) and _chooses_artifact(value)):
            source = {"from_expression": value} if isinstance(value, IfExpression) else {"_from": value}
            outputs.artifacts[name] = OutputArtifact(**source)
        elif isinstance(value, OutputParameter) or (isinstance(value, InputParameter) and value.step is None):
            outputs.parameters[name] = OutputParameter(value_from_parameter=value, type=value.type)
        elif isinstance(value, ArgoVar):
            outputs.parameters[name] = OutputParameter(value_from_expression=value)
        else:
            raise ModelError(
                f"superfunction {dag.name} returned {value!r} as {name!r}; it returns what its tasks give. Compute "
                "constants in an OP."
            )
    return outputs


def _chooses_artifact(value: IfExpression) -> bool:
    return any(
        isinstance(part, ArtifactRef) or (isinstance(part, IfExpression) and _chooses_artifact(part))
        for part in value.branches
    )
