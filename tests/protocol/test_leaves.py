"""Leaves in jobs: what runs, what comes back, what the marker says."""

import io
import os
import shlex
import shutil
import signal
import subprocess
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import dflow_hpc
from dflow_hpc.errors import StorageError, SubmitError
from dflow_hpc.executors.protocol import Cargo, ProtocolError, Questions, Scripts, leaf_files, unpack
from dflow_hpc.executors.transport.local import LocalTransport

ODD = 'it\'s "odd" $HOME `x` \\n é\n\tend '


def test_a_batch_runs_each_leaf_once_and_brings_its_outputs_back(machine):
    program = machine.command("sh", "-c", "cat ../inputs/n >../out; echo $0; pwd", outputs=["out"], result=True)
    programs = {}
    for number in range(3):
        token = f"key{number}-1"
        (machine.here / token / "inputs").mkdir(parents=True)
        (machine.here / token / "inputs" / "n").write_text(str(number))
        programs[token] = program
    answer = machine.submit("batch", programs)
    assert (answer["batch"].word, answer["batch"].rc, answer["batch"].out) == ("answered", 0, b"1\n")
    markers = machine.wait(*programs)
    for number, (token, marker) in enumerate(zip(programs, markers, strict=True)):
        assert {key: marker[key] for key in ("token", "attempt", "job", "rc", "stage", "signal", "complete")} == {
            "token": token,
            "attempt": 1,
            "job": f"1_{number}",
            "rc": 0,
            "stage": "main",
            "signal": 0,
            "complete": True,
        }
        assert marker["start"] <= marker["end"]
        assert (machine.here / token / "out").read_text() == str(number)
        assert (machine.here / token / "result").read_text() == f"sh\n{machine.scripts.leaf_directory(token)}/workdir\n"
    assert machine.ledger() == ["batch"]
    assert machine.transport.commands <= 3 + 100  # the scripts, the submission, and the rounds of `wait`


class Busybox(LocalTransport):
    """A machine with nothing but busybox: its shell, its tools."""

    def __init__(self, tools):
        super().__init__()
        tools.mkdir()
        names = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
        for name in names:
            (tools / name).symlink_to(shutil.which("busybox"))
        self.tools = tools

    def run(self, command, stdin=b"", timeout=20.0):
        shell = command.replace("/bin/sh ", "sh ")
        return super().run(f"export PATH={shlex.quote(str(self.tools))}; {shell}", stdin, timeout)


@pytest.mark.skipif(shutil.which("busybox") is None, reason="needs busybox")
def test_busybox_is_enough(machine, tmp_path):
    machine.transport = machine.scripts._transport = Busybox(tmp_path / "tools")
    assert machine.scripts.home().missing == ()
    program = machine.command("sh", "-c", "cat ../inputs/n >../out; echo said", outputs=["out"], result=True)
    for token in ("k-1", "l-1"):
        (machine.here / token / "inputs").mkdir(parents=True)
        (machine.here / token / "inputs" / "n").write_text(token)
    assert machine.submit("b", {"k-1": program, "l-1": program})["b"].word == "answered"
    assert [marker["rc"] for marker in machine.wait("k-1", "l-1")] == [0, 0]
    assert (machine.here / "l-1" / "out").read_text() == "l-1"
    assert (machine.here / "l-1" / "log.txt").read_text() == "said\n"
    unpack(machine.scripts.fetch(["k-1"]), machine.place)
    assert machine.scripts.ask(Questions(seal=["other"], forget=["k-1"])).batches["other"].word == "sealed"
    assert machine.scripts.clean(30)["leaves"] == 1


def test_any_text_arrives_as_it_is(machine):
    here = machine.here / "k-1"
    program = machine.command(
        *("sh", "-c", 'printf %s "$1" >../a; printf %s "$ODD" >"../b  * \\$x "; pwd', "x", ODD),
        outputs=["a", "b  * $x "],
        env={"ODD": ODD},
        directory=f"{here}/work {ODD.strip()}",
        result=True,
    )
    machine.submit("b", {"k-1": program})
    assert machine.wait("k-1")[0]["rc"] == 0
    assert (here / "a").read_text() == (here / "b  * $x ").read_text() == ODD
    assert (here / "result").read_text() == f"{machine.scripts.leaf_directory('k-1')}/work {ODD.strip()}\n"


def test_what_a_program_does_wrong_is_its_own(machine):
    program = machine.command(
        "sh", "-c", "echo words; echo why >&2; printf gone >../termination-log; exit 3", outputs=["absent"]
    )
    machine.submit("b", {"k-1": program, "l-1": machine.command("sh", "-c", "kill -SEGV $$")})
    failed, killed = machine.wait("k-1", "l-1")
    assert (failed["rc"], failed["stage"], failed["signal"]) == (3, "main", 0)
    assert (machine.here / "k-1" / "log.txt").read_text() == "words\nwhy\n"
    assert (machine.here / "k-1" / "termination-log").read_text() == "gone"
    assert (killed["rc"], killed["stage"], killed["signal"]) == (139, "main", 11)


def test_a_failed_setup_line_is_no_failure_of_the_program(machine):
    machine.submit("b", {"k-1": machine.command("true")}, setup=["export A=1", "false"])
    machine.submit("c", {"l-1": machine.command("sh", "-c", 'test "$A" = 1')}, setup=["export A=1"])
    bad, good = machine.wait("k-1", "l-1")
    assert (bad["stage"], bad["rc"]) == ("in", 1)
    assert "setup line" in bad["text"]
    assert (good["stage"], good["rc"]) == ("main", 0)


def test_secrets_are_gone_when_the_job_has_ended_and_readable_by_nobody_else(machine):
    program = machine.command(
        "sh", "-c", 'stat -c %a ../env.sh; test "$PASSWORD" = hush-hush', env={"PASSWORD": "hush-hush"}, result=True
    )
    machine.submit("b", {"k-1": program})
    assert machine.wait("k-1")[0]["rc"] == 0
    assert (machine.here / "k-1" / "result").read_text() == "600\n"
    holding = [
        path
        for path in machine.root.rglob("*")
        if path.is_file()
        and b"hush-hush" in path.read_bytes()
        and path.name != "leaf.sh"  # the program itself compares with it
    ]
    assert [path.name for path in holding if path.name != "spec.json"] == []


def test_a_job_killed_between_its_marker_and_the_sign_of_it_is_found_when_it_is_gone(machine):
    machine.submit("b", {"k-1": machine.command("true")})
    machine.wait("k-1")
    (machine.root / ".done" / "k-1").unlink()
    assert machine.scripts.ask(Questions(wait_for=["k-1"])).ended == ()
    assert machine.scripts.ask(Questions(settle=["k-1", "other-1"], wait_for=["k-1", "other-1"])).ended == ("k-1",)


def test_secrets_that_a_killed_or_cancelled_job_left_go_when_its_outcome_is_safe(machine):
    (machine.stub / "hold").touch()
    for attempt in (1, 2, 3):
        machine.submit(f"b{attempt}", {f"k-{attempt}": machine.command("true", env={"PASSWORD": "hush-hush"})})
    machine.scripts.ask(Questions(forget=["k-2"]))
    assert [path.parent.name for path in machine.root.glob("k/*/env.sh")] == ["attempt.3"]


def test_large_outputs_wait_until_they_are_fetched(machine):
    program = machine.command(
        *("sh", "-c", "head -c 3000000 /dev/zero >../big; seq 100000; touch ../small"),
        outputs=["big", "small"],
        result=True,
    )
    machine.submit("b", {"k-1": program})
    (marker,) = machine.wait("k-1")
    here = machine.here / "k-1"
    assert (marker["rc"], marker["complete"]) == (0, False)
    assert not (here / "big").exists()
    for name, size in (("log.tail", 65536), ("result", 262144)):
        assert (here / name).read_text().endswith("99999\n100000\n")
        assert (here / name).stat().st_size == size
    unpack(machine.scripts.fetch(["k-1"]), machine.place)
    assert (here / "big").stat().st_size == 3_000_000
    assert (here / "small").exists()


def test_outputs_that_are_links_come_as_what_they_lead_to(machine):
    program = machine.command(
        "sh", "-c", "mkdir d; echo x >d/f; ln -s workdir/d ../out; ln -s nowhere d/dangling", outputs=["out"]
    )
    machine.submit("b", {"k-1": program})
    assert machine.wait("k-1")[0]["rc"] == 0
    assert (machine.here / "k-1" / "out" / "f").read_text() == "x\n"


def until(condition):
    while not condition():
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGUSR2, "warned"), (signal.SIGTERM, "asked")])
def test_a_signal_to_the_job_reaches_the_program_which_may_take_its_time(machine, number, expected):
    script = (
        "trap 'echo warned >../said' USR2; trap 'sleep 0.1; echo asked >../said' TERM; echo $PPID >../ready; "
        "while [ ! -e ../said ]; do sleep 0.02; done; exit 9"
    )
    machine.submit("b", {"k-1": machine.command("sh", "-c", script, outputs=["said"])})
    ready = machine.root / "k" / "attempt.1" / "ready"
    until(lambda: ready.exists() and ready.read_text().strip())
    os.kill(int(ready.read_text()), number)
    (marker,) = machine.wait("k-1")
    assert (machine.here / "k-1" / "said").read_text().strip() == expected
    assert (marker["rc"], marker["stage"]) == (9, "main")
    assert marker["signal"] == (15 if number is signal.SIGTERM else 0)


@pytest.mark.parametrize(
    ("line", "place", "most", "ends"),
    [
        ("4:memory:/pbs_jobs.service/jobid/7", "memory/pbs_jobs.service/jobid/7", "memory.max_usage_in_bytes",
         "memory.oom_control"),
        ("0::/pbs_jobs.service/jobid/7", "pbs_jobs.service/jobid/7", "memory.peak", "memory.events"),
    ],
)  # fmt: skip
def test_what_the_control_group_says_of_memory(machine, monkeypatch, tmp_path, line, place, most, ends):
    """Before the leaf, others may have been killed in it: a pack's members share one."""
    group = tmp_path / "over/sys/fs/cgroup" / place
    group.mkdir(parents=True)
    (group / most).write_text("268435456\n")
    (group / ends).write_text("oom_kill_disable 0\noom_kill 2\n")
    (tmp_path / "over/proc/self").mkdir(parents=True)
    (tmp_path / "over/proc/self/cgroup").write_text(f"9:cpuset:/\n{line}\n1:name=systemd:/x\n")
    monkeypatch.setenv("DFH_CGROUPS", str(tmp_path / "over"))
    machine.submit("b", {"k-1": machine.command("sh", "-c", "exit 3")})
    (marker,) = machine.wait("k-1")
    assert (marker["memory"], marker["oom"], marker["rc"]) == (268435456, False, 3)
    script = f"echo oom_kill 3 >{group}/{ends}; kill -9 $$"
    machine.submit("c", {"k-2": machine.command("sh", "-c", script)})
    (marker,) = machine.wait("k-2")
    assert (marker["oom"], marker["rc"], marker["signal"]) == (True, 137, 9)
    (group / most).unlink()
    (group / ends).unlink()
    machine.submit("d", {"k-3": machine.command("sh", "-c", "exit 0")})
    (marker,) = machine.wait("k-3")
    assert (marker["memory"], marker["oom"], marker["text"]) == (None, False, "")


def test_a_killed_job_leaves_no_marker(machine):
    machine.submit("b", {"k-1": machine.command("sh", "-c", "echo $PPID >../ready; exec sleep 30")})
    ready = machine.root / "k" / "attempt.1" / "ready"
    until(lambda: ready.exists() and ready.read_text().strip())
    os.kill(int(ready.read_text()), signal.SIGKILL)
    assert machine.scripts.ask(Questions(wait_for=["k-1"])).ended == ()
    assert not (machine.root / "k" / "attempt.1" / "exit.json").exists()
    for process in Path("/proc").glob("[0-9]*"):
        if _cwd(process) == machine.root / "k" / "attempt.1" / "workdir":
            os.kill(int(process.name), signal.SIGKILL)


def _cwd(process):
    try:
        return (process / "cwd").readlink()
    except OSError:
        return None


def run_member(machine, batch, job):
    """Run a job by hand, as a scheduler would that starts it again."""
    words = f"cd {shlex.quote(machine.scripts.batch_directory(batch))} && DFH_JOB_ID={job} sh ./job.sh"
    return machine.transport.run(words)


def test_only_one_job_runs_an_attempt_but_a_requeue_of_it_goes_on(machine):
    (machine.stub / "hold").touch()
    script = "echo run >>../../ledger; [ -e ../../twice ] || { touch ../../twice; kill -KILL $PPID; exit; }; exit 4"
    machine.submit("b", {"k-1": machine.command("sh", "-c", script)})
    assert run_member(machine, "b", "7").rc != 0  # as when its node dies
    other = run_member(machine, "b", "8")
    assert (other.rc, b"claimed by job 7" in other.err) == (0, True)
    assert run_member(machine, "b", "7").rc == 4
    assert machine.wait("k-1")[0]["rc"] == 4
    assert run_member(machine, "b", "7").rc == 0  # it has ended: it does not run a third time
    assert (machine.root / "k" / "ledger").read_text() == "run\nrun\n"


def test_markers_come_although_the_scheduler_hangs(machine, monkeypatch):
    machine.submit("b", {"k-1": machine.command("true")})
    machine.wait("k-1")
    monkeypatch.setenv("DFH_BOUND", "1")
    reply = machine.scripts.ask(Questions(run={"queue": "echo some; exec sleep 60"}, wait_for=["k-1"]))
    assert (reply.ran["queue"].rc, reply.ran["queue"].out) == (124, b"some\n")
    assert reply.ended == ("k-1",)


def test_of_two_starts_of_one_job_the_last_one_counts(machine):
    """PBS requeues the members of a node that it gave up, under their ids; what runs there may still go on."""
    (machine.stub / "hold").touch()
    script = (
        "echo run >>../../ledger; [ $(wc -l <../../ledger) -eq 1 ] || exit 5; "
        "until [ -e ../../gate ]; do sleep 0.02; done; exit 4"
    )
    machine.submit("b", {"k-1": machine.command("sh", "-c", script)})
    with ThreadPoolExecutor() as pool:
        first = pool.submit(run_member, machine, "b", "7")
        until((machine.root / "k" / "ledger").exists)
        assert run_member(machine, "b", "7").rc == 5
        (machine.root / "k" / "gate").touch()
        assert b"was started again meanwhile" in first.result().err
    assert machine.wait("k-1")[0]["rc"] == 5
    assert (machine.root / "k" / "ledger").read_text() == "run\nrun\n"


def test_a_superseded_or_revoked_attempt_does_nothing(machine):
    (machine.stub / "hold").touch()
    machine.submit("b", {"k-1": machine.command("touch", "../../ran")})
    machine.submit("c", {"k-2": machine.command("touch", "../../ran")})
    assert b"does not count" in run_member(machine, "b", "1").err
    machine.submit(
        "again", {"k-1": machine.command("true")}
    )  # an old parcel that comes late does not turn the number back
    assert (machine.root / "k" / "current").read_text() == "2\n"
    machine.scripts.ask(Questions(revoke=["k-2"]))
    assert b"does not count" in run_member(machine, "c", "2").err
    assert not (machine.root / "k" / "ran").exists()


def test_an_attempt_that_was_superseded_while_it_ran_is_not_published(machine):
    (machine.stub / "hold").touch()
    machine.submit("b", {"k-1": machine.command("sh", "-c", "echo 2 >../../current")})
    assert b"not published" in run_member(machine, "b", "1").err
    assert machine.scripts.ask(Questions(wait_for=["k-1"])).ended == ()


def test_forgotten_leaves_are_cleaned_and_others_stay(machine):
    machine.submit("b", {"k-1": machine.command("true"), "l-1": machine.command("true")})
    machine.wait("k-1", "l-1")
    machine.scripts.ask(Questions(forget=["k-1"]))
    assert machine.scripts.ask(Questions(wait_for=["k-1", "l-1"])).ended == ("l-1",)
    assert machine.scripts.clean(30) == {"leaves": 1, "batches": 0, "arrivals": 0, "cache": 0, "abandoned": 0}
    assert not (machine.root / "k").exists()
    assert (machine.root / "l" / "attempt.1" / "exit.json").exists()
    os.utime(machine.root / ".batch" / "b", (0, 0))
    for path in (machine.root / ".batch" / "b").iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    assert machine.scripts.clean(30)["batches"] == 1


def test_a_python_op_runs_from_its_bundle(machine, tmp_path):
    # The set that travels, as bundle.py lays it out; the OP beside it.
    code = tmp_path / "bundle"
    (code / "code").mkdir(parents=True)
    (code / "lib").mkdir()
    (code / "bundle.json").write_text(
        '{"files": {}, "python": "3.11", "script": null, "package": null, "compat": false}'
    )
    package = Path(dflow_hpc.__file__).parent
    shutil.copytree(
        package,
        code / "lib" / "dflow_hpc",
        ignore=shutil.ignore_patterns("executors", "virtual_node", "__pycache__", "engines", "cli"),
    )
    (code / "code" / "ops.py").write_text(
        "from dflow_hpc import OP, OPIO, OPIOSign\n"
        "class Twice(OP):\n"
        "    @classmethod\n    def get_input_sign(cls): return OPIOSign({'n': int})\n"
        "    @classmethod\n    def get_output_sign(cls): return OPIOSign({'m': int})\n"
        "    @OP.exec_sign_check\n    def execute(self, op_in): return OPIO({'m': 2 * op_in['n']})\n"
    )
    record = {"entry": {"kind": "module", "module": "ops", "name": "Twice"}, "bundle": "abc"}
    program = {"record": record, "env": {}, "outputs": ["outputs"]}
    parameters = machine.here / "k-1" / "inputs" / "parameters"
    parameters.mkdir(parents=True)
    (parameters / "n").write_text("21")
    assert not machine.scripts.has("abc")
    cargo = machine.cargo("b", {"k-1": program}, code=f"{machine.scripts.home().root}/.cas/abc")
    machine.scripts.add_code(cargo, "abc", code)
    machine.scripts.submit(cargo, ["abc"])
    (marker,) = machine.wait("k-1")
    assert (marker["rc"], marker["stage"]) == (0, "main"), (machine.here / "k-1" / "log.txt").read_text()
    assert (machine.here / "k-1" / "outputs" / "parameters" / "m").read_text() == "42"
    assert machine.scripts.has("abc")
    assert Scripts(machine.transport, str(machine.root)).has("abc")


def test_missing_code_and_python_are_told_as_what_they_are(machine):
    program = {"record": {"entry": {}}, "env": {}, "outputs": []}
    machine.submit("b", {"k-1": program}, code="/nowhere")
    machine.submit("c", {"l-1": {**program, "env": {"PATH": "/nowhere"}}}, code="/nowhere")
    code, python = machine.wait("k-1", "l-1")
    assert (code["stage"], "is not in /nowhere" in code["text"]) == ("in", True)
    assert (python["stage"], "no python3" in python["text"]) == ("in", True)


def test_links_into_a_store_are_sent_as_files_and_one_file_once(machine, tmp_path):
    store = tmp_path / "store"
    (store / "sub").mkdir(parents=True)
    (store / "sub" / "data").write_bytes(os.urandom(300_000))
    (store / "inner").symlink_to("sub/data")
    for token in ("k-1", "l-1"):
        inputs = machine.here / token / "inputs"
        inputs.mkdir(parents=True)
        (inputs / "set").symlink_to(store)
    program = machine.command(
        "sh", "-c", "cmp ../inputs/set/inner ../inputs/set/sub/data && test -h ../inputs/set/inner"
    )
    cargo = machine.cargo("b", {"k-1": program, "l-1": program})
    machine.scripts.submit(cargo)
    assert [marker["rc"] for marker in machine.wait("k-1", "l-1")] == [0, 0]
    assert machine.transport.sent < 400_000


def test_names_that_cannot_travel_are_refused(machine, tmp_path):
    for program, words in (
        (machine.command("x", env={"a.b": "1"}), "Rename it"),
        (machine.command("x", outputs=["a\nb"]), "line end"),
    ):
        with pytest.raises(SubmitError, match=words):
            leaf_files(program, here=tmp_path, there="/there", scripts="/scripts")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StorageError, match="neither a file"):
        Cargo().tree("x", tmp_path)


@pytest.mark.parametrize("kind", ["up", "absolute", "link"])
def test_a_tar_that_leads_elsewhere_is_refused(kind, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo({"up": "k/../../x", "absolute": "/x", "link": "k/attempt.1/x"}[kind])
        if kind == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "../../../etc"
        archive.addfile(info)
    with pytest.raises(StorageError, match="leads"):
        unpack(buffer.getvalue(), lambda name: tmp_path / name)


def test_a_root_that_cannot_be_made_says_why(machine, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ProtocolError, match=r"Not a directory|File exists"):
        Scripts(machine.transport, str(tmp_path / "file" / "x")).home()


def test_the_machine_says_what_it_is(machine):
    home = machine.scripts.home()
    assert home.root == str(machine.root)
    assert (abs(home.ahead) < 5, home.missing, home.free > 1 << 20) == (True, (), True)
    assert home.python
    assert home.scripts.startswith(f"{home.root}/bin/")


SCRIPTS = sorted((Path(dflow_hpc.__file__).parent / "executors" / "protocol").glob("*.sh"))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_the_scripts_are_clean():
    ran = subprocess.run(
        ["shellcheck", "-x", "-s", "sh", *SCRIPTS],
        cwd=SCRIPTS[0].parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "")
    assert len(SCRIPTS) == 11
