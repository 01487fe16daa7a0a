"""Findings: each is reported once, with the author's line, and a clean workflow has none."""

from dflow_hpc import InputArtifact, InputParameter, Inputs, PythonOPTemplate, ShellOPTemplate, Step, Steps, Workflow
from dflow_hpc.compile.lint import lint
from tests.compile.programs import Gather, Make, Use, each


def shell() -> ShellOPTemplate:
    return ShellOPTemplate("s", image="alpine", script="true")


def found(*steps: Step) -> list[str]:
    workflow = Workflow("flow")
    for step in steps:
        workflow.add(step)
    return [finding.text for finding in lint(workflow)]


def test_a_clean_workflow_has_no_findings() -> None:
    inner = Steps("inner", inputs=Inputs(parameters={"n": InputParameter()}, artifacts={"d": InputArtifact()}))
    inner.add(
        Step(
            "use",
            PythonOPTemplate(Use),
            parameters={"n": inner.inputs.parameters["n"]},
            artifacts={"data": inner.inputs.artifacts["d"]},
            key=f"use-{inner.inputs.parameters['n']}",
        )
    )
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 1}, key="make")
    loop = Step("each", each(), parameters={"value": make.outputs.parameters["values"]}, key="e-{{item}}")
    gather = Step("gather", PythonOPTemplate(Gather), parameters={"results": loop.outputs.parameters["result"]})
    run = Step(
        "run",
        inner,
        parameters={"n": make.outputs.parameters["n"]},
        artifacts={"d": make.outputs.artifacts["data"]},
        when=make.outputs.parameters["text"] == "go",
    )
    assert found(make, loop, gather, run) == []


def test_keys_that_occur_again() -> None:
    inner = Steps("inner")
    inner.add(Step("s", shell(), key="fixed"))
    texts = found(
        Step("a", shell(), key="k"),
        Step("b", shell(), key="k"),
        Step("loop", shell(), key="loop", with_param=[1, 2]),
        Step("twice", inner, with_param=[1, 2]),
    )
    assert len(texts) == 3
    assert any("step 'b' has the key 'k' of step 'a'" in text for text in texts)
    assert any("put {{item}} into it" in text for text in texts)
    assert any("Steps 'inner' runs more than once" in text for text in texts)


def test_what_may_be_missing_or_misread_or_unused() -> None:
    inner = Steps("inner", inputs=Inputs(parameters={"n": InputParameter(value=1), "m": InputParameter(value=1)}))
    inner.add(Step("u", PythonOPTemplate(Use), parameters={"n": "{{inputs.parameters.n}}"}))
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 1}, continue_on_failed=True)
    text = make.outputs.parameters["text"]
    use = Step("use", PythonOPTemplate(Use), parameters={"n": make.outputs.parameters["n"]})
    workflow = Workflow("flow")
    for step in (
        make,
        use,
        Step("plain", shell(), when=f"{text} == go"),
        Step("quoted", shell(), when=f"'{text}' == 'go'"),
    ):
        workflow.add(step)
    workflow.add(Step("inner", inner))
    findings = lint(workflow)
    assert [finding.text.split(";")[0].split(",")[0] for finding in findings] == [
        "Steps 'inner' declares the input parameter 'm' and never uses it",
        "step 'use' uses outputs of step 'make'",
        f"step 'plain' compares {text} in when='{text} == go' without quotes",
    ]
    assert str(findings[0]).startswith(f"{__file__}:")
