"""Many steps on a real Argo, with pods that run nothing: a fan-out, and a workflow in pieces."""

import pytest
from rig.hollow import hollow_node, step, workflow

from dflow_hpc.engines.argo import pieces
from dflow_hpc.kube import WORKFLOWS

pytestmark = pytest.mark.rig
SECONDS = 600


def _run(argo, compiled):
    """Run it; its name, its nodes, and how many requests the submission took."""
    before = argo.cluster.connection.sent
    name = argo.submit(compiled)
    sent = argo.cluster.connection.sent - before
    with hollow_node(argo.cluster):
        assert argo.wait(name, SECONDS) == "Succeeded"
    return name, list(argo.query(name)["status"]["nodes"].values()), sent


def test_a_fan_out_of_150_is_one_request(argo):
    fan = step("square", "{{item}}", withSequence={"count": "150"})
    _, nodes, sent = _run(argo, workflow([fan]))
    assert sent == 1
    done = [node["outputs"]["parameters"][0]["value"] for node in nodes if node["type"] == "Pod"]
    assert done == ["1"] * 150


def test_a_workflow_in_pieces_is_one_run(argo, monkeypatch):
    monkeypatch.setattr(pieces, "MOST", 3500)
    monkeypatch.setattr(pieces, "PIECE", 2000)
    name, nodes, sent = _run(argo, workflow([step(f"square-{n}", str(n)) for n in range(20)]))
    parts = argo.cluster.list(WORKFLOWS, labels=f"{pieces.RUN}={name}", brief=True)
    assert sent == len(parts) > 2
    assert {f"square-{n}" for n in range(20)} <= {node["displayName"] for node in nodes if node["phase"] == "Succeeded"}
    owners = [part["metadata"].get("ownerReferences", [{}])[0].get("name", "") for part in parts]
    assert sorted(owners) == ["", *[name] * (len(parts) - 1)]
    assert [run.id for run in argo.list_runs() if run.id.startswith(name)] == [name]
    argo.delete(name)
    assert argo.cluster.list(WORKFLOWS, labels=f"{pieces.RUN}={name}", brief=True) == []
