"""Pods that are not Argo's, on a virtual node over a real Slurm: what they say is what a real kubelet's pods say."""

import copy
import json
import re
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import at_rig

pytestmark = pytest.mark.rig

IMAGE = {"image": "busybox", "imagePullPolicy": "IfNotPresent"}
NAMES = re.compile(
    r"(bin|\.cas|\.in|\.old|\.batch|\.batch/[a-z2-7]{26}(-\d+)?|\.done|[a-z2-7]{26}|[a-z2-7]{26}/current|"
    r"[a-z2-7]{26}/(claim|attempt|revoked)\.\d+|programs.*|said)"
)
"""What a machine's root may hold, as deep as docs/machines.md says it; below an attempt are the leaf's own files."""


def shell(name, line, **more):
    return {"name": name, **IMAGE, "command": ["sh", "-c"], "args": [line], **more}


def at(path, volume="room", **more):
    return {"volumeMounts": [{"name": volume, "mountPath": path, **more}]}


GIVEN = [
    {"kind": "ConfigMap", "metadata": {"name": "given"}, "data": {"greeting": "hello"}},
    {"kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"key": "hush-hush"}},
]
ROOM = [{"name": "room", "emptyDir": {}}]
PODS = {
    "all": {
        "restartPolicy": "Never",
        "initContainers": [shell("fetch", "cp /conf/greeting /room/a", **at("/room"))],
        "containers": [
            shell(
                "first",
                'until [ -e /room/b ]; do sleep 0.1; done; test "$(cat /room/a /room/b /keys/key)" = "$ALL"',
                env=[
                    {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "given", "key": "greeting"}}},
                    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "key"}}},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['who']"}}},
                    {"name": "ALL", "value": "$(GREETING)$(NAME)$$$(SECRET)"},
                ],
            ),
            shell("second", 'printf "$NAME\\$" >/room/b; echo why >/dev/termination-log; exit 3', **at("/room")),
        ],
        "volumes": [
            *ROOM,
            {"name": "conf", "configMap": {"name": "given"}},
            {"name": "keys", "secret": {"secretName": "hidden"}},
        ],
    },
    "again": {
        "restartPolicy": "OnFailure",
        "containers": [shell("only", "echo x >>/room/n; [ $(wc -l </room/n) -ge 2 ]", **at("/room"))],
        "volumes": ROOM,
    },
    "early": {
        "restartPolicy": "Never",
        "initContainers": [shell("fetch", "exit 5"), shell("never", "true")],
        "containers": [shell("only", "true")],
    },
    "late": {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 8,
        "containers": [shell("only", "trap 'exit 143' TERM; sleep 100 & wait")],
    },
}
PODS["all"]["initContainers"][0]["volumeMounts"].append({"name": "conf", "mountPath": "/conf"})
PODS["all"]["containers"][0]["volumeMounts"] = [*at("/room")["volumeMounts"], {"name": "keys", "mountPath": "/keys"}]
PODS["all"]["containers"][1]["env"] = PODS["all"]["containers"][0]["env"][2:3]


@pytest.fixture(scope="module")
def node(kube_rig, slurm_rig, tmp_path_factory):
    """Have the node of the cluster ``cpu``, and what the pods refer to."""
    cpu = slurm_rig["cpu"]
    cpu.ok(f"rm -rf {cpu.root}/node")  # what earlier tests and versions have left is not looked at
    with at_rig.node(kube_rig, cpu, tmp_path_factory.mktemp("node")):
        items = [{"apiVersion": "v1", **each} for each in GIVEN]
        kube_rig.kubectl("apply", "--filename=-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        yield kube_rig
        for kind in ("pods", "configmap/given", "secret/hidden"):
            kube_rig.kubectl("delete", *kind.split("/"), *(["--all"] if kind == "pods" else []), timeout=90)


def create(kube, name, spec, annotations=None):
    metadata = {"name": name, "labels": {"who": "me"}, "annotations": annotations or {}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(spec)}
    kube.kubectl("create", "--filename=-", text=json.dumps(pod))


def ended(kube, name):
    """Wait for a pod's end; its status."""
    deadline = time.monotonic() + 180
    while (status := shown(kube, name)).get("phase") not in ("Succeeded", "Failed"):
        assert time.monotonic() < deadline, f"pod {name} has not ended: {status}"
        time.sleep(1)
    return status


def shown(kube, name):
    return json.loads(kube.kubectl("get", "pod", name, "--output=json"))["status"]


def told(status):
    """Return what a status says, without what differs between any two runs; a kubelet may have lost the last state."""
    found = {"pod": (status["phase"], status.get("reason"), status.get("message"))}
    for each in [*(status.get("initContainerStatuses") or []), *status["containerStatuses"]]:
        [(kind, state)] = each["state"].items()
        said = (kind, state.get("exitCode"), state.get("reason"), state.get("message"))
        found[each["name"]] = (*said, each["ready"], each["restartCount"])
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    return {**found, "conditions": [conditions[name] for name in ("Initialized", "Ready", "ContainersReady")]}


def test_pods_tell_what_those_of_a_real_kubelet_tell(node):
    for name, spec in PODS.items():
        create(node, f"here-{name}", spec)
        create(node, f"there-{name}", {**spec, **at_rig.there("cpu")})
    for name in PODS:
        here, there = (told(ended(node, f"{where}-{name}")) for where in ("here", "there"))
        assert there == here, name


LEFT = 'find /t""mp /var/t""mp /dev/shm "$HOME" -user "$(id -un)" -mmin -2 ! -type d ! -path "*/.ssh/*"'
SEEN = f"""
exec 2>/dev/null
{{ env | sed 's/=.*//' | grep -E 'ARGO|KUBE'; ls /var/run/secrets /run/secrets; {LEFT}; }} >/dev/termination-log
grep -c . /keys/key >/room/lines
"""


def test_only_what_the_pod_asks_for_reaches_the_machine_and_its_secrets_leave_it(node, slurm_rig):
    cpu = slurm_rig["cpu"]
    root = f"{cpu.root}/node"
    volumes = [*ROOM, {"name": "keys", "secret": {"secretName": "hidden"}}]
    mounts = [*at("/room")["volumeMounts"], *at("/keys", "keys")["volumeMounts"]]
    container = shell("only", SEEN, volumeMounts=mounts)
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes, **at_rig.there("cpu")}
    create(node, "bare", spec)
    status = ended(node, "bare")
    assert status["phase"] == "Succeeded", status
    assert "message" not in status["containerStatuses"][0]["state"]["terminated"]
    names = cpu.ok(f"cd {root} && find . -mindepth 1 -maxdepth 2").splitlines()
    inside = re.compile(r"\./(bin|\.in|\.old|\.done|\.cas)/")
    assert [name for name in names if not inside.match(name) and not NAMES.fullmatch(name[2:])] == []
    assert cpu.ok(f"cat {root}/*/attempt.1/volumes/room/lines | sort -u") == "1"
    assert cpu.ok(f"ls -d {root}/*/attempt.1/private {root}/*/attempt.1/env.sh 2>/dev/null || true") == ""
    assert cpu.ok(f"grep -rlE 'hush-hush|eyJhbGci' {root} || true") == ""


def test_a_token_of_the_api_needs_an_annotation_and_ends_with_the_pod(node, slurm_rig):
    cpu = slurm_rig["cpu"]
    projected = {"sources": [{"serviceAccountToken": {"path": "token", "audience": "somebody"}}]}
    line = "cut -c1-6 /token/token >/dev/termination-log"
    spec = {
        **at_rig.there("cpu"),
        "restartPolicy": "Never",
        "containers": [shell("only", line, **at("/token", "token"))],
        "volumes": [{"name": "token", "projected": projected}],
    }
    create(node, "refused", spec)
    create(node, "allowed", spec, {"dflow-hpc/allow": "service-account-token"})
    status = ended(node, "refused")
    assert (status["phase"], status["reason"]) == ("Failed", "NotOnThisNode")
    assert "dflow-hpc/allow: service-account-token" in status["message"]
    status = ended(node, "allowed")
    assert status["containerStatuses"][0]["state"]["terminated"]["message"].strip() == "eyJhbG"
    assert cpu.ok(f"grep -rl eyJhbG {cpu.root}/node --include=token || true") == ""


def test_a_pod_that_is_deleted_gets_its_grace(node, slurm_rig):
    cpu = slurm_rig["cpu"]
    told = f"{cpu.root}/said"
    line = f"trap 'sleep 1; echo told >>{told}; exit 0' TERM; echo up >{told}; while :; do sleep 0.1; done"
    spec = {**at_rig.there("cpu"), "terminationGracePeriodSeconds": 4, "restartPolicy": "Always"}
    create(node, "deleted", {**spec, "containers": [shell("only", line)]})
    deadline = time.monotonic() + 90
    while cpu.ok(f"cat {cpu.root}/said 2>/dev/null || true") != "up":
        assert time.monotonic() < deadline, shown(node, "deleted")
        time.sleep(0.5)
    node.kubectl("delete", "pod/deleted", timeout=90)
    assert cpu.ok(f"cat {cpu.root}/said") == "up\ntold"
    assert cpu.ok("squeue -h -t running,pending -o %i") == ""
