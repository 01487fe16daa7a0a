"""The handle on a run: what a Workflow asks of an engine, which here only remembers what it was asked."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest

from dflow_hpc import (
    InputParameter,
    Inputs,
    OutputParameter,
    PythonOPTemplate,
    ShellOPTemplate,
    Step,
    Steps,
    Workflow,
    config,
    hooks,
    query_workflows,
)
from dflow_hpc.errors import EngineError, ModelError, NotWhileLoading, SignError, WorkflowFailed
from dflow_hpc.op import loader
from tests.argo_schema import check
from tests.compile.programs import Make


def test_a_template_made_of_steps_can_be_copied() -> None:
    inner = Steps("inner", inputs=Inputs(parameters={"n": InputParameter(type=int)}))
    make = Step("make", PythonOPTemplate(Make), parameters={"n": inner.inputs.parameters["n"]})
    inner.add(make)
    inner.outputs.parameters["n"] = OutputParameter(value_from_parameter=make.outputs.parameters["n"])
    flow = Workflow("flow")
    flow.add(Step("a", inner, parameters={"n": 1}))
    flow.add(Step("b", copy.deepcopy(inner), parameters={"n": 2}))
    manifest = flow.to_dict()
    check(manifest)
    names = [template["name"] for template in manifest["spec"]["templates"]]
    assert names.count("inner") == 1


class Engine:
    def __init__(self) -> None:
        self.phase = "Succeeded"
        self.asked: list[tuple[str, Any]] = []

    def at(self, **where: str) -> Engine:
        self.where = where
        return self

    def submit(self, compiled: Any, *, id: str | None, detach: bool, reuse: Any) -> str:
        self.asked.append(("submit", (compiled.manifest["spec"]["entrypoint"], id, detach, list(reuse))))
        return id or "flow-1"

    def query(self, id: str) -> dict[str, Any]:
        node = {
            "id": id,
            "displayName": "a",
            "phase": self.phase,
            "inputs": {"parameters": [{"name": "dflow_key", "value": "k"}]},
        }
        outputs = {"parameters": [{"name": "g", "value": "1", "description": '{"type": "int"}'}]}
        status = {"phase": self.phase, "message": "why", "nodes": {id: node}, "outputs": outputs}
        return {"metadata": {"name": id, "uid": "u-" + id, "labels": {"a": "b"}}, "spec": {}, "status": status}

    def list_runs(self) -> list[Any]:
        return [SimpleNamespace(id="one"), SimpleNamespace(id="two")]

    def wait(self, id: str, timeout: float | None = None) -> str:
        self.asked.append(("wait", timeout))
        return self.phase

    def __getattr__(self, name: str) -> Any:
        return lambda run: self.asked.append((name, run))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setitem(hooks._registered, "engine", lambda mode: made)
    monkeypatch.setitem(config, "mode", "debug")
    return made


def workflow(**options: Any) -> Workflow:
    made = Workflow("flow", **options)
    made.add(Step("a", ShellOPTemplate("s", image="alpine", script="true")))
    return made


def test_a_run_is_submitted_asked_about_and_steered(engine: Engine) -> None:
    flow = workflow()
    assert flow.submit().id == "flow-1"
    assert (flow.id, flow.uid) == ("flow-1", "u-flow-1")
    assert flow.query_status() == "Succeeded"
    assert flow.wait() == "Succeeded"
    assert [step.key for step in flow.query_step(name="a")] == ["k"]
    assert flow.query_step_by_key("other") == []
    assert flow.query_keys_of_steps() == ["k"]
    assert flow.query_global_outputs().parameters["g"].value == 1
    for verb in ("terminate", "stop", "suspend", "resume", "retry", "delete"):
        getattr(flow, verb)()
        assert engine.asked[-1] == (verb, "flow-1")
    flow.resubmit()
    assert engine.asked[-1] == ("submit", ("flow-steps", None, False, []))
    flow.submit(reuse_step=flow.query_step())
    assert engine.asked[-1][1][1] == "flow-1"
    assert [step.key for step in engine.asked[-1][1][3]] == ["k"]
    assert [one.id for one in query_workflows(labels={"a": "b"})] == ["one", "two"]
    assert query_workflows(labels={"a": "c"}) == []


def test_a_workflow_says_where_it_runs(engine: Engine) -> None:
    workflow().submit()
    assert engine.where == {}
    workflow(namespace="other", token="t").submit()
    assert engine.where == {"namespace": "other", "token": "t"}


def test_run_raises_where_submit_does_not(engine: Engine) -> None:
    engine.phase = "Failed"
    flow = workflow()
    assert flow.submit().status.phase == "Failed"
    with pytest.raises(WorkflowFailed, match=r"ended as Failed: why.*dflow-hpc retry flow-1"):
        flow.run(timeout=3)
    assert ("wait", 3) in engine.asked
    engine.phase = "Succeeded"
    assert flow.run().id == "flow-1"


def test_nothing_is_submitted_while_code_is_loaded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_depth", 1)
    flow = workflow()
    with pytest.raises(NotWhileLoading):
        flow.submit()
    assert engine.asked == []


def test_a_finished_manifest_is_a_workflow_too(engine: Engine) -> None:
    flow = workflow(namespace="ns", labels={"a": "b"}, annotations={"c": "d"}, id="flow-7")
    manifest = flow.to_dict()
    check(manifest)
    assert manifest["metadata"] == {
        "name": "flow-7",
        "namespace": "ns",
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
    }
    for again in (Workflow.from_yaml(flow.to_yaml()), Workflow.from_json(flow.to_json())):
        assert again.to_dict() == manifest
        assert again.submit().id == "flow-7"
    with pytest.raises(ModelError, match="takes one"):
        Workflow.from_yaml("")


def test_yaml_for_argo_names_what_to_publish_and_refuses_machines() -> None:
    assert workflow().to_yaml(target="argo") == workflow().to_yaml()
    with pytest.raises(ModelError, match="placed on machines"):
        workflow(context="gpu").to_yaml(target="argo")
    with pytest.raises(ModelError, match="known are"):
        workflow().to_yaml(target="k8s")


def test_a_workflow_without_a_run_says_so(engine: Engine) -> None:
    with pytest.raises(EngineError, match="not submitted"):
        Workflow("flow", steps=Steps("s")).wait()


def test_an_input_of_a_step_can_be_set_later() -> None:
    step = Step("make", PythonOPTemplate(Make), parameters={"n": 1})
    step.inputs.parameters["n"].value = 2
    assert step.parameters == {"n": 2}
    with pytest.raises(SignError, match="'n'"):
        step.inputs.parameters["n"].value = "three"


def test_a_setting_that_is_almost_one_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_layers", {**config._layers})
    with pytest.warns(UserWarning, match="'modee' was assigned, which is no setting; did you mean 'mode'"):
        monkeypatch.setitem(config, "modee", "debug")
    monkeypatch.setitem(config, "my_plugin", 1)
    assert config["my_plugin"] == 1
