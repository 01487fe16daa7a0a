"""The engine that a command asks: the one that the settings choose (``config["mode"]``, ``DFLOW_MODE``)."""

from __future__ import annotations

from dflow_hpc.config import is_local
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.engines.local.engine import LocalEngine


def chosen() -> LocalEngine | ArgoEngine:
    """Return the engine of the settings."""
    return LocalEngine() if is_local() else ArgoEngine()
