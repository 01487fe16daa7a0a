"""Workflows that are too large for one object: what becomes of them, and what is refused."""

import json
import re

import pytest

from dflow_hpc.engines.argo import pieces
from dflow_hpc.engines.argo.pieces import merged, split
from dflow_hpc.errors import EngineError
from tests.argo_schema import check

LEAF = {"name": "leaf", "inputs": {"parameters": [{"name": "n"}]}, "container": {"image": "busybox"}}


def step(number, **more):
    arguments = {"parameters": [{"name": "n", "value": str(number)}]}
    return {"name": f"step-{number}", "template": "leaf", "arguments": arguments, **more}


def workflow(entry, **spec):
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "big-1", "labels": {"a": "b"}},
        "spec": {"entrypoint": "main", "templates": [LEAF, {"name": "main", **entry}], **spec},
    }


def members_of(piece):
    entry = piece["spec"]["templates"][0]
    return [one["name"] for one in (entry.get("dag") or {"tasks": entry.get("steps", [[]])[0]})["tasks"]]


def test_what_fits_stays_as_it_is():
    small = workflow({"steps": [[step(n) for n in range(100)]]})
    assert split(small) == (small, [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["steps", "dag"])
def test_steps_move_into_pieces_of_their_own(kind):
    many = [step(n) for n in range(5000)]
    last = step("{{workflow.parameters.p}}")
    if kind == "steps":
        entry = {"steps": [many, [{**last, "name": "last"}]]}
    else:
        entry = {"dag": {"tasks": [*many, {**last, "name": "last", "depends": "step-7"}]}}
    big = workflow(entry, arguments={"parameters": [{"name": "p", "value": "1"}]}, parallelism=100, onExit="leaf")
    before = json.dumps(big)
    whole, parts = split(big)
    assert json.dumps(big) == before
    for each in (whole, *parts):
        check(each)
        assert pieces.expected(each) < pieces.MOST
    moved = [name for part in parts for name in members_of(part)]
    left = set() if kind == "steps" else {"step-7"}
    assert sorted(moved) == sorted({one["name"] for one in many} - left)
    assert {part["metadata"]["labels"][pieces.RUN] for part in parts} == {"big-1"}
    assert all(part["spec"]["suspend"] and "onExit" not in part["spec"] for part in parts)
    assert sum(part["spec"]["parallelism"] for part in parts) <= 100
    assert whole["spec"]["onExit"] == "leaf"
    waiting = [t for t in whole["spec"]["templates"] if "resource" in t]
    assert [json.loads(t["resource"]["manifest"])["metadata"]["name"] for t in waiting] == [
        part["metadata"]["name"] for part in parts
    ]


def test_steps_that_give_or_take_stay():
    taken = [step(n) for n in range(3)]
    takes = {**step("{{steps.step-1.outputs.result}}"), "name": "takes"}
    filler = [step(n) for n in range(10, 4500)]
    whole, parts = split(workflow({"steps": [[*taken, *filler], [takes]]}))
    left = [one["name"] for group in whole["spec"]["templates"][1]["steps"] for one in group]
    assert left == ["step-1", *(f"dflow-piece-{n}" for n in range(1, len(parts) + 1)), "takes"]


def test_what_argo_would_not_take_is_refused_with_its_sizes():
    large = workflow({"steps": [[step("x" * 1_100_000)]]})
    with pytest.raises(EngineError, match=r"manifest has \d+ bytes, and the state of \d+ nodes .* main \(\d+\)"):
        split(large)


@pytest.mark.parametrize(
    "large",
    [
        workflow({"steps": [[step(0, withSequence={"count": "9000"})]]}),
        workflow({"steps": [[step(0, withItems=list(range(9000)))]]}),
        workflow({"steps": [[step(n) for n in range(5000)]]}, activeDeadlineSeconds=60),
        workflow({"dag": {"tasks": [step(n) for n in range(5000)], "failFast": False}}),
    ],
)
def test_of_what_may_become_too_large_a_notice_tells_the_sizes(large):
    whole, parts = split(large)
    told = [text for text in map(pieces.doubt, (whole, *parts)) if text]
    assert len(told) == 1
    assert re.search(r"manifest has \d+ bytes, and the state of \d+ nodes", told[0])


def test_trees_come_together():
    whole, parts = split(workflow({"steps": [[step(n) for n in range(5000)]]}))
    stand_in = {"id": "big-1-1", "type": "Pod", "templateName": "dflow-piece-1", "phase": "Running"}
    whole["status"] = {"phase": "Running", "nodes": {"big-1": {"id": "big-1"}, "big-1-1": stand_in}}
    name = parts[0]["metadata"]["name"]
    parts[0]["status"] = {"nodes": {name: {"id": name, "type": "Steps"}}}
    nodes = merged(whole, parts)["status"]["nodes"]
    assert nodes == {
        "big-1": {"id": "big-1"},
        "big-1-1": {**stand_in, "children": [name]},
        name: {"id": name, "type": "Steps"},
    }
    assert "children" not in stand_in
    assert merged(whole, [])["status"]["nodes"]["big-1-1"] == stand_in
