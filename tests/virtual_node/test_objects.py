"""Pods that Argo made are recognised; a Node and a Lease are what the API server wants."""

import json
from datetime import UTC, datetime

import pytest

from dflow_hpc.errors import ManifestError
from dflow_hpc.virtual_node import argo_pod, node


def pod(template="{}", **environment):
    values = {"ARGO_TEMPLATE": template, "ARGO_DEADLINE": "0001-01-01T00:00:00Z", **environment}
    return {
        "metadata": {
            "name": "wf-main-1",
            "annotations": {"workflows.argoproj.io/node-id": "wf-1"},
            "labels": {"workflows.argoproj.io/workflow": "wf"},
        },
        "spec": {
            "initContainers": [{"name": "init", "env": [{"name": k, "value": v} for k, v in values.items()]}],
            "containers": [
                {"name": "wait"},
                {
                    "name": "main",
                    "command": ["/var/run/argo/argoexec", "emissary", "--loglevel", "info", "--", "sh", "-c", "--"],
                    "args": ["echo hi"],
                },
            ],
        },
    }


def test_the_users_command_is_what_follows_the_first_double_dash():
    found = pod(json.dumps({"name": "main"}), ARGO_INCLUDE_SCRIPT_OUTPUT="true")
    assert argo_pod.unwrapped(found["spec"]["containers"][1]["command"]) == ["sh", "-c", "--"]
    assert argo_pod.unwrapped(["sh", "--", "x"]) == ["sh", "--", "x"]
    leaf = argo_pod.read(found)
    assert leaf.template == {"name": "main"}
    assert (leaf.workflow, leaf.node_id) == ("wf", "wf-1")
    assert leaf.include_result
    assert leaf.deadline is None


def test_a_template_too_large_for_the_environment_lies_in_the_configmap_of_the_pods_name():
    leaf = argo_pod.read(pod("offloaded", ARGO_DEADLINE="2026-01-01T00:00:00Z"))
    assert leaf.template is None
    assert leaf.offloaded == "wf-main-1"
    assert leaf.deadline == "2026-01-01T00:00:00Z"


def test_other_pods_are_none_of_ours():
    other = pod()
    del other["metadata"]["annotations"]
    assert argo_pod.read(other) is None


def test_a_pod_of_argo_without_a_template_is_an_error_that_says_so():
    broken = pod()
    broken["spec"]["initContainers"][0]["env"] = []
    with pytest.raises(ManifestError, match=r"wf-main-1.*no ARGO_TEMPLATE"):
        argo_pod.read(broken)


def test_a_node_offers_what_the_scheduler_has_and_says_whether_the_login_host_answers():
    made = node.node_object("cpu", "cpu", node.Capacity(cpus=8, memory=1 << 30, gpus=2), "10.0.0.1", 10260)
    assert made["status"]["allocatable"] == {"cpu": "8", "memory": "1073741824", "pods": "1000", "nvidia.com/gpu": "2"}
    assert made["spec"]["taints"][0]["effect"] == "NoSchedule"
    (told,) = node.node_status(node.Capacity(1, 1), "10.0.0.1", 10260, "no route")["conditions"]
    assert (told["status"], told["reason"], told["message"]) == ("False", "MachineUnreachable", "no route")


def test_a_node_of_which_nothing_is_known_yet_is_not_ready_and_leaves_what_an_earlier_life_has_told():
    status = node.node_status(None, "10.0.0.1", 10260)
    assert status["conditions"][0]["status"] == "False"
    assert not status.keys() & {"capacity", "allocatable"}


def test_a_leases_time_has_microseconds():
    lease = node.lease_object("cpu", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert lease["spec"]["renewTime"] == "2026-01-02T03:04:05.000006Z"
