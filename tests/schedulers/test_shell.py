"""Hosts without a scheduler: real processes, whose states are files."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.executors.schedulers import Accepted, JobScript, Phase, Refused, SchedulerSilent, Unclear, get
from tests.schedulers import fakes

SHELL = get("shell")
JOB = JobScript(name="abc-1.train", comment="flow-x/train", directory="", resources=Resources(), body="exit 0")


@pytest.fixture
def host(tmp_path):
    return fakes.host(tmp_path)


def submit(host, **changes):
    job = dataclasses.replace(JOB, directory=str(host.home / "work dir"), **changes)
    Path(job.directory).mkdir(exist_ok=True)
    Path(job.directory, "job.sh").write_text(SHELL.script(job))
    answer = SHELL.submitted(*host.run(SHELL.submit("job.sh"), cwd=Path(job.directory)))
    assert isinstance(answer, Accepted), answer
    return answer.id


def states(host):
    return {state.id: state for state in SHELL.read_queue(*host.run(SHELL.queue()))}


def until(host, wanted):
    """Ask until something holds of the states, with a breath between two questions: they hold up who shall answer."""
    deadline = time.monotonic() + 60
    while not wanted(now := states(host)):
        assert time.monotonic() < deadline, now
        time.sleep(0.02)
    return now


def all_ended(now):
    return all(state.phase is Phase.ENDED for state in now.values())


def state_directory(host, job):
    return host.home / ".dflow-hpc" / "shell" / job


def without_an_end(host, job):
    """The directory of a job that has ended, as if it had not said so."""
    directory = state_directory(host, job)
    until(host, lambda _: (directory / "ended").exists())
    for name in ("rc.0", "ended"):
        (directory / name).unlink()
    return directory


def pid(host, job, member=0):
    return int((state_directory(host, job) / f"pid.{member}").read_text().split()[0])


def test_an_array_runs_and_is_found_again(host):
    job = submit(host, members=3, at_once=2, body='echo "$DFH_JOB_ID $DFH_INDEX $PWD"; exit $DFH_INDEX')
    now = until(host, all_ended)
    assert {key: (state.index, state.exit_code, state.word) for key, state in now.items()} == {
        SHELL.member(job, index): (index, index, "EXITED") for index in range(3)
    }
    assert all(state.job == job and state.name == JOB.name and state.failure is None for state in now.values())
    output = host.home / "work dir" / SHELL.output(2)
    assert output.read_text() == f"{job}_2 2 {output.parent}\n"
    found = [host.run(command) for command in SHELL.lookup(JOB.name, 0, Resources())]
    assert {state.id for state in SHELL.read_lookup(JOB.name, found)} == set(now)
    assert SHELL.read_lookup("abc-2.train", found) == []
    told = [host.run(command) for command in SHELL.history([SHELL.member(job, 1), "0123456789"], 0)]
    assert SHELL.read_history(*told[0]) == list(now.values())


def test_the_body_is_not_part_of_what_watches_it(host):
    job = submit(host, body="if syntax error")
    (state,) = until(host, all_ended).values()
    assert (state.id, state.index, state.exit_code) == (job, None, 2)


def test_cancelling(host):
    job = submit(host, members=3, at_once=1, body="sleep 60 & wait")
    until(host, lambda now: now[SHELL.member(job, 0)].phase is Phase.RUNNING)
    child = pid(host, job)
    for ids in ([SHELL.member(job, 2)], [job], [job, "0123456789"]):
        (command,) = SHELL.cancel(ids)
        SHELL.read_cancel(*host.run(command))
    now = until(host, all_ended)
    assert {state.failure for state in now.values()} == {FailureClass.CANCELLED}
    assert [state.exit_code for state in now.values()] == [143, 0, 0]
    assert not Path(f"/proc/{child}").exists()


def test_the_time_limit_and_its_warning(host):
    submit(host, resources=Resources(time="2s"), warn=1, body="trap 'echo soon' USR2; sleep 60 & wait; wait")
    (state,) = until(host, all_ended).values()
    assert (state.word, state.failure) == ("TIMEOUT", FailureClass.WALLTIME)
    assert (host.home / "work dir" / SHELL.output(None)).read_text().startswith("soon\n")


def test_what_a_program_leaves_behind_is_ended(host):
    job = submit(host, body="sleep 60 & echo $!")
    until(host, all_ended)
    left = int((host.home / "work dir" / "job.out").read_text())
    until(host, lambda _: not Path(f"/proc/{left}").exists() or "Z" in Path(f"/proc/{left}/stat").read_text())
    assert states(host)[job].exit_code == 0


def test_kill_9_of_the_program_and_of_its_supervisor(host):
    one, two = submit(host, body="sleep 60"), submit(host, members=2, at_once=1, body="sleep 60")
    until(host, lambda now: now[one].phase is Phase.RUNNING and now[f"{two}_0"].phase is Phase.RUNNING)
    os.kill(pid(host, one), signal.SIGKILL)
    state = until(host, lambda now: now[one].phase is Phase.ENDED)[one]
    assert (state.word, state.exit_code, state.signal, state.failure) == ("EXITED", 137, 9, None)
    supervisor = int((state_directory(host, two) / "pid").read_text().split()[0])
    os.killpg(supervisor, signal.SIGKILL)
    now = until(host, lambda now: now[f"{two}_1"].phase is Phase.ENDED)
    assert now[f"{two}_1"].word == "LOST"
    assert now[f"{two}_0"].phase is Phase.RUNNING  # nobody watches it, but it lives
    (command,) = SHELL.cancel([two])
    SHELL.read_cancel(*host.run(command))
    now = until(host, all_ended)
    assert (now[f"{two}_0"].word, now[f"{two}_0"].failure) == ("LOST", None)


def test_nothing_is_started_without_its_supervisor(host):
    job = submit(host, members=2, at_once=1, body="until [ -e go ]; do sleep 0.1; done")
    until(host, lambda now: now[f"{job}_0"].phase is Phase.RUNNING)
    supervisor = int((state_directory(host, job) / "pid").read_text().split()[0])
    os.kill(supervisor, signal.SIGKILL)
    until(host, lambda now: now[f"{job}_1"].word == "LOST")
    (host.home / "work dir" / "go").touch()
    until(host, lambda _: not group_lives(supervisor))
    now = states(host)
    assert [state.word for state in now.values()] == ["EXITED", "LOST"]
    assert not (state_directory(host, job) / "pid.1").exists()


def group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_was_given_up_does_not_start_late(host):
    job = submit(host, body="echo once")
    directory = without_an_end(host, job)
    (directory / "job").write_text("1 1000\n")
    (directory / "pid").unlink()
    (directory / "pid.0").unlink()
    assert states(host)[job].word == "LOST"
    host.run(f"DFH_STATE={directory} sh job.sh run", cwd=host.home / "work dir")
    assert states(host)[job].word == "LOST"
    assert (host.home / "work dir" / "job.out").read_text() == "once\n"


def test_a_process_of_another_host_counts_as_live_and_one_of_another_boot_does_not(host):
    job = submit(host)
    directory = without_an_end(host, job)
    there = (directory / "pid.0").read_text().split()
    for change, word in (((3, "otherhost"), "ELSEWHERE"), ((2, "other-boot"), "LOST")):
        fields = list(there)
        fields[change[0]] = change[1]
        for name in ("pid", "pid.0"):
            (directory / name).write_text(" ".join(fields) + "\n")
        assert states(host)[job].word == word
    assert states(host)[job].phase is Phase.ENDED


def test_a_number_of_a_process_that_came_again_is_not_trusted(host):
    job = submit(host)
    directory = without_an_end(host, job)
    fields = (directory / "pid.0").read_text().split()
    for name in ("pid", "pid.0"):
        (directory / name).write_text(" ".join([str(os.getpid()), *fields[1:]]) + "\n")
    assert states(host)[job].word == "LOST"


def test_what_did_not_begin(host):
    job = submit(host)
    directory = without_an_end(host, job)
    for path in directory.iterdir():
        if path.name not in ("name", "job"):
            path.unlink()
    assert states(host)[job].word == "STARTING"
    (directory / "job").write_text("1 1000\n")
    assert states(host)[job].word == "LOST"


def test_refusals(host):
    with pytest.raises(ConfigError, match="one host"):
        SHELL.script(dataclasses.replace(JOB, resources=Resources(nodes=2)))
    (host.home / ".dflow-hpc").write_text("a file in the way")
    (host.home / "job.sh").write_text(SHELL.script(dataclasses.replace(JOB, directory=str(host.home))))
    answer = SHELL.submitted(*host.run(SHELL.submit("job.sh")))
    assert isinstance(answer, Refused)
    assert answer.failure is FailureClass.CONFIG
    assert ".dflow-hpc/shell is not there" in answer.message
    assert isinstance(SHELL.submitted(255, "", ""), Unclear)
    assert states(host) == {}


def test_description_and_silence(host):
    assert SHELL.read_description(*host.run(SHELL.describe())).version.startswith("Linux")
    with pytest.raises(SchedulerSilent, match="there is no setsid"):
        SHELL.read_description(*host.run("PATH=/nonexistent; " + SHELL.describe()))
    with pytest.raises(SchedulerSilent):
        SHELL.read_queue(255, "", "ssh: connection closed\n")


@given(st.text(), st.text())
def test_any_step_and_comment_stay_within_their_lines(step, comment):
    text = SHELL.script(dataclasses.replace(JOB, name=f"abc-1.{step}", comment=comment))
    before = SHELL.script(JOB).splitlines()
    changed = [new for new, old in zip(text.splitlines(), before, strict=True) if new != old]
    assert all(line.startswith(("# ", "dfh_name=abc-1.")) for line in changed)


@given(
    st.integers(0, 255),
    st.lists(st.sampled_from(["dflow-hpc shell 1", "\n", "0123456789", "9", "x", ""]) | st.text()),
)
def test_garbage_never_raises_but_silence(rc, pieces):
    try:
        SHELL.read_queue(rc, "|".join(pieces), "")
    except SchedulerSilent as silent:
        assert "rc" in str(silent)
