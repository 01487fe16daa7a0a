"""Planted secrets of every kind, on real clusters: they reach the programs, and nothing else that anybody can read.

While the run goes on, the argument lists of all processes are sampled, here and on the clusters' hosts (whose processes
this host sees). Afterwards everything that was written is searched: the run, the machines' file systems with the
scheduler's own state and logs, and what its tools print.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import threading
from pathlib import Path

import pytest

from dflow_hpc.engines.local.rundir import RunDir
from tests.rig.s3 import environment, s3_server  # noqa: F401 - a fixture
from tests.scripts import run_python

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
            self.look()

    def look(self):
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


def texts(directory):
    """Give the plain files below a directory and what they hold, of those that do not go meanwhile."""
    for place, _, names in os.walk(directory):
        for path in (Path(place) / name for name in names):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    yield path, path.read_bytes()


def holding(values, *directories):
    """Return which of the values (texts or patterns, by kind) stand in files below directories or in their names."""
    patterns = {
        kind: value if isinstance(value, re.Pattern) else re.compile(re.escape(value.encode()))
        for kind, value in values.items()
    }
    found = []
    for path, text in (each for directory in directories for each in texts(directory)):
        found += [(kind, path) for kind, pattern in patterns.items() if pattern.search(text + bytes(path))]
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
    variables = {
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
        done = run_python("hushed.py", cwd=project, **variables)
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
    sites = [cluster.root_here.parents[1] for cluster in (cpu, gpu)]  # what each cluster's hosts have of their own
    for kind, value in planted.items():
        assert [words for words in sampler.seen if value.encode() in words] == [], kind
        assert value not in said, kind
        assert [text for text in printed if value in text] == [], kind
    key = gpu.key.read_text().splitlines()[2]
    found = holding({"program": hashes["shell"], "key": key, **planted}, tmp_path, *sites)
    assert any(kind == "program" for kind, path in found)  # the program itself lies where this searches
    assert [(kind, path) for kind, path in found if kind != "program" and path != gpu.key] == []


SIGNED = '''
from dflow_hpc import *

make = ShellOPTemplate("make", image="busybox", command=["sh"], script="""
case $DFH_TOKEN in *-1) [ {{inputs.parameters.n}} = 0 ] || { sleep 2; kill -9 $PPID; sleep 9; } ;; esac
sleep 2; mkdir /tmp/loose; echo packed >/tmp/packed; echo loose >/tmp/loose/file""")
make.inputs.parameters["n"] = InputParameter()
make.outputs.artifacts["packed"] = OutputArtifact(path="/tmp/packed")
make.outputs.artifacts["loose"] = OutputArtifact(path="/tmp/loose", archive=None)
take = ShellOPTemplate("take", image="busybox", command=["sh"], script="sleep 2; grep packed /tmp/packed")
take.inputs.artifacts["packed"] = InputArtifact(path="/tmp/packed")
wf = Workflow("signed", id="signed-1")
made = Step("make", make, parameters={"n": 0}, executor="cpu")
wf.add([made, Step("killed", make, parameters={"n": 1}, executor="cpu")])
wf.add(Step("take", take, artifacts={"packed": made.outputs.artifacts["packed"]}, executor="cpu"))
wf.submit()
print(wf.query_status())
'''
SIGNATURE = re.compile(rb"X-Amz-Signature\W+([0-9a-f]{64})", re.IGNORECASE)
SIGNING = re.compile(rb"X-Amz-(?:Signature|Credential)", re.IGNORECASE)


class Addresses(Sampler):
    """Looks as well, over and over, where signed addresses stand below a machine's root."""

    def __init__(self, root):
        super().__init__()
        self.root = root
        self.files, self.signatures = {}, set()

    def look(self):
        super().look()
        for path, text in texts(self.root):
            if SIGNING.search(text):
                self.signatures.update(SIGNATURE.findall(text))
                with contextlib.suppress(OSError):  # the leaf has ended
                    self.files[path.name] = self.files.get(path.name, 0) | path.stat().st_mode & 0o777


def test_signed_addresses_stand_in_the_leaf_s_file_alone(tmp_path, slurm_faults, s3_server):  # noqa: F811
    cpu = slurm_faults["cpu"]
    profile = cpu.profile(root=f"{cpu.root}/signed", more='staging = "s3"', waits="grace = 4\nfast = 1\nagain = 2")
    (tmp_path / "machines.toml").write_text(profile)
    (tmp_path / "signed.py").write_text(SIGNED)
    variables = {**environment(s3_server), "DFLOW_S3_PREFIX": f"{tmp_path.name}/", "XDG_STATE_HOME": str(tmp_path)}
    with Addresses(cpu.root_here / "signed") as sampler:
        done = run_python("signed.py", cwd=tmp_path, **variables)
    said = done.stdout + done.stderr
    assert "Succeeded" in done.stdout, said
    assert "ended with LOST" in said
    # A get, two kinds of put; what lies there while a job lives is for its user alone.
    assert len(sampler.signatures) >= 3
    assert {(name.partition(".")[0], oct(mode)) for name, mode in sampler.files.items()} == {("urls", "0o600")}
    assert [words for words in sampler.seen if SIGNING.search(words)] == []
    assert any(b"curl" in words for words in sampler.seen)
    everywhere = said + "".join(cpu.ok(tool) for tool in TOOLS)
    everywhere += "".join(words.decode(errors="replace") for words in sampler.seen)
    assert [each for each in sampler.signatures if each.decode() in everywhere] == []
    never = {"address": SIGNATURE, "key": s3_server["secret_key"]}
    assert holding(never, tmp_path, cpu.root_here.parents[1]) == []
