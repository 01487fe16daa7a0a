"""A script's OPs on the other side: what travels with them, what of the script is executed, and what is said.

Cases: data and modules beside the script; no guard; the same with a guard; OPs below the submission; `__main__` in
pickled values, both ways; a module of the author's whose driver is a script; `python -m`; errors at the top level.
"""

import pytest

FILES = {
    "local_mod.py": """
        import json
        import pathlib
        FACTOR = json.loads((pathlib.Path(__file__).parent / "factor.json").read_text())
    """,
    "factor.json": "7",
    "tables/deep/table.txt": "11",
    "helpers/__init__.py": "",
    "helpers/inner.py": """
        import pathlib
        OFFSET = int((pathlib.Path(__file__).parent / "offset.dat").read_text())
    """,
    "helpers/offset.dat": "1000",
    "train.py": """
        import pathlib
        import sys
        from submitting import submit
        import local_mod

        print("top level")
        TABLE = int(open("tables/deep/table.txt").read()) if __name__ != "__main__" else 0

        class Train:
            def execute(self, n):
                from helpers import inner
                beside = pathlib.Path(__file__).parent / "tables" / "deep" / "table.txt"
                return n * local_mod.FACTOR + inner.OFFSET + TABLE + int(beside.read_text())

        submit(Train)
        print("below the submission")
        raise SystemExit
    """,
}


def test_a_script_without_a_guard_travels_with_modules_and_data(author, other_side):
    author.write(FILES)
    made = author.run(str(author.directory / "train.py"))
    assert made["entries"] == [{"kind": "script", "file": "train.py", "name": "Train"}]
    assert made["output"].split("\n")[:2] == ["top level", "below the submission"]
    done = other_side.run(
        made, "import os; before = os.getcwd(); print(load(entries[0])().execute(2), before == os.getcwd(), sys.argv)"
    )
    assert done.stdout == "1036 True ['-c']\n", done.stderr
    assert done.stderr == "top level\n"  # a leaf's stdout is its result


def test_the_same_with_a_guard(author, other_side):
    author.write(FILES)
    source = (author.directory / "train.py").read_text()
    guarded = source.replace("\nsubmit(Train)", "\nif __name__ == '__main__':\n    submit(Train)")
    author.write({"train.py": guarded.replace("raise SystemExit", "SEEN = True")})
    made = author.run(str(author.directory / "train.py"))
    assert other_side.result(made, "print(load(entries[0])().execute(3), sys.modules['__main__'].SEEN)") == "1043 True"


def test_the_script_as_the_command_line_runs_it(author):
    author.write(FILES)
    script = str(author.directory / "train.py")
    program = (
        f"import runpy, sys; sys.path[0] = {str(author.directory)!r}; runpy.run_path({script!r}, {{}}, '__main__')"
    )
    made = author.run("-c", program)
    assert made["entries"] == [{"kind": "script", "file": "train.py", "name": "Train"}]
    assert "helpers/offset.dat" in made["code"]


def test_a_script_of_dflow_finds_dflow_on_the_other_side(author, other_side):
    author.write({
        "job.py": """
            from dflow.python import OP, OPIO, Parameter
            from dflow.utils import run_command
            from submitting import submit
            class Op(OP):
                @classmethod
                def get_input_sign(cls):
                    return {"n": Parameter(int)}
                @classmethod
                def get_output_sign(cls):
                    return {"m": Parameter(str)}
                @OP.exec_sign_check
                def execute(self, op_in):
                    return OPIO({"m": run_command(["echo", str(op_in["n"])])[1]})
            submit(Op)
        """
    })  # fmt: skip
    script = str(author.directory / "job.py")
    program = "import runpy, sys; from dflow_hpc import compat; compat.install(); sys.path[0] = {!r}; "
    program = program.format(str(author.directory)) + f"runpy.run_path({script!r}, {{}}, '__main__')"
    made = author.run("-c", program)
    assert "lib/dflow_hpc/compat/utils.py" in made["files"]
    assert other_side.result(made, "print(load(entries[0])().execute({'n': 3}))") == "{'m': '3\\n'}"


def test_definitions_below_the_submission_are_found(author, other_side):
    author.write({
        "two.py": """
            from submitting import submit
            class First:
                pass
            first = First()
            submit(First)
            import math
            print("never on the other side")
            def half(x):
                return x / 2
            class Second:
                class Part:
                    pass
                def execute(self):
                    return half(math.floor(5.5))
            submit(First, Second, Second.Part)
        """
    })  # fmt: skip
    made = author.run(str(author.directory / "two.py"))
    program = """
        classes = [load(entry) for entry in entries]
        print([c.__qualname__ for c in classes], classes[1]().execute(), {c.__module__ for c in classes})
    """
    done = other_side.run(made, program)
    assert done.stdout == "['First', 'Second', 'Second.Part'] 2.5 {'__main__'}\n", done.stderr
    assert "never" not in done.stderr


VALUES = {
    "values.py": """
        import dataclasses, enum
        from submitting import submit

        @dataclasses.dataclass
        class Box:
            size: int

        class Colour(enum.Enum):
            RED = 1

        class Paint:
            def execute(self, text):
                import jsonpickle
                box, colour = jsonpickle.loads(text, keys=True)
                assert type(box) is Box and colour is Colour.RED
                return jsonpickle.dumps([Box(box.size + 1), Colour.RED], keys=True)

        if __name__ == "__main__":
            import sys, jsonpickle
            if len(sys.argv) > 1:
                print(jsonpickle.loads(sys.argv[1], keys=True) == [Box(5), Colour.RED])
            print(jsonpickle.dumps([Box(4), Colour.RED], keys=True))
            submit(Paint)
    """
}


def test_pickled_values_of_main_resolve_both_ways(author, other_side):
    author.write(VALUES)
    made = author.run(str(author.directory / "values.py"))
    text = made["output"].strip()
    assert "__main__.Box" in text
    back = other_side.result(made, f"print(load(entries[0])().execute({text!r}))")
    again = author.run(str(author.directory / "values.py"), back)
    assert again["output"].startswith("True\n")


def test_values_of_the_driver_resolve_in_an_op_of_a_module(author, other_side):
    author.write({
        "ops.py": """
            class Weigh:
                def execute(self, text):
                    import jsonpickle
                    return jsonpickle.loads(text, keys=True).kilos
        """,
        "drive.py": """
            from ops import Weigh
            from submitting import submit
            class Load:
                kilos = 12
            submit(Weigh)
        """,
    })  # fmt: skip
    made = author.run(str(author.directory / "drive.py"))
    assert made["entries"] == [{"kind": "module", "module": "ops", "name": "Weigh"}]
    text = '{"py/object": "__main__.Load"}'
    assert other_side.result(made, f"print(load(entries[0])().execute({text!r}))") == "12"


def test_a_script_of_a_package_keeps_its_relative_imports(author, other_side):
    author.write({
        "pk/__init__.py": "",
        "pk/base.py": "BASE = 3",
        "pk/run.py": """
            from .base import BASE
            from submitting import submit
            class Op:
                def execute(self):
                    from . import base
                    return BASE + base.BASE
            submit(Op)
        """,
    })  # fmt: skip
    made = author.run("-m", "pk.run", cwd=author.directory)
    assert made["entries"] == [{"kind": "script", "file": "pk/run.py", "name": "Op"}]
    assert other_side.result(made, "print(load(entries[0])().execute())") == "6"


def test_function_ops_and_shadowed_names(author, other_side):
    author.write({
        "job.py": """
            from dflow_hpc import OP
            from submitting import submit
            BASE = 1
            @OP.function
            def add(n: int) -> {"m": int}:
                return {"m": n + BASE}
            class Op:
                func = print
                def execute(self):
                    return "the first"
            old, Op = Op, type("Op", (), {})
            submit(add, type(add), old)
        """
    })  # fmt: skip
    made = author.run(str(author.directory / "job.py"))
    assert made["entries"][:2] == [{"kind": "script", "file": "job.py", "name": "add"}] * 2
    assert made["entries"][2]["kind"] == "pickle"
    program = """
        print(load(entries[0])().execute({"n": 4}), load(entries[2])().execute(), load(entries[0]).__module__)
    """
    assert other_side.result(made, program) == "{'m': 5} the first __main__"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("1 / 0", "job.py, line 4: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "job.py, line 4: SystemExit: 3"),
        ("answer = input('Go on? ')", "job.py, line 4: EOFError"),
        ("import broken_mod", "broken_mod.py, line 2: RuntimeError: broken"),
    ],
)
def test_what_goes_wrong_above_the_op_is_said_with_file_and_line(author, other_side, line, found):
    author.write({
        "broken_mod.py": "import sys\nraise RuntimeError('broken')\n",
        "job.py": f"""
            from submitting import submit
            if __name__ != "__main__":
                {line}
            class Op:
                pass
            submit(Op)
        """,
    })  # fmt: skip
    made = author.run(str(author.directory / "job.py"))
    done = other_side.run(made, "load(entries[0])")
    assert done.returncode == 1
    assert found in done.stderr.splitlines()[-1]
    assert "OP Op" in done.stderr.splitlines()[-1]


def test_what_goes_wrong_below_the_op_is_said_and_the_op_works(author, other_side):
    author.write({
        "job.py": """
            from submitting import submit
            class Op:
                pass
            if __name__ != "__main__":
                open("/nowhere/data")
            submit(Op)
        """
    })  # fmt: skip
    made = author.run(str(author.directory / "job.py"))
    done = other_side.run(made, "print(load(entries[0]).__name__, load(entries[0]) is load(entries[0]))")
    assert done.stdout == "Op True\n"
    assert done.stderr.count("loading stopped, job.py, line 6: FileNotFoundError") == 1


def test_an_op_that_the_script_does_not_define_is_said(author, other_side):
    author.write(FILES)
    made = author.run(str(author.directory / "train.py"))
    made["entries"][0]["name"] = "Trian"
    done = other_side.run(made, "load(entries[0])")
    assert "OP Trian was asked for; loading train.py does not define it" in done.stderr
    assert "it submits or uploads at line 16" in done.stderr


def test_submitting_works_inside_execute(author, other_side):
    author.write({
        "job.py": """
            import submitting
            class Op:
                def execute(self):
                    submitting.forbid_while_loading("submit")
                    return "allowed"
            submitting.submit(Op)
        """
    })  # fmt: skip
    made = author.run(str(author.directory / "job.py"))
    assert other_side.result(made, "print(load(entries[0])().execute())") == "allowed"
