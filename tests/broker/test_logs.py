"""Logs of jobs that run: brought in pieces, joined to their end, by the engine's login or one of their own."""

import os
import signal
import subprocess

import pytest

from dflow_hpc.executors.broker.follow import Logs
from tests.broker.test_end_to_end import Project

pytestmark = pytest.mark.slow

SCRIPT = """
from dflow_hpc import *

talk = ShellOPTemplate("talk", image="busybox", command=["sh"], script='''
echo first
while [ ! -e $HOME/gate ]; do sleep 0.1; done
echo last
''')
wf = Workflow("talk", id="talk-1")
wf.add(Step("talk", talk, executor="far"))
wf.submit()
"""
PROFILE = '[machine.far]\nscheduler = "shell"\ntransport = "local"\nroot = "%s"\n'


class Far:
    """A log on a machine, which is this host."""

    def __init__(self, path):
        self.there = path / "there"
        self.here = path / "here.txt"
        self.there.mkdir()
        self.log = self.there / "log.txt"
        self.logs = Logs()

    def look(self, token="k-1"):
        command = self.logs.command(token, str(self.there))
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
        self.logs.take(token, done.stdout, self.here)
        return self.here.read_bytes()

    def end(self, token="k-1"):
        """Do what comes with a marker: the whole log, or its end."""
        data = self.log.read_bytes()
        tail = self.here.with_name("tail")
        if len(data) > 65536:
            tail.write_bytes(data[-65536:])
        else:
            self.here.write_bytes(data)
        self.logs.join(token, self.here, tail, len(data))
        assert not tail.exists()
        return self.here.read_bytes()


@pytest.fixture
def far(tmp_path):
    return Far(tmp_path)


def test_a_log_comes_in_pieces_and_begins_anew_after_a_requeue(far):
    assert far.look() == b""  # not there yet
    far.log.write_bytes(b"one\n")
    assert far.look() == b"one\n"
    far.log.write_bytes(b"one\ntwo")
    assert far.look() == far.look() == b"one\ntwo"
    far.log.write_bytes(b"new\n")
    assert far.look() == b"new\n"
    far.log.write_bytes(b"another attempt")
    assert far.look("k-2") == b"another attempt"


def test_of_a_long_log_the_end_comes(far):
    far.log.write_bytes(b"x" * 300_000 + b"end")
    found = far.look()
    assert found.startswith(b"\n[234467 bytes are left out here")
    assert found.endswith(b"xend")


@pytest.mark.parametrize("more", [0, 10, 65_536, 100_000])
def test_what_was_followed_and_the_end_are_one_log(far, more):
    far.log.write_bytes(b"a" * 70_000)
    far.look()
    far.log.write_bytes(b"a" * 70_000 + b"b" * more)
    found = far.end()
    if more <= 65_536:
        assert found == far.log.read_bytes()
    else:
        assert (
            found
            == b"a" * 70_000
            + b"\n[%d bytes are left out here; the machine has them]\n" % (more - 65_536)
            + b"b" * 65_536
        )
    assert far.look() == found  # a look that comes too late changes nothing


def test_a_log_that_nobody_followed_is_its_end(far):
    far.log.write_bytes(b"a" * 70_000)
    assert far.end() == b"a" * 65_536


@pytest.fixture
def project(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "talk.py").write_text(SCRIPT)
    (tmp_path / "machines.toml").write_text(PROFILE % (tmp_path / "there"))
    made = Project(tmp_path, {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home)})
    yield made
    (home / "gate").touch()
    for process in made.processes:
        process.kill()
        process.communicate()


def test_logs_of_a_running_job_are_shown_followed_and_read_without_an_engine(project):
    engine = project.start("talk.py")
    project.until(lambda: "first" in project.ended(project.command("logs", "talk-1")))
    follower = project.command("logs", "talk-1", "talk", "-f")
    assert follower.stdout.readline() == b"first\n"
    os.kill(engine.pid, signal.SIGKILL)
    engine.communicate(timeout=60)
    project.ended(follower)
    (project.path / "talk-1").glob("*/log.txt").__next__().unlink()
    said = project.ended(project.command("logs", "talk-1"))
    assert said.splitlines() == ["no process works on talk-1: the logs were read by a login of their own", "first"]
    engine = project.command("resume", "talk-1")
    project.until(lambda: project.ended(project.command("logs", "talk-1")).splitlines() == ["first"])
    follower = project.command("logs", "talk-1", "talk", "-f")
    (project.home / "gate").touch()
    project.ended(engine)
    assert project.ended(follower).splitlines()[-2:] == ["first", "last"]
