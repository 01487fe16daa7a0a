"""Logs as artifacts."""

import pytest

WANTED = {"archiveLogs": True}


def artifacts(outcome):
    return [(artifact["name"], artifact["s3"]["key"]) for artifact in outcome.outputs.get("artifacts", ())]


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_the_log_is_kept_where_that_is_wanted(kit, code, phase):
    declared = {"artifacts": [{"name": "a", "path": "/tmp/a"}]}
    outcome = kit.sh(f"echo said | tee /tmp/a; exit {code}", outputs=declared, archiveLocation=WANTED)
    assert outcome.phase == phase
    assert artifacts(outcome) == [("a", "run/run-step-1/a.tgz"), ("main-logs", "run/run-step-1/main.log")]
    assert (kit.run_dir / "store/run-step-1/main.log").read_text() == "said\n"


def test_it_lies_where_the_template_says(kit):
    outcome = kit.sh("true", archiveLocation={**WANTED, "s3": {"key": "run/logs"}})
    assert artifacts(outcome) == [("main-logs", "run/logs/main.log")]


def test_a_log_that_cannot_be_kept_is_an_error_of_wait(kit):
    (kit.run_dir / "store/in-the-way").touch()
    place = {**WANTED, "s3": {"key": "run/in-the-way"}}
    failed, succeeded = (kit.sh(f"exit {code}", archiveLocation=place) for code in (3, 0))
    assert (failed.phase, failed.message) == ("Failed", "main: Error (exit code 3)")
    assert succeeded.phase == "Error" and succeeded.message.startswith("wait: Error (exit code 64): cannot store ")


@pytest.mark.parametrize("place", [{}, {"archiveLogs": False}])
def test_nothing_is_kept_unasked(kit, place):
    assert artifacts(kit.sh("echo said", archiveLocation=place)) == []
