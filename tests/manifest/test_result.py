"""Results as attributes: values of the declared type, filters, both engines' nodes alike."""

import copy
import datetime
import json
import pickle

import pytest

from dflow_hpc.config import config
from dflow_hpc.errors import EngineError, SignError
from dflow_hpc.manifest.result import ArgoObjectDict, ArgoStep, ArgoWorkflow, global_outputs
from dflow_hpc.storage.transfer import download_artifact, upload_artifact, upload_s3


def parameter(name, value, type=None):
    return {"name": name, "value": value, **({"description": json.dumps({"type": type})} if type else {})}


def node(id, name, type="Pod", start="2026-01-01T00:00:01Z", **more):
    return {
        "id": id,
        "name": f"wf.{name}",
        "displayName": name,
        "type": type,
        "phase": "Succeeded",
        "startedAt": start,
        **more,
    }


def key(text):
    return {"parameters": [parameter("dflow_key", text)]}


def member(i, start):
    inputs = key(f"train-{i}")
    return node(f"wf-t{i}", f"train({i}:{i})", "Pod", start, boundaryID="wf", inputs=inputs, children=["wf-g1"])


WORKFLOW = {
    "metadata": {"name": "wf", "uid": "u-1"},
    "status": {
        "phase": "Succeeded",
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:01:30Z",
        "outputs": {"parameters": [parameter("best", "3", "int")]},
        "nodes": {
            "wf": node("wf", "wf", "Steps", "2026-01-01T00:00:00Z", children=["wf-g0"]),
            "wf-g0": node("wf-g0", "[0]", "StepGroup", boundaryID="wf", children=["wf-t0", "wf-t1"]),
            "wf-t1": member(1, "2026-01-01T00:00:03Z"),
            "wf-t0": member(0, "2026-01-01T00:00:02Z"),
            "wf-g1": node("wf-g1", "[1]", "StepGroup", "2026-01-01T00:00:04Z", boundaryID="wf", children=["wf-s"]),
            "wf-s": node("wf-s", "inner", "Steps", "2026-01-01T00:00:05Z", boundaryID="wf", children=["wf-sg"]),
            "wf-sg": node("wf-sg", "[0]", "StepGroup", "2026-01-01T00:00:06Z", boundaryID="wf-s", children=["wf-x"]),
            "wf-x": node("wf-x", "training", start=None, boundaryID="wf-s", phase="Failed", inputs=key("")),
        },
    },
}  # fmt: skip


def names(steps):
    return [step.displayName for step in steps]


def test_steps_are_found_by_their_properties():
    workflow = ArgoWorkflow(WORKFLOW)
    assert (workflow.id, workflow.uid, workflow.status.phase) == ("wf", "u-1", "Succeeded")
    assert names(workflow.get_step(name="train")) == ["train(0:0)", "train(1:1)"]
    assert names(workflow.get_step(name=["training", "train(1:1)"])) == ["train(1:1)", "training"]
    assert names(workflow.get_step(key=["train-1", "other"])) == ["train(1:1)"]
    assert names(workflow.get_step(phase="Failed")) == ["training"]
    assert names(workflow.get_step(type=["Steps"])) == ["wf", "inner"]
    assert names(workflow.get_step(id="wf-t0")) == ["train(0:0)"]
    assert [step.key for step in workflow.get_step(type="Pod")] == ["train-0", "train-1", None]


def test_steps_below_a_step():
    workflow = ArgoWorkflow(WORKFLOW)
    assert workflow.get_sub_nodes("wf-s") == ["wf-s", "wf-sg", "wf-x"]
    assert sorted(workflow.get_sub_nodes("wf")) == sorted(WORKFLOW["status"]["nodes"])
    assert workflow.get_sub_nodes("wf-g0") == ["wf-g0", "wf-t0", "wf-t1"]
    assert names(workflow.get_step(parent_id="wf-s", type="Pod")) == ["training"]
    by_generation = names(workflow.get_step(sort_by_generation=True))
    assert by_generation[0] == "wf"
    assert by_generation[-1] == "training"


def test_values_are_of_the_declared_type():
    step = ArgoStep(
        node(
            "n",
            "n",
            inputs=key("k"),
            outputs={
                "parameters": [
                    parameter("number", "3", "int"),
                    parameter("text", "3", "str"),
                    parameter("foreign", "3"),
                    parameter("nested", '{"a": [1, null]}', "dict"),
                    parameter(
                        "stacked", '[{"dflow_list_item": 7, "order": 1}, {"dflow_list_item": 6, "order": 0}]', "int"
                    ),
                    {**parameter("worded", "3"), "description": "how many"},
                ],
                "exitCode": "0",
            },
        ),
        "wf",
    )
    values = {name: item.value for name, item in step.outputs.parameters.items()}
    assert values == {
        "number": 3,
        "text": "3",
        "foreign": "3",
        "nested": {"a": [1, None]},
        "stacked": [6, 7],
        "worded": "3",
    }
    assert step["key"] == step.key == "k"
    assert step.outputs.exitCode == "0"
    assert not hasattr(step, "finishedAt")
    with pytest.raises(AttributeError, match="finishedAt"):
        _ = step.finishedAt


def test_a_value_that_is_not_there_is_named():
    step = ArgoStep(node("n", "n", outputs={"parameters": [parameter("loss", "3", "int")]}), "wf")
    with pytest.raises(KeyError, match="'lost' was asked for; this node has: 'loss'"):
        step.outputs.parameters["lost"]
    with pytest.raises(EngineError, match="this node has: none"):
        step.outputs.artifacts["model"]
    assert step.outputs.artifacts.get("model") is None


def test_what_is_not_there_yet_is_said_to_come():
    workflow = ArgoWorkflow({"metadata": {"name": "wf"}, "status": {"phase": "Running", "nodes": {}}})
    with pytest.raises(IndexError, match=r"wf, which is Running, has 0 of these: name='train'.*workflow.wait\(\)"):
        workflow.get_step(name="train")[0]
    ended = ArgoWorkflow(WORKFLOW).get_step(name="train", phase="Succeeded")
    with pytest.raises(EngineError, match=r"which is Succeeded, has 2 of these: name='train', phase='Succeeded'"):
        ended[2]
    assert pickle.loads(pickle.dumps(ended)) == ended == ended[:2]
    running = ArgoStep(node("n", "n") | {"phase": "Running"}, "wf")
    with pytest.raises(KeyError, match="none; it is Running: outputs come when it has ended"):
        running.outputs.parameters["loss"]
    without = ArgoStep(node("n", "n", outputs={"parameters": [{"name": "loss", "valueFrom": {"path": "/l"}}]}), "wf")
    with pytest.raises(AttributeError, match="'loss' has no value"):
        _ = without.outputs.parameters["loss"].value
    assert not hasattr(without.outputs.parameters["loss"], "value")


def test_outputs_can_be_changed_and_given_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(config, "debug_workdir", ".")
    (tmp_path / "f").write_text('{"a": 1}')
    big = upload_s3("f")
    outputs = {
        "exitCode": "0",
        "parameters": [parameter("number", "3", "int"), parameter("text", "x", "str")],
        "artifacts": [
            {"name": "file", "path": "/tmp/outputs/artifacts/file", "s3": {"key": big}},
            {"name": "dflow_bigpar_big", "path": "/tmp/outputs/parameters/big", "s3": {"key": big}},
        ],
    }
    step = ArgoStep(node("n", "n", outputs=copy.deepcopy(outputs)), "wf")
    assert step.argo_outputs() == outputs
    assert step.outputs.parameters["big"].value == {"a": 1}
    assert step.argo_outputs() == outputs
    assert download_artifact(step.outputs.artifacts["file"], path="got") == ["got/file"]
    step.modify_output_parameter("number", 4)
    step.modify_output_parameter("text", "4")
    step.modify_output_parameter("big", [5])
    step.modify_output_artifact("file", upload_artifact("f"))
    changed = step.argo_outputs()
    assert [item["value"] for item in changed["parameters"]] == ["4", "4"]
    again = ArgoStep(node("n", "n", outputs=changed), "wf")
    assert again.outputs.parameters["big"].value == [5]
    assert download_artifact(again.outputs.artifacts["file"], path="got") == ["got/f"]
    with pytest.raises(EngineError, match=r"'nope'.*number, text, big"):
        step.modify_output_parameter("nope", 1)


def test_an_output_of_slices_that_is_changed_stays_one():
    records = [{"dflow_list_item": 1.5, "order": 4}, {"dflow_list_item": 2.5, "order": 7}]
    step = ArgoStep(node("n", "n", outputs={"parameters": [parameter("x", json.dumps(records[:1]), "float")]}), "wf")
    step.modify_output_parameter("x", 0.0)
    assert step.outputs.parameters["x"].value == [0.0]
    assert json.loads(step.argo_outputs()["parameters"][0]["value"]) == [{"dflow_list_item": 0.0, "order": 4}]
    step = ArgoStep(node("n", "n", outputs={"parameters": [parameter("x", json.dumps(records), "float")]}), "wf")
    step.modify_output_parameter("x", [0.0, 1.0])
    assert [item["order"] for item in json.loads(step.argo_outputs()["parameters"][0]["value"])] == [4, 7]
    with pytest.raises(SignError, match=r"2 slices.*list of 2 values"):
        step.modify_output_parameter("x", 3.0)


def test_durations():
    assert ArgoWorkflow(WORKFLOW).get_duration() == datetime.timedelta(seconds=90)
    assert ArgoStep(node("n", "n", start=None)).get_duration() == datetime.timedelta(0)
    running = ArgoStep(node("n", "n", start="2020-01-01T00:00:00Z", finishedAt="0001-01-01T00:00:00Z"))
    assert running.get_duration() > datetime.timedelta(days=365)


def test_global_outputs():
    assert global_outputs(WORKFLOW).parameters["best"].value == 3
    assert global_outputs({"status": {}}) is None


def test_objects_are_data_too():
    data = {"a": {"b": [{"c": 1}, [2]]}}
    wrapped = ArgoObjectDict(data)
    assert wrapped.a.b[0].c == 1
    assert wrapped.recover() == data
    assert type(wrapped.recover()["a"]["b"][0]) is dict
    wrapped.a.x = {"y": 1}
    assert wrapped.a.x.y == 1
    step = ArgoStep(node("n", "n", inputs=key("k")), "wf")
    for again in (pickle.loads(pickle.dumps(step)), copy.deepcopy(step)):
        assert again == step
        assert again.key == "k"
        assert again.inputs.parameters["dflow_key"].value == "k"
