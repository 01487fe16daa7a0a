"""Validating Steps and DAG templates: names, references, loops, dependencies, and what each step may name."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any, Protocol

from dflow_hpc.expr.depends import Depends, invalid_results, parse_dependencies, parse_depends
from dflow_hpc.manifest.validate_names import (
    Problem,
    Scope,
    check_arguments,
    check_hooks,
    check_names,
    check_tags,
    is_tag,
    item_scope,
    name_fault,
    output_scope,
    tags_of,
)
from dflow_hpc.manifest.view import Json


class Checker(Protocol):
    """What steps and tasks ask of whoever knows the templates."""

    globals: Scope

    def check_holder(self, holder: Json, templates: Mapping[str, Json], arguments: Json | None) -> Json | None:
        """Check the template that a step or task names, and return it."""
        ...


def check_steps(checker: Checker, template: Json, templates: Mapping[str, Json], scope: Scope) -> None:
    """Raise the first problem of a Steps template; ``scope`` gets what its steps give."""
    name = template.get("name") or ""
    _check_no_deadline(template)
    seen: set[str] = set()
    for index, group in enumerate(template["steps"]):
        for step in group:
            where = f"templates.{name}.steps[{index}]"
            _check_step_name(step, where, seen)
            prefix, own = f"steps.{step['name']}", f"{where}.{step['name']}"
            scope[f"{prefix}.status"] = True
            _in(f"{own} ", lambda step=step: scope.update(item_scope(step)))
            arguments = step.get("arguments") or {}
            check_arguments(f"{own}.arguments.", arguments)
            found = _in(f"{own} ", lambda step=step: checker.check_holder(step, templates, None))
            gives = output_scope(
                found, prefix, bool(step.get("withItems") or step.get("withParam")), False, checker.globals
            )
            if step.get("onExit") or (step.get("hooks") or {}).get("exit"):
                scope.update(output_scope(found, prefix, False, False, checker.globals))
            check_hooks(step.get("hooks") or {}, own)
            check_tags(step, _with_inline(step, scope), checker.globals, f"templates.{name}.steps ")
            scope.update(gives)
            _in(f"{own} ", lambda step=step, args=arguments: checker.check_holder(step, templates, args))


def _check_step_name(step: Json, where: str, seen: set[str]) -> None:
    name = step.get("name") or ""
    if not name:
        raise Problem(f"{where}.name is required")
    if name in seen:
        raise Problem(f"{where}.name '{name}' is not unique")
    if fault := name_fault(name):
        raise Problem(f"{where}.name '{name}' is invalid: {fault}")
    seen.add(name)


def _in(where: str, check: Any) -> Any:
    """Do a check; its problem gets the place before it."""
    try:
        return check()
    except Problem as problem:
        raise Problem(f"{where}{problem}") from problem


def _with_inline(step: Json, scope: Scope) -> Scope:
    inputs = ((step.get("inline") or {}).get("inputs") or {}).get("parameters") or ()
    return {**scope, **{f"inputs.parameters.{p['name']}": True for p in inputs}} if inputs else scope


def _check_no_deadline(template: Json) -> None:
    if template.get("activeDeadlineSeconds") is not None:
        raise Problem(f"templates.{template.get('name')}.activeDeadlineSeconds is only valid for leaf templates")


class _Graph:
    """The tasks of a DAG and what they wait for."""

    def __init__(self, tasks: list[Json]) -> None:
        self.tasks: dict[str, Json] = {}
        for task in tasks:
            if (name := task.get("name") or "") in self.tasks:
                raise Problem(f"sorting failed: duplicated nodeName {name}")
            self.tasks[name] = task
        self.depends = {name: self._depends(task) for name, task in self.tasks.items()}

    def _depends(self, task: Json) -> Depends:
        def continue_on(name: str) -> tuple[bool, bool]:
            wanted = self.tasks.get(name, {}).get("continueOn") or {}
            return bool(wanted.get("error")), bool(wanted.get("failed"))

        if task.get("depends"):
            return parse_depends(task["depends"], continue_on)
        return parse_dependencies(task.get("dependencies") or (), continue_on)

    def ancestors(self, name: str) -> set[str]:
        """Return the tasks that must have ended before this one, directly or not."""
        found: set[str] = set()
        pending = [name]
        while pending:
            for need in self.depends[pending.pop()].tasks:
                if need not in found:
                    found.add(need)
                    pending.append(need)
        return found

    def sorted(self) -> list[Json]:
        """Return the tasks, each after those that it waits for: in this order Argo looks at them.

        Raises:
            Problem: A task waits for one that is not there, or for itself.
        """
        for name, depends in self.depends.items():
            for need in depends.tasks:
                if need not in self.tasks:
                    raise Problem(f"sorting failed: invalid dependency {need} (of task {name})")
        followers: dict[str, list[str]] = {name: [] for name in self.tasks}
        missing = {name: len(depends.tasks) for name, depends in self.depends.items()}
        for name, depends in self.depends.items():
            for need in depends.tasks:
                followers[need].append(name)
        order = [name for name, count in missing.items() if not count]
        for name in order:
            for follower in followers[name]:
                missing[follower] -= 1
                if not missing[follower]:
                    order.append(follower)
        if left := [name for name, count in missing.items() if count]:
            raise Problem(f"sorting failed: graph with cycle: {self._cycle(left[0], missing)}")
        return [self.tasks[name] for name in order]

    def _cycle(self, name: str, missing: Mapping[str, int]) -> str:
        """Return a cycle that a task waits for; ``missing`` counts for what each task still waits."""
        path: list[str] = []
        while name not in path:
            path.append(name)
            name = next(need for need in self.depends[name].tasks if missing[need])
        return "->".join([*path[path.index(name) :], name])


def check_dag(checker: Checker, template: Json, templates: Mapping[str, Json], scope: Scope) -> None:
    """Raise the first problem of a DAG template; ``scope`` gets what its tasks give."""
    name = template.get("name") or ""
    _check_no_deadline(template)
    tasks = template["dag"].get("tasks") or []
    if not tasks:
        raise Problem(f"templates.{name} must have at least one task")
    graph = _in(f"templates.{name} ", lambda: _Graph(tasks))
    tasks = _in(f"templates.{name} ", graph.sorted)
    check_names(tasks, f"templates.{name}.tasks", kind="field")
    uses_depends = any(task.get("depends") for task in tasks)
    found: dict[str, Json | None] = {}
    for task in tasks:
        where = f"templates.{name}.tasks.{task['name']}"
        _check_style(name, task, uses_depends)
        found[task["name"]] = _in(f"{where} ", lambda task=task: checker.check_holder(task, templates, None))
        prefix, loops = f"tasks.{task['name']}", bool(task.get("withItems") or task.get("withParam"))
        scope.update(output_scope(found[task["name"]], prefix, loops, False, checker.globals))
        _check_dependencies(graph, task, where)
    target = template["dag"].get("target") or ""
    check_tags(target, scope, checker.globals, f"templates.{name}.targets ")
    for wanted in target.split(" ") if target else ():
        if not is_tag(wanted) and wanted not in graph.tasks:
            raise Problem(f"templates.{name}.targets: target '{wanted}' is not defined")
    for task in tasks:
        _check_task(checker, task, templates, scope, graph, name)


def _check_style(name: str, task: Json, uses_depends: bool) -> None:
    if (uses_depends or task.get("dependencies")) and task["name"][0].isdecimal():
        raise Problem(
            f"templates.{name}.tasks.{task['name']} name cannot begin with a digit when using either 'depends' or "
            "'dependencies'"
        )
    if uses_depends and task.get("dependencies"):
        raise Problem(f"templates.{name} cannot use both 'depends' and 'dependencies' in the same DAG template")
    if uses_depends and task.get("continueOn") is not None:
        raise Problem(
            f"templates.{name} cannot use 'continueOn' when using 'depends'. Instead use "
            "'dep-task.Failed'/'dep-task.Errored'"
        )


def _check_dependencies(graph: _Graph, task: Json, where: str) -> None:
    for wanted, result in invalid_results(task.get("depends") or ""):
        raise Problem(f"{where} task result '{result}' for task '{wanted}' is invalid")
    depends = graph.depends[task["name"]]
    for need in depends.tasks:
        other = graph.tasks[need]
        if need in depends.of_items and not any(other.get(k) for k in ("withItems", "withParam", "withSequence")):
            raise Problem(
                f"{where} dependency '{need}' uses an items-based condition such as .AnySucceeded or .AllFailed but "
                "does not contain any items"
            )


def _check_task(
    checker: Checker, task: Json, templates: Mapping[str, Json], scope: Scope, graph: _Graph, name: str
) -> None:
    where = f"templates.{name}.tasks.{task['name']}"
    arguments = task.get("arguments") or {}
    if task.get("hooks") is not None:
        scope[f"tasks.{task['name']}.status"] = True
    ancestors = (
        graph.ancestors(task["name"]) if any(tag.strip().startswith("tasks.") for tag in tags_of(task)) else set()
    )
    own = {f"tasks.{other}.status": True for other in ancestors}
    own.update(_in(f"{where} ", lambda: item_scope(task)))
    check_tags(task, ChainMap(own, _with_inline(task, scope)), checker.globals, f"{where} ")
    check_arguments(f"{where}.arguments.", arguments)
    for side, key in (("parameters", "value"), ("artifacts", "from")):
        for argument in arguments.get(side) or ():
            value = argument.get(key)
            if isinstance(value, str) and value.startswith("{{tasks.") and value.split(".")[1] not in ancestors:
                raise Problem(
                    f"{where} missing dependency '{value.split('.')[1]}' for {side[:-1]} '{argument['name']}'"
                )
    _in(f"{where} ", lambda: checker.check_holder(task, templates, arguments))
