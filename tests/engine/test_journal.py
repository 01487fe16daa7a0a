"""The journal: what is written is read again, torn ends are dropped, damage in the middle is named."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.executors.journal import Journal, JournalDamaged, Reader

RECORDS = [{"node": f"n{i}", "set": {"phase": "Running", "message": 'ä"\n\\{}'}} for i in range(5)]


def written(path, records=RECORDS):
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return path


def test_what_is_appended_is_read_again(tmp_path):
    path = written(tmp_path / "journal.jsonl")
    assert Reader(path).read() == RECORDS
    assert Journal(path).records == RECORDS
    assert path.read_bytes().count(b"\n") == len(RECORDS)


def test_nothing_is_written_before_a_flush_and_all_of_it_with_one(tmp_path, monkeypatch):
    deferred = []
    journal = Journal(tmp_path / "j", defer=deferred.append)
    writes = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(bytes(data)) or real(fd, data))
    for record in RECORDS:
        journal.append(record)
    assert writes == []
    assert len(deferred) == 1
    deferred[0]()
    assert len(writes) == 1
    assert Reader(tmp_path / "j").read() == RECORDS


@given(cut=st.integers(min_value=0))
def test_a_file_cut_anywhere_gives_a_beginning_and_goes_on_from_there(tmp_path_factory, cut):
    path = written(tmp_path_factory.mktemp("cut") / "j")
    data = path.read_bytes()
    cut %= len(data) + 1
    path.write_bytes(data[:cut])
    whole = data[:cut].count(b"\n")
    journal = Journal(path)
    assert journal.records == RECORDS[:whole]
    journal.append({"status": {"phase": "Running"}})
    journal.close()
    assert Reader(path).read() == [*RECORDS[:whole], {"status": {"phase": "Running"}}]


def test_a_garbled_last_line_is_dropped(tmp_path):
    path = written(tmp_path / "j")
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    assert Journal(path).records == RECORDS[:-1]


@pytest.mark.parametrize("damage", ["alter", "remove", "double"])
def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path, damage):
    path = written(tmp_path / "j")
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "alter":
        lines[2] = lines[2].replace(b"Running", b"Stunned")
    elif damage == "remove":
        del lines[2]
    else:
        lines.insert(2, lines[1])
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalDamaged, match="line 3 "):
        Reader(path).read()


def test_a_reader_follows_and_waits_for_the_rest_of_a_line(tmp_path):
    path = tmp_path / "j"
    reader = Reader(path)
    assert reader.read() == []
    data = written(tmp_path / "whole").read_bytes()
    seen = []
    with path.open("ab", buffering=0) as file:
        for start in range(0, len(data), 37):
            file.write(data[start : start + 37])
            seen += reader.read()
    assert seen == RECORDS


def test_a_full_disk_is_told_once_and_nothing_is_lost(tmp_path, monkeypatch):
    told = []
    journal = Journal(tmp_path / "j", on_failure=told.append)
    real = os.write
    room = 70

    def small_disk(fd, data):
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written, room = real(fd, data[:room]), 0
        return written

    monkeypatch.setattr(os, "write", small_disk)
    for record in RECORDS:
        journal.append(record)
        assert not journal.flush()
    assert [error.errno for error in told] == [errno.ENOSPC]
    assert len(Reader(tmp_path / "j").read()) < len(RECORDS)
    monkeypatch.setattr(os, "write", real)
    journal.close()
    assert Reader(tmp_path / "j").read() == RECORDS


def test_closing_on_a_full_disk_raises(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "j")
    journal.append(RECORDS[0])

    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        journal.close()


def test_a_frozen_journal_takes_no_more(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.append(RECORDS[0])
    journal.freeze()
    journal.append(RECORDS[1])
    journal.close()
    assert Reader(tmp_path / "j").read() == RECORDS[:1]


def test_a_journal_that_begins_anew_has_what_it_was_given_and_goes_on(tmp_path):
    journal = Journal(written(tmp_path / "j"))
    journal.append({"node": "never written"})
    assert journal.replace(RECORDS[:2])
    journal.append({"status": {}})
    journal.close()
    assert Reader(tmp_path / "j").read() == [*RECORDS[:2], {"status": {}}]
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_a_full_disk_leaves_a_journal_as_it_is(tmp_path, monkeypatch):
    journal = Journal(written(tmp_path / "j"))

    def full(*_given):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert not journal.replace([])
    journal.append({"status": {}})
    journal.close()
    assert Reader(tmp_path / "j").read() == [*RECORDS, {"status": {}}]
