"""The user's own ``ssh``: his link is used and left alone, his configuration is kept out of the way, and there is no
login that nobody counts."""

import contextlib
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from dflow_hpc.errors import HostUnreachable
from dflow_hpc.executors.transport.openssh import OpenSSHTransport
from tests.transport.conftest import children

pytestmark = pytest.mark.slow


@pytest.fixture
def user(sshd):
    """A user with a ControlPath, and whatever else a test puts into his configuration."""
    with tempfile.TemporaryDirectory(dir="/tmp") as room:  # the name of a socket must be short
        made = User(sshd, Path(room))
        yield made
        made.end()


class User:
    def __init__(self, sshd, room):
        self.sshd = sshd
        self.room = room
        self.config = room / "config"
        self.processes = []
        self.says()

    def says(self, *lines):
        own = "".join(f"  {line}\n" for line in (f"ControlPath {self.room}/%C", *lines))
        self.config.write_text(f"Host there\n{own}Match all\nInclude {self.sshd.config}\n")

    def ssh(self, *words):
        return subprocess.run(["ssh", "-F", self.config, *words], capture_output=True, text=True, check=False)

    def opens_a_link(self):
        done = subprocess.run(
            ["ssh", "-F", self.config, "-M", "-N", "-f", "-o", "ControlPersist=60", "there"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0

    def link_lives(self):
        return self.ssh("-O", "check", "there").returncode == 0

    def holds_sessions(self, number):
        for index in range(number):
            command = f"touch {self.room}/held.{index}; while [ -e {self.room}/held.{index} ]; do sleep 0.1; done"
            words = ["ssh", "-F", self.config, "-o", "RemoteCommand=none", "there", command]
            self.processes.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        until(lambda: len(list(self.room.glob("held.*"))) == number)

    def logins(self):
        """Links that the server has at the moment."""
        return len(children(self.sshd.process.pid))

    @contextlib.contextmanager
    def transport(self):
        transport = OpenSSHTransport("there", str(self.config), login_pause=0)
        try:
            yield transport
        finally:
            transport.close()

    def end(self):
        self.ssh("-O", "exit", "there")
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_a_link_of_the_user_is_used_and_left_alone(user):
    user.opens_a_link()
    before = user.logins()
    with user.transport() as transport:
        assert transport.run("cat", b"over it").out == b"over it"
        assert (transport.logins, user.logins()) == (0, before)
    assert user.link_lives()


def test_a_link_of_the_user_that_ends_in_the_middle_is_replaced_by_our_own(user):
    user.opens_a_link()
    with user.transport() as transport:
        failed = []

        def wait():
            try:
                transport.run(f"touch {user.room}/on; exec sleep 60")
            except HostUnreachable as error:
                failed.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        until((user.room / "on").exists)
        user.ssh("-O", "exit", "there")
        thread.join(30)
        assert len(failed) == 1
        assert transport.run("echo again").out == b"again\n"
        assert transport.logins == 1
        assert not user.link_lives()  # ours is at a path of its own
        user.opens_a_link()
        assert transport.run("echo over his").out == b"over his\n"
    assert user.link_lives()


def test_a_link_without_room_for_a_session_is_no_reason_to_log_in_uncounted(user):
    user.opens_a_link()
    user.holds_sessions(10)  # sshd's MaxSessions
    before = user.logins()
    with user.transport() as transport:
        with pytest.raises(HostUnreachable, match="takes no more sessions"):
            transport.run("true")
        assert user.logins() == before
        (user.room / "held.0").unlink()
        user.processes[0].wait(30)
        assert transport.run("true").rc == 0
        assert (transport.logins, user.logins()) == (0, before)


def test_what_the_user_configured_for_work_by_hand_is_not_in_the_way(user):
    user.says("RemoteCommand exec tmux", "RequestTTY yes", f"LocalForward {user.sshd.port} 127.0.0.1:1",
              "ExitOnForwardFailure yes", "ControlMaster auto", "ControlPersist yes", "ForwardX11 yes")  # fmt: skip
    with user.transport() as transport:
        assert transport.run("cat; tty", b"plain").out == b"plainnot a tty\n"
        assert transport.logins == 1


def test_a_quiet_configuration_hides_no_trouble(user):
    user.says("LogLevel QUIET", "HostName nowhere.invalid")
    with user.transport() as transport, pytest.raises(HostUnreachable, match="nowhere"):
        transport.run("true")


def test_what_moves_is_not_given_up(user):
    with user.transport() as transport:
        answer = transport.run("for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done", timeout=2)
        assert answer.out.split() == [b"1", b"2", b"3", b"4", b"5", b"6"]
        with pytest.raises(HostUnreachable, match="not a byte for 1 s"):
            transport.run("sleep 60", timeout=1)


def test_closing_ends_a_command_over_the_users_link(user):
    user.opens_a_link()
    with user.transport() as transport:
        ended = []

        def wait():
            with contextlib.suppress(HostUnreachable):
                transport.run(f"touch {user.room}/on; exec sleep 60")
            ended.append(time.monotonic())

        thread = threading.Thread(target=wait)
        thread.start()
        until((user.room / "on").exists)
        transport.close()
        thread.join(30)
        assert ended
    assert user.link_lives()
