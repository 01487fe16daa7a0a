"""A password that a program brings: it is tried after the keys, asked for at each login, and told to nobody."""

import socket
import threading

import paramiko
import pytest

from dflow_hpc.executors.transport import LoginRefused, open_transport
from dflow_hpc.executors.transport.paramiko import ParamikoTransport


class Door(paramiko.ServerInterface):
    """Lets the password in, and answers each command with ``hello``."""

    def get_allowed_auths(self, username):
        return "publickey,password"

    def check_auth_password(self, username, password):
        return paramiko.AUTH_SUCCESSFUL if (username, password) == ("me", "geheim") else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        def answer():
            channel.sendall(b"hello")
            channel.send_exit_status(0)
            channel.close()

        threading.Timer(0.1, answer).start()
        return True


@pytest.fixture
def config(tmp_path):
    """An OpenSSH configuration for a server that knows one password."""
    key = paramiko.RSAKey.generate(2048)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")
    path = tmp_path / "config"
    path.write_text(f"Host there\n HostName 127.0.0.1\n Port {port}\n User me\n UserKnownHostsFile {tmp_path}/known\n")
    links = []

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            link = paramiko.Transport(sock)
            link.add_server_key(key)
            link.start_server(event=threading.Event(), server=Door())
            links.append(link)

    thread = threading.Thread(target=serve)
    thread.start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for link in links:
        link.close()


def test_the_password_opens_where_no_key_does(config, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    asked = []
    with_password = ParamikoTransport(
        "there", str(config), login_pause=0.0, password=lambda: asked.append(1) or "geheim"
    )
    try:
        assert with_password.run("true").out == b"hello"
        assert with_password.run("true").out == b"hello"
    finally:
        with_password.close()
    assert (len(asked), with_password.logins) == (1, 1)


def test_a_wrong_password_is_told_without_it(config, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    transport = ParamikoTransport("there", str(config), login_pause=0.0, password=lambda: "falsch")
    try:
        with pytest.raises(LoginRefused, match="Tried were the password, the agent") as caught:
            transport.run("true")
    finally:
        transport.close()
    assert "falsch" not in str(caught.value)


def test_ssh_itself_takes_no_password():
    from dflow_hpc.errors import ConfigError
    from dflow_hpc.executors.machine import Machine

    with pytest.raises(ConfigError, match="`ssh` takes none from us"):
        open_transport(Machine("x", host="there", transport="openssh"), password=lambda: "geheim")
