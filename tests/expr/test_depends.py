"""What a task of a DAG waits for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr.depends import Depends, invalid_results, parse_dependencies, parse_depends, task_results

OK, FAILED, ERROR, SKIPPED, OMITTED = map(task_results, ("Succeeded", "Failed", "Error", "Skipped", "Omitted"))


def test_a_bare_name_is_expanded() -> None:
    depends = parse_depends("A && (B-1.Failed || C)")
    assert depends.tasks == ("A", "B-1", "C")
    assert depends.text == (
        "(A.Succeeded || A.Skipped || A.Daemoned) && (B-1.Failed || (C.Succeeded || C.Skipped || C.Daemoned))"
    )


def test_continue_on_widens_a_bare_name() -> None:
    depends = parse_depends("A", lambda name: (True, name == "A"))
    assert depends.text == "(A.Succeeded || A.Skipped || A.Daemoned || A.Errored || A.Failed)"


@pytest.mark.parametrize(
    ("text", "results", "runs"),
    [
        ("A", {"A": OK}, True),
        ("A", {"A": SKIPPED}, True),
        ("A", {"A": OMITTED}, False),
        ("A", {"A": FAILED}, False),
        ("A", {"A": ERROR}, False),
        ("A", {"A": task_results("Running", daemoned=True)}, True),
        ("A", {"A": task_results("Pending", daemoned=True)}, False),
        ("A.Failed", {"A": FAILED}, True),
        ("A.Errored", {"A": ERROR}, True),
        ("!A", {"A": FAILED}, True),
        ("!A.Succeeded && B", {"A": FAILED, "B": OK}, True),
        ("A || B", {"A": FAILED, "B": OK}, True),
        ("A && B || C", {"A": FAILED, "B": OK, "C": OK}, True),
        ("a-b.Succeeded && c--d", {"a-b": OK, "c--d": OK}, True),
        ("A.AnySucceeded", {"A": task_results("Failed", children=["Failed", "Succeeded"])}, True),
        ("A.AllFailed", {"A": task_results("Failed", children=["Failed", "Failed"])}, True),
        ("A.AllFailed", {"A": task_results("Failed", children=["Failed", "Error"])}, False),
        ("A.AllFailed", {"A": task_results("Succeeded", children=[])}, False),
    ],
)
def test_evaluate(text: str, results: dict[str, dict[str, bool]], runs: bool) -> None:
    assert parse_depends(text).evaluate(results) is runs


def test_dependencies_are_bare_names_all_of_them() -> None:
    depends = parse_dependencies(["A", "B", "A"], lambda name: (False, name == "B"))
    assert depends == Depends(
        "(A.Succeeded || A.Skipped || A.Daemoned) && (B.Succeeded || B.Skipped || B.Daemoned || B.Failed)",
        ("A", "B"),
        frozenset(),
    )
    assert depends.evaluate({"A": OK, "B": FAILED})
    assert parse_dependencies([]).evaluate({})


def test_loops_are_told_apart() -> None:
    assert parse_depends("A.AnySucceeded && A.Failed && B").of_items == {"A"}


def test_results_that_do_not_exist() -> None:
    assert invalid_results("A.Success && B.Failed || c-d.Xy") == [("A", "Success"), ("c-d", "Xy")]
    with pytest.raises(ExpressionError, match=r"unable to evaluate expression 'A\.Success': .* has no field Success"):
        parse_depends("A.Success").evaluate({"A": OK})


def test_what_is_no_condition() -> None:
    with pytest.raises(ExpressionError, match=r"unable to evaluate expression 'A\.Succeeded &&': unexpected token EOF"):
        parse_depends("A.Succeeded &&").evaluate({"A": OK})


@given(st.text(alphabet="AB-.Fail()!&| x9", max_size=20))
def test_any_text_gives_a_truth_or_an_error(text: str) -> None:
    depends = parse_depends(text)
    try:
        assert depends.evaluate(dict.fromkeys(depends.tasks, OK)) in (True, False)
    except ExpressionError as error:
        assert str(error).startswith("unable to evaluate expression")
