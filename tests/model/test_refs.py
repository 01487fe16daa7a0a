"""References and expressions: what they print, and that they refuse to be used as values."""

from __future__ import annotations

from typing import Any

import pytest

from dflow_hpc import (
    InputArtifact,
    InputParameter,
    Inputs,
    OutputParameter,
    Outputs,
    ShellOPTemplate,
    Step,
    Steps,
    Task,
    argo_concat,
    argo_enumerate,
    argo_len,
    argo_range,
    argo_sequence,
    argo_sum,
    if_expression,
)
from dflow_hpc.errors import ModelError


def make(kind: Any = Step) -> Any:
    template = ShellOPTemplate(
        "t", image="x", outputs=Outputs(parameters={"x-y": OutputParameter(value_from_path="/tmp/x")})
    )
    return kind("a-b", template).outputs.parameters["x-y"]


def test_a_reference_prints_as_a_tag_and_as_an_expression() -> None:
    steps = Steps("s", inputs=Inputs(parameters={"n": InputParameter()}, artifacts={"d": InputArtifact()}))
    assert f"{make()}" == "{{steps.a-b.outputs.parameters.x-y}}"
    assert make(Task).expr == "tasks['a-b'].outputs.parameters['x-y']"
    assert str(steps.inputs.parameters["n"]) == "{{inputs.parameters.n}}"
    assert str(steps.inputs.artifacts["d"]["k"][0]) == "{{inputs.artifacts.d}}"
    assert steps.inputs.artifacts["d"]["k"][0].slice == "k.0"
    assert "iter-%s" % make() == "iter-{{steps.a-b.outputs.parameters.x-y}}"  # noqa: UP031  (as programs of dflow write it)
    assert make() + "!" == "{{steps.a-b.outputs.parameters.x-y}}!"
    assert "~" + make() == "~{{steps.a-b.outputs.parameters.x-y}}"


E = "steps['a-b'].outputs.parameters['x-y']"


@pytest.mark.parametrize(
    ("make_expression", "text"),
    [
        (lambda p: p == True, f"{E} == 'true'"),  # noqa: E712
        (lambda p: p == 3, f"{E} == '3'"),
        (lambda p: p != "it's", rf"{E} != 'it\'s'"),
        (lambda p: p == 1.5, f"asFloat({E}) == 1.5"),
        (lambda p: p > 3, f"asFloat({E}) > 3"),
        (lambda p: p <= p, f"asFloat({E}) <= asFloat({E})"),
        (lambda p: p == p, f"{E} == {E}"),
        (lambda p: 2 * (p + 1), f"2 * (asFloat({E}) + 1)"),
        (lambda p: 1 - p / -2, f"1 - (asFloat({E}) / (-2))"),
        (lambda p: p[3], f"jsonpath({E}, '$[3]')"),
        (lambda p: p["k"]["l"] == 1, rf"jsonpath(toJson(jsonpath({E}, '$[\'k\']')), '$[\'l\']') == 1"),
        (lambda p: (p > 1) & ~(p == "a"), f"(asFloat({E}) > 1) && (!({E} == 'a'))"),
        (lambda p: p | (p == None), f"({E} == 'true') || ({E} == 'null')"),  # noqa: E711
        (lambda p: if_expression(p, 0, "b"), f"({E} == 'true') ? '0' : 'b'"),
        (lambda p: if_expression(p == 1, p, if_expression(p, "}}}", False)), None),
        (lambda p: argo_range(argo_len(p)), f"toJson(sprig.untilStep(0, asInt(len(sprig.fromJson({E}))), 1))"),
        (lambda p: argo_range(1, p, 2), f"toJson(sprig.untilStep(1, asInt({E}), 2))"),
    ],
)
def test_operators_give_expressions(make_expression: Any, text: str | None) -> None:
    expression = make_expression(make())
    if text is None:
        text = f"({E} == '1') ? {E} : (({E} == 'true') ? '}}' + '}}' + '}}' : 'false')"
    assert expression.expr == text
    assert str(expression) == "{{=" + text + "}}"
    assert "}}" not in text


@pytest.mark.parametrize(
    ("use", "advice"),
    [
        (lambda p: bool(p > 3), "when=condition"),
        (lambda p: 1 < p < 3, "`&`"),
        (lambda p: p in [1, 2], "when="),
        (lambda p: 3 in p, "OP"),
        (list, "with_param"),
        (len, "argo_len"),
        (range, "ref + 1"),
        (int, "ref + 1"),
        (lambda p: p - [1], "number"),
        (lambda p: p > "abc", "number"),
        (lambda p: p[1.5], "integer"),
        (lambda p: if_expression([], 1, 2).expr, "condition"),
        (lambda p: argo_sequence(3, end=4), "one of them"),
        (lambda p: argo_range(), "end"),
        (lambda p: argo_range("a"), "argo_len"),
        (lambda p: argo_enumerate(), "list"),
    ],
)
def test_what_has_no_value_yet_says_so(use: Any, advice: str) -> None:
    with pytest.raises(ModelError) as caught:
        use(make())
    assert advice in str(caught.value)


def test_a_reference_is_hashable_by_identity() -> None:
    one, other = make(), make()
    assert {one: 1, other: 2}[one] == 1
    assert one in {one}


def test_an_if_expression_is_lazy_about_its_parts() -> None:
    steps = Steps("s", outputs=Outputs(parameters={"o": OutputParameter()}))
    step = Step("again", steps)
    chosen = if_expression(make() == 1, step.outputs.parameters["o"], 0)
    assert chosen.expr.endswith("steps['again'].outputs.parameters['o'] : '0'")


def test_sums_and_lists_of_stacked_outputs_look_into_the_records() -> None:
    assert "dflow_list_item" in argo_sum(make()).expr
    assert argo_len(argo_concat(make())).expr.startswith("len(reduce(")
    assert argo_len([1, 2]).expr == "len(sprig.fromJson('[1, 2]'))"
    items = argo_enumerate([5, 6], name=make())
    assert items.expr.startswith("let v0 = sprig.fromJson('[5, 6]'); let v1 = sprig.fromJson(")
    assert "'value', v0[#], 'name', v1[#]" in items.expr
