"""Large workflows on a real Argo, with pods that run nothing: 5,000 steps of their own, and a fan-out of 2,000."""

import json
import time

import pytest
from rig.hollow import PLACE, hollow_node

from dflow_hpc.compile import Compiled
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.kube import WORKFLOWS, connect

pytestmark = pytest.mark.campaign
SECONDS = 3600
LEAF = {
    "name": "square-0123456789",
    "inputs": {"parameters": [{"name": "n", "description": '{"type": "int"}'}]},
    "outputs": {"parameters": [{"name": "square", "valueFrom": {"path": "/square"}, "description": '{"type": "int"}'}]},
    "container": {"image": "busybox", "command": ["true"]},
    **PLACE,
}


@pytest.fixture
def engine(kube_rig):
    return ArgoEngine(cluster=connect(k8s_config_file=kube_rig.kubeconfig, namespace="argo"), say=print)


def _workflow(steps):
    spec = {"entrypoint": "main", "templates": [LEAF, {"name": "main", "steps": [steps]}]}
    spec |= {"podGC": {"strategy": "OnPodCompletion"}, "serviceAccountName": "argo", "parallelism": 240}
    kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
    return Compiled({**kind, "metadata": {"generateName": "large-"}, "spec": spec})


def _step(name, **more):
    return {"name": name, "template": LEAF["name"], **more}


def _run(engine, steps):
    """Run it; its node tree, and how many requests the submission took."""
    before, began = engine.cluster.connection.sent, time.monotonic()
    name = engine.submit(_workflow(steps))
    sent, submitted = engine.cluster.connection.sent - before, time.monotonic() - began
    with hollow_node(engine.cluster):
        phase = engine.wait(name, SECONDS)
    took = time.monotonic() - began
    workflow = engine.query(name)
    nodes = workflow["status"]["nodes"]
    size = len(json.dumps(engine.cluster.get(WORKFLOWS, name)))
    print(f"{name}: {phase}; {sent} requests and {submitted:.1f} s to submit, {took:.0f} s in all, {size} bytes")
    assert phase == "Succeeded", workflow["status"].get("message")
    engine.delete(name)
    return nodes, sent


def test_five_thousand_steps_run_in_a_few_pieces(engine):
    steps = [_step(f"square-{n}", arguments={"parameters": [{"name": "n", "value": str(n)}]}) for n in range(5000)]
    nodes, sent = _run(engine, steps)
    done = {node["displayName"] for node in nodes.values() if node["phase"] == "Succeeded"}
    assert {step["name"] for step in steps} <= done
    pieces = sum(name.startswith("dflow-piece-") for name in done)
    assert pieces > 0
    assert sent == 1 + pieces


def test_a_fan_out_of_two_thousand_is_one_request(engine):
    arguments = {"parameters": [{"name": "n", "value": "{{item}}"}]}
    nodes, sent = _run(engine, [_step("square", arguments=arguments, withSequence={"count": "2000"})])
    assert sum(node["type"] == "Pod" and node["phase"] == "Succeeded" for node in nodes.values()) == 2000
    assert sent == 1
