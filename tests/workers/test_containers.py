"""Container leaves with a stand-in for Podman: what it is asked for, and that its mounts are the leaf's directories."""

import os
import sys

import pytest

FAKE = f"""#!{sys.executable} -S
import os, sys
words = sys.argv[1:]
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(" ".join(words[:2]) + "\\n")
if words[0] == "rm":
    sys.exit(0)
places = {{}}
while words:
    word = words.pop(0)
    if word == "--volume":
        source, target = words.pop(0).split(":")
        places[target] = source
    elif word == "--entrypoint":
        program = words.pop(0)
    elif word in ("--name", "--env", "--security-opt", "--workdir"):
        words.pop(0)
    elif word == "the-image":
        break
import re
def here(text):
    known = "|".join(sorted(places, key=len, reverse=True))
    return re.sub(f"(?<![^ ])({{known}})", lambda match: places[match[0]], text)
[script] = words
text = here(open(here(script)).read())
os.execvp(program, [program, "-c", text])
"""


@pytest.fixture
def podman(tmp_path, monkeypatch):
    directory = tmp_path / "bin"
    directory.mkdir()
    fake = directory / "podman"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    log = tmp_path / "asked"
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_LOG", str(log))
    return lambda: log.read_text().split("\n")[:-1]


def test_a_container_sees_its_leafs_directories(kit, podman):
    raw = {"name": "r", "path": "/in/raw", "raw": {"data": "given"}}
    outputs = {"artifacts": [{"name": "o", "path": "/out/o"}]}
    template = kit.script("cat /in/raw > /out/o; echo $A > /tmp/x; cat /tmp/x; echo why > /dev/termination-log; exit 3")
    template["script"] |= {"image": "the-image", "env": [{"name": "A", "value": "value"}]}
    template |= {"inputs": {"artifacts": [raw]}, "outputs": outputs}
    request = kit.request(template, artifacts=[raw], result=True)
    [outcome] = kit.run(request, runtime="podman")
    assert (outcome.message, outcome.outputs["result"]) == ("main: Error (exit code 3): why", "value"), kit.log(request)
    assert (kit.run_dir / "store" / "run-step-1" / "o.tgz").read_text() == "given"
    assert podman() == ["rm --force", "run --rm", "rm --force"]


def test_an_output_in_the_root_of_a_container_is_refused(kit, podman):
    template = kit.script("true", outputs={"artifacts": [{"name": "o", "path": "/o"}]})
    [outcome] = kit.run(kit.request(template), runtime="podman")
    assert outcome.phase == "Error" and "the output /o lies directly in the container's root" in outcome.message


def test_a_runtime_that_is_not_installed(kit, monkeypatch):
    monkeypatch.setenv("PATH", str(kit.run_dir))
    [outcome] = kit.run(kit.request(kit.script("true")), runtime="apptainer")
    assert 'exec: "apptainer": executable file not found in $PATH' in outcome.message
