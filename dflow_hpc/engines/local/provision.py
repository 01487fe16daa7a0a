"""What a run needs before a session can work on it: its directory, its code, its manifest; and these anew for a retry.

Nothing here runs anything. A new run exists from the moment its ``workflow.json`` is there, which is written last: what
a killed ``submit`` leaves behind is no run.

Trap: a retry changes several files. Their order is such that after a kill between any two of them the run is still the
failed one, and the retry can be asked for again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dflow_hpc.compile import Compiled
from dflow_hpc.compile.bundle import dflow_is_ours, diff, extract
from dflow_hpc.compile.closure import is_installed
from dflow_hpc.config import config
from dflow_hpc.engines.local.rundir import RunDir, write_atomic
from dflow_hpc.engines.local.state import RunState, to_run_again
from dflow_hpc.engines.local.work.workers import end_leftovers
from dflow_hpc.errors import ConfigError, EngineError
from dflow_hpc.executors.journal import Journal
from dflow_hpc.hooks import speaks_dflow
from dflow_hpc.storage.local import LocalStore
from dflow_hpc.storage.transfer import bring_uploads

_KEPT_SETTINGS = (
    "debug_artifact_dir",
    "debug_copy_method",
    "debug_failfast",
    "debug_pool_workers",
    "isolation",
    "place",
    "runtime",
)
"""What a session needs of the settings, whichever process it runs in; nothing secret."""

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "isolation": ("fork", "spawn"),
    "debug_copy_method": (None, "symlink", "link", "copy", "small"),
    "runtime": (None, "host", "podman", "docker", "apptainer"),
}
"""Settings that are one of a few words; another would be taken for the default one, silently."""


def new_run(
    base: Path,
    compiled: Compiled,
    *,
    id: str | None = None,
    reuse: Sequence[Any] = (),
    resources: Sequence[dict[str, Any]] = (),
    code: Path | None = None,
) -> RunDir:
    """Make a run.

    Args:
        base: Directory in which it is made.
        compiled: The workflow.
        id: Its name, instead of the manifest's or one that is made up.
        reuse: Steps (``ArgoStep``) whose outputs stand for those of steps with the same key.
        resources: Other objects that the manifest refers to.
        code: Directory of an extracted bundle to copy, for a workflow that comes without one.

    Raises:
        EngineError: It cannot be made, or a setting asks for what local runs cannot do.
        ConfigError: A setting has a value that it cannot have.
        BundleError: The bundle is damaged.
    """
    if config["debug_s3"]:
        raise EngineError(
            f"a local run was to keep its artifacts in S3 (debug_s3, set by: {config.layer('debug_s3')}); in this "
            "version the steps of local runs read and write this machine's store only. Unset it."
        )
    for name, choices in _CHOICES.items():
        if config[name] not in choices:
            raise ConfigError(
                f"the setting {name} was {config[name]!r} (set by: {config.layer(name)}); it is one of "
                f"{', '.join(str(choice or 'none') for choice in choices)}."
            )
    metadata = compiled.manifest.get("metadata") or {}
    settings = {**{name: config[name] for name in _KEPT_SETTINGS}, "origin": _origin()}
    if settings["debug_copy_method"] is None and speaks_dflow():
        settings["debug_copy_method"] = "small"  # OPs written for pods, which have files of their own, edit them
    run = RunDir.create(base, metadata, id=id, settings=settings)
    try:
        if compiled.bundle is not None:
            extract(compiled.bundle.data, run.code)
        elif code is not None:
            shutil.copytree(code, run.code, dirs_exist_ok=True, symlinks=True)
        write_secrets(run, compiled)
        if resources:
            write_atomic(run.resources_file, json.dumps(list(resources)))
        if outputs := outputs_by_key(reuse):
            write_atomic(run.reused_file, json.dumps(outputs))
        uploads = LocalStore(base, config["debug_artifact_dir"])
        bring_uploads(uploads, json.dumps([compiled.manifest, outputs]))
        run.write_workflow(compiled.manifest)
    except BaseException:
        remove_tree(run.path)
        raise
    return run


def write_secrets(run: RunDir, compiled: Compiled) -> None:
    """Write the values of the secrets that a workflow brings along, for its owner's eyes only.

    They lie here as long as the run may need them: ``Session`` removes them when it has ended.
    """
    for secret in compiled.secrets:
        directory = run.secrets / secret.name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.secrets.chmod(0o700)
        path = directory / secret.key
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(secret.value)


def _origin() -> dict[str, Any] | None:
    """Return which program submits, so that a retry can compile it anew; None in a prompt, a notebook, a tool."""
    program = getattr(sys.modules["__main__"], "__file__", None)
    if program is None or not program.endswith(".py") or is_installed(Path(program)):
        return None
    place = {"program": str(Path(program).resolve()), "argv": sys.argv[1:], "directory": str(Path.cwd())}
    return {**place, "compat": dflow_is_ours()}


def outputs_by_key(steps: Sequence[Any]) -> dict[str, Any]:
    """Return the outputs of those steps that have a key, in the form of a node's ``outputs``.

    Args:
        steps: Steps of earlier runs, whose outputs may have been modified since.
    """
    return {step.key: step.argo_outputs() for step in steps if step.key is not None}


def run_again(run: RunDir, compiled: Compiled | None, only: Sequence[str] = ()) -> tuple[int, list[str]]:
    """Change a run so that a session runs again what failed, and what came after it.

    Args:
        run: A run on which nobody works.
        compiled: The workflow, compiled anew; None keeps manifest and code.
        only: Ids of further leaves to run again although they succeeded.

    Returns:
        How many leaves that have ended are kept, and which files of the code have changed.

    Raises:
        EngineError: Somebody works on it, or it has no such node.
    """
    with run.lock.held():
        end_leftovers(run.path)
        journal = Journal(run.journal)
        try:
            state = RunState(run.name, journal.records)
            if unknown := [node for node in only if node not in state.tree.nodes]:
                raise EngineError(
                    f"the node {unknown[0]!r} of {run.name} was to run again; it has none of that id. "
                    f"`dflow-hpc get -o json {run.name}` shows them."
                )
            again = to_run_again(state.tree.nodes, run.name, only)
            for node_id in again & state.leaves.keys():
                set_aside(run.leaf_dir(state.leaves[node_id]))
            changed = _renew(run, compiled) if compiled is not None else []
            journal.append({"drop": sorted(again)})
            journal.append({"spec": {"shutdown": None, "suspend": None}})
            journal.append({"status": {"phase": "Running", "message": None, "finishedAt": None}})
        finally:
            journal.close()
        run.write_status("Running")
        return len(state.leaves.keys() - again), changed


def _renew(run: RunDir, compiled: Compiled) -> list[str]:
    changed: list[str] = []
    if compiled.bundle is not None:
        changed = diff(_files_of(run.code), compiled.bundle.files)
        fresh = run.path / ".code.new"
        remove_tree(fresh)
        extract(compiled.bundle.data, fresh)
        set_aside(run.code)
        fresh.rename(run.code)
    write_secrets(run, compiled)
    run.write_workflow(compiled.manifest)
    return changed


def _files_of(code: Path) -> dict[str, str]:
    try:
        files: dict[str, str] = json.loads((code / "bundle.json").read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:  # a run without Python OPs so far
        return {}
    return files


def set_aside(path: Path) -> None:
    """Give a directory a name beside it that nothing uses, so that its place is free and nothing is lost."""
    if not path.exists():
        return
    number = 1
    while (target := path.with_name(f".{path.name}.{number}")).exists():
        number += 1
    path.rename(target)


def delete(run: RunDir) -> None:
    """Remove a run's directory with everything in it; ``workflow.json`` goes last, so that it can be done again.

    Raises:
        EngineError: Somebody works on it, or something in it cannot be removed.
    """
    with run.lock.held():
        end_leftovers(run.path)
        try:
            for entry in run.path.iterdir():
                if entry != run.workflow_file:
                    remove_tree(entry)
            remove_tree(run.path)
        except OSError as error:
            raise EngineError(
                f"the run {run.name} was to be deleted; {error.filename} cannot be removed: {error.strerror}. "
                "Remove that by hand (it may belong to another user) and delete the run again."
            ) from error


def remove_tree(path: Path) -> None:
    """Remove a file or a directory tree, read-only directories included; one that is not there is no error."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        _make_writable(path)
        shutil.rmtree(path)


def _make_writable(path: Path) -> None:
    pending = [path]
    while pending:
        directory = pending.pop()
        directory.chmod(0o700)
        pending.extend(entry for entry in directory.iterdir() if entry.is_dir() and not entry.is_symlink())
