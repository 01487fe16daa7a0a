"""Programs of an author, each run as ``python FILE``: the local engine under the public names."""

import pytest

from tests.scripts import run_python

pytestmark = pytest.mark.slow

TWO_STEPS = """
from dflow_hpc import OP, PythonOPTemplate, Step, Workflow

@OP.function
def first(n: int) -> {"m": int}:
    with open(%(ledger)r, "a") as ledger:
        ledger.write("first\\n")
    return {"m": n + 1}

@OP.function
def second(n: int) -> {"m": int}:
    %(body)s

workflow = Workflow("two")
a = Step("a", PythonOPTemplate(first, image="x"), parameters={"n": 3}, key="key-a")
workflow.add(a)
b = Step("b", PythonOPTemplate(second, image="x"), parameters={"n": a.outputs.parameters["m"]}, key="key-b")
workflow.add(b)
"""

REUSE = """
if __name__ == "__main__":
    workflow.submit()
    steps = workflow.query_step(key="key-a")
    steps[0].modify_output_parameter("m", 41)
    del workflow
    again = Workflow("again")
    again.add(a)
    again.add(b)
    again.submit(reuse_step=steps)
    print([again.query_step(key=key)[0].outputs.parameters["m"].value for key in ("key-a", "key-b")])
"""


@pytest.fixture
def run(tmp_path):
    """Run a command in a directory of its own; return its stdout and stderr."""

    def start(*command, code=0):
        done = run_python(*command, cwd=tmp_path, timeout=120, DFLOW_DEBUG_WORKDIR=str(tmp_path / "runs"))
        assert done.returncode == code, done.stderr
        return done.stdout, done.stderr

    return start


def program(path, ledger, body, tail="workflow.submit()\n"):
    path.write_text(TWO_STEPS % {"ledger": str(ledger), "body": body} + tail)
    return str(path)


def test_a_fixed_bug_is_really_retried_and_what_succeeded_is_kept(run, tmp_path):
    ledger = tmp_path / "ledger"
    file = program(tmp_path / "program.py", ledger, "raise ValueError('broken')")
    _, said = run(file)
    assert "ValueError: broken" in said
    (directory,) = (tmp_path / "runs").glob("two-*")
    assert (directory / "status").read_text() == "Failed"
    program(tmp_path / "program.py", ledger, "return {'m': 10 * n}")
    _, said = run("-m", "dflow_hpc.cli.main", "retry", directory.name)
    assert "changed since: code/program.py" in said
    assert (directory / "status").read_text() == "Succeeded"
    assert (directory / "key-b" / "outputs" / "parameters" / "m").read_text() == "40"
    assert ledger.read_text() == "first\n"


def test_a_step_with_the_key_of_a_reused_one_takes_its_outputs(run, tmp_path):
    ledger = tmp_path / "ledger"
    file = program(tmp_path / "program.py", ledger, "return {'m': 10 * n}", REUSE)
    out, _ = run(file)
    assert out.splitlines()[-1] == "[41, 410]"
    assert ledger.read_text() == "first\n"


SECRET = """
import os
from dflow_hpc import OP, PythonOPTemplate, Secret, ShellOPTemplate, Step, Workflow

@OP.function
def tell() -> {"seen": str}:
    return {"seen": os.environ["PLAIN"] + str(len(os.environ["HIDDEN"]))}

envs = {"PLAIN": "plain", "HIDDEN": Secret(os.environ["GIVEN"])}
workflow = Workflow("secret")
workflow.add(Step("op", PythonOPTemplate(tell, image="x", envs=envs)))
workflow.add(Step("shell", ShellOPTemplate("shell", image="x", script="test ${#HIDDEN} = 9", envs=envs)))
workflow.submit()
print(workflow.query_step(name="op")[0].outputs.parameters["seen"].value)
"""


def test_variables_and_secrets_reach_steps_and_no_file(run, tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(SECRET)
    monkeypatch.setenv("GIVEN", "s3cr3t-of")
    out, said = run(str(tmp_path / "program.py"))
    assert out.splitlines()[-1] == "plain9"
    assert ": Succeeded" in said
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"s3cr3t-of" in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("tail", "why"),
    [("", "submits none now"), ("workflow.name = 'one'\nworkflow.submit()\n", "submits 'one-' before it")],
)
def test_a_run_that_its_program_does_not_come_to_any_more_is_retried_with_the_code_that_it_has(
    run, tmp_path, tail, why
):
    ledger = tmp_path / "ledger"
    run(program(tmp_path / "program.py", ledger, "raise ValueError('broken')"))
    (directory,) = (tmp_path / "runs").glob("two-*")
    program(tmp_path / "program.py", ledger, "return {'m': n}", tail)
    _, said = run("-m", "dflow_hpc.cli.main", "retry", directory.name, code=2)
    assert why in said
    assert f"dflow-hpc retry --same-code {directory.name}" in said
    assert (directory / "status").read_text() == "Failed"
