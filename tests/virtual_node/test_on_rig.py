"""A real Slurm cluster is a node of a real Kubernetes: Argo's leaves run there, and the trees are a kubelet's."""

import copy
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import at_rig

pytestmark = pytest.mark.rig

NODE = "dflow-cpu"
THERE = at_rig.there("cpu")


def shell(name, line, **more):
    return {
        "name": name,
        "container": {"image": "busybox", "command": ["sh", "-c"], "args": [line], "imagePullPolicy": "IfNotPresent"},
        **more,
    }


def steps(*names, **arguments):
    return [
        [{"name": name, "template": name, **({"arguments": arguments[name]} if name in arguments else {})}]
        for name in names
    ]


WORKFLOWS = {
    "hello": [shell("main", "echo hello world")],
    "artifacts": [
        {"name": "main", "steps": steps(
            "make", "take",
            take={"artifacts": [{"name": "message", "from": "{{steps.make.outputs.artifacts.hello}}"}]},
        )},
        shell("make", "echo hello | tee /tmp/hello.txt",
              outputs={"artifacts": [{"name": "hello", "path": "/tmp/hello.txt"}]}),
        shell("take", "grep hello /tmp/message",
              inputs={"artifacts": [{"name": "message", "path": "/tmp/message"}]}),
    ],
    "parameters": [
        {"name": "main", "steps": steps(
            "make", "take",
            take={"parameters": [{"name": "message", "value": "{{steps.make.outputs.parameters.hello}}"}]},
        )},
        shell("make", "sleep 1; echo -n hello world > /tmp/hello.txt",
              outputs={"parameters": [{"name": "hello", "valueFrom": {"path": "/tmp/hello.txt"}}]}),
        shell("take", 'test "{{inputs.parameters.message}}" = "hello world"',
              inputs={"parameters": [{"name": "message"}]}),
    ],
    "code": [shell("main", "exit 3")],
    "retries": [shell("main", "exit 1", retryStrategy={"limit": 1})],
    "missing": [shell("main", "true", outputs={"parameters": [{"name": "x", "valueFrom": {"path": "/tmp/none"}}]})],
}  # fmt: skip


@pytest.fixture
def node(kube_rig, slurm_rig, tmp_path):
    """Give a function that starts the node's process; it returns when the node is there."""
    cpu = slurm_rig["cpu"]
    profile = cpu.profile(root=cpu.root, more='transport = "openssh"', memory="64MB")
    words, environment = at_rig.command(kube_rig, tmp_path, profile, "cpu", address=at_rig.address(kube_rig))
    started = []

    def start(**variables):
        with (tmp_path / "node.log").open("a") as log:
            process = subprocess.Popen(words, env={**environment, **variables}, stdout=log, stderr=log)
        started.append(process)
        at_rig.ready(kube_rig, NODE)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(60)
    kube_rig.kubectl("delete", "workflows", "--all", timeout=120)
    kube_rig.kubectl("delete", f"node/{NODE}", "--ignore-not-found")
    print((tmp_path / "node.log").read_text())


def submit(kube, name, templates, where):
    spec = {"entrypoint": "main", "templates": copy.deepcopy(templates), "serviceAccountName": "argo", **where}
    manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}
    kube.kubectl("create", "--filename=-", text=json.dumps(manifest))


def ended(kube, name):
    kube.kubectl(*("wait", f"workflow/{name}", "--for=condition=Completed", "--timeout=180s"), timeout=200)
    return json.loads(kube.kubectl("get", "workflow", name, "--output=json"))


def tree(workflow):
    """Return the nodes by name, without what differs between any two runs."""
    name = workflow["metadata"]["name"]
    found = {}
    for node in workflow["status"]["nodes"].values():
        outputs = json.loads(json.dumps(node.get("outputs", {})).replace(name, "WF"))
        for artifact in outputs.get("artifacts", []):
            artifact["s3"]["key"] = re.sub(r"-\d+/", "-N/", artifact["s3"]["key"])
        kept = [node["type"], node["phase"], node.get("message", "").replace(name, "WF"), outputs]
        found[node["name"].replace(name, "WF")] = kept
    return workflow["status"]["phase"], found


def test_trees_are_those_of_a_real_kubelet(kube_rig, node):
    node()
    for name, templates in WORKFLOWS.items():
        submit(kube_rig, f"here-{name}", templates, {})
        submit(kube_rig, f"there-{name}", templates, THERE)
    for name in WORKFLOWS:
        there, here = (tree(ended(kube_rig, f"{where}-{name}")) for where in ("there", "here"))
        assert there == here, name
        assert there[0] == ("Failed" if name in ("code", "retries") else "Error" if name == "missing" else "Succeeded")


def test_a_node_that_is_killed_takes_its_jobs_over(kube_rig, slurm_rig, node):
    count = "ls -d {}/*/attempt.* 2>/dev/null | wc -l".format(slurm_rig["cpu"].root)
    before = int(slurm_rig["cpu"].ok(count))
    process = node()
    submit(kube_rig, "long", [shell("main", "sleep 12; echo done")], THERE)
    deadline = time.monotonic() + 60
    while not slurm_rig["cpu"].ok("squeue -h -t running -o %i"):
        assert time.monotonic() < deadline, "no job runs"
        time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    node()
    assert ended(kube_rig, "long")["status"]["phase"] == "Succeeded"
    assert int(slurm_rig["cpu"].ok(count)) == before + 1


def test_a_pod_that_is_deleted_ends_its_job(kube_rig, slurm_rig, node):
    node()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "plain"},
        "spec": {
            **THERE,
            "restartPolicy": "Never",
            "containers": [{"name": "only", "image": "busybox", "command": ["sleep", "300"]}],
        },
    }
    kube_rig.kubectl("create", "--filename=-", text=json.dumps(pod))
    kube_rig.kubectl("wait", "pod/plain", "--for=jsonpath={.status.phase}=Running", "--timeout=60s", timeout=90)
    kube_rig.kubectl("delete", "pod/plain", timeout=90)
    assert slurm_rig["cpu"].ok("squeue -h -t running,pending -o %i") == ""
