"""A login host without a scheduler: background processes over a real sshd, which outlive the login."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from dflow_hpc.executors.profiles.machine import Limits, Machine
from tests.broker.far import QUICK, Far, soon

pytestmark = pytest.mark.slow

HOLD = 'echo "$DFH_TOKEN" >>"$LEDGER"; until [ -e "$LEDGER.gate" ]; do sleep 0.05; done'


class Host(Far):
    def __init__(self, path, sshd):
        machine = Machine(
            "far", "shell", host="there", ssh_config=str(sshd.config), transport="openssh", root=str(path / "there"),
            limits=Limits(max_jobs=2),
        )  # fmt: skip
        super().__init__(path, machine, QUICK)
        self.states = sshd.home / ".dflow-hpc" / "shell"
        self.file = path / "ledger"

    def leaf(self, key, script):
        return self.parcel(key, f"LEDGER={self.file}; {script}")

    def ledger(self):
        return self.file.read_text().split() if self.file.exists() else []

    def open_gate(self):
        Path(f"{self.file}.gate").touch()


@pytest.fixture
def host(tmp_path, sshd):
    made = Host(tmp_path, sshd)
    yield made
    made.open_gate()


def test_no_more_run_at_once_than_the_profile_allows(host):
    counted = 'echo x >>"$LEDGER"; mkdir "$LEDGER.$$"; ls -d "$LEDGER".* | wc -l; sleep 0.3; rmdir "$LEDGER.$$"'
    ends = host.run(*(host.leaf(f"k{number}", counted) for number in range(5)))
    assert [end.marker.record["rc"] for end in ends.values()] == [0] * 5
    counts = [int((host.path / "here" / key / "result").read_text()) for key in ends]
    assert max(counts) <= 2
    assert host.ledger() == ["x"] * 5


def test_a_job_outlives_the_login_and_is_joined_again(host, sshd):
    async def leave(host, broker, running, tasks):
        await soon(lambda: host.ledger() == ["k-1"])
        broker.leave()
        tasks[0].cancel()

    parcel = host.leaf("k", f"{HOLD}; echo went")
    assert isinstance(host.run(parcel, meanwhile=leave)["k"], asyncio.CancelledError)
    sshd.cut()
    host.open_gate()
    assert host.run(parcel)["k"].marker.record["rc"] == 0
    assert (host.path / "here" / "k" / "result").read_text() == "went\n"
    assert host.ledger() == ["k-1"]


def test_cancelling_ends_all_that_a_job_started(host):
    async def cancel(host, broker, running, tasks):
        await soon(lambda: len(host.ledger()) == 3)
        tasks[0].cancel()

    script = 'sleep 600 & echo $! >>"$LEDGER"; (sleep 600; true) & echo $! >>"$LEDGER"; echo $$ >>"$LEDGER"; wait'
    assert isinstance(host.run(host.leaf("k", script), meanwhile=cancel)["k"], asyncio.CancelledError)
    assert [pid for pid in host.ledger() if lives(pid)] == []


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_reboot_is_no_success(host):
    """All processes are gone, and what they wrote down about themselves is of another boot."""

    async def reboot(host, broker, running, tasks):
        await soon(lambda: host.ledger() == ["reboot-1"])
        (state,) = [name.parent for name in host.states.glob("*/name") if name.read_text() == "reboot-1.step\n"]
        told = {name: (state / name).read_text().split() for name in ("pid", "pid.0")}
        for name, (pid, born, _, where, *rest) in told.items():
            (state / name).write_text(" ".join([pid, born, "another-boot", where, *rest]) + "\n")
        os.killpg(int(told["pid"][0]), signal.SIGKILL)
        os.killpg(int(told["pid.0"][4]), signal.SIGKILL)
        host.open_gate()

    end = host.run(host.leaf("reboot", HOLD), meanwhile=reboot)["reboot"]
    assert (end.job.token, end.marker.record["rc"]) == ("reboot-2", 0)
    assert host.ledger() == ["reboot-1", "reboot-2"]
    assert any("attempt 1 ended with LOST" in text for text in host.said)
