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


PACKED = """
from dflow_hpc import *

count = ShellOPTemplate("count", image="busybox", command=["sh"], script='''
echo {{inputs.parameters.n}} >> $HOME/ledger
sleep 25
''')
count.inputs.parameters["n"] = InputParameter()
wf = Workflow("packed", id="packed-1")
wf.add(Step("count", count, parameters={"n": "{{item}}"}, with_param=[0, 1, 2, 3], executor=MachineExecutor(
    "cpu", time="1m", pack=4)))
wf.submit()
"""


def test_a_pack_whose_time_is_over_goes_on_with_what_it_had_not_finished(tmp_path, slurm_rig):
    cpu = slurm_rig["cpu"]
    cpu.ok("rm -f ledger")
    (tmp_path / "machines.toml").write_text(PROFILES.format(**vars(cpu)))
    (tmp_path / "packed.py").write_text(PACKED)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "packed.py"], cwd=tmp_path, env=env, timeout=900, check=False, **pipes)
    assert "packed-1: Succeeded" in done.stdout, done.stdout
    assert "ended with PREEMPTED" in done.stdout
    starts = cpu.ok("cat ledger").split()
    assert starts.count(starts[0]) == 1  # it had finished; which one comes first depends on who was ready first
    assert set(starts) == {"0", "1", "2", "3"}
