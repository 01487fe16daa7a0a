"""The functional interface: calling OPs inside a workflow makes its steps."""

from pathlib import Path
from typing import Dict, NamedTuple, Tuple

import pytest

from dflow_hpc import DAG, OP, Artifact, OutputArtifact, PythonOPTemplate, Step, Steps, Workflow, if_expression
from dflow_hpc.errors import ModelError
from dflow_hpc.model import context
from tests.compile.programs import Make, compiled, entry, members, sources, templates, values


class Pair(NamedTuple):
    low: int
    high: int


@OP.function
def start(n: int = 1) -> {"n": int, "file": Artifact(Path)}:  # type: ignore[valid-type]  # noqa: F821
    return {"n": n, "file": Path("x")}


@OP.function(image="alpine", timeout=3)
def split(n: int, file: Artifact(Path) = None) -> Pair:  # type: ignore[valid-type]
    return Pair(n, n + 1)


@OP.function
def two(n: int) -> Tuple[int, str]:
    return n, str(n)


@OP.function
def one(n: int) -> int:
    return n


@OP.superfunction
def both(n: int, file: Artifact(Path)) -> {"n": int, "file": Artifact(Path)}:  # type: ignore[valid-type]  # noqa: F821
    first = one(n)
    second = one(n=first)
    return {"n": second, "file": file}


def test_calls_make_tasks_and_give_references(monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = Workflow("flow")
    monkeypatch.setattr(Workflow, "submit", lambda self: setattr(self, "id", "submitted"))
    with workflow:
        first = start(n=3)
        low, high = split(first["n"], file=first["file"])
        number, text = two(high)
        kept = one.use(name="kept", key="kept", when=low > 1)(number)
        again = one(kept)
        result = both(again, first["file"])
        one.use(continue_on_failed=True)(result["n"])
    assert workflow.id == "submitted"
    assert context.current() is None
    assert str(text) == "{{tasks.two.outputs.parameters.dflow_output_1}}"
    manifest = compiled(workflow)
    found = members(entry(manifest))
    assert list(found) == ["start", "split", "two", "kept", "one", "both", "one-2"]
    assert values(found["split"]) == {"n": "{{tasks.start.outputs.parameters.n}}"}
    assert sources(found["split"])["file"]["from"] == "{{tasks.start.outputs.artifacts.file}}"
    assert found["kept"]["when"] == "{{=asFloat(tasks['split'].outputs.parameters['low']) > 1}}"
    assert templates(manifest)[found["split"]["template"]]["timeout"] == "3s"
    inner = templates(manifest)[found["both"]["template"]]
    assert list(members(inner)) == ["one", "one-2"]
    assert inner["outputs"]["parameters"][0]["valueFrom"] == {
        "parameter": "{{tasks.one-2.outputs.parameters.dflow_output}}"
    }
    assert inner["outputs"]["artifacts"] == [{"name": "file", "from": "{{inputs.artifacts.file}}"}]
    assert values(found["one-2"]) == {"n": "{{tasks.both.outputs.parameters.n}}"}


def test_outside_of_a_workflow_a_call_runs() -> None:
    assert split(4) == Pair(4, 5)
    assert two(n=3) == (3, "3")
    assert both(1, "f") == {"n": 1, "file": "f"}


def test_steps_made_in_a_scope_belong_to_it() -> None:
    with Steps("s") as steps:
        make = Step("make", PythonOPTemplate(Make), parameters={"n": 1})
        result = one(make.outputs.parameters["n"])
        with DAG("inner") as dag:
            one(5)
    assert [step.name for step in steps] == ["make", "one"]
    assert [task.name for task in dag] == ["one"]
    assert str(result) == "{{steps.one.outputs.parameters.dflow_output}}"
    steps.outputs.artifacts["data"] = OutputArtifact(_from=make.outputs.artifacts["data"])
    compiled(Workflow("flow", steps=steps))


def test_an_exception_in_a_scope_closes_it_and_submits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[Workflow] = []
    monkeypatch.setattr(Workflow, "submit", submitted.append)
    with pytest.raises(ZeroDivisionError), Workflow("flow"):
        DAG("inner").__enter__()
        one(1 // 0)
    assert context.current() is None
    assert submitted == []


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: one(1, 2), "takes 1"),
        (lambda: one(1, n=2), "'n' twice"),
        (lambda: one(m=2), "'m'"),
        (lambda: one("x"), "int"),
        (lambda: one.use(nmae="x")(1), "nmae"),
    ],
)
def test_wrong_calls_are_refused_at_once(call: object, text: str) -> None:
    with pytest.raises((ModelError, TypeError)) as caught, DAG("d"):
        call()  # type: ignore[operator]
    assert text in str(caught.value)


def test_a_superfunction_returns_what_its_tasks_give() -> None:
    def choose(n: int) -> {"n": int}:  # type: ignore[valid-type]  # noqa: F821
        first = one(n)
        return {"n": if_expression(first > 3, first, 0)}

    dag = OP.superfunction(choose)
    output = dag.outputs.parameters["n"]
    assert output.value_from_expression.expr.endswith(": '0'")

    def constant(n: int) -> {"n": int}:  # type: ignore[valid-type]  # noqa: F821
        one(n)
        return {"n": 7}

    with pytest.raises(ModelError, match="Compute constants in an OP"):
        OP.superfunction(constant)

    def missing(n: int) -> Dict[str, int]:
        return one(n)

    assert OP.superfunction(missing).outputs.parameters["dflow_output"].value_from_parameter.step.name == "one"
