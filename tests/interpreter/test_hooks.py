import json

from tests.interpreter.conftest import dag, leaf, step, steps


def test_the_exit_handler_of_the_workflow_runs_whatever_became_of_it(run):
    for source, phase in (("print", "Succeeded"), ("fail 1", "Failed")):
        done = run(
            leaf("main", source), leaf("end", "{{workflow.status}} {{workflow.failures}}"), spec={"onExit": "end"}
        )
        assert (done.phase, done.phases()[".onExit"]) == (phase, "Succeeded")
        assert done.node(".onExit")["nodeFlag"] == {"hooked": True}
        assert done.host.requests[1].template["script"]["source"].startswith(phase)
    told = json.loads(done.host.requests[1].template["script"]["source"].removeprefix("Failed "))
    [failure] = json.loads(told)
    assert list(failure) == ["displayName", "message", "templateName", "phase", "podName", "finishedAt"]
    assert (failure["displayName"], failure["message"]) == ("w", "main: Error (exit code 1)")
    assert done.children("") == []


def test_the_arguments_of_an_exit_handler_know_how_the_workflow_ended(run):
    values = {"a": '{{=workflow.status == "Succeeded" ? "well" : "badly"}}', "b": "{{workflow.status}}"}
    end = leaf("end", inputs={"parameters": [{"name": name} for name in values]})
    arguments = {"parameters": [{"name": name, "value": value} for name, value in values.items()]}
    for source, given in (("print", ["well", "Succeeded"]), ("fail 1", ["badly", "Failed"])):
        done = run(leaf("main", source), end, spec={"hooks": {"exit": {"template": "end", "arguments": arguments}}})
        assert [parameter["value"] for parameter in done.node(".onExit")["inputs"]["parameters"]] == given


def test_a_failing_exit_handler_fails_a_workflow_that_succeeded(run):
    done = run(leaf("main"), leaf("end", "fail 2"), spec={"hooks": {"exit": {"template": "end"}}})
    assert (done.phase, done.message, done.phases()[""]) == ("Failed", "main: Error (exit code 2)", "Succeeded")


def test_the_exit_handler_of_a_step_gets_its_outputs_and_holds_up_the_next_group(run):
    give = leaf("give", "set n=4", outputs={"parameters": [{"name": "n", "valueFrom": {"path": "/n"}}]})
    take = leaf("take", inputs={"parameters": [{"name": "n"}]})
    arguments = {"parameters": [{"name": "n", "value": "{{steps.a.outputs.parameters.n}} {{steps.a.status}}"}]}
    hook = {"template": "take", "arguments": arguments}
    done = run(steps("main", step("a", "give", hooks={"exit": hook}), step("b", "give")), give, take)
    assert done.host.ran == ["w[0].a", "w[0].a.onExit", "w[1].b"]
    assert done.host.requests[1].inputs["parameters"] == [{"name": "n", "value": "4 Succeeded"}]
    assert done.children("[0].a") == ["[0].a.onExit", "[1]"]
    assert done.node("[0].a.onExit")["boundaryID"] == "w"


def test_a_failing_exit_handler_of_a_step_changes_nothing(run):
    done = run(steps("main", step("a", "l", onExit="bad")), leaf("l"), leaf("bad", "fail 1"))
    assert (done.phase, done.phases()["[0].a.onExit"]) == ("Succeeded", "Failed")


def test_an_exit_handler_that_cannot_be_started_ends_the_workflow(run):
    done = run(steps("main", step("a", "l", onExit="badName")), leaf("l"), leaf("badName"))
    assert (done.phase, done.phases()) == (
        "Error", {"": "Error", "[0]": "Error", "[0].a": "Succeeded", "[0].a.onExit": "Error"},
    )  # fmt: skip
    assert done.message.startswith('Pod "w-badName-')
    assert done.node("")["message"] == "Workflow operation error"


def test_members_of_loops_have_exit_handlers_and_the_group_of_a_dag_has_one_too(run):
    done = run(steps("main", step("a", "l", withItems=[1, 2], onExit="end")), leaf("l"), leaf("end"))
    assert done.children("[0].a(0:1)") == ["[0].a(0:1).onExit"]
    done = run(
        dag("main", step("a", "l", withItems=[1, 2], onExit="end"), step("b", "l", depends="a")), leaf("l"), leaf("end")
    )
    assert sorted(name for name in done.phases() if name.endswith("onExit")) == [
        ".a(0:1).onExit", ".a(1:2).onExit", ".a.onExit",
    ]  # fmt: skip
    assert done.host.ran[-1] == "w.b"


def test_hooks_fire_once_when_their_expression_holds(run):
    hooks = {
        "running": {"template": "h", "expression": 'steps.a.status == "Running"'},
        "failed": {"template": "h", "expression": 'steps["a"].status == "Failed"'},
        "never": {"template": "h", "expression": 'steps.a.status == "Error"'},
    }
    done = run(
        steps("main", step("a", "bad", hooks=hooks, continueOn={"failed": True}), step("b", "h")),
        leaf("h"),
        leaf("bad", "fail 1"),
    )
    assert [name for name in done.phases() if ".hooks." in name] == ["[0].a.hooks.running", "[0].a.hooks.failed"]
    assert done.children("[0].a") == ["[0].a.hooks.running", "[0].a.hooks.failed", "[1]"]
    assert (done.phase, done.host.ran[-1]) == ("Succeeded", "w[1].b")


def test_hooks_of_the_workflow(run):
    hooks = {
        "running": {"template": "h", "expression": 'workflow.status == "Running"'},
        "done": {"template": "h", "expression": 'workflow.status == "Succeeded"'},
        "failed": {"template": "h", "expression": 'workflow.status == "Failed"'},
    }
    done = run(steps("main", step("a", "h")), leaf("h"), spec={"hooks": hooks})
    assert [name for name in done.phases() if name.startswith(".hooks")] == [".hooks.running", ".hooks.done"]
    assert done.children("") == ["[0]", ".hooks.running", ".hooks.done"]


def test_a_hook_expression_that_cannot_be_evaluated(run):
    hooks = {"x": {"template": "h", "expression": "steps.nope.status == 1"}}
    done = run(steps("main", step("a", "h", hooks=hooks)), leaf("h"))
    assert done.phases() == {"": "Failed", "[0]": "Error", "[0].a": "Succeeded"}
    hooks["x"]["expression"] = "tasks.nope.status == 1"
    done = run(dag("main", step("a", "h", hooks=hooks)), leaf("h"))
    assert done.phases() == {"": "Error", ".a": "Error"}


def test_an_exit_handler_of_a_task_that_cannot_be_started(run):
    done = run(dag("main", step("a", "l", onExit="badName"), step("b", "l", depends="a")), leaf("l"), leaf("badName"))
    assert done.phases() == {"": "Succeeded", ".a": "Succeeded", ".a.onExit": "Error", ".b": "Succeeded"}
    done = run(dag("main", step("a", "l", onExit="badName")), leaf("l"), leaf("badName"))
    assert (done.phases()[""], done.node("")["message"][:14]) == ("Error", 'Pod "w-badName')
