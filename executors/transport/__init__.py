"""Transports: one way to run one shell command on a machine, bytes in and bytes out.

``paramiko.py`` keeps one login of its own alive; ``openssh.py`` uses the user's own ``ssh`` and its ControlMaster,
for sites with a second factor, Kerberos or FIDO keys; ``local.py`` is this host. Nothing else, and no SFTP: files
travel as tar over stdin and stdout.

Not here: what the commands say (``executors/protocol``), when to try again (``executors/broker/broker.py``).

Trap: after ``HostUnreachable`` nobody knows whether the command ran. Only commands that may run twice may be repeated.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dflow_hpc.errors import ConfigError, ExecutorError
from dflow_hpc.executors.profiles.machine import Machine

MAX_CHANNELS = 8
"""Commands at once over one login: sshd's default MaxSessions is 10, and the user may want one as well."""


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    rc: int
    out: bytes
    err: bytes


class LoginRefused(ExecutorError):
    """The machine is there and does not let us in. Fatal until the user acts."""


class UnknownHost(ExecutorError):
    """The machine's host key is not known, or is another than the known one. Fatal until the user acts."""


class Transport(Protocol):
    """A way to a machine. Thread-safe; at most ``MAX_CHANNELS`` commands run at once, others wait."""

    logins: int
    """Logins so far."""
    commands: int
    """Commands so far."""
    sent: int
    """Bytes of stdin so far."""
    received: int
    """Bytes of stdout and stderr so far."""

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> Answer:
        """Run a command in a POSIX shell there.

        Args:
            command: Shell text on one line, without secrets: it is seen in process lists there.
            stdin: Its standard input, of any size.
            timeout: Seconds without a byte in either direction after which it counts as unanswered.

        Raises:
            HostUnreachable: The machine cannot be reached, or did not answer in time. Whether it ran is unknown.
            LoginRefused: See there.
            UnknownHost: See there.
        """
        ...

    def close(self) -> None:
        """Give the link up; commands in flight end with ``HostUnreachable``."""
        ...


def in_posix_shell(command: str) -> str:
    """Return a command line that runs ``command`` in ``/bin/sh`` whatever the login shell is."""
    return f"exec /bin/sh -c {shlex.quote(command)}"


def open_transport(
    machine: Machine, *, login_pause: float | None = None, password: Callable[[], str] | None = None
) -> Transport:
    """Return the transport of a machine's profile. Nothing is connected yet.

    Args:
        machine: The profile. Without ``transport``: paramiko where it names a host, else local.
        login_pause: Seconds between two logins; None: as the profile says.
        password: Gives the password, where there is one; asked at each login that no key opens.

    Raises:
        ConfigError: The profile asks for SSH and names no host, or there is a password that its transport cannot take.
    """
    kind = machine.transport or ("paramiko" if machine.host else "local")
    if kind == "local":
        from dflow_hpc.executors.transport.local import LocalTransport

        return LocalTransport()
    if machine.host is None:
        raise ConfigError(
            f"machine {machine.name!r} has transport = {kind!r} and no host. Give it host = an OpenSSH alias or a name."
        )
    login_pause = machine.waits.login if login_pause is None else login_pause
    if kind == "openssh":
        if password is not None:
            raise ConfigError(
                f"machine {machine.name!r} has transport = 'openssh' and was given a password; `ssh` takes none from "
                "us. Open a link by hand, or use a key."
            )
        from dflow_hpc.executors.transport.openssh import OpenSSHTransport

        return OpenSSHTransport(machine.host, machine.ssh_config, machine.ssh_options, login_pause=login_pause)
    from dflow_hpc.executors.transport.paramiko import ParamikoTransport

    options = machine.ssh_options
    return ParamikoTransport(machine.host, machine.ssh_config, options, login_pause=login_pause, password=password)
