"""What a leaf takes along: from the program that is to run to the files that ``member.sh`` reads.

A *program* is a dict. Of a command: ``words``, ``directory``, ``texts`` (files below the leaf's directory in which it
is named, such as the script). Of a Python OP: ``record`` (with its ``bundle``). Of both: ``env``, ``result`` (stdout
becomes the file ``result``), ``outputs`` (paths below the leaf's directory that come back), ``own`` (paths of inputs
that it may write to), ``pulls`` and ``puts`` (what goes by URL, see ``urls.py``), ``files`` (by their paths below the
leaf's directory: ``mode`` and base64 ``data``), and, where the machine has a container runtime, ``image``; of a command
then ``command`` and ``args`` instead of ``words``, and ``mounts``. Of several containers: ``pod``, a list of commands
with ``kind``, ``name``, ``tries``, ``pause``, ``needs`` and an ``env`` of their own, and ``policy`` and ``grace``; see
``pod.sh``.

Pure functions, but for the reading of ``texts``.

Trap: values of variables may be secret, and so may ``files``. They are in ``env.sh`` and below ``private/`` only, which
the job removes at its end.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dflow_hpc.errors import SubmitError
from dflow_hpc.executors import runtimes
from dflow_hpc.executors.runtimes import Container, Runtime

LEAF_FILES = (
    "leaf.sh",
    "env.sh",
    "setup",
    "record.json",
    "outputs.list",
    "inputs.list",
    "puts.list",
    "urls",
    "pod.list",
    "spec.json",
)
"""Names in a leaf's directory there that are the protocol's own."""
_SECRET = ("env", "files")
_MODE = 0o600
"""Of what is sent."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = "uid:gid there"


def leaf_files(
    program: Mapping[str, Any],
    *,
    here: Path,
    there: str,
    scripts: str,
    code: str | None = None,
    setup: Sequence[str] = (),
    runtime: Runtime | None = None,
) -> dict[str, bytes]:
    """Return the files of a leaf by their paths in its directory.

    Args:
        program: See above. Texts in it may name ``here``.
        here: The leaf's directory on this side.
        there: The same there, absolute.
        scripts: Directory of the protocol's scripts there, absolute.
        code: The extracted bundle there, absolute; of a Python OP.
        setup: The machine's setup lines.
        runtime: What the machine's profile says about containers; programs without an image run on the host.

    Raises:
        SubmitError: A variable or an output has a name that cannot be brought to a shell.
    """
    place = _Place(str(here), there, scripts, code or "", runtime)
    given: Mapping[str, Any] = program.get("files", {})
    before = [*(["set -e", *setup, "set +e"] if setup else ())]
    before += [f"chmod {file['mode']:o} {shlex.quote(path)}" for path, file in given.items() if file["mode"] != _MODE]
    files = {} if "pod" not in program else _pod(program, place)
    lines, variables = _command(program, place, before)
    if "record" not in program:
        lines.insert(-1, ': >"$DFH_LEAF/.main"')  # an OP's process says itself when it has begun
    files |= {
        "leaf.sh": _shell(lines, result="pod" not in program and program.get("result")),
        "env.sh": _environment(variables),
        "outputs.list": "".join(f"{_output(path)}\n" for path in program.get("outputs", ())),
        "spec.json": json.dumps(_open(program), indent=1),
    }
    if setup:
        files["setup"] = ""
    if "record" in program:
        files["record.json"] = json.dumps(program["record"])
    found = {name: text.encode("utf-8", "surrogateescape") for name, text in files.items()}
    found |= {path: base64.b64decode(file["data"]) for path, file in given.items()}
    for name in program.get("texts", ()):
        found[name] = Path(here, name).read_bytes().replace(str(here).encode(), there.encode())
    return found


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a program is, on both sides."""

    here: str
    there: str
    scripts: str
    code: str
    runtime: Runtime | None

    def moved(self, text: str) -> str:
        """Return a text that names the leaf's directory here as it must be there."""
        return text.replace(self.here, self.there)


def _open(program: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be read of a program."""
    found = {key: value for key, value in program.items() if key not in _SECRET}
    return found | ({"pod": [_open(each) for each in program["pod"]]} if "pod" in program else {})


def _shell(lines: Sequence[str], *, result: Any) -> str:
    return "\n".join(lines) + (' >"$DFH_LEAF/result"' if result else "") + "\n"


def _pod(program: Mapping[str, Any], place: _Place) -> dict[str, str]:
    """Return the files by which ``pod.sh`` runs several containers."""
    table, files = [], {}
    for each in program["pod"]:
        lines, variables = _command(each, place, [])
        home = f"private/containers/{each['name']}"
        files[f"{home}/leaf.sh"] = _shell(lines, result=program.get("result") and each["name"] == "main")
        files[f"{home}/env.sh"] = _environment(variables)
        if place.runtime is not None and "image" in each:
            removal = runtimes.removal_words(place.runtime.name, _container(each, place).name)
            files |= {f"{home}/remove.sh": shlex.join(removal) + "\n"} if removal else {}
        words = [each["kind"], each["name"], each["tries"], each["pause"], ",".join(each["needs"]) or "-"]
        table.append(" ".join(map(str, words)))
    return {**files, "pod.list": "\n".join(table) + "\n"}


def _command(program: Mapping[str, Any], place: _Place, before: list[str]) -> tuple[list[str], Mapping[str, str]]:
    """Return the shell lines that run a program, the last of which does not return, and the variables of ``env.sh``.

    Args:
        program: What to run.
        place: Where.
        before: Lines that come before it, outside of its container.
    """
    variables = {name: place.moved(value) for name, value in program.get("env", {}).items()}
    if "pod" in program:
        return [*before, f'exec sh "$DFH_BIN/pod.sh" {program["policy"]} {program["grace"]}'], variables
    if place.runtime is not None and "image" in program:
        container = dataclasses.replace(_container(program, place), variables=variables)
        lines = container_lines(container, place.runtime.name, place.scripts)
        return before + lines, runtimes.client_variables(place.runtime.name, container)
    return [". ./env.sh", *before, *_on_host(program, place)], variables


def _on_host(program: Mapping[str, Any], place: _Place) -> list[str]:
    if "record" in program:
        # A missing or old Python is no failure of the OP.
        refusal = _refuse("there is no python3 on $(uname -n); load one in the setup lines of the machine's profile")
        command = f'python3 "$DFH_BIN/op.py" "$DFH_LEAF" {shlex.quote(place.code)}'
        return [f"command -v python3 >/dev/null || {refusal}", f"exec {command}"]
    directory = shlex.quote(place.moved(program.get("directory") or f"{place.here}/workdir"))
    command = " ".join(shlex.quote(place.moved(word)) for word in program["words"])
    return [f"[ -d {directory} ] || mkdir -p {directory}", f"cd {directory} || exit 64", f"exec {command}"]


def _container(program: Mapping[str, Any], place: _Place) -> Container:
    """Return the container of a program, but for its variables."""
    there, scripts, code = place.there, place.scripts, place.code
    if "record" in program:
        # /tmp first: all others may lie below it.
        mounts = [(f"{there}/root/tmp", "/tmp"), *((path, path) for path in sorted({there, scripts, code}))]  # noqa: S108
        command, args = ["python3", f"{scripts}/op.py", there, code], []
    else:
        mounts = [(place.moved(source), target) for source, target in program["mounts"]]
        command, args = program["command"], program["args"]
    runtime = place.runtime or Runtime()
    name = there + (f"/{program['name']}" if "name" in program else "")
    return Container(
        name=f"dflow-{hashlib.sha256(name.encode()).hexdigest()[:16]}",
        image=runtime.image(program["image"]),
        command=tuple(command),
        args=tuple(args),
        variables={},
        mounts=mounts,
        directory=f"{there}/workdir" if "record" in program else program["directory"],
        user=_USER,
        options=runtime.options,
    )


def container_lines(container: Container, runtime: str, scripts: str) -> list[str]:
    """Return the shell lines that run a container in the leaf's directory; the last one does not return.

    What goes wrong before the program is not its failure: it is said in the files ``trouble`` and ``runtime``.

    Args:
        container: What to run.
        runtime: One of ``RUNTIMES``.
        scripts: Directory of the protocol's scripts there, absolute.
    """
    name, image = runtimes.program_of(runtime), container.image
    refusal = _refuse(
        f"there is no {name} on $(uname -n); load it in the setup lines of the machine's profile, or change its runtime"
    )
    lines = [f"command -v {name} >/dev/null || {refusal}"]
    if image.startswith("/"):
        refusal = _refuse(f"there is no image {image} on $(uname -n); see images in the machine's profile")
        lines.append(f"[ -e {shlex.quote(image)} ] || {refusal}")
    told = runtimes.trouble(runtime)
    facts = [" ".join(map(str, told.codes)), told.words, f"{name} could not run the image {image}"]
    lines += [f"printf '%s\\n' {' '.join(map(shlex.quote, facts))} >runtime", "mkdir -p root/tmp"]
    options = (*runtimes.there_options(runtime), *container.options)
    words = runtimes.run_words(runtime, dataclasses.replace(container, options=options))
    if words[0] == runtimes.MAKER:
        words[:1] = ["sh", f"{scripts}/{runtimes.MAKER}"]
    else:
        lines.append(". ./env.sh")
    removal = runtimes.removal_words(runtime, container.name)
    if removal is not None:
        lines.append(f"{shlex.join(removal)} >/dev/null 2>&1")
    return [*lines, "exec " + " ".join('"$(id -u):$(id -g)"' if word is _USER else shlex.quote(word) for word in words)]


def _refuse(text: str) -> str:
    """Return a command that ends the leaf before its program begins; the shell fills in what stands in ``$(...)``."""
    quoted = "".join("\\" + char if char in '"`\\' else char for char in text)
    return f'{{ echo "{quoted}" >trouble; exit 64; }}'


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
