"""Signed addresses that jobs have: made, renewed while a job lives, made again for what it could not store.

Not here: what is signed and how (``urls.py``); which jobs there are (``remote.py``).

Trap: addresses end after ``Waits.url`` seconds, and what was signed in an earlier life of this process is not known:
jobs of that life get new ones with the first round.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

from dflow_hpc.executors import urls
from dflow_hpc.executors.protocol import Pieces, Scripts
from dflow_hpc.executors.site import Parcel
from dflow_hpc.executors.urls import UrlRoute, Want


class Addresses:
    """The addresses of one machine's jobs.

    Args:
        scripts: Of the machine; they know what is in its cache.
    """

    def __init__(self, scripts: Scripts):
        self._scripts = scripts
        self._lock = threading.Lock()
        self.routes: dict[tuple[str | None, float], UrlRoute] = {}
        self._signed: dict[str, tuple[list[Want], float]] = {}
        """Of jobs that live, by token: the addresses that they were given, and when; in seconds since the epoch."""
        self._unsent: set[str] = set()
        """Tokens of jobs that have ended and did not get their outputs to the object storage."""

    @property
    def uploaded(self) -> int:
        """Bytes that this host has put into the object storage for jobs."""
        return sum(route.uploaded for route in self.routes.values())

    def route(self, parcel: Parcel) -> UrlRoute | None:
        """Return the way by URL of a leaf; None where its files go over the link."""
        machine = parcel.machine
        if machine.staging != "s3":
            return None
        known = (machine.s3_endpoint, machine.waits.url)
        with self._lock:
            if known not in self.routes:
                self.routes[known] = UrlRoute(machine)
            return self.routes[known]

    def wants(self, parcel: Parcel, route: UrlRoute, pieces: Pieces) -> list[Want]:
        """Return what a leaf needs addresses of; what it pulls is put into the object storage by this."""
        lifted = [route.lift(piece) for piece in pieces.found if not self._scripts.has(piece.name)]
        return urls.distinct([*urls.wants_of(parcel.spec), *lifted])

    def given(self, signed: Mapping[str, tuple[list[Want], float]]) -> None:
        """Note what jobs were given, by token, and when."""
        self._signed |= signed

    def renewed(self, parcels: Mapping[str, Parcel | None]) -> dict[str, bytes]:
        """Return new addresses for jobs whose addresses are past half of their time; of an earlier life, for all."""
        found = {}
        for token, parcel in parcels.items():
            route = self.route(parcel) if parcel is not None else None
            wants, at = self._signed.get(token, ([], 0.0))
            if parcel is None or route is None or time.time() - at < parcel.machine.waits.url / 2:
                continue
            if not at:
                pieces = Pieces()
                Scripts.walk(parcel.root, pieces)
                wants = self.wants(parcel, route, pieces)
            self._signed[token] = (wants, time.time())
            if wants:
                found[token] = route.sign(wants)
        return found

    def ended(self, token: str, *, sent: bool) -> None:
        """Note that a job has ended, and whether its outputs are in the object storage, where they belong there."""
        self._signed.pop(token, None)
        if not sent:
            self._unsent.add(token)

    def late(self, parcels: Mapping[str, Parcel]) -> dict[str, bytes]:
        """Return addresses for what jobs that have ended could not store, by token."""
        return {
            token: route.sign(urls.wants_of(parcel.spec))
            for token, parcel in parcels.items()
            if token in self._unsent and (route := self.route(parcel)) is not None
        }

    def stored(self, tokens: Iterable[str]) -> None:
        """Note that it has been stored after all."""
        self._unsent.difference_update(tokens)
