"""Bridge pods of a real Argo, and a gateway to a real Slurm: pods and gateways are killed in the middle."""

import base64
import hashlib
import secrets
import sys
from pathlib import Path

import pytest

from dflow_hpc import PythonOPTemplate, Secret, Slices, Step, Workflow, config, download_artifact, upload_artifact
from dflow_hpc.engines.argo.engine import ArgoEngine

sys.path.insert(0, str(Path(__file__).parent))
import bridge_ops as ops
from gateways import GatewayProcess, lines, nodes_of, profile, until

pytestmark = pytest.mark.rig
SECONDS = 600


@pytest.fixture
def cpu(slurm_rig):
    return slurm_rig["cpu"]


@pytest.fixture
def room(cpu):
    """Make a directory that jobs and tests see; its two names."""
    name = f"bridge-{secrets.token_hex(4)}"
    cpu.ok(f"mkdir {cpu.root}/{name}")
    return f"{cpu.root}/{name}", cpu.root_here / name


@pytest.fixture
def gateway(kube_rig, kube_image, cpu, monkeypatch, tmp_path):
    """Start a gateway, and let the settings name rig, machine and image as a user would."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "machines.toml").write_text(profile(cpu))
    monkeypatch.setenv("DFLOW_MACHINES", str(tmp_path / "machines.toml"))
    where = {"mode": "argo", "k8s_config_file": kube_rig.kubeconfig, "namespace": "argo", "bridge_image": kube_image}
    for name, value in where.items():
        monkeypatch.setitem(config, name, value)
    made = GatewayProcess(kube_rig, tmp_path / "gateway", "cpu", profile(cpu))
    yield made.start()
    made.stop()
    made.forget()


def _step(name, op, parameters, **options):
    """Return a step on the cluster."""
    more = {key: options.pop(key) for key in ("artifacts", "with_param") if key in options}
    return Step(name, PythonOPTemplate(op, **options), parameters=parameters, executor="cpu", **more)


def _pods(kube, workflow, *more):
    names = ("get", "pods", f"--selector=workflows.argoproj.io/workflow={workflow}", "--output=name")
    return kube.kubectl(*names, *more).split()


def test_pods_and_the_gateway_are_killed_and_each_leaf_runs_once(kube_rig, gateway, room):
    there, here = room
    Path("in.txt").write_text("n is ")
    slices = Slices(input_parameter=["n"], output_parameter=["square"], output_artifact=["note"])
    step = _step(
        "many",
        ops.wait_for_word,
        {"n": [1, 2, 3], "room": there},
        artifacts={"source": upload_artifact("in.txt")},
        slices=slices,
        retry_on_error=3,
    )
    workflow = Workflow("bridge")
    workflow.add(step)
    workflow.submit()
    until("the start of three jobs", lambda: len(lines(here / "started")) == 3)
    first, second, _ = _pods(kube_rig, workflow.id, "--field-selector=status.phase=Running")
    kube_rig.kubectl("delete", first, "--force", "--grace-period=0")  # lost with its node
    kube_rig.kubectl("delete", second, "--wait=false")  # evicted: it is told to end
    gateway.kill()

    def retried():
        nodes = nodes_of(kube_rig, workflow.id).values()
        return sum(len(node.get("children") or ()) for node in nodes if node["type"] == "Retry") == 5

    until("the pods of the next attempts", retried)
    gateway.start()
    (here / "go").touch()
    assert ArgoEngine().wait(workflow.id, SECONDS) == "Succeeded"
    assert sorted(lines(here / "started")) == ["1", "2", "3"]
    assert [len(leaf.jobs) for leaf in gateway.leaves().values()] == [1, 1, 1]
    done = workflow.query_step(name="many", type="Pod", phase="Succeeded")
    assert sorted(each.outputs.parameters["square"].value for each in done) == [[1], [4], [9]]
    notes = download_artifact(done[0].outputs.artifacts["note"], path="notes")
    assert [Path(path).read_text() for path in notes] == ["n is 1", "n is 2", "n is 3"]
    assert ": 1 login, " in gateway.stop()


def test_the_programs_own_failure_is_run_again_and_a_stopped_workflow_leaves_no_job(kube_rig, gateway, cpu, room):
    there, here = room
    workflow = Workflow("again")
    workflow.add(_step("fails", ops.fails, {"room": there}, retry_on_failure=1))
    slices = Slices(input_parameter=["n"], output_parameter=["square"])
    word = upload_artifact(_file("in.txt", "n is "))
    waits = {"n": [1, 2], "room": there}
    workflow.add(_step("waits", ops.wait_for_word, waits, artifacts={"source": word}, slices=slices))
    workflow.submit()
    until("the start of two jobs", lambda: len(lines(here / "started")) == 2)
    [leaf] = [leaf for leaf in gateway.leaves().values() if len(leaf.jobs) > 1]
    assert len(leaf.jobs) == 2  # a failure is the program's outcome: the next attempt is a job of its own
    assert len(lines(here / "tried")) == 2
    assert [step.phase for step in workflow.query_step(name="fails", type="Retry")] == ["Succeeded"]
    workflow.stop()
    assert ArgoEngine().wait(workflow.id, SECONDS) == "Failed"
    until("the end of its jobs", lambda: not cpu.ok("squeue -h --me"))
    until("an empty gateway", lambda: not any((gateway.state / "leaves").iterdir()))


def _file(name, text):
    Path(name).write_text(text)
    return name


def test_no_secret_stands_in_what_is_made(kube_rig, gateway, cpu):
    word = f"planted-{secrets.token_hex(12)}"
    workflow = Workflow("hushed")
    workflow.add(_step("know", ops.know_secret, {}, envs={"WORD": Secret(word)}))
    workflow.run(timeout=SECONDS)
    [step] = workflow.query_step(name="know")
    assert step.outputs.parameters["hash"].value == hashlib.sha256(word.encode()).hexdigest()
    encoded = kube_rig.kubectl("get", "secret", "dflow-hpc-gateway-cpu", "--output=jsonpath={.data.token}")
    token = base64.b64decode(encoded).decode()
    shown = kube_rig.kubectl("get", "workflows,configmaps,pods,events", "--output=yaml")
    assert workflow.id in shown
    pods = _pods(kube_rig, workflow.id)
    said = gateway.stop() + "".join(kube_rig.kubectl("logs", pod, "--all-containers") for pod in pods)
    left = [path for path in gateway.state.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]
    assert {path.name for path in left} <= {"leaf.json"}  # 0600, and gone when Argo has the outcome
    key = cpu.key.read_text().splitlines()[2]
    for planted in (word, token, encoded, key):
        assert planted not in shown
        assert planted not in said
