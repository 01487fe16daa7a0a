"""Kills between any two commands of the scripts: never two submissions, never a job that a look-up would not find.

The scripts run in bash here, whose DEBUG trap comes before each simple command; the n-th ends the process by SIGKILL,
or its whole group: what `timeout` runs is in a group of its own, so a submit command in flight goes on, as an orphan.
The plain suite takes some of the points; `-m campaign` takes all.
"""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dflow_hpc.errors import HostUnreachable
from dflow_hpc.executors.protocol import ProtocolError, Questions
from dflow_hpc.executors.transport.local import LocalTransport

pytestmark = pytest.mark.slow

TRAP = """\
set -T
dfh_count=0
trap 'dfh_count=$((dfh_count + 1))
    if [ $dfh_count -eq $DFH_AT ]; then touch "$DFH_HIT"; kill -KILL $DFH_WHOM; fi' DEBUG
"""
SHELL = """\
#!/bin/bash
unset BASH_ENV
case $DFH_SCRIPT:$1:$3 in
worker:*/submit.sh:worker | front:*/submit.sh: | member:*/member.sh:*) export BASH_ENV=$DFH_TRAP ;;
esac
case $DFH_ALONE in 0) export DFH_WHOM="-- -$$" ;; *) export DFH_WHOM=$$ ;; esac
exec bash "$@"
"""


class Killing(LocalTransport):
    """Runs one command with a kill at a point."""

    def __init__(self, directory):
        super().__init__()
        self.point = None
        self.hit = directory / "hit"
        self.tools = directory / "tools"
        self.tools.mkdir()
        (self.tools / "trap").write_text(TRAP)
        (self.tools / "sh").write_text(SHELL)
        (self.tools / "sh").chmod(0o755)

    def run(self, command, stdin=b"", timeout=20.0):
        if self.point is None:
            return super().run(command, stdin, timeout)
        script, alone, at = self.point
        self.point = None
        self.hit.unlink(missing_ok=True)
        variables = f"DFH_SCRIPT={script} DFH_ALONE={int(alone)} DFH_AT={at} DFH_HIT='{self.hit}'"
        # The n-th command of the script proper: the shell's own group is the one that is killed.
        line = f"export PATH='{self.tools}':\"$PATH\" DFH_TRAP='{self.tools}/trap' {variables}; exec setsid -w "
        return super().run(line + command.replace("/bin/sh ", "sh ", 1), stdin, timeout)


@pytest.fixture
def killing(machine, tmp_path):
    machine.transport = machine.scripts._transport = Killing(tmp_path)
    machine.scripts.home()
    return machine


def known_to_the_scheduler(machine, batch):
    """Return whether a look-up by name would find it."""
    return batch in machine.ledger()


def bring_to_an_end(machine, batch, programs):
    """Do as the broker does after an answer that did not come; return the batch that was accepted in the end."""
    while True:
        (frame,) = machine.scripts.ask(Questions(seal=[batch])).batches.values()
        if frame.word == "running":
            continue
        if frame.word == "answered" and frame.rc == 0:
            return batch
        if frame.word == "begun" and known_to_the_scheduler(machine, batch):
            return batch
        assert frame.word in ("sealed", "begun")
        batch += "x"  # what is lost for certain goes again under a new name
        assert machine.submit(batch, programs)[batch].word == "answered"


def submit_with_a_kill(machine, script, alone, at):
    """Return whether the script came so far."""
    machine.transport.point = (script, alone, at)
    token, batch = f"{script[0]}{int(alone)}q{at}-1", f"b{at}"
    programs = {token: machine.command("true")}
    before = len(machine.ledger())
    try:
        accepted = machine.submit(batch, programs)[batch].word == "answered"
    except (HostUnreachable, ProtocolError):
        accepted = False
    hit = machine.transport.hit.exists()
    assert accepted or hit
    ended = bring_to_an_end(machine, batch, programs)
    late = machine.submit(batch, programs)[batch]  # the first parcel comes again, late
    assert late.word in ("answered", "begun", "sealed")
    assert machine.ledger()[before:] == [ended]
    return hit


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("script", ["worker", "front"])
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.campaign)])
def test_a_submission_that_is_killed_anywhere_is_submitted_once(killing, script, alone, step):
    (killing.stub / "hold").touch()
    at, most = 1 + int(alone), 1
    while submit_with_a_kill(killing, script, alone, at):
        most = at
        at += step
    assert most > 10  # the points reach from the first command to the last


def state_of(machine, batch):
    return machine.scripts.ask(Questions(seal=[batch])).batches[batch].word


def test_a_submit_command_that_outlives_its_killed_script_is_waited_for(machine):
    (machine.stub / "hold").touch()
    (machine.stub / "slow").touch()
    programs = {"k-1": machine.command("true")}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(machine.submit, "b", programs)
        while not (machine.stub / "asked").exists():
            time.sleep(0.01)
        owner = (machine.root / ".batch" / "b" / "submit.lock").readlink()
        os.killpg(int(str(owner).partition(":")[0]), signal.SIGKILL)
        with pytest.raises(HostUnreachable):  # no answer, which means nothing
            answer.result(30)
    assert state_of(machine, "b") == "running"
    assert machine.submit("b", programs)["b"].word == "running"
    (machine.stub / "slow").unlink()
    while state_of(machine, "b") == "running":
        time.sleep(0.01)
    assert (state_of(machine, "b"), machine.ledger()) == ("begun", ["b"])
    assert machine.submit("b", programs)["b"].word == "begun"
    assert machine.ledger() == ["b"]


def test_a_submission_on_another_login_node_is_given_its_time(machine):
    home = machine.scripts.home()
    for batch, age, word in (("young", 0, "running"), ("old", 1000, "begun")):
        place = Path(home.root, ".batch", batch)
        place.mkdir(parents=True)
        (place / "submit.lock").symlink_to(f"1:elsewhere:{int(time.time()) - age}")
        assert state_of(machine, batch) == word


def test_what_was_sealed_is_never_submitted(machine):
    assert state_of(machine, "b") == "sealed"
    assert machine.submit("b", {"k-1": machine.command("true")})["b"].word == "sealed"
    assert machine.ledger() == []


def test_a_refusal_is_answered_with_its_words(machine):
    (machine.stub / "refuse").write_text("no such partition\n")
    for _ in range(2):  # it is kept
        frame = machine.submit("b", {"k-1": machine.command("true")})["b"]
        assert (frame.word, frame.rc, frame.err) == ("answered", 1, b"no such partition\n")
    assert machine.ledger() == ["b"]


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_parcel_that_arrives_in_part_changes_nothing(machine, keep):
    machine.scripts.home()
    data = machine.cargo("b", {"k-1": machine.command("true", env={"A": "x" * 50_000})}).close()
    with pytest.raises(ProtocolError, match="did not arrive whole"):
        machine.scripts._call("submit", data[: int(len(data) * keep)])
    assert not (machine.root / "k").exists()
    assert (machine.ledger(), list((machine.root / ".in").iterdir())) == ([], [])


def test_many_clients_that_send_the_same_batch_submit_it_once(machine):
    machine.scripts.home()
    tars = [machine.cargo("b", {"k-1": machine.command("true")}) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        words = {answer["b"].word for answer in pool.map(machine.scripts.submit, tars)}
    assert words <= {"answered", "running"}
    assert machine.ledger() == ["b"]


def run_with_a_kill(machine, at):
    token, batch = f"m{at}-1", f"m{at}"
    machine.submit(batch, {token: machine.command("sh", "-c", "echo once >../out", outputs=["out"])})
    machine.transport.point = ("member", False, at)
    job = f"{machine.scripts.body(batch)}".replace("exec ", "", 1).strip()

    def start(number):
        return machine.transport.run(
            f'/bin/sh -c \'cd "$0"; DFH_JOB_ID={number} exec sh "$@"\' ' + _rest(machine, batch, job)
        )

    start(1)
    hit = machine.transport.hit.exists()
    leaf = machine.root / f"m{at}" / "attempt.1"
    claimed = (leaf.parent / "claim.1").is_symlink()
    assert not (leaf / "exit.json").exists() or (leaf / "exit.json").read_text().endswith("}\n")
    if claimed:
        start(2)  # another job of the same token, as after a scheduler that lost its mind
        assert str((leaf.parent / "claim.1").readlink()) == "1"
    start(1)  # the requeue
    (marker,) = machine.wait(token)
    assert (marker["rc"], marker["stage"], marker["job"]) == (0, "main", "1")
    assert (machine.here / token / "out").read_text() == "once\n"
    return hit


def _rest(machine, batch, job):
    directory = machine.scripts.batch_directory(batch)
    return f'"{directory}" ' + job.removeprefix("/bin/sh ")


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.campaign)])
def test_a_job_that_is_killed_anywhere_leaves_a_whole_marker_or_none_and_its_requeue_ends_well(killing, step):
    (killing.stub / "hold").touch()
    at = 1
    while run_with_a_kill(killing, at):
        at += step
    assert at > 40
