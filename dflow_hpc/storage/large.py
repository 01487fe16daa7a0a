"""Objects of any size, so that a transfer that was broken off goes on where it was: up in parts, down from what came.

S3's own multipart uploads could be gone on with, but MinIO's client has no public call for that. So each part is an
object of its own, ``<key>.parts/<number>-<MD5>``, and the storage makes the whole of them (``UploadPartCopy``); then
they go. A part that is there already is not sent again, whoever sent it.

Not here: trying again what a network does now and then (``s3.py``). Trap: the parts of an upload that nobody takes up
again stay in the bucket.

This module travels with the author's code: standard library only at import, valid Python 3.8.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator

PART = 16 << 20
"""Bytes that go in one request; more only where there would be too many. S3 composes of nothing below 5 MiB."""
_PARTS = 9000
"""S3 takes 10,000 for one object."""
CHUNK = 1 << 20
"""Bytes that are written at once; of a transfer that breaks off, what came of the last ones is lost."""
_AT_ONCE = 4


class Damaged(Exception):
    """What came is not what was stored."""


class Transfers:
    """Moves files to and from one bucket.

    Args:
        client: MinIO's.
        bucket: The bucket's name.
    """

    def __init__(self, client: Any, bucket: str):
        self._client = client
        self._bucket = bucket

    def upload(self, key: str, path: str) -> None:
        """Store the file ``path`` as the object ``key``.

        Raises:
            Damaged: The file changed meanwhile, or somebody else removed parts of it.
        """
        size = os.path.getsize(path)
        if size <= PART:
            self._client.fput_object(self._bucket, key, path, part_size=PART)
            return
        from minio.commonconfig import ComposeSource

        length = max(PART, -(-size // _PARTS))
        place = f"{key}.parts/"
        there = {found.object_name: found.size for found in self._client.list_objects(self._bucket, prefix=place)}

        def send(number: int) -> str:
            with open(path, "rb") as file:
                file.seek(number * length)
                data = file.read(length)
            name = f"{place}{number:05d}-{hashlib.md5(data).hexdigest()}"  # noqa: S324  (a sum, not a secret)
            if there.get(name) != len(data):
                self._client.put_object(self._bucket, name, io.BytesIO(data), len(data), part_size=length)
            return name

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            names = list(pool.map(send, range(-(-size // length))))
        self._client.compose_object(self._bucket, key, [ComposeSource(self._bucket, name) for name in names])
        stored = self._client.stat_object(self._bucket, key).size
        if stored != size:
            raise Damaged(f"{stored} bytes are stored of {size}")
        for name in {*names, *there}:
            self._client.remove_object(self._bucket, name)

    def download(self, key: str, path: str) -> None:
        """Fetch the object ``key`` to the file ``path``, whole or not at all.

        What came before a break waits in ``<path>.<ETag>.part``.

        Raises:
            Damaged: It is not what its sum says.
            OSError: It cannot be written; nothing of it stays.
        """
        part, digest = "", hashlib.md5()  # noqa: S324  (S3's own checksum, not a secret)
        try:
            with self._reading(key) as response:
                etag, size = _etag(response), response.headers.get("Content-Length")
                part = f"{path}.{etag or uuid.uuid4().hex}.part"
                begun = _begun(part, digest)
                if not begun:
                    _take(response, part, etag, digest)
            if size is not None and 0 < begun < int(size):
                with self._reading(key, begun) as response:
                    _take(response, part, etag, digest)
            _check(os.path.getsize(part), size, digest.hexdigest(), etag)
            os.replace(part, path)
        except (Damaged, OSError) as error:
            if not isinstance(error, ConnectionError):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)
            raise

    @contextlib.contextmanager
    def _reading(self, key: str, offset: int = 0) -> Iterator[Any]:
        response = self._client.get_object(self._bucket, key, offset=offset)
        try:
            yield response
        finally:
            response.close()
            response.release_conn()


def _etag(response: Any) -> str:
    return str(response.headers.get("ETag", "")).strip('"').lower()


def _begun(part: str, digest: Any) -> int:
    """Return how much of an object came before, and add it to the sum."""
    size = 0
    with contextlib.suppress(FileNotFoundError), open(part, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            digest.update(chunk)
            size += len(chunk)
    return size


def _take(response: Any, part: str, etag: str, digest: Any) -> None:
    if _etag(response) != etag:
        raise Damaged("it was replaced while it was fetched")
    with open(part, "ab") as file:
        for chunk in response.stream(CHUNK):
            file.write(chunk)
            digest.update(chunk)


def _check(found: int, size: str | None, digest: str, etag: str) -> None:
    if size is not None and int(size) != found:
        raise Damaged(f"{found} bytes came of {size}")
    if len(etag) == 32 and etag != digest:
        raise Damaged(f"its MD5 sum is {digest}, it should be {etag}")
