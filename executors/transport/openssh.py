"""The user's own ``ssh``: for sites with a second factor, Kerberos or FIDO keys, which paramiko cannot serve.

Commands go over a ControlMaster. One that the user opened (with his token in hand) is used; else one is opened here,
without any question (BatchMode), and lives for ten minutes after its last use.

Trap: ``ssh`` answers 255 for its own troubles. A command that itself ends with 255 is told as 254.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from dflow_hpc.errors import ConfigError, ExecutorError, HostUnreachable
from dflow_hpc.executors.transport import MAX_CHANNELS, Answer, LoginRefused, UnknownHost, in_posix_shell
from dflow_hpc.executors.transport.logins import LoginGate, turns_file
from dflow_hpc.executors.transport.sshconfig import HostConfig, config_words, host_config, ssh_target

_CONNECT = 20
_PERSIST = 600


class OpenSSHTransport:
    """Runs commands by ``ssh``. See ``Transport``; here ``timeout`` counts from the start of the command.

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
        self._words: list[str] = []
        self._own_master = False
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> Answer:
        """Run a command; see ``Transport.run``."""
        guarded = f"({command}); r=$?; test $r -ne 255 || r=254; exit $r"
        with self._room:
            words = self._connected()
            process = subprocess.Popen(
                [*words, "-o", "ControlMaster=no", "--", ssh_target(self._host), in_posix_shell(guarded)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            with self._lock:
                self.commands += 1
                self._running.add(process)
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                _give_up(process)
                raise HostUnreachable(
                    f"{self._host} gave no answer within {timeout:.0f} s to: {command[:200]}"
                ) from None
            finally:
                with self._lock:
                    self._running.discard(process)
        with self._lock:
            self.sent += len(stdin)
            self.received += len(out) + len(err)
        if process.returncode == 255 or process.returncode < 0:
            raise _trouble(self._host, err.decode(errors="replace"))
        return Answer(process.returncode, out, err)

    def _connected(self) -> list[str]:
        """Return the words of ``ssh`` over a live master; log in where there is none."""
        with self._lock:
            if self._gate.closed.is_set():
                raise HostUnreachable(f"the link to {self._host} was closed")
            if not self._words:
                self._words = self._make_words()
            if self._call("-O", "check").returncode:
                self._gate.enter()
                self._log_in()
            return self._words

    def _make_words(self) -> list[str]:
        config = host_config(self._host, self._ssh_config, self._ssh_options)
        options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"ConnectTimeout={_CONNECT}",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
            "UserKnownHostsFile=" + " ".join(f'"{path}"' for path in config.known_hosts),
            f"ControlPath={_control_path(config)}",
        ]
        words = ["ssh", *config_words(self._ssh_config, self._ssh_options), "-T"]
        return words + [word for option in options for word in ("-o", option)]

    def _call(self, *options: str) -> subprocess.CompletedProcess[str]:
        # A file for stderr: a master that goes to the background would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+") as errors:
            try:
                ran = subprocess.run(
                    [*self._words, *options, "--", ssh_target(self._host)],
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
        ran = self._call("-M", "-N", "-f", "-o", f"ControlPersist={_PERSIST}")
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
                self._call("-O", "exit")
                self._own_master = False


def _give_up(process: subprocess.Popen[bytes]) -> None:
    """End a client without waiting for its streams: the master holds them, too, as long as the command runs there."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _control_path(config: HostConfig) -> str:
    if config.control_path:
        return config.control_path
    # Not in the home: it may be too long for a socket's name, or on a file system without sockets.
    directory = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"dflow-hpc-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"sockets of ssh would lie in {directory}, which belongs to others. Set XDG_RUNTIME_DIR.")
    return f"{directory}/%C"


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
    return HostUnreachable(f"{host} cannot be reached: {last}")
