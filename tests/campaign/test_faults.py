"""The fault campaign on the real clusters: a short part of it in `--all`, the whole of it in `--campaign`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rig.fixtures import HELD

PROGRAM = Path(__file__).with_name("faults.py")


@pytest.mark.parametrize(
    "points", [pytest.param(8, marks=pytest.mark.rig), pytest.param(200, marks=pytest.mark.campaign)]
)
def test_runs_that_are_disturbed_end_as_an_undisturbed_one(tmp_path, slurm_faults, points):
    seed = os.environ.get("DFLOW_SEED", "1")
    command = [sys.executable, str(PROGRAM), "--seed", seed, "--points", str(points), "--keep", str(tmp_path)]
    environment = {**os.environ, HELD: "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=6000, check=False, env=environment)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{points} points: 0 problems" in done.stdout
