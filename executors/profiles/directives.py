"""Lines of batch scripts that people bring along (``#SBATCH ...``, ``#PBS ...``), as resources of a step.

What the profile has a name for becomes that; other directives stay as they are (``extra``); lines that are no
directives run before the program. What names a job, or says where its output goes, is ours: it is left out, with a
notice. What would make another kind of job of it is refused.

Trap: sbatch's later directives beat earlier ones, and ``extra`` comes last; a ``--job-name`` that slipped through would
hide the job from the look-up by its name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dflow_hpc.errors import ConfigError

_SHORT = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "C": "constraint",
    "c": "cpus-per-task",
    "D": "chdir",
    "d": "dependency",
    "e": "error",
    "F": "nodefile",
    "G": "gpus",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "L": "licenses",
    "M": "clusters",
    "m": "distribution",
    "N": "nodes",
    "n": "ntasks",
    "O": "overcommit",
    "o": "output",
    "p": "partition",
    "Q": "quiet",
    "q": "qos",
    "S": "core-spec",
    "s": "oversubscribe",
    "t": "time",
    "v": "verbose",
    "W": "wait",
    "w": "nodelist",
    "x": "exclude",
}
_FLAGS = {
    *("contiguous", "exclusive", "get-user-env", "hold", "ignore-pbs", "nice", "no-kill", "no-requeue", "overcommit"),
    *("oversubscribe", "parsable", "propagate", "quiet", "reboot", "requeue", "spread-job", "test-only"),
    *("use-min-nodes", "verbose", "wait"),
}
"""sbatch's options that take no value, or take one only behind an equals sign."""
_TEXTS = {"account": "account", "partition": "queue", "qos": "qos"}
_COUNTS = {"cpus-per-task": "cpus", "gpus-per-node": "gpus", "nodes": "nodes", "ntasks-per-node": "tasks"}
_OURS = {
    **dict.fromkeys(("job-name", "comment"), "a job is found again by the name that it gets here"),
    **dict.fromkeys(("output", "error", "open-mode", "input"), "a step's output is in its log: `dflow-hpc logs`"),
    **dict.fromkeys(("chdir",), "each step has a directory of its own"),
    **dict.fromkeys(("parsable", "quiet", "verbose", "wait", "no-requeue"), "jobs are submitted so, or cannot be"),
}
_REFUSED = {
    "array": "each step is a job of its own; steps that are alike become an array by themselves",
    "test-only": "nothing would run",
    "wrap": "the program is the step's",
}
_PBS_OURS = {
    "N": _OURS["job-name"],
    **dict.fromkeys("oejk", _OURS["output"]),
    "d": _OURS["chdir"],
    "S": "the job's script is for sh",
}
_PBS_REFUSED = {
    **dict.fromkeys("Jt", _REFUSED["array"]),
    **dict.fromkeys("Iz", "nobody would be there"),
}
_PBS_FLAGS = "VXhzIf"
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", re.ASCII)


@dataclass
class Directives:
    """What lines of a batch script ask for."""

    resources: dict[str, Any] = field(default_factory=dict)
    """By the names of a profile's ``resources``."""
    setup: list[str] = field(default_factory=list)
    """Lines that are no directives."""
    notices: list[str] = field(default_factory=list)

    def add(self, lines: Iterable[str]) -> Directives:
        """Read further lines.

        Raises:
            ConfigError: One cannot be part of a step's job.
        """
        ntasks = None
        for line in (line.strip() for line in lines):
            if line.startswith("#SBATCH"):
                for name, value in _sbatch(line):
                    if name == "ntasks":
                        ntasks = value
                    else:
                        self._option(name, value)
            elif line.startswith("#PBS"):
                self._pbs(line)
            elif line and not line.startswith("#"):
                self.setup.append(line)
        if ntasks is not None:
            self._tasks(ntasks)
        return self

    def _extra(self, text: str) -> None:
        self.resources.setdefault("extra", []).append(text)

    def _option(self, name: str, value: str | None) -> None:
        # Quoted again, since the line is read as words once more.
        quoted = value if value is None or re.fullmatch(r"\S+", value) else f'"{value}"'
        written = f"--{name}" if value is None else f"--{name}={quoted}"
        if name in _REFUSED:
            raise ConfigError(f"{written} was asked for; {_REFUSED[name]}. Leave it out.")
        if name in _OURS:
            self.notices.append(f"{written} is left out: {_OURS[name]}")
        elif value is not None and name in _TEXTS:
            self.resources[_TEXTS[name]] = value
        elif value is not None and name in _COUNTS and value.isdigit():
            self.resources[_COUNTS[name]] = int(value)
        elif name == "time" and value is not None and (seconds := _seconds(value)):
            self.resources["time"] = f"{seconds}s"
        elif name == "mem" and value is not None and re.fullmatch(r"[1-9]\d*[KMGT]?", value, re.IGNORECASE):
            self.resources["memory"] = value if not value.isdigit() else value + "M"
        elif name == "gres" and value is not None and (match := re.fullmatch(r"gpu(?::(\d+))?", value)):
            self.resources["gpus"] = int(match[1] or 1)
        else:
            self._extra(written)

    def _tasks(self, value: str) -> None:
        """Spread ``--ntasks`` over the nodes, of which a profile counts the tasks."""
        nodes = self.resources.get("nodes", 1)
        if not value.isdigit() or int(value) % nodes:
            raise ConfigError(
                f"--ntasks={value} was asked for on {nodes} nodes; a step has the same number of tasks on each. Say "
                "--nodes and --ntasks-per-node."
            )
        self.resources.setdefault("tasks", int(value) // nodes)

    def _pbs(self, line: str) -> None:
        for letter, value in _pbs(line):
            written = f"-{letter}" if value is None else f"-{letter} {value}"
            if letter in _PBS_REFUSED:
                raise ConfigError(f"`#PBS {written}` was asked for; {_PBS_REFUSED[letter]}. Leave it out.")
            if letter in _PBS_OURS:
                self.notices.append(f"`#PBS {written}` is left out: {_PBS_OURS[letter]}")
            elif letter == "q" and value:
                self.resources["queue"] = value
            elif letter == "A" and value:
                self.resources["account"] = value
            elif letter == "l" and value:
                self._pbs_resources(value)
            else:
                self._extra(written)

    def _pbs_resources(self, value: str) -> None:
        if re.match(r"(?:select|nodes)=", value):
            raise ConfigError(
                f"`#PBS -l {value}` was asked for; nodes, cpus and gpus of a job are said by numbers (nodes, cpus, "
                "gpus; dpdispatcher's number_node, cpu_per_node, gpu_per_node). Leave it out."
            )
        match = re.fullmatch(r"walltime=([\d:]+)", value)
        seconds = match and _seconds(match[1] if ":" in match[1] else f"0:0:{match[1]}")
        if seconds:
            self.resources["time"] = f"{seconds}s"
        else:
            self._extra(f"-l {value}")


def _words(line: str, mark: str) -> list[str]:
    try:
        return shlex.split(line.removeprefix(mark), comments=True)
    except ValueError as error:
        raise ConfigError(f"the directive {line!r} cannot be read: {error}") from error


def _sbatch(line: str) -> Iterator[tuple[str, str | None]]:
    """Yield the options of a line by their long names."""
    words = iter(_words(line, "#SBATCH"))
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            known = equals or name in _FLAGS
            yield name, value if equals else None if known else next(words, None)
        elif word.startswith("-") and word[1:2] in _SHORT:
            name = _SHORT[word[1]]
            yield name, None if name in _FLAGS else word[2:].removeprefix("=") or next(words, None)
        else:
            raise ConfigError(f"the directive {line!r} was given; {word!r} in it is no option that sbatch has.")


def _pbs(line: str) -> Iterator[tuple[str, str | None]]:
    words = iter(_words(line, "#PBS"))
    for word in words:
        if not re.match(r"-[A-Za-z]", word):
            raise ConfigError(f"the directive {line!r} was given; {word!r} in it is no option that qsub has.")
        yield word[1], None if word[1] in _PBS_FLAGS else word[2:] or next(words, None)


def _seconds(text: str) -> int:
    """Return a time limit of sbatch (minutes, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M``, ``D-H:M:S``); 0 is none."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return 0
    days = int(match[1] or 0)
    parts = [int(part) for part in match.groups()[1:] if part is not None]
    if match[1] is None and len(parts) < 3:  # minutes come first
        parts = [0, *parts]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
