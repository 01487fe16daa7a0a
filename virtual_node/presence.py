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

from dflow_hpc.kube import LEASES, NODES, Cluster, KubeError, NotFound, put
from dflow_hpc.virtual_node.node import Capacity, lease_object, node_object, node_status

_BEAT = 10.0
_EACH = 3
"""Every so many beats the status goes along."""


class Presence:
    """Keeps a node there until it is closed.

    Args:
        name: The node's name.
        machine: The profile's.
        capacity: What it offers.
        endpoint: Address and port of the kubelet's API.
        nodes: What the API has in no namespace.
        leases: What it has in ``kube-node-lease``.
        paused: Returns why the machine cannot be asked now; nothing while it can.
        say: Called with what the administrator should know.
    """

    def __init__(
        self,
        name: str,
        machine: str,
        capacity: Capacity,
        endpoint: tuple[str, int],
        nodes: Cluster,
        leases: Cluster,
        paused: Callable[[], str],
        say: Callable[[str], None],
    ):
        self._name = name
        self._machine = machine
        self._capacity = capacity
        self._endpoint = endpoint
        self._nodes = nodes
        self._leases = leases
        self._paused = paused
        self._say = say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="presence", daemon=True)

    def start(self) -> None:
        """Make the Node and its Lease, or take over those of an earlier life, and keep them.

        Raises:
            KubeError: They cannot be made.
        """
        new = node_object(self._name, self._machine, self._capacity, *self._endpoint)
        put(self._nodes, NODES, new, {"metadata": {"labels": new["metadata"]["labels"]}})
        self._renew()
        self._tell()
        self._thread.start()

    def _renew(self) -> None:
        lease = lease_object(self._name, datetime.now(UTC))
        try:
            self._leases.patch(LEASES, self._name, {"spec": lease["spec"]})
        except NotFound:
            self._leases.create(LEASES, lease)

    def _tell(self) -> None:
        why = self._paused()
        reason = "MachineUnreachable" if why else "MachineReachable"
        status = node_status(self._capacity, *self._endpoint, ready=not why, reason=reason, message=why)
        self._nodes.patch(NODES, self._name, {"status": status}, part="status")

    def _beat(self) -> None:
        count = 0
        before: str | None = None
        while not self._over.wait(_BEAT):
            count += 1
            try:
                self._renew()
                if count % _EACH == 0 or self._paused() != before:
                    before = self._paused()
                    self._tell()
            except KubeError as error:
                self._say(f"the heartbeat of the node {self._name!r}: {error}")

    def close(self) -> None:
        """Stop; the Node stays, and becomes NotReady after a while."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
