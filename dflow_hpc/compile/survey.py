"""Look at a whole workflow before anything of it is written: its scopes, what each step really runs, its OPs.

A step runs its template as its executor, or the workflow's, rewrites it. A parameter of a Steps or DAG is *big* (a
file, not text) when something big is given to it, which may be known only after several levels. Where a loop
or a condition reads a big parameter, that one is carried as text too, from the leaf that gives it on.

Not here: anything about the manifest.

Trap: objects are told apart by ``id``, so everything surveyed is kept alive by the survey.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dflow_hpc.compile.leaves import SCRIPT_MARK
from dflow_hpc.errors import CompileError
from dflow_hpc.model.checks import at
from dflow_hpc.model.declared import InputParameter, ParameterRef, parameter_refs
from dflow_hpc.model.executor import MachineExecutor
from dflow_hpc.model.python_template import PythonOPTemplate
from dflow_hpc.model.refs import ArgoVar, IfExpression
from dflow_hpc.model.step import HookStep, Step
from dflow_hpc.model.templates import OPTemplate


class Survey:
    """What a workflow is made of.

    Args:
        workflow: The workflow.
    """

    def __init__(self, workflow: Any):
        self.context = workflow.context
        self.scopes: list[Any] = []
        self.op_templates: list[PythonOPTemplate] = []
        self._seen: dict[int, Any] = {}
        self._rendered: dict[tuple[Any, ...], tuple[Any, Any, OPTemplate]] = {}
        self._big: dict[int, Any] = {}
        self._read: dict[int, Any] = {}
        self.has_helpers = False
        self.machines: dict[str, MachineExecutor] = {}
        """Those on which steps are placed, by name."""
        self._visit(workflow.entrypoint)
        if workflow.on_exit is not None:
            self._visit(self.rendered(workflow.on_exit, None))
        self._spread_big()
        self._spread_read()

    def target(self, step: Step) -> OPTemplate:
        """Return the template that a step really runs."""
        return self.rendered(step.template, step)

    def rendered(self, template: Any, step: Step | None) -> OPTemplate:
        """Return a template as its step's executor, or the workflow's, rewrites it; the same object each time."""
        executor = None if step is None else step.executor
        if executor is None and not template.super_op:
            executor = self.context
        if executor is None:
            return template  # type: ignore[no-any-return]
        plain = type(executor) is MachineExecutor and executor.profile is None
        what: Any = tuple(executor.annotations().items()) if plain else id(executor)
        original, key = template, (id(template), what)
        if key not in self._rendered:
            if template.super_op:
                raise CompileError(
                    f"{step.title if step else 'the exit handler'} was given an executor"
                    f"{at(step.where if step else None)}, and its template {template.title} is made of steps. Give "
                    "the executor to the steps in it, or to all by Workflow(context=...)."
                )
            machine = executor.machine_for(template) if hasattr(executor, "machine_for") else executor
            if isinstance(machine, MachineExecutor):
                self.machines[machine.name] = machine
            elif isinstance(template, PythonOPTemplate):
                template = template.copy()
                template.script = SCRIPT_MARK  # executors of others wrap the script, which is written later
            new = executor.render(template)
            if not isinstance(new, OPTemplate):
                raise CompileError(
                    f"{type(executor).__name__}.render({template.title}) returned {new!r}; it returns a template."
                )
            self._rendered[key] = (original, executor, new)
        return self._rendered[key][2]

    def is_big(self, value: Any) -> bool:
        """Say whether a reference, or a declared parameter, is carried as a file."""
        if isinstance(value, IfExpression):
            return any(self.is_big(branch) for branch in value.branches)
        if not isinstance(value, ParameterRef):
            return False
        if value.step is not None:
            if isinstance(value, InputParameter):
                return self.is_big(getattr(value, "value", None))
            value = self.target(value.step).outputs.parameters[value.name]
        return value.save_as_artifact or id(value) in self._big

    def is_read(self, declared: Any) -> bool:
        """Say whether a declared parameter, though big, is carried as text too, because the workflow reads it."""
        return id(declared) in self._read

    def read_outputs(self, step: Step) -> frozenset[str]:
        """Return the big output parameters of a step that are carried as text too."""
        return frozenset(name for name, item in self.target(step).outputs.parameters.items() if self.is_read(item))

    def type_of(self, value: Any, seen: frozenset[int] = frozenset()) -> Any:
        """Return the type of what a parameter refers to, through all levels, or None where it is not known."""
        if isinstance(value, IfExpression):
            types = [self.type_of(branch, seen) for branch in value.branches]
            known = [one for one in types if one is not None]  # a branch that is this very output says nothing
            return known[0] if known and known[0] == known[-1] else None
        if not isinstance(value, ParameterRef):
            return None if value is None or isinstance(value, ArgoVar) else type(value)
        if value.step is not None:
            if value.step.is_loop or isinstance(value, InputParameter):
                return None  # a loop gives lists of it
            value = self.target(value.step).outputs.parameters[value.name]
        if value.type is not None or isinstance(value, InputParameter) or id(value) in seen:
            return value.type
        source = value.value_from_parameter if value.value_from_parameter is not None else value.value_from_expression
        return None if isinstance(source, str) else self.type_of(source, seen | {id(value)})

    def _visit(self, template: Any) -> None:
        queue = [template]
        while queue:
            current = queue.pop()
            if id(current) in self._seen:
                continue
            self._seen[id(current)] = current
            if isinstance(current, PythonOPTemplate):
                self.op_templates.append(current)
            elif current.super_op:
                self.scopes.append(current)
                self.has_helpers = self.has_helpers or any(
                    step.counts_success or step.slices is not None for step in current.all_steps()
                )
                queue.extend(reversed([self.target(step) for step in _with_hooks(current.all_steps())]))

    def _spread_big(self) -> None:
        changed = True
        while changed:
            before = len(self._big)
            for scope in self.scopes:
                for step in scope.all_steps():
                    declared = self.target(step).inputs.parameters if step.template.super_op else {}
                    for name, value in step.parameters.items():
                        if name in declared and self.is_big(value):
                            self._mark(declared[name])
                for output in scope.outputs.parameters.values():
                    if self.is_big(output.value_from_parameter) or self.is_big(output.value_from_expression):
                        self._mark(output)
            changed = len(self._big) > before

    def _spread_read(self) -> None:
        """Follow what the workflow itself reads to where it comes from, against the flow of the values."""
        queue: list[Any] = []
        users: dict[int, list[Step]] = {}
        for step in (step for scope in self.scopes for step in scope.all_steps()):
            users.setdefault(id(step.template), []).append(step)
            queue.extend(_reads(step))
        while queue:
            ref = queue.pop()
            if not self.is_big(ref):
                continue
            if ref.step is not None and isinstance(ref, InputParameter):
                queue.extend(parameter_refs(getattr(ref, "value", None)))
                continue
            declared = ref if ref.step is None else self.target(ref.step).outputs.parameters[ref.name]
            if id(declared) in self._read:
                continue
            self._read[id(declared)] = declared
            if isinstance(declared, InputParameter):
                for step in users.get(id(declared.template), []):
                    queue.extend(parameter_refs(step.parameters.get(str(declared.name))))
            else:
                queue.extend(parameter_refs([declared.value_from_parameter, declared.value_from_expression]))

    def _mark(self, declaration: Any) -> None:
        self._big[id(declaration)] = declaration


def _reads(step: Step) -> Iterable[ParameterRef]:
    """Yield the parameters that the engine must read to run a step, not only to hand them on."""
    yield from parameter_refs([step.when, step.with_param])
    if step.with_sequence is not None:
        yield from parameter_refs(step.with_sequence.values())
    if step.slices is not None and step.template.super_op:  # there the engine cuts the lists, not a leaf
        yield from parameter_refs([step.parameters.get(name) for name in step.slices.input_parameter])
    elif step.slices is not None and step.with_param is None and step.with_sequence is None:
        yield from parameter_refs([step.parameters.get(name) for name in step.slices.input_parameter[:1]])


def _with_hooks(steps: Iterable[Step]) -> Iterable[Step]:
    for step in steps:
        yield step
        for hook in step.hooks.values():
            if hook is not None:
                yield hook_step(hook)


def hook_step(hook: Any) -> Step:
    """Return the step that a hook is: a ``HookStep`` as it is, a template as one without arguments."""
    return hook if isinstance(hook, Step) else HookStep(hook)
