"""``retry`` and ``resubmit`` beside those of Argo's own command line, which is built for this: hence a campaign."""

import json
import os
import re
import subprocess

import pytest
from rig.fixtures import SECONDS_TO_BUILD, run_ctl

from dflow_hpc.compile import Compiled
from dflow_hpc.engines.argo.status import nodes_of
from dflow_hpc.kube import PODS, WORKFLOWS
from dflow_hpc.manifest.ids import pod_name

pytestmark = pytest.mark.campaign
SECONDS = 900
KIND = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
GOOD = {"name": "good", "container": {"image": "busybox", "command": ["true"]}}
BAD = {"name": "bad", "container": {"image": "busybox", "command": ["false"]}}
TWICE = {"name": "twice", **{key: value for key, value in BAD.items() if key != "name"}, "retryStrategy": {"limit": 1}}
SOME = {
    "name": "some",
    "inputs": {"parameters": [{"name": "n"}]},
    "container": {"image": "busybox", "command": ["sh", "-c", "test {{inputs.parameters.n}} != 2"]},
}
INNER = {"name": "inner", "steps": [[{"name": "a", "template": "good"}], [{"name": "b", "template": "bad"}]]}
LEAVES = [GOOD, BAD, TWICE, SOME, INNER]


def _steps(*groups, **spec):
    steps = [[{"name": f"{name}-{n}-{m}", "template": name} for m, name in enumerate(g)] for n, g in enumerate(groups)]
    return {"templates": [*LEAVES, {"name": "main", "steps": steps}], **spec}


def _dag(tasks, **spec):
    tasks = [{"name": name, "template": template, "depends": depends} for name, template, depends in tasks]
    return {"templates": [*LEAVES, {"name": "main", "dag": {"tasks": tasks}}], **spec}


def _loop():
    arguments = {"parameters": [{"name": "n", "value": "{{item}}"}]}
    step = {"name": "loop", "template": "some", "arguments": arguments, "withItems": [1, 2, 3]}
    return {"templates": [*LEAVES, {"name": "main", "steps": [[step], [{"name": "after", "template": "good"}]]}]}


FAILING = {
    "step": _steps(["good"], ["bad", "good"], ["good"]),
    "nested": _steps(["inner", "good"], ["good"]),
    "attempts": _steps(["twice", "good"]),
    "loop": _loop(),
    "diamond": _dag([("a", "good", ""), ("b", "bad", "a"), ("c", "good", "a"), ("d", "good", "b && c")]),
    "nested-in-dag": _dag([("a", "inner", ""), ("b", "good", ""), ("c", "good", "a")]),
    "goes-on": _dag([("a", "bad", ""), ("b", "good", "a.Failed"), ("c", "bad", "b")]),
    "exit": _steps(["good"], ["bad"], onExit="good"),
    "exit-steps": _steps(["bad"], onExit="inner"),
    "leaf": {"templates": LEAVES, "entrypoint": "bad"},
}


def _submit(argo, name, spec):
    return argo.submit(
        Compiled({**KIND, "metadata": {"generateName": f"{name}-"}, "spec": {"entrypoint": "main", **spec}})
    )


@pytest.fixture
def cli(kube_rig):
    """Call Argo's own command line."""
    program = run_ctl("cli", rig="kube", timeout=SECONDS_TO_BUILD)

    def call(*words):
        environment = {**os.environ, "KUBECONFIG": kube_rig.kubeconfig}
        command = [program, *words, "--namespace=argo"]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    return call


def _left(argo, name, ended):
    """Return what the controller goes on from: the tree, what was begun anew after the end, which pods there are."""
    workflow = argo.cluster.get(WORKFLOWS, name)
    status, labels = workflow["status"], workflow["metadata"]["labels"]
    kept = ("type", "phase", "message", "children", "outboundNodes")
    found = argo.cluster.list(PODS, labels=f"workflows.argoproj.io/workflow={name}", brief=True)
    return {
        **{
            node["name"]: {key: node[key] for key in kept if node.get(key)} | {"anew": node["startedAt"] > ended}
            for node in nodes_of(workflow).values()
        },
        "status": {key: status.get(key) or None for key in ("phase", "message", "finishedAt")},
        "anew": status["startedAt"] > ended,
        "labels": {key: value for key, value in labels.items() if "argoproj" in key},
        "pods": sorted(pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]),
    }


def _pods_of(workflow):
    """Return the pods of which a tree has nodes."""
    pods = [node for node in nodes_of(workflow).values() if node["type"] == "Pod"]
    return sorted(pod_name(workflow["metadata"]["name"], node["name"], node.get("templateName", "")) for node in pods)


def test_retry_leaves_what_argos_own_leaves(argo, cli, kube_faults):
    runs = {case: _submit(argo, case, {"serviceAccountName": "argo", **spec}) for case, spec in FAILING.items()}
    for name in runs.values():
        assert argo.wait(name, SECONDS) == "Failed"
    kube_faults.ctl("stop", "argo")  # what is left is looked at before the controller goes on
    wrong = {}
    for case, name in runs.items():
        failed = argo.cluster.get(WORKFLOWS, name)
        ended = failed["status"]["finishedAt"]
        cli("retry", name)
        theirs = _left(argo, name, ended)
        changed = argo.cluster.get(WORKFLOWS, name)
        failed["metadata"]["resourceVersion"] = changed["metadata"]["resourceVersion"]
        argo.cluster.replace(WORKFLOWS, failed)
        argo.retry(name)
        ours = _left(argo, name, ended)
        assert ours["pods"] == _pods_of(argo.cluster.get(WORKFLOWS, name))
        parts = {*ours, *theirs}
        wrong[case] = {each: (ours.get(each), theirs.get(each)) for each in parts if ours.get(each) != theirs.get(each)}
    assert {case: parts for case, parts in wrong.items() if parts} == {}
    kube_faults.ctl("start", "argo")
    assert {argo.wait(name, SECONDS) for name in runs.values()} == {"Failed"}


def test_resubmit_makes_what_argos_own_makes(argo, cli, kube_rig):
    name = _submit(argo, "again", _steps(["good"], ["bad"], serviceAccountName="argo"))
    assert argo.wait(name, SECONDS) == "Failed"
    ours = argo.cluster.get(WORKFLOWS, argo.resubmit(name))
    theirs = json.loads(cli("resubmit", name, "--output=json"))
    assert ours["spec"] == theirs["spec"]
    kept = [
        {k: v for k, v in one["metadata"]["labels"].items() if "resubmitted" in k or "argoproj" not in k}
        for one in (ours, theirs)
    ]
    assert kept[0] == kept[1]
    assert re.fullmatch(r"again-[a-z0-9-]+", ours["metadata"]["name"])
