"""Unpack a bundle safely: whole or not at all, read-only, and only what its own list says.

Not here: unpacking under Argo, where no dflow_hpc is installed yet (``op/bootstrap.py``).

The trap: the result is read-only, its directories too; who removes it must make them writable first.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path, PurePosixPath

from dflow_hpc.errors import BundleError


def extract(data: bytes, target: Path) -> None:
    """Unpack a bundle into ``target``.

    Args:
        data: The zip.
        target: A directory that does not exist, or is empty; its parent exists.

    Raises:
        BundleError: It is no bundle, was changed on its way, or holds a name that leads elsewhere.
        OSError: The directory cannot be written.
    """
    contents = _checked(data)
    part = target.with_name(f"{target.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)  # of an earlier process with this pid, killed while it wrote
    part.mkdir()
    for name, content in contents.items():
        path = part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o444)
    for directory in (Path(top) for top, _, _ in os.walk(part)):
        directory.chmod(0o555)
    part.rename(target)


def _checked(data: bytes) -> dict[str, bytes]:
    """Return name -> content of each member, after all checks."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            hashes = json.loads(archive.read("bundle.json"))["files"]
            members = archive.infolist()
            _check_names(members, {*hashes, "bundle.json"})
            contents = {member.filename: archive.read(member) for member in members}
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, EOFError) as error:
        raise BundleError(
            f"a bundle was to be extracted; {len(data)} bytes were found that are none: {error}"
        ) from error
    for name, expected in hashes.items():
        if hashlib.sha256(contents[name]).hexdigest() != expected:
            raise BundleError(f"a bundle was to be extracted; its file {name} was changed on the way. Submit again.")
    return contents


def _check_names(members: list[zipfile.ZipInfo], listed: set[str]) -> None:
    names = [member.filename for member in members]
    if sorted(names) != sorted(listed):
        odd = sorted(set(names) ^ listed) or sorted(name for name in listed if names.count(name) > 1)
        raise BundleError(f"a bundle was to be extracted; its list and its files differ in {', '.join(odd[:5])}.")
    for member in members:
        path = PurePosixPath(member.filename)
        kind = member.external_attr >> 28
        if path.is_absolute() or ".." in path.parts:
            raise BundleError(f"a bundle was to be extracted; its file name {member.filename!r} leads out of it.")
        if kind not in (0, 0o10) or member.is_dir():
            raise BundleError(f"a bundle was to be extracted; {member.filename!r} in it is not a regular file.")
