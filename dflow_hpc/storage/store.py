"""The store protocol: what an engine asks of whatever keeps artifacts.

Keys are Argo's: ``<workflow>/<pod>/<name>.tgz`` for an archived artifact, a prefix for an un-archived directory.
"""

from pathlib import Path
from typing import Any, Iterable, List, Optional, Protocol

from dflow_hpc.config import config, is_local
from dflow_hpc.errors import ConfigError


class Store(Protocol):
    """A place for objects under keys."""

    def put(self, source: Path, key: str, *, archive: str = "tar", move: bool = False) -> List[str]:
        """Store a file or a directory tree under ``key``; with ``archive="none"`` it merges into what is there.

        Returns:
            Notices for the user, such as files of a prefix that were replaced.
        """
        ...

    def get(
        self, key: str, target: Path, *, archive: Optional[str] = None, sub_path: str = "", how: Optional[str] = None
    ) -> str:
        """Bring an object to ``target``.

        Returns:
            How it was done: ``reflink``, ``hardlink``, ``symlink``, ``copy`` or ``download``.
        """
        ...

    def full_key(self, key: str) -> str:
        """Return the key as manifests need it: with the prefix that the settings demand."""
        ...

    def exists(self, key: str) -> bool:
        """Say whether there is an object, or anything below the prefix, ``key``."""
        ...

    def list(self, prefix: str, recursive: bool = False) -> Iterable[str]:
        """Return the keys below ``prefix``."""
        ...

    def copy(self, source: str, target: str, *, skip: Optional[str] = None) -> None:
        """Copy an object, or all below a prefix; ``skip`` names an entry at its top that stays behind."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object, or all below a prefix; one that is not there is no error."""
        ...


def store_for(kind: Optional[str] = None, **settings: Any) -> Store:
    """Return the store that the settings name.

    Args:
        kind: ``"local"``, ``"s3"``, or None: local for local runs, unless ``config["debug_s3"]``.
        **settings: Replace settings of ``s3_config`` for this store.

    Raises:
        ConfigError: The kind, or a setting, is unknown.
    """
    if kind is None:
        kind = "local" if is_local() and not config["debug_s3"] else "s3"
    if kind == "local":
        from dflow_hpc.storage.local import LocalStore

        return LocalStore(config["debug_workdir"], config["debug_artifact_dir"])
    if kind != "s3":
        raise ConfigError(f"a store of kind {kind!r} was asked for; known are 'local' and 's3'")
    from dflow_hpc.storage.objects import object_store

    return object_store(**settings)
