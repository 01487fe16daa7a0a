"""Steps: what a step is given, what a scope gives, recursion, hooks, names."""

from __future__ import annotations

import json

import pytest
from kubernetes import client

from dflow_hpc import (
    DAG,
    ContainerOPTemplate,
    HTTPOPTemplate,
    InputArtifact,
    InputParameter,
    Inputs,
    LocalArtifact,
    OutputArtifact,
    OutputParameter,
    Outputs,
    PythonOPTemplate,
    S3Artifact,
    Secret,
    ShellOPTemplate,
    Step,
    Steps,
    Task,
    Workflow,
    if_expression,
)
from dflow_hpc.errors import CompileError
from tests.compile.programs import (
    Files,
    Flag,
    Free,
    Make,
    Named,
    Take,
    Use,
    compiled,
    entry,
    members,
    op,
    record,
    sources,
    templates,
    values,
)


def test_steps_are_given_constants_references_and_artifacts() -> None:
    workflow = Workflow("flow")
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 3}, key="make")
    workflow.add(make)
    use = Step(
        "use",
        PythonOPTemplate(Use, image="alpine"),
        parameters={"n": make.outputs.parameters["n"] + 1},
        artifacts={"data": make.outputs.artifacts["data"].sub_path("a/b")},
        when=make.outputs.parameters["n"] > 2,
        continue_on_failed=True,
    )
    workflow.add(use)
    manifest = compiled(workflow)
    assert manifest["metadata"] == {"generateName": "flow-"}
    first, second = members(entry(manifest)).values()
    assert values(first) == {"n": "3", "dflow_key": "make"}
    assert values(second) == {"n": "{{=asFloat(steps['make'].outputs.parameters['n']) + 1}}"}
    assert sources(second)["data"] == {
        "from": "{{steps.make.outputs.artifacts.data}}",
        "subPath": "a/b",
        "optional": True,
    }
    assert second["when"] == "{{=asFloat(steps['make'].outputs.parameters['n']) > 2}}"
    assert second["continueOn"] == {"failed": True}
    make_template = templates(manifest)[first["template"]]
    assert first["template"].startswith("make-")
    assert record(make_template)["entry"]["name"] == "Make"
    assert make_template["inputs"]["artifacts"][-1]["s3"]["key"] == "dflow-hpc/bundles/" + "b" * 64 + ".zip"
    defaults = {item["name"]: item["valueFrom"].get("default") for item in make_template["outputs"]["parameters"]}
    assert defaults == {"n": "null", "values": "null", "text": "null"}
    assert json.loads(make_template["outputs"]["parameters"][0]["description"]) == {"type": "int"}


def test_references_inside_constants_become_json() -> None:
    workflow = Workflow("flow")
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 3})
    outputs = make.outputs.parameters
    free = Step(
        "free", PythonOPTemplate(Free), parameters={"value": {"a": [outputs["n"], 'say "x"'], "t": outputs["text"]}}
    )
    workflow.add(make)
    workflow.add(free)
    text = values(members(entry(compiled(workflow)))["free"])["value"]
    assert text == (
        '{"a": [{{steps.make.outputs.parameters.n}}, "say \\"x\\""], '
        "\"t\": {{=toJson(steps['make'].outputs.parameters['text'])}}}"
    )


def test_a_text_for_a_sign_that_takes_more_reads_back_as_a_text() -> None:
    from typing import Any

    anything = op("Anything", {"a": Any, "s": str}, {})
    workflow = Workflow("flow")
    workflow.add(Step("s", PythonOPTemplate(anything), parameters={"a": "5", "s": "5"}))
    assert values(members(entry(compiled(workflow)))["s"]) == {"a": '"5"', "s": "5"}


def test_artifacts_come_in_every_form() -> None:
    workflow = Workflow("flow")
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 3})
    data = make.outputs.artifacts["data"]
    workflow.add(make)
    several = op("Several", {name: make_sign() for name in "abcdef"}, {})
    workflow.add(
        Step(
            "several",
            PythonOPTemplate(several),
            artifacts={
                "a": S3Artifact("some/key"),
                "b": "a text",
                "c": f"{data}/sub/path",
                "d": data["k"][1],
                "e": None,
                "f": LocalArtifact("/nowhere", key="upload/1"),
            },
        )
    )
    step = Step("named", PythonOPTemplate(Named), artifacts={"files": {"x": data, "y": [data["k"], S3Artifact("k")]}})
    workflow.add(step)
    manifest = compiled(workflow)
    member = members(entry(manifest))["several"]
    assert sources(member) == {
        "a": {"s3": {"key": "some/key"}},
        "b": {"raw": {"data": "a text"}},
        "c": {"from": "{{steps.make.outputs.artifacts.data}}", "subPath": "sub/path"},
        "d": {"from": "{{steps.make.outputs.artifacts.data}}"},
        "f": {"s3": {"key": "upload/1"}},
    }
    template = templates(manifest)[member["template"]]
    assert record(template)["prefix"] == {"d": "k.1"}
    assert next(item for item in template["inputs"]["artifacts"] if item["name"] == "e")["optional"] is True
    member = members(entry(manifest))["named"]
    assert list(sources(member)) == ["dflow_files_0", "dflow_files_1", "dflow_files_2"]
    assert record(templates(manifest)[member["template"]])["parts"] == {"files": ["x", "y.0", "y.1"]}
    assert record(templates(manifest)[member["template"]])["prefix"] == {"dflow_files_1": "k"}


def test_an_element_is_refused_where_no_op_can_take_it() -> None:
    def flow(value: object, output: bool = False) -> Workflow:
        scope = Steps("inner", inputs=Inputs(artifacts={"files": InputArtifact()}), outputs=Outputs())
        take = Step("take", PythonOPTemplate(Files), artifacts={"files": scope.inputs.artifacts["files"]})
        scope.add(take)
        if output:
            scope.outputs.artifacts["kept"] = OutputArtifact(_from=take.outputs.artifacts["kept"][0])
        workflow = Workflow("flow")
        workflow.add(flag)
        workflow.add(Step("run", scope, artifacts={"files": value}))
        return workflow

    flag = Step("flag", PythonOPTemplate(Flag))
    a, b = (flag.outputs.artifacts[name] for name in ("a", "b"))
    assert compiled(flow(a))
    for workflow in (flow(a["k"]), flow(a, output=True), flow(if_expression(True, a["k"], b))):
        with pytest.raises(CompileError, match="only an OP can be given an element"):
            compiled(workflow)
    with pytest.raises(CompileError, match="in parts"):
        compiled(flow([a, b]))


def make_sign() -> object:
    from pathlib import Path

    from dflow_hpc import Artifact

    return Artifact(Path)


def test_recursion_refers_to_itself_by_name() -> None:
    steps = Steps("loop", inputs=Inputs(parameters={"i": InputParameter(value=0), "end": InputParameter(value=5)}))
    add = ShellOPTemplate(
        "Plus1",
        image="alpine",
        script="echo $(({{inputs.parameters.i}} + 1)) > /tmp/i",
        inputs=Inputs(parameters={"i": InputParameter()}),
        outputs=Outputs(parameters={"i": OutputParameter(value_from_path="/tmp/i")}),
    )
    one = Step("add", add, parameters={"i": steps.inputs.parameters["i"]}, key=f"iter-{steps.inputs.parameters['i']}")
    steps.add(one)
    after = one.outputs.parameters["i"]
    steps.add(Step("next", steps, parameters={"i": after}, when=f"{after} < {steps.inputs.parameters['end']}"))
    manifest = compiled(Workflow("recurse", steps=steps))
    loop = templates(manifest)["loop"]
    assert loop["inputs"]["parameters"] == [{"name": "i", "value": "0"}, {"name": "end", "value": "5"}]
    again = members(loop)["next"]
    assert again["template"] == "loop"
    assert again["when"] == "{{steps.add.outputs.parameters.i}} < {{inputs.parameters.end}}"
    assert values(members(loop)["add"])["dflow_key"] == "iter-{{inputs.parameters.i}}"
    assert len(manifest["spec"]["templates"]) == 2


def test_a_scope_gives_by_reference_and_by_choice() -> None:
    steps = Steps(
        "choose",
        outputs=Outputs(
            parameters={"msg": OutputParameter(default="none"), "head": OutputParameter(global_name="h")},
            artifacts={"res": OutputArtifact(), "a": OutputArtifact(optional=True)},
        ),
    )
    flag = Step("flag", PythonOPTemplate(Flag))
    steps.add(flag)
    given = flag.outputs.parameters
    steps.outputs.parameters["msg"].value_from_expression = if_expression(given["head"] == True, given["one"], "")  # noqa: E712
    steps.outputs.parameters["head"].value_from_parameter = given["head"]
    steps.outputs.artifacts["res"].from_expression = if_expression(
        given["head"], flag.outputs.artifacts["a"], flag.outputs.artifacts["b"]
    )
    steps.outputs.artifacts["a"]._from = flag.outputs.artifacts["a"]
    outputs = entry(compiled(Workflow("flow", steps=steps)))["outputs"]
    one, head = outputs["parameters"]
    assert one["valueFrom"] == {
        "expression": "(steps['flag'].outputs.parameters['head'] == 'true') ? "
        "steps['flag'].outputs.parameters['one'] : ''",
        "default": "none",
    }
    assert head["valueFrom"] == {"parameter": "{{steps.flag.outputs.parameters.head}}"}
    assert head["globalName"] == "h"
    assert outputs["artifacts"][0]["fromExpression"].endswith(
        "? steps['flag'].outputs.artifacts['a'] : steps['flag'].outputs.artifacts['b']"
    )
    assert outputs["artifacts"][1] == {"name": "a", "from": "{{steps.flag.outputs.artifacts.a}}", "optional": True}


@pytest.mark.parametrize("depth", [100, 101])
def test_scopes_nest_as_deep_as_argo_lets_them(depth: int) -> None:
    scope = Steps("s0", steps=[Step("leaf", ShellOPTemplate("t", image="alpine", script="true"))])
    for number in range(1, depth):
        scope = Steps(f"s{number}", steps=[Step("down", scope)])
    workflow = Workflow("deep", steps=scope)
    if depth <= 100:
        assert len(compiled(workflow)["spec"]["templates"]) == depth + 1
    else:
        with pytest.raises(CompileError, match="nested 101 deep"):
            workflow.to_dict()


def test_an_output_that_recursion_gives_has_the_type_of_where_it_ends() -> None:
    steps = Steps("loop", outputs=Outputs(parameters={"n": OutputParameter()}))
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 1})
    again = Step("again", steps, when=make.outputs.parameters["n"] < 3)
    steps.add(make)
    steps.add(again)
    steps.outputs.parameters["n"].value_from_expression = if_expression(
        make.outputs.parameters["n"] < 3, again.outputs.parameters["n"], make.outputs.parameters["n"]
    )
    output = entry(compiled(Workflow("flow", steps=steps)))["outputs"]["parameters"][0]
    assert json.loads(output["description"]) == {"type": "int"}


def test_an_input_or_a_constant_is_given_on_by_an_expression() -> None:
    steps = Steps(
        "pass",
        inputs=Inputs(parameters={"x": InputParameter(value=1)}),
        outputs=Outputs(parameters={"x": OutputParameter(), "c": OutputParameter(value=2)}),
    )
    steps.add(Step("flag", PythonOPTemplate(Flag)))
    steps.outputs.parameters["x"].value_from_parameter = steps.inputs.parameters["x"]
    found = entry(compiled(Workflow("flow", steps=steps)))["outputs"]["parameters"]
    assert [item["valueFrom"] for item in found] == [{"expression": "inputs.parameters['x']"}, {"expression": "'2'"}]


def test_steps_run_beside_each_other_in_groups_and_limits_are_the_smallest() -> None:
    steps = Steps("s", parallelism=5)
    a, b = (Step(name, PythonOPTemplate(Flag), parallelism=limit) for name, limit in (("a", 3), ("b", None)))
    steps.add([a, b])
    steps.add(Step("c", PythonOPTemplate(Take), artifacts={"file": a.outputs.artifacts["a"]}))
    template = entry(compiled(Workflow("flow", steps=steps, parallelism=7)))
    assert [[step["name"] for step in group] for group in template["steps"]] == [["a", "b"], ["c"]]
    assert template["parallelism"] == 3


def test_equal_templates_are_one_and_different_ones_of_a_name_are_not() -> None:
    workflow = Workflow("flow")
    for number in range(20):
        workflow.add(Step(f"s{number}", PythonOPTemplate(Make), parameters={"n": number}))
    workflow.add(Step("other", PythonOPTemplate(Make, timeout=5), parameters={"n": 0}))
    for number in range(3):
        inner = Steps("Inner")
        inner.add(Step("run", ShellOPTemplate("shell", image="alpine", script="true" if number < 2 else "false")))
        workflow.add(Step(f"inner{number}", inner))
    manifest = compiled(workflow)
    names = sorted(templates(manifest))
    assert sum(name.startswith("make-") for name in names) == 2
    assert sum(name.startswith("inner") for name in names) == 2
    assert sum(name.startswith("shell") for name in names) == 2
    assert names == sorted(set(names))


def test_hooks_run_on_the_state_of_their_step() -> None:
    workflow = Workflow("flow", on_exit=ShellOPTemplate("bye", image="alpine", script="echo bye"))
    note = ShellOPTemplate("note", image="alpine", script="true", inputs=Inputs(parameters={"x": InputParameter()}))
    from dflow_hpc import HookStep

    make = Step(
        "make",
        PythonOPTemplate(Make),
        parameters={"n": 1},
        success_hook=HookStep(note, parameters={"x": "ok"}),
        failure_hook=ShellOPTemplate("alarm", image="alpine", script="true"),
    )
    workflow.add(make)
    manifest = compiled(workflow)
    hooks = members(entry(manifest))["make"]["hooks"]
    assert hooks["success"] == {
        "template": "note",
        "expression": "steps['make'].status == 'Succeeded'",
        "arguments": {"parameters": [{"name": "x", "value": "ok"}]},
    }
    assert hooks["failure"]["template"] == "alarm"
    assert manifest["spec"]["onExit"] == "bye"


def test_objects_of_kubernetes_reach_the_manifest_by_their_names_there() -> None:
    claim = client.V1PersistentVolumeClaimVolumeSource(claim_name="models")
    mount = client.V1VolumeMount(name="m", mount_path="/models", sub_path="a_b")
    labels = client.V1LabelSelector(match_labels={"my_label": "x"})
    term = client.V1PodAffinityTerm(label_selector=labels, topology_key="zone")
    apart = client.V1PodAntiAffinity(required_during_scheduling_ignored_during_execution=[term])
    template = PythonOPTemplate(
        Make,
        image="python:3.11",
        volumes=[client.V1Volume(name="m", persistent_volume_claim=claim)],
        mounts=[mount],
        affinity=client.V1Affinity(pod_anti_affinity=apart),
    )
    workflow = Workflow("flow")
    workflow.add(Step("make", template, parameters={"n": 1}))
    manifest = compiled(workflow)
    found = templates(manifest)[members(entry(manifest))["make"]["template"]]
    assert found["volumes"] == [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]
    assert found["script"]["volumeMounts"] == [{"name": "m", "mountPath": "/models", "subPath": "a_b"}]
    [wanted] = found["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert wanted == {"labelSelector": {"matchLabels": {"my_label": "x"}}, "topologyKey": "zone"}


def test_options_of_templates_reach_the_manifest() -> None:
    secret = Secret("s3cr3t", name="token")
    template = PythonOPTemplate(
        Make,
        image="python:3.11",
        timeout=90,
        retry_on_transient_error=3,
        requests={"cpu": "1"},
        envs={"TOKEN": secret, "A": "b"},
        labels={"team": "x"},
        node_selector={"disk": "ssd"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        memoize_key="once",
        output_parameter_default={"n": 7},
        output_artifact_archive={"data": None},
        output_artifact_save={"data": S3Artifact("kept/data")},
        output_parameter_global_name={"n": "number"},
    )
    workflow = Workflow("flow", parameters={"g": 1}, image_pull_secrets="registry", pod_gc_strategy="OnPodSuccess")
    workflow.add(Step("make", template, parameters={"n": "{{workflow.parameters.g}}"}))
    workflow_compiled = workflow.compile()
    manifest = compiled(workflow)
    found = templates(manifest)[members(entry(manifest))["make"]["template"]]
    assert found["timeout"] == "90s"
    assert found["retryStrategy"] == {"limit": 3, "expression": "asInt(lastRetry.exitCode) == 1"}
    assert found["script"]["resources"] == {"requests": {"cpu": "1"}}
    assert found["script"]["env"] == [
        {"name": "A", "value": "b"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "secret"}}},
    ]
    assert "s3cr3t" not in json.dumps(manifest)
    assert [one.value for one in workflow_compiled.secrets] == ["s3cr3t"]
    assert found["outputs"]["parameters"][0]["valueFrom"]["default"] == "7"
    assert found["outputs"]["parameters"][0]["globalName"] == "number"
    assert found["outputs"]["artifacts"][0]["s3"] == {"key": "kept/data"}
    assert found["outputs"]["artifacts"][0]["archive"] == {"none": {}}
    assert manifest["spec"]["arguments"]["parameters"] == [{"name": "g", "value": "1"}]
    assert manifest["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_an_op_instance_carries_its_state_and_an_executor_leaves_its_wish() -> None:
    class Stateful(Make):  # type: ignore[misc, valid-type]
        def __init__(self, factor: int):
            self.factor = factor

    from dflow_hpc import MachineExecutor

    workflow = Workflow("flow", context="cpu")
    workflow.add(Step("a", PythonOPTemplate(Stateful(3)), parameters={"n": 1}))
    workflow.add(
        Step("b", PythonOPTemplate(Make), parameters={"n": 1}, executor=MachineExecutor("gpu", gpus=1, time="1h"))
    )
    manifest = compiled(workflow)
    a, b = (templates(manifest)[member["template"]] for member in members(entry(manifest)).values())
    assert json.loads(record(a)["instance"]) == {"factor": 3}
    assert a["metadata"]["annotations"]["dflow-hpc/machine"] == "cpu"
    assert b["metadata"]["annotations"]["dflow-hpc/machine"] == "gpu"
    assert json.loads(b["metadata"]["annotations"]["dflow-hpc/resources"]) == {"gpus": 1, "time": "1h"}


def test_an_executor_of_others_wraps_the_real_script() -> None:
    from dflow_hpc import Executor

    class Remote(Executor):
        def render(self, template):  # type: ignore[no-untyped-def]
            new = template.copy()
            new.command = ["sh"]
            new.script = f"cat > job.py <<'EOF'\n{template.script}EOF\nssh there python3 < job.py\n"
            return new

    workflow = Workflow("flow")
    template = PythonOPTemplate(Make)
    workflow.add(Step("a", template, parameters={"n": 1}, executor=Remote()))
    found = compiled(workflow)["spec"]["templates"][1]
    assert "dflow-hpc/op" not in found["metadata"]["annotations"]
    assert found["script"]["command"] == ["sh"]
    assert "dflow_bundle" in found["script"]["source"]
    assert found["script"]["source"].startswith("cat > job.py")
    assert template.command == ["python3"]


def test_containers_and_requests_are_templates_too() -> None:
    workflow = Workflow("flow")
    workflow.add(
        Step(
            "run",
            ContainerOPTemplate(
                command=["cp", "-r"],
                args=["/a", "/b"],
                image="alpine",
                inputs=Inputs(artifacts={"a": InputArtifact(path="/a", mode=0o755)}),
                outputs=Outputs(artifacts={"b": OutputArtifact(path="/b")}),
            ),
            artifacts={"a": "text"},
        )
    )
    workflow.add(Step("ask", HTTPOPTemplate("http://example.org", headers={"a": "b"}, timeout=5)))
    manifest = compiled(workflow)
    run, ask = (templates(manifest)[member["template"]] for member in members(entry(manifest)).values())
    assert run["container"] == {"image": "alpine", "command": ["cp", "-r"], "args": ["/a", "/b"]}
    assert run["inputs"]["artifacts"] == [{"name": "a", "path": "/a", "mode": 0o755}]
    assert ask["http"]["timeoutSeconds"] == 5


def test_what_a_step_was_given_can_be_given_on() -> None:
    workflow = Workflow("flow")
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 3})
    workflow.add(make)
    use = Step("use", PythonOPTemplate(Use), parameters={"n": 5}, artifacts={"data": make.outputs.artifacts["data"]})
    workflow.add(use)
    again = Step(
        "again",
        PythonOPTemplate(Use),
        parameters={"n": use.inputs.parameters["n"]},
        artifacts={"data": use.inputs.artifacts["data"]},
    )
    workflow.add(again)
    member = members(entry(compiled(workflow)))["again"]
    assert values(member) == {"n": "5"}
    assert sources(member)["data"]["from"] == "{{steps.make.outputs.artifacts.data}}"


@pytest.mark.parametrize("kind", [Steps, DAG])
def test_scopes_are_called_like_templates(kind: type) -> None:
    inner = kind("inner", inputs=Inputs(artifacts={"file": InputArtifact()}))
    use = (Step if kind is Steps else Task)(
        "take", PythonOPTemplate(Take), artifacts={"file": inner.inputs.artifacts["file"]}
    )
    inner.add(use)
    inner.outputs.artifacts["out"] = OutputArtifact(_from=use.outputs.artifacts["out"])
    workflow = Workflow("flow")
    first = Step("first", inner, artifacts={"file": "x"}, key="first")
    workflow.add(first)
    workflow.add(Step("second", inner, artifacts={"file": first.outputs.artifacts["out"]}, key="second"))
    manifest = compiled(workflow)
    template = templates(manifest)["inner"]
    assert template["inputs"] == {"parameters": [{"name": "dflow_key"}], "artifacts": [{"name": "file"}]}
    assert sources(members(template)["take"])["file"] == {"from": "{{inputs.artifacts.file}}"}
    assert sources(members(entry(manifest))["second"])["file"] == {"from": "{{steps.first.outputs.artifacts.out}}"}
