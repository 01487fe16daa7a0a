"""The log of a leaf as an artifact, where its template wants logs archived: what Argo's ``wait`` does at the end.

Trap: a leaf's record is kept without it. After a restart it is stored again, under the same key.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local.work import logs
from dflow_hpc.storage.objects import ObjectStore

Object = dict[str, Any]


def with_log(record: Object, template: Object, log: Path, store: Callable[[], ObjectStore | None]) -> Object:
    """Store a leaf's log if its template says so; return the record with that artifact, or with what went wrong.

    Args:
        record: The leaf's.
        template: Its template, with the ``archiveLocation`` that Argo put there.
        log: What it wrote; perhaps it wrote nothing.
        store: Gives the template's storage.
    """
    place = template.get("archiveLocation") or {}
    if not place.get("archiveLogs") or (objects := store()) is None or not (place.get("s3") or {}).get("key"):
        return record
    key = f"{place['s3']['key']}/main.log"
    return {**record, **logs.stored(objects, log, key, record["phase"], record.get("outputs") or {})}
