"""OPs on a machine whose Python is another one than here: older, newer, too old; big and pickled values."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import image

pytestmark = pytest.mark.slow

HERE = "{}.{}".format(*sys.version_info[:2])
PYTHONS = image.pythons()
OTHERS = sorted((version for version in PYTHONS if version != HERE), key=lambda text: int(text[2:]))
PROFILE = """
[machine.far]
scheduler = "shell"
transport = "local"
root = "{root}/there"
setup = ["PATH={python}:$PATH"]
"""
VALUES = """
import sys
from dflow_hpc import OP, BigParameter, PythonOPTemplate, Step, Workflow

class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)

@OP.function
def mirror(p: Point, big: BigParameter(dict), many: list) -> {"q": Point, "sum": BigParameter(dict), "python": str}:
    found = {"sum": sum(big["numbers"]), "many": many, "text": "x" * 300_000}
    return {"q": Point(p.y, p.x), "sum": found, "python": "%d.%d" % sys.version_info[:2]}

@OP.function
def look(q: Point, sum: BigParameter(dict)) -> {"ok": bool}:
    return {"ok": q == Point((1, "a"), 2.5) and sum["sum"] == 1249975000 and len(sum["text"]) == 300_000}

if __name__ == "__main__":
    wf = Workflow("pythons", id="w")
    given = {"p": Point(2.5, (1, "a")), "big": {"numbers": list(range(50_000))}, "many": [None, {"k": [1.5]}, "é"]}
    there = Step("mirror", PythonOPTemplate(mirror, image="any"), parameters=given, executor="far")
    outputs = there.outputs.parameters
    here = Step("look", PythonOPTemplate(look, image="any"), parameters={"q": outputs["q"], "sum": outputs["sum"]})
    wf.add(there)
    wf.add(here)
    wf.submit()
    wf.wait()
    print("python", wf.query_step(name="mirror")[0].outputs.parameters["python"].value)
    print("ok", wf.query_step(name="look")[0].outputs.parameters["ok"].value)
"""
# Read from stdin it has no source file, so the OP itself is pickled.
PICKLED = """
from dflow_hpc import OP, PythonOPTemplate, Step, Workflow
@OP.function
def half(n: int) -> {"m": int}:
    return {"m": n // 2}
wf = Workflow("pickled", id="w")
wf.add(Step("half", PythonOPTemplate(half, image="any"), parameters={"n": 42}, executor="far"))
wf.submit()
wf.wait()
step = wf.query_step(name="half")[0]
print("m", step.outputs.parameters["m"].value if step.phase == "Succeeded" else step.phase)
"""


def run(path, python, text, *, from_stdin=False):
    """Run a program here with the machine's Python ; return all that was said, logs of leaves included."""
    path.joinpath("machines.toml").write_text(PROFILE.format(root=path, python=python))
    path.joinpath("program.py").write_text(text)
    words = [sys.executable, "-"] if from_stdin else [sys.executable, "program.py"]
    environment = {**os.environ, "DFLOW_MODE": "debug", "XDG_STATE_HOME": str(path / "state"), "HOME": str(path)}
    environment.pop("PYTHONPATH", None)
    options = {"capture_output": True, "text": True, "timeout": 120}
    ran = subprocess.run(words, check=False, cwd=path, env=environment, input=text if from_stdin else "", **options)
    logs = [log.read_text() for log in Path(path, "w").glob("*/log.txt")]
    return "\n".join([ran.stdout, ran.stderr, *logs])


def bin_of(version):
    if version not in PYTHONS:
        pytest.skip(f"needs a Python {version} of pyenv")
    return PYTHONS[version] / "bin"


@pytest.mark.parametrize("version", ["3.8", OTHERS[-1] if OTHERS else "3.13"])
def test_values_and_big_parameters_cross_versions_both_ways(tmp_path, version):
    said = run(tmp_path, bin_of(version), VALUES)
    assert f"python {version}\n" in said, said
    assert "ok True" in said, said


def test_a_pickled_op_runs_on_the_same_version_and_says_what_to_do_on_another(tmp_path):
    for name, version, expected in (
        ("same", HERE, "m 21"),
        (
            "other",
            "3.8",
            f"was pickled by Python {HERE}; this side runs Python 3.8, which cannot read it. Put the OP into",
        ),
    ):
        (tmp_path / name).mkdir()
        said = run(tmp_path / name, bin_of(version), PICKLED, from_stdin=True)
        assert expected in said, said


def test_a_python_that_is_too_old_is_told(tmp_path):
    old = sorted(image.PYENV.glob("versions/3.[67].*/bin"))
    if not old:
        pytest.skip("needs a Python 3.6 or 3.7 of pyenv")
    said = run(tmp_path, old[0], VALUES)
    assert "Python OPs need Python 3.8 or later" in said and "setup lines" in said
