"""Placements on Argo: what becomes of a template, and what a bridge pod makes of it again."""

import json

import pytest

from dflow_hpc.engines.argo.lower import bridges, lower
from dflow_hpc.engines.bridge import pod, template
from dflow_hpc.engines.bridge.leaf import Told
from dflow_hpc.errors import EngineError
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.op import bootstrap
from dflow_hpc.virtual_node.node import Capacity, node_object

FAR = Machine("far", "slurm", host="h")
LEAF = {
    "name": "t",
    "metadata": {"annotations": {"dflow-hpc/machine": "far", "dflow-hpc/resources": '{"cpus": 2}'}},
    "inputs": {"parameters": [{"name": "n", "value": "3"}]},
    "script": {
        "image": "{{inputs.parameters.image}}",
        "command": ["sh", "-e"],
        "source": "echo {{inputs.parameters.n}}",
        "workingDir": "/w",
        "env": [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    },
    "activeDeadlineSeconds": 60,
}


def _manifest(**changes):
    return {"metadata": {"generateName": "x-"}, "spec": {"templates": [{**LEAF, **changes}, {"name": "other"}]}}


def test_a_placed_leaf_becomes_a_bridge_and_the_pod_finds_it_again():
    made, other = lower(_manifest(), {"far": FAR}, image="ours")["spec"]["templates"]
    assert other == {"name": "other"}
    assert made["script"]["image"] == "ours"
    assert made["script"]["command"] == ["dflow-hpc", "bridge", "2"]
    assert made["script"]["source"] == LEAF["script"]["source"]
    assert "activeDeadlineSeconds" not in made
    [volume] = made["volumes"]
    assert volume["secret"] == {"secretName": "dflow-hpc-machine-far", "defaultMode": 0o400}
    told = {"WORD": "$(HOME) of a secret", "DFLOW_HPC_NODE_NAME": "x[0].t(2)", "DFLOW_HPC_WORKFLOW": "x"}
    mine = pod.read(made, {**told, "DFLOW_HPC_POD": "p", "DFLOW_HPC_UID": "u", "ARGO_INCLUDE_SCRIPT_OUTPUT": "true"})
    back = mine.template
    env = [{"name": "WORD", "value": "$$(HOME) of a secret"}]
    assert back["script"] == {**LEAF["script"], "env": env}
    assert back["metadata"] == LEAF["metadata"]
    assert back["activeDeadlineSeconds"] == "60"
    assert mine.result
    assert not back["volumes"]


def test_the_parameters_of_a_python_op_are_read_from_its_script():
    annotations = {**LEAF["metadata"]["annotations"], "dflow-hpc/op": "{}"}
    source = bootstrap.source({}).replace("{{=toJson(inputs.parameters)}}", json.dumps({"n": "3\n"}))
    leaf = {**LEAF, "metadata": {"annotations": annotations}, "script": {**LEAF["script"], "source": source}}
    back = template.restored(template.bridged(leaf, "far", "ours", "s"), {})
    assert back["inputs"]["parameters"] == [{"name": "n", "value": "3\n"}]


def test_a_machine_with_a_gateway_gets_its_secret_only():
    [made, _] = lower(_manifest(), {"far": FAR}, gateways={"far"})["spec"]["templates"]
    assert made["volumes"][0]["secret"]["secretName"] == "dflow-hpc-gateway-far"


def test_this_host_is_an_ordinary_pod():
    here = {"far": Machine("far")}
    assert lower(_manifest(), here)["spec"]["templates"][0] == LEAF
    assert bridges(_manifest(), here) == []
    assert bridges(_manifest(), {"far": FAR}) == ["far"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sidecars": [{"name": "s"}]}, "it has sidecars"),
        ({"script": {**LEAF["script"], "envFrom": [{"secretRef": {"name": "s"}}]}}, "it has envFrom"),
        ({"script": None, "resource": {"action": "get"}}, "it has resource"),
    ],
)
def test_what_cannot_run_on_a_machine_is_refused(changes, says):
    with pytest.raises(EngineError, match=says):
        lower(_manifest(**changes), {"far": FAR})


def test_a_machine_without_a_profile_is_refused():
    with pytest.raises(EngineError, match="no profile"):
        lower(_manifest(), {})


def test_a_leaf_for_a_virtual_node_is_a_pod_that_only_this_one_takes():
    machines = {"far": Machine("far", "slurm", host="h", via="node")}
    manifest = _manifest(nodeSelector={"zone": "a"}, tolerations=[{"key": "k"}])
    made, _ = lower(manifest, machines)["spec"]["templates"]
    assert made["nodeSelector"] == {"zone": "a", "dflow-hpc/machine": "far"}
    assert made["tolerations"][:2] == [{"key": "k"}, {"key": "virtual-kubelet.io/provider", "operator": "Exists"}]
    away = {f"node.kubernetes.io/{name}": ("Exists", "NoExecute") for name in ("not-ready", "unreachable")}
    assert {each["key"]: (each["operator"], each["effect"]) for each in made["tolerations"][2:]} == away  # for ever
    assert {**made, "nodeSelector": 0, "tolerations": 0} == {**LEAF, "nodeSelector": 0, "tolerations": 0}
    node = node_object("n", "far", Capacity(1, 1), "10.0.0.1", 10260)
    assert node["metadata"]["labels"]["dflow-hpc/machine"] == made["nodeSelector"]["dflow-hpc/machine"]
    assert bridges(manifest, machines) == []


@pytest.mark.parametrize(
    ("policy", "expression"),
    [
        ("OnError", '(lastRetry.status == "Error" || !(asInt(lastRetry.exitCode) != 75))'),
        ("OnFailure", '(lastRetry.status == "Failed" && asInt(lastRetry.exitCode) != 75)'),
    ],
)
def test_a_retry_policy_means_what_it_says_although_a_pod_can_only_fail(policy, expression):
    strategy = template.bridged({**LEAF, "retryStrategy": {"limit": 2, "retryPolicy": policy}}, "far", "i", "s")
    assert strategy["retryStrategy"] == {"limit": 2, "retryPolicy": "Always", "expression": expression}


def test_attempts_of_one_node_are_one_leaf_to_who_remembers():
    first, second = (Told("wf", "uid", f"wf[0].a(0:x)({n})", "p", LEAF, False) for n in (0, 1))
    assert first.node != second.node
    assert first.retry == second.retry is not None
    assert first.key == second.key
    assert Told("wf", "uid", "wf[0].a(0:x)", "p", LEAF, False).retry is None


@pytest.mark.parametrize(
    ("record", "code", "text"),
    [
        ({"phase": "Failed", "message": "main: Error (exit code 3): why", "outputs": {"exitCode": "3"}}, 3, "why"),
        ({"phase": "Error", "message": "job 7: NODE_FAIL", "failure": "INFRA"}, 75, "job 7: NODE_FAIL"),
        ({"phase": "Succeeded"}, 0, ""),
    ],
)
def test_what_a_bridge_leaves_for_argo(tmp_path, monkeypatch, capfd, record, code, text):
    monkeypatch.setattr(pod, "_TERMINATION_LOG", tmp_path / "said")
    (tmp_path / "outputs/d").mkdir(parents=True)
    (tmp_path / "outputs/d/f").write_text("x")
    goal = tmp_path / "there/d"
    outputs = {
        "parameters": [{"name": "p", "value": "v", "valueFrom": {"path": str(tmp_path / "there/p")}}],
        "artifacts": [{"name": "d", "path": str(goal)}],
        "result": json.dumps([1]),
    }
    record = {**record, "outputs": {**outputs, **record.get("outputs", {})}}
    assert pod.lay_down(Told("w", "u", "w", "p", LEAF, True), tmp_path, record) == code
    assert (goal / "f").read_text() == "x"
    assert (tmp_path / "there/p").read_text() == "v"
    assert capfd.readouterr().out == "[1]"
    assert text == ((tmp_path / "said").read_text() if code else "")
