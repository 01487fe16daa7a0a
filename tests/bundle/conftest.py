"""Both sides of a bundle: a directory of an author's files that is run here, and an interpreter that has nothing.

The other side runs the base interpreter, which sees neither this checkout nor the environment's packages: what it
needs must have travelled.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dflow_hpc.compile.extract import extract

# What `Workflow.submit` does, as far as a bundle is concerned.
SUBMITTING = """
import json
from dflow_hpc.op.loader import forbid_while_loading

def submit(*ops, packages=()):
    forbid_while_loading("submit")
    from dflow_hpc.compile.bundle import bundle
    made, entries = bundle(ops, packages)
    with open("bundle.zip", "wb") as file:
        file.write(made.data)
    with open("made.json", "w") as file:
        json.dump({"entries": entries, "files": made.files, "notices": made.notices, "sha256": made.sha256}, file)
"""


class Author:
    """An author's directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir(parents=True)
        self.write({"submitting.py": SUBMITTING})

    def write(self, files):
        for name, content in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(textwrap.dedent(content))

    def run(self, *arguments, cwd=None, **kwargs):
        """Run Python with the project installed; return what `submit` made."""
        cwd = cwd or self.directory.parent / "cwd"
        cwd.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-B", *arguments], cwd=cwd, capture_output=True, text=True, check=False, **kwargs
        )
        assert done.returncode == 0, done.stderr
        made = json.loads((cwd / "made.json").read_text())
        made["data"] = (cwd / "bundle.zip").read_bytes()
        made["output"] = done.stdout
        made["code"] = sorted(name.removeprefix("code/") for name in made["files"] if name.startswith("code/"))
        return made


class OtherSide:
    """A machine that has a Python and the bundle."""

    def __init__(self, directory: Path, python: str):
        self.directory = directory
        self.python = python

    def run(self, made, program, python=None):
        """Run ``program`` with the bundle's code; ``op`` in it is the first OP, ``ops`` all of them."""
        code_dir = self.directory / "bundle"
        if not code_dir.exists():
            extract(made["data"], code_dir)
        work = self.directory / "work"
        work.mkdir(exist_ok=True)
        head = (
            f"import json, sys; sys.path[:0] = [{str(code_dir / 'lib')!r}]\n"
            f"from dflow_hpc.op import loader\n"
            f"def load(entry): return loader.load(entry, {str(code_dir)!r})\n"
            f"entries = json.loads({json.dumps(made['entries'])!r})\n"
        )
        return subprocess.run(
            [python or self.python, "-B", "-I", "-c", head + textwrap.dedent(program)],
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory)},
        )

    def result(self, made, program, python=None):
        done = self.run(made, program, python)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def author(tmp_path):
    return Author(tmp_path / "author")


@pytest.fixture
def other_side(tmp_path):
    directory = tmp_path / "other"
    directory.mkdir()
    yield OtherSide(directory, sys._base_executable)
    for path in directory.rglob("*"):  # extracted directories are read-only
        if path.is_dir():
            path.chmod(0o755)
