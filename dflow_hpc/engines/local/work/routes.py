"""By which way the artifacts of a leaf go between the run's store and a machine: over the link, or by URL.

Not here: moving them (``executors/remote.py``, ``executors/urls.py``, ``protocol/stage.sh``).

Trap: what the job stores or pulls by itself must not lie here too, or it would go twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from dflow_hpc.engines.local.work import staging
from dflow_hpc.engines.local.work.leafrun import Leaf
from dflow_hpc.engines.local.work.staging import archive_of
from dflow_hpc.engines.local.work.views import View
from dflow_hpc.executors.site import Parcel
from dflow_hpc.executors.urls import full_key, location
from dflow_hpc.storage.elsewhere import EMPTY, GZIP, Part, Stored


class MachineInputs:
    """Stages a leaf's inputs for a machine: here, as far as they do not go there by URL.

    Here nobody writes to them: links will do, and a file that is linked is hashed once for all leaves.

    Args:
        leaf: The leaf.
        route: The machine's ``staging``.
        writable: Names of artifacts that the program may write to.
    """

    def __init__(self, leaf: Leaf, route: str, writable: list[str]):
        self._leaf = leaf
        self._route = route
        self._writable = writable
        self._own: list[str] = []
        self._pulls: list[dict[str, Any]] = []
        self.arriving: set[str] = set()
        """Where nothing lies here, and something will there."""

    def stage(self, artifact: dict[str, Any], target: str) -> None:
        """Bring one artifact to ``target``, or see to it that the machine does.

        Raises:
            StagingError: It is not supplied, or cannot be brought.
        """
        mode = artifact.get("mode") is not None
        if artifact["name"] in self._writable or mode:
            self._own.append(os.path.relpath(target, self._leaf.root))
        key = (artifact.get("s3") or {}).get("key")
        if self._route == "s3" and key and not mode:
            store = staging.open_store(self._leaf.settings["store"])
            wanted = f"{key}/{artifact['subPath']}" if artifact.get("subPath") else key
            pulls = _pulls(store.elsewhere(wanted), os.path.relpath(target, self._leaf.root), archive_of(artifact))
            if pulls:
                self._pulls += pulls
                if not os.path.lexists(store.path_of(wanted)):
                    self.arriving.add(target)
                    return
                store.get(wanted, target, archive="none", how="hardlink", bring=False)
                return
        staging.Inputs(self._leaf.settings["store"], "hardlink", []).stage(artifact, target)

    def program(self) -> dict[str, Any]:
        """Return what the program says of its inputs: ``own``, and what it pulls."""
        return {"own": self._own, "pulls": self._pulls}


def _pulls(parts: list[Part], target: str, archive: str) -> list[dict[str, Any]]:
    """Return what a job pulls of an artifact; nothing where it cannot, and the artifact is brought here."""
    here = location()
    if any(part.location != here for part in parts):
        return []  # another storage than the one of the settings: the machine may have no way to it
    if archive != "none" and any(part.stored.form == GZIP and not part.path for part in parts):
        return []  # it may be an archive by itself, which is then to be unpacked: the store knows how
    return [
        {
            "form": part.stored.form,
            "key": part.stored.key,
            "sha256": part.stored.sha256 if part.stored.form != EMPTY else "",
            "size": part.stored.size,
            "location": part.location._asdict(),
            "path": f"{target}/{part.path}" if part.path else target,
            "sub_path": part.sub_path,
        }
        for part in parts
    ]


def puts_of(leaf: Leaf, real: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return what the job stores by itself: each declared artifact. A machine need not have zip."""
    prefix = f"{leaf.spec['workflow']}/{leaf.spec['pod']}"
    return [
        {
            "name": artifact["name"],
            "path": os.path.relpath(real(artifact["path"]), leaf.root),
            "archive": archive_of(artifact),
            "key": staging.output_key(leaf.template, prefix, artifact),
        }
        for artifact in (leaf.template.get("outputs") or {}).get("artifacts") or []
        if archive_of(artifact) != "zip"
    ]


def zips_of(leaf: Leaf, real: Callable[[str], str]) -> list[str]:
    """Return the paths of the declared artifacts that the job does not store by itself, below the leaf's directory."""
    artifacts = (leaf.template.get("outputs") or {}).get("artifacts") or []
    return [os.path.relpath(real(item["path"]), leaf.root) for item in artifacts if archive_of(item) == "zip"]


def pushed_by(parcel: Parcel) -> dict[str, list[Stored]]:
    """Return what a job has stored of its artifacts, by their names; ``stage.sh`` says what stands in ``pushed``."""
    found: dict[str, list[Stored]] = {}
    path = parcel.root / "pushed"
    puts = parcel.spec.get("puts", ())
    for line in path.read_text("utf-8", "surrogateescape").split("\n") if puts and path.exists() else ():
        if line:
            number, form, size, sha256, below = line.split("/", 4)
            put = puts[int(number)]
            key = full_key(put["key"])
            stored = Stored(form, int(size), sha256, f"{key}/{below}" if below else key, below)
            found.setdefault(put["name"], []).append(stored)
    return found


def linked_outputs(leaf: Leaf, view: View, route: str) -> list[str]:
    """Return what is to come back over the link, relative to the leaf's directory."""
    declared = leaf.template.get("outputs") or {}
    sources = [item.get("valueFrom") or {} for item in declared.get("parameters") or []]
    artifacts = [item for item in declared.get("artifacts") or [] if route == "ssh" or archive_of(item) == "zip"]
    paths = [item["path"] for item in [*sources, *artifacts] if item.get("path")]
    return sorted({os.path.relpath(view.own_path(path), leaf.root) for path in paths})
