"""Unpacking a bundle: whole and read-only, or refused; each hostile zip here is one that a plain unzip would obey."""

import hashlib
import io
import json
import stat
import zipfile

import pytest

from dflow_hpc.compile.bundle import bundle
from dflow_hpc.compile.extract import extract
from dflow_hpc.errors import BundleError


def zipped(members, listed=None):
    """A zip of ``members`` ((name, content, mode)), whose list says what it holds unless told otherwise."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, content)
        if listed is None:
            listed = {name: hashlib.sha256(content).hexdigest() for name, content, _ in members}
        archive.writestr("bundle.json", json.dumps({"files": listed}))
    return buffer.getvalue()


def test_the_result_is_read_only_and_whole(tmp_path):
    made, _ = bundle([])
    extract(made.data, tmp_path / "code")
    files = [path for path in (tmp_path / "code").rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path / "code")) for path in files} == {*made.files, "bundle.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o444}
    assert stat.S_IMODE((tmp_path / "code").stat().st_mode) == 0o555
    assert [path.name for path in tmp_path.iterdir()] == ["code"]


@pytest.mark.parametrize("name", ["../out.py", "/tmp/out.py", "code/../../out.py"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(BundleError, match="leads out of it"):
        extract(zipped([(name, b"x", 0o100644)]), tmp_path / "code")
    assert not list(tmp_path.iterdir())


def test_a_link_is_refused(tmp_path):
    with pytest.raises(BundleError, match="'code/l' in it is not a regular file"):
        extract(zipped([("code/l", b"/etc/passwd", 0o120777)]), tmp_path / "code")


def test_what_its_list_does_not_say_is_refused(tmp_path):
    members = [("code/a.py", b"a", 0o100644), ("code/b.py", b"b", 0o100644)]
    listed = {"code/a.py": hashlib.sha256(b"a").hexdigest()}
    with pytest.raises(BundleError, match=r"differ in code/b\.py"):
        extract(zipped(members, listed), tmp_path / "code")
    with pytest.raises(BundleError, match=r"differ in code/a\.py, code/b\.py"):
        extract(zipped([], {"code/a.py": "0", "code/b.py": "0"}), tmp_path / "code")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"differ in code/a\.py"):
        extract(zipped([("code/a.py", b"a", 0o100644)] * 2), tmp_path / "code")


def test_a_changed_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"code/a\.py was changed on the way"):
        extract(zipped([("code/a.py", b"a", 0o100644)], {"code/a.py": "0" * 64}), tmp_path / "code")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"no zip at all", zipped([])[:-30]])
def test_what_is_no_bundle_is_refused(tmp_path, data):
    with pytest.raises(BundleError, match=f"{len(data)} bytes were found that are none"):
        extract(data, tmp_path / "code")
