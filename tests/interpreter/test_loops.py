import pytest

from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.engines.local.interpret.loops import expand
from dflow_hpc.engines.local.interpret.names import Known
from tests.interpreter.conftest import dag, leaf, step, steps


def members(**fields):
    found = expand(
        {"name": "x", "arguments": {"parameters": [{"name": "p", "value": "{{item}}"}]}, **fields}, Known({})
    )
    return [(member["name"], member["arguments"]["parameters"][0]["value"]) for member in found]


def test_items_in_names_and_values():
    items = ["a b", 1.50, True, {"num": 1, "even": "odd"}, [1, "a", {"x": 2}], "p(q)", 'q"q']
    assert members(withItems=items) == [
        ("x(0:a b)", "a b"),
        ("x(1:1.5)", "1.5"),
        ("x(2:true)", "true"),
        ("x(3:even:odd,num:1)", '{"even":"odd","num":1}'),
        ('x(4:[1 a {"x":2}])', '[1,"a",{"x":2}]'),
        ("x(5:pq)", "p(q)"),
        ('x(6:q\\"q)', 'q\\"q'),
    ]


def test_what_a_loop_gives_is_written_as_go_writes_it(run):
    give = leaf(
        "give",
        'set j={"b": 1e2, "a": "<é>"}\nprint {"b": 1.50, "a" : [ "<", 2 ]}',
        outputs={"parameters": [{"name": "j", "valueFrom": {"path": "/j"}}]},
    )
    take = leaf("take", inputs={"parameters": [{"name": "x"}]})
    loop = step("a", "give", withSequence={"count": "1"})
    value = "{{steps.a.outputs.result}} {{steps.a.outputs.parameters.j}}"
    done = run(steps("main", loop, step("b", "take", parameters={"x": value})), give, take)
    assert done.host.requests[-1].inputs["parameters"][0]["value"] == (
        '[{"b":1.50,"a":["\\u003c",2]}] [{"a":"\\u003cé\\u003e","b":100}]'
    )


def test_numbers_of_a_list_stay_as_they_were_written():
    assert members(withParam="[1.50, 1e3, null]") == [("x(0:1.50)", "1.50"), ("x(1:1e3)", "1e3"), ("x(2:[])", "null")]


@pytest.mark.parametrize(
    ("sequence", "items"),
    [
        ({"count": "3"}, ["0", "1", "2"]),
        ({"count": 0}, []),
        ({"start": "5", "end": "3"}, ["5", "4", "3"]),
        ({"start": 1, "count": "2", "format": "u%02X"}, ["u01", "u02"]),
    ],
)
def test_sequences(sequence, items):
    assert [value for _, value in members(withSequence=sequence)] == items


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "unexpected end of JSON input"),
        ("[hello]", "invalid character 'h' looking for beginning of value"),
        ('{"a":1}', "json: cannot unmarshal object into Go value of type []v1alpha1.Item"),
    ],
)
def test_a_list_that_is_none(text, complaint):
    with pytest.raises(TemplateError) as error:
        members(withParam=f" {text} ")
    assert str(error.value) == f"withParam value could not be parsed as a JSON list: {text}: {complaint}"
    assert members(withParam=text, when="1 == 2") == []


def test_what_is_not_resolved_in_a_member_is_an_error():
    with pytest.raises(TemplateError, match=r"failed to resolve \{\{item.b\}\}"):
        members(withItems=[{"a": 1}], when="{{item.b}} == 1")


def test_members_are_skipped_one_by_one(run):
    done = run(steps("main", step("a", "l", withItems=[1, 2, 3], when="{{item}} != 2")), leaf("l"))
    assert done.phases()["[0].a(1:2)"] == "Skipped"
    assert done.node("[0].a(1:2)")["message"] == "when '2 != 2' evaluated false"
    assert done.children("[0]") == ["[0].a(0:1)", "[0].a(1:2)", "[0].a(2:3)"]


def test_what_a_loop_gives_as_a_whole(run):
    give = leaf(
        "give",
        'set n={{inputs.parameters.x}}\nset j={"v": 1.50}\nprint {{inputs.parameters.x}}',
        inputs={"parameters": [{"name": "x"}]},
        outputs={"parameters": [{"name": n, "valueFrom": {"path": f"/{n}"}} for n in "nj"]},
    )
    names = ("result", "parameters.n", "parameters.j", "parameters")
    take = leaf("take", inputs={"parameters": [{"name": n.replace(".", "-")} for n in names]})
    for kind, root in ((steps, "steps"), (dag, "tasks")):
        loop = step("a", "give", withItems=[10, 2, 3], when="{{item}} != 2", parameters={"x": "{{item}}"})
        values = {n.replace(".", "-"): f"{{{{{root}.a.outputs.{n}}}}}" for n in names}
        last = step("b", "take", parameters=values, **({"depends": "a"} if root == "tasks" else {}))
        done = run(kind("main", loop, last), give, take)
        assert [p["value"] for p in done.host.requests[-1].inputs["parameters"]] == [
            "[10,3]",
            '["10","3"]',
            '[{"v":1.5},{"v":1.5}]',
            '[{"j":"{\\"v\\": 1.50}","n":"10"},{"j":"{\\"v\\": 1.50}","n":"3"}]',
        ]


def test_a_result_that_is_not_json_is_an_error_for_who_comes_after(run):
    give, take = leaf("give", "print hello"), leaf("take", inputs={"parameters": [{"name": "r"}]})
    complaint = "invalid character 'h' looking for beginning of value"
    last = step("b", "take", parameters={"r": "{{steps.a.outputs.result}}"})
    done = run(steps("main", step("a", "give", withItems=[1]), last), give, take)
    assert (done.phase, done.message) == ("Error", f"error in entry template execution: {complaint}")
    last = step("b", "take", parameters={"r": "{{tasks.a.outputs.result}}"}, depends="a")
    done = run(dag("main", step("a", "give", withItems=[1]), last), give, take)
    assert (done.phases()[".b"], done.node(".b")["message"]) == ("Error", complaint)
