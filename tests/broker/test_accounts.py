"""Profiles of one account: one broker, one login, one look at the queue; limits stay each profile's own."""

from dflow_hpc.engines.local.work.machines import Machines
from dflow_hpc.executors.broker import questions as q
from dflow_hpc.executors.broker.dispatcher import Dispatcher
from dflow_hpc.executors.broker.records import fold
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Limits, Machine, Resources, Waits
from dflow_hpc.executors.site import Parcel, Refusal, Taken
from tests.broker.direct import DirectSite

WAITS = Waits(quiet=0.0, longest=0.0)


def parcel(key, machine, **resources):
    return Parcel(key, "step", "wf/step", Resources(**resources), {}, "/nowhere", machine=machine)


def test_profiles_of_one_account_share_a_broker_and_others_do_not(tmp_path):
    opened = []

    def site(machine):
        opened.append(machine.name)
        return DirectSite(tmp_path)

    machines = Machines(tmp_path, {"code_dir": None}, lambda _: None, site=site)
    cpu = machines.of(Machine("cpu", "slurm", host="login"))
    gpu = machines.of(Machine("gpu", "slurm", host="login", setup=("module load cuda",), resources=Resources(gpus=1)))
    other = machines.of(Machine("other", "slurm", host="login", root="/elsewhere"))
    assert cpu.broker is gpu.broker is not other.broker
    assert cpu.broker.name == "cpu, gpu"
    assert opened == ["cpu", "other"]
    assert len(list((tmp_path / ".machines").glob("login-*.jsonl"))) == 2


def test_each_profile_has_its_own_limit_and_its_own_arrays():
    records = []
    dispatcher = Dispatcher(WAITS, [], records.append, lambda: True, 0.0, max_array=10)
    few, many = Machine("few", limits=Limits(max_jobs=2)), Machine("many")
    for number in range(4):
        dispatcher.want(parcel(f"f{number}", few), 0.0)
        dispatcher.want(parcel(f"m{number}", many, memory="1GB"), 0.0)
    [submit] = [question for question in dispatcher.next(0.0) if isinstance(question, q.Submit)]
    assert sorted((batch.machine, len(batch.tokens)) for batch in submit.batches) == [("few", 2), ("many", 4)]
    dispatcher.submitted(submit, {batch.id: Taken(batch.machine) for batch in submit.batches}, 1.0)
    assert not [question for question in dispatcher.next(1.0) if isinstance(question, q.Submit)]
    known = fold(records)  # another life knows where a job went
    assert {batch.resources.memory for batch in known.batches.values() if batch.machine == "many"} == {"1GB"}
    again = Dispatcher(WAITS, records, records.append, lambda: True, 2.0, max_array=10)
    again.want(parcel("f3", few), 2.0)
    assert not [question for question in again.next(2.0) if isinstance(question, q.Submit)]


def test_what_is_too_much_at_once_goes_in_halves_and_all_is_tried_again_after_a_while():
    dispatcher = Dispatcher(WAITS, [], lambda _: None, lambda: True, 0.0, max_array=1000)
    machine = Machine("far")
    for number in range(40):
        dispatcher.want(parcel(f"k{number}", machine), 0.0)
    now, sizes, taken = 0.0, [], 0
    while taken < 10:
        [submit] = [question for question in dispatcher.next(now) if isinstance(question, q.Submit)]
        [batch] = submit.batches
        sizes.append(batch.jobs)
        refused = Refusal(FailureClass.THROTTLED, "would exceed your limit")
        fits = taken + batch.jobs <= 10
        taken += batch.jobs if fits else 0
        dispatcher.submitted(submit, {batch.id: Taken(f"{len(sizes)}[]") if fits else refused}, now)
        now += WAITS.throttled
    assert sizes == [40, 20, 10]
    dispatcher.events.clear()
    for number in range(40, 60):
        dispatcher.want(parcel(f"k{number}", machine), now)
    [submit] = [question for question in dispatcher.next(now) if isinstance(question, q.Submit)]
    assert submit.batches[0].jobs == 10  # as much again as there was room for
    dispatcher.submitted(submit, {submit.batches[0].id: refused}, now)
    assert dispatcher.events == []  # the user has heard it
    later = now + 11 * WAITS.throttled
    [submit] = [question for question in dispatcher.next(later) if isinstance(question, q.Submit)]
    assert submit.batches[0].jobs == 50


def test_a_shorter_array_is_no_matter_of_time():
    dispatcher = Dispatcher(WAITS, [], lambda _: None, lambda: True, 0.0, max_array=1000)
    for number in range(8):
        dispatcher.want(parcel(f"k{number}", Machine("far")), 0.0)
    sizes = []
    for shrink in (0.5, 0.5, 0.0):
        [submit] = [question for question in dispatcher.next(0.0) if isinstance(question, q.Submit)]
        sizes.append([batch.jobs for batch in submit.batches])
        refused = Refusal(FailureClass.CONFIG, "too long an array", shrink)
        dispatcher.submitted(submit, {batch.id: refused for batch in submit.batches}, 0.0)
    [submit] = [question for question in dispatcher.next(1e6) if isinstance(question, q.Submit)]
    assert [*sizes, [batch.jobs for batch in submit.batches]] == [[8], [4, 4], [2, 2, 2, 2], [1] * 8]
    dispatcher.submitted(submit, {batch.id: refused for batch in submit.batches}, 1e6)
    assert {event.job.failure for event in dispatcher.events if isinstance(event, q.Ended)} == {FailureClass.CONFIG}
