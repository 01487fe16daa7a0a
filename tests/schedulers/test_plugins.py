"""Schedulers of third parties: found by their entry points, small, and harmless where they are broken."""

from importlib import metadata
from pathlib import Path

import pytest

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors import schedulers
from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.executors.schedulers import Accepted, JobScript, Phase
from tests.schedulers import sge

POINTS = metadata.EntryPoints(
    [
        metadata.EntryPoint("sge", "tests.schedulers.sge:GridEngine", schedulers.GROUP),
        metadata.EntryPoint("slurm", "tests.schedulers.sge:GridEngine", schedulers.GROUP),
        metadata.EntryPoint("broken", "tests.schedulers.sge:Missing", schedulers.GROUP),
        metadata.EntryPoint("absent", "no_such_module:Scheduler", schedulers.GROUP),
        metadata.EntryPoint("hollow", "builtins:object", schedulers.GROUP),
    ]
)


@pytest.fixture
def plugins(monkeypatch):
    monkeypatch.setattr(schedulers, "entry_points", POINTS.select)


def test_a_broken_plugin_stops_nobody_else(plugins):
    assert schedulers.names() == ["absent", "broken", "hollow", "pbs", "sge", "shell", "slurm", "torque"]
    assert isinstance(schedulers.get("sge"), sge.GridEngine)
    assert not isinstance(schedulers.get("slurm"), sge.GridEngine)
    with pytest.raises(ConfigError, match=r"'broken' .* 'tests.schedulers.sge:Missing' does not load: AttributeError"):
        schedulers.get("broken")
    with pytest.raises(ConfigError, match=r"'absent' .* ModuleNotFoundError"):
        schedulers.get("absent")
    with pytest.raises(ConfigError, match=r"'hollow' .* has no job_name, script, .*read_description"):
        schedulers.get("hollow")


def test_an_unknown_name(plugins):
    with pytest.raises(ConfigError, match=r"'lsf' was asked for; known are absent, .* torque"):
        schedulers.get("lsf")


def test_a_third_partys_scheduler_is_small_and_works(plugins):
    assert len(Path(sge.__file__).read_text().splitlines()) < 150
    grid = schedulers.get("sge")
    job = JobScript("1a-1.s", "w/s", "/d", Resources(memory="2GB", time="1h", cpus=4), "exec ./member", members=3)
    script = grid.script(job)
    assert "#$ -t 1-3\n" in script
    assert "#$ -l h_vmem=2G\n#$ -l h_rt=01:00:00\n" in script
    assert grid.submitted(0, "17.1-3:1\n", "") == Accepted("17")
    table = """job-ID  prior   name       user         state submit/start at     queue      slots ja-task-ID
------------------------------------------------------------------------------------------
     17 0.55500 j1a-1.s    me           r     11/24/2026 22:57:04 all.q@n1     4 1
     17 0.55500 j1a-1.s    me           qw    11/24/2026 22:57:04              4 2
"""
    states = grid.read_queue(0, table, "")
    assert [(state.id, state.phase, state.known) for state in states] == [
        ("17.0", Phase.RUNNING, True),
        ("17.1", Phase.PENDING, True),
    ]
