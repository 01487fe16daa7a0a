"""What the examples fetch from the internet, served on this machine: a program by HTTP, a repository by git.

Both sides get the same addresses, so that the files really travel. The repository is served by git's own CGI program.

Trap: only what the examples do with it is in it; ``kubectl`` is a few lines of shell.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KUBECTL = '#!/bin/sh\ncase "$1" in version) echo "Client Version: v1.8.0";; *) exit 1;; esac\n'
REVISION = "v2.1.1"
"""The one that the example wants."""


@contextlib.contextmanager
def internet(address: str) -> Iterator[str]:
    """Serve it at an address of this machine; the URL."""
    with tempfile.TemporaryDirectory(prefix="fidelity-") as made:
        folder = Path(made)
        (folder / "kubectl").write_text(KUBECTL)
        _make_repository(folder / "argo-workflows.git")
        handler = partial(_Handler, directory=made)
        with ThreadingHTTPServer((address, 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://{address}:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


def readdressed(value: Any, url: str) -> Any:
    """Return a part of a manifest whose artifacts come from there."""
    if isinstance(value, list):
        return [readdressed(each, url) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: readdressed(each, url) for key, each in value.items()}
    for kind, field in (("http", "url"), ("git", "repo")):
        if isinstance(made.get(kind), dict) and field in made[kind]:
            made[kind] = {**made[kind], field: f"{url}/{made[kind][field].rpartition('/')[2]}"}
    return made


def _make_repository(path: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        git = ("git", "-C", work, "-c", "user.name=rig", "-c", "user.email=rig@localhost")
        (Path(work) / "VERSION").write_text(REVISION.removeprefix("v") + "\n")
        for words in (["init"], ["add", "."], ["commit", "-m", "One file"], ["tag", REVISION]):
            subprocess.run([*git, *words], check=True, capture_output=True)
        subprocess.run(["git", "clone", "--bare", work, path], check=True, capture_output=True)


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        if ".git/" in self.path:
            self._git()
        else:
            super().do_GET()

    def do_POST(self):
        self._git()

    def _git(self):
        path, _, query = self.path.partition("?")
        variables = {
            "GIT_PROJECT_ROOT": self.directory,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = subprocess.run(
            ["git", "http-backend"], input=asked, env={**os.environ, **variables}, stdout=subprocess.PIPE, check=True
        )
        head, _, body = answer.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""
