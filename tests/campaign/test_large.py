"""Large workflows on a real Argo, with pods that run nothing: 5,000 steps of their own, and a fan-out of 2,000.

What a submission and a run take is printed (``pytest -s``).
"""

import json
import sys
import time
from pathlib import Path

import pytest
from rig.hollow import hollow_node, step, workflow

from dflow_hpc import PythonOPTemplate, Slices, Step, Workflow, argo_range
from dflow_hpc.compile.compiler import compile_workflow
from dflow_hpc.engines.argo import repository
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.kube import WORKFLOWS, connect

sys.path.insert(0, str(Path(__file__).parent))
import noting

pytestmark = pytest.mark.campaign
SECONDS = 4 * 3600  # minutes on an idle machine


@pytest.fixture
def engine(kube_rig):
    return ArgoEngine(cluster=connect(k8s_config_file=kube_rig.kubeconfig, namespace="argo"), say=print)


def _run(engine, steps):
    """Run it; its node tree, and how many requests the submission took."""
    before, began = engine.cluster.connection.sent, time.monotonic()
    name = engine.submit(workflow(steps))
    sent, submitted = engine.cluster.connection.sent - before, time.monotonic() - began
    with hollow_node(engine.cluster):
        phase = engine.wait(name, SECONDS)
    took = time.monotonic() - began
    status = engine.query(name)["status"]
    size = len(json.dumps(engine.cluster.get(WORKFLOWS, name)))
    print(f"{name}: {phase}; {sent} requests and {submitted:.1f} s to submit, {took:.0f} s in all, {size} bytes")
    assert phase == "Succeeded", status.get("message")
    engine.delete(name)
    return status["nodes"], sent


def test_five_thousand_steps_run_in_a_few_pieces(engine):
    steps = [step(f"square-{n}", str(n)) for n in range(5000)]
    nodes, sent = _run(engine, steps)
    done = {node["displayName"] for node in nodes.values() if node["phase"] == "Succeeded"}
    assert {each["name"] for each in steps} <= done
    pieces = sum(name.startswith("dflow-piece-") for name in done)
    assert pieces > 0
    assert sent == 1 + pieces


def test_a_fan_out_of_two_thousand_is_one_request(engine):
    nodes, sent = _run(engine, [step("square", "{{item}}", withSequence={"count": "2000"})])
    assert sum(node["type"] == "Pod" and node["phase"] == "Succeeded" for node in nodes.values()) == 2000
    assert sent == 1


def test_a_fan_out_of_ops_is_one_request_when_the_repository_is_known(engine):
    repository.settings(engine.cluster)
    many = PythonOPTemplate(noting.note, slices=Slices(input_parameter=["n"], output_parameter=["m"]))
    made = Workflow("fan")
    made.add(Step("many", many, parameters={"n": list(range(2000)), "ledger": ""}, with_param=argo_range(2000)))
    began = time.monotonic()
    compiled = compile_workflow(made)
    compiled.manifest["spec"]["suspend"] = True  # nothing of it is to run
    before, ready = engine.cluster.connection.sent, time.monotonic()
    name = engine.submit(compiled)
    print(f"{name}: {ready - began:.2f} s to compile, {time.monotonic() - ready:.2f} s to submit")
    assert engine.cluster.connection.sent - before == 1
    engine.delete(name)
