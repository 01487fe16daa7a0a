"""dpdispatcher's dicts (``machine``, ``resources``, ``task``) as a profile and what a step asks for.

dpdispatcher documents each key at https://docs.deepmodeling.com/projects/dpdispatcher; keys that begin with ``_`` are
comments there. Each key is translated, or has no effect because what it asks for holds anyway, or is refused by its
name with the reason. None is dropped in silence.

Not here: the executors that programs name (``compat/executors.py``).

Trap: ``cpu_per_node`` is ``--ntasks-per-node`` on Slurm, so that ``srun`` starts that many; on PBS it is ``ncpus``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.directives import Directives

SCHEDULERS = {"slurm": "slurm", "pbs": "pbs", "torque": "torque", "shell": "shell"}
_SSH = ("sshcontext", "ssh")
_LOCAL = ("localcontext", "local")
_LAZY = ("lazylocalcontext", "lazylocal")
_NO_CONTEXT = "known are SSHContext, LocalContext and LazyLocalContext"

_MACHINE = {"batch_type", "context_type", "remote_root", "remote_profile"}
_MACHINE_INERT = {"local_root", "clean_asynchronously", "create_remote_root"}
_REMOTE = {"hostname", "username", "port", "key_filename", "look_for_keys", "proxy_command", "password"}
_REMOTE_INERT = {"timeout", "tar_compress", "archive_chunk_size", "symlink"}
_REMOTE_REFUSED = {
    "passphrase": "load the key into the agent: ssh-add KEY",
    "totp_secret": 'a second factor is given by hand, once: transport = "openssh" (docs/machines.md)',
    "execute_command": "say it in prepend_script, which runs in each job",
}
_HIDDEN = ("passphrase", "totp_secret")
_RESOURCES = {
    *("number_node", "cpu_per_node", "gpu_per_node", "queue_name", "group_size", "custom_flags", "strategy"),
    *("para_deg", "source_list", "module_purge", "module_unload_list", "module_list", "envs", "prepend_script"),
    *("kwargs", "batch_type"),
}
_RESOURCES_INERT = {"wait_time"}
_RESOURCES_REFUSED = {"append_script": "put the lines at the end of the step's own script"}
_STRATEGY_REFUSED = {
    "if_cuda_multi_devices": "give each step the GPUs that it needs: gpu_per_node",
    "ratio_unfinished": "say at the step how many of its slices may fail: continue_on_success_ratio",
    "customized_script_header_template_file": "say its directives in custom_flags",
}
_TASK_INERT = {"command", "forward_files", "backward_files", "outlog", "errlog", "task_name"}
"""The step says what runs and what is carried, and its output is in its log."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass
class Translation:
    """A profile, and what a step asks for."""

    profile: dict[str, Any]
    """As a table of ``machines.toml``, without ``resources``."""
    resources: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    password: str | None = None
    """For the login; it belongs into no file."""

    @property
    def name(self) -> str:
        """A name that says what the profile is: the same for the same content."""
        digest = hashlib.sha256(json.dumps(self.profile, sort_keys=True).encode()).hexdigest()
        return f"{self.profile['scheduler']}-{digest[:10]}"


def translate(
    machine: Mapping[str, Any],
    resources: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    *,
    grouped: bool = False,
) -> Translation:
    """Translate dpdispatcher's dicts.

    Args:
        machine: Its ``machine``.
        resources: Its ``resources``.
        task: Its ``task``.
        grouped: Whether several tasks make one submission, so that ``group_size`` and ``para_deg`` matter.

    Raises:
        ConfigError: Something in them has no counterpart; the text says which key, and what to do.
    """
    found = Translation(_profile(machine))
    remote = machine.get("remote_profile") or {}
    found.password = remote.get("password") if found.profile.get("host") else None
    if "retry_count" in machine:
        found.notices.append(
            "retry_count is left out: what the site broke is retried anyway, and what the program broke is the step's "
            "own matter (retry_on_failure)"
        )
    _translate_resources(found, resources or {}, grouped)
    work = (task or {}).get("task_work_path", ".")
    _sort(task or {}, "task", {"task_work_path"}, _TASK_INERT, {})
    if os.path.normpath(work) != ".":
        raise ConfigError(f"task_work_path is {work!r}; each step has a directory of its own. Leave it out.")
    return found


def ssh_profile(host: str, user: str | None = None, port: int | None = None, key: str | None = None) -> dict[str, Any]:
    """Return the keys of a profile that say how a machine is reached.

    Args:
        host: Its name or address.
        user: Who logs in.
        port: Of its sshd, where it is not 22 or what the OpenSSH configuration says.
        key: A private key's file, here.
    """
    target = "ip6-" + host.replace(":", "-") if ":" in host else host
    options = [f"IdentityFile={Path(key).expanduser().absolute()}"] if key else []
    if target != host:  # ssh has no way to write an address of IPv6 together with a port
        options.append(f"HostName={host}")
    if user and re.search(r"[@:/]", user):  # some sites have names such as me@cluster
        options.append(f"User={user}")
    elif user:
        target = f"{user}@{target}"
    return {
        "host": f"{target}:{port}" if port not in (None, 22) else target,
        **({"ssh_options": options} if options else {}),
    }


def _profile(machine: Mapping[str, Any]) -> dict[str, Any]:
    _sort(machine, "machine", {*_MACHINE, "retry_count"}, _MACHINE_INERT, {})
    batch, context = str(machine.get("batch_type") or ""), str(machine.get("context_type") or "")
    remote = machine.get("remote_profile") or {}
    scheduler = SCHEDULERS.get(batch.lower())
    if scheduler is None:
        raise ConfigError(
            f"batch_type is {batch!r}; known are Slurm, PBS, Torque and Shell. Another scheduler can be added by a "
            "plugin (docs/machines.md)."
        )
    if context.lower() in _SSH:
        return {"scheduler": scheduler, **_ssh(remote), **_root(machine)}
    if context.lower() not in (*_LOCAL, *_LAZY):
        raise ConfigError(f"context_type is {context!r}; {_NO_CONTEXT}.")
    if context.lower() in _LAZY and scheduler == "shell":
        return {"scheduler": "shell"}  # the local workers, without a copy of anything
    return {"scheduler": scheduler, "transport": "local", **(_root(machine) if context.lower() in _LOCAL else {})}


def _root(machine: Mapping[str, Any]) -> dict[str, Any]:
    root = machine.get("remote_root")
    return {"root": str(root).removeprefix("~/")} if root else {}


def _ssh(remote: Mapping[str, Any]) -> dict[str, Any]:
    _sort(remote, "remote_profile", _REMOTE, _REMOTE_INERT, _REMOTE_REFUSED)
    if not remote.get("hostname"):
        raise ConfigError("context_type is SSHContext and no host is named. Give host=, or remote_profile's hostname.")
    found = ssh_profile(
        remote["hostname"], remote.get("username"), int(remote.get("port") or 22), remote.get("key_filename")
    )
    options = list(found.pop("ssh_options", []))
    if remote.get("look_for_keys") is False:
        options.append("IdentitiesOnly=yes")
    if remote.get("proxy_command"):
        options.append(f"ProxyCommand={remote['proxy_command']}")
    return {**found, **({"ssh_options": options} if options else {})}


def _translate_resources(found: Translation, given: Mapping[str, Any], grouped: bool) -> None:
    _sort(given, "resources", _RESOURCES, _RESOURCES_INERT, _RESOURCES_REFUSED)
    strategy = given.get("strategy") or {}
    _sort(strategy, "strategy", set(), set(), _STRATEGY_REFUSED)
    kwargs = given.get("kwargs") or {}
    _sort(kwargs, "kwargs", {"custom_gpu_line"}, set(), {})
    scheduler = found.profile["scheduler"]
    cpus = int(given.get("cpu_per_node") or 1)
    counts = {
        "nodes": int(given.get("number_node") or 1),
        "tasks" if scheduler == "slurm" else "cpus": cpus,
        "gpus": int(given.get("gpu_per_node") or 0),
    }
    directives = Directives({"queue": given["queue_name"]} if given.get("queue_name") else {})
    if kwargs.get("custom_gpu_line"):
        counts.pop("gpus")
        directives.add([kwargs["custom_gpu_line"]])
    directives.add(given.get("custom_flags") or [])
    found.resources = {key: value for key, value in counts.items() if value} | directives.resources
    found.notices += directives.notices
    if grouped and int(given.get("group_size") or 1) > 1:
        found.resources["pack"] = int(given["group_size"])
    if grouped and int(given.get("para_deg") or 1) > 1:
        found.notices.append("para_deg is left out: tasks that share a job run one after the other")
    setup = [*directives.setup, *_setup(given)]
    if setup:
        found.profile["setup"] = setup


def _setup(given: Mapping[str, Any]) -> list[str]:
    """Return the lines before the program, in dpdispatcher's order."""
    return [
        *(["module purge"] if given.get("module_purge") else []),
        *(f"module unload {_static(text)}" for text in given.get("module_unload_list") or []),
        *(f"module load {_static(text)}" for text in given.get("module_list") or []),
        *(f". {_static(text)}" for text in given.get("source_list") or [] if text.strip()),
        *exports(given.get("envs") or {}),
        *(line for line in given.get("prepend_script") or [] if line.strip()),
    ]


def _static(text: str) -> str:
    """Return an entry of a list of modules or files, quoted word by word: dpdispatcher expands nothing in it either."""
    try:
        return shlex.join(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"the entry {text!r} of a list cannot be read: {error}") from error


def exports(variables: Mapping[str, Any]) -> list[str]:
    """Return lines that set variables; of a list each value is set, one after the other, as dpdispatcher does.

    Raises:
        ConfigError: One has a name that no shell takes.
    """
    lines = []
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(f"envs names the variable {name!r}; a shell knows names of letters, digits and _ only.")
        values: Sequence[Any] = value if isinstance(value, list) else [value]
        lines += [f"export {name}={shlex.quote(str(item))}" for item in values]
    return lines


def _sort(given: Mapping[str, Any], where: str, known: set[str], inert: set[str], refused: Mapping[str, str]) -> None:
    """Refuse keys that have no counterpart; those that say nothing (None, False, 0, empty) are no matter."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} must be a dict; found {given!r}.")
    for key, value in given.items():
        if key.startswith("_") or key in known or key in inert:
            continue
        if key in refused:
            if value:
                shown = "(hidden)" if key in _HIDDEN else repr(value)
                raise ConfigError(f"{where} says {key} = {shown}, which has no counterpart: {refused[key]}.")
            continue
        names = sorted({*known, *inert, *refused})
        close = difflib.get_close_matches(key, names, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"{where} says {key!r}, which is no key that is known here: {', '.join(names)}{meant}")
