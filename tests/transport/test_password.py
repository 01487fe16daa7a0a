"""A password that a program brings: it is tried after the keys, asked for at each login, and told to nobody."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import paramiko
import pytest

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.transport import LoginRefused, open_transport
from dflow_hpc.executors.transport.paramiko import ParamikoTransport

PROGRAM = """
import os
from dflow_hpc.compat import install
install(force=True)
from dflow import RemoteExecutor, ShellOPTemplate, Step, Workflow, config

config["mode"] = "debug"
remote = RemoteExecutor(host="127.0.0.1", port=int(os.environ["PORT"]), username="me", password=os.environ.pop("WORD"))
template = ShellOPTemplate("say", image="alpine", script="cat /proc/[1-9]*/cmdline >$HOME/seen 2>/dev/null; true")
wf = Workflow("far", id="far-1")
wf.add(Step("say", template, executor=remote))
wf.submit()
print(wf.query_status())
"""


class Door(paramiko.ServerInterface):
    """Lets the password in, and runs each command as whoever runs the tests."""

    def __init__(self, home):
        self.home = home

    def get_allowed_auths(self, username):
        return "publickey,password"

    def check_auth_password(self, username, password):
        return paramiko.AUTH_SUCCESSFUL if (username, password) == ("me", "geheim") else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        def answer():
            with channel.makefile("rb") as stdin:
                given = stdin.read()
            options = {"cwd": self.home, "env": {"HOME": str(self.home), "PATH": os.environ["PATH"]}}
            done = subprocess.run(["/bin/sh", "-c", command], input=given, capture_output=True, check=False, **options)
            channel.sendall(done.stdout)
            channel.sendall_stderr(done.stderr)
            channel.send_exit_status(done.returncode)
            channel.close()

        threading.Thread(target=answer).start()
        return True


class Server:
    """An SSH server that knows one password."""

    def __init__(self, path):
        self.home = path / "home"
        self.home.mkdir()
        self._key = paramiko.RSAKey.generate(2048)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        known = path / "dflow-hpc" / "known_hosts"
        known.parent.mkdir()
        known.write_text(f"[127.0.0.1]:{self.port} {self._key.get_name()} {self._key.get_base64()}\n")
        self._links = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            link = paramiko.Transport(sock)
            link.add_server_key(self._key)
            link.start_server(event=threading.Event(), server=Door(self.home))
            self._links.append(link)

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for link in self._links:
            link.close()

    def transport(self, password):
        return ParamikoTransport(f"me@127.0.0.1:{self.port}", login_pause=0.0, password=password)


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    server = Server(tmp_path)
    yield server
    server.stop()


def test_the_password_opens_where_no_key_does(server):
    asked = []
    transport = server.transport(lambda: asked.append(1) or "geheim")
    try:
        assert transport.run("echo hello").out == b"hello\n"
        assert transport.run("cat", b"more").out == b"more"
    finally:
        transport.close()
    assert (len(asked), transport.logins) == (1, 1)


def test_a_wrong_password_is_told_without_it(server):
    transport = server.transport(lambda: "falsch")
    try:
        with pytest.raises(LoginRefused, match="Tried were the password, the agent") as caught:
            transport.run("true")
    finally:
        transport.close()
    assert "falsch" not in str(caught.value)


def test_ssh_itself_takes_no_password():
    with pytest.raises(ConfigError, match="`ssh` takes none from us"):
        open_transport(Machine("x", host="there", transport="openssh"), password=lambda: "geheim")


def test_a_program_of_dflows_with_a_password_leaves_it_nowhere(server, tmp_path):
    (tmp_path / "main.py").write_text(PROGRAM)
    env = {**os.environ, "PORT": str(server.port), "WORD": "geheim"}
    words = [sys.executable, "main.py"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.endswith("Succeeded\n"), done.stdout + done.stderr
    assert (server.home / "dflow" / "workflows" / ".done").is_dir()
    assert "main.py" in (server.home / "seen").read_text(errors="replace")
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"geheim" in path.read_bytes()]
    assert found == []
    assert not Path(tmp_path, "far-1", ".secrets").exists()
    assert "geheim" not in done.stdout + done.stderr
