"""``node``: a machine as a node of Kubernetes.

Not here: what such a node does (``virtual_node/``).
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from dflow_hpc.executors.profiles.machine import Machines, machine_files

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
@click.option("--state", type=click.Path(path_type=Path), help="Directory of what it must remember.")
def run_command(name: str, node: str | None, address: str, port: int, state: Path | None) -> int:
    """Run the node until it is told to end; its jobs live on, and the next one takes them over."""
    from dflow_hpc.kube import connect
    from dflow_hpc.virtual_node import service

    machine = Machines(machine_files()).get(name)
    node = node or f"dflow-{name}"
    base = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    place = (state or base / "dflow-hpc" / "nodes" / node).absolute()
    connection = connect(seconds=_SECONDS).connection
    service.run(node, machine, connection, place, (address, port), lambda text: click.echo(text, err=True))
    return 0
