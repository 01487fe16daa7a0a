"""The life of pods on a node: an API server that is away, lists that lack pods, jobs without a pod."""

import gc
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from api import Api, Node, until, within

from dflow_hpc.errors import ExecutorError
from dflow_hpc.kube.errors import refusal
from dflow_hpc.virtual_node import leaves, status
from dflow_hpc.virtual_node.orphans import Orphans

UNTIL = "until [ -e {} ]; do sleep 0.05; done"
"""A program that ends when a file is there. Where its text says /tmp, that is the pod's own."""


@pytest.fixture
def api():
    return Api()


def test_the_last_status_is_told_when_the_api_server_is_back(tmp_path, api):
    async def scenario():
        node = Node(tmp_path, api)
        pod = api.add("p", "exit 3")
        api.away = True
        node.show(pod)
        await until(node.pods._pods[pod["metadata"]["uid"]].task.done)
        await until(lambda: any("away" in text for text in node.said))
        api.away = False
        found = await node.ended(pod)
        await node.leave()
        return found, node.said

    found, said = within(scenario())
    assert found["phase"] == "Failed"
    assert found["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert [text for text in said if "away" in text or "again" in text] == ["away", "the API server answers again"]


def test_nothing_is_said_of_a_pod_after_its_last_status(tmp_path, api):
    async def scenario():
        node = Node(tmp_path, api)
        pod = api.add("p", "true")
        api.fail["patch"] = [refusal("change", 500, b"busy")]
        node.pods.reports.tell(pod, status.running(pod, 1.0))
        node.pods.reports.tell(pod, status.refused("X", "y"), last=True)
        node.pods.reports.tell(pod, status.running(pod, 2.0))
        await node.pods.reports.told(pod["metadata"]["uid"])
        node.pods.reports.tell(pod, status.running(pod, 3.0))
        await node.pods.reports.told(pod["metadata"]["uid"])
        await node.leave()

    within(scenario())
    assert api.phases("p") == ["Failed"]


def test_a_pod_that_cannot_be_read_yet_waits_and_says_why(tmp_path, api, monkeypatch):
    answers = [refusal("read the Secret 's'", 403, b"no relationship found"), refusal("read", 500, b"busy")]
    real = leaves.read

    def read(*args):
        if answers:
            raise answers.pop(0)
        return real(*args)

    monkeypatch.setattr(leaves, "read", read)

    async def scenario():
        node = Node(tmp_path, api)
        pod = api.add("p", "true")
        node.show(pod)
        found = await node.ended(pod)
        await node.leave()
        return found

    assert within(scenario())["phase"] == "Succeeded"
    first = api.told[0][1]
    assert first["phase"] == "Pending"
    waiting = first["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert "no relationship found" in waiting["message"]


def test_a_pod_that_a_list_does_not_have_keeps_its_job(tmp_path, api):
    async def scenario():
        node = Node(tmp_path, api, grace=5.0)
        pod = api.add("p", UNTIL.format(str(tmp_path / "go").replace("/tmp", "/t''mp")))
        node.show(pod)
        await until(lambda: "Running" in api.phases("p"))
        node.show(pod, "DELETED", missed=True)
        await node.pods.sweep(0.0)
        await node.pods.sweep(100.0)  # a list that is read now has it
        assert len(node.pods.orphans) == 1
        node.show(pod)
        await node.pods.sweep(200.0)
        assert len(node.pods.orphans) == 0
        (tmp_path / "go").touch()
        found = await node.ended(pod)
        await node.leave()
        return found

    assert within(scenario())["phase"] == "Succeeded"


def test_a_pod_that_stays_away_loses_its_job_after_the_grace(tmp_path, api):
    async def scenario():
        node = Node(tmp_path, api, grace=5.0)
        pod = api.add("p", "sleep 100")
        node.show(pod)
        await until(lambda: "Running" in api.phases("p"))
        del api.pods["p"]
        node.show(pod, "DELETED", missed=True)
        await node.pods.sweep(0.0)
        await node.pods.sweep(4.0)
        assert node.broker.dispatcher.open
        api.fail["list"] = [refusal("list", 500, b"busy")]
        with pytest.raises(type(refusal("list", 500, b""))):
            await node.pods.sweep(6.0)
        assert node.broker.dispatcher.open
        await node.pods.sweep(6.0)
        await until(lambda: not node.broker.dispatcher.open)
        await node.leave()

    within(scenario())


def test_a_job_without_a_pod_after_a_restart_is_cancelled_after_the_grace_only(tmp_path, api):
    async def scenario():
        first = Node(tmp_path, api)
        lost, kept = api.add("lost", "sleep 100"), api.add("kept", "sleep 100")
        first.show(lost)
        first.show(kept)
        await until(lambda: "Running" in api.phases("lost") and "Running" in api.phases("kept"))
        await first.leave()
        del api.pods["lost"]

        node = Node(tmp_path, api, grace=5.0)
        await node.pods.sweep(0.0)  # no pod was shown yet
        await node.pods.sweep(10.0)  # the list has one that is not known: whose the jobs are is not sure
        assert len(node.broker.dispatcher.open) == 2
        node.show(api.pods["kept"])
        (known,) = node.pods._pods.values()
        await until(lambda: known.at_work)
        await node.pods.sweep(20.0)
        await until(lambda: len(node.broker.dispatcher.open) == 1)
        assert node.broker.dispatcher.open == [known.key]
        assert sorted(path.name for path in (tmp_path / "pods").iterdir()) == [kept["metadata"]["uid"]]
        assert api.phases("kept").count("Running") == 1
        node.show({**api.pods["kept"], "metadata": {**kept["metadata"], "deletionTimestamp": "now"}}, "MODIFIED")
        await until(lambda: "kept" not in api.pods)
        await node.leave()
        return node.said

    assert sum("has no pod" in text for text in within(scenario())) == 2


def test_a_deletion_that_was_seen_ends_the_job(tmp_path, api):
    async def scenario():
        node = Node(tmp_path, api)
        pod = api.add("p", "sleep 100")
        node.show(pod)
        await until(lambda: "Running" in api.phases("p"))
        node.show(pod, "DELETED")
        await until(lambda: not node.broker.dispatcher.open)
        await until(lambda: not node.pods._ending)
        assert not node.pods._pods
        gc.collect()
        assert not node.pods._keys
        await node.leave()

    within(scenario())


def test_a_node_whose_broker_broke_ends_and_says_no_wrong_status(tmp_path, api):
    async def scenario():
        node = Node(tmp_path, api)
        pod = api.add("p", "sleep 100")
        node.show(pod)
        await until(lambda: "Running" in api.phases("p"))
        node.broker._break(RuntimeError("a fault"))
        await until(lambda: node.failed)
        await node.pods.close()
        await node.broker.close()
        after = Node(tmp_path, api)
        after.show(api.pods["p"])
        await until(lambda: any(known.at_work for known in after.pods._pods.values()))
        after.show(pod, "DELETED")
        await until(lambda: not after.broker.dispatcher.open)
        await after.leave()
        return node.failed

    (error,) = within(scenario())
    assert isinstance(error, ExecutorError)
    assert api.phases("p") == ["Running"]


def test_what_was_an_orphan_begins_its_grace_anew():
    orphans = Orphans(grace=10.0)
    assert orphans.see(["a", "b"], 0.0) == ["a", "b"]
    assert orphans.see(["b"], 5.0) == []
    assert orphans.see(["a", "b"], 9.0) == ["a"]
    assert orphans.due(10.0) == ["b"]
