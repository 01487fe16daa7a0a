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
"""Bytes of a part, and the most that goes in one request. S3 composes of nothing below 5 MiB."""
_PARTS = 9000
"""S3 takes 10,000 for one object."""
CHUNK = 1 << 20
"""Bytes that are written at once; of a transfer that breaks off, what came of the last ones is lost."""
_AT_ONCE = 4


class Damaged(Exception):
    """What came is not what was stored."""


def upload(client: Any, bucket: str, key: str, path: str) -> None:
    """Store a file as an object.

    Args:
        client: MinIO's.
        bucket: The bucket's name.
        key: The object's.
        path: The file.

    Raises:
        Damaged: The file changed meanwhile, or somebody else removed parts of it.
    """
    size = os.path.getsize(path)
    if size <= PART:
        client.fput_object(bucket, key, path, part_size=PART)
        return
    from minio.commonconfig import ComposeSource

    length = max(PART, -(-size // _PARTS))
    place = f"{key}.parts/"
    there = {found.object_name: found.size for found in client.list_objects(bucket, prefix=place)}

    def send(number: int) -> str:
        with open(path, "rb") as file:
            file.seek(number * length)
            data = file.read(length)
        name = f"{place}{number:05d}-{hashlib.md5(data).hexdigest()}"  # noqa: S324  (a sum, not a secret)
        if there.get(name) != len(data):
            client.put_object(bucket, name, io.BytesIO(data), len(data), part_size=max(length, PART))
        return name

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        names = list(pool.map(send, range(-(-size // length))))
    client.compose_object(bucket, key, [ComposeSource(bucket, name) for name in names])
    stored = client.stat_object(bucket, key).size
    if stored != size:
        raise Damaged(f"{stored} bytes are stored of {size}")
    for name in {*names, *there}:
        client.remove_object(bucket, name)


def download(client: Any, bucket: str, key: str, path: str) -> None:
    """Fetch an object to a file, whole or not at all. What came before a break waits in ``<path>.<ETag>.part``.

    Args:
        client: MinIO's.
        bucket: The bucket's name.
        key: The object's.
        path: The file.

    Raises:
        Damaged: It is not what its sum says.
        OSError: It cannot be written; nothing of it stays.
    """
    part = ""
    try:
        with _reading(client, bucket, key) as response:
            etag, size = _etag(response), response.headers.get("Content-Length")
            part = f"{path}.{etag or uuid.uuid4().hex}.part"
            begun = os.path.getsize(part) if os.path.exists(part) else 0
            if not begun:
                _take(response, part, etag)
        if size is not None and 0 < begun < int(size):
            with _reading(client, bucket, key, begun) as response:
                _take(response, part, etag)
        _check(part, etag, size)
        os.replace(part, path)
    except (Damaged, OSError) as error:
        if not isinstance(error, ConnectionError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
        raise


@contextlib.contextmanager
def _reading(client: Any, bucket: str, key: str, offset: int = 0) -> Iterator[Any]:
    response = client.get_object(bucket, key, offset=offset)
    try:
        yield response
    finally:
        response.close()
        response.release_conn()


def _etag(response: Any) -> str:
    return str(response.headers.get("ETag", "")).strip('"').lower()


def _take(response: Any, part: str, etag: str) -> None:
    if _etag(response) != etag:
        raise Damaged("it was replaced while it was fetched")
    with open(part, "ab") as file:
        for chunk in response.stream(CHUNK):
            file.write(chunk)


def _check(part: str, etag: str, size: str | None) -> None:
    digest = hashlib.md5()  # noqa: S324  (S3's own checksum, not a secret)
    with open(part, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    found = os.path.getsize(part)
    if size is not None and int(size) != found:
        raise Damaged(f"{found} bytes came of {size}")
    if len(etag) == 32 and etag != digest.hexdigest():
        raise Damaged(f"its MD5 sum is {digest.hexdigest()}, it should be {etag}")
