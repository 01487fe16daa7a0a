"""Machines: the profiles of where a step may be placed, read from layered TOML files.

A step names its machine by a word; what that word means is the business of whoever runs the workflow. Files, highest
first: the one that ``DFLOW_MACHINES`` names, ``machines.toml`` beside the script, the user's in the configuration
directory, the site's in ``/etc/dflow-hpc``. A profile in a higher file replaces the one of that name in a lower file;
with ``extends`` it takes over another profile's values (its own name means the lower file's).

    [machine.cpu]
    scheduler = "slurm"            # slurm | pbs | torque | shell | a plugin's (schedulers/__init__.py)
    host = "cpu-login"             # an OpenSSH alias or a name; absent: this host, no SSH
    setup = ["module load python/3.11"]
    [machine.cpu.resources]        # defaults of each job
    cpus = 1

Not here: talking to schedulers; what a leaf's wish does on the local workers (``engines/local/work/placement.py``).

Trap: every key is checked. A misspelled one that was silently dropped would cost a night in a queue.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dflow_hpc.config import user_config_dir
from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.runtimes import RUNTIMES, Runtime

TRANSPORTS = ("paramiko", "openssh", "local")
VIAS = ("bridge", "node")
STAGINGS = ("ssh", "s3")
FILE_NAME = "machines.toml"
_SITE = Path("/etc/dflow-hpc")
_MEANT = {"partition": "queue", "mem": "memory", "walltime": "time", "ntasks": "tasks", "gres": "gpus"}
"""Keys that other tools know, and ours."""


@dataclass(frozen=True)
class Resources:
    """What one job asks for. A step overrides any of it."""

    queue: str | None = None
    """Slurm's partition, PBS's queue."""
    account: str | None = None
    qos: str | None = None
    nodes: int = 1
    tasks: int = 1
    """Of each node."""
    cpus: int = 1
    """Of each task."""
    gpus: int = 0
    """Of each node."""
    memory: str | None = None
    """Of each node, with a unit, powers of 1024 as schedulers count: ``"256MB"`` is what ``--mem=256M`` asks for."""
    time: str | None = None
    """Longest run time, as a Go duration: ``"10m"``."""
    extra: tuple[str, ...] = ()
    """Further directives, as the scheduler writes them."""
    exclude: tuple[str, ...] = ()
    """Nodes that are not to be used; Slurm only."""
    pack: int = 1
    """Leaves of one step that run in one job, one after the other; time and memory are the job's."""
    warn: str | None = None
    """How long before the time limit the program gets USR2, as a Go duration: one that does not expect it is ended."""


@dataclass(frozen=True)
class Limits:
    """What the machine, or the manners on it, allow."""

    max_jobs: int | None = None
    """Jobs in the queue at once."""


@dataclass(frozen=True)
class Waits:
    """How long to wait for what, in seconds. The defaults are kind to a site; tests shorten them."""

    quiet: float = 0.3
    """Without a new job before the ones that wait are sent."""
    longest: float = 2.0
    """That the oldest of them waits at most."""
    look_up: float = 90.0
    """Between two look-ups of a submission that left no trace."""
    grace: float = 300.0
    """For which a job may be absent without a marker."""
    why: float = 30.0
    """For which the scheduler may not say why it told a job to end that has left a marker; and for which markers may
    be late of a job of several leaves that ended badly."""
    throttled: float = 30.0
    """Before what the scheduler refused for now goes again."""
    unreachable: float = 20.0
    """Before a machine that did not answer is asked again."""
    again: float = 10.0
    """Before a question without a clear answer is put again."""
    fast: float = 2.0
    """Between two rounds while few jobs live and things happen."""
    steady: float = 10.0
    """Between two rounds while many do."""
    slowest: float = 120.0
    """Between two rounds while nothing changes; also never more than half of what the scheduler remembers."""
    blind: float = 3600.0
    """For which a job may be absent without a marker where the scheduler's history cannot be asked."""
    stuck: float = 600.0
    """For which a scheduler may give a reason that does not pass, before the user is told."""
    login: float = 15.0
    """Between two logins: more of them looks like an attack to some sites."""
    url: float = 259200.0
    """That an address of the object storage is valid; a new one comes after half of it. S3 knows 7 days at most."""


@dataclass(frozen=True)
class Machine:
    """One profile."""

    name: str
    scheduler: str = "shell"
    host: str | None = None
    """An OpenSSH alias or a host's name, ``user@`` and ``:port`` if need be; None is this host, without SSH."""
    ssh_config: str | None = None
    ssh_options: tuple[str, ...] = ()
    """Options for the login to the host itself, each as after ``ssh -o``: ``"IdentityFile=~/.ssh/id_site"``."""
    transport: str | None = None
    via: str | None = None
    """How Argo reaches it: ``bridge`` (as None), by a pod for each leaf; ``node``, as a virtual node of Kubernetes,
    which ``SlurmJobTemplate`` asks for."""
    root: str | None = None
    """Directory there, absolute or relative to the home."""
    setup: tuple[str, ...] = ()
    """Shell lines before each program, and before its container."""
    runtime: str = "none"
    """What runs the images of steps there; ``none``: programs run on the host."""
    runtime_options: tuple[str, ...] = ()
    """Further words for the runtime, such as ``--nv``."""
    images: dict[str, str] = field(default_factory=dict)
    """By the image of a template, or a pattern: what it is there. See ``runtimes.Runtime``."""
    staging: str = "ssh"
    """How data go there and back: ``ssh`` (over the link), or ``s3`` (by URLs, between there and the storage)."""
    s3_endpoint: str | None = None
    """The object storage as the machine sees it, ``host:port`` or with ``https://``; None: as it is seen here."""
    resources: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=Limits)
    waits: Waits = field(default_factory=Waits)
    retry: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Which attempts are followed by another one, and how it differs; see ``retries.py``."""

    @property
    def account(self) -> tuple[str | None, ...]:
        """What profiles of one account have in common: they share a login, the look at its queue, and a journal."""
        return (self.scheduler, self.host, self.ssh_config, *self.ssh_options, self.transport, self.root)

    @property
    def is_here(self) -> bool:
        """Whether it is this host, without a scheduler or a container: its leaves need no job."""
        return (self.scheduler, self.host, self.transport, self.runtime) == ("shell", None, None, "none")

    @property
    def containers(self) -> Runtime:
        """What it says about containers."""
        return Runtime(self.runtime, self.images, self.runtime_options)

    def describe(self) -> str:
        """Return its scheduler and how it is reached, in words."""
        return self.scheduler + (f" over SSH (host {self.host!r})" if self.host else " on this host")


def differing(one: Machine, other: Machine) -> list[str]:
    """Return the keys in which two profiles differ."""
    return [each.name for each in dataclasses.fields(Machine) if getattr(one, each.name) != getattr(other, each.name)]


def machine_files(beside: Path | None = None) -> list[Path]:
    """Return the files of profiles that exist, highest first.

    Args:
        beside: The script's directory, looked at before the current directory.

    Raises:
        ConfigError: ``DFLOW_MACHINES`` names a file that does not exist.
    """
    named = os.environ.get("DFLOW_MACHINES")
    if named and not Path(named).is_file():
        raise ConfigError(
            f"DFLOW_MACHINES names the profiles of machines; there is no file {named}. Correct or unset it."
        )
    candidates = [Path(named)] if named else []
    places = [*([beside.resolve()] if beside else []), Path.cwd(), user_config_dir(), _SITE]
    candidates += [place / FILE_NAME for place in places]
    return [path for path in dict.fromkeys(candidates) if path.is_file()]


class Machines:
    """The profiles of a list of files.

    Args:
        files: Highest first; see ``machine_files``.

    Raises:
        ConfigError: A file cannot be read, or says something unknown.
    """

    def __init__(self, files: list[Path]):
        self._files = files
        read = [_read(path) for path in files]
        self._layers = [machines for machines, _ in read]
        self.places = [rule for _, places in reversed(read) for rule in places.items()]
        """Pairs of a pattern of steps and a machine's name, the weakest first; see ``placing.py``."""

    @property
    def names(self) -> list[str]:
        """The names of all profiles, sorted."""
        return sorted({name for layer in self._layers for name in layer})

    def get(self, name: str) -> Machine:
        """Return a profile, everything that it extends merged in.

        Raises:
            ConfigError: There is none of that name, or a value of it is wrong.
        """
        table, where = self._merged(name, 0, [])
        return machine_from(name, table, where)

    def wished(self, name: str) -> Machine:
        """Return the profile that a step means: one by its name, or ``via=node`` the only one that says so.

        Raises:
            ConfigError: There is none, or more than one.
        """
        key, equals, value = name.partition("=")
        if (key, equals) != ("via", "="):
            return self.get(name)
        found = [each for each in self.names if self.get(each).via == value]
        if len(found) != 1:
            raise ConfigError(
                f"a step asks for the machine of a virtual node (SlurmJobTemplate); {', '.join(found) or 'no profile'} "
                f'says via = "{value}". Say it in one profile, or place the step yourself: --machine STEP=MACHINE.'
            )
        return self.get(found[0])

    def _merged(self, name: str, first: int, line: list[str]) -> tuple[dict[str, Any], str]:
        for number in range(first, len(self._layers)):
            if name in self._layers[number]:
                break
        else:
            raise self._unknown(name, line)
        table = dict(self._layers[number][name])
        where = str(self._files[number])
        base = table.pop("extends", None)
        if base is None:
            return table, where
        if not isinstance(base, str):
            raise ConfigError(f"{where}: extends of machine {name!r} must be the name of a profile; found {base!r}.")
        step = f"{name} ({where})"
        if step in line:
            raise ConfigError(
                f"machine {name!r} was asked for; its profiles extend each other in a ring: {[*line, step]}"
            )
        below, _ = self._merged(base, number + 1 if base == name else 0, [*line, step])
        for key in ("resources", "limits", "waits", "images", "retry"):
            if isinstance(table.get(key), dict) and isinstance(below.get(key), dict):
                # Own entries first: of the patterns of images the first one that fits counts.
                table[key] = {**table[key], **{name: below[key][name] for name in below[key] if name not in table[key]}}
        return {**below, **table}, where

    def _unknown(self, name: str, line: list[str]) -> ConfigError:
        if line and line[-1].startswith(f"{name} ("):
            return ConfigError(
                f"{line[-1]} extends the profile of its own name in a lower file; none has one. Leave `extends` out, "
                f"or name another profile: {', '.join(self.names)}."
            )
        asked = f"extended by {line[-1]}" if line else "asked for"
        files = ", ".join(map(str, self._files)) or f"no file; {FILE_NAME} beside the script is the first that is read"
        close = difflib.get_close_matches(name, self.names, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        return ConfigError(
            f"machine {name!r} was {asked}; known are: {', '.join(self.names) or 'none'} (from {files}).{meant} "
            f"Add a table [machine.{name}]."
        )


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return a file's profiles, and its rules that place steps."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the machines' profiles in {path} were to be read: {error}") from error
    _known(data, ("machine", "place"), f"{path}: at its top")
    places = data.get("place", {})
    if not isinstance(places, dict) or not all(isinstance(machine, str) for machine in places.values()):
        raise ConfigError(f'{path}: [place] holds lines "STEP" = "MACHINE"; found {places!r}.')
    machines = data.get("machine", {})
    for name, table in machines.items() if isinstance(machines, dict) else [("", None)]:
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: profiles are tables [machine.NAME]; found machine {name} = {table!r}.")
    return dict(machines), places


def machine_from(name: str, table: Mapping[str, Any], where: str) -> Machine:
    """Return the profile of a table, as it stands in a file.

    Args:
        name: Its name.
        table: Its values, ``extends`` resolved.
        where: Where it was found, for a message.

    Raises:
        ConfigError: A key or a value of it is wrong.
    """
    place = f"{where}: machine {name!r}"
    values = dict(table)
    resources = Resources(**_checked(Resources, values.pop("resources", {}), f"{place}, resources"))
    _sensible(resources, f"{place}, resources")
    limits = Limits(**_checked(Limits, values.pop("limits", {}), f"{place}, limits"))
    waits = Waits(**_checked(Waits, values.pop("waits", {}), f"{place}, waits"))
    from dflow_hpc.executors import schedulers  # import Resources from here
    from dflow_hpc.executors.broker import retries  # import Resources from here

    retry = retries.checked(values.pop("retry", {}), place)
    parts = ("extends", "resources", "limits", "waits", "retry")
    known = _checked(Machine, values, place, also=parts, without=("name",))
    machine = Machine(name=name, resources=resources, limits=limits, waits=waits, retry=retry, **known)
    if resources.exclude and machine.scheduler in retries.CANNOT_EXCLUDE:
        raise ConfigError(f"{place}, resources: {machine.scheduler} has no word for nodes to exclude; leave it out.")

    for key, value, choices in (
        ("scheduler", machine.scheduler, schedulers.names()),
        ("transport", machine.transport, (None, *TRANSPORTS)),
        ("runtime", machine.runtime, ("none", *RUNTIMES)),
        ("via", machine.via, (None, *VIAS)),
        ("staging", machine.staging, STAGINGS),
    ):
        if value not in choices:
            raise ConfigError(f"{place}: {key} = {value!r}; known are {', '.join(word for word in choices if word)}.")
    return machine


def _sensible(resources: Resources, where: str) -> None:
    """Complain now about amounts that each job would be refused for."""
    from dflow_hpc.executors.schedulers import texts  # imports Resources from here

    try:
        texts.counted(resources)
        if resources.memory is not None:
            texts.memory_bytes(resources.memory)
        for duration in (resources.time, resources.warn):
            if duration is not None:
                texts.seconds(duration)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def step_resources(defaults: Resources, wished: Mapping[str, Any], what: str) -> Resources:
    """Return a machine's defaults with what a step wishes.

    Args:
        defaults: The machine's.
        wished: The step's, by the same names.
        what: The step, for a message.

    Raises:
        ConfigError: A name is unknown, or a value of the wrong type.
    """
    return dataclasses.replace(defaults, **_checked(Resources, wished, f"{what}, resources"))


def resources_from(kept: Mapping[str, Any]) -> Resources:
    """Return resources from what JSON has kept of ``dataclasses.asdict``; what it does not name has its default."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()}
    return Resources(**values)


_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "a text"),
    "str | None": (str, "a text"),
    "int": (int, "a whole number"),
    "int | None": (int, "a whole number"),
    "float": ((int, float), "a number of seconds"),
    "tuple[str, ...]": (list, "a list of texts"),
    "dict[str, str]": (dict, "a table of texts"),
}


def _checked(
    kind: type, table: Any, where: str, *, also: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a table's values for a dataclass; complain about keys and types that it does not have."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: a table was expected; found {table!r}.")
    fields = {item.name: str(item.type) for item in dataclasses.fields(kind) if item.name not in (*also, *without)}
    _known(table, (*fields, *also), where)
    found = {}
    for key, value in table.items():
        expected, words = _TYPES[fields[key]]
        right = isinstance(value, expected) and not isinstance(value, bool)
        if right and expected in (list, dict):
            right = all(isinstance(item, str) for item in (value.values() if expected is dict else value))
        if not right:
            raise ConfigError(f"{where}: {key} must be {words}; found {value!r}.")
        found[key] = tuple(value) if expected is list else value
    return found


def _known(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            close = [_MEANT[key]] if _MEANT.get(key) in known else difflib.get_close_matches(key, known, n=1)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{where}: {key!r} is no known key; known are {', '.join(sorted(known))}.{meant}")
