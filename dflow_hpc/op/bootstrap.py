"""The script of a Python OP's template: what a pod runs, with nothing of ours installed.

``source`` gives its text. It unpacks the bundle, writes the input parameters to files and calls the runner, which comes
from the bundle. Not used by the local engine, whose leaves are forked with all that in place.

A trap: Argo substitutes ``{{...}}`` everywhere in it, the Python text included: no ``{{`` may stand in it but the two
tags at its end. The parameters are in a comment, as JSON on one line: no value can break out of that.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import json
from typing import Any, Mapping

from dflow_hpc.errors import CompileError

_TEXT = r'''# Runs one OP of a dflow_hpc workflow: unpacks its code, then calls dflow_hpc.op.runner. Python >= 3.8.
import json, os, pathlib, shutil, stat, sys, zipfile

ROOT = pathlib.Path(@ROOT@)
RECORD = json.loads(@RECORD@)
BUNDLE = ROOT / "inputs/artifacts/dflow_python_packages"
CODE = ROOT / "dflow_bundle"


def unpack():
    """Unpack the bundle once; a directory that exists is complete."""
    if CODE.exists():
        return
    part = ROOT / ("dflow_bundle.part%d" % os.getpid())
    with zipfile.ZipFile(str(BUNDLE)) as archive:
        for member in archive.infolist():
            parts = pathlib.PurePosixPath(member.filename).parts
            kind = stat.S_IFMT(member.external_attr >> 16)
            if not parts or parts[0] == "/" or ".." in parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                sys.exit("dflow: the bundle %s has the member %r, which is refused" % (BUNDLE, member.filename))
            target = part.joinpath(*parts)
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(str(target), "wb") as sink:
                shutil.copyfileobj(source, sink)
            mode = (member.external_attr >> 16) & 0o777
            if mode:
                target.chmod(mode)
    os.rename(str(part), str(CODE))


def comment(name):
    """Return the text behind a comment of this file, which Argo substituted."""
    with open(__file__, encoding="utf-8") as lines:
        found = [line[len(name):].strip() for line in lines if line.startswith(name)]
    return found[-1] if found else ""


def main():
    unpack()
    text = comment("# dflow-inputs:")
    parameters = ROOT / "inputs/parameters"
    parameters.mkdir(parents=True, exist_ok=True)
    for name, value in (json.loads(text) if text else {}).items():
        with open(str(parameters / name), "w", encoding="utf-8", newline="") as file:
            file.write(value if isinstance(value, str) else json.dumps(value))
    os.environ.setdefault("ARGO_WORKFLOW_NAME", comment("# dflow-workflow:"))
    lib = str(CODE / "lib")
    sys.path.insert(0, lib)  # dflow_hpc of the bundle, even where the image has another
    from dflow_hpc.op import runner

    sys.path.remove(lib)
    sys.path.append(lib)  # what else the bundle carries, only where the image has none
    # Its path stands here, in a text of the template, because it is another one where nothing can be mounted.
    sys.exit(runner.run(ROOT, RECORD, pod=True, code_dir=CODE, log=pathlib.Path("/dev/termination-log")))


if __name__ == "__main__":
    main()

# dflow-workflow: {{workflow.name}}
'''
INPUTS_COMMENT = "# dflow-inputs:"
"""Begins the line of the script that holds the input parameters, as JSON."""
_INPUTS = INPUTS_COMMENT + " {{=toJson(inputs.parameters)}}\n"


def source(record: Mapping[str, Any], *, root: str = "/tmp", parameters: bool = True) -> str:  # noqa: S108
    """Return the script of a Python OP's template.

    Args:
        record: The op record.
        root: Where the leaf has its files in the pod.
        parameters: Whether the template has input parameters; without any, Argo knows no ``inputs.parameters``.

    Raises:
        CompileError: The record has ``{{`` in it, which Argo would take for a tag.
    """
    text = json.dumps(record, sort_keys=True)
    if "{{" in text or "{{" in root:
        raise CompileError(
            f"the op record {text} contains '{{{{', which Argo would substitute; write ${{name}} for a parameter."
        )
    return _TEXT.replace("@ROOT@", repr(root)).replace("@RECORD@", repr(text)) + (_INPUTS if parameters else "")
