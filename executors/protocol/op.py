"""Run one Python OP inside a job: `python3 op.py LEAF CODE`. Stands alone there; any Python must be able to read it.

CODE is the extracted bundle: its lib comes first while dflow_hpc is imported, so that the bundle's wins over an
installed one, and last from then on, so that the machine's packages win over what else the bundle carries.
"""

# Python 2 must be able to read it, to be told that it is too old.
# mypy: allow-untyped-defs, allow-untyped-calls

import os
import sys


def _refuse(leaf, text):
    with open(os.path.join(leaf, "trouble"), "w") as file:
        file.write(text)
    sys.exit(64)


def main(leaf, code):
    """Run the OP of the leaf's record.json; the exit code is the runner's."""
    if sys.version_info < (3, 8):
        found = ".".join(map(str, sys.version_info[:3]))
        _refuse(
            leaf,
            "Python OPs need Python 3.8 or later; " + sys.executable + " is " + found + ". Load one in the setup lines "
            "of the machine's profile, such as setup = ['module load python/3.11'].",
        )
    import json
    from pathlib import Path

    if not os.path.isdir(os.path.join(code, "code")):
        _refuse(leaf, "the code of the workflow is not in " + code + ", where it was put; run the workflow again.")
    os.utime(code, None)  # it is in use: clean.sh looks at the time
    lib = os.path.join(code, "lib")
    sys.path[0] = lib  # in place of this file's own directory
    from dflow_hpc.op import runner

    sys.path.remove(lib)
    sys.path.append(lib)
    with open(os.path.join(leaf, "record.json")) as file:
        record = json.load(file)
    open(os.path.join(leaf, ".main"), "w").close()
    sys.exit(runner.run(Path(leaf), record, code_dir=Path(code)))


if __name__ == "__main__":
    main(*sys.argv[1:3])
