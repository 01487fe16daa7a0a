"""Objects of the local store that lie in an object storage: where they are, and how they come here.

A job on a machine may put its outputs straight into S3. The local store then keeps a record only, below ``.elsewhere``
beside the keys, in a file ``=<id>.json`` in a directory named as the key: where the storage is, and which objects make
up the artifact, each with size and checksum. Who reads the key here brings it first, checked; then the record goes.

Not here: what the store does with what was brought (``local.py``); the machine's side (``executors/urls.py``).

Trap: a leaf has no credentials. The engine brings what a leaf reads before it starts.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from dflow_hpc.errors import StorageError

DIRECTORY = ".elsewhere"
TGZ, FILE, GZIP, EMPTY = "tgz", "file", "gzip", "dir"
"""Forms of an object: a gzipped tar with one top entry, a file as it is, the same where it is a gzip by itself, an
empty directory (of which nothing is fetched)."""


class Location(NamedTuple):
    """An object storage's address; whose keys open it is not told."""

    endpoint: str
    bucket: str
    secure: bool


class Stored(NamedTuple):
    """One object of an artifact."""

    form: str
    size: int
    """Bytes."""
    sha256: str
    key: str
    """In the bucket, with every prefix."""
    path: str = ""
    """Its place in the artifact; empty: it is the artifact."""


class Part(NamedTuple):
    """An object of which something is asked for."""

    location: Location
    stored: Stored
    path: str
    """Where it goes, below what was asked for."""
    sub_path: str
    """What to take of it, where it is an archive; empty: all."""


def note(base: str, rest: str, location: Location, objects: List[Stored], *, merge: bool) -> None:
    """Note where an artifact is.

    Args:
        base: Directory of the store in which the key lies.
        rest: The key, below that.
        location: The storage.
        objects: What makes up the artifact.
        merge: It is added to what else has that key, as un-archived trees are; else it replaces that.
    """
    text = json.dumps({"location": location._asdict(), "objects": [stored._asdict() for stored in objects]})
    directory = os.path.join(base, DIRECTORY, rest)
    os.makedirs(directory, exist_ok=True)
    name = "=" + (hashlib.sha256(text.encode()).hexdigest()[:32] if merge else "whole") + ".json"
    temporary = os.path.join(directory, f"={os.getpid()}.{name[1:]}.part")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, os.path.join(directory, name))


def forget(base: str, rest: str) -> None:
    """Drop what is noted of a key and of all below it; the objects stay where they are."""
    for path, _ in list(_records(base, rest, above=False)):
        os.unlink(path)


def parts(base: str, rest: str) -> List[Part]:
    """Return the objects that hold a key, or something at or below it.

    Args:
        base: Directory of the store in which the key lies.
        rest: The key, below that; it may lead into an artifact.
    """
    found = []
    for path, record in _records(base, rest):
        key = os.path.relpath(os.path.dirname(path), os.path.join(base, DIRECTORY))
        location = Location(**record["location"])
        for fields in record["objects"]:
            stored = Stored(**fields)
            place = f"{key}/{stored.path}" if stored.path else key
            if place == rest or place.startswith(rest + "/"):
                found.append(Part(location, stored, place[len(rest) + 1 :], ""))
            elif rest.startswith(place + "/") and stored.form == TGZ:
                found.append(Part(location, stored, "", rest[len(place) + 1 :]))
    return found


def bring(base: str, rest: str, place: Callable[[str, str, bool], None], room: str) -> None:
    """Fetch what is noted of a key, above and below it, check it, and drop the notes.

    Args:
        base: Directory of the store in which the key lies.
        rest: The key, below that.
        place: Puts a file or tree under its key: ``place(path, key below base, merge)``.
        room: A directory for what is on its way, on the store's file system.

    Raises:
        StorageError: Something cannot be fetched, or is not what was noted.
    """
    if not os.path.isdir(os.path.join(base, DIRECTORY)):
        return
    import fcntl

    with open(os.path.join(base, DIRECTORY, ".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number, (path, record) in enumerate(list(_records(base, rest))):
            key = os.path.relpath(os.path.dirname(path), os.path.join(base, DIRECTORY))
            goal = os.path.join(room, str(number))
            objects = [Stored(**fields) for fields in record["objects"]]
            _fetch(Location(**record["location"]), objects, goal, goal + ".object")
            place(goal, key, os.path.basename(path) != "=whole.json")
            os.unlink(path)


def _fetch(location: Location, objects: List[Stored], goal: str, temporary: str) -> None:
    from dflow_hpc.storage.archive import extract
    from dflow_hpc.storage.s3 import MinioClient

    client: Optional[MinioClient] = None
    for stored in objects:
        target = os.path.join(goal, stored.path) if stored.path else goal
        if stored.form == EMPTY:
            os.makedirs(target, exist_ok=True)
            continue
        client = client or MinioClient(location.endpoint, secure=location.secure, bucket_name=location.bucket)
        client.download(stored.key, temporary)
        found = _digest(temporary)
        if found != stored.sha256:
            raise StorageError(
                f"{stored.key!r} was fetched ({client!r}); it is not what the step has put there: its SHA-256 is "
                f"{found}, it was {stored.sha256}. Somebody has overwritten it: run that step again."
            )
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if stored.form == TGZ:
            extract(temporary, target)
        else:
            os.replace(temporary, target)


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _records(base: str, rest: str, above: bool = True) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Yield (path, record) of a key, of all below it, and of those that it leads into."""
    top = os.path.join(base, DIRECTORY)
    if not os.path.isdir(top):
        return
    names = rest.split("/")
    places = ["/".join(names[:count]) for count in range(1, len(names))] if above else []
    for place in places:
        yield from _in(os.path.join(top, place))
    for here, _, _ in os.walk(os.path.join(top, rest)):
        yield from _in(here)


def _in(directory: str) -> Iterator[Tuple[str, Dict[str, Any]]]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name.startswith("=") and name.endswith(".json"):
            path = os.path.join(directory, name)
            try:
                with open(path, encoding="utf-8") as file:
                    yield path, json.load(file)
            except FileNotFoundError:  # somebody else has just brought it
                continue
