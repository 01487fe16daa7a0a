"""Functions as OPs: what their annotations say, and what a call of them does here and in a workflow."""

# ruff: noqa: F821  (the texts in annotations are names of outputs, not of types)

import logging
import sys
import types
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple, TypedDict

import pytest

from dflow_hpc import OP, OPIO, Artifact, BigParameter, Parameter, hooks
from dflow_hpc.errors import SignError
from dflow_hpc.op.function import describe
from dflow_hpc.op.op import signs_of


class Pair(NamedTuple):
    a: int
    f: Artifact(Path)


class Table(TypedDict):
    a: int
    b: "List[str]"


@OP.function
def by_name(
    x: int, y: Parameter(float, default=2.0), z=3, f: Artifact(Path) = None
) -> {"s": float, "f": Artifact(Path)}:
    """Adds."""
    return {"s": x + y + z, "f": f or Path("f")}


@OP.function(image="python:3.8", retry_on_transient_error=2)
def by_text(x: "int", f: "Artifact(List[Path])", z: "Dict[str, int]" = {}) -> "{'s': int, 'f': Artifact(List[Path])}":  # noqa: B006
    return {"s": x, "f": f}


@OP.function
def a_tuple(x: int) -> Tuple[int, Artifact(Path)]:
    return x, Path("a")


@OP.function
def a_pair(x: int) -> Pair:
    return Pair(x, Path("a"))


@OP.function
def a_table(x: int) -> Table:
    return {"a": x, "b": []}


@OP.function
def one(x: int) -> "BigParameter(int)":
    return x + 1


@OP.function
def nothing(x: int) -> None:
    pass


def test_inputs():
    signs = signs_of(type(by_name))
    assert dict(signs.inputs) == {
        "x": int,
        "y": Parameter(float, default=2.0),
        "z": Parameter(Any, default=3),
        "f": Artifact(Path, optional=True),
    }
    assert dict(signs.outputs) == {"s": float, "f": Artifact(Path)}


def test_annotations_that_are_texts():
    signs = signs_of(type(by_text))
    assert dict(signs.inputs) == {"x": int, "f": Artifact(List[Path]), "z": Parameter(Dict[str, int], default={})}
    assert dict(signs.outputs) == {"s": int, "f": Artifact(List[Path])}
    assert by_text.template_kwargs == {"image": "python:3.8", "retry_on_transient_error": 2}


def test_future_annotations():
    module = types.ModuleType("author_of_future_annotations")
    sys.modules[module.__name__] = module
    scope = vars(module)
    program = (
        "from __future__ import annotations\n"
        "from pathlib import Path\nfrom typing import NamedTuple, Optional, Tuple\n"
        "from dflow_hpc import OP, Artifact\n"
        "class Out(NamedTuple):\n    a: Optional[int]\n    f: Artifact(Path)\n"
        "@OP.function\ndef pair(x: Optional[int], f: Artifact(Path) = None) -> Out:\n    return Out(x, f)\n"
        "@OP.function\ndef table(x: int) -> {'a': Tuple[int, str], 'f': Artifact(Path)}:\n    return {}\n"
    )
    exec(compile(program, "author", "exec"), scope)
    del sys.modules[module.__name__]
    pair, table = (signs_of(type(scope[name])) for name in ("pair", "table"))
    assert pair.inputs["f"] == Artifact(Path, optional=True)
    assert dict(pair.outputs) == {"a": scope["Optional"][int], "f": Artifact(Path)}
    assert dict(table.outputs) == {"a": Tuple[int, str], "f": Artifact(Path)}


def test_a_call_gives_what_the_function_gives():
    assert by_name(1, z=4) == {"s": 7.0, "f": Path("f")}
    assert a_tuple(1) == (1, Path("a"))
    assert a_pair(x=1) == Pair(1, Path("a"))
    assert isinstance(a_pair(1), Pair)
    assert a_table(1) == {"a": 1, "b": []}
    assert one(1) == 2
    assert nothing(1) is None


def test_outputs_by_name():
    assert one.execute(OPIO({"x": 1})) == {"dflow_output": 2}
    assert a_tuple.execute(OPIO({"x": 1})) == {"dflow_output_0": 1, "dflow_output_1": Path("a")}
    assert a_pair.execute(OPIO({"x": 1})) == {"a": 1, "f": Path("a")}
    assert dict(signs_of(type(one)).outputs) == {"dflow_output": BigParameter(int)}


def test_calls_are_checked():
    with pytest.raises(SignError, match=r"input 'x' of one: expected int"):
        one("a")
    with pytest.raises(SignError, match=r"one was called with \['y'\]; its inputs are x"):
        one(1, y=2)
    with pytest.raises(SignError, match=r"called with \['x'\] twice"):
        one(1, x=2)
    with pytest.raises(SignError, match=r"called with 2 values by position"):
        one(1, 2)
    with pytest.raises(SignError, match="is missing"):
        one()


def test_names():
    assert (by_name.__name__, by_name.__module__, by_name.__doc__) == ("by_name", __name__, "Adds.")
    assert isinstance(by_name, OP)
    assert by_name.func(1, 2.0) == {"s": 6.0, "f": Path("f")}


def test_use_makes_a_copy():
    used = by_name.use(key="a").use(when="b")
    assert used.task_kwargs == {"key": "a", "when": "b"}
    assert by_name.task_kwargs == {}


def test_a_call_in_a_workflow_gives_references_in_the_form_of_the_function(monkeypatch):
    seen = []

    def call_op(op, args, kwargs):
        seen.append((op, args, kwargs))
        return {name: f"ref {name}" for name in op.get_output_sign()}

    monkeypatch.setitem(hooks._registered, "call_op", call_op)
    assert a_tuple(1) == ("ref dflow_output_0", "ref dflow_output_1")
    assert a_pair("{{x}}") == Pair("ref a", "ref f")
    assert one(x=2) == "ref dflow_output"
    assert by_name(1) == {"s": "ref s", "f": "ref f"}
    assert [call[1:] for call in seen] == [((1,), {}), (("{{x}}",), {}), ((), {"x": 2}), ((1,), {})]


def test_superfunction_reaches_the_model(monkeypatch):
    monkeypatch.setitem(hooks._registered, "superfunction", lambda func, options: (func.__name__, options))

    def body():
        pass

    assert OP.superfunction(body) == ("body", {})
    assert OP.superfunction(parallelism=2)(body) == ("body", {"parallelism": 2})


def star(*args: int) -> int: ...
def unknown(x: "Nowhere") -> int: ...
def default_artifact(x: Artifact(Path) = "a") -> int: ...
def no_type(x: 3) -> int: ...


@pytest.mark.parametrize(
    ("func", "message"),
    [
        (star, r"the function star takes \*args: int; the inputs of an OP have names"),
        (unknown, r"annotation 'Nowhere' of 'x' in the function unknown cannot be read: .*Nowhere"),
        (default_artifact, r"artifact 'x' of the function default_artifact has the default 'a'"),
    ],
)
def test_functions_that_cannot_be_ops(func, message):
    with pytest.raises(SignError, match=message):
        OP.function(func)


def test_what_is_no_function():
    with pytest.raises(SignError, match="expected a plain function"):
        OP.function(int)
    with pytest.raises(SignError, match="input 'x' of no_type is declared as 3"):
        signs_of(type(OP.function(no_type)))


def test_no_return_annotation_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        assert not describe(lambda x: x).outputs
    assert "no return annotation" in caplog.text


def test_a_result_of_another_form():
    @OP.function
    def wrong(x: int) -> Tuple[int, int]:
        return x

    with pytest.raises(SignError, match="wrong returned 1; its return annotation has 2 elements"):
        wrong(1)
