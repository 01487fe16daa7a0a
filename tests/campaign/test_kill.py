"""A short, seeded part of the kill campaign; ``kill.py`` beside it is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_run_survives_kill_9_of_its_engine_zygote_or_all(tmp_path):
    program = Path(__file__).with_name("kill.py")
    command = [sys.executable, str(program), "--seed", "7", "--kills", "5", "--scale", "4", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 kills: 0 problems" in done.stdout
