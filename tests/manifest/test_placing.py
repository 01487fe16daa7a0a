"""Rules that re-place steps: which steps they reach, what becomes of a shared template, and mistakes."""

import copy
import json

import pytest

from dflow_hpc.errors import ConfigError, ManifestError
from dflow_hpc.executors.profiles import placing
from dflow_hpc.executors.profiles.machine import Machines
from dflow_hpc.manifest.placing import Rule, placed, wish_of

HELPER = json.dumps({"bundle": "", "entry": {"kind": "module", "module": "dflow_hpc.op.util_ops", "name": "Init"}})
WISH = {"dflow-hpc/machine": "gpu", "dflow-hpc/resources": '{"cpus": 4, "queue": "big"}'}


def leaf(name, annotations=None):
    metadata = {"metadata": {"annotations": annotations}} if annotations else {}
    return {"name": name, **metadata, "script": {"image": "x", "command": ["sh"], "source": "true"}}


def step(name, template):
    return {"name": name, "template": template}


MANIFEST = {
    "metadata": {"generateName": "x-"},
    "spec": {
        "entrypoint": "main",
        "onExit": "bye",
        "templates": [
            {
                "name": "main",
                "steps": [
                    [step("label-init-artifact", "init-0123456789")],
                    [step("label", "work-aaaaaaaaaa"), step("train", "work-aaaaaaaaaa")],
                    [step("loop", "inner"), {**step("wait", "pause"), "hooks": {"exit": {"template": "bye"}}}],
                ],
            },
            {"name": "inner", "dag": {"tasks": [step("fit", "gpu-bbbbbbbbbb"), step("again", "inner")]}},
            leaf("init-0123456789", {"dflow-hpc/op": HELPER}),
            leaf("work-aaaaaaaaaa"),
            leaf("gpu-bbbbbbbbbb", WISH),
            leaf("bye"),
            {"name": "pause", "suspend": {}},
        ],
    },
}


def where(manifest):
    """Return by step's name: the machine that its leaf has, and how its template is called."""
    templates = {template["name"]: template for template in manifest["spec"]["templates"]}
    found, seen = {}, set()

    def visit(name, step_name):
        template = templates[name]
        groups = [*(template.get("steps") or []), (template.get("dag") or {}).get("tasks", [])]
        members = [member for group in groups for member in group]
        if "script" in template:
            found[step_name] = wish_of(template)[0]
        if name not in seen:
            seen.add(name)
            for member in members:
                visit(member["template"], member["name"])

    visit(manifest["spec"]["entrypoint"], "")
    visit(manifest["spec"]["onExit"], "bye")
    return {name: machine for name, machine in found.items() if machine}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], {"fit": "gpu"}),
        ([("label*", "cpu")], {"label": "cpu", "fit": "gpu"}),
        ([("work", "cpu")], {"label": "cpu", "train": "cpu", "fit": "gpu"}),
        ([("fit", "local")], {}),
        ([("gpu", "-")], {}),
        ([("loop", "cpu")], {"fit": "cpu"}),
        ([("loop", "cpu"), ("fit", "big")], {"fit": "big"}),
        ([("fit", "big"), ("loop", "cpu")], {"fit": "cpu"}),
        ([("*", "cpu"), ("train", "local")], {"label": "cpu", "fit": "cpu", "bye": "cpu"}),
        ([("bye", "cpu")], {"bye": "cpu", "fit": "gpu"}),
    ],
)
def test_the_last_rule_that_matches_counts(rules, expected):
    before = copy.deepcopy(MANIFEST)
    after = placed(MANIFEST, [Rule(*rule) for rule in rules])
    assert where(after) == expected
    assert before == MANIFEST
    names = [template["name"] for template in after["spec"]["templates"]]
    assert len(set(names)) == len(names)


def test_what_belongs_to_the_old_site_is_left_behind_with_the_template_that_nobody_runs_any_more():
    after = placed(MANIFEST, [Rule("fit", "cpu")])
    [template] = [item for item in after["spec"]["templates"] if wish_of(item)[0]]
    assert wish_of(template) == ("cpu", '{"cpus": 4}')
    same = placed(MANIFEST, [Rule("fit", "gpu")])["spec"]["templates"]
    assert [wish_of(item) for item in same if wish_of(item)[0]] == [wish_of(leaf("x", WISH))]


def test_a_required_rule_without_a_step_is_a_mistake_and_names_what_is_near():
    with pytest.raises(ManifestError, match=r"steps named 'trian' .*'cpu'.*again, bye, .* did you mean 'train'\?"):
        placed(MANIFEST, [Rule("trian", "cpu")])
    assert placed(MANIFEST, [Rule("trian", "cpu", required=False)])["spec"]["entrypoint"] == "main"


def test_rules_of_files_and_of_the_setting(tmp_path):
    high, low = tmp_path / "high.toml", tmp_path / "low.toml"
    high.write_text('[machine.cpu]\n[place]\n"train" = "local"\n"none*" = "cpu"\n')
    low.write_text('[machine.big]\n[place]\n"*" = "big"\n')
    machines = Machines([high, low])
    assert where(placing.placed(MANIFEST, machines)) == {"label": "big", "fit": "big", "bye": "big"}
    assert where(placing.placed(MANIFEST, machines, ["*=-", "train=cpu"])) == {"train": "cpu"}
    assert where(placing.placed(MANIFEST, machines, ["fit=own-1"], own=["own-1"]))["fit"] == "own-1"
    with pytest.raises(ConfigError, match=r"machine 'cpuu' was asked for; .*Did you mean 'cpu'\?"):
        placing.placed(MANIFEST, machines, ["train=cpuu"])
    assert where(placing.placed(MANIFEST, machines, ["cpu"])).keys() == {"label", "train", "fit", "bye"}
    for text in ("", "=cpu", "train="):
        with pytest.raises(ConfigError, match="that is written STEP=MACHINE"):
            placing.placed(MANIFEST, machines, [text])
    high.write_text("[place]\ntrain = 1")
    with pytest.raises(ConfigError, match=r'\[place\] holds lines "STEP" = "MACHINE"'):
        Machines([high])
