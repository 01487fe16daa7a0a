"""The Dockerfile, as far as it can be tried without a registry: its instructions, and what it would install.

It was built by podman, in a chroot; that needs a Debian to start from, a network and minutes.
"""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "docs/deploy/Dockerfile"
KNOWN = {"FROM", "ARG", "RUN", "ENV", "COPY", "CMD"}


def instructions():
    """Return word and rest of each instruction."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", "", text).strip().splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_each_instruction_is_one_and_what_is_copied_is_there():
    found = instructions()
    assert {word for word, _ in found} <= KNOWN
    assert found[0] == ("FROM", "debian:bookworm-slim")
    copied = [rest.split()[0] for word, rest in found if word == "COPY"]
    assert copied == ["pyproject.toml", "dist/dflow_hpc-*.whl"]  # the wheel is what the head says to make
    for word, rest in found:
        if word == "RUN":
            subprocess.run(["sh", "-n", "-c", rest], check=True)


@pytest.mark.parametrize("extra", ["", "examples"])
def test_what_it_depends_on_is_what_the_project_says(tmp_path, extra):
    [line] = [rest for word, rest in instructions() if word == "RUN" and "tomllib" in rest]
    script = re.search(r"python3 -c .* > requirements\.txt", line)[0]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["sh", "-e", "-c", script], cwd=tmp_path, env={"PATH": _path(), "EXTRAS": extra}, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else [])]
    assert (tmp_path / "requirements.txt").read_text().splitlines() == wanted


def _path():
    return str(Path(shutil.which("python3")).parent) + ":/usr/bin:/bin"
