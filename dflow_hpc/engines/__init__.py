"""What runs a manifest: the local interpreter and Argo. Both answer the same calls and give Argo's own node tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dflow_hpc.errors import ConfigError

if TYPE_CHECKING:
    from dflow_hpc.compile import Compiled


class Engine(Protocol):
    """What a workflow asks of an engine."""

    def at(self, **where: str) -> Engine:
        """Return the engine for another place than the settings': ``namespace``, ``token``, ``k8s_config_file``, ..."""
        ...

    def submit(
        self, compiled: Compiled, *, id: str | None = None, detach: bool = False, reuse: Sequence[Any] = ()
    ) -> str:
        """Take a compiled workflow over and return its id; a local one is run to its end unless ``detach``."""
        ...

    def query(self, id: str) -> dict[str, Any]:
        """Return the Workflow object: ``metadata``, ``spec`` and ``status``, in Argo's schema."""
        ...

    def wait(self, id: str, timeout: float | None = None) -> str:
        """Wait until it has ended, at most ``timeout`` seconds, and return its phase."""
        ...

    def stop(self, id: str) -> None:
        """End its leaves and run its exit handlers."""
        ...

    def terminate(self, id: str) -> None:
        """End its leaves at once."""
        ...

    def suspend(self, id: str) -> None:
        """Start nothing more until ``resume``."""
        ...

    def resume(self, id: str) -> None:
        """Go on after ``suspend``, a suspend step, or the death of the process that ran it."""
        ...

    def retry(self, id: str) -> None:
        """Run what failed again, and keep what succeeded."""
        ...

    def delete(self, id: str) -> None:
        """Remove it with its artifacts."""
        ...


def engine_for(mode: str) -> Engine:
    """Return the engine that the setting ``mode`` names.

    Raises:
        ConfigError: The mode is unknown.
    """
    if mode in ("debug", "local"):
        from dflow_hpc.engines.local.engine import LocalEngine

        return LocalEngine()
    if mode in ("argo", "default"):
        from dflow_hpc.engines.argo.engine import ArgoEngine

        return ArgoEngine()
    raise ConfigError(f"mode {mode!r} was asked for; known are 'debug' (this machine) and 'argo'.")
