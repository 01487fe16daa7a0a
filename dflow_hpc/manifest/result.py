"""What came of a workflow: Argo's Workflow object with its nodes, seen as attributes.

Both engines report the same object, so that one script reads a local run and one on Argo. ``ArgoWorkflow`` is the
whole, ``ArgoStep`` one node; values of parameters are Python values again, of the type that their OP declared.

Not here: asking an engine for it (``model/workflow.py``), and fetching artifacts (``storage/transfer.py``; its
``download_artifact`` takes ``step.outputs.artifacts["name"]``).

Trap: a node's ``name`` is its path in the workflow (``wf[0].train(2:2)``); what filters and people call its name is
``displayName`` (``train(2:2)``).

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from __future__ import annotations

import datetime
import json
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from dflow_hpc.errors import EngineError

_BIG = "dflow_bigpar_"
_EPOCH = "0001-01-01T00:00:00Z"  # Go's way to say: not yet
_UTC = datetime.timezone.utc  # noqa: UP017  (Python 3.8)
_UNDER_WAY = ("Pending", "Running")

Filter = Union[None, str, Sequence[str]]


def _wrap(value: Any) -> Any:
    if isinstance(value, (ArgoObjectDict, ArgoObjectList)):
        return value
    if isinstance(value, Mapping):
        return ArgoObjectDict(value)
    if isinstance(value, (list, tuple)):
        return ArgoObjectList(value)
    return value


class ArgoObjectDict(Dict[str, Any]):
    """A dict whose items are attributes too, all the way down.

    ``hasattr(step, "finishedAt")`` is the way to ask for a field that may be absent.
    """

    def __init__(self, data: Optional[Mapping[str, Any]] = None):
        super().__init__({name: _wrap(value) for name, value in (data or {}).items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no field {name!r}; there are: {', '.join(self) or 'none'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = _wrap(value)

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)

    def recover(self) -> Dict[str, Any]:
        """Return it as plain data."""
        return {name: _plain(value) for name, value in self.items()}


class ArgoObjectList(List[Any]):
    """A list whose dicts have attributes."""

    def __init__(self, data: Iterable[Any] = ()):
        super().__init__(_wrap(value) for value in data)

    def recover(self) -> List[Any]:
        """Return it as plain data."""
        return [_plain(value) for value in self]


def _plain(value: Any) -> Any:
    return value.recover() if isinstance(value, (ArgoObjectDict, ArgoObjectList)) else value


class ArgoParameter(ArgoObjectDict):
    """A parameter of a step: ``value`` is of the type that its OP declared; one without a type is a text.

    A big parameter is an artifact underneath; its value is fetched when it is first asked for.
    """

    def __getattr__(self, name: str) -> Any:
        if name != "value":
            return super().__getattr__(name)
        from dflow_hpc.op import values

        if "s3" in self and "value" not in self:
            self["value"] = _fetch_text(self["s3"]["key"])
        if "value" not in self:
            raise AttributeError(f"the parameter {self.get('name')!r} has no value; its step has given none so far")
        text = self["value"]
        declared = self.declared_type
        if not isinstance(text, str) or declared in (None, "str"):
            return text
        return values.load(text, name=f"the parameter {self.get('name')!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "value":
            from dflow_hpc.op import values

            stacked = values.restack(str(self.get("value", "")), value)
            plain = str if self.declared_type in (None, "str") else None
            value = values.dump(value, plain) if stacked is None else stacked
            if "s3" in self:
                self["s3"] = ArgoObjectDict({"key": _store_text(value)})
        super().__setattr__(name, value)

    @property
    def declared_type(self) -> Optional[str]:
        """The type that its OP declared, as text; None where nothing is known of it, as in foreign manifests."""
        try:
            description = json.loads(self.get("description") or "{}")
        except ValueError:
            return None  # a foreign manifest's own words
        declared = description.get("type") if isinstance(description, dict) else None
        return declared if isinstance(declared, str) else "big" if "s3" in self else None


def _fetch_text(key: str) -> str:
    import tempfile
    from pathlib import Path

    from dflow_hpc.storage.store import store_for

    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "value"
        store_for().get(key, path)
        return path.read_text(encoding="utf-8")


def _store_text(text: str) -> str:
    import tempfile
    from pathlib import Path

    from dflow_hpc.storage.transfer import upload_s3

    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "value"
        path.write_text(text, encoding="utf-8")
        return upload_s3(path)


class ArgoArtifact(ArgoObjectDict):
    """An artifact of a step; ``download_artifact`` takes it, and ``[i]`` names an element of its list or dict."""

    @property
    def local_path(self) -> Optional[str]:
        """Where it lies on this machine; None for one in S3."""
        from dflow_hpc.storage.artifact import S3Artifact

        return S3Artifact(self["s3"]["key"]).local_path if "s3" in self else None


class UnknownValue(EngineError, KeyError):
    """A parameter or artifact was asked for that the node does not have."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr of the text


class _ByName(ArgoObjectDict):
    """The parameters or artifacts of a node."""

    _unless = ""  # an attribute of the object, not an item: set by ``ArgoStep``

    def __missing__(self, name: str) -> Any:
        has = ", ".join(map(repr, self)) or "none"
        raise UnknownValue(f"{name!r} was asked for; this node has: {has}{self._unless}")


class NoSuchStep(EngineError, IndexError):
    """A step was taken out of what a filter found, and there are not so many."""


class FoundSteps(List["ArgoStep"]):
    """The steps that a filter found; taking one that is not among them says why there is none."""

    _asked = ""

    def __getitem__(self, index: Any) -> Any:
        try:
            return super().__getitem__(index)
        except IndexError:
            raise NoSuchStep(f"step number {index} was asked for; {self._asked}") from None


def _inputs_or_outputs(data: Mapping[str, Any]) -> ArgoObjectDict:
    """Turn Argo's lists of parameters and artifacts into dicts by name, big parameters among the parameters."""
    view = ArgoObjectDict(data)
    parameters = _ByName()
    for item in data.get("parameters") or []:
        parameters[item["name"]] = ArgoParameter(item)
    artifacts = _ByName()
    for item in data.get("artifacts") or []:
        name = item["name"]
        if name.startswith(_BIG):
            name = name[len(_BIG) :]
            parameters[name] = ArgoParameter({**parameters.get(name, {}), **item, "name": name})
        else:
            artifacts[name] = ArgoArtifact(item)
    view["parameters"] = parameters
    view["artifacts"] = artifacts
    return view


def _seconds(time: Optional[str]) -> Optional[datetime.datetime]:
    if not time or time == _EPOCH:
        return None
    return datetime.datetime.strptime(time[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=_UTC)


def get_duration(node: Mapping[str, Any]) -> datetime.timedelta:
    """Return how long a node or a workflow's status took, or has taken so far; zero for one that has not started."""
    started = _seconds(node.get("startedAt"))
    if started is None:
        return datetime.timedelta(0)
    return (_seconds(node.get("finishedAt")) or datetime.datetime.now(_UTC)) - started


class ArgoStep(ArgoObjectDict):
    """A node of a workflow that ran.

    Args:
        node: Argo's node: an item of ``status.nodes``.
        workflow: Name of the workflow.
    """

    def __init__(self, node: Mapping[str, Any], workflow: str = ""):
        super().__init__({name: value for name, value in node.items() if name not in ("inputs", "outputs")})
        self["workflow"] = node.get("workflow", workflow)
        for name in ("inputs", "outputs"):
            found = node.get(name) or {}
            self[name] = found if isinstance(found.get("parameters"), dict) else _inputs_or_outputs(found)
        if node.get("phase") in _UNDER_WAY:
            for values in (self["outputs"]["parameters"], self["outputs"]["artifacts"]):
                object.__setattr__(values, "_unless", f"; it is {node['phase']}: outputs come when it has ended")
        key = self["inputs"]["parameters"].get("dflow_key")
        self["key"] = (key.get("value") or None) if key else None

    def get_duration(self) -> datetime.timedelta:
        """Return how long it took, or has taken so far."""
        return get_duration(self)

    def modify_output_parameter(self, name: str, value: Any) -> None:
        """Change an output, for a workflow that reuses this step.

        Args:
            name: Name of the output parameter.
            value: Its new value; of a step with slices, as many as it had, in their order.

        Raises:
            EngineError: The step has no such output.
            SignError: It is the output of slices, and these are not as many.
        """
        self._output("parameters", name).value = value

    def modify_output_artifact(self, name: str, s3: Any) -> None:
        """Change an output, for a workflow that reuses this step.

        Args:
            name: Name of the output artifact.
            s3: The artifact that takes its place, as ``upload_artifact`` returns it.

        Raises:
            EngineError: The step has no such output.
        """
        from dflow_hpc.storage.transfer import key_of

        self._output("artifacts", name).s3 = ArgoObjectDict({"key": key_of(s3)})

    def _output(self, kind: str, name: str) -> Any:
        found = self["outputs"][kind]
        if name not in found:
            raise EngineError(
                f"output {kind[:-1]} {name!r} of step {self.get('displayName')} was to be modified; "
                f"it has: {', '.join(found) or 'none'}"
            )
        return found[name]

    def argo_outputs(self) -> Dict[str, Any]:
        """Return the outputs as Argo's node has them: ``{"parameters": [...], "artifacts": [...], ...}``."""
        outputs = self["outputs"].recover()
        parameters: List[Any] = list(outputs.pop("parameters").values())
        artifacts: List[Any] = list(outputs.pop("artifacts").values())
        for item in [item for item in parameters if "s3" in item]:
            parameters.remove(item)
            if "valueFrom" in item:  # it was given as text, too
                text = ("name", "value", "valueFrom", "description")
                parameters.append({name: item[name] for name in text if name in item})
            artifacts.append({**{k: v for k, v in item.items() if k != "value"}, "name": _BIG + item["name"]})
        return {
            **outputs,
            **({"parameters": parameters} if parameters else {}),
            **({"artifacts": artifacts} if artifacts else {}),
        }


class _Nodes(ArgoObjectDict):
    """A workflow's nodes: a node gets its attributes when it is taken out, because there may be thousands."""

    def __init__(self, data: Mapping[str, Any]):
        dict.__init__(self, data)

    def __getitem__(self, key: str) -> Any:
        node = super().__getitem__(key)
        if not isinstance(node, ArgoObjectDict):
            node = self[key] = ArgoObjectDict(node)
        return node

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401  (this is that)

    def values(self) -> Any:
        return [self[key] for key in self]

    def items(self) -> Any:
        return [(key, self[key]) for key in self]

    def plain(self) -> Dict[str, Any]:
        """Return the nodes as they are: some with attributes, most without."""
        return {key: dict.__getitem__(self, key) for key in self}


class ArgoWorkflow(ArgoObjectDict):
    """A workflow that runs or ran: Argo's Workflow object.

    Args:
        data: The object: ``metadata``, ``spec``, ``status``; or ``{"id": ...}`` for one that was only named.
    """

    def __init__(self, data: Mapping[str, Any]):
        status = data.get("status") or {}
        if status.get("nodes"):
            data = {**data, "status": {**status, "nodes": _Nodes(status["nodes"])}}
        super().__init__(data)
        metadata = self.get("metadata") or {}
        self.setdefault("id", metadata.get("name"))
        self.setdefault("uid", metadata.get("uid"))

    def _nodes(self) -> Dict[str, Any]:
        nodes = (self.get("status") or {}).get("nodes") or {}
        return nodes.plain() if isinstance(nodes, _Nodes) else nodes

    def get_sub_nodes(self, id: str) -> List[str]:
        """Return the ids of all nodes below a node (which is the first), breadth first.

        Children are followed, and for a node that spans others (Steps, DAG, loop, retry) also those within its
        boundary, since Argo makes a group's members the children of what ran before it.
        """
        nodes = self._nodes()
        within: Dict[str, List[str]] = {}
        for node_id, node in nodes.items():
            within.setdefault(node.get("boundaryID", ""), []).append(node_id)
        found = {id: None}
        queue = [id]
        for node_id in queue:
            node = nodes.get(node_id, {})
            below = within.get(node_id, [])
            if node.get("type") in ("Retry", "TaskGroup", "StepGroup"):
                below = node.get("children") or []
            for child in below:
                # A group's last child leads on to the next group of the same boundary, which is not below it.
                if child in found or (nodes.get(child, {}).get("type") == "StepGroup" and node.get("type") != "Steps"):
                    continue
                found[child] = None
                queue.append(child)
        return list(found)

    def get_step(
        self,
        name: Filter = None,
        key: Filter = None,
        phase: Filter = None,
        id: Filter = None,
        type: Filter = None,
        parent_id: Optional[str] = None,
        sort_by_generation: bool = False,
    ) -> List[ArgoStep]:
        """Return the steps that pass all filters, sorted by the time at which they started.

        Args:
            name: Its name, or names; ``train`` is also each member of a loop, ``train(2:2)``.
            key: Its key, or keys.
            phase: ``Succeeded``, ``Failed``, ``Error``, ``Running``, ``Pending``, ``Skipped``, ``Omitted``.
            id: Its node id, or ids.
            type: ``Pod``, ``Steps``, ``StepGroup``, ``DAG``, ``TaskGroup``, ``Retry``, ``Skipped``, ``Suspend``.
            parent_id: Only nodes below this node.
            sort_by_generation: Sort by the distance from the root, instead of by time.
        """
        nodes = self._nodes()
        ids = list(nodes) if parent_id is None else self.get_sub_nodes(parent_id)[1:]
        if sort_by_generation:
            order = {node_id: place for place, node_id in enumerate(self.get_sub_nodes(parent_id or str(self["id"])))}
            ids.sort(key=lambda node_id: order.get(node_id, len(order)))
        else:
            ids.sort(key=lambda node_id: nodes[node_id].get("startedAt") or "9")
        found = FoundSteps()
        for node_id in ids:
            node = nodes[node_id]
            if not (_is_in(node.get("phase"), phase) and _is_in(node_id, id) and _is_in(node.get("type"), type)):
                continue
            if not _has_name(node.get("displayName", ""), name):
                continue
            step = ArgoStep(node, str(self["id"]))
            if _is_in(step["key"], key):
                found.append(step)
        found._asked = self._said_of(len(found), {"name": name, "key": key, "phase": phase, "id": id, "type": type})
        return found

    def _said_of(self, count: int, filters: Mapping[str, Filter]) -> str:
        wish = ", ".join(f"{key}={value!r}" for key, value in filters.items() if value is not None) or "all"
        phase = (self.get("status") or {}).get("phase") or "Pending"
        advice = "Wait for its end first: workflow.wait()" if phase in _UNDER_WAY else "query_step() has them all"
        return f"{self['id']}, which is {phase}, has {count} of these: {wish}. {advice}."

    def get_duration(self) -> datetime.timedelta:
        """Return how long it took, or has taken so far."""
        return get_duration(self.get("status") or {})


def global_outputs(workflow: Mapping[str, Any]) -> Optional[ArgoObjectDict]:
    """Return what a workflow published (``global_name``): an object with ``.parameters`` and ``.artifacts``.

    Args:
        workflow: The Workflow object.

    Returns:
        None, where it published nothing.
    """
    outputs = (workflow.get("status") or {}).get("outputs")
    return _inputs_or_outputs(outputs) if outputs else None


def _is_in(value: Any, wanted: Filter) -> bool:
    return wanted is None or (value == wanted if isinstance(wanted, str) else value in wanted)


def _has_name(display_name: str, wanted: Filter) -> bool:
    if wanted is None:
        return True
    names = [wanted] if isinstance(wanted, str) else wanted
    return any(display_name == name or display_name.startswith(name + "(") for name in names)
