"""upload_artifact and download_artifact, and what they do for a script: the same object comes back, with paths."""

import http.server
import sys
import threading
from pathlib import Path

import pytest

from dflow_hpc.config import config, s3_config
from dflow_hpc.errors import NotWhileLoading, StorageError
from dflow_hpc.op import loader
from dflow_hpc.storage.artifact import CustomArtifact, HTTPArtifact, LocalArtifact, S3Artifact
from dflow_hpc.storage.transfer import (
    catalog_of_artifact,
    copy_artifact,
    copy_s3,
    download_artifact,
    download_s3,
    path_list_of_artifact,
    path_object_of_artifact,
    upload_artifact,
    upload_s3,
)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.rig)])
def files(request, here, monkeypatch):
    """A working directory with a few files, for a local store and for S3."""
    if request.param == "s3":
        monkeypatch.setitem(config, "debug_s3", True)
        for name, value in request.getfixturevalue("s3_server").items():
            monkeypatch.setitem(s3_config, name, value)
    (here / "d" / "e").mkdir(parents=True)
    (here / "d" / "a").write_text("a")
    (here / "d" / "e" / "b").write_text("b")
    return here


@pytest.mark.parametrize("archive", ["default", None])
@pytest.mark.parametrize(
    ("given", "back"),
    [
        ("d/a", ["d/a"]),
        (Path("d"), ["d"]),
        (["d/a", None, "d/e"], ["d/a", "d/e"]),
        ({"d/e/b", "d/a"}, ["d/a", "d/e/b"]),
        ({"x": "d/a", "y": ["d/e", "d/a"]}, {"x": "d/a", "y": ["d/e", "d/a"]}),
        ([["d/a"], ["d/e", "d/a"]], [["d/a"], ["d/e", "d/a"]]),
        ({"a.txt": "d/a"}, {"a.txt": "d/a"}),
        ([], []),
    ],
)
def test_the_same_object_comes_back(files, given, back, archive):
    artifact = upload_artifact(given, archive=archive)
    assert path_object_of_artifact(artifact) == back
    found = download_artifact(artifact, path="got")

    def local(value):
        if isinstance(value, dict):
            return {name: local(item) for name, item in value.items()}
        return [local(item) for item in value] if isinstance(value, list) else f"got/{value}"

    assert found == local(back)
    assert not (files / "got" / ".dflow").exists()
    assert all(path.exists() for path in map(Path, path_list_of_artifact(artifact)))
    if "d" in str(given):
        assert (files / "got" / "d").is_dir()


def test_files_elsewhere_keep_their_whole_path(files, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "f"
    elsewhere.write_text("1")
    artifact = upload_artifact([elsewhere, files / "d" / "a"])
    assert path_list_of_artifact(artifact) == [str(elsewhere).lstrip("/"), "d/a"]


def test_later_edits_do_not_show_on_either_side(files):
    artifact = upload_artifact("d")
    (files / "d" / "a").write_text("edited")
    (files / "d" / "e" / "b").unlink()
    [got] = download_artifact(artifact, path="got")
    assert (Path(got) / "a").read_text() == "a"
    (Path(got) / "a").write_text("edited here")
    [again] = download_artifact(artifact, path="again")
    assert (Path(again) / "a").read_text() == "a"


def test_links_of_the_users_files_are_followed(files, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "f").write_text("1")
    (files / "d" / "out").symlink_to(elsewhere)
    [got] = download_artifact(upload_artifact("d"), path="got")
    assert (Path(got) / "out" / "f").read_text() == "1"
    assert not (Path(got) / "out").is_symlink()
    (files / "d" / "loop").symlink_to(files)
    with pytest.raises(StorageError, match=r"d/loop"):
        upload_artifact("d")


def test_what_cannot_be_uploaded_is_named(files):
    with pytest.raises(StorageError, match=r"'nope'.*no such file"):
        upload_artifact(["d/a", "nope"])
    with pytest.raises(StorageError, match="7"):
        upload_artifact(7)
    with pytest.raises(StorageError, match="'rar'"):
        upload_artifact("d", archive="rar")
    if not config["debug_s3"]:
        with pytest.raises(StorageError, match="store itself lies in it"):
            upload_artifact(files)
        assert list((files / "upload" / ".incoming").iterdir()) == []


def test_nothing_is_uploaded_while_an_authors_code_is_loaded(files, monkeypatch):
    monkeypatch.setattr(loader, "loading", lambda: True)
    for upload in (upload_artifact, upload_s3):
        with pytest.raises(NotWhileLoading, match=upload.__name__):
            upload("d/a")


@pytest.mark.parametrize("archive", ["tar", None])
def test_one_element_is_fetched_alone(files, archive):
    artifact = upload_artifact({"x": ["d/a", "d/e"], "y": "d/e/b"}, archive=archive)
    assert download_artifact(artifact["x"][1], path="one") == ["one/d/e"]
    assert sorted(str(path.relative_to("one")) for path in Path("one").rglob("*")) == ["d", "d/e", "d/e/b"]
    assert download_artifact(artifact, slice="x", path="two") == ["two/d/a", "two/d/e"]
    with pytest.raises(StorageError, match="'z'"):
        download_artifact(artifact["z"], path="three")


def test_part_by_its_path(files):
    artifact = upload_artifact("d", archive=None)
    assert download_artifact(artifact.sub_path("d/e"), path="got") == ["got/b"]
    assert download_artifact(artifact, sub_path="d/a", path="got") == ["got/a"]
    assert Path("got/a").read_text() == "a"


def test_files_that_are_there_may_stay(files):
    artifact = upload_artifact("d/a")
    download_artifact(artifact, path="got")
    Path("got/d/a").write_text("mine")
    download_artifact(artifact, path="got", skip_exists=True)
    assert Path("got/d/a").read_text() == "mine"
    download_artifact(artifact, path="got", remove_catalog=False)
    assert Path("got/d/a").read_text() == "a"
    assert Path("got/.dflow").is_dir()


def test_artifacts_are_put_together(files):
    first, second = (upload_artifact(path, archive=None) for path in ("d/a", ["d/e/b", "d/a"]))
    assert copy_artifact(second, first, sort=True) is first
    assert path_object_of_artifact(first) == ["d/a", "d/e/b", "d/a"]
    assert sorted(item["order"] for item in catalog_of_artifact(first)) == [0, 1, 2]
    third = upload_artifact({"x": "d/a"}, archive=None)
    with pytest.raises(StorageError, match="dict"):
        copy_artifact(third, first, sort=True)
    copy_artifact(upload_artifact({"y": "d/e"}, archive=None), third)
    assert path_object_of_artifact(third) == {"x": "d/a", "y": "d/e"}


def test_objects_without_a_catalogue(files):
    key = upload_s3("d", prefix="mine")
    assert key.endswith("mine/d")
    assert download_s3(key, path="flat") == "flat"
    assert Path("flat/e/b").read_text() == "b"
    assert download_s3(key, path="kept", keep_dir=True) == "kept/d"
    download_s3(key, path="shallow", recursive=False)
    assert [path.name for path in Path("shallow").iterdir()] == ["a"]
    copy_s3(key, "mine/copy")
    assert download_s3("mine/copy/a") == "a"
    with pytest.raises(StorageError, match="recursive=True"):
        copy_s3(key, "mine/copy", recursive=False)
    assert download_artifact(S3Artifact(key=key), path="listed") == ["listed/a", "listed/e"]


def test_a_file_of_this_machine_is_stored_when_it_is_used(here):
    (here / "f").write_text("1")
    artifact = LocalArtifact("f")
    assert artifact.key is None
    key = artifact.location()["s3"]["key"]
    (here / "f").write_text("2")
    assert artifact.location() == {"s3": {"key": key}}
    assert Path(S3Artifact(key).local_path).read_text() == "1"
    with pytest.raises(StorageError, match="without a key"):
        download_artifact(S3Artifact())
    with pytest.raises(StorageError, match="upload_artifact"):
        download_artifact("f")


def test_artifacts_as_plain_data():
    artifact = S3Artifact(key="a/b", urn="u")[2]["x"]
    assert artifact.slice == "2.x"
    assert artifact.parent.key == "a/b"
    again = S3Artifact.from_dict({**artifact.to_dict(), "endpoint": "of an older version"})
    assert (again.key, again.urn, again.slice) == ("a/b", "u", "2.x")
    assert "secret" not in str(artifact.to_dict())
    assert artifact.sub_path("c").location() == {"s3": {"key": "a/b/c"}}
    with pytest.raises(TypeError, match="cannot be iterated"):
        list(artifact)


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/data/f.txt" else 404)
        self.end_headers()
        self.wfile.write(b"1")

    def log_message(self, *args):
        pass


def test_a_file_at_an_address(here):
    server = http.server.HTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        assert download_artifact(HTTPArtifact(f"{address}/data/f.txt"), path="got") == ["got/f.txt"]
        assert Path("got/f.txt").read_text() == "1"
        with pytest.raises(StorageError, match="404"):
            HTTPArtifact(f"{address}/nope").download(here)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(StorageError, match="http"):
        HTTPArtifact("ftp://x")


class Answer(CustomArtifact):
    def get_urn(self):
        return "answer://42"

    @classmethod
    def from_urn(cls, urn):
        return cls()

    def download(self, name, path):
        (Path(path) / name).write_text("42")


def test_an_artifact_of_a_plugin(here, monkeypatch):
    monkeypatch.setitem(config, "artifact_register", {"answer": f"{Answer.__module__}.Answer"})
    monkeypatch.setitem(sys.modules, Answer.__module__, sys.modules.get(Answer.__module__) or _here())
    artifact = CustomArtifact.from_urn("answer://42")
    assert download_artifact(artifact, path="got") == ["got"]
    assert Path("got/artifact").read_text() == "42"
    with pytest.raises(Exception, match="answer"):
        CustomArtifact.from_urn("question://?")


def _here():
    import types

    module = types.ModuleType(Answer.__module__)
    module.Answer = Answer
    return module


def test_download_into_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt"):
        Path(name).write_text(name)
    artifact = upload_artifact(["a.txt", "b.txt"])
    Path("a.txt").unlink()
    assert download_artifact(artifact) == ["a.txt", "b.txt"]
    assert Path("a.txt").read_text() == "a.txt"
