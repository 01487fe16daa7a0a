"""Planted secrets of every kind, on real clusters: they reach the programs, and nothing else that anybody can read.

While the run goes on, the argument lists of all processes are sampled, here and on the clusters' hosts (whose processes
this host sees). Afterwards everything that was written is searched: the run, the machines' file systems with the
scheduler's own state and logs, and what its tools print.
"""

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dflow_hpc.engines.local.rundir import RunDir

pytestmark = pytest.mark.rig

KINDS = ("shell", "python", "login", "s3-key", "s3-secret", "password")
OPS = """
from dflow_hpc import OP

@OP.function
def hush(n: int) -> {"m": int}:
    import hashlib, os
    assert hashlib.sha256(os.environ["TOKEN"].encode()).hexdigest() == PYTHON_HASH
    return {"m": n}
"""
PROGRAM = """
import os
from dflow_hpc import *
from ops import hush
from dflow_hpc.compat.executors import SlurmRemoteExecutor

far = SlurmRemoteExecutor(
    "127.0.0.1", PORT, "hpc", password=os.environ.pop("GIVEN_LOGIN"), private_key_file=KEY,
    header="#SBATCH --partition=gpu\\n#SBATCH --mem=100M",
)
shell = Secret(os.environ.pop("GIVEN_SHELL"))
check = 'test "$(printf %s "$TOKEN" | sha256sum | cut -c1-64)" = SHELL_HASH\\n'
told = ShellOPTemplate("told", image="busybox", command=["sh"], script=check + "sleep 2", envs={"TOKEN": shell})
killed = ShellOPTemplate("killed", image="busybox", command=["sh"], envs={"TOKEN": shell},
                         script=check + "case $DFH_TOKEN in *-1) kill -9 $PPID; sleep 9;; esac")
python = PythonOPTemplate(hush, image="python:3.11", envs={"TOKEN": Secret(os.environ.pop("GIVEN_PYTHON"))})
wf = Workflow("hushed", id="hushed-1")
wf.add([
    Step("told", told, executor="cpu"),
    Step("killed", killed, executor="cpu"),
    Step("python", python, parameters={"n": 1}, executor=far),
])
wf.submit()
print(wf.query_status())
"""
PROFILE = """
[machine.cpu]
scheduler = "slurm"
host = "cpu"
ssh_config = "{ssh_config}"
root = "{root}/hushed"
resources = {{queue = "cpu", memory = "100MB", time = "5m"}}
waits = {{grace = 4, fast = 1, again = 2}}
"""
TOOLS = (
    "squeue -h -t all -o '%all'",
    "scontrol show job -dd",
    "sacct -P -S now-1hour -o ALL || true",
    "squeue -h -t all -r -o %i | while read -r job; do scontrol write batch_script $job - || true; done",
)


class Sampler(threading.Thread):
    """Reads all argument lists that it can see, over and over."""

    def __init__(self):
        super().__init__()
        self.stopped = threading.Event()
        self.seen = set()

    def run(self):
        while not self.stopped.wait(0.03):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(process.read_bytes())
                except OSError:  # it has ended
                    continue

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()


def holding(value, directory):
    """Return the files below a directory in which a value stands, or whose names hold it."""
    found = [path for path in directory.rglob("*") if value in str(path)]
    for path in directory.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink() and value.encode() in path.read_bytes():
                found.append(path)
        except OSError:  # a spool of the scheduler, gone meanwhile
            continue
    return found


def test_planted_secrets_reach_the_programs_and_nothing_else(tmp_path, slurm_faults):
    planted = {kind: f"planted-{secrets.token_hex(12)}" for kind in KINDS}
    cpu, gpu = slurm_faults["cpu"], slurm_faults["gpu"]
    project, settings = tmp_path / "project", tmp_path / "config" / "dflow-hpc"
    project.mkdir()
    settings.mkdir(parents=True)
    shutil.copy(gpu.known_hosts, settings / "known_hosts")
    (project / "machines.toml").write_text(PROFILE.format(ssh_config=cpu.ssh_config, root=cpu.root))
    hashes = {kind: hashlib.sha256(planted[kind].encode()).hexdigest() for kind in ("python", "shell")}
    (project / "ops.py").write_text(OPS.replace("PYTHON_HASH", repr(hashes["python"])))
    text = PROGRAM.replace("PORT", str(gpu.port)).replace("KEY", repr(str(gpu.key)))
    (project / "hushed.py").write_text(text.replace("SHELL_HASH", hashes["shell"]))
    environment = {
        **os.environ,
        **{f"GIVEN_{kind.upper()}": planted[kind] for kind in ("shell", "python", "login")},
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "DFLOW_S3_ACCESS_KEY": planted["s3-key"],
        "DFLOW_S3_SECRET_KEY": planted["s3-secret"],
        "DATABASE_PASSWORD": planted["password"],
    }
    for cluster in (cpu, gpu):
        cluster.ctl("slow", "0.5")  # so that the sampler sees each command of Slurm
    with Sampler() as sampler:
        done = subprocess.run(
            [sys.executable, "hushed.py"],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    said = done.stdout + done.stderr
    assert "Succeeded" in done.stdout, said
    assert "ended with LOST" in said  # the one that was killed, and left no chance to clean up
    # What was searched is what there is: the jobs' own processes were seen, and the run has its files.
    assert any(b"member.sh" in words for words in sampler.seen)
    for tool in ("sbatch", "squeue", "sacct"):
        assert any(f"/{tool}\0".encode() in words for words in sampler.seen), tool
    run = RunDir(project / "hushed-1")
    assert run.workflow_file.exists()
    assert list(run.path.glob(".machines/*.jsonl"))
    printed = [cluster.ok(tool) for cluster in (cpu, gpu) for tool in TOOLS]
    assert any("member.sh" in text for text in printed)
    room = cpu.root_here.parents[2]
    assert holding(hashes["shell"], room)  # the program itself
    for kind, value in planted.items():
        assert [words for words in sampler.seen if value.encode() in words] == [], kind
        assert value not in said, kind
        assert [text for text in printed if value in text] == [], kind
        assert holding(value, tmp_path) == [], kind
        assert holding(value, room) == [], kind
    key = gpu.key.read_text().splitlines()[2]
    assert [path for path in holding(key, tmp_path) + holding(key, room) if path != gpu.key] == []
