"""Manifests in and out of YAML, scalars read and written as Go's YAML does in Argo and Kubernetes.

Python's YAML and Go's disagree: ``1e3`` is a text here and a number there, ``1:30`` is 90 here and a text there, ``y``
is a boolean there, and a date stays a text. A file must mean to us what it means to Argo, and what we write must be
read back by Argo as it was meant. JSON is YAML, so it is read too.

Trap: a file may hold several documents; the Workflows among them are run, the others are what they may refer to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from dflow_hpc.errors import ManifestError
from dflow_hpc.manifest.view import Json, text_of

RESOURCE_KINDS = ("WorkflowTemplate", "ClusterWorkflowTemplate", "ConfigMap")
"""Kinds of documents that a Workflow may refer to, and that the local engine understands."""

_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_INT = re.compile(r"^[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)$")
_INT_OR_UNDERSCORED = re.compile(r"^[-+]?(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$")
_NAN = re.compile(r"^\.(nan|NaN|NAN)$")
_NULL = re.compile(r"^(~|null|Null|NULL|)$")

_Loader: Any = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {"yaml_implicit_resolvers": {}})
_Dumper: Any = type("_Dumper", (yaml.SafeDumper,), {"yaml_implicit_resolvers": {}})


@dataclass(frozen=True)
class Documents:
    """What a file holds."""

    workflows: list[Json] = field(default_factory=list)
    resources: list[Json] = field(default_factory=list)


def load(text: str) -> Documents:
    """Read a YAML or JSON file of one or several documents.

    Raises:
        ManifestError: It is not YAML, or a document in it is of a kind that cannot be used here.
    """
    try:
        found = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"a manifest was to be read, and it is not YAML: {error}") from error
    documents = Documents()
    for document in found:
        kind = _kind(document)
        if kind == "Workflow":
            documents.workflows.append(_completed(document, kind))
        elif kind in RESOURCE_KINDS:
            documents.resources.append(_completed(document, kind))
        else:
            raise ManifestError(
                f"a manifest holds a document of kind {kind!r}; known are Workflow, {', '.join(RESOURCE_KINDS)}."
                " Remove the document, or submit the file to Kubernetes."
            )
    return documents


def _kind(document: Any) -> Any:
    """Return a document's kind; one that names none, and says what it runs, is a Workflow."""
    if not isinstance(document, dict):
        return None
    spec = document.get("spec")
    runs = isinstance(spec, dict) and ("entrypoint" in spec or "workflowTemplateRef" in spec)
    return "Workflow" if runs and "kind" not in document else document.get("kind")


def _completed(document: Json, kind: str) -> Json:
    """Return a document with the parts that all who read it rely on.

    Raises:
        ManifestError: They are not what Kubernetes would take.
    """
    wanted = ("metadata",) if kind == "ConfigMap" else ("metadata", "spec")
    parts = {part: {} if document.get(part) is None else document[part] for part in wanted}
    for part, value in parts.items():
        if not isinstance(value, dict):
            raise ManifestError(
                f"a manifest holds a {kind} whose {part} is {value!r}; an object with fields is needed."
            )
    names = {key: parts["metadata"][key] for key in ("name", "generateName", "namespace") if key in parts["metadata"]}
    for key, value in names.items():
        if isinstance(value, (list, dict)):
            raise ManifestError(f"a manifest holds a {kind} whose metadata.{key} is {value!r}; a text is needed.")
    names = {key: text_of(value) for key, value in names.items() if value is not None}
    if kind != "Workflow":  # one whose name is yet to be made cannot be referred to
        if not names.get("name") and not names.get("generateName"):
            raise ManifestError(f"a manifest holds a {kind} without a name, so nothing can refer to it; give it one.")
        names.setdefault("name", "")
    return {**document, "kind": kind, **parts, "metadata": {**parts["metadata"], **names}}


def dump(document: Json) -> str:
    """Write an object as YAML that Go reads back as it is; keys keep their order, long texts are blocks."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def _construct_int(loader: Any, node: Any) -> Any:
    text = loader.construct_scalar(node).replace("_", "")
    if not _INT.match(text):
        return loader.construct_scalar(node)
    digits = text.lstrip("+-").lower()
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2], 8 if digits.startswith("0") else 10)
    value = int(digits[2:] if digits[1:2] in ("x", "b", "o") else digits, base)
    return -value if text.startswith("-") else value


def _construct_float(loader: Any, node: Any) -> Any:
    return float(loader.construct_scalar(node).replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


def _construct_map(loader: Any, node: Any) -> Json:
    """Read a mapping: keys become texts as in JSON, and none may stand twice (Kubernetes reads strictly)."""
    own: set[str] = set()
    for key_node, _ in node.value:
        if key_node.value in own and key_node.value != "<<":
            line = key_node.start_mark.line + 1
            raise yaml.constructor.ConstructorError(
                None, None, f"line {line}: key {key_node.value!r} already set in map"
            )
        if isinstance(key_node, yaml.ScalarNode):
            own.add(key_node.value)
    loader.flatten_mapping(node)
    result: Json = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node)
        result[key if isinstance(key, str) else text_of(key)] = loader.construct_object(value_node, deep=True)
    return result


def _text_node(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text and not re.search(r"[^\n\t\x20-\x7e\x85\xa0-\uffff]| \n", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _set_up() -> None:
    words = re.compile("^({})$".format("|".join(_TRUE + _FALSE)))
    for kind in (_Loader, _Dumper):
        # The first that matches wins; None as first character: any.
        kind.yaml_implicit_resolvers = {
            None: [
                ("tag:yaml.org,2002:bool", words),
                ("tag:yaml.org,2002:null", _NULL),
                ("tag:yaml.org,2002:int", _INT_OR_UNDERSCORED),
                ("tag:yaml.org,2002:float", _FLOAT),
                ("tag:yaml.org,2002:float", _NAN),
                ("tag:yaml.org,2002:merge", re.compile("^<<$")),
            ]
        }
    _Loader.add_constructor("tag:yaml.org,2002:bool", lambda loader, node: loader.construct_scalar(node) in _TRUE)
    _Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
    _Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
    _Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
    _Dumper.add_representer(str, _text_node)
    _Dumper.ignore_aliases = lambda *_: True  # one object used twice is written twice: Kubernetes' limit of aliases


_set_up()
