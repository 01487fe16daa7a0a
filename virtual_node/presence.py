"""The node's presence: its Node and Lease, kept up by a thread of their own.

Nothing that the pods' side does may delay a heartbeat: a node that is silent for 40 s loses all its pods.

Not here: what the objects say (``node.py``).

Trap: a Lease alone does not bring a node back that was given up. The status is sent again each half minute, whatever it
says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from dflow_hpc.kube import LEASES, NODES, Cluster, KubeError, NotFound, Unreachable, put
from dflow_hpc.virtual_node.node import Capacity, lease_object, node_object, node_status

_BEAT = 10.0
_EACH = 3
"""Every so many beats the status goes along."""


class Presence:
    """Keeps a node there until it is closed.

    Args:
        name: The node's name.
        machine: The profile's.
        endpoint: Address and port of the kubelet's API.
        nodes: What the API has in no namespace.
        leases: What it has in ``kube-node-lease``.
        offered: Returns what the node offers; None while that is not known.
        paused: Returns why the machine cannot be asked now; nothing while it can.
        say: Called with what the administrator should know.
        beat: Seconds between two heartbeats.
    """

    def __init__(
        self,
        name: str,
        machine: str,
        endpoint: tuple[str, int],
        nodes: Cluster,
        leases: Cluster,
        offered: Callable[[], Capacity | None],
        paused: Callable[[], str],
        say: Callable[[str], None],
        *,
        beat: float = _BEAT,
    ):
        self._name = name
        self._machine = machine
        self._endpoint = endpoint
        self._nodes = nodes
        self._leases = leases
        self._offered = offered
        self._paused = paused
        self._say = say
        self._pause = beat
        self._made = False
        self._told: object = None
        self._news = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._beat, name="presence", daemon=True)

    def start(self) -> None:
        """Make the Node and its Lease, or take over those of an earlier life, and keep them.

        An API server that is away is asked again, for ever.

        Raises:
            KubeError: It refuses them.
        """
        try:
            self._renew()
        except Unreachable as error:
            self._say(f"the node {self._name!r}: {error}")
        self._thread.start()

    def look(self) -> None:
        """Look now at what is offered and whether the machine can be asked, not at the next heartbeat only."""
        self._news.set()

    def _renew(self) -> None:
        """Renew the Lease; what is not there is made."""
        if not self._made:
            new = node_object(self._name, self._machine, self._offered(), *self._endpoint)
            put(self._nodes, NODES, new, {"metadata": {"labels": new["metadata"]["labels"]}})
        lease = lease_object(self._name, datetime.now(UTC))
        try:
            self._leases.patch(LEASES, self._name, {"spec": lease["spec"]})
        except NotFound:
            self._leases.create(LEASES, lease)
        if not self._made:
            self._made = True
            self._say(f"node {self._name!r} is there")
            self._tell()

    def _tell(self) -> None:
        offered, why = self._offered(), self._paused()
        if offered is None and not why:
            return  # the machine is being asked for the first time: what an earlier life has told stands so long
        status = node_status(offered, *self._endpoint, why)
        self._nodes.patch(NODES, self._name, {"status": status}, part="status")
        self._told = (offered, why)

    def _beat(self) -> None:
        count = 0
        while True:
            self._news.wait(self._pause)
            if self._over:
                return
            self._news.clear()
            count += 1
            try:
                self._renew()
                if count % _EACH == 0 or (self._offered(), self._paused()) != self._told:
                    self._tell()
            except NotFound:  # somebody deleted the Node: its pods are collected 40 s later unless it comes back
                self._made = False
                self._say(f"the node {self._name!r} was deleted while its process runs: it is made again")
                self._news.set()
            except KubeError as error:
                self._say(f"the heartbeat of the node {self._name!r}: {error}")

    def close(self) -> None:
        """Stop; the Node stays, and becomes NotReady after a while."""
        self._over = True
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()
