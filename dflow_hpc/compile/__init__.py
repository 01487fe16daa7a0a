"""From a model to a manifest: the bundle of code, the compiler, the linter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PASSWORD = "password"  # noqa: S105  (a name)
"""Key of the secret, named as a machine is, that holds the password for its login."""


@dataclass(frozen=True)
class Bundle:
    """The author's code, as it travels: a zip that is the same for the same files."""

    sha256: str
    data: bytes
    files: dict[str, str]
    """Name in the zip -> SHA-256 of the file."""
    notices: tuple[str, ...] = ()
    """What was left behind, and why: one line each."""


@dataclass(frozen=True)
class Compiled:
    """A workflow, ready for an engine."""

    manifest: dict[str, Any]
    """An Argo ``Workflow`` as plain data; nothing in it is secret or belongs to a profile."""
    bundle: Bundle | None = None
    secrets: tuple[Any, ...] = ()
    """Secrets that the manifest refers to and that the engine must provide."""
    machines: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Profiles that the program itself gives, by the name in the manifest: tables as in ``machines.toml``."""
    notices: tuple[str, ...] = ()
    """What of the program has no effect, one line each."""
