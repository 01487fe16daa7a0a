"""What comes from outside: stop, suspend, resume, deadlines, and the record of an earlier life."""

import asyncio

import pytest

from dflow_hpc.errors import ConfigError, EngineError
from tests.interpreter.conftest import Clock, Host, dag, leaf, step, steps


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def test_stop_ends_what_runs_and_still_runs_the_exit_handler(run):
    async def during(it):
        await until(lambda: it.node("[0].a") and it.node("[0].a")["phase"] == "Running")
        it.interpreter.stop()

    done = run(
        steps("main", step("a", "l"), step("b", "l")),
        leaf("l", "hang"),
        leaf("end"),
        spec={"onExit": "end"},
        during=during,
    )
    assert (done.phase, done.message) == ("Failed", "Stopped with strategy 'Stop'")
    assert done.node("[0].a")["message"] == "workflow shutdown with strategy:  Stop"
    assert done.phases() == {"": "Failed", "[0]": "Failed", "[0].a": "Failed", ".onExit": "Succeeded"}


def test_terminate_runs_nothing_more(run):
    async def during(it):
        await until(lambda: it.host.active == 2)
        it.interpreter.terminate()

    tasks = [step("a", "l"), step("b", "l"), step("c", "l", depends="a")]
    done = run(dag("main", *tasks), leaf("l", "hang"), leaf("end"), spec={"onExit": "end"}, during=during)
    assert done.phases() == {"": "Failed", ".a": "Failed", ".b": "Failed"}
    assert done.host.active == 0


def test_what_waits_for_its_turn_fails_when_stopped(run):
    async def during(it):
        await until(lambda: it.host.active == 1)
        it.interpreter.stop()

    done = run(
        steps("main", step("a", "l", withItems=[1, 2, 3])), leaf("l", "hang"), spec={"parallelism": 1}, during=during
    )
    assert [done.node(f"[0].a({i}:{i + 1})")["message"] for i in range(3)] == [
        "workflow shutdown with strategy:  Stop", *["workflow shutdown with strategy: Stop"] * 2,
    ]  # fmt: skip


def test_what_waits_for_a_lock_can_be_stopped(run):
    mutex = {"mutexes": [{"name": "m"}]}

    def stop_when(condition):
        async def during(it):
            await it.interpreter._executor.locks.acquire(
                mutex, "other", namespace="default", resources=(), on_wait=lambda *_: None
            )
            await until(lambda: condition(it))
            it.interpreter.stop()

        return during

    def waits(it):
        return it.node("[0].a") and "Waiting for" in it.node("[0].a").get("message", "")

    done = run(steps("main", step("a", "l")), leaf("l", synchronization=mutex), during=stop_when(waits))
    assert (done.phase, done.node("[0].a")["phase"]) == ("Failed", "Failed")
    assert done.node("[0].a")["message"] == "Stopped with strategy 'Stop'"

    def pending(it):
        return it.tree.head.get("phase") == "Pending"

    done = run(leaf("main"), spec={"synchronization": mutex}, during=stop_when(pending))
    assert (done.phase, done.host.ran) == ("Failed", [])


def test_a_leaf_that_its_host_does_not_take(run):
    class Refusing(Host):
        async def outcome(self, request):
            raise ConfigError("machine 'x' was asked for; known are: none")

    done = run(steps("main", step("a", "l")), leaf("l"), host=Refusing(Clock()))
    assert (done.phase, done.phases()["[0].a"]) == ("Failed", "Error")
    assert done.node("[0].a")["message"].startswith("machine 'x' was asked for")


def test_suspend_starts_nothing_more_until_resume(run):
    async def during(it):
        await until(lambda: it.host.active == 1)
        it.interpreter.suspend()
        for _ in range(50):
            await asyncio.sleep(0)
        assert it.host.ran == ["w[0].a"]
        it.interpreter.resume()

    done = run(steps("main", step("a", "l"), step("b", "l")), leaf("l"), during=during)
    assert (done.phase, done.host.ran) == ("Succeeded", ["w[0].a", "w[1].b"])


def test_a_suspended_node_waits_to_be_resumed_and_supplied(run):
    async def during(it):
        await until(lambda: it.node("[0].ask") and it.node("[0].ask")["phase"] == "Running")
        assert it.host.ran == []
        with pytest.raises(EngineError, match="those that wait are: ask"):
            it.interpreter.resume("nope")
        with pytest.raises(EngineError, match="it waits for: answer"):
            it.interpreter.resume("ask", {"question": "1"})
        it.interpreter.resume("displayName=ask", {"answer": "yes"})

    outputs = {"parameters": [{"name": "answer", "valueFrom": {"supplied": {}}}]}
    done = run(
        steps("main", step("ask", "ask"), step("b", "l", parameters={"x": "{{steps.ask.outputs.parameters.answer}}"})),
        {"name": "ask", "suspend": {}, "outputs": outputs},
        leaf("l", inputs={"parameters": [{"name": "x"}]}),
        during=during,
    )
    assert done.node("[0].ask")["type"] == "Suspend"
    assert done.host.requests[0].inputs["parameters"] == [{"name": "x", "value": "yes"}]


def test_a_suspended_node_goes_on_after_its_duration(run):
    outputs = {"parameters": [{"name": "answer", "valueFrom": {"supplied": {}, "default": "no"}}]}
    done = run({"name": "main", "suspend": {"duration": "1m"}, "outputs": outputs})
    assert (done.phase, done.clock.now) == ("Succeeded", 1060)
    assert done.node("")["outputs"] == {"parameters": [{"name": "answer", "value": "no"}]}
    done = run(
        {
            "name": "main",
            "suspend": {"duration": "5"},
            "outputs": {"parameters": [{"name": "a", "valueFrom": {"supplied": {}}}]},
        }
    )
    assert done.phase == "Error"
    assert "'a' has not been set and does not have a default value" in done.message


def test_a_stopped_workflow_fails_its_suspended_nodes(run):
    async def during(it):
        await until(lambda: it.node("") and it.node("")["phase"] == "Running")
        it.interpreter.stop()

    done = run({"name": "main", "suspend": {}}, during=during)
    assert (done.phase, done.node("")["message"]) == ("Failed", "Stopped with strategy 'Stop'")


def test_deadlines_and_time_limits_reach_the_leaf(run):
    limited = leaf("l", timeout="90s", activeDeadlineSeconds="{{workflow.parameters.s}}")
    arguments = {"parameters": [{"name": "s", "value": "60"}]}
    done = run(steps("main", step("a", "l")), limited, spec={"activeDeadlineSeconds": 100, "arguments": arguments})
    request = done.host.requests[0]
    assert (request.deadline, request.timeout) == (1100, 60)


def test_nothing_starts_after_the_deadline(run):
    done = run(
        steps("main", step("wait", "wait", continueOn={"failed": True}), step("a", "l")),
        {"name": "wait", "suspend": {"duration": "200"}},
        leaf("l"),
        spec={"activeDeadlineSeconds": 100},
    )
    assert done.node("[0].wait")["message"] == "Step exceeded its deadline"
    done = run(leaf("main"), spec={"activeDeadlineSeconds": -1})
    assert (done.phase, done.message, done.host.ran) == ("Failed", "Step exceeded its deadline", [])


def test_a_finished_leaf_of_an_earlier_life_is_not_run_again(run):
    take = leaf("take", "print {{inputs.parameters.x}}", inputs={"parameters": [{"name": "x"}]})
    templates = [
        steps("main", step("a", "l"), step("b", "take", parameters={"x": "{{steps.a.outputs.result}}"})),
        leaf("l", "print 7"),
        take,
    ]
    first = run(*templates)
    recorded = {key: node for key, node in first.tree.nodes.items() if node["name"] == "w[0].a"}
    recorded[first.tree.id_of("w[0].a")] = {**first.node("[0].a"), "startedAt": "2026-01-01T00:00:00Z"}
    second = run(*templates, recorded=recorded)
    assert second.host.ran == ["w[1].b"]
    assert second.host.requests[0].inputs == first.host.requests[1].inputs
    assert second.node("[0].a") == recorded[first.tree.id_of("w[0].a")]


def test_attempts_of_an_earlier_life_count(run):
    template = leaf("main", "fail 1", retryStrategy={"limit": 2, "backoff": {"duration": "10"}})
    first = run(template)
    recorded = {key: node for key, node in first.tree.nodes.items() if node["name"] in ("w(0)", "w(1)")}
    second = run(template, recorded=recorded)
    assert (second.host.ran, second.message) == (["w(2)"], "No more retries left")
    assert second.tree.nodes.keys() == first.tree.nodes.keys()


def test_outputs_are_reused_by_key(run):
    key = {"parameters": [{"name": "dflow_key"}]}
    inner = steps(
        "in",
        step("x", "l"),
        inputs=key,
        outputs={"parameters": [{"name": "o", "valueFrom": {"parameter": "{{steps.x.outputs.parameters.o}}"}}]},
    )
    outputs = {"parameters": [{"name": "o", "value": "old"}]}
    done = run(
        steps(
            "main",
            step("a", "in", parameters={"dflow_key": "iter-{{workflow.name}}"}),
            step("b", "take", parameters={"dflow_key": "{{steps.a.outputs.parameters.o}}"}),
        ),
        inner,
        leaf("l", "set o=new", outputs={"parameters": [{"name": "o", "valueFrom": {"path": "/o"}}]}),
        leaf("take", inputs=key),
        reused={"iter-w": outputs},
    )
    assert done.host.ran == ["w[1].b"]
    node = done.node("[0].a")
    assert (node["type"], node["phase"], node["outputs"], done.children("[0].a")) == (
        "Steps",
        "Succeeded",
        outputs,
        ["[1]"],
    )
    assert done.host.requests[0].inputs["parameters"][0]["value"] == "old"


def test_what_is_drawn_at_random_depends_on_the_run_and_the_node(run):
    loop = step("a", "l", withSequence={"count": "3"}, parameters={"x": "{{=sprig.uuidv4()}}"})
    take = leaf("l", "{{=sprig.randInt(0, 1000000)}}", inputs={"parameters": [{"name": "x"}]})
    first, second = run(steps("main", loop), take), run(steps("main", loop), take)
    drawn = [[r.template["script"]["source"] for r in done.host.requests] for done in (first, second)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 3
    other = run(steps("main", loop), take, metadata={"uid": "other"})
    assert [r.template["script"]["source"] for r in other.host.requests] != drawn[0]
