"""Steps and DAGs as plain data: their members in order, what depends on what, what they give.

In a DAG, a member depends on those whose outputs it uses and on those that its author names. ``a.Succeeded`` is asked
of each; also ``Skipped`` of a loop that may be empty, ``Failed`` and ``Errored`` where ``continue_on_*`` says so. Argo
has ``continueOn`` only in a DAG without ``depends``; where the last task of a branch needs it, the whole DAG is written
with ``dependencies``, which also count a skipped task as done.

Not here: leaves (``leaves.py``), arguments (``arguments.py``), loops (``loops.py``).

Trap: a scope may contain itself. Its name is therefore settled before its members are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dflow_hpc.compile import helpers, nested
from dflow_hpc.compile.arguments import Given, artifact_source, given
from dflow_hpc.compile.leaves import Variant, input_parameter, memoize, without_empty
from dflow_hpc.compile.loops import Loop, init_key, number_text, plan
from dflow_hpc.compile.nested import SLICE, Joined
from dflow_hpc.compile.outputs import OutputWriter
from dflow_hpc.compile.survey import hook_step
from dflow_hpc.compile.texts import group_key, parameter_text, references
from dflow_hpc.errors import CompileError
from dflow_hpc.model.checks import at, close, listed
from dflow_hpc.model.dag import DAG
from dflow_hpc.model.declared import BIG, INIT_SUFFIX, OutputParameter, artifact_refs, parameter_refs
from dflow_hpc.model.refs import TEXT, ArgoVar
from dflow_hpc.model.reuse import GROUP
from dflow_hpc.model.step import Step

if TYPE_CHECKING:
    from dflow_hpc.compile.compiler import Compiler

_TASK = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")
_RESULT = re.compile(r"\.(Succeeded|Failed|Errored|Skipped|Omitted|Daemoned|AnySucceeded|AllFailed)\b")
_SHARED = (SLICE, "dflow_artifact_key")
"""What tells a leaf of a sliced scope where its joined artifacts go."""
_HOOK_STATUS = {"success": "Succeeded", "running": "Running", "failure": "Failed"}


@dataclass
class Member:
    """One entry of a scope: an author's step, or a helper step beside it."""

    step: Step
    fields: dict[str, Any]
    role: str = "main"
    """``init``, ``main``, ``check`` or ``join``."""
    number: int = 0
    """Its place among the members of its scope."""

    @property
    def name(self) -> str:
        """Its name in the scope."""
        return str(self.fields["name"])


class ScopeWriter:
    """Writes one scope.

    Args:
        compiler: Gives the names of templates.
        scope: The Steps or DAG.
        keyed: Whether it takes a key.
        joined: What it gives as one of several slices.
    """

    def __init__(self, compiler: Compiler, scope: Any, keyed: bool, joined: Joined):
        self.compiler, self.survey = compiler, compiler.survey
        self.scope, self.keyed, self.joined = scope, keyed, joined
        self.leavers, self.left_by_helpers = nested.leavers(scope, joined)
        self.names: dict[str, Member] = {}
        self._joined_by: list[tuple[str, Any, str]] = []
        self._parallel = [limit for limit in [scope.parallelism] if limit is not None]

    def write(self) -> dict[str, Any]:
        """Return the scope's template without its name."""
        body = self._dag() if isinstance(self.scope, DAG) else self._steps()
        result: dict[str, Any] = {
            "inputs": self._inputs(),
            **body,
            "outputs": OutputWriter(self.scope, self.survey, self.joined, self._joined_by, self._check_all).write(),
        }
        if self.scope.annotations:
            result["metadata"] = {"annotations": self.scope.annotations}
        if self._parallel:
            result["parallelism"] = min(self._parallel)
        result.update(memoize(self.scope))
        return {key: value for key, value in result.items() if value or key in ("steps", "dag")}

    def _inputs(self) -> dict[str, Any]:
        extra = (["dflow_key"] if self.keyed else []) + self.joined.inputs
        parameters: list[dict[str, Any]] = [{"name": name} for name in extra]
        artifacts: list[dict[str, Any]] = []
        for name, parameter in self.scope.inputs.parameters.items():
            if self.survey.is_big(parameter):
                big: dict[str, Any] = {"name": BIG + name}
                if hasattr(parameter, "value"):
                    big["raw"] = {"data": parameter_text(parameter.value, parameter.type)}
                artifacts.append(big)
            if not self.survey.is_big(parameter) or self.survey.is_read(parameter):
                parameters.append(input_parameter(name, parameter))
        for name, artifact in self.scope.inputs.artifacts.items():
            artifacts.append({"name": name, **({"optional": True} if artifact.optional else {})})
        return without_empty({"parameters": parameters, "artifacts": artifacts})

    # -- members -----------------------------------------------------------------------------------------------------

    def _members(self, step: Step) -> tuple[Member | None, Member, Member | None]:
        """Return what a step becomes: the helper before it, itself, the helper after it."""
        self._check_owners(step)
        if step.parallelism is not None:
            self._parallel.append(step.parallelism)
        sliced_scope = step.template.super_op and step.slices is not None
        loop = nested.plan(step) if sliced_scope else plan(step)
        arguments = given(step, self.survey)
        keyed = step.key is not None
        if sliced_scope:
            nested.cut(step, arguments)
        init = self._init(step, loop, arguments) if loop.needs_init else None
        main = self._main(step, loop, arguments, keyed)
        check = self._check(step, loop) if step.counts_success else None
        for member in (init, main, check):
            if member is not None:
                self._enter(member)
        return init, main, check

    def _enter(self, member: Member) -> None:
        other = self.names.get(member.name)
        if other is not None:
            raise CompileError(
                f"{self.scope.title} gets two members named {member.name!r}: one of {other.step.title}"
                f"{at(other.step.where)}, one of {member.step.title}{at(member.step.where)}. Rename one."
            )
        member.number = len(self.names)
        self.names[member.name] = member

    def _main(self, step: Step, loop: Loop, arguments: Given, keyed: bool) -> Member:
        if loop.ordered:
            for parameter in arguments.parameters:
                parameter["value"] = loop.item(parameter["value"])
        if loop.sub_path:
            self._cut_sub_paths(step, loop, arguments)
        arguments.parameters += loop.parameters
        further = [item["name"] for item in loop.parameters]
        if keyed and loop.outputs:
            further.append(GROUP)
            arguments.parameters.append({"name": GROUP, "value": init_key(str(step.key))})
        shared = tuple(self.leavers.get(id(step), ()))
        if shared:
            further += _SHARED
            arguments.parameters += _handed_on(_SHARED)
        if keyed:
            arguments.parameters.append({"name": "dflow_key", "value": loop.item(str(step.key))})
        variant = Variant(
            parameters=tuple(["dflow_key", *further] if keyed else further),
            big=frozenset(arguments.big),
            read=self.survey.read_outputs(step),
            left_out=frozenset(arguments.left_out),
            parts=tuple(arguments.parts),
            prefix=tuple(arguments.prefix),
            slices=step.slices,
            expression=loop.expression,
            success_tag=step.counts_success,
            shared=shared,
            create_dir=bool(shared) and self.joined.create_dir,
        )
        fields: dict[str, Any] = {"name": step.name, "template": self.compiler.template_of(step, variant)}
        if arguments.arguments():
            fields["arguments"] = arguments.arguments()
        if step.when is not None:
            fields["when"] = loop.item(when_text(step))
        fields.update(loop.fields)
        lenient = self._continue_on(step)
        if lenient:
            fields["continueOn"] = lenient
        hooks = self._hooks(step)
        if hooks:
            fields["hooks"] = hooks
        return Member(step, fields)

    @staticmethod
    def _continue_on(step: Step) -> dict[str, bool]:
        chosen = {"failed": step.continue_on_failed or step.counts_success, "error": step.continue_on_error}
        return {name: True for name, value in chosen.items() if value}

    @staticmethod
    def _cut_sub_paths(step: Step, loop: Loop, arguments: Given) -> None:
        found = {item["name"]: item for item in arguments.artifacts}
        for name in loop.counted:
            item = found.get(name, {})
            if not ("from" in item or "s3" in item):
                raise CompileError(
                    f"{step.title} takes parts of its input artifact {name!r} by sub_path{at(step.where)}, which is "
                    "given as a text, a list or a dict. Give one uploaded artifact or one output."
                )
            part = "{{item." + name + "}}"
            if "s3" in item:
                item["s3"] = {"key": f"{item['s3']['key']}/{part}"}
            else:
                item["subPath"] = f"{item['subPath']}/{part}" if "subPath" in item else part

    def _init(self, step: Step, loop: Loop, arguments: Given) -> Member:
        found = {item["name"]: item for item in arguments.artifacts}
        missing = [name for name in loop.counted if name not in found]
        if missing:
            raise CompileError(
                f"{step.title} loops over its input artifacts {listed(missing)}{at(step.where)}, which are given in "
                "parts or not at all, so their length is not known. Give with_param=argo_range(n)."
            )
        keyed = step.key is not None
        template = helpers.init_template(step, loop, keyed, self.compiler.code)
        fields: dict[str, Any] = {
            "name": step.name + INIT_SUFFIX,
            "template": self.compiler.named("init-artifact", template, hashed=True),
        }
        given_here = Given(artifacts=[dict(found[name]) for name in loop.counted])
        if step.key is not None:
            given_here.parameters.append({"name": "dflow_key", "value": init_key(step.key)})
        return self._helper(step, fields, given_here, "init")

    def _check(self, step: Step, loop: Loop) -> Member:
        by_count = step.continue_on_num_success is not None
        template = helpers.check_template(step, step.key is not None, self.compiler.code)
        suffix = "-check-num-success" if by_count else "-check-success-ratio"
        threshold = step.continue_on_num_success if by_count else step.continue_on_success_ratio
        tags = OutputParameter(name="dflow_success_tag", step=step)
        values: dict[str, str] = {"success": str(tags), "threshold": parameter_text(threshold, float)}
        if not by_count:
            values["total"] = number_text(loop.total)
        if step.key is not None:
            values["dflow_key"] = group_key(step.key) + suffix
        fields = {"name": step.name + suffix, "template": self.compiler.named(suffix[1:], template, hashed=True)}
        arguments = Given(parameters=[{"name": name, "value": value} for name, value in values.items()])
        return self._helper(step, fields, arguments, "check")

    def _joins(self) -> list[Member]:
        """Return the helpers that leave the joined artifacts which no step leaves itself."""
        members = []
        for name, origin, shared in self.left_by_helpers:
            step, artifact = origin.step, self.scope.outputs.artifacts[name]
            template = helpers.join_template(
                step, shared, artifact.optional, self.joined.create_dir, self.compiler.code
            )
            source = {"name": helpers.JOINED, **artifact_source(origin, step, name)}
            if artifact.optional:
                source["optional"] = True
            fields = {
                "name": f"{step.name}-join-" + re.sub(r"[^-a-zA-Z0-9]", "-", name),
                "template": self.compiler.named("join-slice", template, hashed=True),
            }
            self._joined_by.append((name, origin, fields["name"]))
            arguments = Given(parameters=_handed_on(_SHARED), artifacts=[source])
            members.append(self._helper(step, fields, arguments, "join"))
            self._enter(members[-1])
        return members

    @staticmethod
    def _helper(step: Step, fields: dict[str, Any], arguments: Given, role: str) -> Member:
        if arguments.arguments():
            fields["arguments"] = arguments.arguments()
        if step.when is not None and "item" not in when_text(step):
            fields["when"] = when_text(step)
        return Member(step, fields, role)

    def _hooks(self, step: Step) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event, hook in step.hooks.items():
            if hook is None:
                continue
            run = hook_step(hook)
            arguments = given(run, self.survey)
            variant = Variant(big=frozenset(arguments.big), left_out=frozenset(arguments.left_out))
            expression = getattr(run, "expression", None) or f"{step.expr}.status == '{_HOOK_STATUS[event]}'"
            found[event] = {
                "template": self.compiler.template_of(run, variant),
                "expression": expression,
                **({"arguments": arguments.arguments()} if arguments.arguments() else {}),
            }
        return found

    # -- what may be referred to ---------------------------------------------------------------------------------------

    def _check_owners(self, step: Step) -> None:
        values = [step.parameters, step.when, step.with_param]
        values += step.with_sequence.values() if step.with_sequence is not None else []
        owner = step.title + at(step.where)
        for value in values:
            self._check_all(parameter_refs(value), owner)
        self._check_all(artifact_refs(step.artifacts), owner)

    def _check_all(self, references: Iterable[Any], owner: str) -> None:
        for reference in references:
            self._check_owner(reference, owner)

    def _check_owner(self, reference: Any, owner: str) -> None:
        if reference.step is not None:
            if self.scope.names().get(reference.step.name) is not reference.step:
                raise CompileError(
                    f"{owner} uses {reference}, an output of {reference.step.title}{at(reference.step.where)}, which "
                    f"is not part of {self.scope.title}. Add that step to it, or pass the value through its inputs or "
                    "outputs."
                )
            if reference.group == "artifacts" and reference.step.is_loop and reference.holder() == reference.step.name:
                raise CompileError(
                    f"{owner} uses {reference}, an artifact of {reference.step.title}{at(reference.step.where)}, which "
                    "is a loop: each of its items gives one, and nothing joins them. Name it in "
                    f"Slices(output_artifact=[{reference.name!r}])."
                )
        elif getattr(self.scope.inputs, reference.group).get(reference.name) is not reference:
            home = getattr(reference.template, "title", "no template")
            raise CompileError(
                f"{owner} uses {reference}, an input of {home}, in {self.scope.title}, whose input {reference.group} "
                f"are {listed(getattr(self.scope.inputs, reference.group))}. Declare it there and pass the value."
            )

    def _referred(self, member: Member) -> set[str]:
        """Return the members that one refers to; names that do not exist here are refused."""
        document = {key: value for key, value in member.fields.items() if key not in ("template", "hooks", "name")}
        members, inputs = references(document)
        owner = member.step.title + at(member.step.where)
        own_kind = member.step.kind
        for kind, name in members:
            if kind != own_kind or name not in self.names:
                raise CompileError(
                    f"{owner} uses {kind}.{name}; {self.scope.title} has the {own_kind} {listed(self.names)}"
                    f"{close(name, self.names)}. Use an earlier step of the same scope."
                )
        for group, name in inputs:
            declared = getattr(self.scope.inputs, group)
            plain = name[len(BIG) :] if name.startswith(BIG) else name
            own = ("dflow_key", *self.joined.inputs)
            if name not in declared and plain not in self.scope.inputs.parameters and name not in own:
                raise CompileError(
                    f"{owner} uses inputs.{group}.{name}; {self.scope.title} declares {listed(declared)}"
                    f"{close(name, declared)}. Declare it in its Inputs."
                )
        return {name for _, name in members}

    # -- Steps -------------------------------------------------------------------------------------------------------

    def _steps(self) -> dict[str, Any]:
        groups: list[list[Member]] = []
        for entry in self.scope.steps:
            three = [self._members(step) for step in (entry if isinstance(entry, list) else [entry])]
            for column in zip(*three, strict=True):
                group = [member for member in column if member is not None]
                if group:
                    groups.append(group)
        joins = self._joins()
        if joins:
            groups.append(joins)
        place = {member.name: number for number, group in enumerate(groups) for member in group}
        for number, group in enumerate(groups):
            for member in group:
                for name in self._referred(member):
                    if place[name] >= number:
                        raise CompileError(_too_late(member, name, self.scope.title))
        return {"steps": [[member.fields for member in group] for group in groups]}

    # -- DAG ---------------------------------------------------------------------------------------------------------

    def _dag(self) -> dict[str, Any]:
        if not self.scope.tasks:
            raise CompileError(f"{self.scope.title} has no tasks; Argo needs one. Add a Task.")
        ordered = [member for task in self.scope.tasks for member in self._members(task) if member is not None]
        ordered += self._joins()
        needs = {member.name: self._needs(member) for member in ordered}
        _refuse_cycle({name: {*tasks, *_names_in(texts)} for name, (tasks, texts) in needs.items()}, self.names)
        used = {name for tasks, texts in needs.values() for name in [*tasks, *_names_in(texts)]}
        lenient_ends = [member for member in ordered if "continueOn" in member.fields and member.name not in used]
        texts_given = any(texts for _, texts in needs.values())
        if lenient_ends and texts_given:
            task = lenient_ends[0].step
            raise CompileError(
                f"{task.title} is to be left failed (continue_on_failed, continue_on_error){at(task.where)}, nothing "
                f"depends on it, and {self.scope.title} has dependencies given as texts; Argo cannot have both. Give "
                "the dependencies as tasks."
            )
        for member in ordered:
            tasks, texts = needs[member.name]
            if lenient_ends:
                if tasks:
                    member.fields["dependencies"] = list(tasks)
                continue
            member.fields.pop("continueOn", None)
            clauses = [f"({self._clause(member, self.names[name])})" for name in tasks] + [
                f"({text})" for text in texts
            ]
            if clauses:
                member.fields["depends"] = " && ".join(clauses)
        return {"dag": {"tasks": [member.fields for member in ordered]}}

    def _needs(self, member: Member) -> tuple[list[str], list[str]]:
        """Return what a member waits for: names of members, and texts of its author's."""
        needed: dict[str, None] = {}
        for other in sorted((self.names[name] for name in self._referred(member)), key=lambda one: one.number):
            if other.step is member.step and member.role != "join":
                needed[other.name] = None
            else:
                needed[self._end_of(other.step)] = None
        own = [name for name, other in self._of(member.step) if name != member.name and other.role != "check"]
        if member.role == "main":
            needed.update(dict.fromkeys(own))
        if member.role == "check":
            needed[member.step.name] = None
        texts = []
        for dependency in [] if member.role in ("check", "join") else member.step.dependencies:  # type: ignore[attr-defined]
            if isinstance(dependency, str):
                texts.append(self._checked_text(dependency, member))
                continue
            if self.scope.names().get(dependency.name) is not dependency:
                raise CompileError(
                    f"{member.step.title} depends on {dependency.title}{at(member.step.where)}, which is not part of "
                    f"{self.scope.title}. Add it, or leave the dependency out."
                )
            needed[self._end_of(dependency)] = None
        mentioned = _names_in(texts)
        return [name for name in needed if name not in mentioned], texts

    def _of(self, step: Step) -> Iterator[tuple[str, Member]]:
        suffixes = ("", INIT_SUFFIX, "-check-num-success", "-check-success-ratio")
        for name in (step.name + suffix for suffix in suffixes):
            member = self.names.get(name)
            if member is not None and member.step is step:
                yield name, member

    def _end_of(self, step: Step) -> str:
        """Return the member with which a step has ended: the check of its successes, or itself."""
        return next((name for name, member in self._of(step) if member.role == "check"), step.name)

    def _checked_text(self, text: str, member: Member) -> str:
        for name in _names_in([text]):
            if name not in self.names:
                raise CompileError(
                    f"{member.step.title} depends on {text!r}{at(member.step.where)}; {self.scope.title} has the "
                    f"tasks {listed(self.names)}{close(name, self.names)}."
                )
        return text

    @staticmethod
    def _clause(member: Member, needed: Member) -> str:
        name, step = needed.name, needed.step
        results = ["Succeeded"]
        own = needed.step is member.step
        if own and step.when is not None:
            results.append("Skipped")  # then this member's own condition skips it too
        elif needed.role == "main" and step.is_loop and step.when is None:
            results.append("Skipped")  # a loop without items
        if needed.role == "main" and (step.continue_on_failed or step.counts_success):
            results.append("Failed")
        if needed.role == "main" and (step.continue_on_error or (own and step.counts_success)):
            results.append("Errored")
        return " || ".join(f"{name}.{result}" for result in results)


def _handed_on(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"name": name, "value": "{{inputs.parameters." + name + "}}"} for name in names]


def when_text(step: Step) -> str:
    """Return a step's condition as Argo's ``when``."""
    value = step.when
    if isinstance(value, ArgoVar):
        return str(value) if value.kind != TEXT or not isinstance(value, OutputParameter) else f"{value} == true"
    return "true" if value is True else "false" if value is False else str(value)


def _too_late(member: Member, name: str, scope: str) -> str:
    itself = "itself" if name == member.name else f"{name!r}, which does not run before it"
    return (
        f"{member.step.title} uses an output of {itself}{at(member.step.where)} in {scope}. Use a step that was added "
        "before it, not in the same parallel group."
    )


def _names_in(texts: list[str]) -> list[str]:
    return [name for text in texts for name in _TASK.findall(_RESULT.sub(" ", text))]


def _refuse_cycle(needs: dict[str, set[str]], members: dict[str, Member]) -> None:
    """Raise when members wait for each other, naming them in order."""
    done: set[str] = set()
    for start in needs:
        path: dict[str, Iterator[str]] = {}
        stack = [start]
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            if name not in path:
                path[name] = iter(sorted(needs.get(name, ())))
            following = next((other for other in path[name] if other not in done), None)
            if following is None:
                done.add(name)
                del path[name]
                stack.pop()
            elif following in path:
                order = list(path)
                circle = [*order[order.index(following) :], following]
                place = members[following].step
                raise CompileError(
                    f"tasks depend on each other in a circle: {' -> '.join(circle)}{at(place.where)}. Take one of "
                    "these dependencies away."
                )
            else:
                stack.append(following)
