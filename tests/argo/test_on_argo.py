"""The Argo engine on a real Argo: programs, artifacts, secrets, steering, and servers that go away meanwhile."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dflow_hpc import (
    PythonOPTemplate,
    Secret,
    Slices,
    Step,
    Steps,
    Workflow,
    download_artifact,
    upload_artifact,
)
from dflow_hpc.errors import EngineError, WorkflowFailed
from dflow_hpc.kube import PODS, SECRETS

sys.path.insert(0, str(Path(__file__).parent))
import argo_ops as ops

pytestmark = pytest.mark.rig
EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 300


def _command(kube, directory, *words, check=True):
    environment = {**os.environ, "DFLOW_MODE": "argo", "DFLOW_K8S_CONFIG_FILE": kube.kubeconfig}
    command = [sys.executable, "-m", "dflow_hpc.cli.main", *words]
    answer = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert not check or answer.returncode == 0, answer.stderr
    return answer


def _step(name, op, **options):
    return Step(name, PythonOPTemplate(op, **options.pop("template", {})), **options)


def test_commands_show_a_run(kube_rig, tmp_path):
    run = _command(kube_rig, tmp_path, "submit", str(EXAMPLES / "hello.py"))
    [name] = [line.split(":")[0] for line in run.stderr.splitlines() if "submitted to the namespace" in line]
    assert f"{name}: Succeeded" in _command(kube_rig, tmp_path, "wait", name).stdout
    assert name in _command(kube_rig, tmp_path, "list").stdout
    workflow = json.loads(_command(kube_rig, tmp_path, "get", name, "-o", "json").stdout)
    assert workflow["status"]["phase"] == "Succeeded"
    _command(kube_rig, tmp_path, "get", name, "--watch")
    _command(kube_rig, tmp_path, "logs", name)
    _command(kube_rig, tmp_path, "delete", name)
    gone = _command(kube_rig, tmp_path, "get", name, check=False)
    assert gone.returncode == 2
    assert "was deleted" in gone.stderr


def test_artifacts_parameters_and_slices_come_back(argo, tmp_path):
    Path("in.txt").write_text("three")
    workflow = Workflow("slices")
    sliced = Slices(input_parameter=["n"], output_parameter=["square"], output_artifact=["note"])
    many = _step("many", ops.square, template={"slices": sliced}, parameters={"n": [1, 2, 3]}, with_param=[0, 1, 2])
    one = _step("one", ops.copy_text, artifacts={"source": upload_artifact("in.txt")})
    workflow.add([many, one])
    workflow.run(timeout=SECONDS)
    squares = workflow.query_step(name="many", phase="Succeeded")
    assert sorted(step.outputs.parameters["square"].value for step in squares) == [[1], [4], [9]]
    notes = download_artifact(squares[0].outputs.artifacts["note"], path="notes")
    assert [Path(path).read_text() for path in notes] == ["1", "2", "3"]
    [copied] = workflow.query_step(name="one")
    [path] = download_artifact(copied.outputs.artifacts["target"], path="copied")
    assert Path(path).read_text() == "three"


def test_a_secret_reaches_the_step_and_stands_nowhere_else(argo, kube_rig):
    workflow = Workflow("secret")
    secret = Secret("s3cr3t-w0rd")
    workflow.add(_step("reveal", ops.length_of_secret, template={"envs": {"WORD": secret}}))
    workflow.run(timeout=SECONDS)
    [step] = workflow.query_step(name="reveal")
    assert step.outputs.parameters["length"].value == len("s3cr3t-w0rd")
    [owner] = argo.cluster.get(SECRETS, secret.name)["metadata"]["ownerReferences"]
    assert owner["name"] == workflow.id
    shown = kube_rig.kubectl("get", "workflows,configmaps,pods", "--output=yaml")
    assert "s3cr3t-w0rd" not in shown
    workflow.delete()
    kube_rig.kubectl("wait", "--for=delete", f"secret/{secret.name}", "--timeout=60s", timeout=70)


def test_a_failed_step_is_named_logged_and_retried(argo):
    workflow = Workflow("fails")
    first = _step("first", ops.note)
    steps = Steps("inner")
    steps.add(_step("second", ops.fail_once, artifacts={"flag": upload_artifact(_file("flag", "0"))}))
    workflow.add(first)
    workflow.add(Step("inner", steps))
    with pytest.raises(WorkflowFailed, match="ended as Failed"):
        workflow.run(timeout=SECONDS)
    [failed] = workflow.query_step(name="second")
    assert "the flag is down" in failed.message
    [log] = argo.logs(workflow.id, "second")
    assert b"the flag is down" in b"\n".join(log.lines())
    started = workflow.query_step(name="first")[0].startedAt
    # What was wrong is mended where the step will read it: the object in the repository.
    key = failed.inputs.artifacts["flag"].s3.key
    argo._store().put(Path(_file("flag", "1")), key)
    workflow.retry()
    assert argo.wait(workflow.id, SECONDS) == "Succeeded"
    assert workflow.query_step(name="first")[0].startedAt == started
    assert [step.phase for step in workflow.query_step(name="second")] == ["Succeeded"]
    again = argo.resubmit(workflow.id)
    assert argo.wait(again, SECONDS) == "Succeeded"


def _file(name, text):
    Path(name).write_text(text)
    return name


def test_suspend_resume_and_stop(argo):
    workflow = Workflow("long")
    workflow.add(_step("wait", ops.wait_long))
    workflow.submit()
    _until_running(argo, workflow.id)
    workflow.suspend()
    workflow.resume()
    workflow.stop()
    assert argo.wait(workflow.id, SECONDS) == "Failed"
    with pytest.raises(EngineError, match="nothing to do"):
        workflow.terminate()


def _until_running(argo, name):
    for event in argo.cluster.watch(PODS, labels=f"workflows.argoproj.io/workflow={name}", seconds=SECONDS):
        if event.object["status"].get("phase") == "Running":
            return
    pytest.fail("no pod of it ran")


def test_nothing_is_lost_when_servers_go_away_in_the_middle(argo, kube_faults):
    workflow = Workflow("robust")
    for number in range(3):
        workflow.add(_step(f"note-{number}", ops.note))
    workflow.submit()
    phases = []
    looking = threading.Thread(target=lambda: phases.append(argo.wait(workflow.id, SECONDS)))
    looking.start()
    for daemon in ("apiserver", "argo", "apiserver"):
        kube_faults.ctl("restart", daemon)
    looking.join(SECONDS)
    assert phases == ["Succeeded"]
    assert len(workflow.query_step(type="Pod")) == 3


def test_steps_of_an_earlier_run_are_taken_over(argo, kube_rig):
    def workflow(second):
        made = Workflow("reuse")
        made.add(_step("first", ops.square, key="first-1", parameters={"n": 3}))
        made.add(_step("second", ops.square, key=second, parameters={"n": 4}))
        return made

    first = workflow("second")
    first.run(timeout=SECONDS)
    [kept] = first.query_step(key="first-1")
    kept.modify_output_parameter("square", 10)
    again = workflow("other")
    again.run(reuse_step=[kept], timeout=SECONDS)
    steps = {step.key: step for step in again.query_step(type="Pod")}
    assert steps["first-1"].outputs.parameters["square"].value == 10
    assert steps["first-1"].memoizationStatus["hit"]
    assert steps["other"].outputs.parameters["square"].value == 16
    assert not steps["other"].memoizationStatus["hit"]
    [path] = download_artifact(steps["first-1"].outputs.artifacts["note"], path="note")
    assert Path(path).read_text() == "3"
    again.delete()
    caches = [f"configmap/{again.id}-reused-{digit}" for digit in "0f"]
    kube_rig.kubectl("wait", "--for=delete", *caches, "--timeout=60s", timeout=70)
