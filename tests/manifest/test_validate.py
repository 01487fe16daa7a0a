import copy

import pytest

from dflow_hpc.manifest.refuse import refused
from dflow_hpc.manifest.schema import Malformed, normalise
from dflow_hpc.manifest.validate import problem_of

MANY = "{{item.k}} {{steps.a.outputs.result}} {{workflow.labels.l}} {{other}}"
OWN = "{{inputs.parameters.p}} {{pod.name}} {{inputs.artifacts.f.path}}"
GOOD = {
    "kind": "Workflow",
    "metadata": {"name": "w", "labels": {"l": "1"}},
    "spec": {
        "entrypoint": "main",
        "arguments": {"parameters": [{"name": "x", "value": "1"}]},
        "templates": [
            {
                "name": "main",
                "steps": [
                    [
                        {
                            "name": "a",
                            "template": "l",
                            "arguments": {"parameters": [{"name": "p", "value": "{{workflow.parameters.x}}"}]},
                        }
                    ],
                    [
                        {
                            "name": "b",
                            "template": "l",
                            "withItems": [{"k": 1}],
                            "arguments": {"parameters": [{"name": "p", "value": MANY}]},
                        }
                    ],
                ],
                "outputs": {
                    "parameters": [{"name": "o", "valueFrom": {"parameter": "{{steps.a.outputs.parameters.o}}"}}]
                },
            },
            {
                "name": "d",
                "inputs": {"parameters": [{"name": "p"}]},
                "dag": {
                    "tasks": [
                        {
                            "name": "t",
                            "template": "l",
                            "arguments": {"parameters": [{"name": "p", "value": "{{inputs.parameters.p}}"}]},
                        },
                        {
                            "name": "u",
                            "template": "l",
                            "depends": "t.Succeeded",
                            "when": "{{tasks.t.status}} != x",
                            "arguments": {"parameters": [{"name": "p", "value": "{{tasks.t.outputs.parameters.o}}"}]},
                        },
                    ]
                },
            },
            {
                "name": "l",
                "inputs": {"parameters": [{"name": "p"}], "artifacts": [{"name": "f", "path": "/f", "optional": True}]},
                "script": {"image": "i", "command": ["sh"], "source": OWN},
                "outputs": {"parameters": [{"name": "o", "valueFrom": {"path": "/o"}}]},
            },
        ],
    },
}


def changed(path, value):
    """Return GOOD with a value at a dotted path; None removes what is there."""
    made = copy.deepcopy(GOOD)
    *place, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    here = made
    for part in place:
        here = here[part]
    if value is None:
        del here[last]
    else:
        here[last] = value
    return made


STEP, TASK = "spec.templates.0.steps.0.0", "spec.templates.1.dag.tasks.1"


def test_a_good_manifest():
    assert problem_of(GOOD) == ""


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("metadata.name", "w" * 64,
         f'workflow name "{"w" * 64}" must not be more than 63 characters long (currently 64)'),
        ("spec.parallelism", "2", 'spec.parallelism must be an integer; it is "2"'),
        ("spec.templates.0.parallelism", True,
         "templates.main.parallelism must be an integer; it is true"),
        ("spec.entrypoint", None, "spec.entrypoint is required"),
        ("spec.entrypoint", "nope", "template name 'nope' undefined"),
        ("spec.onExit", "nope", "template name 'nope' undefined"),
        ("spec.templates.2.name", "d", "spec.templates[2].name 'd' is not unique"),
        ("spec.templates.2.name", "", "spec.templates[2].name is required"),
        ("spec.templates.2.script", None,
         "templates.main.steps[0].a template 'l' type is unknown"),
        ("spec.templates.1.suspend", {},
         "templates.d templates.d multiple template types specified. choose one of: container, containerSet, "
         "steps, script, resource, dag, suspend, template, template ref"),
        ("spec.templates.2.script.image", None, "templates.main.steps[0].a templates.l.script.image may not be empty"),
        ("spec.templates.2.script.source", "{{inputs.parameters.q}}",
         "templates.main.steps[0].a templates.l: failed to resolve {{inputs.parameters.q}}"),
        ("spec.templates.2.parallelism", 1,
         "templates.main.steps[0].a templates.l.parallelism is only valid for steps and dag templates"),
        ("spec.templates.2.timeout", "10", "templates.main.steps[0].a l has invalid duration format in timeout."),
        ("spec.templates.0.timeout", "10s", "Steps template doesn't support timeout field."),
        ("spec.templates.0.activeDeadlineSeconds", "10",
         "templates.main.activeDeadlineSeconds is only valid for leaf templates"),
        ("spec.templates.2.retryStrategy", {"retryPolicy": "Sometimes"},
         "templates.main.steps[0].a Sometimes is not a valid RetryPolicy"),
        ("spec.templates.2.outputs.parameters.0.valueFrom", {},
         "templates.main.steps[0].a valueFrom type unspecified. choose one of: path, jqFilter, jsonPath, parameter, "
         "raw, expression"),
        ("spec.templates.2.inputs.artifacts.0.path", None,
         "templates.main.steps[0].a error in templates.l.inputs.artifacts.f: Artifact has no path"),
        ("spec.arguments.parameters.0.value", None, "spec.arguments.x.value or spec.arguments.x.valueFrom is required"),
        ("spec.arguments.parameters.0.enum", ["2"],
         "spec.arguments.x.value should be present in spec.arguments.x.enum list"),
        (f"{STEP}.name", "b", "templates.main.steps[1].name 'b' is not unique"),
        (f"{STEP}.name", "b.c", "templates.main.steps[0].name 'b.c' is invalid: name must consist of alpha-"
         "numeric characters or '-', and must start with an alpha-numeric character (e.g. My-name1-2, 123-NAME)"),
        (f"{STEP}.arguments", {}, "templates.main.steps[0].a templates.l inputs.parameters.p was not supplied"),
        (f"{STEP}.when", "{{steps.b.status}} == 1", "templates.main.steps failed to resolve {{steps.b.status}}"),
        (f"{STEP}.when", "{{item}} == 1", "templates.main.steps failed to resolve {{item}}"),
        (f"{STEP}.hooks", {"x": {"template": "l"}}, "templates.main.steps[0].a.x Expression required"),
        ("spec.templates.0.steps.1.0.withParam", "[]",
         "templates.main.steps[1].b only one of withItems, withParam, withSequence can be specified"),
        (f"{TASK}.depends", "v", "templates.d templates.d sorting failed: invalid dependency v (of task u)"),
        (f"{TASK}.depends", "t.Done", "templates.d templates.d.tasks.u task result 'Done' for task 't' is invalid"),
        (f"{TASK}.depends", "u", "templates.d templates.d sorting failed: graph with cycle: u->u"),
        (f"{TASK}.name", "t", "templates.d templates.d sorting failed: duplicated nodeName t"),
        (f"{TASK}.depends", "t.AnySucceeded", "templates.d templates.d.tasks.u dependency 't' uses an items-based "
         "condition such as .AnySucceeded or .AllFailed but does not contain any items"),
        (f"{TASK}.dependencies", ["t"],
         "templates.d templates.d cannot use both 'depends' and 'dependencies' in the same DAG template"),
        ("spec.templates.1.dag.target", "v", "templates.d templates.d.targets: target 'v' is not defined"),
        ("spec.templates.1.dag.tasks", [], "templates.d templates.d must have at least one task"),
        ("spec.templates.2.initContainers", [{"name": "i"}, {"image": "i"}],
         "templates.main.steps[0].a initContainers must all have container name"),
        ("spec.templates.2.archiveLocation", {"git": {}},
         "templates.main.steps[0].a templates.l.archiveLocation.git.repo is required"),
        ("spec.podGC", {"strategy": "OnTuesdays"}, "podGC.strategy unknown strategy 'OnTuesdays'"),
        ("spec.podGC", {"labelSelector": {"matchExpressions": [{"key": "k", "operator": "Near"}]}},
         'podGC.labelSelector invalid: "Near" is not a valid label selector operator'),
        ("spec.workflowTemplateRef", {"name": "lib"},
         "Templates is invalid field in spec if workflow referred WorkflowTemplate reference"),
    ],
)  # fmt: skip
def test_what_argo_does_not_accept(path, value, problem):
    assert problem_of(changed(path, value)) == f"invalid spec: {problem}"


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        ({"name": "a.b"}, "templates.l metric name 'a.b' is invalid. Metric names must contain alphanumeric characters "
         "or '_'"),
        ({"labels": [{"key": "c-d", "value": "1"}]},
         "metric label 'c-d' is invalid: keys may only contain alphanumeric characters or '_'"),
        ({"help": ""}, "templates.l metric 'm' must contain a help string under 'help: ' field"),
        ({"histogram": {"buckets": [1]}}, "templates.l metric 'm' error: missing histogram.value"),
        ({"gauge": {"realtime": True, "value": "{{resourcesDuration.cpu}}"}},
         "templates.l metric 'm' error: 'resourcesDuration.*' metrics cannot be used in real-time"),
    ],
)  # fmt: skip
def test_metrics_that_argo_does_not_accept(metric, problem):
    good = {"name": "m", "help": "h", "counter": {"value": "1"}, "labels": [{"key": "k", "value": "1"}]}
    assert problem_of(changed("spec.templates.2.metrics", {"prometheus": [good]})) == ""
    made = changed("spec.templates.2.metrics", {"prometheus": [{**good, **metric}]})
    assert problem_of(made) == f"invalid spec: templates.main.steps[0].a {problem}"


@pytest.mark.parametrize(
    ("resource", "problem"),
    [
        ({"action": "stir"}, "templates.k.resource.action must be one of: get, create, apply, delete, replace, patch"),
        ({"manifest": ""}, "either templates.k.resource.manifest or templates.k.resource.manifestFrom must be "
         "specified"),
        ({"manifest": "a: b: c"}, "templates.k.resource.manifest must be a valid yaml"),
        ({"manifestFrom": {"artifact": {"name": "f"}}}, "shouldn't have both `manifest` and `manifestFrom` specified "
         "in `Manifest` for resource template"),
        ({"manifest": "", "manifestFrom": {"artifact": {"name": "f"}}},
         "artifact f in `manifestFrom` refer to a non-exist artifact"),
    ],
)  # fmt: skip
def test_resources_that_argo_does_not_accept(resource, problem):
    good = {"action": "create", "manifest": "kind: {{workflow.name}}\ndata: {{=1 + 1}}\n"}
    made = copy.deepcopy(GOOD)
    made["spec"]["templates"].append({"name": "k", "resource": good})
    assert problem_of(made) == ""
    made["spec"]["templates"][-1]["resource"] = {**good, **resource}
    assert problem_of(made) == f"invalid spec: templates.k {problem}"


def test_what_a_task_exports_is_known_to_those_after_it_in_whatever_order_they_are_written():
    made = changed("spec.templates.2.outputs.parameters.0.globalName", "g")
    here = "{{workflow.outputs.parameters.g}}"
    made["spec"]["templates"].append({"name": "r", "container": {"image": "i", "args": [here]}})
    made["spec"]["templates"][1]["dag"]["tasks"].insert(0, {"name": "v", "template": "r", "depends": "t"})
    made["spec"]["templates"][0] = {"name": "main", "steps": [[{"name": "s", "template": "d", "arguments": {
        "parameters": [{"name": "p", "value": "1"}]}}]]}  # fmt: skip
    assert problem_of(made) == ""
    del made["spec"]["templates"][1]["dag"]["tasks"][0]["depends"]
    assert problem_of(made).endswith(f"templates.r: failed to resolve {here}")


def test_a_reference_to_a_whole_workflow_template_is_followed():
    library = {**copy.deepcopy(GOOD), "kind": "WorkflowTemplate", "metadata": {"name": "lib"}}
    whole = {"metadata": {"name": "w", "labels": {"l": "1"}}, "spec": {"workflowTemplateRef": {"name": "lib"}}}
    assert problem_of(whole, [library]) == ""
    assert problem_of(whole) == 'workflowtemplates.argoproj.io "lib" not found'
    library["spec"]["templates"][2] = {"name": "l", "http": {"url": "u"}}
    assert refused(whole, [library])[0].startswith("template 'l' is of kind 'http'")
    library["spec"]["entrypoint"] = "nope"
    assert problem_of(whole, [library]) == "invalid spec: template reference lib.nope not found"


def test_a_library_is_looked_at_without_what_a_workflow_will_give_it():
    library = {**copy.deepcopy(GOOD), "kind": "WorkflowTemplate"}
    del library["spec"]["entrypoint"]
    library["spec"]["arguments"] = {}
    assert problem_of(library) == ""
    library["spec"]["templates"][2]["script"]["source"] = "{{workflow.nope}}"
    assert problem_of(library).endswith("templates.l: failed to resolve {{workflow.nope}}")


def test_parameters_get_their_values_when_a_workflow_is_submitted():
    made = changed("spec.arguments.parameters.0", {"name": "x", "enum": ["1"]})
    assert problem_of(made, lint=True) == ""
    assert problem_of(made) == "invalid spec: spec.arguments.x.value or spec.arguments.x.valueFrom is required"
    made["spec"]["arguments"]["parameters"][0]["enum"] = []
    assert problem_of(made, lint=True).endswith("spec.arguments.x.enum should contain at least one value")


def test_a_workflow_without_metadata():
    made = {"spec": {"entrypoint": "l", "templates": [{"name": "l", "suspend": {}}]}}
    assert problem_of(made) == ""


def test_a_value_of_a_task_that_is_no_ancestor():
    made = changed(f"{TASK}.depends", None)
    del made["spec"]["templates"][1]["dag"]["tasks"][1]["when"]
    assert problem_of(made) == "invalid spec: templates.d templates.d.tasks.u missing dependency 't' for parameter 'p'"


def test_a_wide_dag_and_deep_templates_are_validated_in_no_time():
    tasks = [
        {"name": "t0", "template": "l"},
        *[{"name": f"t{i}", "template": "l", "depends": f"t{i - 1}"} for i in range(1, 800)],
    ]
    deep = [{"name": f"n{i}", "steps": [[{"name": "s", "template": f"n{i + 1}"}]]} for i in range(400)]
    leaf = {"script": {"image": "i", "command": ["sh"], "source": ""}}
    templates = [{"name": "main", "dag": {"tasks": tasks}}, {"name": "l", **leaf}, *deep, {"name": "n400", **leaf}]
    assert problem_of({"metadata": {"name": "w"}, "spec": {"entrypoint": "n0", "templates": templates}}) == ""


def test_unknown_fields_are_named():
    assert problem_of(changed(f"{STEP}.wen", "x")) == 'cannot unmarshall spec: json: unknown field "wen"'
    made = changed(f"{STEP}.templateref", {})
    assert problem_of(made) == 'cannot unmarshall spec: json: unknown field "templateref" (meant is "templateRef")'
    with pytest.raises(Malformed, match="imge"):
        normalise(changed("spec.templates.2.script.imge", "x"))


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("spec.templates", {}, "object into WorkflowSpec.templates, which is an array"),
        ("spec.entrypoint", ["main"], "array into WorkflowSpec.entrypoint, which is a string"),
        (f"{STEP}.withParam", {}, "object into WorkflowStep.withParam, which is a string"),
        ("spec.templates.0", "main", "string into WorkflowSpec.templates, which is an object Template"),
        ("spec.templates.0.steps.0", "a", "string into Template.steps, which is an array"),
        (f"{STEP}.arguments", [], "array into WorkflowStep.arguments, which is an object Arguments"),
        ("spec.templates.2.script.args", 1, "number into ScriptTemplate.args, which is an array"),
    ],
)
def test_what_has_the_wrong_shape_is_named(path, value, problem):
    assert problem_of(changed(path, value)) == f"cannot unmarshall spec: json: cannot unmarshal {problem}"


def test_null_in_a_list_is_an_empty_one_of_its_kind():
    made = copy.deepcopy(GOOD)
    made["spec"]["templates"][0]["steps"][0][0] = None
    made["spec"]["templates"][2]["script"]["args"] = [None]
    assert problem_of(made) == "invalid spec: templates.main.steps[0].name is required"
    assert normalise(made)["spec"]["templates"][2]["script"]["args"] == [""]


def test_a_group_of_one_step_may_stand_without_its_list():
    made = normalise(changed("spec.templates.0.steps.0", GOOD["spec"]["templates"][0]["steps"][0][0]))
    assert made == GOOD


def test_numbers_become_texts_where_texts_are_meant():
    made = normalise(changed("spec.templates.2.script.args", [1, True, 1.50, "x"]))
    assert made["spec"]["templates"][2]["script"]["args"] == ["1", "true", "1.5", "x"]
    assert (
        normalise(changed("spec.arguments.parameters.0.value", 7))["spec"]["arguments"]["parameters"][0]["value"] == "7"
    )
    assert normalise(GOOD) == GOOD


def test_what_the_local_engine_does_not_interpret_is_refused_by_name():
    assert refused(GOOD) == []
    made = changed("spec.templates.2", {"name": "k", "resource": {"action": "get"}})
    made["spec"]["templates"].append({"name": "s", "daemon": True, "container": {"image": "i"}})
    reasons = refused(made)
    assert [reason.partition(" (")[0] for reason in reasons] == [
        "template 'k' is of kind 'resource'",
        "template 's' is a 'daemon'",
    ]
    library = {
        "kind": "WorkflowTemplate",
        "metadata": {"name": "lib"},
        "spec": {"templates": [{"name": "h", "http": {"url": "u"}}]},
    }
    made = changed(STEP, {"name": "a", "templateRef": {"name": "lib", "template": "h"}})
    assert refused(GOOD, [library]) == []
    assert refused(made, [library]) != []
    inline = changed(STEP, {"name": "a", "inline": {"plugin": {}}})
    assert refused(inline)[0].startswith("template 'a' is of kind 'plugin'")
