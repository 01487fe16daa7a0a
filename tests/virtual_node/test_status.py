"""A record becomes the container statuses from which Argo concludes the same end."""

import pytest

from dflow_hpc.virtual_node import status

POD = {
    "spec": {
        "initContainers": [{"name": "init"}],
        "containers": [{"name": "wait"}, {"name": "main"}],
    }
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
