"""Many pods on one virtual node, and kills of all that it rests on: half an hour together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rig.fixtures import HELD

pytestmark = pytest.mark.campaign


def campaign(directory, *words):
    command = [sys.executable, str(Path(__file__).with_name("node.py")), *words, "--keep", str(directory)]
    environment = {**os.environ, HELD: "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False, env=environment)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 problems\n")


def test_five_hundred_pods_at_once(tmp_path, slurm_faults, kube_faults):
    campaign(tmp_path, "load", "--pods", "500")


def test_a_hundred_kills_lose_nothing(tmp_path, slurm_faults, kube_faults):
    campaign(tmp_path, "kills", "--kills", "100", "--seed", os.environ.get("DFLOW_SEED", "1"))
