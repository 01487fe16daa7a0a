"""Which runs there are on this machine, wherever their directories lie.

One small file a run in ``$XDG_STATE_HOME/dflow-hpc/runs``. It only says where to look: all that is known about a run
is in its directory, so a lost index costs nothing but ``list``; a run that lies in the ordinary place is found without.

Trap: two runs in different directories may have one name. The file's name therefore holds a hash of the path, and
looking up a name that several runs have is an error that lists them.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from dflow_hpc.engines.local.rundir import RunDir, write_atomic
from dflow_hpc.errors import EngineError


def index_dir() -> Path:
    """Return the directory of the index."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "dflow-hpc" / "runs"


def _entry(path: Path) -> Path:
    return index_dir() / f"{path.name}@{hashlib.sha256(bytes(path)).hexdigest()[:12]}.json"


def add(run: RunDir) -> None:
    """Note where a run lies. An index that cannot be written is no reason not to run: ``find`` looks beside it too."""
    entry = _entry(run.path)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(entry, json.dumps({"path": str(run.path)}))
    except (OSError, EngineError):
        return  # a read-only home: the run is still found by its path and in debug_workdir


def remove(run: RunDir) -> None:
    """Forget where a run lies."""
    _entry(run.path).unlink(missing_ok=True)


def runs() -> list[RunDir]:
    """Return the runs that the index knows and that are there, in the order of their creation.

    Entries of directories that were removed by hand are dropped, but not those on a disk that is not mounted now.
    """
    found = []
    for entry in index_dir().glob("*@*.json"):
        try:
            path = Path(json.loads(entry.read_text(encoding="utf-8"))["path"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not one of ours, or removed while we looked
        run = RunDir(path)
        if run.exists:
            found.append((run.created(), run))
        elif path.parent.is_dir():
            entry.unlink(missing_ok=True)
    return [run for _, run in sorted(found, key=lambda pair: pair[0])]


def find(text: str, beside: Iterable[Path] = ()) -> RunDir:
    """Return the run that a user means.

    Args:
        text: Its id, a beginning of it that no other run's id has, or the path of its directory.
        beside: Directories in which a run of that id is looked for first.

    Raises:
        EngineError: There is none, or there are several.
    """
    for path in [directory / text for directory in beside] + ([Path(text)] if "/" in text else []):
        if (run := RunDir(path.resolve())).exists:
            return run
    known = runs()
    matches = [run for run in known if run.name == text] or [run for run in known if run.name.startswith(text)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = "\n  ".join(str(run.path) for run in matches)
        raise EngineError(f"the run {text!r} was asked for; {len(matches)} fit. Give one of these paths:\n  {listed}")
    raise EngineError(
        f"the run {text!r} was asked for; none of the {len(known)} known runs has an id that begins so. "
        "`dflow-hpc list` shows them; the path of a run's directory will do too."
    )
