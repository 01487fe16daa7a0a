"""Template tags, ``{{name}}`` and ``{{=expression}}``, over plain data, by Argo's rules.

Argo substitutes in the JSON text of a whole object: a tag runs from ``{{`` to the first ``}}`` *of that text*, keys
hold tags too, a name is compared in its escaped form, a value goes in as ``strconv.Quote`` writes it, and the result
must be JSON again. Here the object is read once (``TagTemplate.parse``) and only the strings that hold tags are made
anew, which gives the same as long as each tag ends in the string in which it began; for an object where one does not,
its whole text is worked on, as Argo does.

Not here: which names are in scope when (the interpreter knows), and passes: one call is one pass, so a value that holds
``{{...}}`` stays as it is until the next one.

Trap: what is rendered shares every part that holds no tag with the template. Copy it before you change it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import gojson, golang, gotext
from dflow_hpc.expr.lang import Program, compile, mentions  # noqa: A004

Scope = Mapping[str, str]
Environment = Callable[[], Mapping[str, Any]]

_LATE_VARIABLES = (
    "item", "retries", "lastRetry.exitCode", "lastRetry.status", "lastRetry.duration", "lastRetry.message",
    "workflow.status", "workflow.failures",
)  # fmt: skip
"""An expression that mentions one of these waits until it is known (Argo issues 5388, 10393, 15008)."""

# What strconv.Quote writes in a way that JSON does not know: \a \v \x1b \x7f, and \U000e0001 for what is not printable.
_NOT_JSON = re.compile("[\x00-\x07\x0b\x0e-\x1f\x7f\ud800-\udfff]")
_INVALID_RESULT = "cannot finish template replacement because the result was invalid JSON"
_HTML_ESCAPE = re.compile(r"\\u003[ce]|\\u0026")
_HTML = {r"\u003c": "<", r"\u003e": ">", r"\u0026": "&"}


def nest(scope: Scope) -> dict[str, Any]:
    """Return the nested maps in which expressions look up flat names.

    A name that is also the beginning of another (``inputs.parameters`` of ``inputs.parameters.x``) gives way.
    """
    root: dict[str, Any] = {}
    for name, value in scope.items():
        *path, leaf = name.split(".")
        place = root
        for part in path:
            inner = place.get(part)
            if not isinstance(inner, dict):
                inner = place[part] = {}
            place = inner
        place.setdefault(leaf, value)
    return root


class TagTemplate:
    """An object whose tags have been found. Rendering costs only what the strings with tags cost.

    Attributes:
        source: The object as it was given.
        names: The names of its simple tags, those inside other tags too.
        expressions: The texts of its expression tags.
    """

    def __init__(self, source: Any, patch: _Patch | None, tags: list[_Tag]):
        self.source = source
        self._patch = patch
        simple = [tag for tag in tags if isinstance(tag, _SimpleTag)]
        self.names = frozenset([tag.name for tag in simple] + [tag.nested[1] for tag in simple if tag.nested])
        self.expressions = tuple(tag.text for tag in tags if isinstance(tag, _ExpressionTag))

    @classmethod
    def parse(cls, obj: Any) -> TagTemplate:
        """Find the tags of an object.

        Args:
            obj: Plain data: dicts, lists, texts, numbers, booleans, None.

        Raises:
            ExpressionError: There is a ``{{``, and no ``}}`` after it in all the object.
        """
        tags: list[_Tag] = []
        try:
            return cls(obj, _patch_of(obj, tags), tags)
        except _TagCrossesStrings:
            tags.clear()
            return cls(obj, _whole_text(obj, tags), tags)

    def render(
        self,
        scope: Scope,
        *,
        strict: bool = False,
        environment: Environment | None = None,
        functions: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the object with the tags replaced that ``scope`` knows.

        Args:
            scope: Flat names and their texts.
            strict: Whether a tag that cannot be resolved is an error; otherwise it stays.
            environment: Gives the variables of expressions; left out, ``nest(scope)``. Asked once, and only if there
                is an expression.
            functions: The functions of expressions (``dflow_hpc.expr.functions``), beside the variables.

        Returns:
            The object itself if nothing changed in it, else a copy that shares the parts without tags.

        Raises:
            ExpressionError: With Argo's text: ``failed to resolve {{tag}}``, ``failed to evaluate expression: ...``,
                or that the result is not JSON because a value holds control characters.
        """
        if self._patch is None:
            return self.source
        now = _Pass(scope, strict, environment, functions)
        made = self._patch.apply(now)
        if now.broken:
            raise ExpressionError(_INVALID_RESULT)
        return made


def substitute(
    obj: Any,
    scope: Scope,
    *,
    strict: bool = False,
    environment: Environment | None = None,
    functions: Mapping[str, Any] | None = None,
) -> Any:
    """Parse and render an object at once, see ``TagTemplate``."""
    return TagTemplate.parse(obj).render(scope, strict=strict, environment=environment, functions=functions)


class _Pass:
    """One rendering: what is known in it."""

    def __init__(
        self,
        scope: Scope,
        strict: bool,
        environment: Environment | None,
        functions: Mapping[str, Any] | None,
    ):
        self.scope, self.strict = scope, strict
        self.broken = False
        """Whether a value went in that JSON cannot hold. Argo notices it last, after every tag was resolved."""
        self._environment, self._functions = environment, functions
        self._variables: dict[str, Any] | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """What expressions see."""
        if self._variables is None:
            found = self._environment() if self._environment is not None else nest(self.scope)
            self._variables = {**found, **(self._functions or {})}
        return self._variables

    def knows(self, path: str) -> bool:
        """Say whether a dotted name leads to a value."""
        value: Any = self.variables
        for name in path.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return False
            value = value[name]
        return not isinstance(value, Mapping)

    def insert(self, value: str) -> str:
        """Return a value that goes into the text, and take note if it cannot."""
        if not value.isprintable() and (
            _NOT_JSON.search(value) or any(character > "\uffff" and not character.isprintable() for character in value)
        ):
            self.broken = True
        return value


Resolved = tuple[str, str]
"""What comes in place of a tag: an escaped text that stays, and after it a value."""


class _SimpleTag:
    """``{{name}}``, in the escaped form in which it stands in the JSON text."""

    unreadable = False

    def __init__(self, raw: str):
        self.raw = raw
        self.name = gotext.trim(raw)
        opening = raw.rfind("{{")
        # `{{a {{b}}`: what is before the inner braces stays, and the inner name is resolved if it has no blanks.
        self.nested = (raw[:opening], raw[opening + 2 :]) if opening > 0 else None

    def resolve(self, now: _Pass) -> Resolved | None:
        """Return what comes in its place; None: it stays."""
        value = now.scope.get(self.name)
        if value is not None:
            return "", now.insert(value)
        if self.nested is not None and (value := now.scope.get(self.nested[1])) is not None:
            return "{{" + self.nested[0], now.insert(value)
        if now.strict:
            raise ExpressionError(f"failed to resolve {{{{{self.raw}}}}}")
        return None


class _ExpressionTag:
    """``{{=expression}}``."""

    def __init__(self, raw: str):
        escaped = _HTML_ESCAPE.sub(lambda match: _HTML[match[0]], raw[1:])
        self.raw = "=" + escaped
        self.text = escaped
        self.late: tuple[str, ...] = ()
        self.unreadable = False
        """Whether undoing the escapes of ``<``, ``>`` and ``&`` broke another escape, as Argo does to ``\\\\u003c``."""
        self.program: Program | ExpressionError
        try:
            self.text = gojson.loads(f'"{escaped}"')
        except ExpressionError as error:
            self.unreadable = True
            self.program = ExpressionError(f"failed to unmarshall JSON expression: {error}")
            return
        self.late = tuple(name for name in _LATE_VARIABLES if mentions(self.text, name))
        try:
            self.program = compile(self.text)
        except ExpressionError as error:
            self.program = ExpressionError(f"failed to evaluate expression: {error}")

    def resolve(self, now: _Pass) -> Resolved | None:
        """Return what comes in its place; None: it stays."""
        if not now.strict and any(not now.knows(name) for name in self.late):
            return None
        try:
            text, quoted = self.evaluate(now)
            return "", (now.insert(text) if quoted else text)
        except ExpressionError:
            if now.strict:
                raise
            return None

    def evaluate(self, now: _Pass) -> tuple[str, bool]:
        """Return the text of its result, and whether it goes in as Go quotes it: all but texts do, as JSON."""
        if isinstance(self.program, ExpressionError):
            raise self.program
        try:
            result = self.program.run(now.variables)
        except ExpressionError as error:
            raise ExpressionError(f"failed to evaluate expression: {error}") from error
        if result is None:
            raise ExpressionError(f"failed to evaluate expression {golang.quote(self.raw[1:])}")
        try:
            text = gojson.dumps(result)
        except ExpressionError as error:
            raise ExpressionError(f"failed to marshal evaluated expression: {error}") from error
        return (str(json.loads(text)), False) if text.startswith('"') else (text, True)


_Tag = _SimpleTag | _ExpressionTag


def _tag(raw: str) -> _Tag:
    return _ExpressionTag(raw) if raw.startswith("=") else _SimpleTag(raw)


class _TagCrossesStrings(Exception):
    """A tag does not end in the string in which it began."""


def _split(escaped: str) -> Iterator[tuple[str, str | None]]:
    """Cut an escaped text into pairs of a text and the tag after it; the last pair has no tag."""
    at = 0
    while True:
        opening = escaped.find("{{", at)
        if opening < 0:
            yield escaped[at:], None
            return
        closing = escaped.find("}}", opening + 2)
        if closing < 0:
            raise _TagCrossesStrings
        yield escaped[at:opening], escaped[opening + 2 : closing]
        at = closing + 2


class _Patch:
    """How a part of the object is made anew."""

    def apply(self, now: _Pass) -> Any:
        """Return the part with its tags replaced."""
        raise NotImplementedError


def _patch_of(obj: Any, tags: list[_Tag]) -> _Patch | None:
    if isinstance(obj, str):
        return _TextPatch(obj, tags) if "{{" in obj else None
    if isinstance(obj, Mapping):
        keys, items = {}, {}
        for key, item in obj.items():
            key_patch, item_patch = _patch_of(key, tags), _patch_of(item, tags)
            if key_patch is not None:
                keys[key] = key_patch
            if item_patch is not None:
                items[key] = item_patch
        if keys:
            return _KeysPatch(obj, keys, items)
        return _MapPatch(obj, items) if items else None
    if isinstance(obj, (list, tuple)):
        found = {index: patch for index, item in enumerate(obj) if (patch := _patch_of(item, tags)) is not None}
        return _ListPatch(obj, found) if found else None
    return None


class _TextPatch(_Patch):
    """A text with tags."""

    def __init__(self, text: str, tags: list[_Tag]):
        self.text = text
        self.parts: list[tuple[str, str, _Tag | None]] = []
        """A text, the tag after it as it was written, the tag; none after the last."""
        for escaped, raw in _split(gojson.escape(text)):
            tag = _tag(raw) if raw is not None else None
            self.parts.append((_unescape(escaped), "{{" + _unescape(raw or "") + "}}", tag))
            if tag is not None:
                tags.append(tag)

    def apply(self, now: _Pass) -> Any:
        pieces: list[str] = []
        changed = False
        for text, written, tag in self.parts:
            pieces.append(text)
            if tag is None:
                break
            resolved = tag.resolve(now)
            if resolved is None:
                now.broken |= tag.unreadable
                pieces.append(written)
            else:
                changed = True
                pieces += (_unescape(resolved[0]), resolved[1])
        return "".join(pieces) if changed else self.text


def _unescape(escaped: str) -> str:
    return escaped if "\\" not in escaped else str(json.loads(f'"{escaped}"'))


class _MapPatch(_Patch):
    def __init__(self, source: Mapping[str, Any], items: dict[str, _Patch]):
        self.source, self.items = source, items

    def apply(self, now: _Pass) -> Any:
        made = None
        for key, patch in self.items.items():
            before = self.source[key]
            after = patch.apply(now)
            if after is not before:
                if made is None:
                    made = dict(self.source)
                made[key] = after
        return self.source if made is None else made


class _KeysPatch(_Patch):
    def __init__(self, source: Mapping[str, Any], keys: dict[str, _Patch], items: dict[str, _Patch]):
        self.source, self.keys, self.items = source, keys, items

    def apply(self, now: _Pass) -> Any:
        made: dict[Any, Any] = {}
        changed = False
        for key, item in self.source.items():
            new_key = self.keys[key].apply(now) if key in self.keys else key
            made[new_key] = self.items[key].apply(now) if key in self.items else item
            changed |= new_key is not key or made[new_key] is not item
        return made if changed else self.source


class _ListPatch(_Patch):
    def __init__(self, source: list[Any] | tuple[Any, ...], items: dict[int, _Patch]):
        self.source, self.items = source, items

    def apply(self, now: _Pass) -> Any:
        made = None
        for index, patch in self.items.items():
            after = patch.apply(now)
            if after is not self.source[index]:
                if made is None:
                    made = list(self.source)
                made[index] = after
        return self.source if made is None else made


class _WholeText(_Patch):
    """The JSON text of the whole object, for objects where a tag crosses from one string into another."""

    def __init__(self, obj: Any, parts: list[tuple[str, _Tag | None]]):
        self.source, self.parts = obj, parts

    def apply(self, now: _Pass) -> Any:
        pieces: list[str] = []
        for text, tag in self.parts:
            pieces.append(text)
            if tag is None:
                continue
            resolved = tag.resolve(now)
            if resolved is None:
                pieces += ("{{", tag.raw, "}}")
            else:
                pieces += (resolved[0], gojson.escape(resolved[1]))
        try:
            made = json.loads("".join(pieces))
        except ValueError:
            raise ExpressionError(_INVALID_RESULT) from None
        return self.source if made == self.source else made


def _whole_text(obj: Any, tags: list[_Tag]) -> _Patch:
    text = json_text(obj)
    parts = []
    try:
        for piece, raw in _split(text):
            tag = _tag(raw) if raw is not None else None
            parts.append((piece, tag))
            if tag is not None:
                tags.append(tag)
    except _TagCrossesStrings:
        rest = text[text.index("{{", sum(len(piece) + (len(tag.raw) + 4 if tag else 0) for piece, tag in parts)) + 2 :]
        raise ExpressionError(
            f'Cannot find end tag="}}}}" in the template={golang.quote(text)} starting from {golang.quote(rest)}'
        ) from None
    return _WholeText(obj, parts)


def json_text(obj: Any) -> str:
    """Return the JSON text of an object in which Argo would look for tags: compact, the keys in the object's order."""
    if isinstance(obj, str):
        return f'"{gojson.escape(obj)}"'
    if isinstance(obj, Mapping):
        return "{" + ",".join(f'"{gojson.escape(str(key))}":{json_text(item)}' for key, item in obj.items()) + "}"
    if isinstance(obj, (list, tuple)):
        return "[" + ",".join(map(json_text, obj)) + "]"
    return json.dumps(obj)
