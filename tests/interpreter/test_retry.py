import pytest

from tests.interpreter.conftest import Clock, Host, dag, leaf, step, steps


def flaky(*ends, **fields):
    """Return a leaf whose attempts end as told, and a host that does it."""

    class Flaky(Host):
        async def outcome(self, request):
            number = int(request.node_name.rpartition("(")[2].rstrip(")"))
            script = {"source": ends[min(number, len(ends) - 1)]}
            object.__setattr__(request, "template", {**request.template, "script": script})
            return await super().outcome(request)

    return leaf("main", **fields), Flaky(Clock())


def test_attempts_are_children_of_the_retry_node(run):
    template, host = flaky("fail 1", "error x", "set a=1", retryStrategy={"limit": "5", "retryPolicy": "Always"})
    done = run(template, host=host)
    assert done.phases() == {"": "Succeeded", "(0)": "Failed", "(1)": "Error", "(2)": "Succeeded"}
    assert done.children("") == ["(0)", "(1)", "(2)"]
    node = done.node("")
    assert (node["type"], node.get("message")) == ("Retry", None)
    assert node["outputs"] == done.node("(2)")["outputs"]
    assert done.node("(0)")["nodeFlag"] == {"retried": True}
    assert done.node("(0)")["displayName"] == "w(0)"
    assert done.host.requests[1].pod_name == "w-main-" + done.tree.id_of("w(1)").removeprefix("w-")


@pytest.mark.parametrize(
    ("strategy", "ends", "attempts", "message"),
    [
        ({"limit": 2}, ["fail 1"], 3, "No more retries left"),
        ({"limit": 2}, ["error lost"], 1, "lost"),
        ({"limit": 2, "retryPolicy": "OnError"}, ["fail 1"], 1, "main: Error (exit code 1)"),
        ({"limit": 2, "retryPolicy": "OnError"}, ["error lost", "fail 1"], 2, "main: Error (exit code 1)"),
        ({"limit": 9, "expression": "asInt(lastRetry.exitCode) == 1"}, ["fail 1", "fail 2"], 2,
         "retryStrategy.expression evaluated to false"),
        ({"limit": 9, "expression": "asInt(retries) < 2"}, ["fail 1"], 3,
         "retryStrategy.expression evaluated to false"),
        ({"limit": 1, "retryPolicy": "OnTransientError"}, ["error dial: i/o timeout"], 2, "No more retries left"),
    ],
)  # fmt: skip
def test_when_there_is_no_further_attempt(run, strategy, ends, attempts, message):
    template, host = flaky(*ends, retryStrategy=strategy)
    done = run(template, host=host)
    assert len(host.requests) == attempts
    assert (done.node("")["message"], done.message) == (message, message)
    assert done.phase == done.phases()[f"({attempts - 1})"]


def test_a_limit_that_is_no_number(run):
    done = run(leaf("main", "fail 1", retryStrategy={"limit": "many"}))
    assert done.phase == "Error"
    assert done.message == "error in entry template execution: value 'many' cannot be resolved to an int"


def test_backoff(run):
    backoff = {"duration": "10", "factor": "2", "cap": "30s"}
    template, host = flaky("fail 1", retryStrategy={"limit": 4, "backoff": backoff})
    done = run(template, host=host)
    assert done.clock.now - 1000 == 10 + 20 + 30 + 30
    waits = [c["set"]["message"] for c in done.changes if str(c.get("set", {}).get("message")).startswith("Backoff")]
    assert waits == [
        "Backoff for 10 seconds",
        "Backoff for 20 seconds",
        "Backoff for 30 seconds",
        "Backoff for 30 seconds",
    ]
    backoff["maxDuration"] = "45"
    done = run(template, host=host)
    assert (done.clock.now - 1000, done.message) == (30, "Backoff would exceed max duration limit")
    assert host.requests[-1].deadline == 1045


def test_what_an_attempt_knows(run):
    source = "{{retries}} {{lastRetry.exitCode}} {{lastRetry.status}} {{lastRetry.message}}"
    done = run(leaf("main", f"fail 3 {source}", retryStrategy={"limit": 1}))
    assert [r.template["script"]["source"] for r in done.host.requests] == [
        "fail 3 0 0  ",
        "fail 3 1 3 0 0   Failed main: Error (exit code 3 0 0  )",
    ]


def test_steps_and_dags_are_retried_as_a_whole(run):
    done = run(
        steps("main", step("a", "in"), retryStrategy={"limit": 1}),
        dag("in", step("t", "l")),
        leaf("l", "fail 1"),
    )
    assert done.children("") == ["(0)", "(1)"]
    assert done.node("(0)")["type"] == "Steps"
    assert done.node("(1)[0].a.t")["boundaryID"] == done.tree.id_of("w(1)[0].a")
    assert (done.phase, done.message) == ("Failed", "No more retries left")


def test_a_strategy_for_all_templates(run):
    done = run(steps("main", step("a", "l")), leaf("l"), spec={"retryStrategy": {"limit": "1"}})
    assert done.phases() == {
        "": "Succeeded", "(0)": "Succeeded", "(0)[0]": "Succeeded", "(0)[0].a": "Succeeded", "(0)[0].a(0)": "Succeeded",
    }  # fmt: skip


def test_the_next_group_hangs_on_the_last_attempt(run):
    done = run(
        steps("main", step("a", "l"), step("b", "ok")), leaf("l", "fail 1", retryStrategy={"limit": 0}), leaf("ok")
    )
    assert done.phase == "Failed"
    done = run(steps("main", step("a", "l"), step("b", "ok")), leaf("l", retryStrategy={"limit": 0}), leaf("ok"))
    assert done.children("[0].a(0)") == ["[1]"]
