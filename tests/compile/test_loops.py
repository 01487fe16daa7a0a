"""Loops and slices: how often a step runs, what each run gets, and the helper steps around it."""

from __future__ import annotations

import json

import pytest

from dflow_hpc import (
    InputParameter,
    Inputs,
    OutputArtifact,
    PythonOPTemplate,
    S3Artifact,
    ShellOPTemplate,
    Slices,
    Step,
    Steps,
    Workflow,
    argo_enumerate,
    argo_len,
    argo_range,
    argo_sequence,
    config,
)
from dflow_hpc.errors import CompileError
from tests.compile.programs import (
    Each,
    Files,
    Flag,
    Gather,
    Make,
    compiled,
    each,
    entry,
    members,
    record,
    sources,
    templates,
    values,
)


def workflow_of(*steps: Step) -> Workflow:
    workflow = Workflow("flow")
    for step in steps:
        workflow.add(step)
    return workflow


def test_a_sliced_step_gets_its_items_and_its_outputs_are_joined() -> None:
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 1})
    loop = Step("each", each(), parameters={"value": make.outputs.parameters["values"]}, key="e-{{item}}")
    gather = Step("gather", PythonOPTemplate(Gather), parameters={"results": loop.outputs.parameters["result"]})
    files = Step("files", PythonOPTemplate(Files), artifacts={"files": loop.outputs.artifacts["file"]})
    manifest = compiled(workflow_of(make, loop, gather, files))
    found = members(entry(manifest))
    assert list(found) == ["make", "each-init-artifact", "each", "gather", "files"]
    assert found["each"]["withParam"] == (
        "{{=toJson(sprig.untilStep(0, len(sprig.fromJson(steps['make'].outputs.parameters['values'])), 1))}}"
    )
    assert values(found["each"]) == {
        "value": "{{steps.make.outputs.parameters.values}}",
        "dflow_var_0": "{{item}}",
        "dflow_artifact_key": "{{steps.each-init-artifact.outputs.parameters.dflow_artifact_key}}",
        "dflow_group_key": "e-group-init-artifact",
        "dflow_key": "e-{{item}}",
    }
    leaf = templates(manifest)[found["each"]["template"]]
    assert record(leaf)["slices"] == {
        "slices": "${dflow_var_0}",
        "input_parameter": ["value"],
        "output_parameter": ["result"],
        "output_artifact": ["file"],
    }
    assert leaf["outputs"]["artifacts"][0]["s3"]["key"] == "{{inputs.parameters.dflow_artifact_key}}/file"
    init = templates(manifest)[found["each-init-artifact"]["template"]]
    assert values(found["each-init-artifact"]) == {"dflow_key": "e-group-init-artifact"}
    assert init["outputs"]["artifacts"][0]["s3"]["key"] == "{{workflow.name}}/{{pod.name}}/file"
    assert init["outputs"]["parameters"] == [{"name": "dflow_artifact_key", "value": "{{workflow.name}}/{{pod.name}}"}]
    assert record(init)["entry"]["module"] == "dflow_hpc.op.util_ops"
    assert values(found["gather"])["results"] == (
        "{{=steps['each'].status == 'Skipped' ? '[]' : steps['each'].outputs.parameters['result']}}"
    )
    assert sources(found["files"])["files"] == {"from": "{{steps.each-init-artifact.outputs.artifacts.file}}"}


@pytest.mark.parametrize(
    ("loop", "fields"),
    [
        ({"with_param": [1, "a"]}, {"withParam": '[1, "a"]'}),
        ({"with_param": argo_range(3)}, {"withParam": "{{=toJson(sprig.untilStep(0, 3, 1))}}"}),
        ({"with_param": "{{workflow.parameters.items}}"}, {"withParam": "{{workflow.parameters.items}}"}),
        ({"with_sequence": argo_sequence(5, format="%03d")}, {"withSequence": {"count": "5", "format": "%03d"}}),
        ({"with_sequence": argo_sequence(start=2, end=4)}, {"withSequence": {"start": "2", "end": "4"}}),
        (
            {"with_sequence": argo_sequence(argo_len([1, 2]))},
            {"withSequence": {"count": "{{=len(sprig.fromJson('[1, 2]'))}}"}},
        ),
    ],
)
def test_plain_loops(loop: dict, fields: dict) -> None:
    script = ShellOPTemplate("s", image="alpine", script="true")
    found = members(entry(compiled(workflow_of(Step("s", script, **loop)))))["s"]
    assert {key: value for key, value in found.items() if key.startswith("with")} == fields


def test_items_of_stacked_outputs_are_values() -> None:
    first = Step("first", each(output_artifact=[]), parameters={"value": [1, 2]})
    script = ShellOPTemplate("s", image="alpine", script="true")
    second = Step("second", script, with_param=first.outputs.parameters["result"])
    third = Step("third", script, with_param=argo_enumerate([7, 8], first.outputs.parameters["result"]))
    found = members(entry(compiled(workflow_of(first, second, third))))
    assert "first-init-artifact" not in found
    assert found["first"]["withParam"] == "[0, 1]"
    assert "dflow_list_item" in found["second"]["withParam"]
    assert found["third"]["withParam"].startswith("{{=let v0 = ")


def test_every_tag_of_the_expression_becomes_a_parameter_of_the_leaf() -> None:
    template = PythonOPTemplate(Each, slices=Slices("int('{{item.i}}') + {{=asInt(item.j)}} + int('{{item.i}}')"))
    items = [{"i": 1, "j": 2}]
    step = Step("each", template, parameters={"value": 1}, with_param=items)
    manifest = compiled(workflow_of(step))
    found = members(entry(manifest))["each"]
    assert values(found) == {"value": "1", "dflow_var_0": "{{item.i}}", "dflow_var_1": "{{=asInt(item.j)}}"}
    leaf = templates(manifest)[found["template"]]
    assert record(leaf)["slices"] == {"slices": "int('${dflow_var_0}') + ${dflow_var_1} + int('${dflow_var_0}')"}


@pytest.mark.parametrize(
    ("loop", "given", "items"),
    [
        ({}, {"dflow_nslices": "7"}, "[0, 1, 2]"),
        (
            {"with_param": argo_range(7)},
            {"dflow_range_start": "0", "dflow_range_end": "7", "dflow_range_step": "1"},
            "[0, 1, 2]",
        ),
        ({"with_param": list("abcdefg")}, {"dflow_with_param": json.dumps(list("abcdefg"))}, None),
        (
            {"with_sequence": argo_sequence(4, format="%d")},
            {"dflow_sequence_count": "4", "dflow_sequence_format": "%d"},
            "[0, 1]",
        ),
        (
            {"with_param": "{{inputs.parameters.items}}"},
            {"dflow_with_param": "{{inputs.parameters.items}}"},
            "{{=toJson(sprig.untilStep(0, int(ceil(len(sprig.fromJson(inputs['parameters']['items'])) / 3)), 1))}}",
        ),
    ],
)
def test_groups_share_out_the_items(loop: dict, given: dict, items: str | None) -> None:
    from dflow_hpc import InputParameter, Inputs

    steps = Steps("s", inputs=Inputs(parameters={"items": InputParameter(value="[]")}))
    steps.add(
        Step("each", each(group_size=3, pool_size=1), parameters={"value": list(range(7))}, key="k-{{item}}", **loop)
    )
    manifest = compiled(Workflow("flow", steps=steps))
    found = members(entry(manifest))["each"]
    assert {key: value for key, value in values(found).items() if key in given} == given
    assert values(found)["dflow_group"] == "{{item}}"
    if items is not None:
        assert found["withParam"] == items
    assert record(templates(manifest)[found["template"]])["slices"]["slices"] == "${item}"
    assert record(templates(manifest)[found["template"]])["slices"]["group_size"] == 3


def test_a_loop_over_an_artifact_counts_it_first() -> None:
    template = PythonOPTemplate(Files, slices=Slices("{{item}}", input_artifact=["files"], output_artifact=["kept"]))
    flag = Step("flag", PythonOPTemplate(Flag))
    unknown = Step("unknown", template, artifacts={"files": flag.outputs.artifacts["a"]})
    known = S3Artifact("k", path_list=[{"dflow_list_item": name, "order": i} for i, name in enumerate("abc")])
    manifest = compiled(workflow_of(flag, unknown, Step("known", template, artifacts={"files": known})))
    found = members(entry(manifest))
    assert found["known"]["withParam"] == "[0, 1, 2]"
    assert "dflow_nslices" in found["unknown"]["withParam"]
    assert sources(found["unknown-init-artifact"])["files"] == {"from": "{{steps.flag.outputs.artifacts.a}}"}
    init = templates(manifest)[found["unknown-init-artifact"]["template"]]
    assert [item["name"] for item in init["outputs"]["parameters"]] == [
        "dflow_artifact_key",
        "dflow_nslices",
        "dflow_slices_path",
    ]


def test_sub_path_brings_only_the_part() -> None:
    template = PythonOPTemplate(Files, slices=Slices(sub_path=True, input_artifact=["files"], output_artifact=["kept"]))
    step = Step("part", template, artifacts={"files": S3Artifact("k")}, key="p-{{item}}")
    manifest = compiled(workflow_of(step))
    found = members(entry(manifest))["part"]
    assert found["withParam"] == "{{steps.part-init-artifact.outputs.parameters.dflow_slices_path}}"
    assert sources(found)["files"] == {"s3": {"key": "k/{{item.files}}"}}
    assert values(found)["dflow_var_0"] == "{{item.order}}"
    assert values(found)["dflow_files_sub_path"] == "{{item.files}}"
    assert values(found)["dflow_key"] == "p-{{item.order}}"
    leaf = templates(manifest)[found["template"]]
    assert leaf["inputs"]["artifacts"][0]["path"].endswith("/files/{{inputs.parameters.dflow_files_sub_path}}")


def test_successes_are_counted_after_the_loop() -> None:
    by_ratio = Step("ratio", each(), parameters={"value": [1, 2, 3]}, continue_on_success_ratio=0.5)
    by_count = Step("count", each(), parameters={"value": [1, 2, 3]}, continue_on_num_success=2, key="c-{{item}}")
    script = ShellOPTemplate("s", image="alpine", script="true")
    shell = Step("shell", script, with_param=[1, 2], continue_on_num_success=1)
    manifest = compiled(workflow_of(by_ratio, by_count, shell))
    found = members(entry(manifest))
    assert found["ratio"]["continueOn"] == {"failed": True}
    assert values(found["ratio-check-success-ratio"])["threshold"] == "0.5"
    assert values(found["ratio-check-success-ratio"])["total"] == "3"
    assert values(found["count-check-num-success"])["threshold"] == "2"
    assert values(found["count-check-num-success"])["dflow_key"] == "c-group-check-num-success"
    leaf = templates(manifest)[found["ratio"]["template"]]
    assert record(leaf)["success_tag"] is True
    assert leaf["outputs"]["parameters"][-1]["valueFrom"]["path"] == "/tmp/outputs/success_tag"
    assert templates(manifest)[found["shell"]["template"]]["outputs"]["parameters"] == [
        {"name": "dflow_success_tag", "value": "1"}
    ]
    helper = templates(manifest)[found["shell-check-num-success"]["template"]]
    assert helper["script"]["image"] == config["util_image"]


def saving(key: str) -> PythonOPTemplate:
    template = each()
    template.outputs.artifacts["file"].save = [S3Artifact(key)]
    return template


def test_slices_leave_their_outputs_where_the_author_saves_them() -> None:
    step = Step("s", saving("{{workflow.name}}/all"), parameters={"value": [1, 2]})
    manifest = compiled(workflow_of(step))
    place = {"archive": {"none": {}}, "s3": {"key": "{{workflow.name}}/all"}}
    found = members(entry(manifest))
    for name in ("s-init-artifact", "s"):
        [artifact] = templates(manifest)[found[name]["template"]]["outputs"]["artifacts"]
        assert {field: artifact[field] for field in place} == place


def test_a_place_that_no_loop_can_have_as_a_whole_is_refused() -> None:
    with pytest.raises(CompileError, match="need one key for all of them"):
        compiled(workflow_of(Step("s", saving("{{inputs.parameters.value}}/all"), parameters={"value": [1]})))
    inner = Steps("inner", inputs=Inputs(parameters={"value": InputParameter(type=int)}))
    leaf = PythonOPTemplate(Each, output_artifact_save={"file": S3Artifact("all")})
    member = Step("leaf", leaf, parameters={"value": inner.inputs.parameters["value"]})
    inner.add(member)
    inner.outputs.artifacts["file"] = OutputArtifact(_from=member.outputs.artifacts["file"])
    slices = Slices(input_parameter=["value"], output_artifact=["file"])
    with pytest.raises(CompileError, match="a step around it join it"):
        compiled(workflow_of(Step("s", inner, slices=slices, parameters={"value": [1]})))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Step("s", each(sub_path=True, input_artifact=[]), parameters={"value": [1]}),
            "without input_artifact",
        ),
        (lambda: Step("s", PythonOPTemplate(Each, slices=Slices()), parameters={"value": 1}), "how often"),
        (lambda: Step("s", each(), parameters={"value": 3}), "is a list"),
        (lambda: Step("s", ShellOPTemplate("x", image="a"), slices=Slices(), with_param=[1]), "only a Python OP"),
        (
            lambda: Step("s", ShellOPTemplate("x", image="a"), with_param="no json", continue_on_success_ratio=1.0),
            "JSON",
        ),
    ],
)
def test_loops_that_cannot_be_are_refused(make: object, text: str) -> None:
    with pytest.raises(CompileError) as caught:
        compiled(workflow_of(make()))  # type: ignore[operator]
    assert text in str(caught.value)
    assert "test_loops.py" in str(caught.value) or text == "only a Python OP"
