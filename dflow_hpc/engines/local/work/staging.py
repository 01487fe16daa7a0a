"""What a leaf gets before it runs and what is taken from it afterwards, in Argo's rules and words.

Argo's ``init`` container stages inputs, its ``wait`` container takes outputs; a failure of either is an *Error* (not
a *Failed*), with exit code 64 and its name in the message. A path of a template is literal; ``real`` says where it
lies on this machine.

Not here: how an object is kept (``dflow_hpc/storage``), what runs in between (``leafrun.py``, ``commands.py``).

Trap: a missing output is reported under the path that Argo's executor would have named, because trees are compared.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import tempfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dflow_hpc.errors import DflowError, StorageError

if TYPE_CHECKING:
    from dflow_hpc.storage.elsewhere import Location, Stored
    from dflow_hpc.storage.local import LocalStore, Snapshot

RESULT_LIMIT = 256 << 10
"""Argo keeps so many bytes of a result: the last ones."""
BUNDLE_INPUT = "dflow_python_packages"
"""The artifact that carries the author's code to a pod. Here it lies in the run's ``code/`` already."""
_PARAMETERS = "/var/run/argo/outputs/parameters"
_ARTIFACTS = "/var/run/argo/outputs/artifacts"
_VOLUMES = "/mainctrfs"


def error_text(container: str, text: str) -> str:
    """Return the message of a node whose ``init`` or ``wait`` failed, in Argo's form."""
    return f"{container}: Error (exit code 64): {text}"


class StagingError(DflowError):
    """An input cannot be brought, or an output not be taken.

    Args:
        container: Whose fault it is in Argo's words: ``init`` or ``wait``.
        text: What a node's message says after the exit code.
    """

    def __init__(self, container: str, text: str):
        super().__init__(error_text(container, text))
        self.failure = "STAGE_IN" if container == "init" else "STAGE_OUT"


def open_store(description: dict[str, Any]) -> LocalStore:
    """Return the store that a run's settings describe: ``{"workdir": ..., "artifact_dir": ...}``.

    Who runs leaves without a run (a virtual node) gives a store itself: ``{"store": ...}``. Of a ``LocalStore`` it need
    have only what ``Store`` says, as long as no leaf's data go by URL.
    """
    from dflow_hpc.storage.local import LocalStore

    if "store" in description:
        given: LocalStore = description["store"]
        return given
    return LocalStore(description["workdir"], description["artifact_dir"])


def write_file(path: str, data: bytes) -> None:
    """Write a small file; the few calls that it takes are what a leaf's rate depends on."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def without_newline(text: str) -> str:
    """Remove one trailing newline, as Argo does from results and parameters."""
    return text.removesuffix("\n")


def stage_parameters(directory: str, parameters: list[dict[str, Any]]) -> None:
    """Write each parameter to a file of its name in a directory, which is made."""
    if not parameters:
        return
    os.mkdir(directory)
    for parameter in parameters:
        value = parameter.get("value")
        write_file(f"{directory}/{parameter['name']}", str("" if value is None else value).encode("utf-8", "replace"))


_WRITABLE = "declare `Artifact(..., writable=True)` to get a copy that may be changed"


def changed_there(paths: list[str], machine: str) -> str:
    """Return what is wrong with inputs that a leaf changed on a machine: empty, or a text for the user."""
    if not paths:
        return ""
    return (
        f"inputs were changed in place: {', '.join(paths[:5])}. Such files are shared by all jobs on machine "
        f"{machine!r}; {_WRITABLE}"
    )


class Inputs:
    """Stages input artifacts, and knows afterwards whether they were left as they were.

    Args:
        store: Description of the store.
        copy_method: How objects are brought where the template does not need its own copy: ``how`` of the store.
        writable: Names of artifacts that the leaf may change.
    """

    def __init__(self, store: dict[str, Any], copy_method: str | None, writable: list[str]):
        self._store = store
        self._copy_method = copy_method
        self._writable = writable
        self._staged: list[tuple[str, Snapshot]] = []

    def stage(self, artifact: dict[str, Any], target: str) -> None:
        """Bring one artifact to ``target``.

        Raises:
            StagingError: It is not supplied, or cannot be brought.
        """
        name = artifact["name"]
        s3 = artifact.get("s3") or {}
        if "raw" in artifact:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            write_file(target, artifact["raw"]["data"].encode())
        elif s3.get("key"):
            self._fetch(artifact, s3["key"], target)
        elif _location(artifact):
            self._download(artifact, target)
        elif not artifact.get("optional"):
            raise StagingError("init", f"required artifact '{name}' not supplied")
        if artifact.get("mode") is not None and os.path.exists(target):
            _change_mode(target, int(artifact["mode"]), bool(artifact.get("recurseMode")))

    def _fetch(self, artifact: dict[str, Any], key: str, target: str) -> None:
        name = artifact["name"]
        own = name in self._writable or artifact.get("mode") is not None
        archive = "none" if "none" in (artifact.get("archive") or {}) else None
        store = open_store(self._store)
        try:
            how = store.get(
                key,
                target,
                archive=archive,
                sub_path=artifact.get("subPath") or "",
                how="copy" if own else self._copy_method,
            )
        except DflowError as error:
            if artifact.get("optional") and not store.exists(key):
                return
            raise StagingError("init", f"artifact {name} failed to load: {error}") from error
        except OSError as error:
            raise StagingError("init", f"artifact {name} failed to load: {error}") from error
        if not own and how != "copy":
            from dflow_hpc.storage.trees import SMALL, snapshot

            self._staged.append((name, snapshot(target, above=SMALL if self._copy_method == "small" else -1)))

    @staticmethod
    def _download(artifact: dict[str, Any], target: str) -> None:
        from dflow_hpc.engines.local.work import downloads
        from dflow_hpc.storage import archive, trees

        name, wanted = artifact["name"], next(iter(artifact.get("archive") or {}), "")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=os.path.dirname(target)) as room:
            path = f"{room}/artifact"
            try:
                if not downloads.fetch(artifact, path):
                    raise StorageError(
                        f"its location is of the kind {_location(artifact)!r}, and the local engine reads 's3' (a key "
                        "of its store), 'raw', 'http' and 'git' only"
                    )
                if wanted in ("tar", "zip") or (not wanted and os.path.isfile(path) and archive.kind_of(path) == "tar"):
                    archive.extract(path, target)
                elif os.path.isdir(path):
                    trees.merge(path, target)
                else:
                    os.replace(path, target)
            except downloads.NotThere as error:
                if not artifact.get("optional"):
                    raise StagingError("init", f"artifact {name} failed to load: {error}") from error
            except (DflowError, OSError) as error:
                raise StagingError("init", f"artifact {name} failed to load: {error}") from error

    def check(self) -> str:
        """Return what is wrong with the staged inputs after the leaf: empty, or a text for the user."""
        if not self._staged:
            return ""
        from dflow_hpc.storage.local import changed

        for name, before in self._staged:
            found = changed(before)
            if found:
                return (
                    f"the input artifact '{name}' was changed in place: {', '.join(found[:5])}. Its files are shared "
                    f"with the record of the step that made them; {_WRITABLE}, or give all OPs copies: "
                    "DFLOW_DEBUG_COPY_METHOD=copy"
                )
        return ""


def _location(artifact: dict[str, Any]) -> str:
    known = {"name", "path", "optional", "mode", "recurseMode", "archive", "s3", "raw", "subPath", "globalName", "from"}
    return next((key for key, value in artifact.items() if key not in known and isinstance(value, dict)), "")


def _change_mode(target: str, mode: int, recurse: bool) -> None:
    os.chmod(target, mode)
    if recurse:
        for directory, directories, files in os.walk(target):
            for name in directories + files:
                os.chmod(os.path.join(directory, name), mode)


class Outputs:
    """Takes what a template declares as outputs.

    Args:
        template: The leaf's template.
        store: Description of the store.
        prefix: Key below which artifacts lie that name none: ``<workflow>/<pod>``.
        real: Where a literal path of the template lies on this machine.
        move: Whether output artifacts may be moved away rather than cloned.
        elsewhere: Artifacts, by name, that lie in the object storage of the settings already, and what makes them up.
    """

    def __init__(
        self,
        template: dict[str, Any],
        store: dict[str, Any],
        prefix: str,
        real: Callable[[str], str],
        move: bool,
        elsewhere: Mapping[str, list[Stored]] | None = None,
    ):
        self._template = template
        self._declared = template.get("outputs") or {}
        self._volumes = _volume_paths(template)
        self._prefix = prefix
        self._elsewhere = elsewhere or {}
        self._store = store
        self._real = real
        self._move = move
        self.notices: list[str] = []

    def collect(self, outputs: dict[str, Any], after_failure: bool) -> str:
        """Fill ``outputs`` with parameters and artifacts.

        Args:
            outputs: A node's outputs; keys ``parameters`` and ``artifacts`` are set where something is declared.
            after_failure: The program failed: what is missing is then nobody's further fault.

        Returns:
            The first fault in Argo's words, or nothing.
        """
        fault = ""
        if self._declared.get("parameters"):
            outputs["parameters"], fault = self._parameters()
        if self._declared.get("artifacts"):
            artifacts, missing = self._artifacts()
            if artifacts:
                outputs["artifacts"] = artifacts
            fault = fault or missing
        return "" if after_failure else fault

    def _parameters(self) -> tuple[list[dict[str, Any]], str]:
        found, fault = [], ""
        for declared in self._declared["parameters"]:
            parameter = dict(declared)
            found.append(parameter)
            source = parameter.get("valueFrom") or {}
            path = source.get("path")
            if not path or fault:  # a literal value stands as it is; after the first fault Argo reads no more
                continue
            try:
                parameter["value"] = without_newline(_read_text(self._real(path)))
            except OSError as error:
                if source.get("default") is not None:
                    parameter["value"] = without_newline(str(source["default"]))
                else:
                    where = posixpath.normpath(f"{_PARAMETERS}/{path}")
                    fault = f"open {where}: {_reason(error)}"
        return found, fault

    def _artifacts(self) -> tuple[list[dict[str, Any]], str]:
        saved, faults = [], ""
        store = open_store(self._store)
        for declared in self._declared["artifacts"]:
            artifact = dict(declared)
            path = artifact["path"]
            source = self._real(path)
            archive = archive_of(artifact)
            key = output_key(self._template, self._prefix, artifact)
            if artifact["name"] in self._elsewhere:
                store.note(key, _location_now(), self._elsewhere[artifact["name"]], merge=archive == "none")
                saved.append(_at(artifact, key))
                continue
            if not os.path.lexists(source):
                if not artifact.get("optional"):
                    faults += self._missing(path, archive) + "; "
                continue
            try:
                notices = store.put(source, key, archive=archive, move=self._move)
                self.notices += notices or []
            except DflowError as error:
                faults += f"{error}; "
                continue
            if self._move:
                _link_to_stored(store, key, source)
            saved.append(_at(artifact, key))
        return saved, faults

    def _missing(self, path: str, archive: str) -> str:
        if not any(posixpath.commonpath([path, volume]) == volume for volume in self._volumes):
            archived = posixpath.normpath(f"{_ARTIFACTS}/{path.rstrip('/')}.tgz")
            return f"open {archived}: no such file or directory"
        if archive == "none":
            return f"{path} no such file or directory"
        return f"stat {posixpath.normpath(f'{_VOLUMES}/{path}')}: no such file or directory"


def _link_to_stored(store: Any, key: str, source: str) -> None:
    """Leave a link where an artifact lay that was moved into the store, for who looks into the leaf's directory."""
    from dflow_hpc.storage.local import LocalStore

    if isinstance(store, LocalStore):
        os.symlink(os.path.relpath(store.path_of(key), os.path.dirname(source)), source)


def archive_of(artifact: dict[str, Any]) -> str:
    """Return how an output artifact is archived: ``tar``, ``zip`` or ``none``."""
    return next(iter(artifact.get("archive") or {}), "tar")


def output_key(template: dict[str, Any], prefix: str, artifact: dict[str, Any]) -> str:
    """Return the key under which an output artifact is stored.

    Args:
        template: The leaf's template.
        prefix: Key below which artifacts lie that name none: ``<workflow>/<pod>``.
        artifact: As the template declares it.
    """
    own = (artifact.get("s3") or {}).get("key")
    place = ((template.get("archiveLocation") or {}).get("s3") or {}).get("key") or prefix
    return own or f"{place}/{_file_name(artifact, archive_of(artifact))}"


def _at(artifact: dict[str, Any], key: str) -> dict[str, Any]:
    return {**artifact, "s3": {**(artifact.get("s3") or {}), "key": key}}


def _location_now() -> Location:
    from dflow_hpc.executors.urls import location

    return location()


def _volume_paths(template: dict[str, Any]) -> list[str]:
    """Return the paths that Argo's ``wait`` sees by itself: volumes and input artifacts."""
    containers = [template.get("script") or {}, template.get("container") or {}]
    containers += (template.get("containerSet") or {}).get("containers") or []
    mounts = [mount["mountPath"] for container in containers for mount in container.get("volumeMounts") or []]
    mounts += [mount["mountPath"] for mount in (template.get("containerSet") or {}).get("volumeMounts") or []]
    inputs = [
        artifact["path"] for artifact in (template.get("inputs") or {}).get("artifacts") or [] if "path" in artifact
    ]
    return [posixpath.normpath(path) for path in mounts + inputs]


def _read_text(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")
    finally:
        os.close(fd)


def _file_name(artifact: dict[str, Any], archive: str) -> str:
    if archive == "none":
        return posixpath.basename(str(artifact["path"]).rstrip("/"))
    return f"{artifact['name']}.{'zip' if archive == 'zip' else 'tgz'}"


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]  # Go's words for an errno are the C library's in lower case


def tail(path: str, limit: int) -> str:
    """Return the last ``limit`` bytes of a file as text, nothing where there is no file."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - limit))
        return str(file.read(limit), "utf-8", "replace")
    return ""
