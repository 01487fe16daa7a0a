"""The retry map: what follows which class, with how much, and that it has an end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors import schedulers, site
from dflow_hpc.executors.broker import questions as q
from dflow_hpc.executors.broker.dispatcher import Dispatcher
from dflow_hpc.executors.broker.jobs import Job, State
from dflow_hpc.executors.broker.retries import again, checked
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Machine, Resources, Waits, machine_from
from dflow_hpc.executors.schedulers import JobScript

ASKED = Resources(memory="1GB", time="10m")
RULES = {"oom": {"limit": 3, "memory": 1.5, "most": "2GB"}, "walltime": {"limit": 2, "time": 2, "most": "30m"}}


def ended(failure, number=1, **more):
    return Job(f"k-{number}", State.ENDED, failure=failure, **more)


def life(failures, rules, asked=ASKED, node="n1"):
    """Return what each attempt asks for that the broker makes of a leaf whose attempts end so."""
    jobs, changes = [], {}
    found = []
    for number, failure in enumerate(failures, 1):
        job = ended(failure, number, changes=changes, node=node)
        changes = again(rules, asked, job, jobs, "slurm")
        jobs.append(job)
        if changes is None:
            return found
        found.append(changes)
    return found


def test_memory_grows_up_to_what_the_profile_allows():
    assert life([FailureClass.OOM] * 5, RULES) == [{"memory": "1536MB"}, {"memory": "2048MB"}]
    assert life([FailureClass.OOM], {}) == []
    assert life([FailureClass.OOM], RULES, Resources()) == []  # the site's default is not ours to grow


def test_time_grows_only_where_the_profile_says_so():
    assert life([FailureClass.WALLTIME], {}) == []
    assert life([FailureClass.WALLTIME] * 3, RULES) == [{"time": "1200s"}, {"time": "1800s"}]
    assert life([FailureClass.WALLTIME] * 3, {"walltime": {}}) == [{}]  # a checkpoint lets it go on


def test_a_node_that_failed_is_left_out_and_taken_again_when_there_is_no_other():
    first, second = life([FailureClass.INFRA, FailureClass.CONFIG], {})
    assert first == {"exclude": ["n1"]}
    assert second == {}
    assert life([FailureClass.CONFIG], {}) == []
    assert life([FailureClass.INFRA], {"infra": {"exclude": False}}) == [{}]
    assert life([FailureClass.INFRA], {}, node="n[1-2]") == [{}]
    assert again({}, ASKED, ended(FailureClass.INFRA, node="n1"), [], "pbs") == {}


def test_slurm_is_told_which_nodes_to_leave_out():
    job = JobScript("k-2.step", "wf/step", "/d", Resources(exclude=("n1", "n2")), "exec ./member")
    assert '#SBATCH --exclude="n1,n2"' in schedulers.get("slurm").script(job).splitlines()


@given(st.lists(st.sampled_from([*FailureClass, None]), min_size=40, max_size=40))
def test_it_has_an_end_and_never_repeats_what_is_the_programs_or_the_users(failures):
    tries = life(failures, RULES)
    assert len(tries) < 40
    for failure, changes in zip(failures, tries, strict=False):
        assert failure not in (FailureClass.APP, FailureClass.CANCELLED, FailureClass.STAGE_OUT, None)
        assert set(changes) <= {"memory", "time", "exclude"}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"app": {"limit": 1}}, "no known class"),
        ({"oom": {"time": 2}}, "keys of limit, memory, most"),
        ({"oom": {"memory": 0.5}}, "factor of at least 1"),
        ({"oom": {"most": "much"}}, "a number with a unit"),
        ({"infra": {"limit": -1}}, "a whole number"),
        ({"lost": 3}, "must be a table"),
    ],
)
def test_a_wrong_rule_is_refused(rules, said):
    with pytest.raises(ConfigError, match=said):
        checked(rules, "file: machine 'm'")
    with pytest.raises(ConfigError, match=said):
        machine_from("m", {"retry": rules}, "file")


def test_a_further_attempt_asks_for_more_also_after_a_restart():
    records, machine = [], Machine("m", "slurm", retry=RULES)
    parcel = site.Parcel("k", "step", "wf/step", ASKED, {}, "/nowhere", machine=machine)
    waits = Waits(quiet=0.0, longest=0.0)
    dispatcher = Dispatcher(waits, [], records.append, lambda: True, 0.0, max_array=10)
    dispatcher.want(parcel, 0.0)

    def submission(now):
        asked = {type(question): question for question in dispatcher.next(now)}
        if q.Round in asked:
            dispatcher.looked(asked[q.Round], site.Look([], []), now)
        submit = asked[q.Submit]
        [batch] = submit.batches
        dispatcher.submitted(submit, {batch.id: site.Taken("7")}, now)
        return batch

    batch = submission(0.0)
    [look] = [question for question in dispatcher.next(5.0) if isinstance(question, q.Round)]
    oom = site.Sighting(batch.id, 0, False, True, "OUT_OF_MEMORY", FailureClass.OOM)
    dispatcher.looked(look, site.Look([oom], []), 5.0)
    [notice] = [event for event in dispatcher.events if isinstance(event, q.Notice)]
    assert notice.text == "attempt 1 ended with OOM (OUT_OF_MEMORY); it is tried again, memory 1536MB"
    dispatcher = Dispatcher(waits, records, records.append, lambda: True, 6.0, max_array=10)
    dispatcher.want(parcel, 6.0)
    assert submission(7.0).resources == Resources(memory="1536MB", time="10m")
