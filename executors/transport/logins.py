"""When a login may be tried: not too often, and ever less often after refusals.

A refused login that is tried again and again locks accounts; a host that cannot be reached may be tried at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dflow_hpc.errors import HostUnreachable
from dflow_hpc.executors.transport import LoginRefused

_FIRST_BACK_OFF = 30.0
_LONGEST_BACK_OFF = 600.0


class LoginGate:
    """Lets logins through one by one, for whoever holds the transport's lock.

    Args:
        pause: Seconds between two logins.
        clock: Seconds, monotonic.
    """

    def __init__(self, pause: float, clock: Callable[[], float] = time.monotonic):
        self._pause = pause
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
        if left > 0 and self.closed.wait(left):
            raise HostUnreachable("the link was closed while a login waited for its turn")
        self._next = self._clock() + self._pause

    def accepted(self) -> None:
        """Note that a login was accepted."""
        self._back_off, self._refusal = 0.0, None

    def refused(self, error: LoginRefused) -> None:
        """Note that a login was refused."""
        self._back_off = min(_LONGEST_BACK_OFF, max(_FIRST_BACK_OFF, 2 * self._back_off))
        self._refusal = error
        self._next = self._clock() + self._back_off
