"""Signed addresses: renewed while a job waits and runs, repeated when they fail, never seen by anybody else."""

import dataclasses
import hashlib
import json
import time
from pathlib import Path

import pytest

from dflow_hpc.config import s3_config
from dflow_hpc.executors.profiles.machine import Machine, Resources, Waits
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.executors.site import Batch, Parcel, Taken
from dflow_hpc.storage.s3 import MinioClient
from tests.rig.s3 import s3_server  # noqa: F401 - a fixture

pytestmark = pytest.mark.rig


class There:
    """This host as a machine with the URL route; addresses are valid for a few seconds."""

    def __init__(self, path, valid, endpoint=None):
        self.path = path
        self.root = path / "there"
        self.machine = Machine(
            "far",
            "shell",
            transport="local",
            root=str(self.root),
            staging="s3",
            s3_endpoint=endpoint,
            waits=Waits(url=valid),
        )
        self.site = RemoteSite(self.machine)

    def start(self, program, puts=("out",), **more):
        here = self.path / "leaf"
        (here / "inputs").mkdir(parents=True)
        stored = [{"name": name, "path": name, "archive": "tar", "key": f"wf/pod/{name}.tgz"} for name in puts]
        spec = {"words": ["sh", "-c", program], "outputs": [], "puts": stored, **more}
        self.parcels = {"k-1": Parcel("k", "step", "wf/step", Resources(), spec, str(here), machine=self.machine)}
        batch = Batch("batch", ("k-1",), time.time())
        taken = self.site.submit([batch], self.parcels)["batch"]
        assert isinstance(taken, Taken)
        self.live = [(batch, taken.id)]
        return here, self.root / "k" / "attempt.1"

    def wait(self):
        until = time.monotonic() + 90
        while time.monotonic() < until:
            if markers := self.site.look(self.live, self.parcels, []).markers:
                return markers["k-1"]
        raise AssertionError("no marker came")


@pytest.fixture
def storage(tmp_path, s3_server, monkeypatch):  # noqa: F811
    for name, value in s3_server.items():
        monkeypatch.setitem(s3_config, name, value)
    monkeypatch.setitem(s3_config, "prefix", f"{tmp_path.name}/")
    monkeypatch.setenv("DFH_PAUSE", "0")
    return s3_server


def test_a_job_that_runs_for_longer_than_its_addresses_gets_new_ones(tmp_path, storage):
    there = There(tmp_path, valid=4)
    here, leaf = there.start("sleep 9; echo text >../out")
    first = (leaf / "urls").read_text()
    assert (leaf / "urls").stat().st_mode & 0o777 == 0o600
    marker = there.wait()
    assert (marker.record["rc"], marker.record["sent"], marker.complete) == (0, True, True)
    assert (here / "pushed").read_text().startswith("0/tgz/")
    assert marker.record["pushed"] > 0
    assert not (leaf / "urls").exists()
    assert not any(first.encode() in path.read_bytes() for path in there.root.rglob("*") if path.is_file())


def test_an_upload_that_fails_is_repeated_alone_and_ends_with_the_words_of_curl(tmp_path, storage):
    there = There(tmp_path, valid=60, endpoint="127.0.0.1:1")
    here, leaf = there.start("echo once >>../ran; echo text >../out")
    marker = there.wait()
    assert (marker.record["rc"], marker.record["sent"], marker.complete) == (0, False, False)
    words = there.site.fetch(there.parcels)["k-1"]
    assert "could not be stored" in words
    assert "curl: (7)" in words
    assert "Signature" not in words
    assert not (leaf / "urls").exists()
    there.site.addresses.routes.clear()  # the storage can be reached again
    machine = Machine("far", "shell", transport="local", root=str(there.root), staging="s3")
    parcel = there.parcels["k-1"]
    again = Parcel("k", "step", "wf/step", Resources(), parcel.spec, parcel.directory, machine=machine)
    assert there.site.fetch({"k-1": again}) == {"k-1": ""}
    assert (here / "pushed").read_text().startswith("0/tgz/")
    assert (leaf / "ran").read_text() == "once\n"


def test_an_input_that_cannot_be_pulled_or_is_damaged_is_no_failure_of_the_program(tmp_path, storage):
    there = There(tmp_path, valid=60)
    place = {"endpoint": storage["endpoint"], "bucket": storage["bucket_name"], "secure": False}
    pull = {"form": "file", "key": "absent", "sha256": "0" * 64, "size": 5, "location": place, "path": "inputs/x"}
    _, leaf = there.start("touch ../ran", pulls=[pull])
    record = there.wait().record
    assert (record["stage"], record["rc"]) == ("in", 64)
    assert "could not be pulled: HTTP 404 NoSuchKey" in record["text"]
    assert not (leaf / "ran").exists()
    assert not (leaf / "urls").exists()
    assert json.loads((leaf / "exit.json").read_text())["stage"] == "in"
    assert list(Path(there.root, ".cas").iterdir()) == []


def test_what_lies_here_by_now_is_still_pulled_by_a_job_of_an_earlier_life(tmp_path, storage):
    there = There(tmp_path, valid=60)
    client = MinioClient()
    client.upload(f"{tmp_path.name}/made", str(Path(__file__)))
    sha = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    place = {"endpoint": storage["endpoint"], "bucket": storage["bucket_name"], "secure": False}
    pull = {"form": "file", "key": f"{tmp_path.name}/made", "sha256": sha, "size": 5, "location": place, "path": "in"}
    _, leaf = there.start("until [ -e ../go ]; do sleep 0.1; done; echo text >../out", pulls=[pull])
    first = (leaf / "urls").read_text().splitlines()
    parcel = there.parcels["k-1"]
    spec = {name: value for name, value in parcel.spec.items() if name != "pulls"}
    there.parcels["k-1"] = dataclasses.replace(parcel, spec=spec)
    there.site = RemoteSite(there.machine)
    time.sleep(1.1)  # signatures of one second are the same
    assert there.site.look(there.live, there.parcels, []).markers == {}
    second = (leaf / "urls").read_text().splitlines()
    ids = [line.split()[0] for line in first]
    assert sorted(ids) == [f"get.{sha}", "put.0"]
    assert sorted(line.split()[0] for line in second) == sorted(ids)
    assert len(set(first) & set(second)) == 1  # what is put has a new address
    (leaf / "go").touch()
    assert there.wait().record["rc"] == 0
