"""Memory, times and names as schedulers take them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.executors.schedulers import texts


@pytest.mark.parametrize(
    ("text", "slurm", "pbs"),
    [
        ("256MB", "256M", "256mb"),
        ("256M", "256M", "256mb"),
        ("1.5 GiB", "1536M", "1536mb"),
        ("32gb", "32G", "32gb"),
        ("2048Mi", "2G", "2gb"),
        ("1000KB", "1000K", "1000kb"),
        ("1B", "1K", "1kb"),
        ("2PB", "2048T", "2048tb"),
    ],
)
def test_memory(text, slurm, pbs):
    assert texts.memory_text(text, "KMGT") == slurm
    assert texts.memory_text(text, ("kb", "mb", "gb", "tb")) == pbs


@given(st.integers(1, 10**7), st.sampled_from("KMGT"))
def test_memory_is_exact(number, unit):
    said = texts.memory_text(f"{number}{unit}B", "KMGT")
    assert texts.memory_bytes(said) == texts.memory_bytes(f"{number}{unit}")


@pytest.mark.parametrize("text", ["", "lots", "12", "-1GB", "1 GB 2", "1e3MB", "٣GB", "0.0GB"])
def test_what_is_no_memory(text):
    with pytest.raises(ConfigError, match="memory = "):
        texts.memory_bytes(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("90s", "00:01:30"), ("10m", "00:10:00"), ("1h30m0.5s", "01:30:01"), ("240h", "240:00:00"), ("1ns", "00:00:01")],
)
def test_times(text, shown):
    assert texts.clock(texts.seconds(text)) == shown


@pytest.mark.parametrize("text", ["", "10", "0s", "-1h", "tomorrow"])
def test_what_is_no_time(text):
    with pytest.raises(ConfigError, match="time = "):
        texts.seconds(text)


def test_a_warning_needs_a_limit():
    assert texts.warning(Resources(), 60) == []
    assert texts.warning(Resources(time="1m"), None) == []
    assert texts.warning(Resources(time="1m"), 90) == ["( sleep 1; kill -s USR2 $$ ) </dev/null >/dev/null 2>&1 &"]


def test_long_words_are_cut_at_their_beginning():
    assert texts.words("out", " \n") == "out"
    assert texts.words("", "") == "nothing"
    assert texts.words("", "x" * 3000 + "end").endswith("end")
