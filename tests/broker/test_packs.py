"""Packs: several leaves in one job, one after the other, each with its own directory, marker and outcome."""

import subprocess

from dflow_hpc.executors.broker import batches
from dflow_hpc.executors.broker import questions as q
from dflow_hpc.executors.broker.dispatcher import Dispatcher
from dflow_hpc.executors.broker.jobs import State
from dflow_hpc.executors.broker.records import fold
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Limits, Machine, Resources, Waits
from dflow_hpc.executors.protocol.scripts import script_files
from dflow_hpc.executors.site import Batch, Look, Marker, Parcel, Sighting, Taken

WAITS = Waits(quiet=0.0, longest=0.0, fast=0.0, steady=0.0, why=5.0)


def begun(leaves, pack=3, limits=None, records=None):
    """Return a dispatcher whose leaves were sent, its batches, and the clock."""
    records = [] if records is None else records
    dispatcher = Dispatcher(WAITS, [], records.append, lambda: True, 0.0, max_array=10)
    machine = Machine("m", limits=limits or Limits())
    for number in range(leaves):
        dispatcher.want(
            Parcel(f"k{number}", "step", "wf/step", Resources(pack=pack), {}, "/nowhere", machine=machine), 0.0
        )
    submit, *rounds = dispatcher.next(0.0)
    for round_ in rounds:
        dispatcher.looked(round_, Look([], []), 0.5)
    dispatcher.submitted(submit, {batch.id: Taken("7") for batch in submit.batches}, 1.0)
    return dispatcher, submit.batches


def look(dispatcher, now, **answer):
    [round_] = [question for question in dispatcher.next(now) if isinstance(question, q.Round)]
    dispatcher.looked(round_, Look(**{"queue": [], "history": [], **answer}), now + 1)


def failures(dispatcher):
    return {key: [job.failure for job in leaf.jobs] for key, leaf in dispatcher.leaves.items()}


def sightings(batch, **more):
    return [Sighting(batch.id, place, running=False, ended=True, **more) for place in range(len(batch.tokens))]


def test_an_array_of_packs_has_fewer_jobs_than_leaves():
    records = []
    _, [batch] = begun(8, records=records)
    assert (len(batch.tokens), batch.jobs) == (8, 3)
    assert [list(batch.leaves(job)) for job in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert fold(records).batches[batch.id].pack == 3  # another life knows it


def test_a_limit_on_jobs_counts_packs():
    _, [batch] = begun(8, limits=Limits(max_jobs=2))
    assert (len(batch.tokens), batch.jobs) == (6, 2)


def test_when_its_time_is_over_only_the_unfinished_run_again():
    dispatcher, [batch] = begun(3)
    done = {batch.tokens[0]: Marker({"rc": 0, "signal": 0}, complete=True)}
    ended = sightings(batch, word="TIMEOUT", failure=FailureClass.WALLTIME)
    look(dispatcher, 2.0, queue=ended)
    look(dispatcher, 4.0, queue=ended, markers=done)  # it came late, and counts
    look(dispatcher, 9.0, queue=ended)
    preempted = FailureClass.PREEMPTED
    assert failures(dispatcher) == {"k0": [None], "k1": [preempted, None], "k2": [preempted, None]}
    assert [job.token for leaf in dispatcher.leaves.values() for job in leaf.jobs if job.state is State.NEW] == [
        "k1-2",
        "k2-2",
    ]


def test_a_leaf_that_had_the_time_to_itself_is_told_so_and_those_behind_it_run_again():
    dispatcher, [batch] = begun(3)
    for now in (2.0, 9.0):
        look(dispatcher, now, queue=sightings(batch, word="TIMEOUT", failure=FailureClass.WALLTIME))
    found = failures(dispatcher)
    assert found.pop("k0") == [FailureClass.WALLTIME]
    assert set(map(tuple, found.values())) == {(FailureClass.PREEMPTED, None)}


def test_memory_is_the_fault_of_the_leaf_that_ran():
    batch = Batch("b", ("k0-1", "k1-1", "k2-1", "k3-1"), 0.0, resources=Resources(pack=2))
    oom, preempted = FailureClass.OOM, FailureClass.PREEMPTED
    assert [batches.fault_of(batch, place, oom, {1, 2, 3}) for place in (1, 2, 3)] == [oom, oom, preempted]
    assert batches.fault_of(batch, 3, FailureClass.INFRA, {2, 3}) is FailureClass.INFRA


def test_one_leaf_of_a_pack_is_revoked_alone_and_the_last_that_is_wanted_takes_the_job_along():
    dispatcher, [batch] = begun(3)
    running = [Sighting(batch.id, place, running=True, ended=False, word="RUNNING") for place in range(3)]
    look(dispatcher, 2.0, queue=running, markers={batch.tokens[0]: Marker({"rc": 0, "signal": 0}, complete=True)})
    dispatcher.drop("k1", 4.0)
    [cancel] = [question for question in dispatcher.next(4.0) if isinstance(question, q.Cancel)]
    assert cancel.items == ((batch, "7", (1,)),)
    dispatcher.cancelled(cancel, 5.0)
    dispatcher.drop("k2", 6.0)
    [cancel] = [question for question in dispatcher.next(6.0) if isinstance(question, q.Cancel)]
    assert cancel.items == ((batch, "7", (0, 1, 2)),)


def test_the_script_runs_its_leaves_in_order_and_a_signal_ends_it(tmp_path):
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "pack.sh").write_bytes(script_files()["pack.sh"])
    (scripts / "member.sh").write_text(
        'trap "echo ended $3 >>$1/ledger; exit 143" TERM\necho "$3" >>$1/ledger\n[ "$3" != 4 ] || kill -TERM "$PPID"\n'
        '[ "$3" != 4 ] || while :; do sleep 0.1; done\n'
    )
    (tmp_path / ".batch" / "b").mkdir(parents=True)
    (tmp_path / ".batch" / "b" / "members").write_text("".join(f"k{number}-1\n" for number in range(7)))
    for job in (2, 0, 1):
        subprocess.run(["sh", scripts / "pack.sh", tmp_path, "b", str(job), "3"], check=True, timeout=30)
    assert (tmp_path / "ledger").read_text().split("\n") == ["6", "0", "1", "2", "3", "4", "ended 4", ""]
