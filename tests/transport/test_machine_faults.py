"""`machine check` on real Slurm clusters: every fault of a profile or a machine that users meet, before a run.

Each is one screen that ends with what is wrong and the way out; nothing is submitted after it, no job stays behind.
"""

import os
import re
import shutil
import stat

import pytest

from dflow_hpc.cli.main import main
from tests.rig import image
from tests.rig.fixtures import run_ctl
from tests.rig.s3 import environment, s3_server  # noqa: F401 - a fixture
from tests.scripts import run_python

pytestmark = pytest.mark.rig


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Return a function that checks a profile on a cluster: its keys and resources in, exit code and screen out."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def call(there, text="", *words, resources="", root=None, **keys):
        given = {"scheduler": "slurm", "host": there.name, "ssh_config": str(there.ssh_config)}
        given |= {"root": root or f"{there.root}/check {os.getpid()}", **keys}
        lines = [f'{key} = "{value}"' for key, value in given.items()]
        profile = "\n".join(["[machine.m]", *lines, text, "[machine.m.resources]", f'queue = "{there.name}"'])
        limits = [] if "memory" in resources else ['memory = "64MB"']
        limits += [] if "time" in resources else ['time = "5m"']
        (tmp_path / "machines.toml").write_text("\n".join([profile, *limits, resources]) + "\n")
        code = main(["machine", "check", "m", *words])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def bad(answer):
    """Return the last thing that was said, which must be what is wrong and fit on a screen."""
    code, text = answer
    assert code == 1, text
    assert len(text.splitlines()) < 24
    return text[text.index("BAD ") :]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ('account = "nobody"', ["account", "Look at queue, account", '#SBATCH --account="nobody"']),
        ('qos = "nosuch"', ["qos", '#SBATCH --qos="nosuch"']),
        ('memory = "900GB"', ["memory", "Look at queue, account"]),
        ('extra = ["--gres=gpu:1"]', ["(CONFIG)", "#SBATCH --gres=gpu:1"]),
        ('extra = ["--no-such-option"]', ["no-such-option"]),
    ],
)
def test_what_the_scheduler_will_never_run_is_said_with_its_words(check, slurm_rig, resources, expected):
    text = bad(check(slurm_rig["cpu"], resources=resources))
    assert "the scheduler refused a job (CONFIG)" in text
    assert [part for part in expected if part not in text] == []


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ('time = "10h"\nextra = ["--partition=short"]', ["PartitionTimeLimit", "lower `time`"]),
        ("nodes = 99", ["PartitionConfig", "no node of its queue has what it asks for"]),
    ],
)
def test_a_job_that_would_wait_for_ever_is_cancelled(check, slurm_rig, monkeypatch, resources, expected):
    monkeypatch.setattr("dflow_hpc.cli.machine_check._GRACE", 5.0)
    there = slurm_rig["cpu"]
    text = bad(check(there, resources=resources))
    assert [part for part in ("waits in vain", "It was cancelled", *expected) if part not in text] == []
    assert there.ok("squeue -h --me") == ""


@pytest.fixture
def tools(slurm_rig):
    """Put programs of the test's own before a cluster's: `tools(name, text)`, on all its hosts."""
    site = slurm_rig["cpu"].root_here.parents[1] / "local"
    made = []

    def put(name, text):
        for host in site.glob("cpu-*"):
            path = host / name
            path.write_text(text)
            path.chmod(0o755)
            made.append(path)

    yield put
    for path in made:
        path.unlink()


def test_a_missing_scheduler(check, slurm_rig):
    text = bad(check(slurm_rig["cpu"], scheduler="pbs"))
    expected = ("qstat", 'scheduler = "pbs"', "known are pbs, shell, slurm", "env`")
    assert [part for part in expected if part not in text] == []


@pytest.mark.parametrize("name", ["tar", "gzip"])
def test_a_missing_tool(check, slurm_rig, tools, name, tmp_path):
    there = slurm_rig["cpu"]
    tools(name, f"#!/bin/sh\necho 'sh: 1: {name}: not found' >&2\nexit 127\n")
    text = bad(check(there, root=f"{there.root}/{tmp_path.name}"))  # a new one: it has no scripts yet
    assert f"there is no {name} on it" in text and "on the PATH that ssh gives" in text


def test_a_clock_that_is_wrong(check, slurm_rig, tools):
    tools("date", '#!/bin/sh\n[ "$*" != +%s ] || exec /usr/bin/date -d "+10 minutes" +%s\nexec /usr/bin/date "$@"\n')
    assert re.search(r"its clock differs by \+(59|60)\d s .*NTP", bad(check(slurm_rig["cpu"])))


@pytest.mark.parametrize("root", ["/usr/dflow", "/proc/dflow", "/etc/hostname/x"])
def test_a_root_that_cannot_be_written(check, slurm_rig, root):
    text = bad(check(slurm_rig["cpu"], root=root))
    assert root in text and "root of the profile" in text and "quota" in text


def test_a_full_quota(check, slurm_faults):
    there = slurm_faults["cpu"]
    there.ctl("fill")
    text = bad(check(there, root=f"{there.small_root}/check"))
    assert "choose another root" in text or "quota left" in text


def test_a_login_that_is_refused(check, slurm_faults):
    there = slurm_faults["cpu"]
    there.ctl("refuse")
    text = bad(check(there))
    assert "refused the login" in text and f"ssh {there.name} true" in text


def test_a_host_that_is_not_known(check, slurm_rig, tmp_path):
    there = slurm_rig["cpu"]
    config = tmp_path / "ssh_config"
    config.write_text(there.ssh_config.read_text().replace(str(there.known_hosts), "/dev/null"))
    text = bad(check(there, ssh_config=str(config)))
    assert "dflow-hpc machine trust m" in text


OLD = "import sys; sys.version_info = (3, 6); exec(sys.stdin.read())"
PODMAN = 'runtime = "podman"\nruntime_options = ["--runtime=/usr/sbin/runc", "--ulimit=host"]'


@pytest.mark.parametrize(
    ("python", "words", "expected"),
    [
        ("echo python3: not found >&2; exit 127", ("--import", "json"), "the job ran on"),
        (f"exec /usr/bin/python3 -c '{OLD}' \"$@\"", (), "3.8 or later"),
        ('exec /usr/bin/python3 "$@"', ("--import", "no_such_module"), "import no_such_module: ModuleNotFoundError"),
    ],
)
def test_a_python_that_will_not_do(check, slurm_rig, tools, python, words, expected):
    there = slurm_rig["cpu"]
    (there.root_here / "py").mkdir(exist_ok=True)
    program = there.root_here / "py" / "python3"
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    text = bad(check(there, f'setup = ["PATH={there.root}/py:$PATH"]', *words))
    assert expected in text and "setup lines" in text
    shutil.rmtree(there.root_here / "py")


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ('runtime = "apptainer"', "there is no apptainer on the node"),
        ('runtime = "charliecloud"\nimages = {a = "/no/image"}', "there is no image /no/image on"),
        ('runtime = "charliecloud"\nimages = {a = "alpine:3"}', "the image alpine:3 is no directory"),
        (
            'runtime = "charliecloud"\nimages = {a = "/usr"}\nsetup = [\'test -n "${LIMITED-}" || { export LIMITED=1; '
            'exec unshare -r sh -c "echo 0 >/proc/sys/user/max_user_namespaces; exec sh ./leaf.sh"; }\']',
            "gives no user namespaces",
        ),
        ('runtime = "podman"\nimages = {a = "localhost/no-such:1"}', "image localhost/no-such:1: "),
    ],
)
def test_a_runtime_or_an_image_that_will_not_do(check, slurm_rig, profile, expected):
    assert expected in bad(check(slurm_rig["cpu"], profile))


@pytest.mark.parametrize("profile", ['runtime = "charliecloud"', PODMAN])
def test_a_runtime_with_a_good_image(check, slurm_rig, profile):
    there = slurm_rig["cpu"]
    made = there.root_here / "images" / "py38"
    if not made.exists():
        if image.build(made) is None:
            pytest.skip("needs busybox and a Python 3.8 of pyenv to make an image of")
        # As a user has it who unpacked it: Podman puts its layer only over a directory of the user's own.
        there.ctl("exec", "chown", "-R", f"{there.user}:", f"{there.root}/images", host=there.nodes[0])
    code, text = check(there, f'{profile}\nimages = {{"python:*" = "{there.root}/images/py38"}}', "--import", "json")
    assert code == 0, text
    assert f"image {there.root}/images/py38: python3 is 3.8." in text


NOWHERE = "http://127.0.0.1:9"
TAKE = """
from dflow_hpc import *

take = ShellOPTemplate("take", image="busybox", command=["sh"], script="ls -R /tmp/data")
take.inputs.artifacts["data"] = InputArtifact(path="/tmp/data")
wf = Workflow("taken", id="taken-1")
wf.add(Step("take", take, artifacts={"data": upload_artifact("data")}, executor="m"))
wf.submit()
"""


@pytest.fixture
def without(slurm_rig):
    """Take a program of the system from all hosts of the CPU cluster."""
    hosts, hidden = ("cpu-login", *slurm_rig["cpu"].nodes), []

    def hide(path):
        for host in hosts:
            run_ctl("exec", host, "mount", "--bind", "/dev/null", path)
            hidden.append((host, path))

    yield hide
    for host, path in hidden:
        run_ctl("exec", host, "umount", path)


def test_a_storage_that_the_nodes_do_not_reach(check, slurm_rig):
    text = bad(check(slurm_rig["cpu"], staging="s3", s3_endpoint=NOWHERE))
    assert [
        part for part in (f"does not reach {NOWHERE}", "set s3_endpoint", 'staging = "ssh"') if part not in text
    ] == []


def test_signed_addresses_without_curl(check, slurm_rig, without):
    without("/usr/bin/curl")
    text = bad(check(slurm_rig["cpu"], staging="s3", s3_endpoint=NOWHERE))
    assert [part for part in ("there is no curl there", 'staging = "ssh"') if part not in text] == []


@pytest.mark.parametrize("curl", [True, False])
def test_a_run_whose_data_cannot_be_pulled_says_the_way_out(tmp_path, slurm_rig, s3_server, without, curl):  # noqa: F811
    there = slurm_rig["cpu"]
    more = ['staging = "s3"']
    if curl:
        more.append(f's3_endpoint = "{NOWHERE}"')
    else:
        without("/usr/bin/curl")
    profile = there.profile("m", root=f"{there.root}/{tmp_path.name}", more="\n".join(more), queue="cpu")
    (tmp_path / "machines.toml").write_text(profile)
    (tmp_path / "take.py").write_text(TAKE)
    (tmp_path / "data").write_bytes(os.urandom(3_000_000))  # less would go with the leaf
    variables = {**environment(s3_server), "DFLOW_S3_PREFIX": f"{tmp_path.name}/", "XDG_STATE_HOME": str(tmp_path)}
    done = run_python("take.py", cwd=tmp_path, **variables)
    text = done.stdout + done.stderr
    expected = ("init: Error", "could not be pulled", "s3_endpoint", 'staging = "ssh"', "dflow-hpc machine check m")
    expected += ("port 9",) if curl else ("there is no curl on cpu-n",)
    assert [part for part in expected if part not in text] == [], text
    assert len(text.splitlines()) < 24
