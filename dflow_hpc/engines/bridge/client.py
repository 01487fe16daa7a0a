"""The bridge pod's side of the gateway: it asks for its leaf's outcome until there is one.

``GET`` waits there for half a minute. A gateway that does not know the leaf (it is new, or the gateway lost it) says
404 and is sent it, whole; one that is away is asked again. So either side may be killed at any moment.

Trap: the address is read anew each time: the kubelet brings a changed Secret into a pod that runs.
"""

from __future__ import annotations

import http.client
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import IO, Any

from dflow_hpc.engines.bridge import leaf
from dflow_hpc.engines.bridge.leaf import Told
from dflow_hpc.errors import ExecutorError
from dflow_hpc.storage.archive import extract

ADDRESS, TOKEN = "gateway", "token"
"""Files of the Secret: ``http://host:port``, and what entitles to ask."""
PATIENCE = 3600.0
"""Seconds without an answer after which a pod gives up."""
_TIMEOUT = 120
_AGAIN = 3.0


def run(mine: Told, directory: Path, secret: Path) -> dict[str, Any]:
    """Have a leaf run by the gateway, bring what it left into its directory, and return its record.

    Args:
        mine: The leaf.
        directory: Its directory, packed.
        secret: Directory with the files of the Secret.

    Raises:
        ExecutorError: The gateway refuses, or gave no answer for ``PATIENCE``.
    """
    heard = time.monotonic()
    while True:
        try:
            with tempfile.TemporaryFile(dir=directory) as answer:
                status = _ask(secret, "GET", _path(mine), answer)
                heard = time.monotonic()
                if status == 200:
                    return _unpack(answer, directory)
                if status == 404:
                    _send(mine, directory, secret)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() - heard > PATIENCE:
                raise ExecutorError(f"the gateway gave no answer for {PATIENCE:.0f} s: {error}") from error
            time.sleep(_AGAIN)  # it is being restarted; nothing tells when it is back


def done(mine: Told, secret: Path) -> None:
    """Tell the gateway that the outcome was taken: the next attempt of this node is a job of its own."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            _ask(secret, "POST", _path(mine, "done"))
        except (OSError, http.client.HTTPException):
            time.sleep(_AGAIN)
        else:
            return


def left(mine: Told, secret: Path) -> None:
    """Tell the gateway that this pod ends before its leaf: it looks whether the workflow was stopped."""
    try:
        _ask(secret, "POST", _path(mine, "left"))
    except (OSError, http.client.HTTPException):
        return


def _path(mine: Told, verb: str = "leaf") -> str:
    return f"/{verb}/{mine.key}?{urllib.parse.urlencode({'pod': mine.pod})}"


def _send(mine: Told, directory: Path, secret: Path) -> None:
    with tempfile.TemporaryFile(dir=directory) as file:
        leaf.pack(directory, ("leaf.json", "inputs"), file)
        _ask(secret, "PUT", _path(mine), body=file)


def _ask(secret: Path, method: str, path: str, answer: IO[bytes] | None = None, body: IO[bytes] | None = None) -> int:
    address = urllib.parse.urlsplit((secret / ADDRESS).read_text(encoding="utf-8").strip())
    headers = {"Authorization": f"Bearer {(secret / TOKEN).read_text(encoding='utf-8').strip()}"}
    if body is not None:
        headers["Content-Length"] = str(body.tell())
        body.seek(0)
    link = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=_TIMEOUT)
    try:
        link.request(method, path, body=body, headers=headers)
        response = link.getresponse()
        if response.status in (400, 401, 403):
            raise ExecutorError(f"the gateway refused {method} ({response.status}): {response.read(2000).decode()}")
        while block := response.read(1 << 20):
            if answer is not None:
                answer.write(block)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return response.status
    finally:
        link.close()


def _unpack(answer: IO[bytes], directory: Path) -> dict[str, Any]:
    answer.seek(0)
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        while block := answer.read(1 << 20):
            file.write(block)
        file.flush()
        extract(file.name, str(directory / "back"))
    for item in (directory / "back").iterdir():
        item.rename(directory / item.name)
    record = leaf.record_of(directory)
    if record is None:
        raise ExecutorError("the gateway gave an outcome without a record.")
    return record
