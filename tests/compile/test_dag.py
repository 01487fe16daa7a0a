"""DAGs: what depends on what, and in which of Argo's two ways it is said."""

from __future__ import annotations

import pytest

from dflow_hpc import (
    DAG,
    InputParameter,
    Inputs,
    PythonOPTemplate,
    ShellOPTemplate,
    Step,
    Task,
    Workflow,
    if_expression,
)
from dflow_hpc.errors import CompileError, ModelError
from tests.compile.programs import Flag, Gather, Make, Use, compiled, each, entry, members, values


def task(name: str, **options: object) -> Task:
    return Task(name, ShellOPTemplate("s", image="alpine", script="true"), **options)  # type: ignore[arg-type]


def depends(*tasks: Task) -> dict[str, str | None]:
    dag = DAG("d")
    dag.add(list(tasks))
    return {name: one.get("depends") for name, one in members(entry(compiled(Workflow("flow", dag=dag)))).items()}


def test_dependencies_are_read_off_whatever_refers_to_a_task() -> None:
    make = Task("make", PythonOPTemplate(Make), parameters={"n": 1})
    n = make.outputs.parameters["n"]
    found = depends(
        Task("use", PythonOPTemplate(Use), parameters={"n": n}),  # order of adding does not matter
        make,
        Task("art", PythonOPTemplate(Use), parameters={"n": 1}, artifacts={"data": make.outputs.artifacts["data"]}),
        task("when", when=n > 3),
        task("text", when=f"{n} == 3"),
        task("key", key=f"k-{n}"),
        task("loop", with_param=make.outputs.parameters["values"]),
        Task("choice", PythonOPTemplate(Use), parameters={"n": if_expression(n == 1, n, 2)}),
        task("alone"),
    )
    assert found.pop("make") is None
    assert found.pop("alone") is None
    assert set(found.values()) == {"(make.Succeeded)"}


def test_given_dependencies_are_added_and_texts_stay() -> None:
    a, b = task("a"), task("b", continue_on_failed=True)
    make = Task("make", PythonOPTemplate(Make), parameters={"n": 1}, when="1 == 1")
    loop = task("loop", with_param=[])
    end = Task(
        "end",
        PythonOPTemplate(Use),
        parameters={"n": make.outputs.parameters["n"]},
        dependencies=[b, "a.Failed || a.Succeeded", loop],
    )
    assert depends(a, b, make, loop, end)["end"] == (
        "(make.Succeeded) && (b.Succeeded || b.Failed) && (loop.Succeeded || loop.Skipped) && (a.Failed || a.Succeeded)"
    )


def test_a_branch_that_may_end_failed_is_written_with_dependencies() -> None:
    dag = DAG("d")
    a, b = task("a"), task("b", dependencies=[], continue_on_failed=True)
    b.dependencies.append(a)
    dag.add([a, b])
    found = members(entry(compiled(Workflow("flow", dag=dag))))
    assert found["b"]["dependencies"] == ["a"]
    assert found["b"]["continueOn"] == {"failed": True}
    assert "depends" not in found["b"]
    dag.add(task("c", dependencies=["a.Failed"]))
    with pytest.raises(CompileError, match="Argo cannot have both"):
        compiled(Workflow("flow", dag=dag))


def test_helpers_stand_between_a_task_and_its_dependents() -> None:
    make = Task("make", PythonOPTemplate(Make), parameters={"n": 1})
    loop = Task(
        "each",
        each(),
        parameters={"value": make.outputs.parameters["values"]},
        continue_on_num_success=1,
        when=make.outputs.parameters["n"] > 0,
    )
    gather = Task("gather", PythonOPTemplate(Gather), parameters={"results": loop.outputs.parameters["result"]})
    use = Task("use", PythonOPTemplate(Use), parameters={"n": 1}, artifacts={"data": loop.outputs.artifacts["file"]})
    found = depends(make, loop, gather, use)
    assert found == {
        "make": None,
        "each-init-artifact": "(make.Succeeded)",
        "each": "(make.Succeeded) && (each-init-artifact.Succeeded || each-init-artifact.Skipped)",
        "each-check-num-success": "(make.Succeeded) && (each.Succeeded || each.Skipped || each.Failed || each.Errored)",
        "gather": "(each-check-num-success.Succeeded)",
        "use": "(each-check-num-success.Succeeded)",
    }


def test_a_circle_is_named_in_order() -> None:
    a, b, c = task("a"), task("b"), task("c")
    a.dependencies, b.dependencies, c.dependencies = [c], [a], ["b.Failed"]
    with pytest.raises(CompileError, match=r"in a circle: a -> c -> b -> a \(.*test_dag.py:\d+\)"):
        depends(a, b, c)


def test_ten_thousand_tasks_in_a_chain_are_no_circle_and_no_recursion() -> None:
    dag = DAG("d")
    template = ShellOPTemplate("s", image="alpine", script="true")
    previous: list[Task] = []
    for number in range(10_000):
        one = Task(f"t{number}", template, dependencies=previous)
        dag.add(one)
        previous = [one]
    tasks = Workflow("flow", dag=dag).to_dict()["spec"]["templates"][0]["dag"]["tasks"]
    assert tasks[-1]["depends"] == "(t9998.Succeeded)"


def test_nested_scopes_refer_to_their_own_inputs_only() -> None:
    dag = DAG("inner", inputs=Inputs(parameters={"n": InputParameter()}))
    dag.add(Task("use", PythonOPTemplate(Use), parameters={"n": dag.inputs.parameters["n"]}))
    workflow = Workflow("flow")
    make = Step("make", PythonOPTemplate(Make), parameters={"n": 1})
    workflow.add(make)
    workflow.add(Step("run", dag, parameters={"n": make.outputs.parameters["n"]}))
    manifest = compiled(workflow)
    assert values(members(entry(manifest))["run"]) == {"n": "{{steps.make.outputs.parameters.n}}"}


def test_what_is_not_part_of_the_dag_is_refused() -> None:
    outside = Task("outside", PythonOPTemplate(Flag))
    inside = Task(
        "inside", PythonOPTemplate(Use), parameters={"n": 1}, artifacts={"data": outside.outputs.artifacts["a"]}
    )
    with pytest.raises(CompileError, match="not part of"):
        depends(inside)
    with pytest.raises(CompileError, match="not part of"):
        depends(task("x", dependencies=[outside]))
    with pytest.raises(CompileError, match="did you mean 'alpha'"):
        depends(task("alpha"), task("x", dependencies=["alpa.Failed"]))
    with pytest.raises(ModelError, match="takes a Task"):
        DAG("d").add(Step("s", PythonOPTemplate(Flag)))
    with pytest.raises(CompileError, match="has no tasks"):
        depends()
