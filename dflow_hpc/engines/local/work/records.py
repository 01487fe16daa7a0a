"""The records that leaves leave (``exit.json``): as outcomes, and what stands for one that a leaf did not write.

Not here: writing them (``leafrun.write_record``).

Trap: if a record exists its leaf is never run again.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local.work import leafrun, staging
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.leaf import Outcome


def read_record(leaf_dir: Path) -> Outcome | None:
    """Return the outcome of the leaf that ran in a directory, or None if it has not ended for good."""
    record = load_record(leaf_dir)
    return None if record is None else as_outcome(record)


def as_outcome(record: dict[str, Any]) -> Outcome:
    """Return what a record says."""
    failure = record.get("failure")
    return Outcome(
        phase=record["phase"],
        message=record.get("message", ""),
        outputs=record.get("outputs") or {},
        failure=FailureClass(failure) if failure else None,
        started=record["started"],
        finished=record["finished"],
        notices=list(record.get("notices") or []),
        members=list(record.get("members") or []),
    )


def node_of_record(root: Path) -> str | None:
    """Return the node whose record lies in a directory; None where there is none."""
    record = load_record(root)
    return None if record is None else str(record["node"])


def load_record(root: Path) -> dict[str, Any] | None:
    """Return the record in a leaf's directory as it was written; None where there is none."""
    try:
        record: dict[str, Any] = json.loads((root / leafrun.RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return record


def death(status: int, *, overdue: bool, behind_setup: bool) -> dict[str, Any]:
    """Describe the end of a leaf's process that left no record.

    Args:
        status: Its wait status.
        overdue: It must have ended by then.
        behind_setup: Setup lines of a machine ran before the program.
    """
    code = os.waitstatus_to_exitcode(status)
    if overdue:
        code = 128 - code if code < 0 else code
        return {
            "phase": "Failed",
            "message": leafrun.DEADLINE_TEXT,
            "failure": "WALLTIME",
            "outputs": {"exitCode": str(code)},
        }
    if code == leafrun.NO_RECORD:
        return {
            "phase": "Error",
            "message": staging.error_text("wait", "the step ended without a record; its log says why"),
            "failure": "INFRA",
        }
    if code < 0:
        from dflow_hpc.engines.local.work.commands import signal_text

        text = f"the process was {signal_text(-code)}"
        code = 128 - code
    else:
        also = ", or one of the machine's setup lines failed" if behind_setup else ""
        text = f"the OP ended its process by itself (os._exit({code}) or a library's exit){also}; no outputs were taken"
    record = leafrun.failed(code, text)
    record["outputs"] = {"exitCode": str(code)}
    if code == 128 + signal.SIGKILL:
        record["failure"] = "OOM"  # the usual reason; who killed it is not told
    return record
