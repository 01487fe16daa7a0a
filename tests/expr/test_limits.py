"""Hostile and random texts: each ends, with a value or with an ExpressionError and nothing else."""

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import goformat, gojson, golang, goregexp, gotime, gotime_parse, jsonpath
from dflow_hpc.expr.functions import functions
from dflow_hpc.expr.govaluate import evaluate_when
from dflow_hpc.expr.lang import compile, evaluate, evaluate_bool, mentions  # noqa: A004

FUNCTIONS = functions(random.Random(1), lambda: gotime.from_unix(1_700_000_000))

HOSTILE = [
    "(" * 5000,
    "(" * 300 + "1" + ")" * 300,
    "[" * 300,
    "{a:" * 300,
    "!" * 5000 + "true",
    "-" * 5000 + "1",
    "1" + "+1" * 9000,
    "a" + ".b" * 5000,
    "a" + "[0]" * 5000,
    "true ? " * 3000,
    "1" + " ?? 1" * 3000,
    "let x = 1; " * 3000,
    "map(" * 2000,
    "1..1000000000000",
    "map(1..999, map(1..999, map(1..999, 1)))",
    "let a = 1..9999; all(a, all(a, all(a, all(a, true))))",
    "repeat('a', 999999999999)",
    "repeat(repeat('abcdefghij', 90000), 90000)",
    "2 ** 999999999 ** 999",
    "bitshl(1, 99999999999)",
    "'" + "a" * 40 + "!' matches '(a+)+$'",
    "'" + "a" * 200 + "!' matches '(a|a)*(a|a)*(a|a)*b'",
    "'x' matches '" + "(" * 3000 + "'",
    "'x' matches '((((a{1000}){1000}){1000}){1000})'",
    "int('" + "9" * 100000 + "')",
    "fromJSON('" + "[" * 100000 + "')",
    "sprig.until(99999999999)",
    "sprig.seq(1, 1, 99999999999)",
    "sprig.repeat(999999999999, 'a')",
    "sprig.indent(999999999999, 'a')",
    "sprig.randAlpha(999999999999)",
    "jsonpath('{}', '$" + "[(" * 2000 + "')",
    "jsonpath('[1]', '$" + "[?(" * 200 + "')",
    "duration('" + "9" * 100000 + "h')",
    "\x00",
    "\ud800",
    "'\ud800' + '\udc80'",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:30].encode("unicode_escape").decode())
def test_hostile_expressions_end(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        evaluate(text, FUNCTIONS)


@pytest.mark.parametrize(
    "text", ["(" * 5000, "!" * 5000 + "a", "a" + " && a" * 3000, "1" + " + 1" * 5000 + " == 1", "'" * 4999, "\\" * 99]
)
def test_hostile_conditions_end(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        evaluate_when(text)


def test_a_long_chain_that_people_write_works() -> None:
    assert evaluate(" + ".join(["'ab'"] * 100), {}) == "ab" * 100
    assert evaluate_when(" && ".join(["a == a"] * 50)) is True


TOKENS = (
    "1 2.5 'a' true nil a b.c a?.b [ ] { } ( ) , : ; ? ?? . ?. | + - * / % ** == != < > in not and or .. # let x = "
    'len( map( filter( # > 1) sprig.upper( asInt( matches contains \\ " ` @ é // /*'
)


@given(st.lists(st.sampled_from(TOKENS.split()), max_size=10).map(" ".join) | st.text(max_size=15))
def test_any_expression(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        gojson.dumps(evaluate(text, {"a": {"b": "x"}, "b": {"c": 1.0}, **FUNCTIONS}))
    mentions(text, "workflow.status")


WHEN_TOKENS = [
    "a",
    "1",
    "2.5",
    "'a'",
    "true",
    "(",
    ")",
    ",",
    "==",
    "!=",
    "<",
    ">",
    "=~",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "**",
    "in",
    "?",
    ":",
    "??",
    "[x]",
    "a.B",
    "0x",
    "&",
    "|",
    "^",
    "<<",
    "~",
    "\\",
    "{{",
    "é",
]


@given(st.lists(st.sampled_from(WHEN_TOKENS), max_size=9).map(" ".join) | st.text(max_size=15))
def test_any_when(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        assert evaluate_when(text) in (True, False)


@given(st.text(alphabet="$@.[]()'\"*?:,ab01-+<&|! ", max_size=15).map(lambda rest: "$" + rest))
def test_any_path(path: str) -> None:
    with contextlib.suppress(ExpressionError):
        jsonpath.query(path, {"a": [1.0, {"b": "x"}], "b": None})


@given(st.text(alphabet="ab()[]{}*+?|^$\\dwpPxQE.:-,0123<>imsU", max_size=10), st.text(alphabet="ab1\n", max_size=8))
def test_any_pattern(pattern: str, text: str) -> None:
    with contextlib.suppress(ExpressionError):
        goregexp.compile(pattern).replace(text, "$1")


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_for_the_small_readers(text: str, layout: str) -> None:
    for read in (golang.atoi, golang.parse_float, golang.parse_duration, golang.parse_seconds_or_duration):
        with contextlib.suppress(ExpressionError):
            read(text)
    with contextlib.suppress(ExpressionError):
        gojson.loads(text)
    with contextlib.suppress(ExpressionError):
        gotime_parse.parse(layout, text)
    assert isinstance(goformat.sprintf(text, 5), str)
    assert isinstance(gotime.from_unix(0).format(layout), str)


@given(st.text(alphabet="a|b(c)*+?", max_size=8), st.text(alphabet="abc", max_size=12))
def test_both_engines_of_patterns_agree(pattern: str, text: str) -> None:
    from dflow_hpc.expr import goregexp_linear

    try:
        regexp = goregexp.compile(pattern)
    except ExpressionError:
        return
    fast, linear = regexp.search(text), goregexp_linear.search(regexp, text, 0)
    spans = [None if match is None else (match.start(), match.end()) for match in (fast, linear)]
    assert spans[0] == spans[1]


def test_a_program_is_checked_for_each_kind_of_environment() -> None:
    program = compile("x + 1")
    assert program.run({"x": 2}) == 3
    with pytest.raises(ExpressionError, match=r"mismatched types string and int"):
        program.run({"x": "2"})
    with pytest.raises(ExpressionError, match="unknown name x"):
        program.run({})
    assert program.names == {"x"}


def test_a_condition_must_be_a_truth() -> None:
    assert evaluate_bool("1 < 2", {}) is True
    with pytest.raises(ExpressionError, match="unable to cast expression result '1' to bool"):
        evaluate_bool("1", {})


def test_random_values_and_the_time_come_from_outside() -> None:
    text = "sprig.randAlphaNum(8) + sprig.uuidv4() + sprig.shuffle('abcdef') + string(sprig.randInt(0, 99))"
    text += " + string(now())"
    drawn = [
        evaluate(text, functions(random.Random(seed), lambda: gotime.from_unix(1_700_000_000))) for seed in (7, 7, 8)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0].endswith("2023-11-14 22:13:20 +0000 UTC")
    for asks in ("now()", "sprig.now()", "sprig.randAlpha(1)", "sprig.uuidv4()", "sprig.ago(1)"):
        with pytest.raises(ExpressionError, match=r"pass `(now|rng)` to"):
            evaluate(asks, functions())


def test_functions_that_this_engine_does_not_have_say_so() -> None:
    with pytest.raises(ExpressionError, match=r"sprig\.genCA was called; this engine does not have it"):
        evaluate("sprig.genCA('x', 1)", FUNCTIONS)


def test_names_of_the_creation_timestamp() -> None:
    found = gotime.timestamp_variables(gotime_parse.parse(gotime.RFC3339, "2023-08-04T05:06:07Z"))
    assert found["workflow.creationTimestamp"] == found["workflow.creationTimestamp.RFC3339"] == "2023-08-04T05:06:07Z"
    assert found["workflow.creationTimestamp.s"] == "1691125567"
    assert found["workflow.creationTimestamp.B"] == "August"
    assert len(found) == 19
