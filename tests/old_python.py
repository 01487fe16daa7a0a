"""Where a Python 3.8 is, if there is one: what travels must run on it."""

import os
import shutil
from pathlib import Path


def find():
    """Return the path of a Python 3.8, or None."""
    # pyenv's own python3.8 on the PATH is a script that may refuse, so its interpreters come first.
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = sorted(versions.glob("3.8.*/bin/python3.8")) if os.access(versions, os.R_OK | os.X_OK) else []
    return str(found[0]) if found else shutil.which("python3.8")
