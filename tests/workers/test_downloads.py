"""Input artifacts from a real HTTP server and a real repository of git."""

import io
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


def _tgz():
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo("top/inner.txt")
        entry.size = 6
        tar.addfile(entry, io.BytesIO(b"inner\n"))
    return made.getvalue()


class _Pages(BaseHTTPRequestHandler):
    pages = {"/plain": b"plain\n", "/tree.tgz": _tgz()}

    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/plain")
            self.end_headers()
        elif self.path == "/guarded" and self.headers["X-Key"] != "open":
            self.send_error(403)
        elif self.path not in (*self.pages, "/guarded"):
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.pages.get(self.path, b"guarded\n"))

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "repository"

    def git(*words):
        who = ("-c", "user.name=n", "-c", "user.email=e")
        subprocess.run(["git", "-C", path, *who, *words], check=True, capture_output=True)

    path.mkdir()
    git("init", "-b", "trunk")
    for number, text in enumerate(("old", "new")):
        (path / "file").write_text(text)
        git("add", "file")
        git("commit", "-m", text)
        git(*(("tag", "v1") if number == 0 else ("branch", "side")))
    git("checkout", "side")
    (path / "file").write_text("side")
    git("commit", "-am", "side")
    git("update-ref", "refs/changes/7", "HEAD")
    git("reset", "--hard", "trunk")
    git("checkout", "trunk")
    return str(path)


def take(kit, source, location, **more):
    """Run a script with an artifact at /in/it; its outcome."""
    declared = {"name": "it", "path": "/in/it", **location, **more}
    script = kit.script(source, inputs={"artifacts": [declared]})
    [outcome] = kit.run(kit.request(script, artifacts=[declared], result=True))
    return outcome


def url(address, **more):
    return {"http": {"url": address, **more}}


def test_a_file_by_its_address(kit, server):
    assert take(kit, "cat /in/it", url(f"{server}/plain")).outputs["result"] == "plain"
    outcome = take(kit, "stat -c %a /in/it", url(f"{server}/moved"), mode=0o751)
    assert outcome.outputs["result"] == "751"


def test_headers_are_sent(kit, server):
    key = [{"name": "X-Key", "value": "open"}]
    assert take(kit, "cat /in/it", url(f"{server}/guarded", headers=key)).outputs["result"] == "guarded"
    text = f"init: Error (exit code 64): artifact it failed to load: loading content from {server}/guarded failed with"
    outcome = take(kit, "true", url(f"{server}/guarded"))
    assert (outcome.phase, outcome.message) == ("Error", f"{text} reason: 403 Forbidden")


def test_an_archive_is_unpacked_unless_told_otherwise(kit, server):
    assert take(kit, "cat /in/it/inner.txt", url(f"{server}/tree.tgz")).outputs["result"] == "inner"
    plain = take(kit, "tar -tzf /in/it", url(f"{server}/tree.tgz"), archive={"none": {}})
    assert plain.outputs["result"] == "top/inner.txt"
    outcome = take(kit, "true", url(f"{server}/plain"), archive={"tar": {}})
    assert outcome.phase == "Error" and "neither a tar nor a zip archive" in outcome.message


def test_what_is_not_there_fails_unless_it_is_optional(kit, server):
    outcome = take(kit, "true", url(f"{server}/none"))
    assert outcome.message == "init: Error (exit code 64): artifact it failed to load: 404 Not Found"
    assert take(kit, "test ! -e /in/it", url(f"{server}/none"), optional=True).phase == "Succeeded"


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (url("file:///etc/passwd"), "neither http:// nor https://"),
        (url("http://127.0.0.1:1/x"), "Connection refused"),
        (url("http://127.0.0.1:1/x", auth={"basicAuth": {}}), "a login of the cluster's"),
        ({"git": {"repo": "/no/such", "singleBranch": True}}, "single branch mode without a branch specified"),
        ({"git": {"repo": "/no/such"}}, 'failed to clone "/no/such": '),
        ({"gcs": {"bucket": "b", "key": "k"}}, "its location is of the kind 'gcs'"),
    ],
)
def test_what_cannot_be_brought_is_said(kit, location, said):
    outcome = take(kit, "true", location, optional=True)
    assert outcome.phase == "Error" and said in outcome.message, outcome.message


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "new"),
        ({"revision": "v1"}, "old"),
        ({"revision": "side"}, "new"),
        ({"revision": "refs/changes/7", "fetch": ["refs/changes/*:refs/changes/*"]}, "side"),
        ({"singleBranch": True, "branch": "side", "depth": 1}, "new"),
    ],
)
def test_a_repository_is_cloned(kit, repository, more, text):
    outcome = take(kit, "cd /in/it && git status --short && cat file", {"git": {"repo": repository, **more}})
    assert outcome.outputs == {"exitCode": "0", "result": text}


def test_a_revision_that_is_not_there_is_said(kit, repository):
    outcome = take(kit, "true", {"git": {"repo": repository, "revision": "--help"}})
    assert outcome.phase == "Error" and "failed to get resolve revision: fatal: " in outcome.message
