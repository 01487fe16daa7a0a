"""Schedulers for tests without schedulers. PBS: commands in a directory that is put at the head of PATH."""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("qsub", "qstat", "qselect", "qdel", "qhold", "qrls", "qrerun")


@dataclass(frozen=True)
class Cluster:
    """A place with commands; what they start lives until it ends or is deleted."""

    home: Path
    env: dict[str, str]

    def run(self, command: str, cwd: Path | None = None) -> tuple[int, str, str]:
        """Run a shell command there."""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            check=False, cwd=cwd or self.home, env=self.env, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr


def host(directory: Path) -> Cluster:
    """A host without a scheduler, with a home of its own."""
    home = directory / "home"
    home.mkdir(parents=True)
    return Cluster(home, {**os.environ, "HOME": str(home)})


def pbs(directory: Path) -> Cluster:
    """OpenPBS; see ``fake_pbs.py``. Its head says which files in ``env["FAKE_PBS"]`` make it difficult."""
    cluster = host(directory)
    (directory / "bin").mkdir()
    (directory / "pbs").mkdir()
    for tool in TOOLS:
        path = directory / "bin" / tool
        command = f"{shlex.quote(sys.executable)} -S {shlex.quote(str(Path(__file__).with_name('fake_pbs.py')))}"
        path.write_text(f'#!/bin/sh\nexec {command} {tool} "$@"\n')
        path.chmod(0o755)
    path = f"{directory / 'bin'}:{cluster.env.get('PATH', '/usr/bin:/bin')}"
    return Cluster(cluster.home, {**cluster.env, "PATH": path, "FAKE_PBS": str(directory / "pbs")})
