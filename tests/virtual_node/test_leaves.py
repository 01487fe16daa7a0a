"""A pod is read as a kubelet would: variables, volumes, resources; and refused at once where this node cannot."""

import base64
import json
import stat
import subprocess

import pytest

from dflow_hpc.engines.local.work import containers
from dflow_hpc.engines.local.work.environment import expand
from dflow_hpc.engines.local.work.views import files_of
from dflow_hpc.executors.profiles.machine import Machine, Resources
from dflow_hpc.executors.protocol import leaf_files
from dflow_hpc.kube import NotFound
from dflow_hpc.virtual_node import leaves
from dflow_hpc.virtual_node.node import Capacity
from dflow_hpc.virtual_node.resources import quantity
from dflow_hpc.virtual_node.sources import Refused

MACHINE = Machine("cpu", resources=Resources(memory="64MB", time="5m"))
THERE = Capacity(cpus=8, memory=1 << 30, gpus=2)


def encoded(**values):
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


class Objects:
    """The ConfigMaps and Secrets of a namespace."""

    found = {
        ("ConfigMap", "settings"): {"data": {"color": "red $(HOME)", "a.b": "x"}, "binaryData": encoded(raw="\x01")},
        ("Secret", "keys"): {"data": encoded(password="pa$$word", id_rsa="key")},
        ("Secret", "api"): {"type": "kubernetes.io/service-account-token", "data": encoded(token="t")},
    }

    def get(self, kind, name):
        if (kind.kind, name) not in self.found:
            raise NotFound(f"there is no {name}")
        return self.found[kind.kind, name]

    def token(self, account, spec):
        return f"token of {account} for {spec['audiences'][0]}"


def pod(container=None, annotations=None, **spec):
    return {
        "metadata": {
            "name": "p",
            "namespace": "ns",
            "uid": "u1",
            "labels": {"b": "2", "a": 'say "hi"'},
            "annotations": annotations or {},
        },
        "spec": {
            "restartPolicy": "Never",
            "nodeName": "dflow-cpu",
            "serviceAccountName": "robot",
            "containers": [{"name": "only", "image": "busybox", "command": ["true"], **(container or {})}],
            **spec,
        },
    }


def read(*given, **spec):
    return leaves.read(pod(*given, **spec), Objects(), MACHINE, THERE)


def only(leaf):
    (container,) = leaf.template["containerSet"]["containers"]
    return container


def environment(env, **container):
    found = {}
    for variable in only(read({"env": env, **container}))["env"]:
        found[variable["name"]] = expand(variable["value"], found)
    return found


def test_variables_come_from_everywhere_and_are_expanded_as_a_kubelet_does():
    env = [
        {"name": "PLAIN", "value": "$(password) $$(PLAIN) $(NONE) $5 $$"},
        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
        {"name": "NOT", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": True}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['b']"}}},
        {"name": "MILLI", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
        {"name": "MIB", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "LAST", "value": "$(POD)-$(COLOR)"},
    ]
    found = environment(
        env,
        envFrom=[{"secretRef": {"name": "keys"}}, {"prefix": "S_", "configMapRef": {"name": "settings"}}],
        resources={"requests": {"cpu": "1500m"}},
    )
    assert found == {
        "password": "pa$$word",
        "id_rsa": "key",
        "S_color": "red $(HOME)",
        "S_raw": "\x01",
        "PLAIN": "pa$$word $(PLAIN) $(NONE) $5 $",
        "COLOR": "red $(HOME)",
        "POD": "p",
        "LABEL": "2",
        "MILLI": "1500",
        "MIB": "64",
        "LAST": "p-red $(HOME)",
    }


VOLUMES = [
    {"name": "all", "configMap": {"name": "settings"}},
    {"name": "some", "secret": {"secretName": "keys", "items": [{"key": "id_rsa", "path": "ssh/id", "mode": 0o400}]}},
    {"name": "away", "configMap": {"name": "none", "optional": True}},
    {"name": "me", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    {
        "name": "both",
        "projected": {
            "sources": [
                {"configMap": {"name": "settings", "items": [{"key": "a.b", "path": "ab", "mode": 0o755}]}},
                {"secret": {"name": "keys", "items": [{"key": "none", "path": "n"}], "optional": True}},
                {"serviceAccountToken": {"path": "token", "audience": "vault"}},
            ]
        },
    },
    {"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    {"name": "room", "emptyDir": {"medium": "Memory"}},
]


def test_volumes_of_files_have_their_items_and_modes_and_no_default_token_goes_along():
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in VOLUMES]
    leaf = read({"volumeMounts": mounts}, {"dflow-hpc/allow": "service-account-token"}, volumes=VOLUMES)
    files = {
        path.removeprefix("private/volumes/"): (file["mode"], base64.b64decode(file["data"]))
        for path, file in files_of(leaf.template).items()
    }
    assert files == {
        "all/color": (0o600, b"red $(HOME)"),
        "all/a.b": (0o600, b"x"),
        "all/raw": (0o600, b"\x01"),
        "some/ssh/id": (0o400, b"key"),
        "me/labels": (0o600, b'a="say \\"hi\\""\nb="2"'),
        "both/ab": (0o700, b"x"),
        "both/token": (0o600, b"token of robot for vault"),
    }
    assert [volume["name"] for volume in leaf.template["volumes"]] == ["all", "some", "away", "me", "both", "room"]
    assert [mount["name"] for mount in only(leaf)["volumeMounts"]][-1] == "room"


def test_files_get_their_modes_on_the_machine_and_stay_out_of_its_notes(tmp_path):
    given = {"private/volumes/some/id": {"mode": 0o400, "data": base64.b64encode(b"key").decode()}}
    program = {"words": ["true"], "files": given}
    files = leaf_files(program, here=tmp_path, there=str(tmp_path), scripts="/none")
    assert b"key" not in files["spec.json"] + files["leaf.sh"]
    assert "a2V5" not in files["spec.json"].decode()
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    subprocess.run(
        ["sh", "leaf.sh"], cwd=tmp_path, env={"DFH_LEAF": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True
    )
    assert stat.S_IMODE((tmp_path / "private/volumes/some/id").stat().st_mode) == 0o400


def test_a_mount_may_be_a_part_of_a_volume_that_a_variable_names():
    leaf = read(
        {
            "env": [{"name": "WHO", "value": "me"}],
            "volumeMounts": [{"name": "room", "mountPath": "/room", "subPathExpr": "of/$(WHO)"}],
        },
        volumes=VOLUMES,
    )
    assert only(leaf)["volumeMounts"][0]["subPath"] == "of/me"


def test_all_containers_are_taken_with_what_is_said_of_the_pod():
    leaf = read(
        {"resources": {"limits": {"cpu": "2", "memory": "100Mi"}}},
        initContainers=[
            {"name": "fetch", "command": ["sh", "--", "x"], "resources": {"limits": {"cpu": "4"}}},
            {"name": "beside", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1500m"}}},
        ],
        restartPolicy="OnFailure",
        terminationGracePeriodSeconds=5,
    )
    assert [(each.kind, each.name) for each in containers.members(leaf.template)] == [
        ("init", "fetch"),
        ("helper", "beside"),
        ("main", "only"),
    ]
    assert leaf.template["initContainers"][0]["command"] == ["sh", "--", "x"]
    assert (leaf.template["restartPolicy"], leaf.template["terminationGracePeriodSeconds"]) == ("OnFailure", 5)
    assert (leaf.resources.cpus, leaf.resources.memory) == (4, "100MB")


def argo(template, *more):
    made = pod(annotations={"workflows.argoproj.io/node-id": "wf-1"})
    made["metadata"]["labels"] = {"workflows.argoproj.io/workflow": "wf"}
    given = [{"name": "ARGO_TEMPLATE", "value": json.dumps(template)}]
    wrapper = ["/var/run/argo/argoexec", "emissary", "--"]
    made["spec"]["initContainers"] = [{"name": "init", "env": given}, {"name": "early", "command": ["true"]}]
    made["spec"]["containers"] = [{"name": "wait"}, *({"name": name, "command": [*wrapper, name]} for name in more)]
    return leaves.read(made, Objects(), MACHINE, THERE).template


def test_a_pod_of_argo_has_its_own_init_containers_sidecars_and_container_sets():
    found = argo({"name": "t", "script": {"command": ["main"], "source": "x"}}, "main", "side")
    assert [(each.kind, each.name, each.container["command"]) for each in containers.members(found)] == [
        ("init", "early", ["true"]),
        ("main", "main", ["main"]),
        ("sidecar", "side", ["side"]),
    ]
    group = {"containers": [{"name": "a"}, {"name": "b", "dependencies": ["a"]}], "retryStrategy": {"retries": 2}}
    found = containers.members(argo({"name": "t", "containerSet": group}, "a", "b"))
    assert [(each.name, each.tries, each.needs) for each in found[1:]] == [("a", 2, ()), ("b", 2, ("a",))]


def test_paths_of_artifacts_are_told_as_argo_tells_them():
    outputs = {"artifacts": [{"name": "a", "path": "/tmp//x/"}], "parameters": [{"name": "p"}]}
    found = argo({"name": "t", "container": {}, "outputs": outputs}, "main")["outputs"]
    assert found == {"artifacts": [{"name": "a", "path": "/tmp/x"}], "parameters": [{"name": "p"}]}


def test_resources_are_limits_or_requests_then_the_annotation():
    asked = {"requests": {"cpu": "1500m", "memory": "100Mi"}, "limits": {"memory": "0.2Gi", "nvidia.com/gpu": "1"}}
    annotations = {"dflow-hpc/resources": '{"queue": "long", "cpus": 3}'}
    found = read({"resources": asked}, annotations, activeDeadlineSeconds=90).resources
    assert found == Resources(queue="long", cpus=3, memory="205MB", gpus=1, time="150s")


@pytest.mark.parametrize(("text", "value"), [("2", 2), ("1500m", 1.5), ("1Gi", 2**30), ("1e3", 1000), ("2k", 2000)])
def test_amounts_of_kubernetes(text, value):
    assert quantity(text) == value


@pytest.mark.parametrize(
    ("container", "spec", "why"),
    [
        ({"resources": {"limits": {"cpu": "9"}}}, {}, "cpu 9; the whole node has 8"),
        ({"resources": {"limits": {"memory": "2Gi"}}}, {}, "memory 2147483648"),
        ({"resources": {"limits": {"amd.com/gpu": "1"}}}, {}, r"amd\.com/gpu"),
        ({"ports": [{"containerPort": 80}]}, {}, "has ports"),
        ({"livenessProbe": {"exec": {"command": ["true"]}}}, {}, "livenessProbe"),
        ({"securityContext": {"privileged": True}}, {}, "privileged"),
        ({"env": [{"name": "a.b", "value": "x"}]}, {}, r"variable 'a\.b'"),
        ({"env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}, {}, "no address"),
        (
            {"env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "api", "key": "token"}}}]},
            {},
            "dflow-hpc/allow",
        ),
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, {}, "ConfigMap 'none'"),
        ({}, {"volumes": [{"name": "v", "hostPath": {"path": "/etc"}}]}, "dflow-hpc/allow: host-path"),
        ({}, {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "persistentVolumeClaim"),
        ({}, {"volumes": [{"name": "v", "csi": {"driver": "d"}}]}, "kind csi"),
        (
            {},
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "dflow-hpc/allow: service-account-token",
        ),
        (
            {},
            {"volumes": [{"name": "v", "secret": {"secretName": "keys", "items": [{"key": "x", "path": "x"}]}}]},
            "'x'",
        ),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "../x"}]}, {}, "leads out of it"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(container, spec, why):
    mounts = [{"name": volume["name"], "mountPath": "/v"} for volume in spec.get("volumes", [])]
    with pytest.raises(Refused, match=why):
        read({"volumeMounts": mounts, **container}, **spec)
