"""Steps as jobs of PBS, from the broker's side: real scripts, real processes, and an OpenPBS in one file.

``tests/schedulers/fake_pbs.py`` says how it answers; what it cannot know is how a site has set PBS up.
"""

import asyncio
import dataclasses
import json
import time
from pathlib import Path

import pytest

from dflow_hpc.cli.main import main
from dflow_hpc.executors.broker.explain import by_hand
from dflow_hpc.executors.broker.jobs import Job, State
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Limits, Machine
from dflow_hpc.executors.site import Batch
from tests.broker.far import Far, soon
from tests.schedulers import fakes

pytestmark = pytest.mark.slow

SLEEP = 'echo "$DFH_TOKEN" >>"$HOME/ledger"; exec sleep 60'
UNTIL_GATE = 'echo "$DFH_TOKEN" >>"$HOME/ledger"; until [ -e "$HOME/gate" ]; do sleep 0.05; done'


class FarPbs(Far):
    """A machine with PBS, which is this host."""

    def __init__(self, path, cluster):
        super().__init__(path, Machine("far", "pbs", root=str(path / "there"), limits=Limits(max_jobs=50)))
        self.home = cluster.home
        self.pbs = Path(cluster.env["FAKE_PBS"])
        self.run_command = cluster.run

    def jobs(self):
        return [json.loads(path.read_text()) for path in sorted(self.pbs.glob("jobs/*.json"))]

    def ledger(self):
        path = self.home / "ledger"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def far(tmp_path, monkeypatch):
    cluster = fakes.pbs(tmp_path)
    for name in ("HOME", "PATH", "FAKE_PBS"):
        monkeypatch.setenv(name, cluster.env[name])
    monkeypatch.setenv("FAKE_PBS_KILL_DELAY", "1")
    made = FarPbs(tmp_path, cluster)
    yield made
    cluster.run("qdel $(qselect)")
    for job in made.jobs():
        until(lambda number=job["number"]: ended(made, number))


def ended(far, number):
    job = json.loads((far.pbs / "jobs" / f"{number}.json").read_text())
    return job["attributes"]["job_state"] in "FH"


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_a_single_job(far):
    end = far.one('mkdir "$DFH_LEAF/out"; pwd >"$DFH_LEAF/out/where"; echo said; echo "$PBS_ENVIRONMENT"')
    assert (end.job.failure, end.marker.record["rc"], end.job.id) == (None, 0, "0")
    root = far.path / "here" / "k"
    assert (root / "result").read_text() == "said\nPBS_BATCH\n"
    assert (root / "out" / "where").read_text() == f"{far.path}/there/k/attempt.1/workdir\n"
    (job,) = far.jobs()
    assert job["attributes"]["Rerunable"] == "False"
    assert job["attributes"]["Job_Name"] == "k-1.step"


def test_an_array_with_a_member_that_fails(far):
    parcels = [far.parcel(f"k{number}", f"exit {number}") for number in range(4)]
    ends = far.run(*parcels)
    assert [end.marker.record["rc"] for end in ends.values()] == [0, 1, 2, 3]
    (job,) = far.jobs()
    assert (job["id"], job["attributes"]["Rerunable"], len(job["members"])) == ("0[].pbs-login", "True", 4)


@pytest.mark.parametrize(
    ("script", "resources", "failure"),
    [
        ("(head -c 90000000 /dev/zero; sleep 60) | tail -n 1", {"memory": "40MB"}, FailureClass.OOM),
        ("sleep 60", {"time": "1s"}, FailureClass.WALLTIME),
        ("trap '' TERM; sleep 60", {"time": "1s"}, FailureClass.WALLTIME),
    ],
)
def test_limits(far, script, resources, failure):
    end = far.one(script, **resources)
    assert end.job.failure is failure


@pytest.mark.parametrize(("time", "failure"), [("4s", FailureClass.WALLTIME), ("1h", None)])
def test_without_history_a_time_limit_is_known_by_how_long_it_ran(far, time, failure):
    (far.pbs / "no-history").touch()

    async def delete(far, broker, running, tasks):
        await soon(far.ledger)
        if failure is None:
            far.run_command("qdel 0")

    end = far.one(SLEEP, meanwhile=delete, time=time)
    assert (end.job.failure, end.marker.record["rc"]) == (failure, 143)


def test_a_program_that_the_kernel_kills_for_memory(far, monkeypatch):
    """With control groups PBS says 137, as of any other program that was killed."""
    group = far.path / "over/sys/fs/cgroup/pbs_jobs.service/jobid/0"
    group.mkdir(parents=True)
    (far.path / "over/proc/self").mkdir(parents=True)
    (far.path / "over/proc/self/cgroup").write_text("0::/pbs_jobs.service/jobid/0\n")
    script = f"echo oom_kill 1 >{group}/memory.events; kill -9 $$"
    end = far.one(script, memory="1GB", extra=(f"-v DFH_CGROUPS={far.path}/over",))
    assert (end.job.failure, end.marker.record["rc"]) == (FailureClass.OOM, 137)
    assert "killed a process of it for memory" in end.job.reason


def test_a_job_that_its_user_deletes(far):
    async def delete(far, broker, running, tasks):
        await running["k"].wait()
        await soon(far.ledger)
        far.run_command("qdel 0")

    end = far.one(SLEEP, meanwhile=delete)
    assert end.job.failure is FailureClass.CANCELLED


def test_a_program_that_is_killed(far):
    end = far.one("kill -9 $$")
    assert (end.job.failure, end.marker.record["rc"], end.marker.record["signal"]) == (None, 137, 9)


def test_a_user_deletes_one_member_and_the_run_another(far):
    async def delete(far, broker, running, tasks):
        await soon(lambda: len(far.ledger()) == 3)
        far.run_command("qdel '0[1]'")
        tasks[2].cancel()
        (far.home / "gate").touch()

    script = 'echo x >>"$HOME/ledger"; until [ -e "$HOME/gate" ]; do sleep 0.05; done; [ "$DFH_INDEX" = 0 ] || sleep 60'
    ends = far.run(*(far.parcel(f"k{number}", script) for number in range(3)), meanwhile=delete)
    assert ends["k0"].marker.record["rc"] == 0
    assert ends["k1"].job.failure is FailureClass.CANCELLED
    assert isinstance(ends["k2"], asyncio.CancelledError)
    states = [member["Exit_status"] for member in far.jobs()[0]["members"].values()]
    assert states == [0, 271, 271]


def test_a_member_that_is_deleted_while_it_waits_is_cancelled(far):
    """The server keeps no record of it; its siblings' ends are asked for as ever."""

    async def delete(far, broker, running, tasks):
        await soon(lambda: far.jobs() and len(far.ledger()) == 1)
        far.run_command("qdel '0[1]'")
        await soon(tasks[1].done)
        (far.home / "gate").touch()

    (far.pbs / "at-once").write_text("1")
    ends = far.run(*(far.parcel(f"k{number}", UNTIL_GATE) for number in range(3)), meanwhile=delete)
    assert [end.job.failure for end in ends.values()] == [None, FailureClass.CANCELLED, None]
    assert "it had not begun" in ends["k1"].job.reason
    assert sorted(far.ledger()) == ["k0-1", "k2-1"]


@pytest.mark.parametrize("history", [True, False])
def test_members_are_cancelled_one_after_the_other_while_their_array_lives(far, history):
    """The server complains of those that have ended already; the machine is not to pause for that."""
    if not history:
        (far.pbs / "no-history").touch()

    async def delete(far, broker, running, tasks):
        await soon(lambda: len(far.ledger()) == 3)
        far.run_command("qdel '0[1]'")
        await soon(lambda: far.jobs()[0]["members"]["1"]["job_state"] == "X")
        tasks[1].cancel()
        await soon(tasks[1].done)
        tasks[2].cancel()
        await soon(tasks[2].done)
        (far.home / "gate").touch()

    ends = far.run(*(far.parcel(f"k{number}", UNTIL_GATE) for number in range(3)), meanwhile=delete)
    assert ends["k0"].marker.record["rc"] == 0
    assert not [text for text in far.said if "pauses" in text]


def test_a_job_that_cannot_be_ended_now_stops_no_other(far):
    """The daemon on its node is gone: the server says so of that job, again and again."""

    async def cancel(far, broker, running, tasks):
        await soon(lambda: len(far.ledger()) == 2)
        (far.pbs / "mom-down").touch()
        tasks[0].cancel()
        rounds = broker.asked["cancel"]
        await soon(lambda: broker.asked["cancel"] > rounds + 2)
        (far.home / "gate").touch()
        await soon(tasks[1].done)
        (far.pbs / "mom-down").unlink()

    slow = far.parcel("slow", SLEEP, memory="1GB")
    ends = far.run(slow, far.parcel("k", UNTIL_GATE), meanwhile=cancel)
    assert isinstance(ends["slow"], asyncio.CancelledError)
    assert ends["k"].marker.record["rc"] == 0
    assert not [text for text in far.said if "pauses" in text]


def test_a_job_that_can_never_run_is_told_of(far):
    far.waits = dataclasses.replace(far.waits, stuck=0.1)

    async def hear(far, broker, running, tasks):
        await soon(lambda: any("Can Never Run" in text for text in far.said))
        tasks[0].cancel()

    assert isinstance(far.one("true", cpus=999, meanwhile=hear), asyncio.CancelledError)
    (text,) = [text for text in far.said if "Can Never Run" in text]
    assert "Insufficient amount of resource: ncpus (R: 999 A: 16 T: 16)" in text
    assert "no node of its queue has what it asks for" in text


def test_a_held_job_waits_and_can_be_cancelled(far):
    (far.pbs / "hold").touch()

    async def look(far, broker, running, tasks):
        await soon(far.jobs)
        rounds = broker.asked["round"]
        await soon(lambda: broker.asked["round"] > rounds + 2)
        assert [job["attributes"]["job_state"] for job in far.jobs()] == ["H"]
        assert not running["k"].is_set()
        tasks[0].cancel()

    assert isinstance(far.one(SLEEP, meanwhile=look), asyncio.CancelledError)
    assert far.jobs()[0]["attributes"]["job_state"] == "F"
    assert far.ledger() == []


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"queue": "nosuch"}, "Unknown queue"),
        ({"queue": "short", "time": "99h"}, "Job violates queue and/or server resource limits"),
        ({"extra": ("-l nosuchresource=1",)}, "Unknown resource Resource_List.nosuchresource"),
    ],
)
def test_what_is_refused_is_fatal_in_the_schedulers_words(far, resources, words):
    end = far.one("true", **resources)
    assert end.job.failure is FailureClass.CONFIG
    assert f"qsub: {words}" in end.job.reason


def test_an_array_is_never_longer_than_the_server_allows(far, monkeypatch):
    monkeypatch.setenv("FAKE_PBS_MAX_ARRAY", "2")
    ends = far.run(*(far.parcel(f"k{number}", "true") for number in range(5)))
    assert [end.marker.record["rc"] for end in ends.values()] == [0] * 5
    assert sorted(len(job["members"]) for job in far.jobs()) == [0, 2, 2]


def test_without_arrays_each_job_goes_alone(far, monkeypatch):
    monkeypatch.setenv("FAKE_PBS_MAX_ARRAY", "0")
    ends = far.run(*(far.parcel(f"k{number}", "true") for number in range(3)))
    assert [end.marker.record["rc"] for end in ends.values()] == [0] * 3
    assert [len(job["members"]) for job in far.jobs()] == [0, 0, 0]


@pytest.mark.parametrize(("arrays", "sizes"), [("3", [0, 3, 3]), ("job arrays are not allowed in this queue", [0] * 7)])
def test_a_queue_that_takes_shorter_arrays_than_its_server_gets_shorter_ones(far, arrays, sizes):
    (far.pbs / "arrays").write_text(arrays)
    ends = far.run(*(far.parcel(f"k{number}", "true") for number in range(7)))
    assert [end.marker.record["rc"] for end in ends.values()] == [0] * 7
    assert sorted(len(job["members"]) for job in far.jobs()) == sizes
    assert any("takes no array of 7" in text for text in far.said)


def test_an_array_above_the_accounts_limit_goes_in_parts(far):
    """As it is it would be refused for ever."""
    (far.pbs / "room").write_text("3")
    ends = far.run(*(far.parcel(f"k{number}", "true") for number in range(9)))
    assert [end.marker.record["rc"] for end in ends.values()] == [0] * 9
    assert max(len(job["members"]) for job in far.jobs()) <= 3
    assert any("takes no more for now: qsub: would exceed queue workq's per-user limit" in text for text in far.said)


def test_arrays_go_where_qsubs_default_is_no_second_run(far):
    (far.pbs / "defaults").write_text("-r n")
    ends = far.run(*(far.parcel(f"k{number}", "true", extra=("-r n",)) for number in range(2)))
    assert [end.marker.record["rc"] for end in ends.values()] == [0, 0]
    assert [len(job["members"]) for job in far.jobs()] == [2]


def test_a_full_queue_is_no_failure(far):
    (far.pbs / "full").touch()

    async def make_room(far, broker, running, tasks):
        await soon(lambda: any("takes no more for now" in text for text in far.said))
        (far.pbs / "full").unlink()

    assert far.one("true", meanwhile=make_room).marker.record["rc"] == 0
    assert "qsub: Maximum number of jobs already in queue" in "".join(far.said)
    assert len(far.jobs()) == 1


def test_a_lost_answer_is_looked_up_and_not_submitted_again(far):
    (far.pbs / "mute").touch()
    (far.pbs / "next").write_text("7")  # a server that crashed leaves out some numbers

    async def found(far, broker, running, tasks):
        await running["k"].wait()
        (far.home / "gate").touch()

    end = far.one(UNTIL_GATE, meanwhile=found)
    assert (end.job.id, end.marker.record["rc"]) == ("7", 0)
    assert far.ledger() == ["k-1"]
    (far.pbs / "mute").touch()
    (far.pbs / "no-history").touch()
    ends = far.run(*(far.parcel(f"a{number}", "true") for number in range(3)))
    assert {end.job.failure for end in ends.values()} == {None}
    assert [job["id"] for job in far.jobs()] == ["7.pbs-login", "8[].pbs-login"]


def test_without_history_a_job_that_vanished_is_lost_and_tried_once_more(far):
    (far.pbs / "no-history").touch()
    script = 'echo "$DFH_TOKEN" >>"$HOME/ledger"; [ "$DFH_TOKEN" = k-2 ] || kill -9 0'
    (job,) = {end.job.token: end for end in far.run(far.parcel("k", script)).values()}.values()
    assert (job.job.token, job.marker.record["rc"]) == ("k-2", 0)
    assert far.ledger() == ["k-1", "k-2"]
    assert any("attempt 1 ended with LOST" in text for text in far.said)


def test_a_server_that_is_down_costs_time_and_no_job(far):
    async def cut(far, broker, running, tasks):
        await running["k"].wait()
        (far.pbs / "down").touch()
        rounds = broker.asked["round"]
        await soon(lambda: broker.asked["round"] > rounds + 3)
        assert not tasks[0].done()
        (far.pbs / "down").unlink()
        (far.home / "gate").touch()

    assert far.one(UNTIL_GATE, meanwhile=cut).marker.record["rc"] == 0
    assert far.ledger() == ["k-1"]


def test_a_submission_to_a_server_that_is_down_is_looked_up_until_it_answers(far):
    far.run(far.parcel("first", "true"))  # the scheduler's limits are known
    (far.pbs / "down").touch()

    async def bring_up(far, broker, running, tasks):
        await soon(lambda: broker.asked["lookup"] > 2 or broker.dispatcher.paused)
        (far.pbs / "down").unlink()

    assert far.one("true", meanwhile=bring_up).marker.record["rc"] == 0
    assert len(far.jobs()) == 2


def test_the_next_session_joins_the_jobs_of_one_that_ended(far):
    async def leave(far, broker, running, tasks):
        await soon(lambda: len(far.ledger()) == 3)
        broker.leave()
        for task in tasks:
            task.cancel()

    script = f"{UNTIL_GATE}; echo went"
    parcels = [far.parcel(f"k{number}", script) for number in range(3)]
    assert all(isinstance(end, asyncio.CancelledError) for end in far.run(*parcels, meanwhile=leave).values())
    (far.home / "gate").touch()
    ends = far.run(*parcels)
    assert [end.marker.record["rc"] for end in ends.values()] == [0, 0, 0]
    assert sorted(far.ledger()) == ["k0-1", "k1-1", "k2-1"]
    assert (far.path / "here" / "k2" / "result").read_text() == "went\n"
    assert len(far.jobs()) == 1


def test_a_member_that_pbs_runs_again_after_a_crash_goes_on_and_publishes_once(far):
    """OpenPBS takes no arrays that must not be rerun: the claim in the leaf's directory decides."""

    async def crash(far, broker, running, tasks):
        await soon(lambda: len(far.ledger()) == 2)
        far.run_command("qrerun '0[1]'")
        await soon(lambda: len(far.ledger()) == 3)
        (far.home / "gate").touch()

    ends = far.run(far.parcel("k0", UNTIL_GATE), far.parcel("k1", UNTIL_GATE), meanwhile=crash)
    assert [(end.job.token, end.marker.record["rc"]) for end in ends.values()] == [("k0-1", 0), ("k1-1", 0)]
    assert sorted(far.ledger()) == ["k0-1", "k1-1", "k1-1"]


def test_what_a_user_may_ask_by_hand_is_answered_with_and_without_a_history():
    batch = Batch("b", ("k-1", "l-1"), 0.0)
    commands = by_hand(Machine("far", "pbs"), Job("l-1", State.QUEUED, batch="b", index=1, id="19[]"), batch)
    assert commands[:2] == ["qstat -f '19[1]'", "qstat -xf '19[1]'"]


def test_a_profile_is_proved_down_to_a_job(far, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("machines.toml").write_text(f'[machine.far]\nscheduler = "pbs"\nroot = "{tmp_path}/there"\n')
    code = main(["machine", "check", "far"])
    text = capsys.readouterr().out
    assert code == 0, text
    assert "pbs 23.06.06, with accounting, arrays of up to 10000, ended jobs shown for 86400 s" in text
    (far.pbs / "no-history").touch()
    monkeypatch.setenv("FAKE_PBS_MAX_ARRAY", "0")
    assert main(["machine", "check", "far"]) == 0
    assert "pbs 23.06.06, without accounting, no arrays" in capsys.readouterr().out
