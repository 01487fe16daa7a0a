"""A real sshd on loopback, run as whoever runs the tests, with keys of its own."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


def keygen(path, *options):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path), *options], check=True)


def children(pid):
    words = ["ps", "--ppid", str(pid), "-o", "pid="]
    return [int(word) for word in subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()]


class Server:
    """An sshd, and a configuration with the aliases `there`, `jumped`, `stranger`, `refused`."""

    def __init__(self, directory):
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for name in ("host_key", "id", "wrong"):
            keygen(directory / name)
        self.home = directory / "home"
        self.home.mkdir()
        shutil.copy(directory / "id.pub", directory / "authorized_keys")
        (directory / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {directory}/host_key\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {directory}/authorized_keys\nPidFile none\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nAllowTcpForwarding yes\n"
            f"SetEnv HOME={self.home}\n"
        )
        key = " ".join((directory / "host_key.pub").read_text().split()[:2])
        (directory / "known").write_text(f"[127.0.0.1]:{self.port} {key}\n")
        self.config = directory / "config"
        self.config.write_text(
            f"Host there jumped\n  UserKnownHostsFile {directory}/known\n"
            "Host jumped\n  ProxyJump there\n"
            "Host stranger\n  UserKnownHostsFile /dev/null\n"
            f"Host refused\n  UserKnownHostsFile {directory}/known\n  IdentityFile {directory}/wrong\n"
            f"Host *\n  HostName 127.0.0.1\n  Port {self.port}\n  User {getpass.getuser()}\n  IdentitiesOnly yes\n"
            "  IdentityAgent none\n  GlobalKnownHostsFile /dev/null\n"
            # Identity files add up: `refused` must not be given the good one.
            f"Match host * !originalhost refused\n  IdentityFile {directory}/id\n"
        )
        self.process = None

    def start(self):
        # As a group of its own: sshd's children, one a link, are ended with it.
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(self.directory / "sshd_config")],
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        for line in self.process.stderr:
            if b"listening on" in line:
                return
        raise RuntimeError("sshd did not start")

    def cut(self):
        """Cut all links, as a network that fails; the server stays."""
        for link in children(self.process.pid):
            for victim in [link, *children(link)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)

    def stop(self):
        if self.process is not None:
            self.cut()
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()
            self.process = None


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("needs sshd and ssh (Debian: openssh-server)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # root's sshd wants it for privilege separation
    server = Server(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config-home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")
