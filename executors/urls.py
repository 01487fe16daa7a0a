"""The URL route: a job's data go from and to S3 by addresses that are signed here and valid for a while.

A machine whose profile says ``staging = "s3"`` gets no credentials. ``sign`` gives the text of a leaf's file ``urls``,
a line ``ID OPTION`` for each option that curl needs for an address; ``stage.sh`` feeds it to curl by a pipe.

Not here: when addresses are renewed (``remote.py``), what the run knows of an object (``storage/elsewhere.py``).

Trap: the machine may know the storage under another name (``s3_endpoint``). A signature holds for the name that it was
made with, so there are two clients: one to talk to the storage from here, one that only signs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dflow_hpc.config import s3_config
from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.protocol.pieces import Piece
from dflow_hpc.storage.elsewhere import Location
from dflow_hpc.storage.objects import ObjectStore, object_store
from dflow_hpc.storage.s3 import MinioClient


@dataclass(frozen=True)
class Want:
    """One address that a leaf needs."""

    id: str
    """``get.<sha256>``, ``put.<n>`` or ``post.<n>``: what ``stage.sh`` asks for."""
    key: str
    """The object; of a ``post`` the prefix of what may be written."""
    location: Location | None = None
    """Where it lies; None: the storage of the settings."""


def location() -> Location:
    """Return the object storage that the settings name."""
    return Location(s3_config["endpoint"], s3_config["bucket_name"], bool(s3_config["secure"]))


def full_key(key: str) -> str:
    """Return a key as it stands in the bucket."""
    return _store().full_key(key)


def wants_of(spec: Mapping[str, Any]) -> list[Want]:
    """Return the addresses for what a program pulls and puts; ``machines.py`` of the engine says what that is."""
    found = {
        pull["sha256"]: Want(f"get.{pull['sha256']}", pull["key"], Location(**pull["location"]))
        for pull in spec.get("pulls", ())
        if pull.get("sha256")
    }
    wants = list(found.values())
    for number, put in enumerate(spec.get("puts", ())):
        wants.append(Want(f"put.{number}", full_key(put["key"])))
        if put["archive"] == "none":
            wants.append(Want(f"post.{number}", full_key(put["key"]) + "/"))
    return wants


def puts_list(spec: Mapping[str, Any]) -> str:
    """Return the lines of ``puts.list``: ``N/KIND/PATH``, and ``N/key/KEY`` where names of files follow the key."""
    lines = []
    for number, put in enumerate(spec.get("puts", ())):
        lines.append(f"{number}/{'none' if put['archive'] == 'none' else 'tar'}/{put['path']}\n")
        lines.append(f"{number}/key/{full_key(put['key'])}\n")
    return "".join(lines)


class UrlRoute:
    """The route of one profile.

    Args:
        machine: The profile.

    Raises:
        ConfigError: The settings name a storage client that cannot sign.
    """

    def __init__(self, machine: Machine):
        self._client = _client(_store())
        self._machine = machine
        self._signers: dict[Location, MinioClient] = {}
        self._lifted: set[str] = set()
        self._lock = threading.Lock()
        self.uploaded = 0
        """Bytes that went from here into the storage."""

    def lift(self, piece: Piece) -> Want:
        """See that a file that lies only here is in the storage, and return the want for it.

        It goes up once, under its content.

        Raises:
            StorageError: The storage does not take it.
        """
        key = full_key(f"dflow-hpc/files/{piece.sha256}")
        with self._lock:
            if key not in self._lifted and not self._client.has(key):
                self._client.upload(key, str(piece.source))
                self.uploaded += piece.size
            self._lifted.add(key)
        return Want(f"get.{piece.sha256}", key)

    def sign(self, wants: Sequence[Want]) -> bytes:
        """Return the text of a leaf's file ``urls``: secret as long as the addresses are valid."""
        expires = timedelta(seconds=self._machine.waits.url)
        lines: list[str] = []
        for want in wants:
            signer = self._signer(want.location or location())
            if want.id.startswith("post."):
                fields = signer.presigned_post(want.key, expires)
                options = [("url", signer.bucket_url), *(("form-string", f"{k}={v}") for k, v in fields.items())]
            elif want.id.startswith("put."):
                options = [("url", signer.presigned_put(want.key, expires))]
            else:
                options = [("url", signer.presigned_url(want.key, expires))]
            lines += [f"{want.id} {_option(name, value)}\n" for name, value in options]
        return "".join(lines).encode()

    def _signer(self, place: Location) -> MinioClient:
        with self._lock:
            if place not in self._signers:
                region = MinioClient(place.endpoint, secure=place.secure, bucket_name=place.bucket).region()
                endpoint, secure = place.endpoint, place.secure
                if place.endpoint == s3_config["endpoint"] and self._machine.s3_endpoint:
                    scheme, _, rest = self._machine.s3_endpoint.rpartition("://")
                    endpoint, secure = rest, scheme == "https" if scheme else secure
                self._signers[place] = MinioClient(endpoint, secure=secure, bucket_name=place.bucket, region=region)
            return self._signers[place]


def endpoint_url(machine: Machine) -> str:
    """Return the storage's address as a machine sees it."""
    named = machine.s3_endpoint or s3_config["endpoint"]
    return named if "://" in named else f"{'https' if s3_config['secure'] else 'http'}://{named}"


def distinct(wants: Iterable[Want]) -> list[Want]:
    """Return wants without those that come again."""
    return list({want.id: want for want in wants}.values())


def _option(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name} = "{escaped}"'


def _store() -> ObjectStore:
    return object_store()


def _client(store: ObjectStore) -> MinioClient:
    if not isinstance(store.client, MinioClient):
        raise ConfigError(
            'a machine\'s profile says staging = "s3"; addresses are signed for S3 only, and s3_config'
            f"['storage_client'] is {type(store.client).__name__}. Unset that, or set staging = \"ssh\"."
        )
    return store.client
