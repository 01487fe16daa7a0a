"""What a tag or an expression can name, and where: variables of steps and tasks, of loops as a whole, of the workflow.

Argo rebuilds a flat map of everything for each step. Here the maps stay where they are and are looked through in order
(``Vars``), so that a step costs what it names, not what has run before it.

Not here: the substitution itself (``dflow_hpc.expr.tags``). Trap: texts and artifacts are apart, because a tag may
insert a text only, while ``from`` wants an artifact; an expression sees both.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.engines.local.interpret.tree import NodeTree
from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import functions, gojson, gotime, lang
from dflow_hpc.expr.tags import TagTemplate, nest
from dflow_hpc.manifest.view import Json, Node, text_of

LOCATIONS = ("s3", "raw", "http", "git", "gcs", "oss", "azure", "hdfs", "artifactory", "plugin")
"""Fields of an artifact that say where it is."""


class Vars(Mapping[str, Any]):
    """Several maps looked through in order, the first that knows a name wins."""

    __slots__ = ("maps",)

    def __init__(self, *maps: Mapping[str, Any]) -> None:
        self.maps = maps

    def get(self, name: str, default: Any = None) -> Any:
        """Return what the name stands for."""
        for part in self.maps:
            value = part.get(name)
            if value is not None:
                return value
        return default

    def __getitem__(self, name: str) -> Any:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for part in self.maps for name in part))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Functions:
    """The functions of expressions in one run. What they draw depends on the run and the node, not on chance.

    Args:
        uid: The run's.
        clock: Gives the time in seconds since the epoch.
    """

    def __init__(self, uid: str, clock: Callable[[], float]) -> None:
        self._uid = uid
        self._random = random.Random(uid)  # noqa: S311  not for secrets
        self._now = lambda: gotime.from_unix(clock())

    def seeded(self, node: str) -> Mapping[str, Any]:
        """Return them as the node with this name gets them."""
        self._random.seed(f"{self._uid} {node}")
        return self._all

    @cached_property
    def _all(self) -> Mapping[str, Any]:
        return functions.functions(self._random, self._now)


@dataclass(slots=True)
class Known:
    """What tags and expressions in one place may name."""

    texts: Mapping[str, Any]
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    functions: Callable[[], Mapping[str, Any]] = dict
    """Gives the functions of expressions."""

    def over(self, texts: Mapping[str, Any], artifacts: Mapping[str, Any] | None = None) -> Known:
        """Return what is known when these come first."""
        below = self.artifacts if artifacts is None else Vars(artifacts, self.artifacts)
        return Known(Vars(texts, self.texts), below, self.functions)

    def render(self, tags: TagTemplate, strict: bool = False) -> Any:
        """Return an object with the tags replaced that are known.

        Raises:
            TemplateError: One is not and ``strict`` is true, or a value cannot stand in a manifest.
        """
        try:
            return tags.render(self.texts, strict=strict, environment=self._environment)
        except ExpressionError as error:
            raise TemplateError(str(error)) from error

    def substitute(self, value: Any, strict: bool = False) -> Any:
        """Find the tags of plain data and replace them, see ``render``."""
        try:
            tags = TagTemplate.parse(value)
        except ExpressionError as error:
            raise TemplateError(str(error)) from error
        return self.render(tags, strict)

    def _environment(self) -> Mapping[str, Any]:
        return {**nest(self.texts), **self.functions()}

    def variables(self) -> dict[str, Any]:
        """Return the nested variables of a bare expression, artifacts included."""
        return {**nest(Vars(self.texts, self.artifacts)), **self.functions()}

    def value(self, reference: str) -> Any:
        """Return what a ``{{name}}`` or ``{{=expression}}`` (braces may be missing) stands for.

        Raises:
            TemplateError: It stands for nothing that is known.
        """
        tag = reference.removeprefix("{{").removesuffix("}}").strip()
        if not tag.startswith("="):
            found = self.artifacts.get(tag)
            if found is None:
                found = self.texts.get(tag)
        else:
            try:
                found = lang.evaluate(tag[1:], self.variables())
            except ExpressionError as error:
                raise TemplateError(f'Invalid expression: "{tag[1:]}"') from error
        if found is None:
            raise TemplateError(f'Unable to resolve: "{tag}"')
        return found

    def evaluate(self, expression: str) -> Any:
        """Return the value of a bare expression.

        Raises:
            TemplateError: It cannot be evaluated.
        """
        try:
            return lang.evaluate(expression, self.variables())
        except ExpressionError as error:
            raise TemplateError(str(error)) from error

    def condition(self, expression: str) -> bool:
        """Return whether a bare expression holds.

        Raises:
            TemplateError: It cannot be evaluated, or is no boolean.
        """
        try:
            return lang.evaluate_bool(expression, self.variables())
        except ExpressionError as error:
            raise TemplateError(str(error)) from error

    def artifact(self, argument: Json) -> Json:
        """Return the artifact that ``from`` or ``fromExpression`` of an argument or output names, under its new name.

        Raises:
            TemplateError: It cannot be resolved, or is none.
        """
        found = (
            self.evaluate(argument["fromExpression"])
            if argument.get("fromExpression")
            else self.value(argument.get("from") or "")
        )
        if not isinstance(found, dict):
            raise TemplateError(
                f"Variable {{{{{argument.get('from') or argument.get('fromExpression')}}}}} is not an artifact"
            )
        made = {**found, "name": argument["name"]}
        if argument.get("subPath"):
            made = _below(made, self.substitute(argument["subPath"]))
        return made


def _below(artifact: Json, sub_path: str) -> Json:
    for location in LOCATIONS:
        if isinstance(artifact.get(location), dict) and artifact[location].get("key"):
            key = f"{artifact[location]['key'].rstrip('/')}/{sub_path.strip('/')}"
            return {**artifact, location: {**artifact[location], "key": key}}
    if artifact.get("optional"):
        return artifact
    raise TemplateError(f"artifact {artifact['name']} has no key that a subPath could be appended to")


def has_location(artifact: Json) -> bool:
    """Say whether an artifact says where it is."""
    return any(artifact.get(location) is not None for location in LOCATIONS)


def last_attempt(node: Node, tree: NodeTree) -> Node:
    """Return the node whose outputs count: the last attempt of a Retry node, else the node itself."""
    if node["type"] == "Retry" and not (node.get("memoizationStatus") or {}).get("hit"):
        for child in reversed(node.get("children") or ()):
            attempt = tree.nodes[child]
            if not (attempt.get("nodeFlag") or {}).get("hooked"):
                return attempt
    return node


def add_outputs(texts: dict[str, Any], artifacts: dict[str, Any], prefix: str, outputs: Json | None) -> None:
    """Add the variables ``<prefix>.outputs...`` and ``<prefix>.exitCode``."""
    if not outputs:
        return
    if "result" in outputs:
        texts[f"{prefix}.outputs.result"] = outputs["result"]
    if "exitCode" in outputs:
        texts[f"{prefix}.exitCode"] = outputs["exitCode"]
    for parameter in outputs.get("parameters") or ():
        if parameter.get("value") is not None:
            texts[f"{prefix}.outputs.parameters.{parameter['name']}"] = text_of(parameter["value"])
    for artifact in outputs.get("artifacts") or ():
        artifacts[f"{prefix}.outputs.artifacts.{artifact['name']}"] = artifact


def add_node(texts: dict[str, Any], artifacts: dict[str, Any], prefix: str, node: Node, tree: NodeTree) -> None:
    """Add the variables of one step or task that has ended."""
    node = last_attempt(node, tree)
    texts[f"{prefix}.id"] = node["id"]
    texts[f"{prefix}.status"] = node["phase"]
    for key in ("startedAt", "finishedAt"):
        if node.get(key):
            texts[f"{prefix}.{key}"] = node[key]
    add_outputs(texts, artifacts, prefix, node.get("outputs"))


def add_loop(texts: dict[str, Any], prefix: str, members: Iterable[Node]) -> None:
    """Add what a loop as a whole gives: lists of what its succeeded members gave, in the order of their index.

    Raises:
        TemplateError: A result that was captured is not JSON.
    """
    results: list[str] = []
    rows: list[dict[str, str]] = []
    columns: dict[str, list[str]] = {}
    for node in members:
        outputs = node.get("outputs")
        if not outputs or node["phase"] != "Succeeded":
            continue
        row = {p["name"]: text_of(p.get("value")) for p in outputs.get("parameters") or ()}
        if row:
            rows.append(row)
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
        if "result" in outputs:
            results.append(compact_text(outputs["result"]))
    texts[f"{prefix}.outputs.result"] = f"[{','.join(results)}]"
    texts[f"{prefix}.outputs.parameters"] = gojson.dumps(rows)
    for name, values in columns.items():
        texts[f"{prefix}.outputs.parameters.{name}"] = _column(values)


def _column(values: list[str]) -> str:
    """Return a JSON list of values: as JSON where all are objects or lists, else as texts."""
    found: list[Any] = []
    for value in values:
        try:
            item = gojson.loads(value) if value.lstrip()[:1] in ("{", "[") else None
        except ExpressionError:
            item = None
        if item is None:
            return gojson.dumps(values)
        found.append(item)
    return gojson.dumps(found)


def compact_text(text: str) -> str:
    """Return a JSON text as Go compacts it: no blanks, HTML's characters escaped, numbers and order as they are.

    Raises:
        TemplateError: It is not JSON.
    """
    try:
        gojson.loads(text)
    except ExpressionError as error:
        raise TemplateError(str(error)) from error
    short = _BLANK_OR_TEXT.sub(lambda match: match[1] or "", text)
    return short.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


_BLANK_OR_TEXT = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')


class TaskNames(Mapping[str, Any]):
    """The variables ``tasks.T...`` that one task of a DAG may name: those of its ancestors.

    Args:
        known: Variables of each task that has ended, under the task's name.
        is_ancestor: Whether the task with this name is one.
        all_ancestors: Their names; asked only when an expression wants everything.
    """

    def __init__(
        self,
        known: Mapping[str, Mapping[str, Any]],
        is_ancestor: Callable[[str], bool],
        all_ancestors: Callable[[], Iterable[str]],
    ) -> None:
        self._known, self._is_ancestor, self._all = known, is_ancestor, all_ancestors

    def get(self, name: str, default: Any = None) -> Any:
        """Return what the name stands for."""
        parts = name.split(".", 2)
        if parts[0] != "tasks" or len(parts) < 3:
            return default
        own = self._known.get(parts[1])
        return default if own is None or not self._is_ancestor(parts[1]) else own.get(name, default)

    def __getitem__(self, name: str) -> Any:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for task in self._all() for name in self._known.get(task, ()))

    def __len__(self) -> int:
        return sum(1 for _ in self)
