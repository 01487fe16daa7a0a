"""What the documents say is true: scripts and commands of the README and of from-dflow are run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts import run_python

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.M | re.S)


def sessions():
    """Return (command, output) of each prompt in the console blocks."""
    found = []
    for kind, text in BLOCKS:
        if kind == "console":
            for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
                lines = part.splitlines()
                command = [lines.pop(0)]
                while lines and lines[0].startswith("> "):
                    command.append(lines.pop(0)[2:])
                found.append(("\n".join(command), lines))
    return found


def steady(lines):
    """Replace what differs between two runs: times and the hashes of templates."""
    text = "\n".join(line.rstrip() for line in lines)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"(square|total)-[0-9a-f]{10}", r"\1-HASH", text)
    return re.sub(r"(?<=\s)\d+s\b", "Ns", text)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (script,) = [text for kind, text in BLOCKS if kind == "python"]
    (folder / "squares.py").write_text(script)
    return folder


def test_the_script_and_the_commands_after_it_print_what_the_readme_says(place):
    bin_dir = str(Path(sys.executable).parent)
    environment = {
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "HOME": str(place / "home"),
        "PYTHONPATH": "",
        "LANG": "C.UTF-8",
        "COLUMNS": "140",
    }
    told = [session for session in sessions() if "pip install" not in session[0]]
    assert [command.split()[:2] for command, _ in told] == [["dflow-hpc", w] for w in ("run", "logs", "get")]
    for command, expected in told:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert steady(done.stdout.strip("\n").splitlines()) == steady(expected), command


def test_the_program_for_those_who_come_from_dflow_runs(tmp_path):
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/from-dflow.md").read_text(), re.M | re.S)
    (tmp_path / "program.py").write_text(program)
    done = run_python("program.py", cwd=tmp_path, timeout=120, XDG_STATE_HOME=str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "-3\n['got/relaxed-1.txt', 'got/relaxed-2.txt', 'got/relaxed-3.txt']\n"
    assert done.stderr.count(": Succeeded\n") == 2


def test_the_links_lead_somewhere():
    documents = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
    ]
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert broken == []
