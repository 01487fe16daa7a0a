"""Logs as kubectl asks for them."""

import os

import pytest

from dflow_hpc.virtual_node.logs import LogReader, Options


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.txt"


def grow(log, text, at):
    with log.open("a") as file:
        file.write(text)
    os.utime(log, (at, at))


def read(log, last=True, now=1000.0, **query):
    reader = LogReader(log, Options.read({name: str(value) for name, value in query.items()}, now))
    return b"".join(reader.read(last=last)).decode()


@pytest.mark.parametrize(
    ("lines", "found"), [(0, ""), (1, "c"), (2, "b\nc"), (3, "a\nb\nc"), (9, "a\nb\nc"), (None, "a\nb\nc")]
)
def test_the_last_lines(log, lines, found):
    grow(log, "a\nb\nc", 1)
    assert read(log, **({} if lines is None else {"tailLines": lines})) == found


def test_the_last_lines_of_a_long_log(log):
    grow(log, "".join(f"{number:09}\n" for number in range(50_000)), 1)
    assert read(log, tailLines=20_000).splitlines() == [f"{number:09}" for number in range(30_000, 50_000)]


def test_a_line_counts_as_written_when_it_came(log):
    grow(log, "a\n", 900)
    assert read(log, timestamps="true") == "1970-01-01T00:15:00.000000000Z a\n"
    grow(log, "b\n", 990)
    assert read(log, timestamps="true").splitlines()[1] == "1970-01-01T00:16:30.000000000Z b"
    assert read(log, sinceSeconds=50) == "b\n"
    assert read(log, sinceTime="1970-01-01T00:15:00Z") == "a\nb\n"
    assert read(log, sinceTime="1970-01-01T00:16:40Z") == ""
    assert read(log, sinceSeconds=50, tailLines=5) == "b\n"


def test_it_ends_at_the_limit(log):
    grow(log, "abc\ndef\n", 1)
    reader = LogReader(log, Options(limit=5))
    assert b"".join(reader.read(last=True)) == b"abc\nd"
    assert reader.full


def test_one_who_follows_gets_whole_lines_and_at_the_end_the_rest(log):
    reader = LogReader(log, Options(follow=True))
    assert list(reader.read(last=False)) == []
    grow(log, "a\nb", 1)
    assert b"".join(reader.read(last=False)) == b"a\n"
    grow(log, "b\nc", 2)
    assert b"".join(reader.read(last=False)) == b"bb\n"
    assert b"".join(reader.read(last=True)) == b"c"
    assert list(reader.read(last=True)) == []


def test_the_log_of_a_requeued_job_begins_anew(log):
    reader = LogReader(log, Options(timestamps=True))
    grow(log, "the first one\n", 1)
    assert len(list(reader.read(last=False))) == 1
    log.write_text("again\n")
    os.utime(log, (5, 5))
    assert list(reader.read(last=False)) == [b"1970-01-01T00:00:05.000000000Z again\n"]


def test_a_wrong_wish_is_refused(log):
    with pytest.raises(ValueError, match="tailLines"):
        Options.read({"tailLines": "-1"}, 0.0)
    with pytest.raises(ValueError, match="isoformat"):
        Options.read({"sinceTime": "yesterday"}, 0.0)
