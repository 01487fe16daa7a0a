"""An author's program through the real engine: a script without a guard, plain and by the command, and a notebook."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FILES = {
    "local_mod.py": """
        import json
        import pathlib
        FACTOR = json.loads((pathlib.Path(__file__).parent / "factor.json").read_text())
    """,
    "factor.json": "7",
}

OPS = """
from dflow_hpc import OP, OPIO, OPIOSign, Parameter, PythonOPTemplate, Step, Workflow
import local_mod

class Weight:
    def __init__(self, kilos):
        self.kilos = kilos

class Multiply(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"weight": Parameter(Weight)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"weight": Parameter(Weight)})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"weight": Weight(op_in["weight"].kilos * local_mod.FACTOR)})
"""

SUBMIT = """
wf = Workflow("multiply")
first = Step("first", PythonOPTemplate(Multiply), parameters={"weight": Weight(3)}, key="first")
wf.add(first)
wf.add(
    Step("again", PythonOPTemplate(Multiply), parameters={"weight": first.outputs.parameters["weight"]}, key="again")
)
wf.submit()
value = wf.query_step(key="again")[0].outputs.parameters["weight"].value
print("kilos", value.kilos, type(value) is Weight)
"""

NOTEBOOK = """
import sys
from IPython.core.interactiveshell import InteractiveShell
sys.path.insert(0, "")
shell = InteractiveShell.instance()
for cell in {cells!r}:
    shell.run_cell(cell, store_history=True).raise_error()
"""


@pytest.fixture
def run(tmp_path):
    directory = tmp_path / "author"
    directory.mkdir()
    for name, content in FILES.items():
        (directory / name).write_text(textwrap.dedent(content))
    (directory / "multiply.py").write_text(OPS + SUBMIT)

    def run(*arguments, cwd):
        home = {"HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path / "ipython"), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=home, capture_output=True, text=True, check=False
        )
        assert "kilos 147 True" in done.stdout.splitlines(), done.stdout + done.stderr
        assert done.returncode == 0
        return done.stdout + done.stderr

    return run


def test_plain_python(run, tmp_path):
    run(str(tmp_path / "author" / "multiply.py"), cwd=tmp_path)


def test_the_command_says_what_stays_behind(run, tmp_path):
    (tmp_path / "author" / "dump.dat").write_bytes(bytes(5 << 20))
    said = run(str(Path(sys.executable).with_name("dflow-hpc")), "run", "--plain", "author/multiply.py", cwd=tmp_path)
    assert f"left behind because larger than 4.0 MiB: {tmp_path}/author/dump.dat (5.0 MiB)" in said


def test_a_notebook(run, tmp_path):
    run("-W", "ignore", "-c", NOTEBOOK.format(cells=[OPS, SUBMIT]), cwd=tmp_path / "author")
