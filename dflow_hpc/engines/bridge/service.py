"""``dflow-hpc gateway``: a ``Gateway`` as a process in a cluster, told of by a Secret that bridge pods mount.

Trap: the address that it tells must be one that pods reach; a Service's survives the pod of the gateway.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

from dflow_hpc.engines.argo.lower import MANAGED
from dflow_hpc.engines.argo.status import nodes_of, phase_of, unpack
from dflow_hpc.engines.bridge import leaf
from dflow_hpc.engines.bridge.client import ADDRESS, TOKEN
from dflow_hpc.engines.bridge.gateway import Gateway, serve
from dflow_hpc.engines.bridge.template import MOUNT, secret_name
from dflow_hpc.errors import EngineError
from dflow_hpc.executors.profiles.machine import Machines
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.kube import SECRETS, WORKFLOWS, Cluster, NotFound, connect
from dflow_hpc.manifest.view import COMPLETED


def main(
    name: str,
    state: Path,
    listen: tuple[str, int],
    address: str,
    *,
    namespace: str | None,
    login: Path | None,
    abandoned: float,
) -> None:
    """Serve until TERM; jobs live on.

    Args:
        name: The machine's.
        state: Directory of the state.
        listen: Address and port to listen at.
        address: As pods see it.
        namespace: Of the pods; None: the setting's.
        login: Directory with the files of the machine's Secret; None: where the manifest mounts it.
        abandoned: See ``Gateway``.
    """
    os.umask(0o077)
    machine = Machines([(login or Path(MOUNT)) / "machines.toml"]).get(name)
    cluster = connect(namespace=namespace)
    token = tell(cluster, name, address)
    site = RemoteSite(machine)

    async def serving() -> None:
        loop = asyncio.get_running_loop()
        gateway = Gateway(
            machine, site, state, ended=lambda *of: ended(cluster, *of), abandoned=abandoned, say=leaf.say
        )
        gateway.adopt()
        server = serve(gateway, loop, listen, token)
        sweep = asyncio.create_task(gateway.sweep())
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        leaf.say(f"the gateway of machine {name!r} answers at {address}")
        await asyncio.wait([sweep, asyncio.create_task(told.wait())], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(server.shutdown)
        broken = sweep.exception() if sweep.done() else None
        sweep.cancel()
        await gateway.close()
        if broken is not None:
            raise broken

    asyncio.run(serving())


def tell(cluster: Cluster, name: str, address: str) -> str:
    """Leave address and token for bridge pods; return the token, which is made once."""
    title = secret_name(name, gateway=True)
    token = secrets.token_urlsafe(32)
    try:
        if known := (cluster.get(SECRETS, title).get("data") or {}).get(TOKEN):  # docs/deploy makes it empty
            token = b64decode(known).decode()
        cluster.patch(SECRETS, title, {"stringData": {ADDRESS: address, TOKEN: token}})
    except NotFound:
        content = {"metadata": {"name": title, "labels": MANAGED}, "type": "Opaque"}
        cluster.create(SECRETS, {**content, "stringData": {ADDRESS: address, TOKEN: token}})
    return token


def ended(cluster: Cluster, workflow: str, uid: str) -> Callable[[str], bool]:
    """Return what says of a node of a workflow, by its id, whether its leaf is not wanted any more.

    It is not when the node has ended, or when the workflow was stopped, has ended or is gone.
    """
    try:
        found = unpack(cluster.get(WORKFLOWS, workflow))
    except NotFound:
        return lambda _node: True
    except EngineError as error:  # the cluster's trouble says nothing of the workflow
        leaf.say(f"whether {workflow} goes on was asked: {error}")
        return lambda _node: False
    stopped = bool((found.get("spec") or {}).get("shutdown"))
    if found["metadata"]["uid"] != uid or stopped or phase_of(found) in COMPLETED:
        return lambda _node: True
    nodes = nodes_of(found)
    return lambda node: nodes.get(node, {}).get("phase") in COMPLETED
