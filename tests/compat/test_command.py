"""The command and programs that say ``dflow``: where pydflow is installed, and when a run is retried."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from dflow import Step, Workflow
from dflow.python import OP, PythonOPTemplate

@OP.function
def divide(n: int) -> int:
    return n // 0

wf = Workflow("divide")
wf.add(Step("divide", PythonOPTemplate(divide), parameters={"n": 6}))
wf.submit()
"""


def command(*arguments, cwd, **variables):
    return subprocess.run(
        [Path(sys.executable).with_name("dflow-hpc"), *arguments],
        cwd=cwd,
        env={"HOME": str(cwd), "PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_fixed_program_is_retried(tmp_path):
    program = tmp_path / "divide.py"
    program.write_text(PROGRAM)
    done = command("run", "--plain", "divide.py", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "ZeroDivisionError" in done.stderr
    program.write_text(PROGRAM.replace("// 0", "// 2"))
    (run,) = tmp_path.glob("divide-*")
    done = command("retry", run.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "code/divide.py" in done.stderr


def test_an_installed_pydflow_gives_way_only_when_asked(tmp_path):
    (tmp_path / "site" / "dflow").mkdir(parents=True)
    (tmp_path / "site" / "dflow" / "__init__.py").write_text("raise RuntimeError('this is pydflow')\n")
    (tmp_path / "divide.py").write_text(PROGRAM.replace("// 0", "// 2"))
    theirs = command("run", "--plain", "divide.py", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert theirs.returncode == 2
    assert "this is pydflow" in theirs.stderr
    ours = command("run", "--plain", "--as-dflow", "divide.py", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert ours.returncode == 0, ours.stderr
