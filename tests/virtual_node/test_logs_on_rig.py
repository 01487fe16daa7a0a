"""A real API server asks a node for logs and commands; a real Argo stops what runs there."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from test_on_rig import THERE, ended, node, shell, submit, tree  # noqa: F401  a fixture among them

from dflow_hpc.config import config
from dflow_hpc.kube import Cluster, connect
from dflow_hpc.virtual_node.serving import Serving, Signing, own

pytestmark = pytest.mark.rig

WAITS = "echo one; until [ -e {go} ]; do sleep 0.2; done; echo two"


def pod(kube, name, line):
    container = {"name": "only", "image": "busybox", "command": ["sh", "-c", line]}
    spec = {**THERE, "restartPolicy": "Never", "containers": [container]}
    content = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    kube.kubectl("create", "--filename=-", text=json.dumps(content))
    kube.kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Running", "--timeout=90s", timeout=120)


def test_logs_and_commands_reach_a_job(kube_rig, slurm_rig, node):  # noqa: F811
    cluster = slurm_rig["cpu"]
    go = f"{cluster.root}/go"
    cluster.ok(f"mkdir -p {cluster.root}; rm -f {go}")
    node()
    pod(kube_rig, "talks", WAITS.format(go=go))
    where = (f"--kubeconfig={kube_rig.kubeconfig}", f"--namespace={kube_rig.namespace}")
    follow = [kube_rig.kubectl_program, *where, "logs", "--follow", "pod/talks"]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout.readline() == "one\n"
        job = kube_rig.kubectl("exec", "pod/talks", "--", "sh", "-c", "echo $SLURM_JOB_ID; pwd; exit 0").split()
        assert cluster.ok("squeue -h -t running -o %i").split() == job[:1]
        assert job[1].endswith("/workdir")
        assert kube_rig.kubectl("exec", "-i", "pod/talks", "--", "cat", text="for it") == "for it"
        assert kube_rig.kubectl("exec", "pod/talks", "--", "false", check=False) == ""
        cluster.ok(f"touch {go}")
        assert following.stdout.read() == "two\n"
    kube_rig.kubectl("wait", "pod/talks", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s", timeout=120)
    assert kube_rig.kubectl("logs", "pod/talks") == "one\ntwo\n"
    assert kube_rig.kubectl("logs", "pod/talks", "--tail=1", "--timestamps").split()[1] == "two"
    raw = "/api/v1/nodes/dflow-cpu/proxy"
    assert 'dflow_node_pods{phase="Succeeded"} 1' in kube_rig.kubectl("get", "--raw", f"{raw}/metrics").splitlines()
    assert kube_rig.kubectl("get", "--raw", f"{raw}/healthz") == "ok"
    kube_rig.kubectl("delete", "pod/talks", timeout=90)


def test_argo_ends_a_step_that_runs(kube_rig, slurm_rig, node):  # noqa: F811
    """The messages are Argo's for a pod that runs; it has others for one that is not that far."""
    node()
    cases = {
        "stop": ({}, "workflow shutdown with strategy:  Stop"),
        "terminate": ({}, "workflow shutdown with strategy:  Terminate"),
        "limit": ({"activeDeadlineSeconds": 5}, "Pod was active on the node longer than the specified deadline"),
    }
    for name, (more, _) in cases.items():
        templates = [shell("main", "sleep 300", **more), shell("bye", "echo bye")]
        submit(kube_rig, name, templates, {"onExit": "bye", **THERE})
    for name in ("stop", "terminate"):
        selector = f"--selector=workflows.argoproj.io/workflow={name}"
        wait = ("--for=jsonpath={.status.phase}=Running", "--timeout=90s")
        kube_rig.kubectl("wait", "pod", selector, *wait, timeout=120)
        change = json.dumps({"spec": {"shutdown": name.capitalize()}})
        kube_rig.kubectl("patch", "workflow", name, "--type=merge", f"--patch={change}")
    for name, (_, message) in cases.items():
        phase, nodes = tree(ended(kube_rig, name))
        assert phase == "Failed"
        assert nodes["WF"][1:3] == ["Failed", message]
        assert nodes.get("WF.onExit", [None, None])[1] == (None if name == "terminate" else "Succeeded")
    deadline = time.monotonic() + 60
    while slurm_rig["cpu"].ok("squeue -h -t running,pending -o %i"):
        assert time.monotonic() < deadline, "the jobs go on"
        time.sleep(0.5)


def test_the_cluster_signs_the_nodes_certificate(kube_rig, tmp_path, monkeypatch):
    monkeypatch.setitem(config, "k8s_config_file", kube_rig.kubeconfig)
    cluster, said = Cluster(connect(namespace=kube_rig.namespace).connection, ""), []
    certificate, key = own(tmp_path, "dflow-signed", "127.0.0.1")
    signing = Signing(tmp_path, "dflow-signed", "127.0.0.1", cluster, said.append)
    assert signing.once() < 10  # asked, not answered
    name = said[0].split()[-1]
    try:
        assert "kubectl certificate approve" in said[0]
        kube_rig.kubectl("certificate", "approve", name)
        kube_rig.kubectl("wait", f"csr/{name}", "--for=jsonpath={.status.certificate}", "--timeout=60s", timeout=90)
        assert signing.once() < 10  # taken
        assert signing.once() > 3600
    finally:
        kube_rig.kubectl("delete", f"csr/{name}")
    authority = Path(kube_rig.kubeconfig).parent / "pki/ca.crt"
    subprocess.run(["openssl", "verify", "-CAfile", authority, certificate], check=True, capture_output=True)
    assert own(tmp_path, "dflow-signed", "127.0.0.1") == (certificate, key)
    subprocess.run(["openssl", "verify", "-CAfile", authority, certificate], check=True, capture_output=True)
    Serving(certificate, key, None).context()


def _apply(kube, manifests, *words):
    by_namespace = {}
    for each in manifests:
        by_namespace.setdefault(each["metadata"].get("namespace", "argo"), []).append(each)
    for namespace, items in by_namespace.items():
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        kube.kubectl(*words, f"--namespace={namespace}", "--filename=-", text=text)


def test_the_rights_of_the_manifests_are_enough(kube_rig, slurm_rig, node):  # noqa: F811
    manifests = list(yaml.safe_load_all((Path(__file__).parents[2] / "docs/deploy/node.yaml").read_text()))
    rights = [each for each in manifests if each["kind"] not in ("Deployment", "PersistentVolumeClaim")]
    _apply(kube_rig, manifests, "create", "--dry-run=server")
    _apply(kube_rig, rights, "apply")
    try:
        token = kube_rig.kubectl("create", "token", "dflow-hpc-node-cpu").strip()
        ca = Path(kube_rig.kubeconfig).parent / "pki/ca.crt"
        node(DFLOW_K8S_API_SERVER=kube_rig.server, DFLOW_TOKEN=token, DFLOW_K8S_CA_FILE=str(ca))
        go = f"{slurm_rig['cpu'].root}/go"
        slurm_rig["cpu"].ok(f"mkdir -p {slurm_rig['cpu'].root}; rm -f {go}")
        line = f"echo hello; echo 1/2 > $ARGO_PROGRESS_FILE; until [ -e {go} ]; do sleep 0.2; done"
        submit(kube_rig, "kept", [shell("main", line)], {"archiveLogs": True, **THERE})
        kube_rig.kubectl(
            "wait", "workflow/kept", "--for=jsonpath={.status.nodes.kept.progress}=1/2", "--timeout=90s", timeout=120
        )
        slurm_rig["cpu"].ok(f"touch {go}")
        workflow = ended(kube_rig, "kept")
        assert workflow["status"]["phase"] == "Succeeded"
        (leaf,) = workflow["status"]["nodes"].values()
        assert leaf["progress"] == "2/2"  # so Argo has it of one that has succeeded
        assert [artifact["name"] for artifact in leaf["outputs"]["artifacts"]] == ["main-logs"]
        selector = "--selector=workflows.argoproj.io/workflow=kept"
        assert kube_rig.kubectl("logs", selector, "--container=main") == "hello\n"
        kube_rig.kubectl("delete", "pod", selector, timeout=90)
    finally:
        _apply(kube_rig, rights, "delete")
