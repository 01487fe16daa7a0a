"""The user's own ``ssh``: for sites with a second factor, Kerberos or FIDO keys, which paramiko cannot serve.

Commands go over a ControlMaster. One that the user opened (with his token in hand) is used as long as it lives; else
one is opened here, at a path of its own, without any question (BatchMode). It ends with the transport, or ten minutes
after its last use.

Trap: ``ssh`` answers 255 for its own troubles. A command that itself ends with 255 is told as 254. And where a master
does not take a session, ``ssh`` logs in by itself unless that is made impossible.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from dflow_hpc.errors import ConfigError, ExecutorError, HostUnreachable
from dflow_hpc.executors.transport import MAX_CHANNELS, Answer, LoginRefused, UnknownHost, in_posix_shell
from dflow_hpc.executors.transport.logins import LoginGate, turns_file
from dflow_hpc.executors.transport.sshconfig import HostConfig, config_words, host_config, ssh_target

_CONNECT = 20
_PERSIST = 600
_CHUNK = 1 << 16
_TICK = 1.0


class OpenSSHTransport:
    """Runs commands by ``ssh``. See ``Transport``.

    Args:
        host: An OpenSSH alias or a name.
        ssh_config: Configuration file; None is the user's.
        ssh_options: Options for this host, as after ``ssh -o``.
        login_pause: Seconds between two logins.
    """

    def __init__(
        self, host: str, ssh_config: str | None = None, ssh_options: Sequence[str] = (), *, login_pause: float
    ):
        self.logins = self.commands = self.sent = self.received = 0
        self._host = host
        self._ssh_config = ssh_config
        self._ssh_options = ssh_options
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(MAX_CHANNELS)
        self._gate = LoginGate(login_pause, turns_file(host, ssh_config))
        self._own: list[str] = []
        """The words of ``ssh`` over our own master."""
        self._users: list[str] = []
        """And over the user's, where his configuration says where it would be."""
        self._own_master = False
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> Answer:
        """Run a command; see ``Transport.run``."""
        guarded = f"({command}); r=$?; test $r -ne 255 || r=254; exit $r"
        with self._room:
            words = self._connected()
            # "false": over the master or not at all.
            options = ["-o", "ControlMaster=no", "-o", "ProxyCommand=false"]
            process = subprocess.Popen(
                [*words, *options, "--", ssh_target(self._host), in_posix_shell(guarded)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            with self._lock:
                self.commands += 1
                self._running.add(process)
            try:
                talk = _Talk(process, timeout)
                talk.hold(stdin)
            except TimeoutError as error:
                raise HostUnreachable(f"{self._host} gave no answer ({error}) to: {command[:200]}") from None
            finally:
                _give_up(process)
                with self._lock:
                    self._running.discard(process)
        out, err = bytes(talk.out), bytes(talk.err)
        with self._lock:
            self.sent += talk.sent
            self.received += len(out) + len(err)
        if process.returncode == 255 or process.returncode < 0:
            raise _trouble(self._host, err.decode(errors="replace"))
        return Answer(process.returncode, out, err)

    def _connected(self) -> list[str]:
        """Return the words of ``ssh`` over a live master; log in where there is none."""
        with self._lock:
            if self._gate.closed.is_set():
                raise HostUnreachable(f"the link to {self._host} was closed")
            if not self._own:
                config = host_config(self._host, self._ssh_config, self._ssh_options)
                self._own = self._words(config, _control_path(config))
                self._users = self._words(config, config.control_path) if config.control_path else []
            for words in (self._users, self._own):
                if words and self._call(words, "-O", "check").returncode == 0:
                    return words
            self._gate.enter()
            self._log_in()
            return self._own

    def _words(self, config: HostConfig, control_path: str) -> list[str]:
        options = [
            f"ControlPath={control_path}",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"ConnectTimeout={_CONNECT}",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
            "UserKnownHostsFile=" + " ".join(f'"{path}"' for path in config.known_hosts),
            # What a configuration may say for work by hand, and is in the way here.
            "RemoteCommand=none",
            "ClearAllForwardings=yes",
            "LogLevel=ERROR",
        ]
        words = ["ssh", *config_words(self._ssh_config, self._ssh_options), "-T"]
        return words + [word for option in options for word in ("-o", option)]

    def _call(self, words: list[str], *options: str) -> subprocess.CompletedProcess[str]:
        # A file for stderr: a master that goes to the background would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+") as errors:
            try:
                ran = subprocess.run(
                    [*words, *options, "--", ssh_target(self._host)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    timeout=3 * _CONNECT,
                    check=False,
                )
            except FileNotFoundError as error:
                raise ConfigError("transport = 'openssh' needs the program ssh, which is not there.") from error
            except subprocess.TimeoutExpired as error:
                raise HostUnreachable(f"ssh to {self._host} gave no answer within {3 * _CONNECT} s") from error
            errors.seek(0)
            return subprocess.CompletedProcess(ran.args, ran.returncode, "", errors.read())

    def _log_in(self) -> None:
        ran = self._call(self._own, "-M", "-N", "-f", "-o", f"ControlPersist={_PERSIST}")
        if ran.returncode:
            error = _trouble(self._host, ran.stderr)
            if isinstance(error, LoginRefused):
                self._gate.refused(error)
            raise error
        self._gate.accepted()
        self._own_master = True
        self.logins += 1

    def close(self) -> None:
        """End what runs, and the master if it was opened here."""
        self._gate.closed.set()
        with self._lock:
            for process in self._running:
                process.kill()
            if self._own_master:
                self._call(self._own, "-O", "exit")
                self._own_master = False


class _Talk:
    """What passes to and from a command.

    Args:
        process: The client, just started.
        timeout: Seconds without a byte in any direction that it may last.
    """

    def __init__(self, process: subprocess.Popen[bytes], timeout: float):
        self._process = process
        self._timeout = timeout
        self.out = bytearray()
        self.err = bytearray()
        self.sent = 0

    def hold(self, stdin: bytes) -> None:
        """Write stdin, read both outputs to their ends, and wait for the client.

        Raises:
            TimeoutError: Nothing moved for too long.
        """
        into, out, err = self._process.stdin, self._process.stdout, self._process.stderr
        assert into is not None and out is not None and err is not None  # noqa: S101  all are pipes
        self._left = memoryview(stdin)
        os.set_blocking(into.fileno(), False)
        with selectors.DefaultSelector() as ends:
            ends.register(into, selectors.EVENT_WRITE, lambda: self._write(into))
            ends.register(out, selectors.EVENT_READ, lambda: self._read(out, self.out))
            ends.register(err, selectors.EVENT_READ, lambda: self._read(err, self.err))
            moved = time.monotonic()
            while ends.get_map():
                ready = ends.select(_TICK)
                for key, _ in ready:
                    if not key.data():
                        ends.unregister(key.fileobj)
                if ready:
                    moved = time.monotonic()
                elif (self._process.poll() or 0) < 0:
                    return  # killed here: the master holds the streams on
                elif time.monotonic() - moved >= self._timeout:
                    raise TimeoutError(f"not a byte for {self._timeout:.0f} s")
        try:
            self._process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"no end within {self._timeout:.0f} s") from None

    def _write(self, stream: IO[bytes]) -> bool:
        """Write some of stdin; return whether there is more that the command wants."""
        try:
            count = os.write(stream.fileno(), self._left[:_CHUNK]) if self._left else 0
        except BrokenPipeError:
            return False
        self.sent += count
        self._left = self._left[count:]
        if not self._left:
            stream.close()
        return bool(self._left)

    @staticmethod
    def _read(stream: IO[bytes], into: bytearray) -> bool:
        data = os.read(stream.fileno(), _CHUNK)
        into += data
        return bool(data)


def _give_up(process: subprocess.Popen[bytes]) -> None:
    """End a client without waiting for its streams: the master holds them, too, as long as the command runs there."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _control_path(config: HostConfig) -> str:
    # Not in the home: it may be too long for a socket's name, or on a file system without sockets.
    directory = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"dflow-hpc-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"sockets of ssh would lie in {directory}, which belongs to others. Set XDG_RUNTIME_DIR.")
    # Not "%C": newer ones hash the jump host, too, which "ProxyCommand=false" would take away.
    told = [config.alias, config.hostname, config.user, config.port, *config.jumps, *config.identity_files]
    return f"{directory}/{hashlib.sha256(chr(0).join(map(str, told)).encode()).hexdigest()[:32]}"


def _trouble(host: str, text: str) -> ExecutorError:
    """Return the error that the stderr of an ``ssh`` that failed means."""
    text = text.strip()
    last = text.splitlines()[-1] if text else "ssh ended without a word"
    if "Host key verification failed" in text or "REMOTE HOST IDENTIFICATION HAS CHANGED" in text:
        return UnknownHost(f"the host key of {host} is not known, or has changed:\n{text}")
    if "Permission denied" in text or "Too many authentication failures" in text:
        return LoginRefused(
            f"{host} refused the login: {last}. If it asks for a second factor or a password, open a link by hand "
            f"first and leave it open: `ssh -M -o ControlPersist=8h {host}`, with a ControlPath for it in your "
            "OpenSSH configuration."
        )
    if "session" in text and ("refused by peer" in text or "request failed" in text):
        return HostUnreachable(
            f"the link to {host} takes no more sessions: {last}. Close some that you opened over it by hand."
        )
    return HostUnreachable(f"{host} cannot be reached: {last}")
