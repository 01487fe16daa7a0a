"""The table of a job's life: its drawing, its totals, and rules that no pair may break."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.executors.broker.jobs import TABLE, UNWANTED, Act, Job, News, State, apply, draw, key_of
from dflow_hpc.executors.failures import FailureClass

DOCS = Path(__file__).parents[2] / "docs"


def test_the_drawing_is_of_this_table():
    command = "python -m dflow_hpc.executors.broker.jobs > docs/job-states.md"
    assert (DOCS / "job-states.md").read_text() == draw(), f"run {command}"


def test_every_state_is_reached_and_left():
    assert {rule.next for rule in TABLE.values()} | {State.NEW} == set(State)
    assert {state for state, _ in TABLE} == set(State) - {State.ENDED}


@pytest.mark.parametrize("state", [State.SENT, State.UNCLEAR])
def test_a_submission_without_an_answer_is_never_repeated_at_once(state):
    repeats = {news for news in News if (rule := TABLE.get((state, news))) and rule.next is State.NEW}
    assert repeats == {News.NOT_BEGUN}


def test_success_is_never_concluded_without_a_marker():
    for (state, news), rule in [*TABLE.items(), *UNWANTED.items()]:
        if rule.next is State.ENDED and rule.failure is None:
            assert news in (News.REFUSED, News.FINAL, News.FETCHED), (state, news)


@given(st.lists(st.sampled_from(list(News))))
def test_an_ended_job_stays_ended_and_is_delivered_once(events):
    job = Job("k-1")
    acts = [apply(job, news, float(at), FailureClass.INFRA, "why") for at, news in enumerate(events)]
    assert acts.count(Act.DELIVER) == int(job.state is State.ENDED)
    assert job.token == "k-1"


def test_keys_are_short_stable_and_apart():
    assert key_of("uid", "wf-1") == "yg6oqjsslu4jgf2vdwrodrvga7"
    assert key_of("uid", "wf-1") == key_of("uid", "wf-1") != key_of("uid", "wf-2")
    assert key_of("a", "bc") != key_of("ab", "c")
