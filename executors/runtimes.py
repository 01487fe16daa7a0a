"""Command lines of container runtimes: pure functions from what a container is to the words that run it.

Podman and Docker keep a container by its name, so one of an earlier life can be removed before it runs again;
Apptainer, Singularity and Charliecloud run it as an ordinary process of the user.

Not here: which directory is mounted where (``engines/local/work/views.py``), and running anything.

Trap: values of variables may be secret, and an argument list is readable by everybody on the machine. Only *names* of
variables are arguments; their values go through the environment of the runtime's client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from dflow_hpc.errors import ConfigError

RUNTIMES = ("podman", "docker", "apptainer", "singularity", "charliecloud")
_OCI = ("podman", "docker")
_CLIENTS_OWN = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST", "CONTAINER_HOST")
"""Variables by which a client finds its helpers and its server."""
TERMINATION_LOG = "/dev/termination-log"
"""Where Kubernetes lets a program say why it ended."""
_OTHER_LOG = "/argo/termination-log"
MAKER = "charlie.sh"
"""The script that makes what Charliecloud cannot: mount points in an image that must stay as it is."""


@dataclass(frozen=True)
class Container:
    """One container to run."""

    name: str
    """Unique on this machine: the same for each life of a leaf."""
    image: str
    command: tuple[str, ...]
    """Replaces the image's entry point; empty keeps that."""
    args: tuple[str, ...]
    variables: Mapping[str, str]
    mounts: Sequence[tuple[str, str]]
    """Pairs of a path of the host and one in the container; what holds another one comes first."""
    directory: str | None = None
    """Where it starts; None is the image's choice."""
    user: str | None = None
    """``uid:gid`` inside, where files that it makes would else belong to root."""
    options: tuple[str, ...] = ()
    """Further words for the runtime."""


@dataclass(frozen=True)
class Runtime:
    """What a machine's profile says about containers there."""

    name: str = "none"
    """One of ``RUNTIMES``, or ``none``: programs run on the host."""
    images: Mapping[str, str] = field(default_factory=dict)
    """By a template's image, or a pattern (``python:*``): a file, a directory or a reference there."""
    options: tuple[str, ...] = ()

    def image(self, wanted: str) -> str:
        """Return what a template's image is there: the entry of that name, else the first pattern's, else itself."""
        if wanted in self.images:
            return self.images[wanted]
        return next((found for pattern, found in self.images.items() if fnmatchcase(wanted, pattern)), wanted)


@dataclass(frozen=True)
class Trouble:
    """How a runtime says that it could not start a program, which is no failure of the program."""

    codes: tuple[int, ...]
    words: str
    """The beginning of the last line that it prints."""


_TROUBLES = {
    "podman": Trouble((125,), "Error:"),
    "docker": Trouble((125,), "docker:"),
    "apptainer": Trouble((255,), "FATAL:"),
    "singularity": Trouble((255,), "FATAL:"),
    "charliecloud": Trouble((1, 31, 49), "ch-run["),
}


def trouble(runtime: str) -> Trouble:
    """Return how a runtime of ``RUNTIMES`` tells its own failures."""
    return _TROUBLES[runtime]


def program_of(runtime: str) -> str:
    """Return the name of a runtime's program."""
    return "ch-run" if runtime == "charliecloud" else runtime


def termination_log(runtime: str) -> str:
    """Return where a container finds ``TERMINATION_LOG``: only some runtimes mount anything below ``/dev``."""
    return TERMINATION_LOG if runtime in _OCI else _OTHER_LOG


def there_options(runtime: str) -> tuple[str, ...]:
    """Return the words that a runtime is given in a job: it uses the node's network, as the job does."""
    return ("--network=host",) if runtime in _OCI else ()


def knows_entry_points(runtime: str) -> bool:
    """Say whether a container without a command runs what its image says."""
    return runtime != "charliecloud"


def run_words(runtime: str, container: Container) -> list[str]:
    """Return the words that run a container in the foreground and end with its exit code.

    Args:
        runtime: One of ``RUNTIMES``.
        container: What to run.

    Raises:
        ConfigError: The runtime is unknown, or a path cannot be said to it.
    """
    for path in (path for pair in container.mounts for path in pair):
        if ":" in path or "," in path:
            raise ConfigError(f"{path} was to be mounted in a container; {runtime} cannot be told of names with : or ,")
    if runtime in _OCI:
        return _podman_or_docker(runtime, container)
    if runtime in ("apptainer", "singularity"):
        return _apptainer(runtime, container)
    if runtime == "charliecloud":
        return _charliecloud(container)
    raise ConfigError(f"runtime {runtime!r} was asked for; known are host, {', '.join(RUNTIMES)}.")


def _podman_or_docker(runtime: str, container: Container) -> list[str]:
    # Without the label option SELinux would keep the container from what is mounted.
    words = [runtime, "run", "--rm", "--name", container.name, "--security-opt", "label=disable"]
    if runtime == "docker" and container.user is not None:  # rootless Podman maps the container's root to the user
        words += ["--user", container.user]
    for source, target in container.mounts:
        words += ["--volume", f"{source}:{target}"]
    for name in sorted(container.variables):
        # The client finds a value by the name, unless the client itself lives by that variable.
        words += ["--env", f"{name}={container.variables[name]}" if name in _CLIENTS_OWN else name]
    if container.directory is not None:
        words += ["--workdir", container.directory]
    if container.command:
        words += ["--entrypoint", container.command[0]]
    image = [container.image]
    if container.image.startswith("/"):  # a directory; what the program changes in it is thrown away
        image = ["--rootfs", f"{container.image}:O"]
    return [*words, *container.options, *image, *container.command[1:], *container.args]


def _apptainer(runtime: str, container: Container) -> list[str]:
    # Nothing of the host but what is mounted: neither its home, nor its /tmp, nor its variables.
    words = [runtime, "exec" if container.command else "run", "--contain", "--cleanenv", "--no-home"]
    words += ["--writable-tmpfs"]
    for source, target in container.mounts:
        words += ["--bind", f"{source}:{target}"]
    if container.directory is not None:
        words += ["--pwd", container.directory]
    own = "://" in container.image or container.image.startswith("/") or container.image.endswith(".sif")
    image = container.image if own else f"docker://{container.image}"
    return [*words, *container.options, image, *container.command, *container.args]


def _charliecloud(container: Container) -> list[str]:
    # The names are those that the image sees; the script drops all others.
    words = [MAKER, container.image, " ".join(sorted(container.variables))]
    for source, target in container.mounts:
        words += ["--bind", f"{source}:{target}"]
    if container.directory is not None:
        words += ["--cd", container.directory]
    return [*words, *container.options, "./.image", "--", *container.command, *container.args]


def client_variables(runtime: str, container: Container) -> dict[str, str]:
    """Return the variables with values that the client of a runtime must have for a container's.

    Args:
        runtime: One of ``RUNTIMES``.
        container: What is run.
    """
    if runtime in ("apptainer", "singularity"):
        return {f"{runtime.upper()}ENV_{name}": value for name, value in container.variables.items()}
    own = () if runtime == "charliecloud" else _CLIENTS_OWN
    return {name: value for name, value in container.variables.items() if name not in own}


def removal_words(runtime: str, name: str) -> list[str] | None:
    """Return the words that end and remove a container of an earlier life; None where there can be none."""
    if runtime == "podman":
        return ["podman", "rm", "--force", "--ignore", "--time", "0", name]
    return ["docker", "rm", "--force", name] if runtime == "docker" else None
