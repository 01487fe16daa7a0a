"""Command lines of container runtimes: pure functions from what a container is to the words that run it.

Podman and Docker keep a container by its name, so one of an earlier life can be removed before it runs again;
Apptainer runs it as an ordinary process of the user.

Not here: which directory is mounted where (``engines/local/work/views.py``), and running anything.

Trap: values of variables may be secret, and an argument list is readable by everybody on the machine. Only *names* of
variables are arguments; their values go through the environment of the runtime's client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dflow_hpc.errors import ConfigError

RUNTIMES = ("podman", "docker", "apptainer")
_CLIENTS_OWN = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST", "CONTAINER_HOST")
"""Variables by which a client finds its helpers and its server."""


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
    """Pairs of a path of the host and one in the container."""
    directory: str | None = None
    """Where it starts; None is the image's choice."""
    user: tuple[int, int] | None = None
    """Uid and gid inside, where files that it makes would else belong to root."""


def run_words(runtime: str, container: Container) -> list[str]:
    """Return the words that run a container in the foreground and end with its exit code.

    Args:
        runtime: One of ``RUNTIMES``.
        container: What to run.

    Raises:
        ConfigError: The runtime is unknown.
    """
    if runtime in ("podman", "docker"):
        return _podman_or_docker(runtime, container)
    if runtime == "apptainer":
        return _apptainer(container)
    raise ConfigError(f"runtime {runtime!r} was asked for; known are host, {', '.join(RUNTIMES)}.")


def _podman_or_docker(runtime: str, container: Container) -> list[str]:
    # Without the label option SELinux would keep the container from what is mounted.
    words = [runtime, "run", "--rm", "--name", container.name, "--security-opt", "label=disable"]
    if runtime == "docker" and container.user is not None:  # rootless Podman maps the container's root to the user
        words += ["--user", "{}:{}".format(*container.user)]
    for source, target in container.mounts:
        words += ["--volume", f"{source}:{target}"]
    for name in sorted(container.variables):
        # The client finds a value by the name, unless the client itself lives by that variable.
        words += ["--env", f"{name}={container.variables[name]}" if name in _CLIENTS_OWN else name]
    if container.directory is not None:
        words += ["--workdir", container.directory]
    if container.command:
        words += ["--entrypoint", container.command[0]]
    return [*words, container.image, *container.command[1:], *container.args]


def _apptainer(container: Container) -> list[str]:
    # Nothing of the host but what is mounted: neither its home, nor its /tmp, nor its variables.
    words = ["apptainer", "exec" if container.command else "run", "--contain", "--cleanenv", "--no-home"]
    words += ["--writable-tmpfs"]
    for source, target in container.mounts:
        words += ["--bind", f"{source}:{target}"]
    if container.directory is not None:
        words += ["--pwd", container.directory]
    image = container.image if "://" in container.image or container.image.endswith(".sif") else ""
    return [*words, image or f"docker://{container.image}", *container.command, *container.args]


def client_environment(runtime: str, container: Container, host: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the words of ``run_words`` must run.

    Args:
        runtime: One of ``RUNTIMES``.
        container: What is run.
        host: The environment of this process: the client needs its own PATH and HOME.
    """
    if runtime == "apptainer":
        return {**host, **{f"APPTAINERENV_{name}": value for name, value in container.variables.items()}}
    own = {name: value for name, value in container.variables.items() if name not in _CLIENTS_OWN}
    return {**host, **own}


def removal_words(runtime: str, name: str) -> list[str] | None:
    """Return the words that end and remove a container of an earlier life; None where there can be none."""
    if runtime == "podman":
        return ["podman", "rm", "--force", "--ignore", "--time", "0", name]
    return ["docker", "rm", "--force", name] if runtime == "docker" else None
