"""The node's process: a machine's broker, the Node and its heartbeat, the pods bound to it, the kubelet's API.

All that it must remember lies in one directory: the broker's journal, and a directory a pod. A second process on that
directory is refused.

Not here: the command line (``cli/node.py``).

A machine or an API server that is away is waited for. Until the machine has said what it has, the Node is not ready,
and its pods stay as they are.

Trap: when it ends its jobs live on. The next life finds the pods by the list that a watch begins with, and their jobs
by the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from dflow_hpc.engines.local.work.machines import journal_of
from dflow_hpc.errors import ConfigError, HostUnreachable
from dflow_hpc.executors.broker.broker import REMEMBERED, Broker
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.executors.schedulers import Facts
from dflow_hpc.kube import PODS, Cluster, KubeError, Unreachable
from dflow_hpc.kube.connection import Connection
from dflow_hpc.virtual_node.access import Access, client_authority
from dflow_hpc.virtual_node.inside import Inside
from dflow_hpc.virtual_node.kubelet_api import KubeletApi
from dflow_hpc.virtual_node.node import Capacity
from dflow_hpc.virtual_node.pods import Pods
from dflow_hpc.virtual_node.presence import Presence
from dflow_hpc.virtual_node.progress import Progress
from dflow_hpc.virtual_node.serving import Serving, Signing, own


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where and how the kubelet's API is served."""

    address: str
    """At which the API server finds this host."""
    port: int
    """0: a free one."""
    listen: str = "0.0.0.0"  # noqa: S104  as a kubelet does; whoever asks must be allowed to
    certificate: Path | None = None
    key: Path | None = None
    """Of the certificate; both None: the node's own."""
    clients: Path | None = None
    """The authority of clients; None: what the cluster publishes."""
    sign: bool = False
    """Whether the cluster is asked to sign the node's own."""


_LOOK = 10.0
"""Seconds between two looks at why pods wait."""
_AGAIN = 5.0
_AT_ONCE = 5.0
"""Seconds that the machine has to answer before the Node is there without it."""


def run(
    name: str,
    machine: Machine,
    connection: Connection,
    state: Path,
    endpoint: Endpoint,
    say: Callable[[str], None],
) -> None:
    """Be the node until SIGTERM or SIGINT.

    Args:
        name: The node's name.
        machine: The profile behind it.
        connection: To Kubernetes.
        state: The directory of what it must remember.
        endpoint: The kubelet's API.
        say: Called with what the administrator should know.

    Raises:
        ConfigError: Another process is this node already.
        ExecutorError: The machine will never answer: a refused login, an unknown host key.
        KubeError: The API server refuses the Node.
    """
    with _alone(state, name):
        asyncio.run(_Service(name, machine, connection, state, endpoint, say).run())


@contextlib.contextmanager
def _alone(state: Path, name: str) -> Iterator[None]:
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"the node {name!r} was to be run; another process holds {state}/lock. End that one, or give this one "
                "another name (--name) or directory (--state)."
            ) from error
        yield


class _Service:
    def __init__(
        self,
        name: str,
        machine: Machine,
        connection: Connection,
        state: Path,
        endpoint: Endpoint,
        say: Callable[[str], None],
    ):
        self._name = name
        self._machine = dataclasses.replace(machine, staging="ssh")  # this process moves the artifacts
        self._connection = connection
        self._state = state
        self._endpoint = endpoint
        self._say = say
        self._offered: Capacity | None = None
        self._away = ""
        """Why the machine has not said yet what it has, if so."""
        self._broken: list[BaseException] = []
        self._over = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._over.set)
        ending = asyncio.create_task(self._over.wait())
        site = RemoteSite(self._machine)
        asking = asyncio.create_task(self._ask(site))
        # As a rule it answers at once, or refuses for ever: then nobody needs to hear of this node.
        await asyncio.wait({asking, ending}, timeout=_AT_ONCE, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
        journal = journal_of(self._state, self._machine)
        waits = self._machine.waits
        broker = Broker(self._machine.name, site, journal, waits=waits, remembers=REMEMBERED, say=self._say)
        room = self._state / "pods"
        room.mkdir(exist_ok=True)
        unknown = capacity(Facts(), self._machine)
        pods = Pods(self._name, self._machine, unknown, broker, room, self._namespace, self._say, fail=self._fail)
        api, signing = self._serve(Inside(loop, pods, broker, site))
        trusting = asyncio.create_task(self._trust(api.serving))
        presence = self._presence(api.port, broker)
        try:
            await asyncio.to_thread(presence.start)
            await asyncio.wait({asking, ending}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                pods.capacity = asking.result()
                presence.look()
                threading.Thread(target=self._watch, args=(loop, pods), name="pods", daemon=True).start()
                await self._work(pods, Progress(site, pods.reports, self._namespace))
        finally:
            for task in (asking, ending, trusting):
                task.cancel()
            broker.leave()
            await asyncio.to_thread(api.close)
            signing.close()
            await pods.close()
            await broker.close()
            await asyncio.to_thread(presence.close)
        if self._broken:
            raise self._broken[0]

    def _fail(self, error: BaseException) -> None:
        self._broken.append(error)
        self._over.set()

    async def _ask(self, site: RemoteSite) -> Capacity:
        """Return what the node offers, once the machine says it."""
        while True:
            try:
                facts = await asyncio.to_thread(site.facts)
            except HostUnreachable as error:
                if not self._away:
                    self._say(f"machine {self._machine.name!r} is asked again until it answers: {error}")
                self._away = str(error)
                await asyncio.sleep(self._machine.waits.unreachable)
            else:
                self._away = ""
                self._offered = capacity(facts, self._machine)
                return self._offered

    async def _work(self, pods: Pods, progress: Progress) -> None:
        """Look now and then at what nothing tells of, until it is over."""
        loop = asyncio.get_running_loop()
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _LOOK)
            pods.tell_queue()
            await progress.look(pods.running())
            with contextlib.suppress(KubeError):  # another look comes
                await pods.sweep(loop.time())

    def _presence(self, port: int, broker: Broker) -> Presence:
        return Presence(
            self._name,
            self._machine.name,
            (self._endpoint.address, port),
            self._namespace(""),
            self._namespace("kube-node-lease"),
            lambda: self._offered,
            lambda: self._away or broker.dispatcher.paused,
            self._say,
        )

    def _serve(self, inside: Inside) -> tuple[KubeletApi, Signing]:
        """Serve the kubelet's API."""
        end, cluster = self._endpoint, self._namespace("")
        certificate, key = end.certificate, end.key
        if certificate is None or key is None:
            certificate, key = own(self._state, self._name, end.address)
        signing = Signing(self._state, self._name, end.address, cluster, self._say)
        serving = Serving(certificate, key, end.clients.read_text() if end.clients else None)
        api = KubeletApi(self._name, (end.listen, end.port), serving, Access(self._name, cluster), inside, self._say)
        if end.sign:
            signing.start()
        return api, signing

    async def _trust(self, serving: Serving) -> None:
        """Let clients be known by the authority that the API server publishes, once it answers."""
        while self._endpoint.clients is None:
            try:
                serving.trust(await asyncio.to_thread(client_authority, self._namespace))
            except Unreachable:
                await asyncio.sleep(_AGAIN)
                continue
            except KubeError as error:  # pods run without logs and exec, too
                self._say(f"the authority of clients: {error} The kubelet's API takes no certificate (--client-ca).")
            return

    def _namespace(self, name: str) -> Cluster:
        return Cluster(self._connection, name)

    def _watch(self, loop: asyncio.AbstractEventLoop, pods: Pods) -> None:
        """Hand the events of the node's pods to the loop, whatever becomes of the API server."""
        again = threading.Event()
        while not loop.is_closed():
            try:
                mine = f"spec.nodeName={self._name}"
                for event in self._namespace("").watch(PODS, fields=mine, patience=float("inf")):
                    loop.call_soon_threadsafe(pods.take, event)
            except RuntimeError:
                return  # the loop is closed: the process ends
            except KubeError as error:
                self._say(f"the pods of the node {self._name!r}: {error}")
                loop.call_soon_threadsafe(pods.shown.clear)  # another watch tells of all
                again.wait(_AGAIN)


def capacity(facts: Facts, machine: Machine) -> Capacity:
    """Return what the node offers: the scheduler's nodes, and as many pods as the profile allows jobs.

    Args:
        facts: What the scheduler says of itself.
        machine: The profile; where the scheduler does not say what it has, each job may have what this asks for.
    """
    jobs = machine.limits.max_jobs or Capacity(0, 0).pods
    each = machine.resources
    return Capacity(
        cpus=facts.cpus or jobs * each.cpus * each.tasks * each.nodes,
        memory=facts.memory or jobs * (1 << 30),
        gpus=facts.gpus,
        pods=jobs,
    )
