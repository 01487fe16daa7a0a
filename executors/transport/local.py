"""This host as a machine: commands run in a shell here, with no login.

For machines without ``host``: a workstation, or the login node on which the workflow itself runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading

from dflow_hpc.errors import HostUnreachable
from dflow_hpc.executors.transport import MAX_CHANNELS, Answer


class LocalTransport:
    """Runs commands in ``/bin/sh`` of this host. See ``Transport``; here ``timeout`` counts from the start."""

    def __init__(self) -> None:
        self.logins = self.commands = self.sent = self.received = 0
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(MAX_CHANNELS)
        self._running: set[int] = set()
        self._closed = False

    def run(self, command: str, stdin: bytes = b"", timeout: float = 60.0) -> Answer:
        """Run a command; see ``Transport.run``."""
        with self._room:
            process = self._start(command)
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                _end(process.pid)
                process.communicate()
                raise HostUnreachable(f"this host gave no answer within {timeout:.0f} s to: {command[:200]}") from None
            finally:
                with self._lock:
                    self._running.discard(process.pid)
        with self._lock:
            self.commands += 1
            self.sent += len(stdin)
            self.received += len(out) + len(err)
            if self._closed:
                raise HostUnreachable(f"the link was closed while this ran: {command[:200]}")
        return Answer(process.returncode, out, err)

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise HostUnreachable("the link to this host was closed")
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self._running.add(process.pid)
        return process

    def close(self) -> None:
        """End what runs."""
        with self._lock:
            self._closed = True
            for pid in self._running:
                _end(pid)


def _end(session: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)
