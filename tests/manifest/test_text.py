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
    document = {"kind": "Workflow", "metadata": {}, "spec": {}, "v": value}
    assert load(dump(document)).workflows == [document]


def test_long_texts_are_blocks_and_keys_keep_their_order():
    text = dump({"kind": "Workflow", "b": "echo a\necho b\n", "a": 1})
    assert text == "kind: Workflow\nb: |\n  echo a\n  echo b\na: 1\n"


def test_merge_keys_and_anchors():
    assert read("\n  a: &x {k: 1, l: 2}\n  b: {<<: *x, k: 3}") == {"a": {"k": 1, "l": 2}, "b": {"k": 3, "l": 2}}


def test_documents_are_sorted_by_kind():
    more = "\n---\nkind: {}\nmetadata: {{name: x}}\n---\n"
    found = load("kind: Workflow" + more.format("ConfigMap") + more.format("WorkflowTemplate"))
    assert [d["kind"] for d in found.workflows + found.resources] == ["Workflow", "ConfigMap", "WorkflowTemplate"]


def test_a_document_has_the_parts_that_its_readers_rely_on():
    [workflow] = load("kind: Workflow\nmetadata: {name: 1, labels: {a: 1}}").workflows
    assert workflow == {"kind": "Workflow", "metadata": {"name": "1", "labels": {"a": 1}}, "spec": {}}
    assert load("kind: Workflow").workflows == [{"kind": "Workflow", "metadata": {}, "spec": {}}]
    [library] = load("kind: WorkflowTemplate\nmetadata: {generateName: x-}\nspec:").resources
    assert library == {"kind": "WorkflowTemplate", "metadata": {"generateName": "x-", "name": ""}, "spec": {}}


def test_a_document_that_names_no_kind_but_what_it_runs_is_a_workflow():
    [workflow] = load("spec: {entrypoint: m}").workflows
    assert workflow["kind"] == "Workflow"
    assert load("spec: {workflowTemplateRef: {name: x}}").workflows


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind: Pod", "of kind 'Pod'; known are Workflow, WorkflowTemplate"),
        ("- a", "of kind None"),
        ("spec: {templates: []}", "of kind None"),
        ("a: [", "not YAML"),
        ("kind: Workflow\nspec: []", "a Workflow whose spec is []; an object with fields is needed"),
        ("kind: Workflow\nmetadata: {name: [x]}", "a Workflow whose metadata.name is ['x']; a text is needed"),
        ("kind: ConfigMap\nmetadata: {}", "a ConfigMap without a name, so nothing can refer to it"),
        ("kind: Workflow\na: 1\na: 2", "line 3: key 'a' already set in map"),
        ("a: !!python/object:os.system {}", "not YAML"),
    ],
)
def test_what_cannot_be_read(text, complaint):
    with pytest.raises(ManifestError) as error:
        load(text)
    assert complaint in str(error.value)
