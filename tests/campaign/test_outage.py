"""Ten minutes without a machine, in real time: most of half an hour, and no work for this host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rig.fixtures import HELD

pytestmark = pytest.mark.campaign


def test_ten_minutes_without_a_machine_cost_ten_minutes(tmp_path, slurm_faults):
    command = [sys.executable, str(Path(__file__).with_name("outage.py")), "--keep", str(tmp_path)]
    environment = {**os.environ, HELD: "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False, env=environment)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("problems: none") == 3
