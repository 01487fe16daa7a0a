import pytest

from dflow_hpc.errors import ManifestError
from dflow_hpc.manifest.text import dump, load


def read(text):
    return load("kind: Workflow\nv: " + text).workflows[0]["v"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0), ("1:30", "1:30"), ("0755", 493), ("0o17", 15), ("0x1F", 31), ("0b11", 3), ("1_000", 1000),
        ("-3", -3), ("+4", 4), ("08", 8.0), ("1.", 1.0), (".5", 0.5), ("yes", True), ("y", True), ("Off", False),
        ("n", False), ("2001-01-02", "2001-01-02"), ("~", None), ("", None), ("Null", None), ("0x", "0x"),
        ("'1'", "1"), ("1.2.3", "1.2.3"), ("[a, {b: 1}]", ["a", {"b": 1}]),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
    ],
)  # fmt: skip
def test_scalars_are_read_as_go_reads_them(text, value):
    assert read(text) == value
    assert type(read(text)) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        "1e3", "y", "no", "1:30", "2001-01-02", "08", "", "null", "~", "1.5", "a: b", "# c", "x\ny\n", "x\n\n  y ",
        "\tx",
        "#!/bin/sh\necho \\tx  \n  foo", "  lead\nx", "é\u2028\x07", "{{=a}}", 1000.0, 1.5, True, None, [], {},
        ["a", {"1": "b"}],
    ],
)  # fmt: skip
def test_what_is_written_is_read_back(value):
    document = {"kind": "Workflow", "v": value}
    assert load(dump(document)).workflows == [document]


def test_long_texts_are_blocks_and_keys_keep_their_order():
    text = dump({"kind": "Workflow", "b": "echo a\necho b\n", "a": 1})
    assert text == "kind: Workflow\nb: |\n  echo a\n  echo b\na: 1\n"


def test_merge_keys_and_anchors():
    assert read("\n  a: &x {k: 1, l: 2}\n  b: {<<: *x, k: 3}") == {"a": {"k": 1, "l": 2}, "b": {"k": 3, "l": 2}}


def test_documents_are_sorted_by_kind():
    found = load("kind: Workflow\n---\nkind: ConfigMap\n---\n---\nkind: WorkflowTemplate\n")
    assert [d["kind"] for d in found.workflows + found.resources] == ["Workflow", "ConfigMap", "WorkflowTemplate"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind: Pod", "of kind 'Pod'; known are Workflow, WorkflowTemplate"),
        ("- a", "of kind None"),
        ("a: [", "not YAML"),
        ("kind: Workflow\na: 1\na: 2", "line 3: key 'a' already set in map"),
        ("a: !!python/object:os.system {}", "not YAML"),
    ],
)
def test_what_cannot_be_read(text, complaint):
    with pytest.raises(ManifestError) as error:
        load(text)
    assert complaint in str(error.value)
