"""The comparison of node trees, and the page that is written of it."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import argo  # noqa: F401  (it knows where the rig's modules lie)
import table
from trees import differences


def _status(**changes):
    root = {"id": "w", "name": "w", "type": "DAG", "phase": "Succeeded", "children": ["w-1", "w-2"]}
    left = {"id": "w-1", "name": "w.a", "type": "Pod", "phase": "Succeeded", "boundaryID": "w"}
    right = {"id": "w-2", "name": "w.b", "type": "Pod", "phase": "Succeeded", "boundaryID": "w"}
    left["outputs"] = {"artifacts": [{"name": "x", "s3": {"key": "there"}}, {"name": "y"}], "exitCode": "0"}
    nodes = {node["id"]: node for node in (root, left, right)}
    for key, change in changes.items():
        nodes[key.replace("_", "-")] |= change
    return {"phase": "Succeeded", "nodes": nodes}


def test_places_of_artifacts_and_the_order_under_a_dag_do_not_count():
    artifacts = [{"name": "y"}, {"name": "x", "raw": None} | {"s3": {"key": "here"}}]
    artifacts[1].pop("raw")
    ours = _status(w={"children": ["w-2", "w-1"]}, w_1={"outputs": {"artifacts": artifacts, "exitCode": "0"}})
    assert differences(_status(), ours) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"w_1": {"phase": "Failed"}}, "w.a phase: 'Succeeded' / 'Failed'"),
        ({"w_1": {"message": "so"}}, "w.a message: None / 'so'"),
        ({"w": {"children": ["w-1"]}}, "w children: ['w.a', 'w.b'] / ['w.a']"),
        ({"w_2": {"inputs": {"parameters": [{"name": "p", "value": "1"}]}}}, "w.b inputs: {} / "),
    ],
)
def test_what_differs_is_said(change, said):
    [line] = differences(_status(), _status(**change))
    assert line.startswith(said)


def test_nodes_that_one_side_alone_has_are_said():
    ours = _status()
    del ours["nodes"]["w-2"]
    ours["nodes"]["w"]["children"] = ["w-1"]
    assert "missing: w.b (Pod Succeeded)" in differences(_status(), ours)


def test_a_finding_that_the_page_does_not_have_is_said():
    differs = SimpleNamespace(word="differs", how="", lines=["w phase"])
    [page, reason] = table.contradictions({"no-such-manifest": differs})
    assert page == "docs/fidelity.md does not say: | `no-such-manifest` | differs | no reason is known |"
    assert reason == "no-such-manifest differs, and no reason is known"
