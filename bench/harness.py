"""Runs whole commands in turns and reports what the kernel counted: CPU and wall seconds, peak memory."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / ".peers"
PEER_PACKAGES = {"pydflow": "pydflow==1.8.134", "hera": "hera[yaml]==7.1.0", "jobflow": "jobflow==0.4.0"}


@dataclass(frozen=True)
class Contestant:
    """A program that does the workload."""

    name: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Figures:
    """One run of one contestant."""

    cpu: float
    wall: float
    peak_mb: float


@functools.cache
def scratch() -> str:
    """Return the directory of all runs. It is removed at the end only: for a while after many deletions ext4 takes
    twenty times as long to make a file, and the next contestant would pay for the last one's rubbish.
    """
    place = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def measure(contestant: Contestant) -> Figures:
    """Run a contestant once in an empty directory; its CPU time includes that of all processes it waited for.

    Raises:
        RuntimeError: It failed; a failure is never a figure.
    """
    place = tempfile.mkdtemp(dir=scratch())
    log = Path(place, "log")
    with log.open("wb") as out:
        start = time.monotonic()
        child = subprocess.Popen(
            contestant.argv,
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "HOME": place, "XDG_STATE_HOME": place, **dict(contestant.environment)},
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        tail = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{contestant.name} ended with {child.returncode}; its last words:\n{tail}")
    return Figures(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def compare(title: str, contestants: Sequence[Contestant], pairs: int, figure: str = "wall") -> None:
    """Run all contestants in turns and print one line for each, with its ratio to the first."""
    print(f"{title} ({pairs} rounds in turns; median of {figure})", flush=True)
    runs: dict[str, list[Figures]] = {contestant.name: [] for contestant in contestants}
    for _ in range(pairs):
        for contestant in contestants:
            runs[contestant.name].append(measure(contestant))
    base = [getattr(run, figure) for run in runs[contestants[0].name]]
    for name, results in runs.items():
        values = [getattr(run, figure) for run in results]
        ratio = statistics.median(value / reference for value, reference in zip(values, base, strict=True))
        print(
            f"  {name:<28} wall {statistics.median(r.wall for r in results):8.2f} s"
            f"  cpu {statistics.median(r.cpu for r in results):8.2f} s"
            f"  peak {max(r.peak_mb for r in results):6.0f} MB  x{ratio:.2f}",
            flush=True,
        )


def peer_python(name: str) -> str:
    """Return the Python of a peer's environment, made the first time. Each has its own: their pins contradict."""
    home = PEERS / name
    python = home / "bin" / "python"
    if not (home / ".ready").exists():
        print(f"making an environment for {name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PEER_PACKAGES[name]], check=True)
        (home / ".ready").touch()
    return str(python)
