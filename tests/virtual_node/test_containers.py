"""Pods of several containers, with volumes and variables, go all the way to a job of this host and back."""

import base64
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from api import Api, Node, within

from dflow_hpc.kube.errors import refusal


class Objects(Api):
    """An API server that has a ConfigMap and a Secret, too."""

    def get(self, kind, name):
        data = {"ConfigMap": {"greeting": "hello"}, "Secret": {"key": base64.b64encode(b"hush-hush").decode()}}
        if name != "given":
            raise refusal(f"read {name}", 404, b"none")
        return {"data": data[kind.kind]}


@pytest.fixture
def run(tmp_path):
    """Give a function that runs a pod to its end: its status, and its containers' by name."""

    def call(container, **spec):
        async def scenario():
            node = Node(tmp_path, Objects())
            pod = node.api.add("p", "true", **spec)
            pod["spec"]["containers"][0] |= container
            node.show(pod)
            found = await node.ended(pod)
            root = node.pods.log_of(pod["metadata"]["uid"], "only").parent
            await node.leave()
            assert not node.failed, node.said
            each = found["containerStatuses"] + found["initContainerStatuses"]
            return found, {one["name"]: one for one in each}, root

        return within(scenario())

    return call


def shell(name, line, **more):
    return {"name": name, "image": "x", "command": ["sh", "-c", line], **more}


def test_containers_share_volumes_and_each_tells_of_itself(run):
    room = {"volumeMounts": [{"name": "room", "mountPath": "/room"}, {"name": "conf", "mountPath": "/etc/conf"}]}
    found, each, root = run(
        shell("only", "cat /room/first; until [ -s /room/second ]; do sleep 0.02; done; cat $WHERE", **room)
        | {"env": [{"name": "WHERE", "value": "/room/second"}]},
        initContainers=[shell("fetch", "cp /etc/conf/greeting /room/first", **room)],
        containers=[
            {"name": "only"},
            shell("beside", "echo said >/dev/termination-log; echo -$(FROM)- >/room/second; exit 3", **room)
            | {"env": [{"name": "FROM", "valueFrom": {"configMapKeyRef": {"name": "given", "key": "greeting"}}}]},
        ],
        volumes=[{"name": "room", "emptyDir": {}}, {"name": "conf", "configMap": {"name": "given"}}],
    )
    assert (root / "log.txt").read_text() == "hello-hello-\n"
    ended = {name: one["state"]["terminated"] for name, one in each.items()}
    assert {name: (one["exitCode"], one["reason"]) for name, one in ended.items()} == {
        "fetch": (0, "Completed"),
        "only": (0, "Completed"),
        "beside": (3, "Error"),
    }
    assert ended["beside"]["message"].strip() == "said"
    assert ended["fetch"]["finishedAt"] <= ended["only"]["startedAt"]
    assert (found["phase"], found.get("reason")) == ("Failed", None)


def test_a_container_that_fails_is_started_again_where_its_pod_says_so(run):
    line = "echo x >>/room/count; [ $(wc -l </room/count) -ge 2 ]"
    mount = {"volumeMounts": [{"name": "room", "mountPath": "/room"}]}
    found, each, _ = run(
        shell("only", line, **mount), restartPolicy="OnFailure", volumes=[{"name": "room", "emptyDir": {}}]
    )
    assert (found["phase"], each["only"]["restartCount"]) == ("Succeeded", 1)
    assert each["only"]["lastState"]["terminated"]["exitCode"] == 1


def test_what_a_secret_says_is_written_down_nowhere(run, tmp_path):
    secret = {"secretName": "given", "defaultMode": 0o440}
    env = [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "given", "key": "key"}}}]
    mounts = [{"name": "keys", "mountPath": "/keys"}, {"name": "keys", "mountPath": "/k", "subPath": "key"}]
    line = 'stat -c %a /keys/key; [ "$(cat /keys/key)" = "$PASSWORD" ] && cmp /keys/key /k && echo the same'
    found, _, root = run(
        shell("only", line, env=env, volumeMounts=mounts), volumes=[{"name": "keys", "secret": secret}]
    )
    assert (root / "log.txt").read_text() == "400\nthe same\n"
    assert found["phase"] == "Succeeded"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    words = (b"hush-hush", base64.b64encode(b"hush-hush"))
    assert [path for path in written if any(word in path.read_bytes() for word in words)] == []
    assert len(written) > 10  # it is the right place that was looked through


def test_only_what_the_pod_gives_is_in_its_environment(run):
    _, _, root = run(shell("only", "env", env=[{"name": "MINE", "value": "1"}]))
    names = {line.partition("=")[0] for line in (root / "log.txt").read_text().splitlines()}
    assert "MINE" in names
    assert [name for name in names if name.startswith(("ARGO", "KUBERNETES"))] == []
