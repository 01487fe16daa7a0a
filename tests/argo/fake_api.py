"""An API server in memory: objects, versions, watches. For what does not depend on Kubernetes' own behaviour."""

import copy
import itertools
import json
import re
import uuid

from dflow_hpc.kube import Cluster
from dflow_hpc.kube.errors import refusal


class FakeConnection:
    """Answers as ``kube.connection.Connection`` does."""

    server = "https://fake"

    def __init__(self):
        self.objects = {}
        self.asked = []
        self.history = []
        self.versions = itertools.count(1)
        self.before = {}
        """Called before a request: (method, plural) -> function without arguments, once."""

    def request(self, what, method, path, *, query=None, body=None, content="application/json", accept=""):
        match = re.fullmatch(r"/apis?(?:/[^/]+)?/v1[^/]*/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?", path)
        assert match, path
        _, plural, name = match.groups()
        self.asked.append((method, plural, name or (body or {}).get("metadata", {}).get("name")))
        if happening := self.before.pop((method, plural), None):
            happening()
        body = copy.deepcopy(body)
        there = self.objects.get((plural, name))
        if method == "POST":
            key = (plural, body["metadata"]["name"])
            if key in self.objects:
                raise refusal(what, 409, b"exists")
            body["metadata"].update(uid=uuid.uuid4().hex, creationTimestamp="2026-01-01T00:00:00Z")
            return self._keep(key, body)
        if name is None:
            items = [item for (kind, _), item in self.objects.items() if kind == plural and _chosen(item, query)]
            return copy.deepcopy({"metadata": {"resourceVersion": str(next(self.versions))}, "items": items})
        if there is None:
            raise refusal(what, 404, b"not found")
        if method == "PUT":
            if body["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"]:
                raise refusal(what, 409, b"changed")
            return self._keep((plural, name), body)
        if method == "PATCH":
            return self._keep((plural, name), _merged(copy.deepcopy(there), body))
        if method == "DELETE":
            del self.objects[plural, name]
            there = copy.deepcopy(there)
            there["metadata"]["resourceVersion"] = str(next(self.versions))
            self.history.append(("DELETED", there))
        return copy.deepcopy(there)

    def _keep(self, key, item):
        kind = "MODIFIED" if key in self.objects else "ADDED"
        item["metadata"]["resourceVersion"] = str(next(self.versions))
        self.objects[key] = item
        self.history.append((kind, item))
        return copy.deepcopy(item)

    def stream(self, what, path, *, query=None, accept=""):
        since = int(query["resourceVersion"])
        for kind, item in list(self.history):
            if int(item["metadata"]["resourceVersion"]) > since and _chosen(item, query):
                yield json.dumps({"type": kind, "object": item}).encode()
        if happening := self.before.pop("streamed", None):
            happening()


def _chosen(item, query):
    metadata = item["metadata"]
    wish, labels = query.get("fieldSelector"), query.get("labelSelector")
    named = wish is None or wish == f"metadata.name={metadata['name']}"
    return named and (labels is None or labels in [f"{k}={v}" for k, v in metadata.get("labels", {}).items()])


def _merged(there, change):
    if not isinstance(change, dict):
        return change
    found = dict(there) if isinstance(there, dict) else {}
    for name, value in change.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = _merged(found.get(name), value)
    return found


def fake_cluster():
    """Return a cluster without anything in it."""
    return Cluster(FakeConnection(), "ns")
