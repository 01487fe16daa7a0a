import pytest

from tests.interpreter.conftest import dag, leaf, step, steps


def test_tasks_wait_for_what_they_depend_on(run):
    done = run(
        dag(
            "main",
            step("d", "l", depends="b && c"),
            step("b", "l", depends="a"),
            step("c", "l", depends="a"),
            step("a", "l"),
        ),
        leaf("l"),
    )
    assert done.host.ran == ["w.a", "w.b", "w.c", "w.d"]
    assert done.children("") == [".a"]
    assert done.children(".a") == [".b", ".c"]
    assert done.children(".b") == done.children(".c") == [".d"]
    assert done.node("")["outboundNodes"] == [done.tree.id_of("w.d")]


def test_a_failure_omits_what_depends_on_it_and_fails_the_dag(run):
    done = run(
        dag(
            "main",
            step("a", "bad"),
            step("b", "l", dependencies=["a"]),
            step("c", "l", dependencies=["b"]),
            step("d", "l"),
        ),
        leaf("l"),
        leaf("bad", "fail 1"),
    )
    assert done.phases() == {"": "Failed", ".a": "Failed", ".b": "Omitted", ".c": "Omitted", ".d": "Succeeded"}
    assert done.message is None
    node = done.node(".b")
    assert (node["type"], node["message"]) == ("Skipped", "omitted: depends condition not met")


def test_a_failure_that_somebody_goes_on_after_does_not_fail_the_dag(run):
    done = run(
        dag("main", step("a", "bad"), step("b", "l", depends="a.Failed"), step("c", "l", depends="a.Succeeded || b")),
        leaf("l"),
        leaf("bad", "fail 1"),
    )
    assert done.phases() == {"": "Succeeded", ".a": "Failed", ".b": "Succeeded", ".c": "Succeeded"}


@pytest.mark.parametrize(
    ("cover", "phase", "after"), [({"failed": True}, "Succeeded", "Succeeded"), ({"error": True}, "Failed", "Omitted")]
)
def test_continue_on(run, cover, phase, after):
    done = run(
        dag("main", step("a", "bad", continueOn=cover), step("b", "l", dependencies=["a"])),
        leaf("l"),
        leaf("bad", "fail 1"),
    )
    assert (done.phase, done.phases()[".b"]) == (phase, after)


def test_only_targets_and_their_ancestors_run(run):
    tasks = [step("a", "l"), step("b", "l", depends="a"), step("c", "l", depends="a"), step("x", "l")]
    done = run(dag("main", *tasks, dag={"target": "b {{workflow.parameters.more}}"}), leaf("l"),
               spec={"arguments": {"parameters": [{"name": "more", "value": "x"}]}})  # fmt: skip
    assert set(done.host.ran) == {"w.a", "w.b", "w.x"}


def test_a_target_that_is_not_there(run):
    arguments = {"arguments": {"parameters": [{"name": "t", "value": "x"}]}}
    done = run(dag("main", step("a", "l"), dag={"target": "{{workflow.parameters.t}}"}), leaf("l"), spec=arguments)
    assert (done.phase, done.message) == ("Error", "error in entry template execution: target x does not exist")


def test_a_loop_has_a_group_of_its_own(run):
    done = run(
        dag("main", step("a", "l", withItems=["x", "y"]), step("b", "l", depends="a.AnySucceeded")),
        leaf("l", "print 1"),
    )
    assert done.node(".a")["type"] == "TaskGroup"
    assert done.children(".a") == [".a(0:x)", ".a(1:y)"]
    assert done.children("") == [".a"]
    assert done.children(".a(0:x)") == done.children(".a(1:y)") == [".b"]


def test_a_failed_member_gives_its_phase_to_the_group(run):
    take = leaf("l", "{{inputs.parameters.x}}", inputs={"parameters": [{"name": "x"}]})
    task = step("a", "l", withItems=["fail 1", "error lost", "print"], parameters={"x": "{{item}}"})
    done = run(dag("main", task, step("b", "take", depends="a.AllFailed")), take, leaf("take"))
    assert (done.phases()[".a"], done.phases()[".b"], done.phase) == ("Error", "Omitted", "Failed")


def test_an_empty_loop_is_skipped_and_lets_others_go_on(run):
    done = run(dag("main", step("a", "l", withParam="[]"), step("b", "l", depends="a")), leaf("l"))
    node = done.node(".a")
    assert (node["type"], node["phase"], node["message"]) == ("Skipped", "Skipped", "Skipped, empty params")
    assert done.phases()[".b"] == "Succeeded"


def test_values_of_ancestors_are_known(run):
    give = leaf("give", "set n=[1, 2]", outputs={"parameters": [{"name": "n", "valueFrom": {"path": "/n"}}]})
    take = leaf("take", inputs={"parameters": [{"name": "n"}]})
    loop = step(
        "c",
        "take",
        depends="b",
        withParam="{{tasks.a.outputs.parameters.n}}",
        parameters={"n": "{{item}} {{tasks.a.status}}"},
    )
    done = run(
        dag("main", step("a", "give"), step("b", "give", depends="a"), loop,
            outputs={"parameters": [{"name": "all", "valueFrom": {"parameter": "{{tasks.a.outputs.parameters.n}}"}}]}),
        give, take,
    )  # fmt: skip
    assert [r.inputs["parameters"][0]["value"] for r in done.host.requests[2:]] == ["1 Succeeded", "2 Succeeded"]
    assert done.node("")["outputs"] == {"parameters": [{"name": "all", "value": "[1, 2]"}]}


def test_what_cannot_be_resolved_is_an_error_of_the_task(run):
    take = leaf("take", inputs={"parameters": [{"name": "n"}]})
    done = run(
        dag(
            "main",
            step("a", "take", parameters={"n": "1"}, withParam="{{=1}}"),
            step("b", "take", depends="a", parameters={"n": "2"}),
        ),
        take,
    )
    assert done.phases() == {"": "Error", ".a": "Error", ".b": "Omitted"}
    assert done.node(".a")["message"] == (
        "withParam value could not be parsed as a JSON list: 1: "
        "json: cannot unmarshal number into Go value of type []v1alpha1.Item"
    )


def test_a_template_inside_a_task_that_cannot_be_executed(run):
    outputs = {"parameters": [{"name": "o", "valueFrom": {"expression": "nope.x"}}]}
    done = run(dag("main", step("a", "in")), steps("in", step("s", "l"), outputs=outputs), leaf("l"))
    assert done.phases()[".a"] == "Error"
    assert done.node(".a")["message"].startswith("task 'w.a' errored: ")


def test_a_long_chain_and_a_wide_fan(run):
    chain = [step("t0", "l"), *[step(f"t{i}", "l", depends=f"t{i - 1}") for i in range(1, 1500)]]
    done = run(dag("main", *chain), leaf("l"))
    assert (done.phase, len(done.host.ran)) == ("Succeeded", 1500)
    fan = [step(f"t{i}", "l", depends="start") for i in range(1000)]
    done = run(dag("main", step("start", "l"), *fan), leaf("l"))
    assert (done.phase, len(done.children(".start"))) == ("Succeeded", 1000)
