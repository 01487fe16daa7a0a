"""OPs that no file defines: notebooks by their cells, prompts and functions by pickle, and old Pythons.

The notebook is a real IPython shell in a process of its own, because it takes ``__main__`` for itself.
"""

import os
import sys

import old_python
import pytest

pytestmark = pytest.mark.slow

OLD_PYTHON = old_python.find()

NOTEBOOK = """
import sys
sys.path.insert(0, {author!r})
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
cells = {cells!r}
for cell in cells:
    done = shell.run_cell(cell, store_history=True)
    if "no error" not in cell:
        done.raise_error()
"""


def in_notebook(author, cells):
    # A home of its own: IPython keeps a history there.
    home = {**os.environ, "IPYTHONDIR": str(author.directory.parent / "ipython"), "PYTHONWARNINGS": "ignore"}
    program = NOTEBOOK.format(author=str(author.directory), cells=cells)
    return author.run("-c", program, cwd=author.directory, env=home)


def test_a_notebook_travels_by_the_cells_that_its_ops_need(author, other_side):
    author.write({"local_mod.py": "FACTOR = 7", "factor.json": "5"})
    cells = [
        "%config InlineBackend.rc = {}\nfrom __future__ import annotations",
        "import json, math as m\nfrom submitting import submit\nimport local_mod",
        "OFFSET = 1\ndef used(x):\n    return x + OFFSET\n\ndef other(x):\n    return nothing_at_all",
        "expensive = [print('must not run twice')]; BONUS = 100",
        "OFFSET = 2\nOFFSET += 20  # no error\n1 / 0",
        "@staticmethod\ndef unused(): ...\n\n"
        "class Base:\n    # a comment that stays\n    def scale(self, x: Number) -> 'Result':\n        return used(x)",
        "from numbers import Number\nclass Result: ...\n"
        "class Op(Base):\n    def execute(self, n):\n        expensive = m.floor(n)\n"
        "        return self.scale(expensive) * local_mod.FACTOR + BONUS + json.load(open(HERE + '/factor.json'))\n"
        "import os; HERE = os.getcwd()",
        "!true\nsubmit(Op)",
    ]
    made = in_notebook(author, cells)
    assert made["entries"] == [{"kind": "script", "file": "__notebook__.py", "name": "Op"}]
    program = """
        op = load(entries[0])
        import typing, inspect
        print(op().execute(3.5), sorted(typing.get_type_hints(op.scale)), "stays" in inspect.getsource(op.__mro__[1]))
        main = vars(sys.modules["__main__"])
        print([name for name in ("expensive", "other", "unused", "submit") if name in main])
    """
    first, second = other_side.result(made, program).split("\n")
    assert first == "280 ['return', 'x'] True"
    assert second == "[]"


def test_a_notebook_op_that_needs_a_value_of_no_cell_is_pickled(author, other_side):
    cells = [
        "from submitting import submit\nimport sys",
        "answer = get_ipython().ev('41 + 1')\nclass Op:\n    def execute(self):\n        return answer",
        "class Plain:\n    def execute(self):\n        return 'plain'",
        "submit(Op, Plain)",
    ]
    made = in_notebook(author, cells)
    assert [entry["kind"] for entry in made["entries"]] == ["pickle", "script"]
    assert other_side.result(made, "print(*[load(entry)().execute() for entry in entries])") == "42 plain"


def test_values_of_a_prompt_resolve(author, other_side):
    program = """
from submitting import submit
class Box:
    size = 4
class Op:
    def execute(self, text):
        import jsonpickle
        return jsonpickle.dumps(jsonpickle.loads(text, keys=True), keys=True)
submit(Op)
"""
    made = author.run("-c", program, cwd=author.directory)
    text = '{"py/object": "__main__.Box"}'
    assert other_side.result(made, f"print(load(entries[0])().execute({text!r}))") == text
    assert other_side.result(made, "load(entries[0]); print(sys.modules['__main__'].Box.size)") == "4"


PROMPT = """
from submitting import submit
import local_mod
def make(n):
    class Made:
        def execute(self):
            return n + local_mod.FACTOR
    return Made
class Op:
    def execute(self):
        return local_mod.FACTOR
submit(Op, make(1))
"""


def test_a_prompt_travels_by_pickle(author, other_side):
    author.write({"local_mod.py": "FACTOR = 7"})
    made = author.run("-", cwd=author.directory, input=PROMPT)
    assert made["code"] == ["local_mod.py", "submitting.py"]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert [(entry["kind"], entry["python"]) for entry in made["entries"]] == [("pickle", version)] * 2
    assert "lib/cloudpickle/cloudpickle.py" in made["files"]
    program = """
        print(*[load(entry)().execute() for entry in entries], load(entries[0]).__name__)
        load({**entries[0], "python": "3.7"})
    """
    done = other_side.run(made, program)
    assert done.stdout == "7 8 Op\n", done.stderr
    assert "was pickled by Python 3.7; this side runs Python" in done.stderr.splitlines()[-1]


def test_an_op_made_in_a_function_of_a_script_is_pickled(author, other_side):
    author.write({"local_mod.py": "FACTOR = 7", "make.py": PROMPT})
    made = author.run(str(author.directory / "make.py"))
    assert [entry["kind"] for entry in made["entries"]] == ["script", "pickle"]
    assert other_side.result(made, "print(*[load(entry)().execute() for entry in entries])") == "7 8"


def test_an_op_below_the_guard_is_pickled(author, other_side):
    source = PROMPT.replace("class Op:", "if True:\n  class Op:").replace("\nsubmit(Op, make(1))", "\n  submit(Op)")
    guarded = source.replace("if True:", "if __name__ == '__main__':")
    author.write({"local_mod.py": "FACTOR = 7", "make.py": source, "guarded.py": guarded})
    made = [author.run(str(author.directory / name))["entries"][0]["kind"] for name in ("make.py", "guarded.py")]
    assert made == ["script", "pickle"]
    assert (
        other_side.result(author.run(str(author.directory / "guarded.py")), "print(load(entries[0])().execute())")
        == "7"
    )


def test_an_op_typed_after_a_script_is_not_looked_for_in_it(author, other_side):
    author.write({"start.py": "from submitting import submit\nclass Op:\n    def execute(self):\n        return 1\n"})
    typed = "class Op:\n    def execute(self):\n        return 2\n\nsubmit(Op)\n"
    made = author.run("-i", str(author.directory / "start.py"), input=typed)
    assert made["entries"][0]["kind"] == "pickle"
    assert other_side.result(made, "print(load(entries[0])().execute())") == "2"


def test_what_cannot_be_pickled_is_said(author):
    program = """
import threading, traceback
from submitting import submit
lock = threading.Lock()
class Op:
    def execute(self):
        return lock
try:
    submit(Op)
except Exception as error:
    print(type(error).__name__, error)
    submit()
"""
    made = author.run("-c", program, cwd=author.directory)
    assert "BundleError OP Op has no name at the top level of a file and must travel as a pickle" in made["output"]


@pytest.mark.skipif(OLD_PYTHON is None, reason="no Python 3.8 here: python3.8 on the PATH, or pyenv's")
def test_python_3_8_loads_what_this_python_bundled(author, other_side):
    author.write({
        "local_mod.py": "FACTOR = 7",
        "train.py": """
            from dflow_hpc import OP, OPIO, Artifact, OPIOSign, Parameter, Step, Workflow, upload_artifact
            from submitting import submit
            import local_mod

            class Train(OP):
                @classmethod
                def get_input_sign(cls):
                    return OPIOSign({"n": Parameter(int)})

                @classmethod
                def get_output_sign(cls):
                    return OPIOSign({"m": Parameter(int)})

                @OP.exec_sign_check
                def execute(self, op_in):
                    return OPIO({"m": op_in["n"] * local_mod.FACTOR})

            wf = Workflow("old")
            submit(Train)
        """,
    })  # fmt: skip
    made = author.run(str(author.directory / "train.py"))
    program = """
        train = load(entries[0])
        print(train().execute({"n": 6})["m"], sys.version_info[1], train.__mro__[1].__module__)
    """
    assert other_side.result(made, program, python=OLD_PYTHON) == "42 8 dflow_hpc.op.op"
