"""One SSH login of our own, kept alive: the transport of machines with a ``host``. The only module that knows paramiko.

Keys come from the agent and the files of the OpenSSH configuration; host keys are strict; jump hosts are followed.
There is no question, and a password only where a program brings one. A dropped link ends the commands in flight with
``HostUnreachable``, and the next command logs in again.

Not here: SFTP, forwarding, retries.

Trap: a channel has one window for stdout and stderr together, so both must be read while stdin is still written, or
large streams block each other for ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.auth_strategy import AuthFailure, AuthSource, AuthStrategy, InMemoryPrivateKey, NoneAuth, Password

from dflow_hpc.errors import ConfigError, HostUnreachable
from dflow_hpc.executors.transport import MAX_CHANNELS, Answer, LoginRefused, UnknownHost, in_posix_shell
from dflow_hpc.executors.transport.logins import LoginGate, turns_file
from dflow_hpc.executors.transport.sshconfig import HostConfig, host_config, own_known_hosts

_CONNECT = 20.0
_KEEP_ALIVE = 15
_DEAD_AFTER_MS = 60_000
_PROBE = 10.0
_CHUNK = 1 << 18
_TICK = 5.0
logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else a dropped link prints a traceback of its thread


class ParamikoTransport:
    """Runs commands over one login. See ``Transport``.

    Args:
        host: An OpenSSH alias or a name.
        ssh_config: Configuration file; None is the user's.
        ssh_options: Options for this host, as after ``ssh -o``.
        login_pause: Seconds between two logins.
        password: Gives the password for the host itself, if there is one; it is tried after all keys.
    """

    def __init__(
        self,
        host: str,
        ssh_config: str | None = None,
        ssh_options: Sequence[str] = (),
        *,
        login_pause: float,
        password: Callable[[], str] | None = None,
    ):
        self.logins = self.commands = self.sent = self.received = 0
        self._host = host
        self._ssh_config = ssh_config
        self._ssh_options = ssh_options
        self._password = password
        self._lock = threading.Lock()
        self._login = threading.Lock()
        self._room = threading.BoundedSemaphore(MAX_CHANNELS)
        self._gate = LoginGate(login_pause, turns_file(host, ssh_config))
        self._line: list[paramiko.SSHClient] = []
        """The clients of the jump hosts and, last, of the host itself."""

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> Answer:
        """Run a command; see ``Transport.run``."""
        with self._room:
            link = self._link()
            try:
                with contextlib.closing(link.open_session(timeout=timeout)) as channel:
                    channel.exec_command(in_posix_shell(command))
                    with self._lock:
                        self.commands += 1
                    return self._count(_Talk(channel, timeout).hold(stdin))
            except (paramiko.SSHException, OSError, EOFError) as error:
                what = "gave no answer in time" if isinstance(error, TimeoutError) else "broke"
                if not _lives(link):
                    self._drop(link)
                raise HostUnreachable(
                    f"the link to {self._host} {what} while this was asked: {command[:200]} "
                    f"({str(error) or type(error).__name__}). Whether it ran is unknown."
                ) from error

    def _count(self, talked: tuple[Answer, int]) -> Answer:
        answer, sent = talked
        with self._lock:
            self.sent += sent
            self.received += len(answer.out) + len(answer.err)
        return answer

    def _link(self) -> paramiko.Transport:
        """Return the live link; log in where there is none."""
        with self._login:
            link = self._line[-1].get_transport() if self._line else None
            if link is not None and link.is_active():
                return link
            self._close_line()
            if self._gate.closed.is_set():
                raise HostUnreachable(f"the link to {self._host} was closed")
            self._gate.enter()
            return self._log_in()

    def _log_in(self) -> paramiko.Transport:
        try:
            hops = _hops(self._host, self._ssh_config, self._ssh_options)
            for config in hops:
                password = self._password if config is hops[-1] else None
                self._line.append(_connect(config, self._line[-1].get_transport() if self._line else None, password))
        except LoginRefused as error:
            self._gate.refused(error)
            self._close_line()
            raise
        except BaseException:
            self._close_line()
            raise
        self._gate.accepted()
        self.logins += 1
        link = self._line[-1].get_transport()
        if link is None:
            raise HostUnreachable(f"{self._host} ended the link right after the login")
        return link

    def _close_line(self) -> None:
        while self._line:
            self._line.pop().close()

    def _drop(self, link: paramiko.Transport) -> None:
        with self._login:
            if self._line and self._line[-1].get_transport() is link:
                self._close_line()

    def close(self) -> None:
        """Give the link up; see ``Transport.close``."""
        self._gate.closed.set()
        with self._login:
            self._close_line()


class _Talk:
    """One command on its channel.

    Args:
        channel: On which the command was just started.
        timeout: Seconds without a byte in any direction that it may last.
    """

    def __init__(self, channel: paramiko.Channel, timeout: float):
        self._channel = channel
        self._timeout = timeout
        self._active = time.monotonic()
        self._sent = 0
        self._errors = b""
        channel.settimeout(min(timeout, _TICK))

    def hold(self, stdin: bytes) -> tuple[Answer, int]:
        """Write stdin, read both outputs to their ends; return them, and how many bytes were written.

        Raises:
            TimeoutError: Nothing moved for too long.
            EOFError: The link broke, or the command was killed: there is no exit status.
        """
        threads = [threading.Thread(target=self._write, args=(stdin,)), threading.Thread(target=self._read_errors)]
        for thread in threads:
            thread.daemon = True
            thread.start()
        try:
            out = self._read(self._channel.recv)
            if not self._channel.status_event.wait(self._timeout):
                raise TimeoutError(f"no end within {self._timeout:.0f} s")
        finally:
            self._channel.close()
            for thread in threads:
                thread.join()
        if self._channel.exit_status < 0:
            raise EOFError("it ended without an exit status")
        return Answer(self._channel.exit_status, out, self._errors), self._sent

    def _moved(self) -> None:
        self._active = time.monotonic()

    def _check(self) -> None:
        if time.monotonic() - self._active >= self._timeout:
            raise TimeoutError(f"not a byte for {self._timeout:.0f} s")

    def _read(self, receive: Callable[[int], bytes]) -> bytes:
        parts: list[bytes] = []
        while True:
            try:
                data = receive(_CHUNK)
            except TimeoutError:
                self._check()
                continue
            if not data:
                return b"".join(parts)
            parts.append(data)
            self._moved()

    def _read_errors(self) -> None:
        with contextlib.suppress(OSError):  # the reader of stdout tells of the same trouble
            self._errors = self._read(self._channel.recv_stderr)

    def _write(self, stdin: bytes) -> None:
        view = memoryview(stdin)
        # A command may end without reading all of it: that is its own matter, and its exit code tells.
        with contextlib.suppress(OSError):
            while view:
                try:
                    count = self._channel.send(bytes(view[:_CHUNK]))
                except TimeoutError:
                    self._check()
                    continue
                if count == 0:
                    return
                view = view[count:]
                self._sent += count
                self._moved()
            self._channel.shutdown_write()


def _lives(link: paramiko.Transport) -> bool:
    """Ask the other side for a sign of life."""
    if not link.is_active():
        return False
    try:
        link.open_session(timeout=_PROBE).close()
    except (paramiko.SSHException, OSError, EOFError):
        return False
    return True


def _hops(host: str, ssh_config: str | None, ssh_options: Sequence[str] = ()) -> list[HostConfig]:
    """Return the hosts to log in to, one through the other; the last is the goal."""
    goal = host_config(host, ssh_config, ssh_options)
    return [*(host_config(jump, ssh_config) for jump in goal.jumps), goal]


def _connect(
    config: HostConfig, through: paramiko.Transport | None, password: Callable[[], str] | None = None
) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    policy = _Strict(config)
    client.set_missing_host_key_policy(policy)
    client.get_host_keys().update(_known_keys(config))
    sock = _socket(config, through)
    keys = _Keys(config, password)
    # With port 22 paramiko looks the name up as it is given; HostConfig.key_name has the port in it where it belongs.
    try:
        client.connect(
            config.key_name,
            port=22,
            username=config.user,
            sock=sock,
            auth_strategy=keys,
            banner_timeout=_CONNECT,
            auth_timeout=_CONNECT,
            timeout=_CONNECT,
        )
    except paramiko.BadHostKeyException as error:
        raise policy.changed(error.key) from error
    except AuthFailure as error:
        if not _is_refusal(error):
            raise HostUnreachable(f"{_place(config)} ended the link during the login: {error}") from error
        raise LoginRefused(keys.refusal(error)) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise HostUnreachable(f"{_place(config)} cannot be reached: {str(error) or type(error).__name__}") from error
    finally:
        keys.close()
    link = client.get_transport()
    if link is not None:
        link.set_keepalive(_KEEP_ALIVE)
    return client


def _is_refusal(failure: AuthFailure) -> bool:
    """Tell keys that were refused from a link that broke while they were offered."""
    offered = [tried.result for tried in failure.result if not isinstance(tried.source, NoneAuth)]
    return not offered or any(isinstance(result, paramiko.AuthenticationException) for result in offered)


def _place(config: HostConfig) -> str:
    return f"{config.alias} ({config.user}@{config.hostname}:{config.port})"


def _socket(config: HostConfig, through: paramiko.Transport | None) -> Any:
    try:
        if through is not None:
            return through.open_channel("direct-tcpip", (config.hostname, config.port), ("", 0), timeout=_CONNECT)
        if config.proxy_command:
            return paramiko.ProxyCommand(config.proxy_command)
        sock = socket.create_connection((config.hostname, config.port), timeout=_CONNECT)
    except socket.gaierror as error:
        raise HostUnreachable(
            f"{_place(config)} cannot be reached: {error}. That name is neither a `Host` of your OpenSSH configuration "
            f"nor known to this network: see `host` in the profile; `ssh {config.alias} true` must work"
        ) from error
    except (paramiko.SSHException, OSError) as error:
        raise HostUnreachable(f"{_place(config)} cannot be reached: {error}") from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # paramiko's keep-alives ask for no reply; so the kernel is told when an unanswered link counts as dead.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
    return sock


class _Strict(paramiko.MissingHostKeyPolicy):
    """Accepts no key that is not known."""

    def __init__(self, config: HostConfig):
        self._config = config
        # A host that is named by its user is known to the command without a profile.
        self._trust = f"dflow-hpc machine trust {config.alias if '@' in config.alias else 'NAME'}"

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        """Refuse."""
        raise UnknownHost(
            f"{_place(self._config)} showed the host key {fingerprint(key)} ({key.get_name()}), which is not known. "
            f"Compare it with what the site publishes, then run `{self._trust}` (or connect by ssh once)."
        )

    def changed(self, key: paramiko.PKey) -> UnknownHost:
        """Return the error of a host whose key is another than the known one."""
        return UnknownHost(
            f"{_place(self._config)} showed the host key {fingerprint(key)}, which is NOT the known one: the "
            "machine was set up anew, or somebody is in between. Ask the site; then remove the old key "
            f"(`ssh-keygen -R '{self._config.key_name}'`, and from {own_known_hosts()}), and run `{self._trust}`."
        )


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as OpenSSH prints it."""
    return "SHA256:" + b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


class _Keys(AuthStrategy):
    """Tries the keys in OpenSSH's order: the agent's that stand in the configuration, the files, the agent's others.

    A password comes last, where the program gave one.
    """

    def __init__(self, config: HostConfig, password: Callable[[], str] | None = None):
        super().__init__(paramiko.SSHConfig())
        self._config = config
        self._password = password
        self._agent: paramiko.Agent | None = None
        self._notes: list[str] = []

    def get_sources(self) -> Iterator[AuthSource]:
        """Give one way to log in after the other."""
        config = self._config
        yield NoneAuth(config.user)
        held = self._agent_keys()
        named = [key.asbytes() for key in map(_public_key, config.identity_files) if key is not None]
        first = [key for key in held if key.asbytes() in named]
        for key in first:
            yield InMemoryPrivateKey(config.user, key)
        for path in config.identity_files:
            public = _public_key(path)
            if public is not None and any(key.asbytes() == public.asbytes() for key in first):
                continue
            try:
                yield InMemoryPrivateKey(config.user, paramiko.PKey.from_path(path))
            except (paramiko.PasswordRequiredException, TypeError):
                self._notes.append(f"{path} needs a passphrase: `ssh-add {path}`")
            except (paramiko.SSHException, OSError, ValueError) as error:
                self._notes.append(f"{path} cannot be read: {error}")
        if not config.identities_only:
            for key in held:
                if key not in first:
                    yield InMemoryPrivateKey(config.user, key)
        if self._password is not None:
            yield Password(config.user, self._password)

    def _agent_keys(self) -> list[paramiko.PKey]:
        if not self._config.use_agent:
            return []
        self._agent = paramiko.Agent()
        return list(self._agent.get_keys())

    def refusal(self, error: AuthFailure) -> str:
        """Return what a user should know about a refused login."""
        allowed: list[str] = []
        for tried in error.result:
            allowed = getattr(tried.result, "allowed_types", None) or allowed
        config = self._config
        files = ", ".join(map(str, config.identity_files)) or "no key file"
        notes = "".join(f"; {note}" for note in self._notes)
        agent = "running" if os.environ.get("SSH_AUTH_SOCK") else "none: SSH_AUTH_SOCK is not set"
        ways = f"; it accepts {', '.join(allowed)}" if allowed else ""
        password = "the password, " if self._password is not None else ""
        return (
            f"{_place(config)} refused the login{ways}. Tried were {password}the agent ({agent}) and {files}{notes}. "
            f"One of them must be in the authorized_keys of {config.user} there: make `ssh {config.alias} true` work "
            f"without a question. If the site asks for a second factor or "
            'Kerberos, set transport = "openssh" in the profile.'
        )

    def close(self) -> None:
        """Let the agent go."""
        if self._agent is not None:
            self._agent.close()


def _public_key(path: Path) -> paramiko.PKey | None:
    """Return the public half that lies beside a private key, where it does."""
    try:
        kind, data = path.with_name(path.name + ".pub").read_text(encoding="utf-8").split()[:2]
        key: paramiko.PKey = paramiko.PKey.from_type_string(kind, b64decode(data))
    except (OSError, ValueError, paramiko.SSHException):
        return None
    return key


@dataclass(frozen=True)
class ShownKey:
    """A host key that a machine showed."""

    host: str
    """Of which host: the machine, or a jump host before it."""
    kind: str
    fingerprint: str
    line: str
    """As it would stand in a file of known hosts."""


def unknown_key(host: str, ssh_config: str | None, ssh_options: Sequence[str] = ()) -> ShownKey | None:
    """Ask a machine, and the jump hosts before it, for their host keys; return the first that is not known.

    Raises:
        UnknownHost: A key is another than the known one.
        HostUnreachable: One cannot be reached.
        LoginRefused: A jump host does not let us through.
    """
    with contextlib.ExitStack() as stack:
        through = None
        hops = _hops(host, ssh_config, ssh_options)
        for config in hops:
            key = _shown_key(config, through)
            if not _is_known(config, key):
                kind, line = key.get_name(), f"{config.key_name} {key.get_name()} {key.get_base64()}"
                return ShownKey(_place(config), kind, fingerprint(key), line)
            if config is not hops[-1]:
                client = _connect(config, through)
                stack.callback(client.close)
                through = client.get_transport()
    return None


def _shown_key(config: HostConfig, through: paramiko.Transport | None) -> paramiko.PKey:
    link = None
    try:
        link = paramiko.Transport(_socket(config, through))
        link.start_client(timeout=_CONNECT)
        return link.get_remote_server_key()
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise HostUnreachable(f"{_place(config)} cannot be reached: {str(error) or type(error).__name__}") from error
    finally:
        if link is not None:
            link.close()


def _known_keys(config: HostConfig) -> paramiko.HostKeys:
    keys = paramiko.HostKeys()
    for path in config.known_hosts:
        if path.is_file():
            try:
                keys.load(str(path))
            except (paramiko.hostkeys.InvalidHostKey, ValueError) as error:
                raise ConfigError(f"host keys are read from {path}; a line of it is broken: {error}") from error
    return keys


def _is_known(config: HostConfig, key: paramiko.PKey) -> bool:
    known: Mapping[str, paramiko.PKey] = _known_keys(config).lookup(config.key_name) or {}
    if key.get_name() in known and known[key.get_name()] != key:
        raise _Strict(config).changed(key)
    return key.get_name() in known


def store_key(key: ShownKey) -> Path:
    """Add a host key to our own file of known hosts; return the file."""
    path = own_known_hosts()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(key.line + "\n")
    return path
