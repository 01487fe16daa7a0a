"""Collect the author's files for a bundle: what lies beside a script, whole packages, single modules.

Not here: which modules the author's code needs (``closure.py``), and the zip (``bundle.py``).

The trap: an author's directory may be a home directory with everything in it. So what merely *lies beside* the code
is bounded in size and number, nearest files first, and what is left behind is said. What the code imports, and what
``python_packages`` names, always travels.
"""

from __future__ import annotations

import fnmatch
import os
import stat
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dflow_hpc.config import config
from dflow_hpc.errors import BundleError

TOTAL_BYTES = 64 << 20
"""Size of all files together that travel because they lie beside the code."""
TOTAL_FILES = 5000
"""Number of such files."""

_IGNORE_FILE = ".dflowignore"
_SKIPPED_DIRECTORIES = frozenset({"__pycache__", "node_modules", "upload", "CVS"})
# A directory that holds one of these is a virtual environment, a run of ours, or a run of dflow's debug mode.
_MARKS = ("pyvenv.cfg", "journal.jsonl", "conda-meta")
_COMPILED = (".so", ".pyd", ".dylib")
PACKAGE_HOME = Path(__file__).resolve().parent.parent
"""Directory of dflow_hpc: never the author's."""


@dataclass
class Gathered:
    """Files on their way into a bundle."""

    files: dict[str, Path] = field(default_factory=dict)
    """Name below ``code/`` -> the file."""
    notices: list[str] = field(default_factory=list)
    _bytes: int = 0
    _left: dict[str, int] = field(default_factory=dict)
    _full: str = ""
    """The first file for which there was no room."""

    def add(self, name: str, path: Path) -> None:
        """Take one file, whatever its size.

        Raises:
            BundleError: It is a compiled extension, which another machine could not load.
        """
        if name in self.files:
            return
        if path.name.endswith(_COMPILED):
            raise BundleError(
                f"the author's code was to be bundled; {path} is compiled for this machine and cannot travel. Install "
                f"it where the OPs run (their image, or the cluster's Python) and name it in a {_IGNORE_FILE} here."
            )
        self.files[name] = path

    def add_tree(self, directory: Path, prefix: str = "", *, bounded: bool = True, deep: bool = True) -> None:
        """Take the files below ``directory``.

        Args:
            directory: Where they lie.
            prefix: Put before their relative path, ending in ``/``, or empty.
            bounded: Leave large files and great numbers behind, and say so.
            deep: Descend into directories; never done for a home directory, ``/`` or the temporary directory.
        """
        home = os.path.expanduser("~")  # noqa: PTH111  (Path.home() raises where there is none)
        deep = deep and str(directory) not in (home, "/", tempfile.gettempdir())
        for path, relative in _walk(directory, deep):
            name = prefix + relative
            if not _is_text(name):
                self.notices.append(f"left behind because its name is not UTF-8: {str(path)!r}. Rename it.")
            elif name not in self.files:
                if not bounded or self._fits(path):
                    self.add(name, path)
                elif self._full:
                    return

    def _fits(self, path: Path) -> bool:
        size = path.stat().st_size
        if path.suffix != ".py" and size > config["bundle_max_file"]:
            self._left[str(path)] = size
            return False
        if self._bytes + size > TOTAL_BYTES or len(self.files) >= TOTAL_FILES:
            self._full = self._full or str(path)
            return False
        self._bytes += size
        return True

    def all_notices(self) -> tuple[str, ...]:
        """Return what the author should know, one line each."""
        lines = list(dict.fromkeys(self.notices))  # several OPs lead to one module
        advice = "Pass such data as artifacts (upload_artifact), or"
        if self._left:
            names = [f"{path} ({size / 2**20:.1f} MiB)" for path, size in sorted(self._left.items())]
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            limit = f"{config['bundle_max_file'] / 2**20:.1f} MiB"
            lines.append(
                f"left behind because larger than {limit}: {', '.join(names[:5])}{more}. {advice} raise the setting "
                "bundle_max_file."
            )
        if self._full:
            lines.append(
                f"left behind: {self._full} and what lies deeper, because the files beside the code are more than "
                f"{TOTAL_FILES}, or {TOTAL_BYTES >> 20} MiB. {advice} list what is not needed in a {_IGNORE_FILE}."
            )
        return tuple(lines)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(top: Path, deep: bool) -> Iterator[tuple[Path, str]]:
    """Yield ``(file, relative name)``, nearest first, sorted; links are followed, each directory is seen once."""
    patterns = _ignore_patterns(top)
    seen: set[str] = set()
    queue = deque([(top, "")])
    while queue:
        directory, prefix = queue.popleft()
        identity = os.path.realpath(directory)
        if identity in seen:
            continue
        seen.add(identity)
        entries = sorted(filter(_leads_somewhere, os.scandir(directory)), key=lambda entry: entry.name)
        if prefix and any(entry.name in _MARKS for entry in entries):
            continue
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith(".") or _ignored(name, entry.is_dir(), patterns):
                continue
            if entry.is_dir():
                if deep and _descends(entry):
                    queue.append((Path(entry.path), name + "/"))
            elif entry.is_file() and not entry.name.endswith(".pyc"):
                yield Path(entry.path), name


def _leads_somewhere(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a file or a directory: no socket, no pipe, no link to nowhere or to itself."""
    try:
        return stat.S_IFMT(entry.stat().st_mode) in (stat.S_IFREG, stat.S_IFDIR)
    except OSError:
        return False


def _descends(entry: os.DirEntry[str]) -> bool:
    if entry.name in _SKIPPED_DIRECTORIES or entry.name.endswith(".egg-info"):
        return False
    return Path(entry.path).resolve() != PACKAGE_HOME and os.access(entry.path, os.R_OK | os.X_OK)


def _ignore_patterns(top: Path) -> list[str]:
    try:
        text = (top / _IGNORE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = [line.strip() for line in text.splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    for pattern in patterns:
        if pattern.startswith("!"):
            raise BundleError(
                f"{top / _IGNORE_FILE} says {pattern!r}: files cannot be taken back in; write narrower patterns."
            )
    return patterns


def _ignored(name: str, is_directory: bool, patterns: list[str]) -> bool:
    """Say whether a pattern matches the relative name, or its last part when the pattern has no inner ``/``."""
    for pattern in patterns:
        if pattern.endswith("/") and not is_directory:
            continue
        bare = pattern.rstrip("/")
        subject = name if "/" in bare else name.rpartition("/")[2]
        if fnmatch.fnmatchcase(subject, bare.lstrip("/")):
            return True
    return False
