"""Re-place the steps of a finished manifest: other machines, or this host, without a change to the program.

A *rule* names steps by a pattern (``label*``: of a step, or of its template without the digest at the end) and a
machine, or ``local``. Of the rules that match, the last counts. A rule that matches a step made of steps holds for all
that it runs. A template that is placed in two ways becomes two.

Pure: a manifest in, a manifest out. Not here: profiles (``executors/profiles/machine.py``), and where rules come from
(``executors/profiles/placing.py``).

Trap: helper steps (what names, joins and counts a loop's artifacts) match patterns like ``label*`` and stay where they
are: each would wait in a queue for nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from dflow_hpc.errors import ManifestError
from dflow_hpc.manifest.view import annotations_of, kind_of

MACHINE = "dflow-hpc/machine"
RESOURCES = "dflow-hpc/resources"
OP_RECORD = "dflow-hpc/op"
HERE = ("local", "-")
_HELPERS = "dflow_hpc.op.util_ops"
_OWN_TO_A_SITE = ("account", "extra", "qos", "queue")
"""Wishes that mean nothing on another machine."""
_DIGEST = re.compile(r"-[0-9a-f]{10}$")
_LONGEST_NAME = 128


class Rule(NamedTuple):
    """Steps, and where they go."""

    steps: str
    """A pattern of names."""
    machine: str
    """A profile's name; ``local`` or ``-`` is this host."""
    required: bool = True
    """Whether a workflow in which it matches nothing is a mistake."""


def placed(manifest: dict[str, Any], rules: Sequence[Rule]) -> dict[str, Any]:
    """Return the manifest with its steps placed as the rules say.

    Args:
        manifest: A Workflow; it stays as it is.
        rules: The last that matches a step counts.

    Raises:
        ManifestError: A required rule matches no step.
    """
    return _Placing(manifest, rules).manifest() if rules else manifest


class _Placing:
    def __init__(self, manifest: dict[str, Any], rules: Sequence[Rule]):
        self._old = manifest
        self._rules = rules
        self._templates = {template["name"]: template for template in manifest["spec"].get("templates") or []}
        self._new: dict[str, dict[str, Any]] = {}
        self._made: dict[tuple[str, int], str] = {}
        self._matched: set[int] = set()
        self._names: set[str] = set()

    def manifest(self) -> dict[str, Any]:
        spec = dict(self._old["spec"])
        for field in ("entrypoint", "onExit"):
            if spec.get(field):
                spec[field] = self._template(spec[field], self._match("", spec[field], -1))
        if spec.get("hooks"):
            spec["hooks"] = {name: self._call(name, hook, -1) for name, hook in spec["hooks"].items()}
        self._check()
        known = {name for name, _ in self._made}
        spec["templates"] = [
            *self._new.values(),
            *(template for name, template in self._templates.items() if name not in known),
        ]
        return {**self._old, "spec": spec}

    def _check(self) -> None:
        for number, rule in enumerate(self._rules):
            if rule.required and number not in self._matched:
                close = difflib.get_close_matches(rule.steps, self._names, n=1)
                raise ManifestError(
                    f"steps named {rule.steps!r} were to run on {rule.machine!r}; this workflow has none. Its steps "
                    f"are {', '.join(sorted(self._names)) or 'none'}"
                    + (f"; did you mean {close[0]!r}?" if close else ".")
                )

    def _match(self, step: str, template: str, outer: int) -> int:
        """Return the number of the rule that counts for a step, -1 for none."""
        found = self._templates.get(template, {})
        if _is_helper(found):
            return -1
        names = {name for name in (step, template, _DIGEST.sub("", template)) if name}
        self._names |= {step or _DIGEST.sub("", template)} if found else set()
        last = outer
        for number, rule in enumerate(self._rules):
            if any(fnmatchcase(name, rule.steps) for name in names):
                self._matched.add(number)
                last = max(last, number)
        return last

    def _template(self, name: str, rule: int) -> str:
        """Return the name of the template ``name`` as a rule places it, writing it if it is new."""
        old = self._templates.get(name)
        if old is None:  # of another object; its steps are not ours to change
            return name
        if (name, rule) in self._made:
            return self._made[name, rule]
        scope = kind_of(old) in ("steps", "dag")
        body = old if scope else self._leaf(old, rule)
        new = name
        if rule >= 0 and (scope or body != old):
            # What a rule makes of a scope depends on the rules after it, not on its machine alone.
            what = json.dumps([name, rule if scope else self._rules[rule].machine])
            digest = hashlib.sha256(what.encode()).hexdigest()[:10]
            new = f"{_DIGEST.sub('', name)[: _LONGEST_NAME - 11]}-{digest}"
        self._made[name, rule] = new  # before its members: one of them may run this very template
        if scope:
            body = self._scope(old, rule)
        self._new[new] = {**body, "name": new}
        return new

    def _scope(self, template: dict[str, Any], rule: int) -> dict[str, Any]:
        if kind_of(template) == "dag":
            dag = template["dag"]
            tasks = [self._call(task.get("name", ""), task, rule) for task in dag.get("tasks") or []]
            return {**template, "dag": {**dag, "tasks": tasks}}
        steps = [[self._call(step.get("name", ""), step, rule) for step in group] for group in template["steps"]]
        return {**template, "steps": steps}

    def _call(self, name: str, call: dict[str, Any], outer: int) -> dict[str, Any]:
        """Return a step, task or hook with the template that it is to run."""
        new = dict(call)
        if call.get("template"):
            new["template"] = self._template(call["template"], self._match(name, call["template"], outer))
        if call.get("onExit"):
            new["onExit"] = self._template(call["onExit"], self._match("", call["onExit"], outer))
        if call.get("hooks"):
            new["hooks"] = {key: self._call("", hook, outer) for key, hook in call["hooks"].items()}
        return new

    def _leaf(self, template: dict[str, Any], rule: int) -> dict[str, Any]:
        if rule < 0 or kind_of(template) not in ("container", "script", "containerSet"):
            return template
        machine = self._rules[rule].machine
        annotations = {key: value for key, value in annotations_of(template).items() if key != MACHINE}
        if machine not in HERE:
            annotations[MACHINE] = machine
        wished = json.loads(annotations.pop(RESOURCES, "{}"))
        if machine != annotations_of(template).get(MACHINE):
            wished = {key: value for key, value in wished.items() if key not in _OWN_TO_A_SITE}
        if wished and machine not in HERE:
            annotations[RESOURCES] = json.dumps(wished, sort_keys=True)
        metadata = {key: value for key, value in (template.get("metadata") or {}).items() if key != "annotations"}
        metadata.update({"annotations": annotations} if annotations else {})
        rest = {key: value for key, value in template.items() if key != "metadata"}
        return {**rest, "metadata": metadata} if metadata else rest


def _is_helper(template: dict[str, Any]) -> bool:
    record = annotations_of(template).get(OP_RECORD)
    return record is not None and json.loads(record)["entry"].get("module") == _HELPERS


def wish_of(template: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the machine of a template, and what it asks for there (JSON)."""
    annotations = annotations_of(template)
    return annotations.get(MACHINE), annotations.get(RESOURCES) or "{}"


def wishes(manifest: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yield the templates that are placed, each with its machine and what it asks for there (JSON)."""
    for template in manifest["spec"].get("templates") or []:
        name, wished = wish_of(template)
        if name is not None:
            yield template, name, wished
