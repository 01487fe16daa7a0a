"""The Argo engine, against an API server in memory: what it makes, reads and changes."""

import base64
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_api import fake_cluster

from dflow_hpc.compile import Bundle, Compiled
from dflow_hpc.config import config, s3_config
from dflow_hpc.engines.argo import repository, status
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.engines.local.interpret.tree import NodeTree
from dflow_hpc.errors import ConfigError, EngineError
from dflow_hpc.kube import CONFIG_MAPS, SECRETS, WORKFLOWS
from dflow_hpc.model.templates import Secret


class Objects(dict):
    """A storage client in memory."""

    def upload(self, key, path):
        self[key] = Path(path).read_bytes()

    def download(self, key, path):
        Path(path).write_bytes(self[key])

    def list(self, prefix, recursive=False):
        return [key for key in self if key.startswith(prefix)]

    def delete(self, key):
        del self[key]


@pytest.fixture
def objects(monkeypatch):
    client = Objects()
    monkeypatch.setitem(s3_config, "storage_client", client)
    return client


@pytest.fixture
def cluster():
    return fake_cluster()


@pytest.fixture
def engine(cluster, objects):
    said = []
    engine = ArgoEngine(say=said.append, cluster=cluster)
    engine.said = said
    return engine


def manifest(**metadata):
    template = {"name": "main", "container": {"image": "busybox", "command": ["true"]}}
    spec = {"entrypoint": "main", "templates": [template]}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec}


def test_submit_publishes_the_bundle_once_and_makes_the_workflow(engine, cluster, objects):
    bundle = Bundle("abc", b"zip", {}, notices=("big.bin stayed behind",))
    compiled = Compiled(manifest(generateName="hello-"), bundle)
    first, second = engine.submit(compiled), engine.submit(compiled)
    assert first != second
    assert first.startswith("hello-")
    assert dict(objects) == {"dflow-hpc/bundles/abc.zip": b"zip"}
    made = cluster.get(WORKFLOWS, first)
    assert made["metadata"]["namespace"] == "ns"
    assert made["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "dflow-hpc"}
    assert made["spec"] == compiled.manifest["spec"]
    assert f"{first}: big.bin stayed behind" in engine.said
    assert compiled.manifest["metadata"] == {"generateName": "hello-"}
    assert engine.query(first)["status"] == {"phase": "Pending"}


def test_secrets_are_made_owned_and_nowhere_else(engine, cluster):
    secrets = (Secret("pa55", name="login", key="password"), Secret("us3r", name="login", key="user"))
    first = engine.submit(Compiled(manifest(generateName="a-"), None, secrets))
    second = engine.submit(Compiled(manifest(generateName="b-"), None, secrets))
    kept = cluster.get(SECRETS, "login")
    assert kept["stringData"] == {"password": "pa55", "user": "us3r"}
    assert [owner["name"] for owner in kept["metadata"]["ownerReferences"]] == [first, second]
    others = [item for (kind, _), item in cluster.connection.objects.items() if kind != "secrets"]
    assert "pa55" not in json.dumps(others)
    assert "pa55" not in json.dumps(engine.said)


def test_a_foreign_secret_is_left_alone(engine, cluster):
    cluster.create(SECRETS, {"metadata": {"name": "login"}, "stringData": {"password": "theirs"}})
    with pytest.raises(EngineError, match="one that is not ours"):
        engine.submit(Compiled(manifest(generateName="a-"), None, (Secret("x", name="login", key="password"),)))
    assert cluster.get(SECRETS, "login")["stringData"] == {"password": "theirs"}
    assert cluster.list(WORKFLOWS) == []


def test_a_name_that_is_taken_and_a_machine_without_a_secret_are_refused(engine, tmp_path, monkeypatch):
    (tmp_path / "machines.toml").write_text("[machine.gpu]\nhost = 'h'")
    monkeypatch.chdir(tmp_path)
    engine.submit(Compiled(manifest(generateName="x-")), id="mine")
    with pytest.raises(EngineError, match="has one of that name already"):
        engine.submit(Compiled(manifest()), id="mine")
    placed = manifest(generateName="x-")
    placed["spec"]["templates"][0]["metadata"] = {"annotations": {"dflow-hpc/machine": "gpu"}}
    with pytest.raises(EngineError, match="dflow-hpc machine secret gpu"):
        engine.submit(Compiled(placed))
    monkeypatch.setitem(config, "place", ["main=local"])
    engine.submit(Compiled(placed), id="placed-here")


def _set_phase(cluster, name, phase):
    labels = {"workflows.argoproj.io/phase": phase}
    cluster.patch(WORKFLOWS, name, {"metadata": {"labels": labels}, "status": {"phase": phase}})


def test_wait_sees_the_end_and_a_deletion(engine, cluster):
    name = engine.submit(Compiled(manifest(generateName="x-")))
    cluster.connection.before["streamed"] = lambda: _set_phase(cluster, name, "Failed")
    assert engine.wait(name) == "Failed"
    other = engine.submit(Compiled(manifest(generateName="x-")))
    cluster.connection.before["streamed"] = lambda: cluster.delete(WORKFLOWS, other)
    with pytest.raises(EngineError, match="deleted meanwhile"):
        engine.wait(other)
    with pytest.raises(EngineError, match="DFLOW_NAMESPACE"):
        engine.wait("none")


def test_follow_tells_each_change_once(engine, cluster):
    name = engine.submit(Compiled(manifest(generateName="x-")))
    node = {"id": name, "name": name, "type": "Pod", "phase": "Running", "children": ["c"]}
    cluster.patch(WORKFLOWS, name, {"status": {"phase": "Running", "nodes": {name: node}}})
    done = {**node, "phase": "Succeeded", "children": ["c", "d"]}
    ended = {"status": {"phase": "Succeeded", "nodes": {name: done}}}
    cluster.connection.before["streamed"] = lambda: cluster.patch(WORKFLOWS, name, ended)
    told = [record for records in engine.follow(name) for record in records]
    first = {key: value for key, value in node.items() if key != "children"}
    assert told == [
        {"node": name, "set": first},
        {"node": name, "child": "c"},
        {"status": {"phase": "Running"}},
        {"node": name, "set": {"phase": "Succeeded"}},
        {"node": name, "child": "d"},
        {"status": {"phase": "Succeeded"}},
    ]


def test_a_tree_can_be_summed_while_its_records_come():
    """Argo sorts nodes by ids, which are hashes: steps may stand before the template in which they lie."""
    outer = {"c": None, "b": "c", "a": "b"}
    kinds = {"c": "Steps", "b": "Steps", "a": "Pod"}
    nodes = {
        key: {"id": key, "name": key, "type": kinds[key], "phase": "Running", **({"boundaryID": of} if of else {})}
        for key, of in sorted(outer.items())
    }
    tree = NodeTree("c")
    for record in status.records({}, {"status": {"nodes": nodes}}):
        tree.apply(record)
        tree.status()
    assert tree.status()["nodes"]["c"]["progress"] == "0/1"


def test_follow_reads_once_what_has_changed_often(engine, cluster):
    name = engine.submit(Compiled(manifest(generateName="x-")))

    def change():
        for number in range(5):
            cluster.patch(WORKFLOWS, name, {"status": {"phase": "Running", "progress": f"{number}/5"}})
        cluster.patch(WORKFLOWS, name, {"status": {"phase": "Succeeded"}})

    cluster.connection.before["streamed"] = change
    cluster.connection.asked.clear()
    told = [record for records in engine.follow(name) for record in records]
    assert told == [{"status": {"phase": "Pending"}}, {"status": {"phase": "Succeeded", "progress": "4/5"}}]
    assert cluster.connection.asked.count(("GET", "workflows", name)) == 3  # once for its metadata alone


def test_follow_sees_a_deletion(engine, cluster):
    name = engine.submit(Compiled(manifest(generateName="x-")))
    _set_phase(cluster, name, "Running")
    cluster.connection.before["streamed"] = lambda: cluster.delete(WORKFLOWS, name)
    with pytest.raises(EngineError, match="deleted meanwhile"):
        list(engine.follow(name))
    with pytest.raises(EngineError, match="DFLOW_NAMESPACE"):
        list(engine.follow("none"))


def _large():
    steps = [{"name": f"step-{number}", "template": "main"} for number in range(6000)]
    large = manifest(generateName="large-")
    large["spec"]["templates"].append({"name": "many", "steps": [steps]})
    large["spec"]["entrypoint"] = "many"
    return large


def test_a_large_workflow_is_one_run_in_pieces(engine, cluster):
    cluster.connection.asked.clear()
    name = engine.submit(Compiled(_large()))
    made = [asked[2] for asked in cluster.connection.asked]
    assert made[-1] == name
    assert {asked[0] for asked in cluster.connection.asked} == {"POST"}
    assert f"in {len(made)} pieces" in engine.said[-1]
    assert [run.id for run in engine.list_runs()] == [name]
    first, second, *_ = made
    stand_in = {
        "id": f"{name}-1",
        "name": f"{name}[0].p",
        "type": "Pod",
        "phase": "Failed",
        "templateName": "dflow-piece-1",
    }
    root = {"id": name, "name": name, "type": "Steps", "phase": "Failed", "children": [f"{name}-1"]}
    leaf = {"id": f"{first}-7", "name": f"{first}[0].step-3", "displayName": "step-3", "type": "Pod", "phase": "Failed"}
    below = {"id": first, "name": first, "type": "Steps", "phase": "Failed", "children": [leaf["id"]]}
    let_go = {"metadata": {"labels": {"dflow-hpc/started": "true"}}}
    cluster.patch(WORKFLOWS, first, {**let_go, "status": {"nodes": {first: below, leaf["id"]: leaf}}})
    cluster.patch(WORKFLOWS, name, {"status": {"nodes": {name: root, stand_in["id"]: stand_in}}})
    assert set(engine.query(name)["status"]["nodes"]) == {name, stand_in["id"], first, leaf["id"]}
    engine.suspend(name)
    assert cluster.get(WORKFLOWS, first)["spec"]["suspend"]
    engine.resume(name)
    assert [cluster.get(WORKFLOWS, part)["spec"].get("suspend") for part in (name, first, second)] == [None, None, True]
    for part in (name, first):
        _set_phase(cluster, part, "Failed")
    engine.retry(name)
    assert stand_in["id"] not in cluster.get(WORKFLOWS, name)["status"]["nodes"]
    assert set(cluster.get(WORKFLOWS, first)["status"]["nodes"]) == {first}
    with pytest.raises(EngineError, match="in pieces"):
        engine.resubmit(name)
    engine.delete(name)
    assert cluster.list(WORKFLOWS) == []


def test_steering_patches_and_refuses_what_has_ended(engine, cluster):
    name = engine.submit(Compiled(manifest(generateName="x-")))
    engine.suspend(name)
    assert cluster.get(WORKFLOWS, name)["spec"]["suspend"] is True
    engine.resume(name)
    assert "suspend" not in cluster.get(WORKFLOWS, name)["spec"]
    engine.stop(name)
    assert cluster.get(WORKFLOWS, name)["spec"]["shutdown"] == "Stop"
    _set_phase(cluster, name, "Succeeded")
    for action in (engine.stop, engine.terminate, engine.suspend, engine.resume):
        with pytest.raises(EngineError, match="nothing to do"):
            action(name)


def _waiting(name):
    parameter = {"name": "answer", "valueFrom": {"supplied": {}}}
    node = {"id": f"{name}-1", "name": f"{name}.ask", "displayName": "ask", "type": "Suspend", "phase": "Running"}
    return {**node, "outputs": {"parameters": [parameter]}}


def test_resume_supplies_a_value_although_the_controller_was_quicker(engine, cluster):
    name = engine.submit(Compiled(manifest(generateName="x-")))
    node = _waiting(name)
    cluster.patch(WORKFLOWS, name, {"status": {"phase": "Running", "nodes": {node["id"]: node}}})
    with pytest.raises(EngineError, match="-p answer=VALUE"):
        engine.resume(name, node="ask")
    with pytest.raises(EngineError, match="what waits is: ask"):
        engine.resume(name, node="other")
    with pytest.raises(EngineError, match="it waits for: answer"):
        engine.resume(name, node="ask", parameters={"nope": "1"})
    cluster.connection.before["PUT", "workflows"] = lambda: cluster.patch(WORKFLOWS, name, {"metadata": {"labels": {}}})
    engine.resume(name, node="ask", parameters={"answer": "42"})
    now = cluster.get(WORKFLOWS, name)["status"]["nodes"][node["id"]]
    assert now["phase"] == "Succeeded"
    assert now["outputs"] == {"parameters": [{"name": "answer", "value": "42"}]}
    assert [asked for asked in cluster.connection.asked if asked[0] == "PUT"] == [("PUT", "workflows", name)] * 2


def _tree(name):
    """A Steps of one group that succeeded and one that failed."""
    node = lambda key, kind, phase, **more: {  # noqa: E731
        "id": key,
        "name": f"{name}.{key}",
        "displayName": key,
        "type": kind,
        "phase": phase,
        **more,
    }
    return {
        name: {**node(name, "Steps", "Failed", children=["g0"], message="child 'b' failed"), "name": name},
        "g0": node("g0", "StepGroup", "Succeeded", boundaryID=name, children=["a"]),
        "a": node("a", "Pod", "Succeeded", boundaryID=name, children=["g1"], templateName="t"),
        "g1": node("g1", "StepGroup", "Failed", boundaryID=name, children=["b"], message="child 'b' failed"),
        "b": node("b", "Pod", "Failed", boundaryID=name, templateName="t"),
    }


def test_retry_runs_again_what_failed_and_removes_its_pod(engine, cluster):
    name = engine.submit(Compiled(manifest(generateName="x-")))
    then = "2026-01-01T00:00:00Z"
    status = {"phase": "Failed", "nodes": _tree(name), "message": "m", "startedAt": then, "finishedAt": then}
    labels = {"workflows.argoproj.io/completed": "true", "workflows.argoproj.io/phase": "Failed"}
    cluster.patch(WORKFLOWS, name, {"status": status, "metadata": {"labels": labels}})
    engine.retry(name)
    deleted = [asked[2] for asked in cluster.connection.asked if asked[:2] == ("DELETE", "pods")]
    assert len(deleted) == 1
    assert deleted[0].startswith(f"{name}-t-")
    now = cluster.get(WORKFLOWS, name)
    nodes = now["status"]["nodes"]
    assert "b" not in nodes
    assert nodes["a"]["phase"] == "Succeeded"
    assert nodes[name]["phase"] == nodes["g1"]["phase"] == now["status"]["phase"] == "Running"
    assert nodes["g1"]["children"] == []
    assert min(nodes["g1"]["startedAt"], now["status"]["startedAt"]) > then  # a deadline counts from the retry
    assert "message" not in now["status"]
    assert "workflows.argoproj.io/completed" not in now["metadata"]["labels"]
    with pytest.raises(EngineError, match="its phase is Running"):
        engine.retry(name)


def test_delete_removes_what_the_run_has_stored_and_nothing_else(engine, cluster, objects):
    name = engine.submit(Compiled(manifest(generateName="x-")))
    own, other = f"{name}/pod/out.tgz", "upload/1/in.tgz"
    objects.update({own: b"1", other: b"2"})
    artifacts = [{"name": "out", "s3": {"key": own}}, {"name": "in", "s3": {"key": other}}]
    node = {"id": "n", "name": "n", "type": "Pod", "phase": "Succeeded", "outputs": {"artifacts": artifacts}}
    cluster.patch(WORKFLOWS, name, {"status": {"nodes": {"n": node}}})
    engine.delete(name)
    assert dict(objects) == {other: b"2"}
    assert cluster.list(WORKFLOWS) == []


def _declare(cluster, name, data, **annotations):
    cluster.create(CONFIG_MAPS, {"metadata": {"name": name, "annotations": annotations}, "data": data})


S3 = """
s3:
  bucket: b
  endpoint: minio:9000
  insecure: true
  accessKeySecret: {name: cred, key: a}
  secretKeySecret: {name: cred, key: s}
"""


@pytest.fixture
def untouched(monkeypatch):
    monkeypatch.setattr(repository, "_known", {})
    monkeypatch.setattr(s3_config, "_layers", dict.fromkeys(s3_config, "default"))
    return s3_config


def test_the_repository_is_read_and_what_a_user_set_wins(cluster, untouched):
    _declare(cluster, repository.CONTROLLER, {"artifactRepository": S3})
    data = {name: base64.b64encode(name.encode() * 3).decode() for name in ("a", "s")}
    cluster.create(SECRETS, {"metadata": {"name": "cred"}, "data": data})
    all_of_it = {
        "endpoint": "minio:9000",
        "bucket_name": "b",
        "secure": False,
        "access_key": "aaa",
        "secret_key": "sss",
    }
    assert repository.settings(cluster) == all_of_it
    asked = len(cluster.connection.asked)
    untouched._layers["endpoint"] = "environment DFLOW_S3_ENDPOINT"
    assert repository.settings(cluster) == {key: value for key, value in all_of_it.items() if key != "endpoint"}
    assert len(cluster.connection.asked) == asked


def test_a_repository_by_key_and_what_is_not_s3(cluster, untouched, monkeypatch):
    data = {"mine": S3.replace("minio", "other"), "odd": "gcs: {bucket: x}"}
    _declare(cluster, repository.REPOSITORIES, data, **{repository.DEFAULT_KEY: "mine"})
    assert repository.settings(cluster)["endpoint"] == "other:9000"
    assert "access_key" not in repository.settings(cluster)
    for key, message in (("none", "has: mine, odd"), ("odd", "declared by gcs")):
        monkeypatch.setitem(s3_config, "repo_key", key)
        with pytest.raises(ConfigError, match=message):
            repository.settings(cluster)


def test_reused_outputs_lie_in_caches_that_the_workflow_owns(engine, cluster):
    from dflow_hpc.manifest.result import ArgoStep

    key = {"name": "dflow_key", "value": "A step/1"}
    outputs = {"parameters": [{"name": "n", "value": "3"}], "artifacts": []}
    step = ArgoStep({"displayName": "a", "inputs": {"parameters": [key]}, "outputs": outputs}, "earlier")
    compiled = Compiled(manifest(generateName="x-"))
    compiled.manifest["spec"]["templates"].append({"name": "t", "inputs": {"parameters": [{"name": "dflow_key"}]}})
    name = engine.submit(compiled, reuse=[step])
    main, keyed = cluster.get(WORKFLOWS, name)["spec"]["templates"]
    assert "memoize" not in main
    assert keyed["memoize"]["cache"]["configMap"]["name"].startswith(f"{name}-reused-")
    caches = cluster.list(CONFIG_MAPS)
    assert len(caches) == 16
    assert {one["metadata"]["ownerReferences"][0]["name"] for one in caches} == {name}
    [text] = [value for one in caches for value in one["data"].values()]
    assert json.loads(text)["outputs"]["parameters"][0]["value"] == "3"
    step.modify_output_parameter("n", "9" * 800_000)
    with pytest.raises(EngineError, match="Reuse fewer steps"):
        engine.submit(compiled, reuse=[step])
    assert len(cluster.list(WORKFLOWS)) == 1
