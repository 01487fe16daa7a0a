"""Profiles of machines: layers, inheritance, and complaints that help."""

import pytest

from dflow_hpc.compile import Compiled
from dflow_hpc.config import user_config_dir
from dflow_hpc.engines.local.work import placement
from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles import placing
from dflow_hpc.executors.profiles.machine import Limits, Machines, Resources, Waits, machine_files, step_resources

CPU = """
[machine.cpu]
scheduler = "slurm"
host = "cpu-login"
setup = ["module load python/3.11"]
[machine.cpu.resources]
queue = "cpu"
memory = "256MB"
extra = ["--constraint=ib"]
[machine.cpu.limits]
max_jobs = 500
[machine.cpu.waits]
look_up = 30
fast = 0.5
"""


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DFLOW_MACHINES", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def machines(tmp_path):
    """Make ``Machines`` of texts, highest first."""

    def make(*texts):
        paths = [tmp_path / f"{number}.toml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return Machines(paths)

    return make


def test_a_profile_with_everything(machines):
    machine = machines(CPU).get("cpu")
    assert (machine.scheduler, machine.host, machine.setup) == ("slurm", "cpu-login", ("module load python/3.11",))
    assert machine.resources == Resources(queue="cpu", memory="256MB", extra=("--constraint=ib",))
    assert machine.limits == Limits(max_jobs=500)
    assert machine.waits == Waits(look_up=30, fast=0.5)


def test_extends_takes_values_over_and_merges_resources(machines):
    machine = machines(
        CPU + '[machine.gpu]\nextends = "cpu"\nhost = "gpu-login"\n[machine.gpu.resources]\ngpus = 4'
    ).get("gpu")
    assert (machine.name, machine.scheduler, machine.host) == ("gpu", "slurm", "gpu-login")
    assert (machine.resources.queue, machine.resources.gpus) == ("cpu", 4)


def test_a_higher_file_replaces_and_may_extend_its_own_name(machines):
    replaced = machines('[machine.cpu]\nscheduler = "shell"', CPU)
    assert replaced.get("cpu").host is None
    extended = machines('[machine.cpu]\nextends = "cpu"\nscheduler = "pbs"', CPU).get("cpu")
    assert (extended.scheduler, extended.host) == ("pbs", "cpu-login")


def test_files_in_their_order(tmp_path, monkeypatch):
    user = user_config_dir() / "machines.toml"
    user.parent.mkdir(parents=True)
    named = tmp_path / "named.toml"
    for path in (user, named, tmp_path / "machines.toml"):
        path.write_text("")
    monkeypatch.setenv("DFLOW_MACHINES", str(named))
    assert machine_files()[:3] == [named, tmp_path / "machines.toml", user]
    beside = tmp_path / "project" / "machines.toml"
    beside.parent.mkdir()
    beside.write_text("")
    assert machine_files(beside=beside.parent)[:4] == [named, beside, tmp_path / "machines.toml", user]
    monkeypatch.setenv("DFLOW_MACHINES", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"DFLOW_MACHINES names .* there is no file"):
        machine_files()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[machines.cpu]", "'machines' is no known key; known are machine"),
        ("[machine.cpu]\nhots = 'x'", "machine 'cpu': 'hots' is no known key; known are extends, host, "),
        ("[machine.cpu.resources]\ncpu = 1", "resources: 'cpu' is no known key; known are account, cpus, "),
        ("[machine.cpu.limits]\njobs = 1", "limits: 'jobs' is no known key; known are max_jobs"),
        ("[machine.cpu.waits]\ngrace = '5m'", "waits: grace must be a number of seconds; found '5m'"),
        ("[machine.cpu.resources]\ncpus = '4'", "resources: cpus must be a whole number; found '4'"),
        ("[machine.cpu.resources]\ncpus = true", "resources: cpus must be a whole number; found True"),
        ("[machine.cpu]\nsetup = 'module load x'", "setup must be a list of texts; found 'module load x'"),
        ("[machine.cpu]\nsetup = [1]", "setup must be a list of texts; found "),
        ("[machine.cpu]\nscheduler = 'lsf'", "scheduler = 'lsf'; known are pbs, shell, slurm, torque"),
        ("[machine.cpu]\ntransport = 'rsh'", "transport = 'rsh'; known are paramiko, openssh, local"),
        ("[machine]\ncpu = 1", "profiles are tables"),
        ("[machine.cpu]\nresources = 1", "a table was expected; found 1"),
        ("[machine.cpu", "were to be read"),
        ("[machine.cpu]\nextends = 'gpu'", "machine 'gpu' was extended by cpu .*; known are: cpu"),
        ("[machine.cpu]\nextends = 'cpu'", "cpu .* extends the profile of its own name in a lower file; none has one"),
        ("[machine.cpu]\nschedular = 'slurm'", "Did you mean 'scheduler'"),
        ("[machine.cpu.resources]\npartition = 'x'", "Did you mean 'queue'"),
        ("[machine.cpu.resources]\nmemory = '2 giga'", "machine 'cpu', resources: memory = '2 giga': a number with"),
        ("[machine.cpu.resources]\ntime = '1 hour'", "resources: time = '1 hour': a duration was expected"),
        ("[machine.cpu.resources]\ncpus = 0", "resources: cpus = 0: at least 1"),
        ("[machine.cpu]\nextends = 'b'\n[machine.b]\nextends = 'cpu'", "extend each other in a ring"),
        ("[machine.other]", "machine 'cpu' was asked for; known are: other .*Add a table \\[machine.cpu\\]"),
    ],
)
def test_mistakes_are_told_with_what_is_known(machines, text, message):
    with pytest.raises(ConfigError, match=message):
        machines(text).get("cpu")


def test_a_steps_wishes_override(machines):
    defaults = machines(CPU).get("cpu").resources
    assert step_resources(defaults, {"cpus": 4, "queue": "big"}, "step 'x'").cpus == 4
    with pytest.raises(ConfigError, match=r"step 'x', resources: 'core' is no known key"):
        step_resources(defaults, {"core": 4}, "step 'x'")


def placed(machine, resources="{}"):
    annotations = {"dflow-hpc/machine": machine, "dflow-hpc/resources": resources}
    return {"spec": {"templates": [{"name": "t", "metadata": {"annotations": annotations}}]}}


def profiles(manifest, beside=None):
    return placing.settle(Compiled(manifest), beside)[1]


def test_a_profile_without_host_and_transport_is_this_host_and_others_are_machines(tmp_path):
    text = CPU + "[machine.here]\n[machine.far]\nhost = 'x'\n[machine.jobs]\ntransport = 'local'\n"
    (tmp_path / "machines.toml").write_text(text)
    for name, machine in (("here", None), ("cpu", "cpu"), ("far", "far"), ("jobs", "jobs")):
        manifest = placed(name, '{"cpus": 2}')
        placement.keep(tmp_path, profiles(manifest))
        place = placement.Placements(4, tmp_path).of(manifest["spec"]["templates"][0])
        assert (place.machine and place.machine.name) == machine
        assert (place.resources.cpus, place.slots) == ((2, 1) if machine else (1, 2))
    with pytest.raises(ConfigError, match="machine 'none' was asked for"):
        profiles(placed("none"))
    with pytest.raises(ConfigError, match="template 't', resources: 'core' is no known key"):
        profiles(placed("here", '{"core": 2}'))


def test_profiles_lie_beside_the_script_and_stay_with_the_run(tmp_path):
    script = tmp_path / "project"
    script.mkdir()
    (script / "machines.toml").write_text('[machine.here]\nsetup = ["module load x"]')
    manifest = placed("here")
    placement.keep(tmp_path, profiles(manifest, script))
    [template] = manifest["spec"]["templates"]
    assert placement.Placements(2, tmp_path).of(template).setup == ("module load x",)
    with pytest.raises(ConfigError, match=r"without a profile of that name .*Submit it anew"):
        placement.Placements(2, script).of(template)


@pytest.mark.parametrize(("workers", "cpus", "slots"), [(4, 1, 1), (4, 3, 3), (2, 8, 2), (-1, 8, 8)])
def test_a_leaf_never_waits_for_more_workers_than_there_are(tmp_path, workers, cpus, slots):
    (tmp_path / "machines.toml").write_text("[machine.here]")
    manifest = placed("here", f'{{"cpus": {cpus}}}')
    placement.keep(tmp_path, profiles(manifest))
    assert placement.Placements(workers, tmp_path).of(manifest["spec"]["templates"][0]).slots == slots
