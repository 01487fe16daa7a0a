"""Slices of steps whose template is made of steps."""

import json
from typing import List

import pytest

from dflow_hpc import (
    DAG,
    BigParameter,
    InputArtifact,
    InputParameter,
    Inputs,
    OutputArtifact,
    OutputParameter,
    Outputs,
    PythonOPTemplate,
    Slices,
    Step,
    Steps,
    Task,
    Workflow,
    argo_sequence,
    if_expression,
)
from dflow_hpc.errors import CompileError
from tests.compile.programs import (
    Big,
    Flag,
    Make,
    Take,
    Use,
    compiled,
    each,
    entry,
    members,
    op,
    record,
    sources,
    templates,
    values,
)

ALL = {
    "input_parameter": ["n", "s"],
    "input_artifact": ["file"],
    "output_parameter": ["m", "t"],
    "output_artifact": ["out"],
}


def inner(kind: type = Steps, member: type = Step) -> Steps:
    scope = kind(
        "inner",
        inputs=Inputs(
            parameters={"n": InputParameter(), "s": InputParameter(type=str)}, artifacts={"file": InputArtifact()}
        ),
        outputs=Outputs(
            parameters={"m": OutputParameter(), "t": OutputParameter()}, artifacts={"out": OutputArtifact()}
        ),
    )
    use = member("use", PythonOPTemplate(Use), parameters={"n": scope.inputs.parameters["n"]})
    make = member("make", PythonOPTemplate(Make), parameters={"n": 1})
    take = member("take", PythonOPTemplate(Take), artifacts={"file": scope.inputs.artifacts["file"]})
    for one in (use, make, take):
        scope.add(one)
    scope.outputs.parameters["m"].value_from_parameter = use.outputs.parameters["m"]
    scope.outputs.parameters["t"].value_from_parameter = make.outputs.parameters["text"]
    scope.outputs.artifacts["out"]._from = take.outputs.artifacts["out"]
    return scope


def outer(scope: Steps) -> Steps:
    wrapper = Steps("outer", inputs=Inputs(), outputs=Outputs())
    for name in ("n", "s"):
        wrapper.inputs.parameters[name] = InputParameter()
    wrapper.inputs.artifacts["file"] = InputArtifact()
    step = Step(
        "deep",
        scope,
        parameters={name: wrapper.inputs.parameters[name] for name in ("n", "s")},
        artifacts={"file": wrapper.inputs.artifacts["file"]},
    )
    wrapper.add(step)
    for name in ("m", "t"):
        wrapper.outputs.parameters[name] = OutputParameter(value_from_parameter=step.outputs.parameters[name])
    wrapper.outputs.artifacts["out"] = OutputArtifact(_from=step.outputs.artifacts["out"])
    return wrapper


def sliced(scope: Steps, create_dir: bool = False, **options: object) -> Workflow:
    workflow = Workflow("flow")
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 1})
    workflow.add(make)
    run = Step(
        "run",
        scope,
        parameters={"n": make.outputs.parameters["values"], "s": ["a", 'b"c']},
        artifacts={"file": make.outputs.artifacts["data"]},
        slices=Slices("{{item}}", create_dir=create_dir, **ALL),
        key="r-{{item}}",
        **options,
    )
    workflow.add(run)
    workflow.add(
        Step("take", PythonOPTemplate(Use), parameters={"n": 1}, artifacts={"data": run.outputs.artifacts["out"]})
    )
    return workflow


@pytest.mark.parametrize("kinds", [(Steps, Step), (DAG, Task)])
def test_each_run_gets_an_element_and_gives_one(kinds: tuple) -> None:
    manifest = compiled(sliced(inner(*kinds), continue_on_num_success=1))
    found = members(entry(manifest))
    assert list(found) == ["make", "run-init-artifact", "run", "run-check-num-success", "take"]
    run = found["run"]
    assert "let v0 = sprig.fromJson(steps['make'].outputs.parameters['values'])" in run["withParam"]
    assert "'p_n', [v0[asInt(#.order)]]" in run["withParam"]
    assert values(run) == {
        "n": "{{=toJson(sprig.fromJson(item['p_n'])[0])}}",
        "s": "{{=sprig.fromJson(item['p_s'])[0]}}",
        "dflow_slice": "{{item.order}}",
        "dflow_artifact_key": "{{steps.run-init-artifact.outputs.parameters.dflow_artifact_key}}",
        "dflow_group_key": "r-group-init-artifact",
        "dflow_key": "r-{{item.order}}",
    }
    assert sources(run)["file"] == {"from": "{{steps.make.outputs.artifacts.data}}", "subPath": "{{item.file}}"}
    assert sources(found["take"])["data"]["from"] == "{{steps.run-init-artifact.outputs.artifacts.out}}"
    scope = templates(manifest)[run["template"]]
    word = "tasks" if kinds[0] is DAG else "steps"
    m, t, tag = (item["valueFrom"]["expression"] for item in scope["outputs"]["parameters"])
    order = " + ', \"order\": ' + inputs.parameters['dflow_slice'] + '}]'"
    assert m == "'[{\"dflow_list_item\": ' + (" + f"{word}['use'].outputs.parameters['m']" + ")" + order
    assert t == "'[{\"dflow_list_item\": ' + toJson(" + f"{word}['make'].outputs.parameters['text']" + ")" + order
    assert tag == "'1'"
    take = members(scope)["take"]
    assert values(take)["dflow_slice"] == "{{inputs.parameters.dflow_slice}}"
    leaf = templates(manifest)[take["template"]]
    assert record(leaf)["slices"] == {"slices": "${dflow_slice}", "output_artifact": ["out"]}
    assert leaf["outputs"]["artifacts"][0]["s3"]["key"] == "{{inputs.parameters.dflow_artifact_key}}/out"


def test_what_is_deeper_is_told_which_slice_it_belongs_to() -> None:
    manifest = compiled(sliced(outer(inner()), create_dir=True))
    deep = members(templates(manifest)[members(entry(manifest))["run"]["template"]])["deep"]
    assert values(deep)["dflow_slice"] == "{{inputs.parameters.dflow_slice}}"
    scope = templates(manifest)[deep["template"]]
    assert scope["outputs"]["parameters"][0]["valueFrom"] == {"parameter": "{{steps.use.outputs.parameters.m}}"}
    assert record(templates(manifest)[members(scope)["take"]["template"]])["slices"]["create_dir"] is True
    text = templates(manifest)["outer"]["outputs"]["parameters"][1]
    assert json.loads(text["description"]) == {"type": "str"}
    assert "toJson(" in text["valueFrom"]["expression"]


def test_a_scope_used_plainly_and_sliced_is_two_templates() -> None:
    scope = inner()
    workflow = sliced(scope)
    flag = Step("flag", PythonOPTemplate(Flag))
    workflow.add(flag)
    workflow.add(Step("plain", scope, parameters={"n": 1, "s": "x"}, artifacts={"file": flag.outputs.artifacts["a"]}))
    manifest = compiled(workflow)
    found = members(entry(manifest))
    assert found["plain"]["template"] != found["run"]["template"]
    assert "dflow_slice" not in json.dumps(templates(manifest)[found["plain"]["template"]])


def test_what_only_a_leaf_can_slice_is_refused() -> None:
    def step(scope: Steps, slices: Slices, **options: object) -> Workflow:
        n = [1] if "n" in slices.input_parameter else 1
        workflow = Workflow("flow")
        workflow.add(
            Step("run", scope, parameters={"n": n, "s": "x"}, artifacts={"file": "x"}, slices=slices, **options)
        )
        return workflow

    for options in ({"group_size": 2}, {"slices": "{{item}} * 2"}):
        with pytest.raises(CompileError, match="made of steps"):
            compiled(step(inner(), Slices(input_parameter=["n"], **options)))
    with pytest.raises(CompileError, match=r"argo_range\(...\)"):
        compiled(step(inner(), Slices(input_parameter=["n"]), with_sequence=argo_sequence(3)))
    with pytest.raises(CompileError, match="is a list"):
        compiled(step(inner(), Slices(input_parameter=["s"]), with_param=[0]))
    scope = inner()
    scope.outputs.artifacts["out"]._from = scope.inputs.artifacts["file"]
    with pytest.raises(CompileError, match="from no step of it"):
        compiled(step(scope, Slices(input_parameter=["n"], output_artifact=["out"])))


@pytest.mark.parametrize("kinds", [(Steps, Step), (DAG, Task)])
def test_what_no_single_op_leaves_is_joined_by_a_helper(kinds: tuple) -> None:
    scope = inner(*kinds)
    names = ("use", "make", "take")
    use, make, take = (scope.names()[name] for name in names)
    loop = kinds[1]("loop", each(), parameters={"value": make.outputs.parameters["values"]}, when="1 == 1")
    scope.add(loop)
    output = scope.outputs.artifacts["out"]
    output._from = None
    output.from_expression = if_expression(
        use.outputs.parameters["m"] > 1, take.outputs.artifacts["out"], loop.outputs.artifacts["file"]
    )
    manifest = compiled(sliced(scope))
    found = templates(manifest)[members(entry(manifest))["run"]["template"]]
    join = members(found)["loop-join-out"]
    word = "tasks" if kinds[0] is DAG else "steps"
    assert list(members(found))[-1] == "loop-join-out"
    assert values(join) == {
        "dflow_slice": "{{inputs.parameters.dflow_slice}}",
        "dflow_artifact_key": "{{inputs.parameters.dflow_artifact_key}}",
    }
    assert sources(join)["dflow_joined"] == {"from": "{{" + word + ".loop-init-artifact.outputs.artifacts.file}}"}
    assert join["when"] == "1 == 1"
    leaf = templates(manifest)[join["template"]]
    assert record(leaf)["entry"]["name"] == "JoinSlice"
    assert leaf["outputs"]["artifacts"][0]["s3"]["key"] == "{{inputs.parameters.dflow_artifact_key}}/out"
    assert found["outputs"]["artifacts"][0]["fromExpression"] == (
        f"(asFloat({word}['use'].outputs.parameters['m']) > 1) ? {word}['take'].outputs.artifacts['out'] : "
        f"{word}['loop-join-out'].outputs.artifacts['dflow_joined']"
    )
    take_record = record(templates(manifest)[members(found)["take"]["template"]])
    assert take_record["slices"] == {"slices": "${dflow_slice}", "output_artifact": ["out"]}
    if kinds[0] is DAG:  # it waits for the end of a loop, not for what names its artifact only
        assert join["depends"] == "(loop.Succeeded || loop.Skipped)"


def test_a_big_list_is_cut_by_the_engine() -> None:
    scope = Steps("inner", inputs=Inputs(parameters={"value": InputParameter(type=dict)}), outputs=Outputs())
    scope.add(Step("big", PythonOPTemplate(Big), parameters={"state": scope.inputs.parameters["value"]}))
    lists = op("Lists", {}, {"values": BigParameter(List[dict])})
    workflow = Workflow("flow")
    first = Step("lists", PythonOPTemplate(lists))
    slices = Slices(input_parameter=["value"])
    run = Step("run", scope, parameters={"value": first.outputs.parameters["values"]}, slices=slices)
    constant = Step("constant", scope, parameters={"value": [{"a": 1}, {"a": 2}]}, slices=slices)
    for step in (first, run, constant):
        workflow.add(step)
    manifest = compiled(workflow)
    found = members(entry(manifest))
    # The engine reads the list, so the leaf gives it as text, too.
    assert [item["name"] for item in templates(manifest)[found["lists"]["template"]]["outputs"]["parameters"]] == [
        "values"
    ]
    element = {"raw": {"data": "{{=toJson(sprig.fromJson(item['p_value'])[0])}}"}}
    for name in ("run", "constant"):
        assert sources(found[name])["dflow_bigpar_value"] == element
        assert "'p_value', [v0[asInt(#)]]" in found[name]["withParam"]
