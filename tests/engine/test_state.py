"""What journal records add up to, and what failed and is run again."""

from dflow_hpc.engines.local.state import RunState, failures, to_run_again, workflow_object


def node(id, type="Pod", phase="Succeeded", children=(), **fields):
    return {"id": id, "name": id, "type": type, "phase": phase, "children": list(children), **fields}


def tree(*nodes):
    return {item["id"]: item for item in nodes}


def test_folding_gives_nodes_status_and_spec():
    state = RunState(
        "r",
        [
            {"session": {"pid": 1}},
            {"status": {"phase": "Running", "startedAt": "t0"}},
            {"node": "r", "set": {"id": "r", "name": "r", "type": "Steps", "phase": "Running", "message": "x"}},
            {"node": "r", "child": "a"},
            {"node": "a", "set": {"id": "a", "name": "r.a", "type": "Pod", "phase": "Pending"}},
            {"node": "a", "set": {"phase": "Succeeded", "outputs": {"exitCode": "0"}}},
            {"node": "r", "set": {"phase": "Succeeded", "message": None}},
            {"status": {"phase": "Succeeded"}},
            {"spec": {"shutdown": "Stop"}},
            {"metadata": {"labels": {"x": "z", "more": "1"}, "annotations": {}}},
            {"requests": 17},
        ],
    )
    assert state.tree.nodes == {
        "r": {"id": "r", "name": "r", "type": "Steps", "phase": "Succeeded", "children": ["a"]},
        "a": {"id": "a", "name": "r.a", "type": "Pod", "phase": "Succeeded", "outputs": {"exitCode": "0"}},
    }
    assert list(state.leaves) == ["a"]
    assert (state.phase, state.ended, state.requests) == ("Succeeded", True, 17)
    workflow = workflow_object({"metadata": {"name": "r", "labels": {"x": "y"}}, "spec": {"entrypoint": "m"}}, state)
    assert workflow["spec"] == {"entrypoint": "m", "shutdown": "Stop"}
    assert workflow["metadata"]["labels"] == {
        "x": "z",
        "more": "1",
        "workflows.argoproj.io/phase": "Succeeded",
        "workflows.argoproj.io/completed": "true",
    }
    assert "annotations" not in workflow["metadata"]
    assert workflow["status"]["nodes"] == state.tree.nodes


def test_a_new_session_builds_the_tree_again_and_forgets_no_leaf():
    ended = {"node": "a", "set": {"id": "a", "type": "Pod", "phase": "Succeeded"}}
    running = {"node": "b", "set": {"id": "b", "type": "Pod", "phase": "Running"}}
    state = RunState("r", [{"session": {}}, ended, running, {"session": {}}])
    assert state.tree.nodes == {}
    assert list(state.leaves) == ["a"]
    state.apply({"drop": ["a"]})
    assert state.leaves == {}


def test_failures_are_those_that_nothing_else_explains():
    nodes = tree(
        node("r", "Steps", "Failed", ["r0"], message="child 'b' failed"),
        node("r0", "StepGroup", "Failed", ["b", "c", "t"], boundaryID="r"),
        node("b", "Pod", "Failed", boundaryID="r", finishedAt="2"),
        node("c", "Retry", "Succeeded", ["c0", "c1"], boundaryID="r"),
        node("c0", "Pod", "Failed", boundaryID="r", nodeFlag={"retried": True}),
        node("c1", "Pod", "Succeeded", boundaryID="r", nodeFlag={"retried": True}),
        node("t", "Retry", "Failed", ["t0", "t1"], boundaryID="r"),
        node("t0", "Pod", "Failed", boundaryID="r", nodeFlag={"retried": True}),
        node("t1", "Pod", "Error", boundaryID="r", nodeFlag={"retried": True}, finishedAt="1"),
    )
    assert [item["id"] for item in failures(nodes)] == ["t1", "b"]


def test_a_group_without_a_failed_member_explains_itself():
    nodes = tree(
        node("r", "Steps", "Failed", ["r0"]),
        node("r0", "StepGroup", "Error", boundaryID="r", message="withParam value could not be parsed"),
    )
    assert [item["id"] for item in failures(nodes)] == ["r0"]


def test_a_retry_runs_again_what_failed_and_what_came_after():
    nodes = tree(
        node("r", "DAG", "Failed", ["a", "b", "d"]),
        node("a", "Pod", "Failed", ["after"]),
        node("after", "Pod", "Omitted"),
        node("b", "Retry", "Succeeded", ["b0", "b1"]),
        node("b0", "Steps", "Failed", ["b00"], nodeFlag={"retried": True}),
        node("b00", "Pod", "Failed"),
        node("b1", "Steps", "Succeeded", ["b10"], nodeFlag={"retried": True}),
        node("b10", "Pod", "Succeeded"),
        node("d", "Retry", "Failed", ["d0", "d1"]),
        node("d0", "Pod", "Failed"),
        node("d1", "Pod", "Failed"),
        node("e", "Pod", "Succeeded"),
        {**node("x", "Pod", "Succeeded"), "name": "r.onExit"},
    )
    assert to_run_again(nodes, "r") == {"a", "after", "d0", "d1", "x"}


def test_a_retry_keeps_a_failure_that_the_run_got_over():
    nodes = tree(
        node("r", "DAG", "Failed", ["a", "c", "h"]),
        node("a", "Pod", "Failed", ["b"]),
        node("b", "Pod", "Succeeded", ["last"]),
        node("last", "Pod", "Failed"),
        node("c", "Retry", "Failed", ["c0", "c1"]),
        node("c0", "Pod", "Failed", nodeFlag={"retried": True}),
        node("c1", "Pod", "Failed", ["b"], nodeFlag={"retried": True}),
        node("h", "Pod", "Failed", ["h.onExit"]),
        node("h.onExit", "Pod", "Succeeded", nodeFlag={"hooked": True}),
    )
    assert to_run_again(nodes, "r") == {"last", "h", "h.onExit"}
    assert to_run_again(nodes, "r", ["b"]) == {"a", "b", "last", "c0", "c1", "h", "h.onExit"}
