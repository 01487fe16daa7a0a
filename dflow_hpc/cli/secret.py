"""``machine secret``: gives the pods of a namespace the login to a machine, as a Kubernetes Secret.

In it: the profile, an OpenSSH configuration with just this host, its private key, and its host keys (pinned).

Trap: whoever may make pods in the namespace can use that key. Take one that is for this only.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import click

from dflow_hpc.cli.profiles import profile_text
from dflow_hpc.engines.argo.lower import MANAGED
from dflow_hpc.engines.bridge.template import MOUNT, secret_name
from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.machine import Machine, Machines, machine_files
from dflow_hpc.executors.transport.sshconfig import HostConfig, host_config
from dflow_hpc.kube import SECRETS, connect, put


@click.command("secret")
@click.argument("name")
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Private key; else the host's."
)
@click.option("--host-name", help="The host's name or address as pods see it.")
@click.option("--port", type=int, help="Its port as pods see it.")
@click.option("--namespace", help="Where; else the setting's.")
def secret_command(name: str, key: Path | None, host_name: str | None, port: int | None, namespace: str | None) -> None:
    """Give pods of Argo the login to machine NAME: its profile, a private key, and its pinned host keys."""
    files = login_files(Machines(machine_files()).get(name), key, host_name, port)
    cluster = connect(namespace=namespace)
    title = secret_name(name)
    content = {"metadata": {"name": title, "labels": MANAGED}, "type": "Opaque", "stringData": files}
    put(cluster, SECRETS, content, {"stringData": files})
    click.echo(f"the Secret {title} in the namespace {cluster.namespace} has: {', '.join(files)}")


def login_files(machine: Machine, key: Path | None, host_name: str | None, port: int | None) -> dict[str, str]:
    """Return the files with which a pod logs in on a machine.

    Args:
        machine: The profile.
        key: The private key; None: the first one that OpenSSH would offer.
        host_name: The host as pods see it; None: as it is here.
        port: Its port as pods see it.

    Raises:
        ConfigError: The machine is this host, is behind another one, or has no key here or no known host key.
    """
    if machine.host is None:
        raise ConfigError(f"machine {machine.name!r} was to be made known to pods; it is this host. Give it a host.")
    host = host_config(machine.host, machine.ssh_config, machine.ssh_options)
    if host.jumps or host.proxy_command:
        raise ConfigError(
            f"machine {machine.name!r} was to be made known to pods; it is reached through "
            f"{', '.join(host.jumps) or host.proxy_command}, which pods cannot use. Name a host that they reach."
        )
    key = key or next(iter(host.identity_files), None)
    if key is None:
        raise ConfigError(f"a private key for machine {machine.name!r} was looked for; OpenSSH has none. Give --key.")
    alias = re.sub(r"[^A-Za-z0-9-]", "-", machine.name)
    config = [
        f"Host {alias}",
        f"  HostName {host_name or host.hostname}",
        f"  Port {port or host.port}",
        f"  User {host.user}",
        f"  HostKeyAlias {alias}",
        f"  IdentityFile {MOUNT}/id",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {MOUNT}/known_hosts",
        "  GlobalKnownHostsFile none",
        "  StrictHostKeyChecking yes",
    ]
    there = dataclasses.replace(
        machine, host=alias, ssh_config=f"{MOUNT}/ssh_config", ssh_options=(), transport=None, via=None
    )
    return {
        "machines.toml": profile_text(machine.name, dataclasses.asdict(there)) + "\n",
        "ssh_config": "\n".join(config) + "\n",
        "id": key.read_text(encoding="utf-8"),
        "known_hosts": "".join(f"{alias} {line}\n" for line in _host_keys(host, machine.name)),
    }


def _host_keys(host: HostConfig, machine: str) -> list[str]:
    """Return the host's known keys: kind and key of each."""
    found = []
    for file in host.known_hosts:
        if file.is_file():
            words = ["ssh-keygen", "-F", host.key_name, "-f", str(file)]
            lines = subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
            found += [line.split(None, 1)[1] for line in lines if line and not line.startswith(("#", "@"))]
    if not found:
        raise ConfigError(
            f"the host key of machine {machine!r} was to be pinned; no file of known hosts has one. Look at it, "
            f"and store it: dflow-hpc machine trust {machine}"
        )
    return list(dict.fromkeys(found))
