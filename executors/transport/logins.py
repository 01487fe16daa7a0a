"""When a login may be tried: not too often, and ever less often after refusals.

A refused login that is tried again and again locks accounts. All processes of a user share the turns of a machine: a
file holds the time from which on the next login may start.

Trap: that file is on this host, so a user who works from two hosts has twice the logins.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dflow_hpc.errors import HostUnreachable
from dflow_hpc.executors.transport import LoginRefused

_FIRST_BACK_OFF = 30.0
_LONGEST_BACK_OFF = 600.0


def turns_file(host: str, ssh_config: str | None) -> Path:
    """Return the file in which the processes of this user take turns to log in to a host."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    name = hashlib.sha256(f"{host}\0{ssh_config or ''}".encode()).hexdigest()[:16]
    return Path(base).expanduser() / "dflow-hpc" / "logins" / name


class LoginGate:
    """Lets logins through one by one, for whoever holds the transport's lock.

    Args:
        pause: Seconds between two logins.
        turns: See ``turns_file``; None: this object's logins only.
        clock: Seconds since the epoch.
    """

    def __init__(self, pause: float, turns: Path | None = None, clock: Callable[[], float] = time.time):
        self._pause = pause
        self._turns = turns
        self._clock = clock
        self._next = 0.0
        self._back_off = 0.0
        self._refusal: LoginRefused | None = None
        self.closed = threading.Event()

    def enter(self) -> None:
        """Wait until the next login may be tried.

        Raises:
            LoginRefused: The last one was refused, and it is too early to try again.
            HostUnreachable: The transport was closed meanwhile.
        """
        left = self._next - self._clock()
        if self._refusal is not None and left > 0:
            raise LoginRefused(f"{self._refusal} (not tried again for {left:.0f} s)") from self._refusal
        left = max(left, self._take_turn())
        if left > 0 and self.closed.wait(left):
            raise HostUnreachable("the link was closed while a login waited for its turn")
        self._next = self._clock() + self._pause

    def _take_turn(self) -> float:
        """Take the next turn; return how many seconds it is away."""
        if self._turns is None or self._pause <= 0:
            return 0.0
        self._turns.parent.mkdir(parents=True, exist_ok=True)
        with self._turns.open("a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            now = self._clock()
            # No further away than that: a clock that was set back must not lock anybody out.
            turn = min(max(now, float(file.read() or 0)), now + _LONGEST_BACK_OFF)
            file.truncate(0)
            file.write(repr(turn + self._pause))
        return turn - now

    def accepted(self) -> None:
        """Note that a login was accepted."""
        self._back_off, self._refusal = 0.0, None

    def refused(self, error: LoginRefused) -> None:
        """Note that a login was refused."""
        self._back_off = min(_LONGEST_BACK_OFF, max(_FIRST_BACK_OFF, 2 * self._back_off))
        self._refusal = error
        self._next = self._clock() + self._back_off
