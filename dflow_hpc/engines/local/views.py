"""What the literal paths of a foreign template mean on this machine.

A foreign manifest says ``/tmp/result.txt`` and means its own container. Each leaf has a directory ``root/`` that
mirrors exactly the paths that its template declares: artifact paths, output parameter paths, ``/tmp``, volumes and
``/argo/staging``. Where Linux allows a private mount namespace, the program sees its ``root/`` laid over the host:
declared directories are the leaf's own, host directories in which something is declared are rebuilt entry by entry
(each bound back from the host), everything else is the host's. Where it is refused, the declared paths are
substituted in the template's texts, with a notice.

Not here: container runtimes, which bring a root of their own.

Trap: the leaf's directory may itself lie below ``/tmp``; what must stay visible (the run, the interpreter, programs on
the PATH) is bound back into a directory that hides it.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any


class View:
    """The literal paths of one leaf.

    Args:
        root: The leaf's directory.
        template: Its template.
        keep: Host directories that must stay visible.
    """

    def __init__(self, root: str, template: dict[str, Any], keep: list[str]):
        self._base = f"{root}/root"
        self._own = {"/tmp", "/argo/staging"}  # noqa: S108  the leaf's own, which is the point
        self._entries = set(_declared(template))
        os.makedirs(f"{self._base}/tmp")

    def own_path(self, path: str) -> str:
        """Return where a declared path lies in the leaf's directory."""
        return self._base + posixpath.normpath(path)

    def real(self, path: str) -> str:
        """Return where to find what the program left at a path: the leaf's own, else the host's."""
        own = self.own_path(path)
        return own if os.path.lexists(own) or not os.path.lexists(path) else path

    def inside(self, path: str) -> str:
        """Return the path by which the program reaches a literal path."""
        return self.translate(path)

    def prepare(self, notices: list[str]) -> None:
        """Get ready for programs; adds a notice when paths must be substituted."""

    def translate(self, text: str) -> str:
        """Substitute the declared paths in a text, where there is no namespace."""
        paths = sorted(self._own | self._entries, key=len, reverse=True)
        pattern = "|".join(re.escape(path) for path in paths)
        return re.sub(rf"(?<![\w./-])({pattern})(?![\w-])", lambda match: self.own_path(match[1]), text)

    def enter(self, termination_log: str) -> None:
        """In the child: make the view the process's root."""

    def clean(self) -> None:
        """After the programs: remove the empty mount points."""


def _declared(template: dict[str, Any]) -> list[str]:
    found = [item["path"] for item in (template.get("inputs") or {}).get("artifacts") or [] if item.get("path")]
    outputs = template.get("outputs") or {}
    found += [item["path"] for item in outputs.get("artifacts") or [] if item.get("path")]
    for item in outputs.get("parameters") or []:
        if (item.get("valueFrom") or {}).get("path"):
            found.append(item["valueFrom"]["path"])
    return [posixpath.normpath(path) for path in found]
