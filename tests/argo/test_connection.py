"""The connection, against an HTTP server that fails as API servers do."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dflow_hpc.config import config
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.errors import ConfigError, EngineError
from dflow_hpc.kube import CONFIG_MAPS, WORKFLOWS, Conflict, KubeError, NotFound, Unreachable, connect
from dflow_hpc.kube.cluster import CREATION

pytest.importorskip("kubernetes")


class Api:
    """Answers with what is queued: (status, body), None for a link that is cut."""

    def __init__(self):
        self.answers = []
        self.asked = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                api.asked.append((self.command, self.path, body, dict(self.headers)))
                answer = api.answers.pop(0)
                answer = answer(body) if callable(answer) else answer
                if answer is None:
                    self.close_connection = True
                    return
                status, content = answer
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def api(monkeypatch):
    server = Api()
    monkeypatch.delenv("KUBECONFIG", raising=False)
    yield server
    server.server.shutdown()
    server.server.server_close()
    server.thread.join()


@pytest.fixture
def cluster(api):
    return connect(k8s_api_server=api.address, token="t0k", namespace="ns", seconds=5)


def test_a_busy_server_and_a_cut_link_are_tried_again(api, cluster):
    api.answers = [(503, {"message": "starting"}), None, (429, {}), (200, {"metadata": {"name": "x"}})]
    assert cluster.get(WORKFLOWS, "x") == {"metadata": {"name": "x"}}
    assert [asked[1] for asked in api.asked] == ["/apis/argoproj.io/v1alpha1/namespaces/ns/workflows/x"] * 4
    assert {asked[3]["authorization"] for asked in api.asked} == {"Bearer t0k"}


def test_metadata_alone_can_be_asked_for(api, cluster):
    api.answers = [(200, {"metadata": {"name": "x"}}), (200, {"metadata": {"resourceVersion": "1"}, "items": None})]
    cluster.get(WORKFLOWS, "x", brief=True)
    assert cluster.list(WORKFLOWS, brief=True) == []
    kinds = ["PartialObjectMetadata", "PartialObjectMetadataList"]
    asked = [dict(word.split("=") for word in asked[3]["Accept"].split(";")[1:]) for asked in api.asked]
    assert asked == [{"as": kind, "g": "meta.k8s.io", "v": "v1"} for kind in kinds]


def test_a_server_that_stays_away_is_named(api):
    api.server.server_close()
    cluster = connect(k8s_api_server=api.address, namespace="ns", seconds=1)
    with pytest.raises(Unreachable, match=api.address):
        cluster.get(WORKFLOWS, "x")


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (403, KubeError, "Role"),
        (404, NotFound, "DFLOW_NAMESPACE"),
        (409, Conflict, "at the same time"),
        (422, KubeError, "correct the field"),
    ],
)
def test_refusals_say_what_to_do(api, cluster, status, kind, advice):
    api.answers = [(status, {"message": "because of it"})]
    with pytest.raises(kind, match="because of it") as caught:
        cluster.patch(CONFIG_MAPS, "m", {"data": None})
    assert advice in str(caught.value)
    assert caught.value.status == status
    assert len(api.asked) == 1


def test_a_token_that_was_renewed_is_read_again(api, tmp_path):
    def write(token):
        (tmp_path / "kubeconfig").write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": api.address}}],
                    "users": [{"name": "u", "user": {"token": token}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )

    write("old")

    def expired(_body):
        write("new")
        return 401, {"message": "Unauthorized"}

    api.answers = [expired, (200, {"ok": 1})]
    cluster = connect(k8s_config_file=str(tmp_path / "kubeconfig"), namespace="ns")
    assert cluster.get(WORKFLOWS, "x") == {"ok": 1}
    assert [asked[3]["authorization"] for asked in api.asked] == ["Bearer old", "Bearer new"]
    api.answers = [(401, {"message": "Unauthorized"})] * 2
    with pytest.raises(KubeError, match="log in anew"):
        cluster.get(WORKFLOWS, "x")


def test_an_object_is_made_once_although_the_answer_was_lost(api, cluster):
    made = {}

    def lose(body):
        made.update(body)

    api.answers = [lose, (409, {"message": "already exists"}), lambda _body: (200, made)]
    assert cluster.create(CONFIG_MAPS, {"metadata": {"name": "m"}, "data": {"a": "b"}}) == made
    assert made["apiVersion"] == "v1"
    assert made["metadata"]["namespace"] == "ns"
    foreign = {"metadata": {"name": "m", "annotations": {CREATION: "another"}}}
    api.answers = [(409, {"message": "already exists"}), (200, foreign)]
    with pytest.raises(Conflict):
        cluster.create(CONFIG_MAPS, {"metadata": {"name": "m"}})


def test_a_long_list_comes_in_pages_and_starts_anew_when_it_is_too_old(api, cluster):
    page = lambda names, more: {  # noqa: E731
        "metadata": {"resourceVersion": "7", **({"continue": more} if more else {})},
        "items": [{"metadata": {"name": name}} for name in names],
    }
    api.answers = [
        (200, page("ab", "c1")),
        (410, {"message": "expired"}),
        (200, page("ab", "c2")),
        (200, page("c", "")),
    ]
    assert [item["metadata"]["name"] for item in cluster.list(WORKFLOWS, labels="a=b")] == ["a", "b", "c"]
    assert all("labelSelector=a%3Db" in asked[1] for asked in api.asked)


def test_no_cluster_at_all_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setitem(config, "k8s_config_file", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="DFLOW_K8S_CONFIG_FILE"):
        connect().get(WORKFLOWS, "x")


def test_argos_server_is_asked_for_what_kubernetes_does_not_have(api, cluster, monkeypatch):
    engine = ArgoEngine(cluster=cluster)
    metadata = {"name": "x", "resourceVersion": "1"}
    away = {"metadata": metadata, "status": {"phase": "Running", "offloadNodeStatusVersion": "fnv:1"}}
    api.answers = [(200, away), (404, {"message": "not found"})]
    with pytest.raises(EngineError, match="DFLOW_HOST"):
        engine.query("x")
    with pytest.raises(NotFound):
        engine.query("y")
    monkeypatch.setitem(config, "host", api.address)
    engine = ArgoEngine(cluster=connect(k8s_api_server=api.address, token="t0k", namespace="ns"))
    whole = {"metadata": metadata, "status": {"phase": "Running", "nodes": {"x": {}}}}
    api.answers = [(200, away), (200, whole), (404, {"message": "not found"}), (200, whole)]
    api.asked.clear()
    assert engine.query("x") == engine.query("y") == whole
    assert [asked[1] for asked in api.asked[1::2]] == [f"/api/v1/workflows/ns/{name}" for name in "xy"]
    assert {asked[3]["authorization"] for asked in api.asked} == {"Bearer t0k"}
