"""Leaves in containers: Charliecloud really; what a container sees, what it leaves, what is said when there is none."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from dflow_hpc.executors.runtimes import Runtime
from tests.rig import image

pytestmark = pytest.mark.skipif(shutil.which("ch-run") is None, reason="needs ch-run (Debian: charliecloud)")


@pytest.fixture(scope="session")
def py38(tmp_path_factory):
    """An image with Python 3.8, which nothing may change."""
    made = image.build(tmp_path_factory.mktemp("images") / "py38")
    if made is None:
        pytest.skip("needs busybox and a Python 3.8 of pyenv to make an image of")
    before = sorted(made.rglob("*"))
    yield made
    assert sorted(made.rglob("*")) == before


@pytest.fixture
def charlie(machine, py38):
    machine.runtime = Runtime("charliecloud", {"python:*": str(py38)})
    return machine


def contained(machine, script, *, mounts=(), token="k-1", **more):
    """Return the program of a script in an image; `mounts` by path: a directory of the leaf."""
    here = machine.here / token
    for name in dict(mounts).values():
        (here / name).mkdir(parents=True, exist_ok=True)
    found = [(str(here / name), path) for path, name in sorted(dict(mounts).items())]
    fields = {"image": "python:3.8", "command": ["sh", "-c"], "args": [script], "mounts": found, "directory": None}
    return {**fields, "env": {}, "outputs": [], **more}


def test_a_script_sees_its_paths_its_variables_and_nothing_of_the_host(charlie, monkeypatch):
    monkeypatch.setenv("OF_THE_HOST", "1")
    script = (
        "cat /etc/image; env | grep -v SHLVL | sort; cat /data/deep/in/f > /data/deep/out/f; touch /usr/local/new/x; "
        "ls /usr/local; id -u; pwd; echo private > /tmp/private; touch /anywhere; touch /etc/no; exit 3"
    )
    mounts = {
        "/data/deep/in": "root/in",
        "/data/deep/out": "root/out",
        "/usr/local/new": "root/new",
        "/tmp": "root/tmp",
    }
    program = contained(
        charlie,
        script,
        mounts=mounts,
        env={"A": "it's $x\nline 2", "PATH": "/bin"},
        outputs=["root/out", "root/new/x", "root/tmp/private"],
        result=True,
        directory="/work/here",
    )
    (charlie.here / "k-1/root/in/f").write_text("given")
    charlie.submit("b", {"k-1": program}, setup=["export OF_SETUP=1"])
    (marker,) = charlie.wait("k-1")
    here = charlie.here / "k-1"
    assert (marker["rc"], marker["stage"]) == (3, "main"), (here / "log.txt").read_text()
    assert (here / "result").read_text().splitlines() == [
        *("an image with Python 3.8", "A=it's $x", "CH_RUNNING=Weird Al Yankovic", "HOME=/tmp", "PATH=/bin"),
        *("PWD=/work/here", "line 2", "bin", "lib", "new", str(os.getuid()), "/work/here"),
    ]
    assert (here / "root/out/f").read_text() == "given"
    assert (here / "root/tmp/private").read_text() == "private\n"
    assert (here / "root/new/x").exists()
    assert "/etc/no: Read-only file system" in (here / "log.txt").read_text()


def until(condition):
    while not condition():
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGUSR2, "warned"), (signal.SIGTERM, "asked")])
def test_signals_reach_the_program_in_the_container(charlie, number, expected):
    script = (
        "trap 'echo warned >/out/said' USR2; trap 'echo asked >/out/said' TERM; touch /out/ready; "
        "while [ ! -e /out/said ]; do sleep 0.02; done; exit 9"
    )
    program = contained(charlie, script, mounts={"/out": "root/out"}, outputs=["root/out/said"])
    charlie.submit("b", {"k-1": program})
    leaf = charlie.root / "k" / "attempt.1"
    until((leaf / "root/out/ready").exists)
    os.kill(parent_of_leaf(leaf), number)
    (marker,) = charlie.wait("k-1")
    assert (charlie.here / "k-1/root/out/said").read_text() == f"{expected}\n"
    assert (marker["rc"], marker["stage"], marker["signal"]) == (9, "main", 15 if number is signal.SIGTERM else 0)


def parent_of_leaf(leaf):
    """Return the pid of member.sh: the job's process, which the scheduler signals."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if any(word.endswith(b"/member.sh") for word in words) and (entry / "cwd").readlink() == leaf:
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError("no job runs this leaf")


def test_what_is_wrong_before_the_program_starts_is_told_as_what_it_is(charlie, py38):
    def told(token, program, **options):
        charlie.submit(f"batch-{token}", {token: program}, **options)
        (marker,) = charlie.wait(token)
        assert marker["stage"] == "in", marker
        return marker["text"]

    assert "the image alpine is no directory" in told("a-1", contained(charlie, "true", image="alpine"))
    assert "there is no ch-run" in told("b-1", contained(charlie, "true"), setup=["PATH=/nowhere:${PATH%%:/usr/bin*}"])
    program = contained(charlie, "true", command=["/no/such"], args=[])
    text = told("c-1", program)
    assert f"ch-run could not run the image {py38} (rc 1): ch-run[" in text and "/no/such" in text
    charlie.runtime = Runtime("charliecloud", {"*": "/no/image"})
    assert "there is no image /no/image on" in told("d-1", contained(charlie, "true"))


def test_a_node_without_user_namespaces_is_told(charlie):
    # A namespace in which no further one may be made: the kernel itself refuses.
    inside = "echo 0 >/proc/sys/user/max_user_namespaces; exec sh ./leaf.sh"
    limit = f'test -n "${{LIMITED-}}" || {{ export LIMITED=1; exec unshare -r sh -c "{inside}"; }}'
    charlie.submit("b", {"k-1": contained(charlie, "true")}, setup=[limit])
    (marker,) = charlie.wait("k-1")
    assert (marker["stage"], "gives no user namespaces" in marker["text"]) == ("in", True), marker


def test_a_program_that_ends_like_the_runtime_is_still_a_program(charlie):
    charlie.submit("b", {"k-1": contained(charlie, "echo mine >&2; exit 1")})
    (marker,) = charlie.wait("k-1")
    assert (marker["rc"], marker["stage"], marker["text"]) == (1, "main", "")
