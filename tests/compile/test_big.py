"""Big parameters: files instead of texts, through all levels."""

from __future__ import annotations

import pytest

from dflow_hpc import (
    InputParameter,
    Inputs,
    OutputParameter,
    Outputs,
    PythonOPTemplate,
    ShellOPTemplate,
    Step,
    Steps,
    Workflow,
    if_expression,
)
from dflow_hpc.errors import CompileError
from tests.compile.programs import Big, Free, compiled, entry, members, sources, templates, values


def test_a_big_parameter_is_an_artifact() -> None:
    workflow = Workflow("flow")
    first = Step("first", PythonOPTemplate(Big), parameters={"state": {"a": 1}})
    second = Step("second", PythonOPTemplate(Big), parameters={"state": first.outputs.parameters["state"]})
    workflow.add(first)
    workflow.add(second)
    manifest = compiled(workflow)
    one, two = members(entry(manifest)).values()
    assert sources(one)["dflow_bigpar_state"] == {"raw": {"data": '{"a": 1}'}}
    assert sources(two)["dflow_bigpar_state"] == {"from": "{{steps.first.outputs.artifacts.dflow_bigpar_state}}"}
    template = templates(manifest)[one["template"]]
    assert template["inputs"]["artifacts"][0] == {"name": "dflow_bigpar_state", "path": "/tmp/inputs/parameters/state"}
    assert template["outputs"]["artifacts"][0] == {
        "name": "dflow_bigpar_state",
        "path": "/tmp/outputs/parameters/state",
        "archive": {"none": {}},
    }


def test_it_stays_big_through_scopes_recursion_and_choices() -> None:
    steps = Steps(
        "loop",
        inputs=Inputs(parameters={"state": InputParameter()}),
        outputs=Outputs(parameters={"state": OutputParameter()}),
    )
    run = Step("run", PythonOPTemplate(Big), parameters={"state": steps.inputs.parameters["state"]})
    steps.add(run)
    again = Step(
        "again",
        steps,
        parameters={"state": run.outputs.parameters["state"]},
        when=f"{run.outputs.parameters['done']} == false",
    )
    steps.add(again)
    steps.outputs.parameters["state"].value_from_expression = if_expression(
        run.outputs.parameters["done"], run.outputs.parameters["state"], again.outputs.parameters["state"]
    )
    workflow = Workflow("flow")
    start = Step("start", PythonOPTemplate(Big), parameters={"state": {}})
    workflow.add(start)
    outer = Step("loop", steps, parameters={"state": start.outputs.parameters["state"]})
    workflow.add(outer)
    plain = Step("plain", PythonOPTemplate(Free), parameters={"value": outer.outputs.parameters["state"]})
    workflow.add(plain)
    manifest = compiled(workflow)
    loop = templates(manifest)["loop"]
    assert loop["inputs"] == {"artifacts": [{"name": "dflow_bigpar_state"}]}
    assert sources(members(loop)["run"]) == {"dflow_bigpar_state": {"from": "{{inputs.artifacts.dflow_bigpar_state}}"}}
    assert loop["outputs"]["artifacts"] == [
        {
            "name": "dflow_bigpar_state",
            "fromExpression": "((steps['run'].outputs.parameters['done'] == 'true') ? "
            "steps['run'].outputs.artifacts['dflow_bigpar_state'] : "
            "steps['again'].outputs.artifacts['dflow_bigpar_state'])",
        }
    ]
    # an ordinary parameter that is given something big takes a file too
    member = members(entry(manifest))["plain"]
    assert sources(member) == {"dflow_bigpar_value": {"from": "{{steps.loop.outputs.artifacts.dflow_bigpar_state}}"}}
    assert templates(manifest)[member["template"]]["inputs"]["artifacts"][0] == {
        "name": "dflow_bigpar_value",
        "path": "/tmp/inputs/parameters/value",
        "raw": {"data": "{}"},
    }


def test_an_ordinary_value_is_written_for_a_big_parameter() -> None:
    workflow = Workflow("flow")
    free = Step("free", PythonOPTemplate(Free))
    workflow.add(free)
    workflow.add(Step("big", PythonOPTemplate(Big), parameters={"state": free.outputs.parameters["value"]}))
    member = members(entry(compiled(workflow)))["big"]
    assert sources(member)["dflow_bigpar_state"] == {"raw": {"data": "{{steps.free.outputs.parameters.value}}"}}


def test_what_no_expression_and_no_script_sees_is_refused() -> None:
    big = Step("big", PythonOPTemplate(Big), parameters={"state": {}})
    state = big.outputs.parameters["state"]
    script = ShellOPTemplate("s", image="alpine", script="true", inputs=Inputs(parameters={"x": InputParameter()}))
    for value, text in (
        (state, "only a Python OP"),
        (state["a"], "no expression sees"),
        (if_expression(True, state, 1), "none"),
    ):
        workflow = Workflow("flow")
        workflow.add(big)
        workflow.add(Step("s", script, parameters={"x": value}))
        with pytest.raises(CompileError, match=text):
            compiled(workflow)


def test_one_that_a_loop_reads_is_given_as_text_too() -> None:
    from dflow_hpc import argo_len, argo_range

    first = Step("first", PythonOPTemplate(Big), parameters={"state": {"a": 1}})
    again = Step("again", PythonOPTemplate(Big), parameters={"state": first.outputs.parameters["state"]})
    inner = Steps("inner", inputs=Inputs(parameters={"state": InputParameter()}))
    count = argo_range(argo_len(inner.inputs.parameters["state"]))
    inner.add(Step("each", PythonOPTemplate(Free), parameters={"value": "{{item}}"}, with_param=count))
    workflow = Workflow("flow")
    workflow.add(first)
    workflow.add(again)
    workflow.add(Step("inner", inner, parameters={"state": first.outputs.parameters["state"]}))
    manifest = compiled(workflow)
    scope = members(entry(manifest))
    of_first, of_again = (templates(manifest)[scope[name]["template"]]["outputs"] for name in ("first", "again"))
    assert [item["name"] for item in of_first["parameters"]] == ["state", "done"]
    assert [item["name"] for item in of_again["parameters"]] == ["done"]  # nobody reads this one
    assert [item["name"] for item in of_first["artifacts"]] == ["dflow_bigpar_state"]
    assert of_first["parameters"][0]["valueFrom"]["path"] == of_first["artifacts"][0]["path"]
    assert values(scope["inner"]) == {"state": "{{steps.first.outputs.parameters.state}}"}
    assert sources(scope["inner"]) == {
        "dflow_bigpar_state": {"from": "{{steps.first.outputs.artifacts.dflow_bigpar_state}}"}
    }
    assert [item["name"] for item in templates(manifest)["inner"]["inputs"]["parameters"]] == ["state"]
    assert "inputs.parameters['state']" in members(templates(manifest)["inner"])["each"]["withParam"]


def test_a_template_default_is_a_raw_artifact() -> None:
    from dflow_hpc import BigParameter
    from tests.compile.programs import op

    defaulted = op("Defaulted", {"x": BigParameter(dict, default={"k": 1})}, {})
    workflow = Workflow("flow")
    workflow.add(Step("d", PythonOPTemplate(defaulted)))
    manifest = compiled(workflow)
    assert "arguments" not in members(entry(manifest))["d"]
    assert templates(manifest)[members(entry(manifest))["d"]["template"]]["inputs"]["artifacts"][0]["raw"] == {
        "data": '{"k": 1}'
    }
    with pytest.raises(KeyError):
        values(members(entry(manifest))["d"])
