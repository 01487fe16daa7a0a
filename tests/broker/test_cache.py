"""The cache on a machine: what leaves share is sent once, linked into each, and never changed by one of them."""

import os
import time

import pytest

from dflow_hpc.executors.profiles.machine import Machine, Resources
from dflow_hpc.executors.protocol import pieces
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.executors.site import Batch, Parcel, Taken

pytestmark = pytest.mark.slow

ODD = " a name's \\ 'blanks'  "
SIZE = 1 << 20


class There:
    """This host as a machine, and leaves on it that all get one dataset."""

    def __init__(self, path):
        self.path = path
        self.root = path / "there"
        self.dataset = path / "dataset"
        self.dataset.mkdir()
        (self.dataset / ODD).write_bytes(os.urandom(SIZE))
        (self.dataset / "small").write_text("small")
        self.sites = []
        self.site = self.opened()

    def opened(self):
        site = RemoteSite(Machine("far", "shell", transport="local", root=str(self.root)))
        self.sites.append(site)
        return site

    def run(self, program, count=1, key="k", own=()):
        """Run leaves to their ends; return their markers and directories here."""
        parcels = {}
        for number in range(count):
            here = self.path / f"{key}{number}"
            (here / "inputs").mkdir(parents=True)
            (here / "inputs" / "data").symlink_to(self.dataset)
            spec = {"words": ["sh", "-c", program], "outputs": ["out"], "own": own}
            parcels[f"{key}{number}-1"] = Parcel(f"{key}{number}", "step", "wf/step", Resources(), spec, str(here))
        batch = Batch(f"batch{key}", tuple(parcels), time.time())
        taken = self.site.submit([batch], parcels)[batch.id]
        assert isinstance(taken, Taken), taken
        markers = {}
        until = time.monotonic() + 60
        while len(markers) < count and time.monotonic() < until:
            waiting = {token: parcel for token, parcel in parcels.items() if token not in markers}
            markers |= self.site.look([(batch, taken.id)], waiting, []).markers
        assert len(markers) == count
        return [marker.record for marker in markers.values()], [parcel.root for parcel in parcels.values()]

    def cached(self):
        return [path for path in (self.root / ".cas").iterdir() if (path / "data").exists()]


@pytest.fixture
def there(tmp_path):
    made = There(tmp_path)
    yield made
    for site in made.sites:
        site.close()


def test_a_dataset_goes_there_once_and_is_linked_into_each_leaf(there):
    program = "cd ../inputs/data && cat small * | wc -c >../../out; stat -c %h:%a [!s]* >>../../out"
    records, roots = there.run(program, count=12)
    assert [record["rc"] for record in records] == [0] * 12
    for root in roots:
        size, links = (root / "out").read_text().split()
        assert int(size) == SIZE + 10
        assert (int(links.partition(":")[0]) >= 2, links.partition(":")[2]) == (True, "400")
    assert len(there.cached()) == 1
    assert there.site.bytes().link_there < 1.2 * SIZE
    assert there.site.bytes().cached == 11 * SIZE
    there.site = there.opened()  # another process, later
    there.run(program, count=2, key="l")
    assert there.site.bytes().link_there < 0.2 * SIZE
    assert there.site.bytes().cached == 2 * SIZE


def test_a_file_is_read_once_as_long_as_it_does_not_change(there, monkeypatch):
    read = []
    digest = pieces.hashlib.file_digest
    monkeypatch.setattr(pieces.hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind))
    there.run("true", count=5)
    assert len(read) == 1
    (there.dataset / ODD).write_bytes(os.urandom(SIZE))
    there.run("true", count=2, key="l")
    assert (len(read), len(there.cached())) == (2, 2)


def test_who_may_write_gets_a_copy_and_who_writes_nonetheless_is_found_out(there):
    write = 'cd ../inputs/data && chmod +w [!s]* && echo more >>"$(ls -d [!s]*)" && touch ../../out'
    [record], [root] = there.run(write, own=["inputs/data"])
    assert (record["rc"], (root / "changed").exists()) == (0, False)
    [record], [root] = there.run(write, key="l")
    assert record["rc"] == 0
    assert (root / "changed").read_text() == f"inputs/data/{ODD}\n"
    assert there.cached() == []  # nobody gets what was changed
    [record], [root] = there.run("cat ../inputs/data/[!s]* | wc -c >../out", key="m")
    assert int((root / "out").read_text()) == SIZE


def test_an_executable_stays_one(there):
    script = there.dataset / "tool"
    script.write_text("#!/bin/sh\necho ran\n" + "#" * SIZE)
    script.chmod(0o755)
    (there.dataset / "text").write_bytes(script.read_bytes())
    _, [root] = there.run("cd ../inputs/data; ./tool >../../out; test -x text || echo plain >>../../out")
    assert (root / "out").read_text() == "ran\nplain\n"
    assert len(there.cached()) == 3


def test_what_was_cleaned_away_is_sent_again(there):
    there.run("true")
    [entry] = there.cached()
    for path in (entry / "data", entry):
        os.utime(path, (0, 0))
    assert there.site._scripts.clean(1)["cache"] == 1
    [record], [root] = there.run("cat ../inputs/data/[!s]* | wc -c >../out", key="l")
    assert (record["rc"], int((root / "out").read_text())) == (0, SIZE)


def test_what_is_used_stays(there):
    there.run("true")
    [entry] = there.cached()
    for path in (entry / "data", entry):
        os.utime(path, (0, 0))
    there.run("true", key="l")
    assert there.site._scripts.clean(1)["cache"] == 0
    assert there.cached() == [entry]
