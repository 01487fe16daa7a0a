"""Objects of one namespace, as plain dicts: read, made, changed, removed, watched.

The namespace ``""`` stands for what belongs to none (nodes), and for lists of what belongs to any.

Not here: HTTP and retries (``connection.py``), and what the objects mean (``engines/argo/``).

Trap: a request may have been done although no answer came, and then it is made again. ``create`` tells its own object
from another one of that name by an annotation; patches say what shall be, never what shall be added.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dflow_hpc.kube.errors import Conflict, Gone, NotFound, Unreachable, refusal
from dflow_hpc.kube.watch import PATIENCE, Event, follow

if TYPE_CHECKING:
    from dflow_hpc.kube.connection import Connection

Object = dict[str, Any]
Objects = list[Object]  # `list` is a method below

CREATION = "dflow-hpc/creation"
"""Annotation by which ``create`` knows what it made."""
_PAGE = 250
_MERGE = "application/merge-patch+json"
_JSON = "application/json"
_BRIEF = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
"""What the API gives of an object, or a list, whose metadata alone is asked for."""


@dataclass(frozen=True)
class Kind:
    """A kind of namespaced objects."""

    version: str
    """``v1``, or ``group/version``."""
    kind: str
    plural: str

    def path(self, namespace: str, name: str | None = None) -> str:
        """Return the API's path of the objects, or of one."""
        root = f"/apis/{self.version}" if "/" in self.version else f"/api/{self.version}"
        where = f"{root}/namespaces/{namespace}" if namespace else root
        return f"{where}/{self.plural}" + (f"/{name}" if name is not None else "")


WORKFLOWS = Kind("argoproj.io/v1alpha1", "Workflow", "workflows")
PODS = Kind("v1", "Pod", "pods")
SECRETS = Kind("v1", "Secret", "secrets")
CONFIG_MAPS = Kind("v1", "ConfigMap", "configmaps")
NODES = Kind("v1", "Node", "nodes")
LEASES = Kind("coordination.k8s.io/v1", "Lease", "leases")
TASK_RESULTS = Kind("argoproj.io/v1alpha1", "WorkflowTaskResult", "workflowtaskresults")


class Cluster:
    """What the API has in one namespace.

    Args:
        connection: Who asks whom.
        namespace: The namespace.
        argo_server: Address of Argo's own server, where the user has said it.
    """

    def __init__(self, connection: Connection, namespace: str, argo_server: str | None = None):
        self.connection = connection
        self.namespace = namespace
        self.argo_server = argo_server

    def _named(self, kind: Kind, name: str) -> str:
        return f"the {kind.kind} {name!r}" + (f" in the namespace {self.namespace!r}" if self.namespace else "")

    def get(self, kind: Kind, name: str, *, brief: bool = False) -> Object:
        """Return an object.

        Args:
            kind: Its kind.
            name: Its name.
            brief: Only its metadata.

        Raises:
            NotFound: There is none of that name.
        """
        accept = _BRIEF.format("") if brief else _JSON
        found: Object = self.connection.request(
            f"read {self._named(kind, name)}", "GET", kind.path(self.namespace, name), accept=accept
        )
        return found

    def list(self, kind: Kind, *, labels: str | None = None, fields: str | None = None, brief: bool = False) -> Objects:
        """Return all objects of a kind.

        Args:
            kind: Which.
            labels: A label selector.
            fields: A field selector.
            brief: Only their metadata.
        """
        return self._list(kind, labels, fields, brief)[0]

    def _list(self, kind: Kind, labels: str | None, fields: str | None, brief: bool) -> tuple[Objects, str]:
        """Return the objects and the version of their list."""
        accept = _BRIEF.format("List") if brief else _JSON
        what = f"list each {kind.kind} of the namespace {self.namespace!r}"
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": _PAGE}
        items: Objects = []
        more = None
        while True:
            try:
                page = self.connection.request(
                    what, "GET", kind.path(self.namespace), query={**query, "continue": more}, accept=accept
                )
            except Gone:
                if more is None:
                    raise
                items, more = [], None  # the list is older than what the server keeps: from its start
                continue
            items += page["items"] or []  # null, where only metadata are asked for
            more = page["metadata"].get("continue")
            if not more:
                return items, page["metadata"]["resourceVersion"]

    def create(self, kind: Kind, content: Object) -> Object:
        """Make an object of a name that it says itself; doing it twice makes one.

        Raises:
            Conflict: There is another one of that name.
        """
        mark = uuid.uuid4().hex
        metadata = content["metadata"]
        annotations = {**(metadata.get("annotations") or {}), CREATION: mark}
        new = {"apiVersion": kind.version, "kind": kind.kind, **content}
        new["metadata"] = {**metadata, "annotations": annotations}
        if self.namespace:
            new["metadata"]["namespace"] = self.namespace
        what = f"make {self._named(kind, metadata['name'])}"
        try:
            made: Object = self.connection.request(what, "POST", kind.path(self.namespace), body=new)
        except Conflict:
            made = self.get(kind, metadata["name"])
            if (made["metadata"].get("annotations") or {}).get(CREATION) != mark:
                raise
        return made

    def replace(self, kind: Kind, content: Object) -> Object:
        """Put an object in the place of the version that it was made from.

        Raises:
            Conflict: It was changed meanwhile.
        """
        name = content["metadata"]["name"]
        path = kind.path(self.namespace, name)
        changed: Object = self.connection.request(f"change {self._named(kind, name)}", "PUT", path, body=content)
        return changed

    def update(self, kind: Kind, name: str, change: Callable[[Object], Object]) -> Object:
        """Read an object, change it and write it, from the start again when somebody else was quicker.

        Raises:
            Conflict: Somebody was quicker ten times.
        """
        import tenacity

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Conflict),
            stop=tenacity.stop_after_attempt(10),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
            reraise=True,
        )
        return attempts(lambda: self.replace(kind, change(self.get(kind, name))))

    def patch(self, kind: Kind, name: str, change: Object, *, part: str | None = None) -> Object:
        """Set fields of an object (a JSON merge patch: None removes one).

        Args:
            kind: Its kind.
            name: Its name.
            change: The fields; with ``metadata.uid`` it is meant for just that object.
            part: ``status``: that part of it, which the object's own path does not change.
        """
        path = kind.path(self.namespace, name) + (f"/{part}" if part else "")
        changed: Object = self.connection.request(
            f"change {self._named(kind, name)}", "PATCH", path, body=change, content=_MERGE
        )
        return changed

    def delete(self, kind: Kind, name: str, *, uid: str | None = None, grace: int | None = None) -> bool:
        """Remove an object, and in the background what it owns; False where there was none.

        Args:
            kind: Its kind.
            name: Its name.
            uid: Remove just this one, not another of its name.
            grace: Seconds that a pod has left; 0: at once.

        Raises:
            Conflict: It is another one than ``uid``.
        """
        path = kind.path(self.namespace, name)
        body: Object = {"propagationPolicy": "Background"}
        body |= {"preconditions": {"uid": uid}} if uid is not None else {}
        body |= {"gracePeriodSeconds": grace} if grace is not None else {}
        try:
            self.connection.request(f"delete {self._named(kind, name)}", "DELETE", path, body=body)
        except NotFound:
            return False
        return True

    def watch(
        self,
        kind: Kind,
        *,
        name: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        brief: bool = False,
        seconds: float | None = None,
        patience: float = PATIENCE,
    ) -> Generator[Event]:
        """Yield what there is and then each change, with no gap and nothing twice, whatever becomes of the link.

        Args:
            kind: What to look at.
            name: Only the object of this name, which must be there.
            labels: A label selector.
            fields: A field selector.
            brief: Only the objects' metadata.
            seconds: How long at most; None: until whoever asks ends it.
            patience: Seconds for which nothing but failures may come before it gives up.

        Raises:
            NotFound: There is none of that name.
        """
        if name is not None:
            fields = f"metadata.name={name}"
        what = f"watch each {kind.kind} of the namespace {self.namespace!r}"
        path = kind.path(self.namespace)
        accept = _BRIEF.format("") if brief else _JSON

        def stream(version: str, rest: float | None) -> Iterator[Object]:
            query: Object = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
            query |= {"labelSelector": labels, "fieldSelector": fields}
            query["timeoutSeconds"] = None if rest is None else max(1, math.ceil(rest))
            for line in self.connection.stream(what, path, query=query, accept=accept):
                event = json.loads(line)
                if event["type"] == "ERROR":  # a Status in place of an object: 410, as a rule
                    raise refusal(what, int(event["object"].get("code") or 500), line)
                yield event

        def there() -> tuple[Objects, str]:
            items, version = self._list(kind, labels, fields, brief)
            if name is not None and not items:
                self.get(kind, name, brief=True)  # NotFound, with what to do
            return items, version

        return follow(there, stream, seconds=seconds, patience=patience)

    def changes(
        self, kind: Kind, *, name: str | None = None, labels: str | None = None, every: float = 2.0
    ) -> Iterator[dict[str, Object]]:
        """Yield objects by name, as they are and as they have become, with what came in between left out.

        A watch tells each change by the whole object, and large ones change each second. So only metadata are watched,
        and objects are read, compressed, when these have told of a change.

        Args:
            kind: What to look at.
            name: Only the object of this name, which must be there.
            labels: A label selector.
            every: Seconds between two readings at least.

        Raises:
            NotFound: There is none of that name, or none any more.
        """
        seen: dict[str, Object] = {}
        while True:
            looked = time.monotonic()
            seen = self._renewed(kind, name, labels, seen)
            yield seen
            self._await_change(kind, name, labels, _versions(seen.values()))
            time.sleep(max(0.0, looked + every - time.monotonic()))

    def _renewed(self, kind: Kind, name: str | None, labels: str | None, seen: dict[str, Object]) -> dict[str, Object]:
        """Return objects as they are now, reading those that have changed; it has the patience of a watch."""
        fields = None if name is None else f"metadata.name={name}"
        since = time.monotonic()
        while True:
            try:
                there = _versions(self.list(kind, labels=labels, fields=fields, brief=True))
                if name is not None:
                    there.setdefault(name, "")  # what is gone says so when it is read
                known = _versions(seen.values())
                return {
                    each: seen[each] if known.get(each) == version else self.get(kind, each)
                    for each, version in there.items()
                }
            except Unreachable:
                if time.monotonic() - since > PATIENCE:
                    raise

    def _await_change(self, kind: Kind, name: str | None, labels: str | None, known: dict[str, str]) -> None:
        with contextlib.closing(self.watch(kind, name=name, labels=labels, brief=True)) as events:
            for event in events:
                metadata = event.object["metadata"]
                if event.type == "DELETED" or known.get(metadata["name"]) != metadata["resourceVersion"]:
                    return

    def may(self, verb: str, group: str, resource: str, subresource: str = "") -> bool:
        """Say whether we are allowed to do something in the namespace; nothing is done.

        Args:
            verb: ``get``, ``list``, ``create``, ...
            group: The resource's API group; empty for the core.
            resource: Such as ``pods``.
            subresource: Such as ``log``.
        """
        wish = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**wish, "subresource": subresource}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self.connection.request(f"say whether we may {verb} {resource}", "POST", path, body=review)
        return bool(answer["status"]["allowed"])

    def token(self, account: str, spec: Object) -> str:
        """Return a new token of a service account.

        Args:
            account: Its name.
            spec: Of the TokenRequest: how long it lasts, and for whom.
        """
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.connection.request(f"get a token of the service account {account!r}", "POST", path, body=body)
        return str(answer["status"]["token"])

    def log(self, pod: str, container: str, *, follow: bool = False, tail: int | None = None) -> Iterator[bytes]:
        """Yield the lines that a container wrote.

        Args:
            pod: The pod.
            container: Its container.
            follow: Go on until it has ended.
            tail: Only so many last lines.

        Raises:
            NotFound: The pod is gone.
        """
        what = f"read the log of {self._named(PODS, pod)}"
        query = {"container": container, "follow": "true" if follow else None, "tailLines": tail}
        return self.connection.stream(what, PODS.path(self.namespace, pod) + "/log", query=query)


def _versions(objects: Iterable[Object]) -> dict[str, str]:
    return {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in objects}


def put(cluster: Cluster, kind: Kind, content: Object, change: Object) -> None:
    """Make an object, or change the one of its name that is there.

    Args:
        cluster: Where.
        kind: What it is.
        content: It, as it is made.
        change: What becomes of one that is there.
    """
    try:
        cluster.create(kind, content)
    except Conflict:
        cluster.patch(kind, content["metadata"]["name"], change)
