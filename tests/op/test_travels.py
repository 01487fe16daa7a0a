"""What an OP author writes works on Python 3.8, with the standard library alone."""

import subprocess
import sys
import textwrap
from pathlib import Path

import old_python
import pytest

import dflow_hpc

OLD = old_python.find()


PROGRAM = """
    import os, sys, tempfile
    from pathlib import Path
    from typing import Dict, List, NamedTuple, Optional, Tuple
    from dflow_hpc import (OP, OPIO, Artifact, BigParameter, HDF5Datasets, NestedDict, OPIOSign, Parameter, Slices,
                           TransientError, FatalError)
    from dflow_hpc.errors import SignError
    from dflow_hpc.op import catalog, loader, pool, runner, slices, typecheck, values

    class Pair(NamedTuple):
        a: int
        f: "Artifact(Path)"

    @OP.function
    def pair(x: "Optional[int]", f: "Artifact(Path)" = None) -> "Pair":
        return Pair(x, Path("out"))

    assert pair.get_input_sign()["f"] == Artifact(Path, optional=True)

    @OP.function
    def double(n: int, data: Artifact(List[Path]) = None) -> {"m": "int", "t": Tuple[int, str]}:
        if n < 0:
            raise TransientError("negative")
        return {"m": 2 * n, "t": (n, "x")}

    loader.load = lambda entry, code_dir: type(double)
    record = {"entry": {}, "slices": Slices(input_parameter=["n"], output_parameter=["m"], group_size=3, pool_size=2,
                                            create_dir=True).record("[${item}][0]")}
    root = Path(tempfile.mkdtemp(dir=sys.argv[1]))
    (root / "inputs/parameters").mkdir(parents=True)
    for name, text in {"n": "[4, 5, 6]", "dflow_group": "0", "dflow_nslices": "3"}.items():
        (root / "inputs/parameters" / name).write_text(text)
    assert runner.run(root, record) == 0
    assert values.load((root / "outputs/parameters/m").read_text()) == [8, 10, 12]
    for value, kind in (([1], List[int]), ({"a": (1, "b")}, Dict[str, Tuple[int, str]]), (Pair(1, None), tuple)):
        typecheck.check_type("x", value, kind)
    try:
        typecheck.check_type("x", ["a"], List[int])
    except SignError as error:
        assert "element [0]: expected int" in str(error)
    else:
        raise AssertionError("not refused")
    print("done")
"""

HOME = str(Path(dflow_hpc.__file__).parent.parent)


def run(python, tmp_path, jsonpickle):
    # A tuple needs jsonpickle, which the bundle would carry: here it comes from the interpreter of the tests.
    lib = tmp_path / "lib"
    lib.mkdir()
    (lib / "jsonpickle").symlink_to(Path(jsonpickle.__file__).parent)
    program = f"import sys; sys.path[:0] = [{HOME!r}]; sys.path.append({str(lib)!r})\n" + textwrap.dedent(PROGRAM)
    return subprocess.run(
        [python, "-I", "-B", "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "python",
    [
        pytest.param(sys._base_executable, id="this"),
        pytest.param(
            OLD, id="3.8", marks=pytest.mark.skipif(OLD is None, reason="no python3.8 on the PATH or in pyenv")
        ),
    ],
)
def test_an_ops_whole_life(python, tmp_path):
    done = run(python, tmp_path, pytest.importorskip("jsonpickle"))
    assert done.stderr == ""
    assert done.stdout == "done\n"


def test_importing_what_an_author_writes_loads_the_standard_library_only():
    program = """
        import sys
        before = set(sys.modules)
        from dflow_hpc import OP, OPIO, Artifact, BigParameter, HDF5Datasets, NestedDict, OPIOSign, Parameter, Slices
        import dflow_hpc.op.runner, dflow_hpc.op.function, dflow_hpc.op.bootstrap
        tops = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(tops - set(sys.stdlib_module_names) - {"dflow_hpc"}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, cwd=HOME
    )
    assert done.stdout.strip() == "[]"
