"""What came back from a machine, on its way into the leaves' directories here."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dflow_hpc.executors.broker.follow import Logs
from dflow_hpc.executors.faults import fault
from dflow_hpc.executors.protocol import unpack

_MARKER = "exit.json"
_UNSENT = "unsent"


def bring(data: bytes, roots: Mapping[str, str], logs: Logs) -> dict[str, dict[str, Any]]:
    """Unpack what came into the leaves' directories; return the markers that were in it, by token.

    They are kept apart: in a leaf's directory here ``exit.json`` is the engine's own record.
    """
    records: dict[str, dict[str, Any]] = {}
    if not data:
        return records
    with tempfile.TemporaryDirectory() as room:

        def place(name: str) -> Path | None:
            key, attempt, *rest = PurePosixPath(name).parts if name.count("/") > 1 else ("", "", "")
            token = f"{key}-{attempt.removeprefix('attempt.')}"
            if token not in roots:
                return None
            # A Path for each token beforehand would keep each part of each name: CPython interns them.
            return Path(room, token) if rest == [_MARKER] else Path(roots[token], *rest)

        unpack(data, place)
        fault("remote.brought")
        for token, directory in roots.items():
            path, root = Path(room, token), Path(directory)
            if path.exists():
                records[token] = json.loads(path.read_bytes())
                logs.join(token, root / "log.txt", root / "log.tail", records[token].get("log"))
    return records


def clear_unsent(root: str) -> None:
    """Take away what a leaf's directory says of outputs that could not be stored."""
    Path(root, _UNSENT).unlink(missing_ok=True)


def unsent(root: str) -> str:
    """Return why a leaf's outputs could not be stored; empty where they were."""
    path = Path(root, _UNSENT)
    return path.read_text(errors="replace") if path.exists() else ""
