"""Input artifacts that lie in no store: a file behind an address, a repository of git.

They are brought as Argo's ``init`` brings them, in its words where a server refuses. Git is the host's own program, and
logs in with what the user has: what a manifest says of Secrets for it means a cluster.

Not here: unpacking and modes (``staging.py``).

Trap: an address is taken from a manifest, so it may not mean a file of this host: ``http`` and ``https`` only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from dflow_hpc.errors import StorageError

SILENCE = 60.0
"""Seconds without a byte, after which a server is given up."""


class NotThere(StorageError):
    """The server knows of no such thing: that is no fault of an optional artifact."""


def fetch(artifact: dict[str, Any], path: str) -> bool:
    """Bring what an artifact's location names to ``path``, which is free; False where it is of no kind known here.

    Raises:
        StorageError: It cannot be brought; ``NotThere`` where there is no such thing.
    """
    if artifact.get("http"):
        _http(artifact["http"], path)
    elif artifact.get("git"):
        _git(artifact["git"], path)
    else:
        return False
    return True


def _http(location: dict[str, Any], path: str) -> None:
    url = location["url"]
    if location.get("auth"):
        raise StorageError(f"{url} is to be asked with a login of the cluster's; here it can be asked without one only")
    if not url.lower().startswith(("http://", "https://")):
        raise StorageError(f'Get "{url}": the address is neither http:// nor https://')
    headers = {header["name"]: header["value"] for header in location.get("headers") or ()}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (looked at above)
    try:
        with urllib.request.urlopen(request, timeout=SILENCE) as answer, Path(path).open("wb") as file:  # noqa: S310
            shutil.copyfileobj(answer, file, 1 << 20)
    except urllib.error.HTTPError as error:
        reason = f"{error.code} {error.reason}"
        error.close()
        if error.code == 404:
            raise NotThere(reason) from error
        raise StorageError(f"loading content from {url} failed with reason: {reason}") from error
    except OSError as error:  # URLError too
        raise StorageError(f'Get "{url}": {getattr(error, "reason", error)}') from error


def _git(location: dict[str, Any], path: str) -> None:
    repository, revision = location["repo"], location.get("revision")
    limits = [f"--depth={location['depth']}"] if location.get("depth") else []
    heads = "*"
    if location.get("singleBranch"):
        heads = location.get("branch") or ""
        if not heads:
            raise StorageError("single branch mode without a branch specified")
        limits += ["--single-branch", f"--branch={heads}"]
    git = _Git(path, bool(location.get("insecureIgnoreHostKey")))
    git.run(f'clone "{repository}"', "clone", "--quiet", "--no-local", *limits, "--", repository, path, inside=False)
    if fetched := location.get("fetch"):
        git.run(f"fetch {fetched}", "fetch", "--quiet", *limits[:1], "--", "origin", *fetched)
    if revision:
        # Branches by their own names, as Argo has them, so that a revision may be one.
        known = f"+refs/heads/{heads}:refs/heads/{heads}"
        git.run(f"fetch [{known}]", "fetch", "--quiet", "--update-head-ok", "origin", known)
        found = git.run("get resolve revision", "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
        git.run(f'checkout "{found}"', "checkout", "--quiet", "--force", "--detach", found)
    if not location.get("disableSubmodules"):
        git.run("update submodules", "submodule", "--quiet", "update", "--init", "--recursive")


class _Git:
    """The host's git, in a clone.

    Args:
        path: The clone.
        any_host: Trust a host whose key is not known.
    """

    def __init__(self, path: str, any_host: bool):
        self._path = path
        self._environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        if any_host:
            trusting = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
            self._environment["GIT_SSH_COMMAND"] = f"ssh {trusting}"

    def run(self, what: str, *words: str, inside: bool = True) -> str:
        """Run a command of git and return what it printed.

        Raises:
            StorageError: It failed, or there is no git.
        """
        command = ["git", *(["-C", self._path] if inside else []), *words]
        try:
            answer = subprocess.run(
                command, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise StorageError(f"failed to {what}: git cannot be started ({error.strerror}); install git") from error
        if answer.returncode:
            raise StorageError(f"failed to {what}: {answer.stderr.strip()[-500:]}")
        return answer.stdout.strip()
