"""The small helpers of ``dflow.utils``, ``dflow.common`` and the dispatcher's plugin that authors call.

Not here: what dflow_hpc has itself (``flatten``, ``upload_artifact``, ...); ``names.py`` points to those.

The trap: these keep dflow's signatures and results, not what one would choose today: ``run_command`` raises
AssertionError.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import contextlib
import hashlib
import importlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union


def run_command(
    cmd: Union[str, Sequence[str]],
    raise_error: bool = True,
    input: Optional[str] = None,
    try_bash: bool = False,
    login: bool = True,
    interactive: bool = True,
    shell: bool = False,
    print_oe: bool = False,
    stdout: Any = None,
    stderr: Any = None,
    **kwargs: Any,
) -> Tuple[int, str, str]:
    """Run a program and return its exit code, stdout and stderr as texts.

    Args:
        cmd: The program and its arguments; a text is split on blanks unless it goes through a shell.
        raise_error: Raise when the exit code is not 0.
        input: Text for its stdin.
        try_bash: Run it by ``bash -c`` where there is a bash.
        login: With ``try_bash``: make it a login shell, which reads the user's profile.
        interactive: With ``try_bash``: when False the shell is no login shell either, as in dflow.
        shell: Run a text by ``sh -c``.
        print_oe: Print both outputs, too.
        stdout: Where stdout goes instead of into the result.
        stderr: The same for stderr.
        **kwargs: For ``subprocess.Popen``.

    Raises:
        AssertionError: The exit code is not 0 (dflow raises just this).
    """
    arguments: Union[str, List[str]]
    if try_bash and shutil.which("bash"):
        text = cmd if isinstance(cmd, str) else " ".join(cmd)  # as dflow: the words are the shell's, unquoted
        arguments, shell = ["bash", "-lc" if login and interactive else "-c", text], False
    elif isinstance(cmd, str):
        arguments = cmd if shell else cmd.split()
    else:
        arguments = list(cmd)
    done = subprocess.run(
        arguments,
        input=input,
        shell=shell,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE if stderr is None else stderr,
        text=True,
        check=False,
        **kwargs,
    )
    out, err = done.stdout or "", done.stderr or ""
    if print_oe:
        print(out, err, sep="\n")  # noqa: T201  (it is asked for)
    if raise_error and done.returncode != 0:
        raise AssertionError(f"command {cmd!r} ended with exit code {done.returncode}:\n{err or out}")
    return done.returncode, out, err


@contextlib.contextmanager
def set_directory(dirname: Union[str, Path], mkdir: bool = False) -> Iterator[Path]:
    """Work in another directory for a while.

    Args:
        dirname: The directory.
        mkdir: Make it when it is not there.

    Yields:
        The directory, absolute.
    """
    before, there = Path.cwd(), Path(dirname).resolve()
    if mkdir:
        there.mkdir(parents=True, exist_ok=True)
    os.chdir(there)
    try:
        yield there
    finally:
        os.chdir(before)


def dict2list(items: Mapping[Any, Any]) -> Any:
    """Turn a dict whose keys are all integers into a list with None in the holes, at each level."""
    changed: Dict[Any, Any] = {
        key: dict2list(value) if isinstance(value, Mapping) else value for key, value in items.items()
    }
    if not changed or not all(str(key).isdigit() for key in changed):
        return changed
    by_index = {int(key): value for key, value in changed.items()}
    return [by_index.get(index) for index in range(max(by_index) + 1)]


def update_dict(target: Dict[Any, Any], changes: Mapping[Any, Any]) -> None:
    """Put the values of one dict into another, key by key where both have a dict."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            update_dict(target[key], value)
        else:
            target[key] = value


def convert_dflow_list(items: Sequence[Mapping[str, Any]]) -> List[Any]:
    """Return what a stacked output holds, in its order: ``[{"dflow_list_item": v, "order": i}, ...]``."""
    return [item["dflow_list_item"] for item in sorted(items, key=lambda item: item["order"])]


def get_md5(path: Union[str, Path]) -> str:
    """Return the MD5 of a file in hexadecimal; it finds changes and guards against nothing."""
    digest = hashlib.md5()  # noqa: S324
    with Path(path).open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def import_func(name: str) -> Any:
    """Return what a dotted name leads to: ``package.module.attribute``, the attribute dotted or not."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(f"{name} was to be imported; there is no module {parts[0]}.", name=parts[0])


class _JsonPickle:
    """jsonpickle with ``keys=True``, the form of dflow's parameters."""

    def dumps(self, value: Any, **options: Any) -> str:
        """Return the text of a value."""
        import jsonpickle as real

        return str(real.dumps(value, **{"keys": True, **options}))

    def loads(self, text: str, **options: Any) -> Any:
        """Return the value of a text."""
        import jsonpickle as real

        return real.loads(text, **{"keys": True, **options})


jsonpickle = _JsonPickle()
