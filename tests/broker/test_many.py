"""Two hundred leaves on a real Slurm cluster: how often it is logged in to and asked.

No times: the machine has other work.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker.test_slurm import PROFILES

pytestmark = pytest.mark.rig
PROGRAM = Path(__file__).parents[2] / "bench" / "workloads" / "machines_ours.py"


@pytest.mark.parametrize("kind", ["shell", "op"])
def test_two_hundred_leaves_cost_one_login_and_few_commands(tmp_path, slurm_rig, kind):
    (tmp_path / "machines.toml").write_text(PROFILES.format(**vars(slurm_rig["cpu"])))
    words = [sys.executable, PROGRAM, kind, "200", "0", "cpu"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=env, timeout=600, check=False, **pipes)
    assert done.returncode == 0, done.stdout
    logins, commands = map(int, re.search(r"machine cpu: (\d+) logins?, (\d+) commands", done.stdout).groups())
    assert logins == 1
    assert commands <= 20, done.stdout
