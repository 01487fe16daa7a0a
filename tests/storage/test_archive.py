"""Archives: the same bytes for the same tree, and nothing that leads out of the target is unpacked."""

import io
import stat
import tarfile
import zipfile

import pytest

from dflow_hpc.errors import StorageError
from dflow_hpc.storage.archive import extract, kind_of, pack


def packed(source, kind):
    writer = io.BytesIO()
    pack(source, writer, kind=kind)
    return writer.getvalue()


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "top"
    (root / "empty").mkdir(parents=True)
    (root / "f").write_text("1")
    (root / "run.sh").write_text("2")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("f")
    return root


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_equal_trees_give_equal_bytes(tree, tmp_path, kind):
    first = packed(tree, kind)
    (tree / "f").touch()
    assert packed(tree, kind) == first
    (tmp_path / "a").write_bytes(first)
    assert kind_of(str(tmp_path / "a")) == kind
    extract(str(tmp_path / "a"), str(tmp_path / "back"))
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["empty", "f", "link", "run.sh"]
    assert (tmp_path / "back" / "link").read_text() == "1"
    assert stat.S_IMODE((tmp_path / "back" / "run.sh").stat().st_mode) == 0o755


def test_argo_can_read_it(tree):
    with tarfile.open(fileobj=io.BytesIO(packed(tree, "tar"))) as tar:
        assert tar.getnames() == ["top", "top/empty", "top/f", "top/link", "top/run.sh"]
        assert tar.getmember("top/link").issym()


def test_a_plain_file_is_no_archive(tmp_path):
    for number, data in enumerate([b"", b"text", b"\x1f\x8bnot really", b"PK\x03\x04neither"]):
        (tmp_path / str(number)).write_bytes(data)
        assert kind_of(str(tmp_path / str(number))) is None
    with pytest.raises(StorageError, match="neither a tar nor a zip"):
        extract(str(tmp_path / "1"), str(tmp_path / "x"))
    with pytest.raises(StorageError, match="'rar'"):
        packed(tmp_path, "rar")


def _tar(path, *entries):
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, text in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                tar.addfile(info)
    return str(path)


FILE, LINK, HARD, FIFO = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE


@pytest.mark.parametrize(
    "entries",
    [
        [("../evil", FILE, "x")],
        [("/tmp/evil", FILE, "x")],
        [("a/../../evil", FILE, "x")],
        [("link", LINK, "/etc")],
        [("link", LINK, ".."), ("link/evil", FILE, "x")],
        [("a/link", LINK, "../..")],
        [("d/x", FILE, ""), ("up", LINK, "d/.."), ("out", LINK, "up/../evil")],
        [("hard", HARD, "../../etc/passwd")],
        [("fifo", FIFO, "")],
    ],
)
def test_entries_that_lead_out_are_refused(tmp_path, entries):
    room = tmp_path / "room"
    room.mkdir()
    with pytest.raises(StorageError, match="refused to unpack"):
        extract(_tar(tmp_path / "a.tgz", *entries), str(room / "target"))
    assert list(room.iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_links_inside_are_unpacked(tmp_path):
    entries = [
        ("d/f", FILE, "1"),
        ("d/soft", LINK, "../d/f"),
        ("hard", HARD, "d/f"),
        ("f", FILE, "1"),
        ("f", FILE, "2"),
    ]
    extract(_tar(tmp_path / "a.tgz", *entries), str(tmp_path / "x"))
    assert (tmp_path / "x/d/soft").read_text() == (tmp_path / "x/hard").read_text() == "1"
    assert (tmp_path / "x/f").read_text() == "2"


def test_zips_that_lead_out_are_refused(tmp_path):
    for name in ("../evil", "/evil"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(name, "x")
        with pytest.raises(StorageError, match="refused to unpack"):
            extract(str(tmp_path / "a.zip"), str(tmp_path / "target"))
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(StorageError, match="link or special"):
        extract(str(tmp_path / "a.zip"), str(tmp_path / "target"))


def test_a_damaged_archive_is_said_to_be_damaged(tree, tmp_path):
    (tree / "f").write_bytes(bytes(range(256)) * 400)
    data = packed(tree, "tar")
    (tmp_path / "cut.tgz").write_bytes(data[: len(data) // 2])
    with pytest.raises(StorageError, match="damaged"):
        extract(str(tmp_path / "cut.tgz"), str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()
