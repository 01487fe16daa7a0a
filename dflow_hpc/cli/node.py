"""``node``: a machine as a node of Kubernetes.

Not here: what such a node does (``virtual_node/``).
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.machine import Machines, machine_files

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_SECONDS = 10.0
"""For one request to Kubernetes: the node has its own ways to go on when no answer comes."""


@click.group("node")
def node_command() -> None:
    """Let a machine be a node of Kubernetes."""


@node_command.command("run")
@click.option("--machine", "name", required=True, help="The profile.")
@click.option("--name", "node", help="The node's name; 'dflow-' and the profile's unless given.")
@click.option("--address", default="127.0.0.1", help="Address at which the API server finds this host.")
@click.option("--port", default=10260, help="Port of the kubelet's API there.")
@click.option("--listen", default="0.0.0.0", help="Address at which it is served.")  # noqa: S104  as a kubelet does
@click.option("--tls-cert", type=_FILE, help="Its certificate, PEM; the node's own unless given.")
@click.option("--tls-key", type=_FILE, help="The key of that certificate.")
@click.option("--tls-request", is_flag=True, help="Have the cluster sign the node's own certificate.")
@click.option("--client-ca", type=_FILE, help="Authority of clients, PEM; what the cluster publishes unless given.")
@click.option("--state", type=click.Path(path_type=Path), help="Directory of what it must remember.")
def run_command(
    name: str,
    node: str | None,
    address: str,
    port: int,
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_request: bool,
    client_ca: Path | None,
    state: Path | None,
) -> int:
    """Run the node until it is told to end; its jobs live on, and the next one takes them over."""
    from dflow_hpc.kube import connect
    from dflow_hpc.virtual_node import service

    machine = Machines(machine_files()).get(name)
    node = node or f"dflow-{name}"
    base = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    place = (state or base / "dflow-hpc" / "nodes" / node).absolute()
    connection = connect(seconds=_SECONDS).connection
    if (tls_cert is None) != (tls_key is None) or (tls_cert and tls_request):
        raise ConfigError(
            "a certificate was given: name its key as well (--tls-cert, --tls-key), and leave --tls-request"
        )
    endpoint = service.Endpoint(address, port, listen, tls_cert, tls_key, client_ca, tls_request)
    service.run(node, machine, connection, place, endpoint, lambda text: click.echo(text, err=True))
    return 0
