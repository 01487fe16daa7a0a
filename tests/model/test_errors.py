"""What is put together wrongly is refused where it was written, saying what was asked, found, and to do."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from dflow_hpc import (
    DAG,
    OP,
    InputArtifact,
    InputParameter,
    Inputs,
    MachineExecutor,
    OutputArtifact,
    OutputParameter,
    Outputs,
    PythonOPTemplate,
    ShellOPTemplate,
    Slices,
    Step,
    Steps,
    Task,
    Workflow,
    argo_sequence,
)
from dflow_hpc.errors import CompileError, DflowError, ModelError
from tests.compile.programs import Each, Flag, Free, Gather, Make, Use, op


def shell(**options: Any) -> ShellOPTemplate:
    return ShellOPTemplate("s", image="alpine", **options)


def make(**options: Any) -> Step:
    return Step("make", PythonOPTemplate(Make), **options)


def workflow_of(*steps: Step) -> Workflow:
    workflow = Workflow("flow")
    for step in steps:
        workflow.add(step)
    return workflow


def compile_steps(*steps: Step) -> None:
    workflow_of(*steps).to_dict()


def half(**methods: Any) -> Any:
    """Return an OP class with these methods changed, or taken away (None)."""
    whole = {"get_input_sign": dict, "get_output_sign": dict, "execute": lambda self, op_in: None, **methods}
    return type("Half", (OP,), {name: staticmethod(m) if m is dict else m for name, m in whole.items() if m})


def add_late() -> None:
    workflow = workflow_of(make(parameters={"n": 1}))
    workflow.submitted = True
    workflow.add(Step("late", PythonOPTemplate(Flag)))


def outputs(**options: Any) -> Outputs:
    return Outputs(parameters={"x": OutputParameter(**options)})


AT_CONSTRUCTION: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("step name", lambda: Step("a b", shell()), ["'a b'", "'a-b'", "test_errors.py"]),
    ("template name", lambda: ShellOPTemplate("a_b", image="x"), ["'a_b'", "'a-b'"]),
    ("workflow name", lambda: Workflow("My_Flow"), ["'My_Flow'", "'my-flow'"]),
    ("workflow id", lambda: Workflow("flow", id="Run_1"), ["'Run_1'", "'run-1'"]),
    ("parameter name", lambda: Inputs(parameters={"a b": InputParameter()}), ["'a b'", "letters, digits"]),
    (
        "unknown parameter",
        lambda: Step("e", PythonOPTemplate(Each), parameters={"valu": 1}),
        ["'valu'", "declares 'value'", "did you mean"],
    ),
    ("parameter for artifact", lambda: make(artifacts={"n": "x"}), ["'n' is declared, but as a parameter"]),
    ("unknown output", lambda: make().outputs.parameters["valeus"], ["'valeus'", "did you mean 'values'"]),
    ("constant type", lambda: make(parameters={"n": "three"}), ["'n'", "int", "test_errors.py"]),
    (
        "element type",
        lambda: Step("g", PythonOPTemplate(Gather), parameters={"results": [1, "x"]}),
        ["'results'", "int"],
    ),
    (
        "linked types",
        lambda: Step("f", PythonOPTemplate(Free), parameters={"value": make().outputs.parameters["values"]}),
        ["List[int]", "'value'", "dict"],
    ),
    (
        "parameter as artifact",
        lambda: Step("u", PythonOPTemplate(Use), artifacts={"data": make().outputs.parameters["n"]}),
        ["Give an artifact"],
    ),
    ("no template", lambda: Step("s", Make), ["PythonOPTemplate(Make)"]),
    ("nothing", lambda: Step("s", None), ["template=None"]),
    ("no OP", lambda: PythonOPTemplate(dict), ["no OP", "@OP.function"]),
    ("key", lambda: make(key="Iter_1"), ["'Iter_1'", "lower-case"]),
    ("two loops", lambda: Step("s", shell(), with_param=[1], with_sequence=argo_sequence(1)), ["one of them"]),
    ("sequence", lambda: Step("s", shell(), with_sequence=[1]), ["argo_sequence"]),
    ("no loop to count", lambda: make(continue_on_num_success=1), ["no loop"]),
    (
        "two counts",
        lambda: Step("s", shell(), with_param=[1], continue_on_num_success=1, continue_on_success_ratio=0.1),
        ["keep one"],
    ),
    ("slices name", lambda: PythonOPTemplate(Each, slices=Slices(input_parameter=["valu"])), ["'valu'", "'value'"]),
    ("slices type", lambda: PythonOPTemplate(Each, slices="{{item}}"), ["Slices("]),
    ("option", lambda: PythonOPTemplate(Each, output_artifact_archive={"fil": None}), ["'fil'", "'file'"]),
    ("two retries", lambda: PythonOPTemplate(Each, retry_on_failure=1, retry_on_error=2), ["Keep one"]),
    ("negative retry", lambda: PythonOPTemplate(Each, retry_on_failure=-1), ["0 or more"]),
    ("timeout", lambda: PythonOPTemplate(Each, timeout=0), ["positive number of seconds"]),
    ("pre_script", lambda: PythonOPTemplate(Each, pre_script="x"), ["execute()"]),
    ("resource", lambda: Step("s", shell(), use_resource=object()), ["use_resource", "not supported"]),
    ("pvc", lambda: OutputArtifact(path="/a").pvc(), ["pvc"]),
    ("path", lambda: InputArtifact(path="/tmp"), ["'/tmp'"]),
    ("executor", lambda: Step("s", shell(), executor=3), ["executor=3", "MachineExecutor"]),
    ("resource name", lambda: MachineExecutor("gpu", cpu=3), ["'cpu'", "'cpus'", "'memory'"]),
    ("task in steps", lambda: Steps("s").add(Task("t", shell())), ["A Steps is made of Step"]),
    (
        "twice",
        lambda: Steps("s", steps=[Step("a", shell()), Step("a", shell())]),
        ["two members named 'a'", "Rename".lower()],
    ),
    ("dependency", lambda: Task("t", shell(), dependencies=[3]), ["dependency 3"]),
    ("steps and dag", lambda: Workflow("w", steps=Steps("s"), dag=DAG("d")), ["steps and dag"]),
    ("entry", lambda: Workflow("w", steps=Step("a", shell())), ["Steps or a DAG"]),
    ("not submitted", lambda: Workflow("w").query_status(), ["not submitted"]),
    ("loop over an artifact", lambda: list(make().outputs.artifacts["data"]), ["iterated over"]),
    ("no execute", lambda: PythonOPTemplate(half(execute=None)), ["OP Half", "does not define 'execute'"]),
    ("no sign", lambda: PythonOPTemplate(half(get_input_sign=None)), ["does not define 'get_input_sign'"]),
    ("execute takes nothing", lambda: PythonOPTemplate(half(execute=lambda self: None)), ["def execute(self, op_in)"]),
    (
        "sign is a list",
        lambda: PythonOPTemplate(half(get_output_sign=lambda: ["x"])),
        ["Half.get_output_sign() returned ['x']"],
    ),
    ("sign is a value", lambda: PythonOPTemplate(op("Three", {"n": 3}, {})), ["input 'n' of Three is declared as 3"]),
    ("added after submit", add_late, ["given late to add (", "after it was submitted", "new Workflow"]),
    (
        "refused by Argo",
        lambda: workflow_of(Step("s", shell(script="echo {{inputs.parameters.foo}}"))).submit(),
        ["Argo would refuse it", "{{inputs.parameters.foo}}", "test_errors.py"],
    ),
]


@pytest.mark.parametrize(("use", "texts"), [pytest.param(*case[1:], id=case[0]) for case in AT_CONSTRUCTION])
def test_refused_where_it_is_written(use: Callable[[], Any], texts: list[str]) -> None:
    with pytest.raises(DflowError) as caught:
        use()
    for text in texts:
        assert text in str(caught.value)


def later() -> None:
    first, second = Step("first", PythonOPTemplate(Flag)), Step("second", PythonOPTemplate(Flag))
    use = Step("use", PythonOPTemplate(Use), parameters={"n": 1}, artifacts={"data": second.outputs.artifacts["a"]})
    compile_steps(first, use, second)


def same_group() -> None:
    first = Step("first", PythonOPTemplate(Flag))
    use = Step("use", PythonOPTemplate(Use), parameters={"n": 1}, artifacts={"data": first.outputs.artifacts["a"]})
    compile_steps([first, use])  # type: ignore[arg-type]


def other_scope() -> None:
    inner = Steps("inner", inputs=Inputs(parameters={"n": InputParameter(value=1)}))
    compile_steps(Step("use", PythonOPTemplate(Use), parameters={"n": inner.inputs.parameters["n"]}))


AT_COMPILATION: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("empty", lambda: Workflow("w").to_dict(), ["no steps"]),
    (
        "artifact of a loop",
        lambda: compile_steps(
            loop := make(parameters={"n": 1}, with_param=[1, 2]),
            Step("u", PythonOPTemplate(Use), parameters={"n": 1}, artifacts={"data": loop.outputs.artifacts["data"]}),
        ),
        ["nothing joins them", "Slices(output_artifact=['data'])"],
    ),
    ("missing parameter", lambda: compile_steps(make()), ["'n'", "make", "test_errors.py"]),
    (
        "missing artifact",
        lambda: compile_steps(Step("f", PythonOPTemplate(op("T", {"f": InputArtifactSign()}, {})))),
        ["'f'", "optional"],
    ),
    ("later step", later, ["'second', which does not run before it"]),
    ("same group", same_group, ["not in the same parallel group"]),
    ("other scope", other_scope, ["an input of Steps 'inner'"]),
    (
        "text of nobody",
        lambda: compile_steps(make(parameters={"n": "{{steps.mk.outputs.parameters.x}}"})),
        ["steps.mk"],
    ),
    (
        "input of nobody",
        lambda: compile_steps(make(parameters={"n": "{{inputs.parameters.x}}"})),
        ["inputs.parameters.x"],
    ),
    ("tasks in steps", lambda: compile_steps(make(parameters={"n": "{{tasks.make.id}}"})), ["tasks.make"]),
    ("no source", lambda: Workflow("w", steps=Steps("s", outputs=outputs())).to_dict(), ["value_from_parameter"]),
    ("no path", lambda: compile_steps(Step("s", shell(outputs=outputs()))), ["value_from_path"]),
    ("no image", lambda: compile_steps(Step("s", ShellOPTemplate("s"))), ["image"]),
    (
        "entry input",
        lambda: Workflow("w", steps=Steps("s", inputs=Inputs(parameters={"n": InputParameter()}))).to_dict(),
        ["entrypoint", "Workflow(parameters="],
    ),
    (
        "entry artifact",
        lambda: Workflow("w", steps=Steps("s", inputs=Inputs(artifacts={"n": InputArtifact()}))).to_dict(),
        ["entrypoint", "artifact"],
    ),
    (
        "executor of steps",
        lambda: compile_steps(Step("s", Steps("inner"), executor="gpu")),
        ["made of steps"],
    ),
    (
        "artifact of nothing",
        lambda: compile_steps(Step("u", PythonOPTemplate(Use), parameters={"n": 1}, artifacts={"data": 3})),
        ["value 3", "uploaded artifact"],
    ),
    (
        "helper's name",
        lambda: compile_steps(
            Step("a-check-num-success", shell()), Step("a", shell(), with_param=[1], continue_on_num_success=1)
        ),
        ["two members named 'a-check-num-success'"],
    ),
    (
        "element at run time",
        lambda: compile_steps(
            first := make(parameters={"n": 1}),
            Step(
                "u",
                PythonOPTemplate(Use),
                parameters={"n": 1},
                artifacts={"data": first.outputs.artifacts["data"][first.outputs.parameters["n"]]},
            ),
        ),
        ["chosen at run time"],
    ),
]


def InputArtifactSign() -> Any:
    from pathlib import Path

    from dflow_hpc import Artifact

    return Artifact(Path)


@pytest.mark.parametrize(("use", "texts"), [pytest.param(*case[1:], id=case[0]) for case in AT_COMPILATION])
def test_refused_when_it_is_compiled(use: Callable[[], Any], texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from dflow_hpc.compile import Bundle, compiler

    monkeypatch.setattr(compiler, "bundle", lambda ops, packages: (Bundle("b" * 64, b"", {}), [{} for _ in ops]))
    with pytest.raises(CompileError) as caught:
        use()
    for text in texts:
        assert text in str(caught.value)


def test_a_loop_changes_types_so_links_over_it_are_not_judged() -> None:
    looped = Step("looped", PythonOPTemplate(Make), parameters={"n": 1}, with_param=[1])
    step = Step("g", PythonOPTemplate(Gather), parameters={"results": looped.outputs.parameters["n"]})
    assert step.parameters["results"] is looped.outputs.parameters["n"]


def test_an_untyped_input_of_a_scope_learns_the_type_of_its_use() -> None:
    steps = Steps("s", inputs=Inputs(parameters={"v": InputParameter(), "w": InputParameter()}))
    steps.add(Step("g", PythonOPTemplate(Gather), parameters={"results": steps.inputs.parameters["v"]}))
    assert steps.inputs.parameters["v"].type == List[int]
    with pytest.raises(ModelError):
        Step("run", steps, parameters={"v": 3})
    Step("run", steps, parameters={"w": make(parameters={"n": 1}).outputs.parameters["text"]})
    assert steps.inputs.parameters["w"].type is str
    assert Dict is not None
