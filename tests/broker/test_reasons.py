"""Reasons for waiting: which are ordinary, which the user hears of, and that he hears of each once."""

import pytest

from dflow_hpc.executors.broker.jobs import Job, State
from dflow_hpc.executors.broker.reasons import Stuck, meaning, passes

ORDINARY = [
    "PENDING",
    "PENDING (Priority)",
    "PENDING (Resources)",
    "Q",
    "Q (Not Running: Not enough free nodes available)",
    "Q (Not Running: User has reached queue workq running job limit.)",
    "Q (Not Running: No available resources on nodes)",
    "Q (Job Array Began at Tue Nov 24 at 22:57)",
]


@pytest.mark.parametrize("word", ORDINARY)
def test_what_just_waits_its_turn_is_not_worth_a_word(word):
    assert passes(word)
    assert meaning(word) == ""


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("PENDING (PartitionTimeLimit)", "lower `time`"),
        ("PENDING (PartitionConfig)", "no node of its queue"),
        ("Q (Can Never Run: Insufficient amount of queue resource: ncpus)", "no node of its queue"),
        ("Q (Not Running: Queue not started.)", "its queue is closed"),
        ("Q (Not Running: PBS Error: Execution server rejected request)", "ask the site"),
        ("H (Job held, too many failed attempts to run)", "release it"),
        ("PENDING (ReqNodeNotAvail, UnavailableNodes:n1)", "down, drained"),
        ("PENDING (JobHeldUser)", "release it"),
        ("PENDING (JobHeldAdmin)", "ask the site"),
        ("H", "release it"),
        ("PENDING (QOSMaxWallDurationPerJobLimit)", "ask for less"),
        ("PENDING (QOSNotAllowed)", "may not use this queue"),
        ("PENDING (AssocGrpCPUMinutesLimit)", "budget"),
        ("PENDING (AssocMaxJobsLimit)", "others have ended"),
        ("PENDING (launch failed requeued held)", "on hold"),
    ],
)
def test_what_will_not_pass_is_explained(word, told):
    assert not passes(word)
    assert told in meaning(word)


def jobs(word, count=3):
    return [Job(f"k{n}-1", State.QUEUED, batch="b", index=n, id="7", word=word) for n in range(count)]


def test_a_reason_that_lasts_is_told_once_for_an_array():
    stuck = Stuck(600.0)
    held = jobs("PENDING (JobHeldUser)")
    assert stuck.notices(held, 0.0) == []
    [notice] = stuck.notices(held, 600.0)
    assert notice.startswith("3 jobs of 7 wait: the scheduler has said PENDING (JobHeldUser) for 10 min; it is on hold")
    assert stuck.notices(held, 9000.0) == []


def test_a_reason_that_comes_and_goes_is_not_told():
    stuck = Stuck(600.0)
    for now in range(0, 6000, 300):
        word = "PENDING (ReqNodeNotAvail)" if now % 600 else "PENDING (Priority)"
        assert stuck.notices(jobs(word), float(now)) == []
