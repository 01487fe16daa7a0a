"""A record becomes the container statuses from which Argo concludes the same end."""

import pytest

from dflow_hpc.virtual_node import status

POD = {
    "metadata": {
        "annotations": {"workflows.argoproj.io/node-id": "wf-1"},
        "labels": {"workflows.argoproj.io/workflow": "wf"},
    },
    "spec": {
        "initContainers": [{"name": "init"}],
        "containers": [{"name": "wait"}, {"name": "main"}],
    },
}


def states(record):
    found = status.final(POD, {"started": 0.0, "finished": 1.0, **record})
    each = found["initContainerStatuses"] + found["containerStatuses"]
    return found, {one["name"]: one["state"] for one in each}


@pytest.mark.parametrize(
    ("record", "phase", "codes"),
    [
        ({"phase": "Succeeded", "outputs": {"exitCode": "0"}}, "Succeeded", (0, 0, 0)),
        (
            {"phase": "Failed", "message": "main: Error (exit code 3)", "outputs": {"exitCode": "3"}},
            "Failed",
            (0, 3, 0),
        ),
        ({"phase": "Error", "message": "wait: Error (exit code 64): no file"}, "Failed", (0, 0, 64)),
        ({"phase": "Error", "message": "init: Error (exit code 64): no key"}, "Failed", (64, None, None)),
        ({"phase": "Failed", "message": "OOMKilled (exit code 137): job 1", "failure": "OOM"}, "Failed", (0, 137, 0)),
        ({"phase": "Error", "message": "job 1: NODE_FAIL", "failure": "INFRA"}, "Failed", (0, 64, 64)),
    ],
)
def test_error_and_failed_are_told_apart(record, phase, codes):
    found, each = states(record)
    assert found["phase"] == phase
    ended = [each[name].get("terminated", {}).get("exitCode") for name in ("init", "main", "wait")]
    assert tuple(ended) == codes


def test_a_deadline_says_itself_what_it_was():
    found, each = states({"phase": "Failed", "message": "too long", "failure": "WALLTIME"})
    assert (found["reason"], found["message"]) == ("DeadlineExceeded", "too long")
    assert each["main"]["terminated"]["exitCode"] == 143


PLAIN = {
    "metadata": {},
    "spec": {"initContainers": [{"name": "fetch"}], "containers": [{"name": "a"}, {"name": "b"}]},
    "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]},
}


def end(*runs, kind="main", began=None, text=""):
    return {"kind": kind, "runs": [list(run) for run in runs], "began": began, "text": text}


def plain(record, **containers):
    found = status.final(PLAIN, {"started": 0.0, "finished": 9.0, "containers": containers, **record})
    each = found["initContainerStatuses"] + found["containerStatuses"]
    return found, {one["name"]: one for one in each}


def test_each_container_of_a_plain_pod_says_how_it_ended_and_how_often_it_was_started():
    found, each = plain(
        {"phase": "Failed", "message": "b: Error (exit code 3): why", "failure": "APP"},
        fetch=end((1, 2, 0), kind="init"),
        a=end((3, 4, 1), (4, 5, 0)),
        b=end((3, 6, 3), text="why"),
    )
    assert (found["phase"], found.get("reason"), found["startTime"]) == ("Failed", None, "1970-01-01T00:00:00Z")
    assert [each[name]["state"]["terminated"]["reason"] for name in each] == ["Completed", "Completed", "Error"]
    assert (each["fetch"]["ready"], each["a"]["restartCount"], each["b"]["restartCount"]) == (True, 1, 0)
    assert each["a"]["lastState"]["terminated"]["exitCode"] == 1
    assert each["b"]["state"]["terminated"]["message"] == "why"
    conditions = {one["type"]: (one["status"], one.get("reason")) for one in found["conditions"]}
    assert conditions["PodScheduled"] == ("True", None)
    assert conditions["Ready"] == ("False", "PodFailed")


def test_what_did_not_begin_waits_and_what_was_cut_off_is_lost():
    found, each = plain(
        {"phase": "Failed", "message": "", "failure": "APP"}, fetch=end((1, 2, 5), kind="init"), a=end(), b=end()
    )
    assert each["a"]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert {"type": "Initialized", "status": "False"} in found["conditions"]
    record = {"phase": "Error", "message": "job 1: NODE_FAIL", "failure": "INFRA"}
    found, each = plain(record, fetch=end((1, 2, 0), kind="init"), a=end(began=3), b=end((3, 4, 0)))
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "Infra", "job 1: NODE_FAIL")
    lost = each["a"]["state"]["terminated"]
    assert (lost["exitCode"], lost["reason"]) == (137, "ContainerStatusUnknown")


def test_a_container_that_took_too_much_memory_says_so():
    record = {"phase": "Failed", "message": "OOMKilled (exit code 137): job 1", "failure": "OOM"}
    _, each = plain(record, fetch=end((1, 2, 0), kind="init"), a=end((3, 4, 137)), b=end((3, 4, 0)))
    assert each["a"]["state"]["terminated"]["reason"] == "OOMKilled"
    assert each["b"]["state"]["terminated"]["reason"] == "Completed"


def test_what_could_not_be_started_waits_with_the_reason():
    record = {"phase": "Error", "message": "init: Error (exit code 64): there is no apptainer", "failure": "STAGE_IN"}
    found, each = plain(record)
    assert (found["reason"], each["a"]["state"]["waiting"]["reason"]) == ("StageIn", "CreateContainerError")
