"""What a leaf takes along: from the program that is to run to the files that ``member.sh`` reads.

A *program* is a dict. Of a command: ``words``, ``directory``, ``texts`` (files below the leaf's directory in which it
is named, such as the script). Of a Python OP: ``record`` (with its ``bundle``). Of both: ``env``, ``result`` (stdout
becomes the file ``result``), ``outputs`` (paths below the leaf's directory that come back), ``own`` (paths of inputs
that it may write to).

Pure functions, but for the reading of ``texts``.

Trap: values of variables may be secret. They are in ``env.sh`` only, which the job removes at its end.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dflow_hpc.errors import SubmitError

LEAF_FILES = ("leaf.sh", "env.sh", "setup", "record.json", "outputs.list", "inputs.list", "spec.json")
"""Names in a leaf's directory there that are the protocol's own."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def leaf_files(
    program: Mapping[str, Any], *, here: Path, there: str, code: str | None = None, setup: Sequence[str] = ()
) -> dict[str, bytes]:
    """Return the files of a leaf by their paths in its directory.

    Args:
        program: See above. Texts in it may name ``here``.
        here: The leaf's directory on this side.
        there: The same there, absolute.
        code: The extracted bundle there, absolute; of a Python OP.
        setup: The machine's setup lines.

    Raises:
        SubmitError: A variable or an output has a name that cannot be brought to a shell.
    """

    def moved(text: str) -> str:
        return text.replace(str(here), there)

    files = {
        "leaf.sh": _script(program, moved, code, setup),
        "env.sh": _environment({name: moved(value) for name, value in program.get("env", {}).items()}),
        "outputs.list": "".join(f"{_output(path)}\n" for path in program.get("outputs", ())),
        "spec.json": json.dumps({key: value for key, value in program.items() if key != "env"}, indent=1),
    }
    if setup:
        files["setup"] = ""
    if "record" in program:
        files["record.json"] = json.dumps(program["record"])
    found = {name: text.encode("utf-8", "surrogateescape") for name, text in files.items()}
    for name in program.get("texts", ()):
        found[name] = Path(here, name).read_bytes().replace(str(here).encode(), there.encode())
    return found


def _script(program: Mapping[str, Any], moved: Callable[[str], str], code: str | None, setup: Sequence[str]) -> str:
    lines = [". ./env.sh"]
    if setup:
        lines += ["set -e", *setup, "set +e"]
    if "record" in program:
        # The OP's process says itself when it has begun: a missing or old Python is no failure of the OP.
        lines += [
            "command -v python3 >/dev/null || {",
            "    echo 'there is no python3 on this machine; load one in the setup lines of its profile' >trouble",
            "    exit 64",
            "}",
        ]
        command = f'python3 "$DFH_BIN/op.py" "$DFH_LEAF" {shlex.quote(code or "")}'
    else:
        directory = shlex.quote(moved(program.get("directory") or "workdir"))
        lines += [": >.main", f"mkdir -p {directory}", f"cd {directory} || exit 64"]
        command = " ".join(shlex.quote(moved(word)) for word in program["words"])
    lines.append(f"exec {command}" + (' >"$DFH_LEAF/result"' if program.get("result") else ""))
    return "\n".join(lines) + "\n"


def _environment(variables: Mapping[str, str]) -> str:
    for name in variables:
        if not _NAME.fullmatch(name):
            raise SubmitError(
                f"the variable {name!r} was to be set on a machine; a shell there knows names of letters, digits and "
                "_ only. Rename it."
            )
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _output(path: str) -> str:
    if "\n" in path or "\\" in path:  # GNU tar takes "\\n" in an argument for a line end
        raise SubmitError(f"the output {path!r} was to be fetched from a machine; its name has a line end or '\\'.")
    return path
