"""Everything that Argo's own Go packages said about the inputs in ``data/``, compared with what we say.

``oracle/main.go`` made the tables; its head says how to run it again. Where a result differs on purpose, the case is
named in ``DIFFERENT`` with the reason.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import goformat, gojson, golang, goregexp, gotime, gotime_parse
from dflow_hpc.expr.functions import functions
from dflow_hpc.expr.govaluate import evaluate_when
from dflow_hpc.expr.lang import evaluate
from dflow_hpc.expr.lang.program import CLOCK
from dflow_hpc.expr.tags import nest, substitute

DATA = Path(__file__).parent / "data"


def now() -> gotime.Time:
    return gotime.from_unix(1_700_000_000)


FUNCTIONS = functions(random.Random(1), now)

DIFFERENT = {
    ("when", "\\"): "one backslash stops Argo's controller with an index out of range; here it is an error",
}


def described(value: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": golang.type_name(value)}
    try:
        made["json"] = gojson.dumps(value)
    except ExpressionError as error:
        made |= {"print": golang.format_value(value), "no_json": str(error)}
    return made


def lang(case: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    return described(evaluate(case["text"], {**environment, CLOCK: now}))


def with_functions(case: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    return described(evaluate(case["text"], {**nest(environment), **FUNCTIONS}))


def when(case: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    return {"result": evaluate_when(case["text"])}


def tags(case: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    scope = case.get("scope", environment)
    result = substitute(json.loads(case["text"]), scope, strict=case["strict"], functions=FUNCTIONS)
    return {"result": result}


def regexp(case: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    compiled, text = goregexp.compile(case["pattern"]), case["text"]
    made = {
        "match": compiled.search(text) is not None,
        "all": compiled.findall(text, -1),
        "split": compiled.split(text, -1),
    }
    if "replacement" in case:
        made["replaced"] = compiled.replace(text, case["replacement"])
    return made


def single(case: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    text = case["text"]
    match case["what"]:
        case "quote":
            return {"result": golang.quote(text)}
        case "atoi":
            return {"result": golang.atoi(text)}
        case "parse_float":
            return {"result": golang.format_value(golang.parse_float(text))}
        case "parse_duration":
            duration = golang.parse_duration(text)
            return {"result": int(duration), "text": text, "printed": golang.duration_text(duration)}
        case "humanize":
            return {"result": golang.humanize_duration(golang.parse_duration(text))}
        case "json_error":
            gojson.loads(text)
            return {"result": "valid"}
        case "print_json":
            value = gojson.loads(text)
            return {"printed": golang.format_value(value), "json": gojson.dumps(value)}
        case "time_parse":
            return {"result": gotime_parse.parse(case["layout"], text).format(gotime.RFC3339_NANO)}
        case "time_format":
            return {"result": gotime_parse.parse(gotime.RFC3339_NANO, text).format(case["layout"])}
        case "strftime":
            return {"result": gotime.strftime(case["layout"], gotime_parse.parse(gotime.RFC3339_NANO, text))}
        case "sprintf":
            value = case["value"] if case.get("integer") or isinstance(case["value"], str) else float(case["value"])
            return {"result": goformat.sprintf(text, value)}
    raise AssertionError(case["what"])


KINDS = {"lang": lang, "functions": with_functions, "when": when, "tags": tags, "regexp": regexp, "go": single}


def difference(kind: str, case: dict[str, Any], environment: dict[str, Any]) -> str:
    """Return how we differ from Go, empty if we do not."""
    wanted = case["gives"]
    try:
        found = KINDS[kind](case, environment)
    except ExpressionError as error:
        found = {"error": str(error)}
    if kind == "tags" and "result" in wanted:
        wanted = {"result": json.loads(wanted["result"])}
    if found == wanted:
        return ""
    asked = {key: value for key, value in case.items() if key != "gives"}
    return f"{asked}\n    Go: {wanted}\n    we: {found}"


@pytest.mark.parametrize("file", sorted(DATA.glob("*.json")), ids=lambda file: file.stem)
def test_table(file: Path) -> None:
    table = json.loads(file.read_text(encoding="utf-8"))
    environment = gojson.loads(json.dumps(table["environment"])) or {}  # its numbers are floats, as in Go
    cases = [case for case in table["cases"] if (table["kind"], case["text"]) not in DIFFERENT]
    assert cases
    found = [difference(table["kind"], case, environment) for case in cases]
    wrong = [text for text in found if text]
    assert not wrong, f"{len(wrong)} of {len(cases)} differ:\n" + "\n".join(wrong[:200])
