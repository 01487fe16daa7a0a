"""Whole runs whose data go there and back by every route; SeaweedFS is the object storage, this host each machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.s3 import s3_server  # noqa: F401 - a fixture

pytestmark = pytest.mark.rig

SCRIPT = """
import os
from pathlib import Path
from typing import List
from dflow_hpc import *

FIRST, SECOND = (os.environ.get(name) or None for name in ("FIRST", "SECOND"))

def seen(root):
    return [f"{path.relative_to(root)} {path.read_bytes()[:9]!r} {path.stat().st_size}" if path.is_file()
            else f"{path.relative_to(root)}/" for path in sorted(Path(root).rglob("*"))]

def tree(root):
    (root / "deep er" / "empty").mkdir(parents=True)
    (root / "deep er" / " a name's").write_text("text")
    (root / "nothing").write_text("")
    (root / "large").write_bytes(b"0123456789" * 30000)
    (root / "link").symlink_to("deep er/ a name's")
    return root

@OP.function
def make(n: int) -> {"packed": Artifact(Path), "loose": Artifact(Path, archive=None),
                     "one": Artifact(Path, archive=None), "maybe": Artifact(Path, optional=True),
                     "there": Artifact(Path, optional=True)}:
    Path("one file").write_bytes(b"abcdefghij" * 20000)
    return {"packed": tree(Path("packed")), "loose": tree(Path("loose")), "one": Path("one file"), "maybe": None,
            "there": Path("one file")}

@OP.function
def look(packed: Artifact(Path), loose: Artifact(Path), one: Artifact(Path), maybe: Artifact(Path, optional=True),
         there: Artifact(Path, optional=True), own: Artifact(Path, writable=True)) -> {"seen": dict}:
    (own / "large").write_text("changed")
    return {"seen": {"packed": seen(packed), "loose": seen(loose), "one": [one.name, one.stat().st_size],
            "maybe": str(maybe), "there": there.name, "own": seen(own)}}

@OP.function
def part(n: int) -> {"part": Artifact(Path)}:
    path = Path(f"part-{n}")
    path.write_text(str(n) * 100000)
    return {"part": path}

@OP.function
def join(parts: Artifact(List[Path])) -> {"joined": list}:
    return {"joined": [[path.name, path.stat().st_size] for path in parts]}

shell = ShellOPTemplate("shell", image="busybox", command=["sh"], script='''
mkdir -p "/tmp/out/a b" /tmp/out/hollow; head -c 100000 /dev/zero >"/tmp/out/a b/zeros"; echo small >/tmp/out/small
echo packed | gzip >/tmp/packed.gz; tar -czf /tmp/own.tgz -C /tmp/out small; printf one >/tmp/file
''')
for name, path in (("out", "/tmp/out"), ("gz", "/tmp/packed.gz"), ("own", "/tmp/own.tgz"), ("file", "/tmp/file")):
    shell.outputs.artifacts[name] = OutputArtifact(path=path, archive=None)
shell.outputs.artifacts["tree"] = OutputArtifact(path="/tmp/out")
shown = ShellOPTemplate("shown", image="busybox", command=["sh"], script='''
cd /tmp/in; for name in out tree; do (cd $name; find . -type f | sort | xargs -d '\\\\n' wc -c; ls) ; done >/tmp/said
zcat gz >>/tmp/said; tar -xzOf own >>/tmp/said; cat file >>/tmp/said
''')
for name in ("out", "gz", "own", "file", "tree"):
    shown.inputs.artifacts[name] = InputArtifact(path="/tmp/in/" + name)
shown.outputs.parameters["said"] = OutputParameter(value_from_path="/tmp/said")

wf = Workflow("routes", id="routes-1")
made = Step("make", PythonOPTemplate(make, image="python"), parameters={"n": 1}, executor=FIRST)
out = made.outputs.artifacts
wf.add(made)
wf.add(Step("look", PythonOPTemplate(look, image="python"), executor=SECOND, artifacts={
    **{name: out[name] for name in ("packed", "loose", "one", "maybe", "there")}, "own": out["packed"]}))
slices = Slices(input_parameter=["n"], output_artifact=["part"])
parts = Step("part", PythonOPTemplate(part, image="python", slices=slices), parameters={"n": [1, 2, 3]}, executor=FIRST)
wf.add(parts)
wf.add(Step("join", PythonOPTemplate(join, image="python"), artifacts={"parts": parts.outputs.artifacts["part"]},
            executor=SECOND))
one = Step("shell", shell, executor=FIRST)
wf.add(one)
wf.add(Step("shown", shown, executor=SECOND, artifacts={
    name: one.outputs.artifacts[name] for name in ("out", "gz", "own", "file", "tree")}))
wf.submit()
"""
PROFILES = """
[machine.first]
scheduler = "shell"
transport = "local"
root = "{path}/first"
[machine.first.waits]
fast = 0.2
again = 1
[machine.second]
extends = "first"
root = "{path}/second"
[machine.first-s3]
extends = "first"
staging = "s3"
[machine.second-s3]
extends = "second"
staging = "s3"
"""
TREE = ["deep er/", "deep er/ a name's b'text' 4", "deep er/empty/", "large b'012345678' 300000"]
TREE += ["link b'text' 4", "nothing b'' 0"]
SAID = ["6 ./small", "100006 total", "a b", "hollow", "small"]


class Project:
    def __init__(self, path, settings):
        self.path = path
        (path / "routes.py").write_text(SCRIPT)
        (path / "machines.toml").write_text(PROFILES.format(path=path))
        names = ("endpoint", "access_key", "secret_key", "bucket_name")
        self.env = {**os.environ, "XDG_STATE_HOME": str(path), "DFLOW_DEBUG_POOL_WORKERS": "2"}
        self.env |= {f"DFLOW_S3_{name.upper()}": settings[name] for name in names}
        self.env |= {"DFLOW_S3_PREFIX": f"{path.name}/"}
        self.secret = settings["secret_key"]

    def run(self, *words, **variables):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.path,
            env={**self.env, **variables},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return done.stdout + done.stderr

    def results(self):
        found = json.loads(self.run("-m", "dflow_hpc.cli.main", "get", "routes-1", "-o", "json"))["status"]
        nodes = {node["displayName"]: node for node in found["nodes"].values()}
        return found["phase"], nodes

    def bytes(self):
        found = [json.loads(path.read_text()) for path in Path(self.path, "routes-1/.machines").glob("*.bytes.json")]
        return {name: sum(each[name] for each in found) for name in found[0]} if found else {}


@pytest.fixture
def project(tmp_path, s3_server):  # noqa: F811
    return Project(tmp_path, s3_server)


def value(node):
    return node["outputs"]["parameters"][0]["value"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("first", "second"),
        ("first-s3", "second-s3"),
        ("first-s3", ""),
        ("", "second-s3"),
        ("first-s3", "second"),
        ("first", "second-s3"),
    ],
)
def test_all_that_an_artifact_can_be_goes_by_every_route(project, first, second):
    said = project.run("routes.py", FIRST=first, SECOND=second)
    phase, nodes = project.results()
    assert phase == "Succeeded", said
    seen = json.loads(value(nodes["look"]))
    assert (seen["packed"], seen["loose"]) == (TREE, TREE)
    assert (seen["one"], seen["maybe"], seen["there"]) == (["one file", 200000], "None", "one file")
    assert "large b'changed' 7" in seen["own"]
    assert json.loads(value(nodes["join"])) == [[f"part-{n}", 100000] for n in (1, 2, 3)]
    lines = [line.strip() for line in value(nodes["shown"]).split("\n")]
    whole = ["100000 ./a b/zeros", *SAID]
    assert lines == [*whole, *whole, "packed", "small", "one"]
    assert list(project.path.rglob("urls")) == []
    secret = project.env["DFLOW_S3_SECRET_KEY"].encode()
    held = [path for path in project.path.rglob("*") if path.is_file() and not path.is_symlink()]
    texts = [path for path in held if secret in path.read_bytes() or b"X-Amz-Signature" in path.read_bytes()]
    assert texts == []


DETACHED = """
import os
from dflow_hpc import *

names = [name for name in os.environ if name.startswith("DFLOW_S3_")]
set_s3_config(**{name[len("DFLOW_S3_"):].lower(): os.environ.pop(name) for name in names})
take = ShellOPTemplate("take", image="busybox", command=["sh"], script="wc -c /tmp/data/data")
take.inputs.artifacts["data"] = InputArtifact(path="/tmp/data")
wf = Workflow("detached", id="detached-1")
wf.add(Step("take", take, artifacts={"data": upload_artifact("data")}, executor="first-s3"))
config["detach"] = True
wf.submit()
wf.wait()
print(wf.query_status())
"""


def test_a_detached_run_knows_the_storage_that_its_program_named(project):
    (project.path / "data").write_bytes(os.urandom(3_000_000))  # less would go with the leaf
    said = project.run("-c", DETACHED)
    assert said.startswith("Succeeded\n"), said
    run = project.path / "detached-1"
    assert [path for path in run.rglob("*") if path.is_file() and project.secret.encode() in path.read_bytes()] == []
