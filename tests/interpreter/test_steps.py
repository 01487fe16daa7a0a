from tests.interpreter.conftest import leaf, step, steps


def test_groups_run_one_after_the_other_and_hang_on_each_others_ends(run):
    done = run(steps("main", step("a", "l"), [step("b", "l"), step("c", "l")], step("d", "l")), leaf("l"))
    assert done.phase == "Succeeded"
    assert done.host.ran == ["w[0].a", "w[1].b", "w[1].c", "w[2].d"]
    assert done.children("") == ["[0]"]
    assert done.children("[0].a") == ["[1]"]
    assert done.children("[1]") == ["[1].b", "[1].c"]
    assert done.children("[1].b") == done.children("[1].c") == ["[2]"]
    assert done.node("")["outboundNodes"] == [done.tree.id_of("w[2].d")]


def test_a_node_has_argos_fields(run):
    done = run(
        steps("main", step("a", "l", parameters={"x": 1.50})),
        leaf("l", "print hi", inputs={"parameters": [{"name": "x"}]}),
    )
    assert done.node("[0].a") == {
        "id": done.tree.id_of("w[0].a"),
        "name": "w[0].a",
        "displayName": "a",
        "type": "Pod",
        "phase": "Succeeded",
        "templateName": "l",
        "templateScope": "local/w",
        "boundaryID": "w",
        "inputs": {"parameters": [{"name": "x", "value": "1.5"}]},
        "outputs": {"exitCode": "0"},
        "taskResultSynced": True,
        "startedAt": "1970-01-01T00:16:40Z",
        "finishedAt": "1970-01-01T00:16:40Z",
    }
    assert done.node("[0]")["nodeFlag"] == {}
    assert done.host.requests[0].pod_name == "w-l-" + done.tree.id_of("w[0].a").removeprefix("w-")


def test_a_failed_step_lets_its_siblings_end_and_keeps_the_next_group_from_being_made(run):
    done = run(steps("main", [step("a", "bad"), step("b", "l")], step("c", "l")), leaf("l"), leaf("bad", "fail 3"))
    assert done.phases() == {
        "": "Failed", "[0]": "Failed", "[0].a": "Failed", "[0].b": "Succeeded",
    }  # fmt: skip
    assert done.message == done.node("[0]")["message"] == f"child '{done.tree.id_of('w[0].a')}' failed"
    assert done.node("[0].a")["message"] == "main: Error (exit code 3)"
    assert len(done.node("")["outboundNodes"]) == 2


def test_continue_on_covers_a_phase(run):
    done = run(
        steps(
            "main",
            [step("a", "bad", continueOn={"failed": True}), step("b", "err", continueOn={"error": True})],
            step("c", "l", when="{{steps.a.status}} == Failed && {{steps.a.exitCode}} == 2"),
        ),
        leaf("l"),
        leaf("bad", "fail 2"),
        leaf("err", "error lost"),
    )
    assert (done.phase, done.message) == ("Succeeded", None)
    assert done.phases()["[1].c"] == "Succeeded"


def test_when(run):
    done = run(
        steps(
            "main",
            step("a", "l"),
            [step("yes", "l", when="{{steps.a.outputs.result}} == heads"), step("no", "l", when="1 > 2")],
        ),
        leaf("l", "print heads"),
    )
    assert (done.phases()["[1].yes"], done.phases()["[1].no"]) == ("Succeeded", "Skipped")
    node = done.node("[1].no")
    assert (node["type"], node["message"], node["nodeFlag"]) == ("Skipped", "when '1 > 2' evaluated false", {})


def test_a_when_that_cannot_be_evaluated_makes_the_group_an_error_and_the_template_failed(run):
    done = run(steps("main", step("a", "l", when="{{steps.nope}} == 1")), leaf("l")).message
    assert done.startswith("invalid spec: templates.main.steps failed to resolve {{steps.nope}}")
    done = run(steps("main", step("a", "l", when="a b")), leaf("l"))
    assert (done.phase, done.phases()) == ("Failed", {"": "Failed", "[0]": "Error"})
    assert done.message.startswith("Failed to resolve references: Invalid 'when' expression 'a b'")


def test_values_go_from_step_to_step(run):
    give = leaf("give", 'set n=a"b\\{{x}}', outputs={"parameters": [{"name": "n", "valueFrom": {"path": "/n"}}]})
    take = leaf("take", "print {{inputs.parameters.n}}", inputs={"parameters": [{"name": "n"}]})
    done = run(
        steps("main", step("a", "give"), step("b", "take", parameters={"n": "<{{steps.a.outputs.parameters.n}}>"})),
        give,
        take,
    )
    assert done.host.requests[1].inputs == {"parameters": [{"name": "n", "value": '<a"b\\{{x}}>'}]}
    assert done.host.requests[1].template["script"]["source"] == 'print <a"b\\{{x}}>'


def test_results_are_captured_only_where_they_are_named(run):
    done = run(
        steps("main", [step("a", "l"), step("b", "l")], step("c", "l", when="'{{steps.a.outputs.result}}' != ''")),
        leaf("l"),
    )
    assert [r.capture_result for r in done.host.requests] == [True, False, False]


def test_outputs_of_steps(run):
    template = steps(
        "main",
        step("a", "give"),
        outputs={
            "parameters": [
                {"name": "p", "valueFrom": {"parameter": "{{steps.a.outputs.parameters.n}}"}},
                {"name": "q", "valueFrom": {"expression": "asInt(steps.a.outputs.parameters.n) + 1"}},
                {"name": "r", "valueFrom": {"parameter": "{{steps.a.outputs.parameters.no}}", "default": 7}},
            ],
            "artifacts": [{"name": "f", "from": "{{steps.a.outputs.artifacts.file}}"}],
        },
    )
    outputs = {
        "parameters": [{"name": "n", "valueFrom": {"path": "/n"}}],
        "artifacts": [{"name": "file", "path": "/f/"}],
    }
    done = run(
        steps("outer", step("in", "main")),
        template,
        leaf("give", "set n=4", outputs=outputs),
        spec={"entrypoint": "outer"},
    )
    assert done.phase == "Failed", "an output that is not declared is a mistake"
    template["outputs"]["parameters"].pop()
    done = run(
        steps("outer", step("in", "main")),
        template,
        leaf("give", "set n=4", outputs=outputs),
        spec={"entrypoint": "outer"},
    )
    assert done.node("[0].in")["outputs"]["parameters"] == [{"name": "p", "value": "4"}, {"name": "q", "value": "5"}]
    pod = done.host.requests[0].pod_name
    assert done.node("[0].in")["outputs"]["artifacts"] == [
        {"name": "f", "path": "/f", "s3": {"key": f"w/{pod}/file.tgz"}}
    ]


def test_artifacts_go_from_step_to_step(run):
    give = leaf("give", outputs={"artifacts": [{"name": "f", "path": "/out"}]})
    take = leaf("take", inputs={"artifacts": [{"name": "g", "path": "/in", "mode": 493}]})
    passed = {"g": {"from": "{{steps.a.outputs.artifacts.f}}", "subPath": "x/{{workflow.name}}"}}
    done = run(steps("main", step("a", "give"), step("b", "take", artifacts=passed)), give, take)
    pod = done.host.requests[0].pod_name
    assert done.host.requests[1].inputs == {
        "artifacts": [{"name": "g", "s3": {"key": f"w/{pod}/f.tgz/x/w"}, "path": "/in", "mode": 493}]
    }


def test_an_artifact_that_is_not_there_fails_the_group_unless_the_argument_is_optional(run):
    give = leaf("give", outputs={"artifacts": [{"name": "f", "path": "/out"}]})
    take = leaf("take", inputs={"artifacts": [{"name": "g", "path": "/in", "optional": True}]})
    first = step("a", "give", when="1 == 2")
    passed = {"from": "{{steps.a.outputs.artifacts.f}}"}
    done = run(steps("main", first, step("b", "take", artifacts={"g": passed})), give, take)
    assert done.phase == "Failed"
    assert done.message.startswith("Failed to resolve references: unable to resolve references: Unable to resolve: ")
    done = run(steps("main", first, step("b", "take", artifacts={"g": {**passed, "optional": True}})), give, take)
    assert done.phase == "Succeeded"
    assert done.host.requests[0].inputs == {"artifacts": [{"name": "g", "path": "/in", "optional": True}]}


def test_outputs_that_are_not_there_leave_no_empty_list(run):
    output = {"name": "g", "from": "{{steps.a.outputs.artifacts.g}}", "optional": True}
    give = leaf("give", outputs={"artifacts": [{"name": "g", "path": "/g"}]})
    done = run(steps("main", step("a", "give", when="false"), outputs={"artifacts": [output]}), give)
    assert done.phase == "Succeeded"
    assert not done.node("").get("outputs")


def test_what_the_workflow_gives(run):
    done = run(
        steps(
            "main",
            step("a", "l", parameters={"x": "{{workflow.parameters.n}} {{workflow.name}} {{=workflow.parameters.n}}"}),
        ),
        leaf(
            "l",
            "{{node.name}} {{steps.name}} {{pod.name}} {{inputs.parameters}}",
            inputs={"parameters": [{"name": "x"}]},
        ),
        spec={"arguments": {"parameters": [{"name": "n", "value": 3}]}},
    )
    request = done.host.requests[0]
    value = "3 w 3"
    assert request.inputs["parameters"] == [{"name": "x", "value": value}]
    assert request.template["script"]["source"].startswith(f"w[0].a a {request.pod_name} [{{")


def test_nested_templates_and_recursion(run):
    done = run(
        steps(
            "main",
            step(
                "in",
                "main",
                when="{{inputs.parameters.n}} < 5",
                parameters={"n": "{{=asInt(inputs.parameters.n) + 1}}"},
            ),
            inputs={"parameters": [{"name": "n", "default": "0"}]},
        ),
    )
    assert done.phase == "Succeeded"
    assert done.phases()["[0].in" * 6] == "Skipped"


def test_recursion_ends_at_a_depth_of_100(run):
    done = run(steps("main", step("in", "main")))
    assert done.phase == "Failed"
    deepest = max(done.tree.nodes.values(), key=lambda node: len(node["name"]))
    assert deepest["type"] == "Skipped"
    assert deepest["message"].startswith("Maximum recursion depth exceeded.")
    assert deepest["name"].count(".in") == 99


def test_ten_thousand_steps(run):
    done = run(steps("main", *[step(f"s{i}", "l") for i in range(3000)]), leaf("l"))
    assert (done.phase, len(done.tree.nodes)) == ("Succeeded", 6001)


def test_an_inline_template_and_template_defaults(run):
    inline = {"name": "a", "inline": {"script": {"source": "print x"}}}
    done = run(
        steps("main", inline),
        spec={"templateDefaults": {"script": {"image": "i", "command": ["sh"]}, "container": {"image": "c"}}},
    )
    assert done.phase == "Succeeded"
    assert "templateName" not in done.node("[0].a")
    assert done.host.requests[0].template["script"] == {"image": "i", "command": ["sh"], "source": "print x"}
    assert "container" not in done.host.requests[0].template


def test_parallelism_of_a_template_and_of_the_workflow(run):
    loop = step("a", "l", withSequence={"count": "6"})
    assert run(steps("main", loop), leaf("l")).host.most == 6
    assert run(steps("main", loop, parallelism=2), leaf("l")).host.most == 2
    assert run(steps("main", loop), leaf("l"), spec={"parallelism": 3}).host.most == 3
    nested = [step("x", "in"), step("y", "in")]
    done = run(steps("main", nested), steps("in", loop, parallelism=2), leaf("l"), spec={"parallelism": 3})
    assert (done.phase, done.host.most, len(done.host.ran)) == ("Succeeded", 3, 12)


def test_a_template_that_fails_fast_starts_nothing_more(run):
    loop = step("a", "l", parameters={"x": "{{item}}"}, withItems=["print", "fail 1", "print", "print"])
    take = leaf("l", "{{inputs.parameters.x}}", inputs={"parameters": [{"name": "x"}]})
    done = run(steps("main", loop, parallelism=1, failFast=True), take)
    assert len(done.host.ran) == 2
    text = "template has failed or errored children and failFast enabled"
    assert (done.phase, done.message, done.node("[0]")["message"]) == ("Failed", text, text)
    assert "outboundNodes" not in done.node("")


def test_invalid_manifests_run_nothing(run):
    done = run(steps("main", step("a", "nope")))
    assert (done.phase, done.tree.nodes) == ("Failed", {})
    assert done.message == "invalid spec: templates.main.steps[0].a template name 'nope' undefined"
    done = run(steps("main", step("a", "l")), leaf("l"), spec={"entrypiont": "main"})
    assert done.message == 'cannot unmarshall spec: json: unknown field "entrypiont"'
