"""What becomes of a run, and of who looks on, when servers restart, tokens end or rights lack; on a real Argo."""

import json
import threading
from pathlib import Path

import pytest

from dflow_hpc.compile import Compiled
from dflow_hpc.config import config
from dflow_hpc.engines.argo import repository
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.errors import EngineError
from dflow_hpc.kube import WORKFLOWS, Gone, connect
from dflow_hpc.kube.watch import follow

pytestmark = pytest.mark.rig
SECONDS = 300
FILE = {"name": "file", "path": "/tmp/file"}
TEMPLATES = [
    {
        "name": "write",
        "container": {"image": "busybox", "command": ["sh", "-c", "echo kept > /tmp/file"]},
        "outputs": {"artifacts": [FILE]},
    },
    {"name": "wait", "suspend": {}},
    {
        "name": "read",
        "inputs": {"artifacts": [FILE]},
        "container": {"image": "busybox", "command": ["cat", "/tmp/file"]},
        "outputs": {
            "artifacts": [{**FILE, "name": "copy"}],
            "parameters": [{"name": "text", "valueFrom": {"path": "/tmp/file"}}],
        },
    },
]


def _held():
    """Return a workflow that writes a file, waits for somebody, and reads the file."""
    arguments = {"artifacts": [{"name": "file", "from": "{{steps.write.outputs.artifacts.file}}"}]}
    steps = [
        [{"name": "write", "template": "write"}],
        [{"name": "wait", "template": "wait"}],
        [{"name": "read", "template": "read", "arguments": arguments}],
    ]
    spec = {"entrypoint": "main", "serviceAccountName": "argo"}
    spec["templates"] = [*TEMPLATES, {"name": "main", "steps": steps}]
    kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
    return Compiled({**kind, "metadata": {"generateName": "held-"}, "spec": spec})


def _until_it_waits(engine, name):
    for parts in engine.cluster.changes(WORKFLOWS, name=name, every=0.5):
        nodes = ((parts[name].get("status") or {}).get("nodes") or {}).values()
        if any(node["type"] == "Suspend" and node["phase"] == "Running" for node in nodes):
            return


def _looking(engine, name):
    """Look on in a thread; the thread, and where it leaves the phase and the tree."""
    seen = {}

    def look():
        try:
            for records in engine.follow(name):
                for record in records:
                    if "set" in record:
                        seen.setdefault(record["node"], {}).update(record["set"])
            seen["phase"] = engine.wait(name, SECONDS)
        except EngineError as error:
            seen["error"] = error

    thread = threading.Thread(target=look)
    thread.start()
    return thread, seen


def test_a_run_goes_on_when_every_server_was_restarted_in_its_middle(argo, kube_faults):
    name = argo.submit(_held())
    thread, seen = _looking(argo, name)
    _until_it_waits(argo, name)
    for daemon in ("s3", "argo", "apiserver", "etcd", "apiserver"):
        kube_faults.ctl("restart", daemon)
    argo.resume(name)
    thread.join(SECONDS)
    assert seen.get("phase") == "Succeeded", seen
    nodes = argo.query(name)["status"]["nodes"]
    [text] = [node["outputs"]["parameters"][0]["value"] for node in nodes.values() if node["displayName"] == "read"]
    assert text == "kept"
    assert {key: node["phase"] for key, node in nodes.items()} == {
        key: change["phase"] for key, change in seen.items() if key in nodes
    }


def test_a_version_that_is_too_old_is_read_anew(argo, kube_faults):
    name = argo.submit(_held())
    _until_it_waits(argo, name)
    old = argo.cluster.get(WORKFLOWS, name)["metadata"]["resourceVersion"]
    argo.resume(name)
    assert argo.wait(name, SECONDS) == "Succeeded"
    kube_faults.ctl("restart", "apiserver")  # it remembers nothing from before
    answers = []

    def stream(version, rest):
        path = WORKFLOWS.path(argo.cluster.namespace)
        query = {"watch": "true", "resourceVersion": version, "fieldSelector": f"metadata.name={name}"}
        for line in argo.cluster.connection.stream("watch", path, query=query):
            event = json.loads(line)
            if event["type"] == "ERROR":
                answers.append(event["object"]["code"])
                raise Gone("too old")
            yield event

    first = [([], old)]

    def there():
        if first:
            return first.pop()
        return argo.cluster.list(WORKFLOWS, fields=f"metadata.name={name}"), "0"

    [event] = [next(follow(there, stream, pause=lambda _: None))]
    assert answers == [410]
    assert event.object["status"]["phase"] == "Succeeded"


@pytest.fixture
def account(kube_rig, monkeypatch, tmp_path):
    """Make service accounts, and let the settings be those of one of them."""
    made = []
    file = tmp_path / "kubeconfig"

    def renew(name):
        """Write a token into the kubeconfig that ends with the Secret which it is bound to."""
        kube_rig.kubectl("create", "secret", "generic", name)
        bound = ("--bound-object-kind=Secret", f"--bound-object-name={name}")
        known = json.loads(Path(kube_rig.kubeconfig).read_text())  # JSON is YAML
        known["users"][0]["user"] = {"token": kube_rig.kubectl("create", "token", "somebody", *bound).strip()}
        file.write_text(json.dumps(known))
        made.append(name)

    monkeypatch.setattr(repository, "_known", {})
    monkeypatch.setitem(config, "k8s_config_file", str(file))
    monkeypatch.setitem(config, "namespace", kube_rig.namespace)
    kube_rig.kubectl("create", "serviceaccount", "somebody")
    yield renew
    kube_rig.kubectl("delete", "serviceaccount", "somebody")
    kube_rig.kubectl("delete", "secret", "--ignore-not-found", *made)


def test_a_token_that_ends_is_read_anew_and_without_a_new_one_the_user_is_told(argo, account, kube_faults):
    kube = kube_faults
    role = ("--verb=get,list,watch", "--resource=workflows.argoproj.io")
    kube.kubectl("create", "role", "looks", *role)
    kube.kubectl("create", "rolebinding", "looks", "--role=looks", f"--serviceaccount={kube.namespace}:somebody")
    try:
        account("first")
        theirs = ArgoEngine(cluster=connect())
        name = argo.submit(_held())
        thread, seen = _looking(theirs, name)
        _until_it_waits(argo, name)
        account("second")
        kube.kubectl("delete", "secret", "first")
        kube.ctl("restart", "apiserver")  # it has forgotten that the token was good
        argo.resume(name)
        thread.join(SECONDS)
        assert seen.get("phase") == "Succeeded", seen
        kube.kubectl("delete", "secret", "second")
        kube.ctl("restart", "apiserver")
        with pytest.raises(EngineError, match=r"answered 401.*log in anew, renew the kubeconfig"):
            theirs.query(name)
    finally:
        kube.kubectl("delete", "rolebinding,role", "looks")


def test_who_has_no_rights_is_told_what_to_ask_for(account):
    account("nothing")
    engine = ArgoEngine(cluster=connect())
    for ask in (engine.list_runs, lambda: engine.query("x"), lambda: engine.wait("x"), lambda: engine.submit(_held())):
        with pytest.raises(EngineError, match=r"(list|read|make) .*answered 403: .*Ask the administrator"):
            ask()
