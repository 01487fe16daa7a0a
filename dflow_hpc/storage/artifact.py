"""Artifacts that exist before a workflow does: files that were uploaded, lie on this machine, or at an address.

They stand where a step takes an artifact, and answer ``location()``: the fields of Argo's artifact. An OP's own
declaration is ``op.signs.Artifact``; an artifact of a step's result is ``manifest.result.ArgoArtifact``.

Trap: ``artifact[i]`` and ``sub_path()`` give copies; the first is an element of the artifact's list or dict (which
only the catalogue knows), the second a path below its key.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from __future__ import annotations

import abc
import copy
import importlib
import os
import urllib.parse
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from dflow_hpc.config import config
from dflow_hpc.errors import ConfigError, StorageError

PathLike = Union[str, "os.PathLike[str]"]


class _Sliceable:
    """What ``[i]`` means for every artifact."""

    slice: Optional[Union[int, str]] = None
    """Which element of the list or dict is meant: an index, a key, or both, dotted."""
    parent: Any = None
    """The artifact of which this is an element."""

    def __getitem__(self, key: Union[int, str]) -> Any:
        """Return an artifact that stands for one element of this one's list or dict."""
        element = copy.copy(self)
        element.slice = key if self.slice is None else f"{self.slice}.{key}"
        element.parent = self if self.parent is None else self.parent
        return element

    def __iter__(self) -> Any:
        raise TypeError("an artifact cannot be iterated over: its length is known when it is fetched; use artifact[i]")


class S3Artifact(_Sliceable):
    """An artifact in the store that the settings name: S3, or the local store of local runs.

    Args:
        key: Its key.
        path_list: What its catalogue says, where that is known: ``[{"dflow_list_item": path, "order": i}]``.
        urn: Its name in a lineage service.
        debug_s3: Whether it lies in S3 although the run is local.
    """

    def __init__(
        self,
        key: Optional[str] = None,
        path_list: Optional[List[Dict[str, Any]]] = None,
        urn: str = "",
        debug_s3: bool = False,
    ):
        self.key = key
        self.path_list = [] if path_list is None else path_list
        self.urn = urn
        self.debug_s3 = debug_s3

    def __repr__(self) -> str:
        element = "" if self.slice is None else f"[{self.slice!r}]"
        return f"{type(self).__name__}(key={self.key!r}){element}"

    @property
    def local_path(self) -> Optional[str]:
        """Where it lies on this machine; None for one in S3."""
        if self.debug_s3 or config["debug_s3"] or self.key is None:
            return None
        from dflow_hpc.storage.local import LocalStore

        store = LocalStore(config["debug_workdir"], config["debug_artifact_dir"])
        store.bring(self.key)
        return str(store.path_of(self.key))

    def location(self) -> Dict[str, Any]:
        """Return the fields of Argo's artifact that say where it is: ``{"s3": {"key": ...}}``."""
        if not self.key:
            raise StorageError(
                "an S3Artifact without a key was given to a step; make it with upload_artifact() or key="
            )
        return {"s3": {"key": self.key}}

    def sub_path(self, path: str) -> S3Artifact:
        """Return the part of this artifact that lies at ``path`` in it; it must have been stored with archive=None."""
        part = copy.copy(self)
        part.key = f"{self.key}/{path}"
        part.path_list = []
        return part

    def download(self, **kwargs: Any) -> Any:
        """Fetch it: ``download_artifact(self, **kwargs)``."""
        from dflow_hpc.storage.transfer import download_artifact

        return download_artifact(self, **kwargs)

    def to_dict(self) -> Dict[str, Any]:
        """Return it as plain data: what ``from_dict`` reads. Access keys are not part of it."""
        return {"key": self.key, "urn": self.urn, "slice": self.slice, "debug_s3": self.debug_s3}

    @classmethod
    def from_dict(cls, data: Dict[str, Any]) -> S3Artifact:
        """Read what ``to_dict`` wrote; fields that dflow writes beside these are ignored."""
        artifact = S3Artifact(data["key"], urn=data.get("urn", ""), debug_s3=data.get("debug_s3", False))
        artifact.slice = data.get("slice")
        return artifact


class LocalArtifact(S3Artifact):
    """A file or a directory of this machine.

    It is copied into the local store when it is first used, so that what the workflow read is what was there then.

    Args:
        local_path: The file or directory.
        key: Its key, where it lies in the store already (``upload_artifact`` makes such).
    """

    def __init__(self, local_path: PathLike, key: Optional[str] = None):
        super().__init__(key)
        self._local_path = os.path.abspath(local_path)

    @property
    def local_path(self) -> str:
        """The file or directory."""
        return self._local_path

    def location(self) -> Dict[str, Any]:
        """Store a copy of it, unless it is stored, and return ``{"s3": {"key": ...}}``."""
        if self.key is None:
            from dflow_hpc.storage.transfer import upload_s3

            self.key = upload_s3(self._local_path)
        return super().location()

    def sub_path(self, path: str) -> LocalArtifact:
        """Return the part of this artifact that lies at ``path`` in it."""
        return LocalArtifact(os.path.join(self._local_path, path), f"{self.key}/{path}" if self.key else None)


class HTTPArtifact(_Sliceable):
    """A file at an address that can be read without credentials.

    Args:
        url: Its address, ``http://`` or ``https://``.
    """

    def __init__(self, url: str):
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise StorageError(f"HTTPArtifact was given {url!r}; its address must begin with http:// or https://")
        self.url = url

    def location(self) -> Dict[str, Any]:
        """Return the fields of Argo's artifact that say where it is: ``{"http": {"url": ...}}``."""
        return {"http": {"url": self.url}}

    def download(self, path: PathLike = ".") -> str:
        """Fetch it.

        Args:
            path: A directory, in which the file gets the last part of the address as its name, or a new file.

        Returns:
            The path of the file.

        Raises:
            StorageError: The server does not answer, or not with the file.
        """
        import urllib.request

        target = Path(path)
        if target.is_dir():
            target = target / (Path(urllib.parse.urlsplit(self.url).path).name or "index.html")
        part = target.with_name(target.name + ".part")
        try:
            with urllib.request.urlopen(self.url, timeout=60) as response, part.open("wb") as file:  # noqa: S310
                import shutil

                shutil.copyfileobj(response, file, 1 << 20)
            part.replace(target)
        except OSError as error:  # URLError and HTTPError are such
            raise StorageError(
                f"cannot fetch {self.url} to {target}: {error}; see whether the address is right"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return str(target)


class CustomArtifact(_Sliceable, abc.ABC):
    """An artifact that a plugin fetches, named by a URN; its scheme is looked up in ``config["artifact_register"]``."""

    redirect: Optional[Any] = None
    """Another artifact that stands for this one, once it was staged."""

    @abc.abstractmethod
    def get_urn(self) -> str:
        """Return the URN: ``<scheme>://...``."""

    @classmethod
    def from_urn(cls, urn: str) -> CustomArtifact:
        """Return the artifact that a URN names.

        Raises:
            ConfigError: No class is registered for its scheme.
        """
        scheme = urn.partition("://")[0]
        register = config.get("artifact_register", {})
        if scheme not in register:
            known = ", ".join(sorted(register)) or "none"
            raise ConfigError(
                f"the artifact {urn!r} was asked for; registered schemes are: {known}. "
                f'Set config["artifact_register"] = {{{scheme!r}: "package.module.Class"}}.'
            )
        module, _, name = register[scheme].rpartition(".")
        artifact: CustomArtifact = getattr(importlib.import_module(module), name).from_urn(urn)
        return artifact

    @abc.abstractmethod
    def download(self, name: str, path: str) -> None:
        """Fetch it to ``path``, where the step's input artifact is called ``name``."""

    def render(self, template: Any, name: str) -> Any:  # noqa: ARG002  (the name is for those who override it)
        """Return the template that can fetch it as its input ``name``; most need no other than ``template``."""
        return template
