"""The flagship, in its smallest size, on two real clusters by options alone, with its data through a real S3."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from dflow_hpc.executors.broker.records import fold
from dflow_hpc.executors.journal import Reader
from tests.examples.test_active_learning import EXAMPLE, TINY
from tests.rig.s3 import s3_server  # noqa: F401 - a fixture

pytestmark = pytest.mark.rig

PROFILES = """
[machine.xeon]
scheduler = "slurm"
host = "cpu"
ssh_config = "{ssh_config}"
root = "{root}/flagship"
staging = "s3"
setup = ["export PYTHONPATH={root}/python OMP_NUM_THREADS=1"]
[machine.xeon.resources]
queue = "cpu"
memory = "400MB"
time = "10m"
[machine.a100]
extends = "xeon"
host = "gpu"
[machine.a100.resources]
queue = "gpu"
"""
PLACES = {"train*": "a100", "label*": "xeon", "explore": "xeon", "hold-out": "xeon"}


def test_training_on_one_and_labelling_on_the_other(tmp_path, prepared, s3_server):  # noqa: F811
    cpu = prepared["cpu"]
    project = shutil.copytree(EXAMPLE, tmp_path / "study")
    (project / "tiny.py").write_text(TINY.format(example=str(project), iterations=2))
    (tmp_path / "machines.toml").write_text(PROFILES.format(ssh_config=cpu.ssh_config, root=cpu.root))
    env = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "OMP_NUM_THREADS": "1"}
    env |= {"DFLOW_MACHINES": str(tmp_path / "machines.toml"), "DFLOW_S3_PREFIX": f"{tmp_path.name}/"}
    env |= {
        f"DFLOW_S3_{name.upper()}": str(s3_server[name])
        for name in ("endpoint", "access_key", "secret_key", "bucket_name")
    }
    options = [word for step, machine in PLACES.items() for word in ("--machine", f"{step}={machine}")]
    done = subprocess.run(
        [sys.executable, "-m", "dflow_hpc.cli.main", "run", "-o", "json", "tiny.py", *options],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    status = json.loads(done.stdout[done.stdout.index("{") :])["status"]
    assert status["phase"] == "Succeeded"
    [run] = [path.parent for path in project.glob("*/journal.jsonl")]
    went = {path.name.partition("-")[0]: json.loads(path.read_text()) for path in run.glob(".machines/*.bytes.json")}
    assert set(went) == {"cpu", "gpu"}
    leaves = {path.name.partition("-")[0]: fold(Reader(path).read()).leaves for path in run.glob(".machines/*.jsonl")}
    assert {name: len(found) for name, found in leaves.items()} == {"gpu": 8, "cpu": 10}  # two trainings of two twice
    for each in went.values():
        # What the steps gave went from there to the storage, and nothing from here. That the link brings none of it is
        # shown by larger data, in test_exchange.py: here the schedulers' answers, as many as the clock asks for, count.
        assert each["url_back"] > 4000 * 8
        assert each["uploaded"] == 0
    for name in ("xeon", "a100"):
        assert f"machine {name}: 1 login, " in done.stderr
