"""What the literal paths of a foreign template mean on this machine.

A foreign manifest says ``/tmp/result.txt`` and means its own container. Each leaf has a directory ``root/`` that
mirrors exactly what its template declares: artifact paths, output parameter paths, ``/tmp``, volumes, ``/argo/staging``
and (where it is mentioned) ``/dev/termination-log``. Where Linux allows a mount namespace, ``root/`` becomes the
program's root: declared directories are the leaf's own, host directories in which something is declared are rebuilt
entry by entry, and each other entry is the host's, bound. Where it is refused, the declared paths are substituted in
the template's texts.

Not here: the system calls (``namespaces.py``); container runtimes, which bring a root of their own.

Trap: the leaf's directory may itself lie below ``/tmp``. What must stay visible (the run, the interpreter, programs on
the PATH) is bound back into a directory that hides it.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Collection
from typing import Any

from dflow_hpc.engines.local.work import namespaces
from dflow_hpc.engines.local.work.staging import StagingError
from dflow_hpc.executors.runtimes import TERMINATION_LOG, termination_log

_OWN = ("/tmp", "/argo/staging")  # noqa: S108  a private one is the point
_MOST_BINDS = 2000
_FILES = "private/volumes"
"""Below a leaf's directory: volumes of files, which may be secret."""


class View:
    """The literal paths of one leaf.

    Args:
        root: The leaf's directory.
        run_dir: The run's directory, where claims of the workflow lie.
        template: The leaf's template.
        keep: Host directories that must stay visible.
        refused: Why there are no namespaces, or nothing.
        contained: The runtime in whose containers the programs run, which see nothing of the host but what is mounted.
    """

    def __init__(
        self,
        root: str,
        run_dir: str,
        template: dict[str, Any],
        keep: list[str],
        refused: str,
        contained: str = "",
    ):
        self._base = f"{root}/root"
        self._template = template
        self._contained = contained
        self._volumes = _Volumes(root, run_dir, template)
        self._refused = refused
        self._keep = keep
        own = sorted({canonical(path) for path in (*_OWN, *self._volumes.paths)})
        self._own = [path for path in own if not any(_below(path, other) for other in own)]
        self._inputs = {canonical(path) for path in _paths(template.get("inputs") or {})}
        self._declared = self._inputs | {canonical(path) for path in _paths(template.get("outputs") or {})}
        self._termination = "termination-log" in json.dumps(template)
        for path in self._own:
            os.makedirs(self._base + path, exist_ok=True)
        os.chmod(f"{self._base}/tmp", 0o1777)  # noqa: S103, S108  as /tmp is everywhere
        self._kept = {_deepest_directory(path) for path in self._declared if not self._owns(path)}
        """Host directories in which the leaf may make something that must outlive the namespace."""
        self._merged = _with_parents({"/", *self._kept, *map(_deepest_directory, self._own)})
        """Host directories that are rebuilt entry by entry."""
        if self._termination:
            self._merged.add(posixpath.dirname(TERMINATION_LOG))

    def _owns(self, path: str) -> bool:
        return any(path == own or _below(path, own) for own in self._own)

    def own_path(self, path: str) -> str:
        """Return where a declared path lies in the leaf's directory."""
        return self._volumes.real(path) or self._base + canonical(path)

    def real(self, path: str) -> str:
        """Return where to find what the programs left at a path: in the leaf's directory, or on the host."""
        own = self.own_path(path)
        if self._contained:
            return own
        if self._refused:
            return own if os.path.lexists(own) or not os.path.lexists(path) else path
        return path if self._volumes.real(path) is None and self._is_hosts(canonical(path)) else own

    def _is_hosts(self, path: str) -> bool:
        """Say whether the programs saw the host's own file or directory at a path."""
        if self._owns(path) or any(path == item or _below(path, item) for item in self._inputs):
            return False
        while path not in self._merged and posixpath.dirname(path) not in self._merged:
            path = posixpath.dirname(path)
        return path not in self._merged and os.path.lexists(path)

    def prepare(self, notices: list[str]) -> None:
        """Get ready for programs; say in ``notices`` when paths are substituted instead of mounted."""
        if self._contained:
            return
        if not self._refused and sum(len(os.listdir(path)) for path in self._merged) > _MOST_BINDS:
            self._refused = f"directories with more than {_MOST_BINDS} entries would have to be rebuilt"
        if self._refused:
            for path in self._declared:
                os.makedirs(os.path.dirname(self.own_path(path)), exist_ok=True)
            notices.append(
                f"this leaf runs without a mount namespace ({self._refused}); the declared paths were substituted in "
                f"its texts: {', '.join([*self._own, *sorted(self._declared)])}"
            )

    def translate(self, text: str, container: dict[str, Any], log: str) -> str:
        """Return a text of a template as the program must see it: with substituted paths, where there is no namespace.

        Args:
            text: Of a command, a variable or a script.
            container: Whose text it is; volumes are mounted per container.
            log: The file behind ``/dev/termination-log``.
        """
        if self._contained:
            return text.replace(TERMINATION_LOG, termination_log(self._contained))
        if not self._refused:
            return text
        places = {path: self._base + path for path in self._own} | {
            path: self.own_path(path) for path in self._declared
        }
        places |= {path: source for source, path in self._volumes.mounts(container)}
        places[TERMINATION_LOG] = log
        pattern = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
        # Only where a path begins: not in /var/tmp, ~/tmp or ./tmp; and not in the middle of a name.
        return re.sub(rf"(?<![\w./~$}}-])(?:{pattern})(?![\w-])", lambda match: places[match[0]], text)

    def directory(self, container: dict[str, Any], log: str, otherwise: str) -> str:
        """Return where a program begins.

        Args:
            container: Whose program it is.
            log: The file behind ``/dev/termination-log``.
            otherwise: A directory for one that does not say where, and leaves nothing in the root directory.
        """
        if container.get("workingDir"):
            return self.translate(container["workingDir"], container, log)
        # It would begin in the root directory of its image: what it leaves there must be found there.
        if any(posixpath.dirname(canonical(path)) == "/" for path in _paths(self._template.get("outputs") or {})):
            return f"{self._base}/" if self._refused else "/"
        return otherwise

    def mounts(self, container: dict[str, Any], log: str, arriving: Collection[str] = ()) -> list[tuple[str, str]]:
        """Return what a container of a runtime must see: pairs of a path here and one in it.

        Of an output its directory is mounted, because the output itself is not there yet.

        Args:
            container: Whose mounts.
            log: The file behind ``/dev/termination-log``; it is made.
            arriving: What is not in the leaf's directory yet, and will be.

        Raises:
            StagingError: An output lies directly in ``/``, which cannot be mounted.
        """
        os.close(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        found = {termination_log(self._contained): log, **{own: self._base + own for own in self._own}}
        found |= {path: source for source, path in self._volumes.mounts(container)}
        outputs = [posixpath.normpath(path) for path in _paths(self._template.get("outputs") or {})]
        directories = {posixpath.dirname(path): path for path in outputs if not self._owns(canonical(path))}
        for directory, path in directories.items():
            if directory == "/":
                raise StagingError(
                    "init",
                    f"the output {path} lies directly in the container's root, which cannot be mounted on this "
                    "machine; let it lie in a directory, such as /tmp",
                )
            os.makedirs(self.own_path(directory), exist_ok=True)
            found[directory] = self.own_path(directory)
        for path in map(posixpath.normpath, _paths(self._template.get("inputs") or {})):
            if not self._owns(canonical(path)) and posixpath.dirname(path) not in directories:
                found[path] = self.own_path(path)
        # An optional input may be missing; what a hostPath names need not be on this host.
        return [
            (source, path)
            for path, source in sorted(found.items())
            if os.path.lexists(source) or source in arriving or not source.startswith(self._base)
        ]

    def enter(self, container: dict[str, Any], log: str, mount_point: str) -> None:
        """In the child: make the view the process's root.

        Args:
            container: Whose program it is.
            log: The file behind ``/dev/termination-log``.
            mount_point: An empty directory; all leaves may use the same, each in its own namespace.

        Raises:
            OSError: The kernel refuses something.
        """
        if self._refused:
            return
        namespaces.unshare()
        if "/" in self._kept:
            namespaces.bind(self._base, mount_point)
        else:
            namespaces.mount_tmpfs(mount_point)
        namespaces.forbid_binding(mount_point)
        for directory in sorted(self._merged):  # parents come before what is in them
            self._rebuild(directory, mount_point)
        for own in self._own:
            self._lay(self._base + own, mount_point + own)
        for source, path in self._volumes.mounts(container):
            self._lay(source, mount_point + canonical(path))
        for path in self._hidden():
            self._lay(path, mount_point + path)
        if self._termination:
            os.close(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
            self._lay(log, mount_point + TERMINATION_LOG)
        namespaces.change_root(mount_point)

    def _rebuild(self, directory: str, root: str) -> None:
        if directory in self._kept and directory != "/":
            os.makedirs(self._base + directory, exist_ok=True)
            self._lay(self._base + directory, root + directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                path = posixpath.join(directory, entry.name)
                goal = root + path
                if path in self._merged:
                    os.makedirs(goal, exist_ok=True)
                elif os.path.lexists(goal) or path in self._own:
                    continue  # the leaf's own
                elif entry.is_symlink():
                    os.symlink(os.readlink(path), goal)
                else:
                    self._lay(path, goal)

    @staticmethod
    def _lay(source: str, goal: str) -> None:
        """Bind a file or directory on a mount point, which is made; nothing to do where they are the same already."""
        if os.path.isdir(source):
            os.makedirs(goal, exist_ok=True)
        elif not os.path.lexists(goal):
            os.close(os.open(goal, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        if not os.path.samefile(source, goal):
            namespaces.bind(source, goal)

    def _hidden(self) -> list[str]:
        """Return what must stay visible and lies in a directory of the leaf's own."""
        wanted = [*self._keep, *os.environ.get("PATH", "").split(":"), os.environ.get("HOME", "")]
        real = dict.fromkeys(os.path.realpath(path) for path in wanted if path)
        return [path for path in real if any(_below(path, own) for own in self._own) and os.path.isdir(path)]


class _Volumes:
    """The volumes of a pod: each a directory, seen by its containers where they mount it.

    Args:
        root: The leaf's directory; an ``emptyDir`` lies in it.
        run_dir: Claims are the workflow's: they lie here, below ``volumes/``.
        template: The leaf's template. Volumes that it does not list are claims.
    """

    def __init__(self, root: str, run_dir: str, template: dict[str, Any]):
        self._root = root
        self._run_dir = run_dir
        self._kinds = {volume["name"]: volume for volume in template.get("volumes") or []}
        group = template.get("containerSet") or {}
        self._shared = group.get("volumeMounts") or []
        mains = (
            [template[kind] for kind in ("script", "container") if template.get(kind)] or group.get("containers") or []
        )
        others = (template.get("initContainers") or []) + (template.get("sidecars") or [])
        self._places: dict[str, str] = {}
        for container in [*others, *mains]:
            self._places |= {path: source for source, path in self.mounts(container)}
        self.paths = list(self._places)

    def mounts(self, container: dict[str, Any]) -> list[tuple[str, str]]:
        """Return pairs of a directory and the path at which a container sees it."""
        found = []
        for mount in [*(container.get("volumeMounts") or []), *self._shared]:
            if not mount.get("mountPath"):
                raise StagingError("init", f"the volume {mount['name']!r} is to be mounted; its mount has no mountPath")
            source = self._directory(mount["name"])
            if mount.get("subPath"):
                source = posixpath.join(source, mount["subPath"])
                if "files" not in self._kinds.get(mount["name"], ()):  # they are there already, or will be
                    os.makedirs(source, exist_ok=True)
            found.append((source, posixpath.normpath(mount["mountPath"])))
        return found

    def _directory(self, name: str) -> str:
        volume = self._kinds.get(name, {"persistentVolumeClaim": {"claimName": name}})
        if "hostPath" in volume:
            return str(volume["hostPath"]["path"])
        if "emptyDir" in volume:
            path = f"{self._root}/volumes/{name}"
        elif "files" in volume:
            path = f"{self._root}/{_FILES}/{name}"
        elif "persistentVolumeClaim" in volume:
            path = f"{self._run_dir}/volumes/{volume['persistentVolumeClaim']['claimName']}"
        else:
            kind = ", ".join(key for key in volume if key != "name")
            raise StagingError(
                "init",
                f"volume {name!r} is of the kind {kind!r}; on this machine there are emptyDir, hostPath and claims",
            )
        os.makedirs(path, exist_ok=True)
        return path

    def real(self, path: str) -> str | None:
        """Return where a path in a volume lies, or None for a path in none."""
        path = posixpath.normpath(path)
        for place in sorted(self._places, key=len, reverse=True):
            if path == place or _below(path, place):
                return f"{self._places[place]}{path[len(place) :]}"
        return None


def files_of(template: dict[str, Any]) -> dict[str, Any]:
    """Return the files of a template's volumes that bring their own, by their paths below the leaf's directory."""
    volumes = [volume for volume in template.get("volumes") or [] if "files" in volume]
    return {f"{_FILES}/{volume['name']}/{path}": file for volume in volumes for path, file in volume["files"].items()}


def canonical(path: str) -> str:
    """Return a path with the host's symbolic links resolved as far as it exists, but not in its last part."""
    directory, name = posixpath.split(posixpath.normpath(path))
    return posixpath.join(os.path.realpath(directory), name)


def _below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _deepest_directory(path: str) -> str:
    """Return the innermost directory of the host in which a path lies or would lie."""
    path = posixpath.dirname(path)
    while not os.path.isdir(path):
        path = posixpath.dirname(path)
    return path


def _with_parents(paths: set[str]) -> set[str]:
    found = set()
    for start in paths:
        path = start
        while path not in found:
            found.add(path)
            path = posixpath.dirname(path)
    return found


def _paths(side: dict[str, Any]) -> list[str]:
    """Return the paths that a template's inputs or outputs declare."""
    items = [*(side.get("artifacts") or []), *(item.get("valueFrom") or {} for item in side.get("parameters") or [])]
    return [item["path"] for item in items if item.get("path")]
