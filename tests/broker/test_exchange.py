"""Two real clusters exchange data through a real object storage: nothing of it goes through the submitting host."""

import json
import os
import subprocess
import sys

import pytest

from tests.rig.s3 import s3_server  # noqa: F401 - a fixture

pytestmark = pytest.mark.rig

SIZE = 50_000_000
SCRIPT = """
import hashlib
from pathlib import Path
from dflow_hpc import *

train = ShellOPTemplate("train", image="busybox", command=["sh"], script='''
head -c SIZE /dev/urandom >/tmp/model; sha256sum /tmp/model | cut -c1-64 >/tmp/sum
'''.replace("SIZE", "SIZE_HERE"))
train.outputs.artifacts["model"] = OutputArtifact(path="/tmp/model")
train.outputs.parameters["sum"] = OutputParameter(value_from_path="/tmp/sum")
label = ShellOPTemplate("label", image="busybox", command=["sh"], script='''
wc -c </tmp/model >/tmp/size; sha256sum /tmp/model | cut -c1-64 >/tmp/sum
''')
label.inputs.artifacts["model"] = InputArtifact(path="/tmp/model")
label.inputs.parameters["n"] = InputParameter()
for name in ("size", "sum"):
    label.outputs.parameters[name] = OutputParameter(value_from_path="/tmp/" + name)

wf = Workflow("exchange", id="exchange-1")
one = Step("train", train, executor="gpu")
wf.add(one)
wf.add(Step("label", label, parameters={"n": "{{item}}"}, with_param=[0, 1, 2],
            artifacts={"model": one.outputs.artifacts["model"]}, executor="cpu"))
wf.submit()
"""
PROFILES = """
[machine.cpu]
scheduler = "slurm"
host = "cpu"
ssh_config = "{ssh_config}"
root = "{root}/exchange"
staging = "s3"
[machine.cpu.resources]
queue = "cpu"
memory = "100MB"
time = "5m"
[machine.gpu]
extends = "cpu"
host = "gpu"
[machine.gpu.resources]
queue = "gpu"
"""


def test_fifty_megabytes_go_from_cluster_to_cluster_and_not_through_here(tmp_path, slurm_rig, s3_server):  # noqa: F811
    cpu = slurm_rig["cpu"]
    (tmp_path / "exchange.py").write_text(SCRIPT.replace("SIZE_HERE", str(SIZE)))
    (tmp_path / "machines.toml").write_text(PROFILES.format(ssh_config=cpu.ssh_config, root=cpu.root))
    names = ("endpoint", "access_key", "secret_key", "bucket_name")
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "DFLOW_S3_PREFIX": f"{tmp_path.name}/"}
    env |= {f"DFLOW_S3_{name.upper()}": s3_server[name] for name in names}

    def run(*words):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, timeout=240, check=False, **pipes).stdout

    said = run("exchange.py")
    found = json.loads(run("-m", "dflow_hpc.cli.main", "get", "exchange-1", "-o", "json"))["status"]
    assert found["phase"] == "Succeeded", said
    outputs = {}
    for node in found["nodes"].values():
        if node["type"] == "Pod":
            outputs[node["displayName"]] = {
                item["name"]: item["value"] for item in node["outputs"].get("parameters") or []
            }
    sums = {values["sum"] for values in outputs.values()}
    assert len(sums) == 1
    assert [values["size"] for values in outputs.values() if "size" in values] == [str(SIZE)] * 3
    went = {}
    for path in (tmp_path / "exchange-1" / ".machines").glob("*.bytes.json"):
        went[path.name.partition("-")[0]] = json.loads(path.read_text())
    for each in went.values():
        assert each["link_there"] + each["link_back"] < 1_000_000
        assert each["uploaded"] == 0
    assert went["gpu"]["url_back"] > SIZE
    assert SIZE < went["cpu"]["url_there"] < 2 * SIZE  # three jobs, one pull
    assert went["cpu"]["cached"] > 2 * SIZE
    here = sum(path.stat().st_size for path in (tmp_path / "exchange-1").rglob("*") if path.is_file())
    assert here < 10_000_000
    secret = s3_server["secret_key"]
    for cluster in slurm_rig.values():
        held = cluster.ok(f"grep -rlE 'X-Amz-Signature|x-amz-signature|{secret}' {cluster.root}/exchange || true")
        assert [line for line in held.splitlines() if "/bin/" not in line] == []
    print(said)
