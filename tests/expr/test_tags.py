"""Template tags: what the table of Argo's answers does not show, that parts are shared, and that any object is safe."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr.tags import TagTemplate, json_text, nest, substitute

SCOPE = {"a": "A", "inputs.parameters.x": 'x"\n', "braces": "{{a}}", "control": "\x1b[1m"}


def test_an_object_without_tags_comes_back_itself() -> None:
    given_object = {"a": ["{ {", "}}", 1, None, {"b": True}]}
    assert TagTemplate.parse(given_object).render(SCOPE) is given_object


def test_what_no_tag_touches_is_shared() -> None:
    untouched = {"c": [1, 2]}
    source = {"changed": ["{{a}}"], "untouched": untouched, "unknown": "{{nope}}"}
    made = TagTemplate.parse(source).render(SCOPE)
    assert made == {"changed": ["A"], "untouched": {"c": [1, 2]}, "unknown": "{{nope}}"}
    assert made["untouched"] is untouched
    assert source["changed"] == ["{{a}}"]


def test_an_object_whose_tags_are_all_unknown_comes_back_itself() -> None:
    source = {"x": ["{{nope}}", "{{=nope}}"], "{{nope}}": 1}
    assert TagTemplate.parse(source).render(SCOPE) is source


def test_names_and_expressions() -> None:
    template = TagTemplate.parse(["{{ a }} {{x{{b}}.y}}", {"{{c}}": "{{=d + 'e'}}"}])
    assert template.names == {"a", "x{{b", "b", "c"}
    assert template.expressions == ("d + 'e'",)


def test_a_template_is_rendered_many_times() -> None:
    template = TagTemplate.parse({"x": "{{a}}-{{=a}}"})
    assert [template.render({"a": text})["x"] for text in ("1", "2", 'q"')] == ["1-1", "2-2", 'q"-q"']


def test_a_value_with_braces_waits_for_the_next_pass() -> None:
    once = substitute("{{braces}}", SCOPE)
    assert once == "{{a}}"
    assert substitute(once, SCOPE) == "A"


def test_a_tag_that_never_ends() -> None:
    with pytest.raises(ExpressionError, match=r'Cannot find end tag="}}" in the template='):
        TagTemplate.parse(["{{a"])


def test_an_unclosed_tag_is_closed_by_the_object_around_it() -> None:
    # Argo looks in the JSON text, where the braces of the objects close the tag.
    source = {"x": {"y": "{{a"}}
    assert TagTemplate.parse(source).render(SCOPE) == source
    with pytest.raises(ExpressionError, match=r'failed to resolve {{a"}}'):
        substitute(source, SCOPE, strict=True)


def test_control_characters_do_not_pass() -> None:
    with pytest.raises(ExpressionError, match="cannot finish template replacement because the result was invalid JSON"):
        substitute({"x": "{{control}}"}, SCOPE)


def test_the_error_of_a_tag_comes_before_that_of_a_value() -> None:
    with pytest.raises(ExpressionError, match=r"failed to resolve {{nope}}"):
        substitute(["{{control}}", "{{nope}}"], SCOPE, strict=True)


def test_the_environment_is_asked_once_and_only_for_expressions() -> None:
    asked = []

    def environment() -> dict[str, str]:
        asked.append(1)
        return {"y": "Y"}

    template = TagTemplate.parse(["{{a}}", "{{=y}}", "{{=y + y}}"])
    assert template.render(SCOPE, environment=environment) == ["A", "Y", "YY"]
    assert asked == [1]
    assert TagTemplate.parse("{{a}}").render(SCOPE, environment=environment) == "A"
    assert asked == [1]


def test_expressions_see_nested_maps() -> None:
    flat = {"a.b": "1", "a": "gives way", "a.c.d": "2", "e": "3"}
    assert nest(flat) == {"a": {"b": "1", "c": {"d": "2"}}, "e": "3"}
    assert nest(dict(reversed(flat.items()))) == nest(flat)


TEXTS = st.text(alphabet=st.sampled_from('{}=ab. "\\\n<é😀\x1b\x7f()+1'), max_size=12)
OBJECTS = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(OBJECTS, st.dictionaries(st.sampled_from(["a", "b", "a.b", "item"]), TEXTS), st.booleans())
def test_any_object_is_rendered_or_refused(source: object, scope: dict[str, str], strict: bool) -> None:
    before = json.dumps(source)
    try:
        made = substitute(source, scope, strict=strict)
    except ExpressionError:
        made = None
    assert json.dumps(source) == before  # never changed in place
    json.dumps(made)


@given(OBJECTS)
def test_its_json_text_is_that_of_the_object(source: object) -> None:
    assert json.loads(json_text(source)) == source


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_value_stands_where_its_tag_stood(before: str, value: str) -> None:
    before = before.replace("{", "(").replace("}", ")")
    try:
        assert substitute({"x": before + "{{a}}"}, {"a": value}) == {"x": before + value}
    except ExpressionError as error:
        # Only what strconv.Quote writes in a way that JSON does not know.
        assert "invalid JSON" in str(error)
        assert not value.isprintable()
