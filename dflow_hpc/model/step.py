"""Step: one use of a template, with its arguments, condition, loop and key; HookStep: a step run on an event.

A step holds what the author gave and checks it against the template's declarations; everything that follows from it
(helper steps, loops, texts) is made by the compiler.

Not here: tasks with dependencies (``task.py``), scopes (``steps.py``, ``dag.py``).

Trap: ``step.outputs`` are references made when first asked for, from the template as it is then; a recursive Steps may
declare its outputs after the step that uses it.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, Dict, Iterable, List, Optional

from dflow_hpc.errors import ModelError
from dflow_hpc.model import context
from dflow_hpc.model.checks import (
    UnknownName,
    at,
    author_frame,
    check_key,
    check_options,
    check_step_name,
    close,
    listed,
)
from dflow_hpc.model.declared import InputArtifact, InputParameter, OutputArtifact, OutputParameter
from dflow_hpc.model.executor import as_executor
from dflow_hpc.model.io import Inputs, OutputArtifacts, OutputParameters, Outputs
from dflow_hpc.model.loops import ArgoSequence
from dflow_hpc.model.python_template import check_slices
from dflow_hpc.model.refs import ArgoVar
from dflow_hpc.model.templates import OPTemplate
from dflow_hpc.model.typing_checks import check_constant, check_link

_REFUSED = {"use_resource": "Create Kubernetes resources outside of the workflow."}


class Step:
    """One step of a Steps.

    Args:
        name: Its name, unique in its scope.
        template: What it runs.
        parameters: Input parameter -> constant, reference, expression, or a dict or list that holds references.
        artifacts: Input artifact -> uploaded artifact, reference (``[i]`` and ``.sub_path()`` allowed), text (its
            content), list or dict of artifacts, or None (left out).
        when: Condition under which it runs: an expression, a boolean reference, or Argo's text ``"a < b"``.
        with_param: Run once for each item: a list, JSON text, reference, ``argo_range(...)``, ``argo_enumerate(...)``.
        continue_on_failed: Whether what follows runs although it failed.
        continue_on_error: Whether what follows runs although it ended in an error that was not its own.
        continue_on_num_success: How many items of the loop must succeed for what follows to run.
        continue_on_success_ratio: Which part of the items must succeed, 0 to 1.
        with_sequence: ``argo_sequence(...)``: run once for each of its texts.
        key: Name by which it is found again, over the whole workflow; may hold references and ``{{item}}``.
        executor: Where it runs: a machine's name, ``MachineExecutor(...)``, or dflow's hook.
        use_resource: Refused, but for dflow's ``SlurmJob``.
        util_image: Image of its helper steps, ``config["util_image"]`` unless given.
        util_image_pull_policy: Pull policy of that image.
        util_command: Python of its helper steps.
        parallelism: How many items of its loop run at once (over the whole scope, as Argo counts).
        slices: How the loop cuts the inputs and joins the outputs, for templates that have no slices of their own.
        success_hook: A ``HookStep`` or template run when it has succeeded.
        running_hook: The same, when it has started.
        failure_hook: The same, when it has failed.

    Raises:
        ModelError: Something given does not fit the template.
    """

    kind = "steps"
    """How expressions call it: ``steps['name']``."""
    word = "step"

    def __init__(
        self,
        name: str,
        template: Any,
        parameters: Optional[Dict[str, Any]] = None,
        artifacts: Optional[Dict[str, Any]] = None,
        when: Any = None,
        with_param: Any = None,
        continue_on_failed: bool = False,
        continue_on_error: bool = False,
        continue_on_num_success: Optional[int] = None,
        continue_on_success_ratio: Optional[float] = None,
        with_sequence: Any = None,
        key: Optional[str] = None,
        executor: Any = None,
        use_resource: Any = None,
        util_image: Optional[str] = None,
        util_image_pull_policy: Optional[str] = None,
        util_command: Any = None,
        parallelism: Optional[int] = None,
        slices: Any = None,
        success_hook: Any = None,
        running_hook: Any = None,
        failure_hook: Any = None,
    ):
        self.where = author_frame()
        self.name = check_step_name(name, "a " + self.word, self.where)
        self.template = _checked_template(template, self)
        if hasattr(use_resource, "machine_for"):  # dflow's SlurmJob: another way to say where a step runs
            executor, use_resource = use_resource, None
        check_options({"use_resource": use_resource}, _REFUSED, self.title, self.where)
        self._inputs: Optional[Inputs] = None
        self._outputs: Optional[Outputs] = None
        self.when = when
        self.with_param, self.with_sequence = with_param, with_sequence
        self.own_slices = slices
        self._check_loop()
        self.continue_on_failed, self.continue_on_error = continue_on_failed, continue_on_error
        self.continue_on_num_success = continue_on_num_success
        self.continue_on_success_ratio = continue_on_success_ratio
        self._check_success()
        self.key = None if key is None else str(key)
        if self.key is not None:
            check_key(self.key, self.title, self.where)
        self.util_image, self.util_image_pull_policy = util_image, util_image_pull_policy
        self.util_command = util_command
        self.parallelism = parallelism
        self.hooks = {"success": success_hook, "running": running_hook, "failure": failure_hook}
        self.parameters: Dict[str, Any] = {}
        self.artifacts: Dict[str, Any] = {}
        self.set_parameters(parameters or {})
        self.set_artifacts(artifacts or {})
        self.executor = as_executor(executor, self.title)
        if hasattr(self.executor, "modify_step"):
            self.executor.modify_step(self)  # type: ignore[union-attr]
        scope = context.current()
        if scope is not None and self._joins_scope():
            scope.add(self)

    def _joins_scope(self) -> bool:
        return True

    @property
    def title(self) -> str:
        """What error texts call it."""
        return f"{self.word} {self.name!r}"

    @property
    def id(self) -> str:
        """Its name, which is unique in its scope."""
        return self.name

    @property
    def expr(self) -> str:
        """How expressions call it."""
        return f"{self.kind}['{self.name}']"

    def __repr__(self) -> str:
        return self.name

    # -- what it is given --------------------------------------------------------------------------------------------

    def set_parameters(self, parameters: Dict[str, Any]) -> None:
        """Give it input parameters; names and, where they are known, types are checked.

        Args:
            parameters: Name -> value.
        """
        declared = self.template.inputs.parameters
        for name, value in parameters.items():
            if name not in declared:
                raise self._unknown("input parameter", name, declared, self.template.inputs.artifacts)
            declaration = declared[name]
            if isinstance(value, ArgoVar):
                check_link(value, declaration, self, name)
            elif not self._is_sliced("input_parameter", name):
                check_constant(value, declaration, self, name)
            self.parameters[name] = value
        self._inputs = None

    def set_artifacts(self, artifacts: Dict[str, Any]) -> None:
        """Give it input artifacts; names are checked.

        Args:
            artifacts: Name -> artifact. None leaves it out; a template made of steps takes it as optional from then on.
        """
        declared = self.template.inputs.artifacts
        for name, value in artifacts.items():
            if name not in declared:
                raise self._unknown("input artifact", name, declared, self.template.inputs.parameters)
            if isinstance(value, ArgoVar) and not hasattr(value, "branches"):
                raise ModelError(
                    f"{self.title} gives the parameter {value} to its input artifact {name!r}{at(self.where)}. Give "
                    "an artifact, or declare a Parameter."
                )
            if value is None and self.template.super_op:
                declared[name].optional = True
            self.artifacts[name] = value
        self._inputs = None

    def _unknown(self, what: str, name: str, declared: Any, other: Any) -> UnknownName:
        hint = close(str(name), declared)
        if name in other:
            hint = "; {!r} is declared, but {}".format(name, "as an artifact" if "param" in what else "as a parameter")
        return UnknownName(
            f"{self.title} gives the {what} {name!r}{at(self.where)}; {self.template.title} declares "
            f"{listed(declared)}{hint}."
        )

    def _check_loop(self) -> None:
        if self.with_param is not None and self.with_sequence is not None:
            raise ModelError(
                f"{self.title} was given with_param and with_sequence{at(self.where)}; one of them makes the loop."
            )
        if self.with_sequence is not None and not isinstance(self.with_sequence, ArgoSequence):
            raise ModelError(
                f"{self.title} was given with_sequence={self.with_sequence!r}{at(self.where)}; it is "
                "argo_sequence(...). For a list use with_param."
            )
        if self.own_slices is not None:
            check_slices(self.own_slices, self.template, self.title)

    def _check_success(self) -> None:
        count, ratio = self.continue_on_num_success, self.continue_on_success_ratio
        if count is not None and ratio is not None:
            raise ModelError(
                f"{self.title} was given continue_on_num_success and continue_on_success_ratio{at(self.where)}; keep "
                "one of them."
            )
        if (count is not None or ratio is not None) and not self.is_loop:
            raise ModelError(
                f"{self.title} was given continue_on_num_success or continue_on_success_ratio{at(self.where)}, but it "
                "is no loop. Use continue_on_failed."
            )

    # -- what follows from it ----------------------------------------------------------------------------------------

    @property
    def slices(self) -> Any:
        """How its loop cuts and joins: its own, else its template's, else None."""
        return self.own_slices if self.own_slices is not None else getattr(self.template, "slices", None)

    @property
    def is_loop(self) -> bool:
        """Whether it runs once for each item of something."""
        return self.with_param is not None or self.with_sequence is not None or self.slices is not None

    @property
    def counts_success(self) -> bool:
        """Whether the successes of its loop are counted after it."""
        return self.continue_on_num_success is not None or self.continue_on_success_ratio is not None

    def stacks(self, output: str) -> bool:
        """Say whether the output parameter ``output`` is the stacked values of slices."""
        return self._is_sliced("output_parameter", output)

    def _is_sliced(self, group: str, name: str) -> bool:
        slices = self.slices
        return slices is not None and name in getattr(slices, group)

    @property
    def inputs(self) -> Inputs:
        """What it was given, as objects; change it by ``set_parameters`` and ``set_artifacts``."""
        if self._inputs is None:
            declared = self.template.inputs
            found = Inputs(step=self, template=self.template)
            for name, parameter in declared.parameters.items():
                value = {"value": self.parameters[name]} if name in self.parameters else _default(parameter)
                found.parameters[name] = InputParameter(type=parameter.type, **value)
            for name, artifact in declared.artifacts.items():
                found.artifacts[name] = InputArtifact(
                    type=artifact.type, optional=artifact.optional, source=self.artifacts.get(name)
                )
            self._inputs = found
        return self._inputs

    @property
    def outputs(self) -> Outputs:
        """References to what it will give."""
        if self._outputs is None:
            found = Outputs(step=self, template=self.template)
            declared = self.template.outputs
            found._parameters = _LateParameters(self, declared.parameters)
            found._artifacts = _LateArtifacts(self, declared.artifacts)
            self._outputs = found
        return self._outputs


def _default(parameter: Any) -> Dict[str, Any]:
    return {"value": parameter.value} if hasattr(parameter, "value") else {}


class _LateParameters(OutputParameters):
    """A step's output parameters; one that its template declares later is found when asked for."""

    def __init__(self, step: Any, declared: Any):
        super().__init__({name: _parameter_of(value) for name, value in declared.items()}, step=step)

    def __missing__(self, name: str) -> Any:
        declared = self.step.template.outputs.parameters
        if name not in declared:
            return super().__missing__(name)
        self[name] = _parameter_of(declared[name])
        return self[name]


class _LateArtifacts(OutputArtifacts):
    """A step's output artifacts; one that its template declares later is found when asked for."""

    def __init__(self, step: Any, declared: Any):
        super().__init__({name: _artifact_of(value) for name, value in declared.items()}, step=step)

    def __missing__(self, name: str) -> Any:
        declared = self.step.template.outputs.artifacts
        if name not in declared:
            return super().__missing__(name)
        self[name] = _artifact_of(declared[name])
        return self[name]


def _parameter_of(declaration: Any) -> OutputParameter:
    return OutputParameter(type=declaration.type)


def _artifact_of(declaration: Any) -> OutputArtifact:
    return OutputArtifact(type=declaration.type, archive=declaration.archive, optional=declaration.optional)


class HookStep(Step):
    """A step that runs when something happens to the step that it is given to.

    Args:
        template: What it runs.
        expression: expr-lang text over ``workflow.status`` or ``steps['name'].status`` that says when; the three
            hooks of ``Step`` have theirs.
        **kwargs: As for ``Step``, except ``name``.
    """

    def __init__(self, template: Any, expression: Optional[str] = None, **kwargs: Any):
        self.expression = expression
        super().__init__("hook", template, **kwargs)

    def _joins_scope(self) -> bool:
        return False


def _checked_template(template: Any, step: Step) -> OPTemplate:
    if isinstance(template, OPTemplate):
        return template
    hint = "Give PythonOPTemplate(...), ShellOPTemplate(...), a Steps or a DAG."
    if hasattr(template, "get_input_sign"):
        name = getattr(template, "__name__", type(template).__name__)
        hint = f"Wrap it: PythonOPTemplate({name})."
    raise ModelError(f"{step.title} was given template={template!r}{at(step.where)}. {hint}")


def flat(steps: Iterable[Any]) -> List[Step]:
    """Return the steps of a scope as one list, parallel groups resolved."""
    found: List[Step] = []
    for step in steps:
        found.extend(step) if isinstance(step, list) else found.append(step)
    return found
