"""What the user's OpenSSH configuration says about a host, as ``ssh`` itself reads it.

``ssh -G`` prints the configuration after Include, Match and all tokens: no parser of ours could agree with it better.
Also here: where our own store of host keys lies (``dflow-hpc machine trust`` writes it).

Trap: a configuration may hold ``Match exec``, so reading it may run the user's own commands, as each ``ssh`` does.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dflow_hpc.config import user_config_dir
from dflow_hpc.errors import ConfigError

_TIMEOUT = 30


def own_known_hosts() -> Path:
    """Return the file in which ``machine trust`` keeps host keys."""
    return user_config_dir() / "known_hosts"


@dataclass(frozen=True)
class HostConfig:
    """One host, everything resolved."""

    alias: str
    hostname: str
    user: str
    port: int
    identity_files: tuple[Path, ...]
    """Those that exist."""
    identities_only: bool
    known_hosts: tuple[Path, ...]
    """The user's, the system's and our own files, whether they exist or not."""
    key_name: str
    """Under which its key stands in those files."""
    jumps: tuple[str, ...]
    """Hosts of ProxyJump, first hop first."""
    proxy_command: str | None
    control_path: str | None
    use_agent: bool


def config_words(ssh_config: str | None, options: Sequence[str] = ()) -> list[str]:
    """Return the options that make ``ssh`` read a profile's configuration file and its ``ssh_options``.

    Raises:
        ConfigError: There is no such file.
    """
    words = [word for option in options for word in ("-o", option)]
    if ssh_config is None:
        return words
    path = Path(ssh_config).expanduser()
    if not path.is_file():
        raise ConfigError(f"ssh_config names {ssh_config}; there is no such file. Correct the machine's profile.")
    return ["-F", str(path), *words]


def ssh_target(alias: str) -> str:
    """Return how a host with ``:port`` is named to ``ssh``."""
    return f"ssh://{alias}" if ":" in alias else alias


def host_config(alias: str, ssh_config: str | None, options: Sequence[str] = ()) -> HostConfig:
    """Return what the OpenSSH configuration says about a host.

    Args:
        alias: A name of the configuration, or of the network; ``user@`` and ``:port`` as in ProxyJump.
        ssh_config: Configuration file; None means the user's and the system's.
        options: Options for this host, as after ``ssh -o``; they beat the file.

    Raises:
        ConfigError: The file is missing or ``ssh`` refuses it.
    """
    words = ["ssh", *config_words(ssh_config, options), "-G", "--", ssh_target(alias)]
    try:
        ran = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise ConfigError(
            f"host {alias!r} was asked for; its OpenSSH configuration is read by `ssh -G`, and there is no program "
            "ssh. Install the OpenSSH client."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"`ssh -G {alias}` gave no answer in {_TIMEOUT} s; look at `Match exec` in it.") from error
    if ran.returncode:
        raise ConfigError(f"the OpenSSH configuration was asked for host {alias!r}: {ran.stderr.strip()}")
    found: dict[str, list[str]] = {}
    for line in ran.stdout.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key.lower(), []).append(value)
    return _host_config(alias, found)


def _host_config(alias: str, found: dict[str, list[str]]) -> HostConfig:
    def one(key: str) -> str | None:
        value = found.get(key, [""])[0]
        return None if value in ("", "none") else value

    hostname, port = one("hostname") or alias, int(one("port") or 22)
    identities = [Path(text).expanduser() for text in found.get("identityfile", []) if text != "none"]
    known = [
        Path(text).expanduser()
        for key in ("userknownhostsfile", "globalknownhostsfile")
        for text in (one(key) or "").split()
    ]
    return HostConfig(
        alias=alias,
        hostname=hostname,
        user=one("user") or "",
        port=port,
        identity_files=tuple(path for path in identities if path.is_file()),
        identities_only=one("identitiesonly") == "yes",
        known_hosts=(*known, own_known_hosts()),
        key_name=one("hostkeyalias") or (hostname if port == 22 else f"[{hostname}]:{port}"),
        jumps=tuple((one("proxyjump") or "").split(",")) if one("proxyjump") else (),
        proxy_command=one("proxycommand"),
        control_path=one("controlpath"),
        use_agent=found.get("identityagent") != ["none"],
    )
