"""Programs of users, run as they run them."""

import os
import subprocess
import sys


def run_python(*words, cwd, timeout=300, **variables):
    """Run Python in a directory, with further variables of the environment; how it ended, and what it said."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
