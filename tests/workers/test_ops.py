"""Python OPs as leaves: the ordinary case, and whatever an OP may do to its process."""

import asyncio
import os
import subprocess

import pytest

from dflow_hpc.compile import Compiled
from dflow_hpc.engines.local.work import placement
from dflow_hpc.engines.local.work.records import read_record
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles import placing
from dflow_hpc.storage.trees import SMALL


def alive(words):
    found = subprocess.run(["pgrep", "-f", words], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_outputs_come_back_and_the_record_says_so(kit):
    request = kit.request(kit.op("inc"), {"n": 41})
    [outcome] = kit.run(request)
    assert outcome.phase == "Succeeded" and outcome.message == ""
    assert outcome.outputs == {
        "exitCode": "0",
        "parameters": [{"name": "m", "valueFrom": {"path": "/tmp/outputs/parameters/m"}, "value": "42"}],
    }
    assert read_record(kit.run_dir / request.node_id) == outcome
    assert kit.started == [request.node_id]
    leaf = kit.run_dir / request.node_id
    seen = {name: (leaf / name).read_text() for name in ("name", "type", "phase", "inputs/parameters/n")}
    assert seen == {"name": "step", "type": "Pod", "phase": "Succeeded", "inputs/parameters/n": "41"}


def test_a_leaf_with_a_record_does_not_run_again(kit):
    request = kit.request(kit.op("inc"), {"n": 1})
    [first] = kit.run(request)
    (kit.run_dir / request.node_id / "inputs" / "parameters" / "n").write_text("100")
    assert kit.run(request) == [first]
    assert kit.started == [request.node_id]


def test_what_a_life_without_a_record_left_is_removed(kit):
    request = kit.request(kit.op("inc"), {"n": 1})
    stale = kit.run_dir / request.node_id / "outputs" / "parameters"
    stale.mkdir(parents=True)
    (stale / "old").write_text("x")
    assert kit.run(request)[0].phase == "Succeeded"
    assert [path.name for path in stale.iterdir()] == ["m"]


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_isolation(kit, isolation):
    record = {"entry": {"kind": "script", "file": "ops.py", "name": "inc"}}
    requests = [kit.request(kit.op("inc"), {"n": n}) for n in range(3)]
    outcomes = kit.run(*requests, isolation=isolation, records=[record])
    assert [outcome.outputs["parameters"][0]["value"] for outcome in outcomes] == ["1", "2", "3"]
    assert kit.host.notices == []


@pytest.mark.parametrize(
    ("what", "code", "text"),
    [
        ("exit_5", 5, "os._exit(5)"),
        ("exit_0", 0, "os._exit(0)"),
        ("kill", 137, "killed by SIGKILL"),
        ("segfault", 139, "killed by SIGSEGV"),
    ],
)
def test_an_op_that_ends_its_process_fails_and_says_how(kit, what, code, text):
    outcome, _ = kit.do(what)
    assert outcome.phase == "Failed"
    assert outcome.message.startswith(f"main: Error (exit code {code}): ")
    assert text in outcome.message
    assert outcome.outputs == {"exitCode": str(code)}


def test_an_exception_is_in_the_message_and_the_traceback_in_the_log(kit):
    outcome, log = kit.do("raise_it")
    assert (outcome.phase, outcome.failure) == ("Failed", FailureClass.APP)
    assert outcome.message == "main: Error (exit code 1): ValueError: what was wrong"
    assert 'raise ValueError("what was wrong")' in log


def test_sys_exit_gives_its_code(kit):
    outcome, _ = kit.do("sys_exit")
    assert outcome.message == "main: Error (exit code 7)"


def test_100_mb_of_output_go_to_the_log(kit):
    request = kit.request(kit.op(), {"what": "loud"})
    [outcome] = kit.run(request)
    assert outcome.phase == "Succeeded"
    assert (kit.run_dir / request.node_id / "log.txt").stat().st_size == 100 << 20


@pytest.mark.parametrize("what", ["close_output", "fork_and_return", "change_directory", "unclosed_pool"])
def test_unusual_but_fine(kit, what):
    outcome, _ = kit.do(what)
    assert (outcome.phase, outcome.notices) == ("Succeeded", [])


def test_what_an_op_forks_can_be_ended_at_any_instant(kit):
    outcome, _ = kit.do("fork_and_end")
    assert outcome.outputs["parameters"][0]["value"] == ""


def test_multiprocessing_works_in_a_leaf(kit):
    outcome, log = kit.do("pool")
    assert outcome.outputs["parameters"][0]["value"] == "[1, 2, 3]", log
    assert outcome.notices == []


def test_children_that_are_left_behind_are_ended_and_told(kit):
    outcome, _ = kit.do("leave_child")
    assert outcome.phase == "Succeeded"
    [notice] = outcome.notices
    assert "left behind" in notice


def test_a_daemon_that_hides_is_ended_too(kit):
    outcome, _ = kit.do("leave_daemon")
    # Whose it was is known only as long as it has not left the session.
    [notice] = outcome.notices + kit.host.notices
    assert "left behind" in notice


def test_an_op_that_removes_its_directory_still_gets_a_record(kit):
    request = kit.request(kit.op(), {"what": "remove_own"})
    [outcome] = kit.run(request)
    assert outcome.phase == "Failed"
    assert read_record(kit.run_dir / request.node_id) == outcome


@pytest.mark.parametrize("what", ["sleep", "deaf"])
def test_a_deadline_ends_it(kit, what, soon):
    outcome, _ = kit.do(what, deadline=soon())
    assert (outcome.phase, outcome.failure) == ("Failed", FailureClass.WALLTIME)
    assert outcome.message == "Pod was active on the node longer than the specified deadline"
    assert outcome.outputs["exitCode"] == {"sleep": "143", "deaf": "137"}[what]


def test_an_op_that_is_ended_can_clean_up(kit, soon):
    request = kit.request(kit.op(), {"what": "sleep_and_clean"}, deadline=soon())
    kit.run(request)
    assert (kit.run_dir / request.node_id / "workdir" / "cleaned").exists()


def test_a_deadline_that_passes_before_it_starts(kit, soon):
    async def work(host):
        first = asyncio.create_task(host.run(kit.request(kit.op(), {"what": "sleep"}, deadline=soon(3))))
        while not kit.started:
            await asyncio.sleep(0.01)
        second = await host.run(kit.request(kit.op("inc"), {"n": 1}, deadline=soon(0.2)))
        await first
        return second

    outcome = kit.with_host(work, workers=1)
    assert (outcome.phase, outcome.message) == ("Failed", "timeout")


def test_cancelling_leaves_nothing_running_and_no_record(kit):
    async def work(host):
        request = kit.request(kit.op(), {"what": "deaf"})
        task = asyncio.create_task(host.run(request))
        while not kit.started:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert alive(str(kit.run_dir)) == [] or read_record(kit.run_dir / request.node_id) is None
        return request

    request = kit.with_host(work)
    assert read_record(kit.run_dir / request.node_id) is None


def test_no_more_than_the_limit_and_in_order(kit):
    stamp = "date +%s.%N; sleep 0.05; date +%s.%N"
    requests = [kit.request(kit.script(stamp), result=True) for _ in range(6)]

    async def work(host):
        return await asyncio.gather(*map(host.run, requests))

    outcomes = kit.with_host(work, workers=2)
    spans = [tuple(map(float, outcome.outputs["result"].split())) for outcome in outcomes]
    for start, _ in spans:
        assert sum(other <= start < end for other, end in spans) <= 2
    assert kit.started == [request.node_id for request in requests]


def test_result_of_an_op_is_its_stdout(kit):
    request = kit.request(kit.op(), {"what": "say"}, result=True)
    [outcome] = kit.run(request)
    assert outcome.outputs["result"] == "said"
    assert sorted(kit.log(request).split()) == ["aside", "said"]


def test_a_second_leaf_with_the_same_key_gets_its_nodes_name(kit):
    first = kit.request(kit.op("inc"), {"n": 1, "dflow_key": "my-key"})
    second = kit.request(kit.op("inc"), {"n": 2, "dflow_key": "my-key"})
    outcomes = kit.run(first, second)
    assert read_record(kit.run_dir / "my-key") == outcomes[0]
    assert read_record(kit.run_dir / second.node_id) == outcomes[1]
    # A later life, in another order, finds the same.
    assert kit.run(second, first) == outcomes[::-1]


@pytest.mark.parametrize("key", ["store", "code", "../up", "a/b", ".view"])
def test_a_key_never_names_something_of_the_run(kit, key):
    request = kit.request(kit.op("inc"), {"n": 1, "dflow_key": key})
    assert kit.run(request)[0].phase == "Succeeded"
    assert read_record(kit.run_dir / request.node_id) is not None


def artifact(kit, name="data", **more):
    return {"name": name, "path": f"/tmp/inputs/artifacts/{name}", "s3": {"key": "run/x/data.tgz"}, **more}


def store_text(kit, text):
    path = kit.run_dir / "store" / "x" / "data.tgz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)  # even where the OP may write, it must not
    return path


def test_an_input_that_is_changed_in_place_fails_the_leaf(kit):
    store_text(kit, "data")
    request = kit.request(kit.op("append"), artifacts=[artifact(kit)])
    [outcome] = kit.run(request)
    assert outcome.phase == "Error"
    assert "the input artifact 'data' was changed" in outcome.message
    assert "declare `Artifact(..., writable=True)`" in outcome.message


def test_only_small_inputs_of_an_op_may_be_changed_where_they_are_copies(kit):
    path = store_text(kit, "data")
    [small] = kit.run(kit.request(kit.op("append"), artifacts=[artifact(kit)]), copy_method="small")
    assert small.phase == "Succeeded", small.message
    assert path.read_text() == "data"
    large = "d" * (SMALL + 1)
    store_text(kit, large)
    script = kit.request(
        kit.script("echo more >>/tmp/data", inputs={"artifacts": [{"name": "data", "path": "/tmp/data"}]}),
        artifacts=[artifact(kit, path="/tmp/data")],
    )
    op = kit.request(kit.op("append"), artifacts=[artifact(kit)])
    as_in_a_pod, changed = kit.run(script, op, copy_method="small")
    assert as_in_a_pod.phase == "Succeeded", as_in_a_pod.message
    assert changed.phase == "Error" and "the input artifact 'data' was changed" in changed.message


def test_a_writable_input_is_a_copy(kit):
    path = store_text(kit, "data")
    [outcome] = kit.run(kit.request(kit.op("append", writable=["data"]), artifacts=[artifact(kit)]))
    assert outcome.phase == "Succeeded", outcome.message
    assert path.read_text() == "data"


def test_an_input_that_is_not_there(kit):
    [missing, absent] = kit.run(
        kit.request(kit.op("append"), artifacts=[artifact(kit)]),
        kit.request(kit.op("append"), artifacts=[{"name": "data", "path": "/tmp/inputs/artifacts/data"}]),
    )
    assert (missing.phase, missing.failure) == ("Error", FailureClass.STAGE_IN)
    assert missing.message.startswith("init: Error (exit code 64): artifact data failed to load: ")
    assert absent.message == "init: Error (exit code 64): required artifact 'data' not supplied"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_input_is_named(kit):
    store_text(kit, "data").chmod(0)
    [outcome] = kit.run(kit.request(kit.op("append", writable=["data"]), artifacts=[artifact(kit)]))
    assert outcome.phase == "Error" and "Permission denied" in outcome.message


def test_many_files_go_to_the_store(kit):
    outputs = {"artifacts": [{"name": "out", "path": "/tmp/outputs/artifacts/out"}]}
    [outcome] = kit.run(kit.request(kit.op("make", outputs=outputs), {"n": 2000}))
    [found] = outcome.outputs["artifacts"]
    assert found["s3"]["key"] == "run/run-step-1/out.tgz"
    files = list((kit.run_dir / "store" / "run-step-1" / "out.tgz").rglob("[0-9]*"))
    assert len(files) == 2000
    shown = kit.run_dir / "run-1" / "outputs" / "artifacts" / "out"
    assert shown.is_symlink() and shown.samefile(kit.run_dir / "store" / "run-step-1" / "out.tgz")
    assert not shown.readlink().is_absolute()  # a run's directory may be moved


def test_progress_is_told_while_it_runs(kit):
    outcome = kit.sh(
        "echo 1/3 > $ARGO_PROGRESS_FILE; echo nonsense > $ARGO_PROGRESS_FILE; echo 3/3 > $ARGO_PROGRESS_FILE"
    )
    assert outcome.phase == "Succeeded"
    assert kit.progress[-1] == ("run-1", "3/3")
    assert all(text != "nonsense" for _, text in kit.progress)


def test_code_that_cannot_be_loaded_is_told_once_and_fails_each_leaf(kit):
    (kit.run_dir / "code" / "code" / "ops.py").write_text("import no_such_module")
    record = {"entry": {"kind": "script", "file": "ops.py", "name": "inc"}}
    request = kit.request(kit.op("inc"), {"n": 1})
    [outcome] = kit.run(request, records=[record])
    assert outcome.phase == "Failed" and "no_such_module" in outcome.message
    assert len(kit.host.notices) == 1 and "no_such_module" in kit.host.notices[0]


def machines(kit, monkeypatch, text):
    """Leave the profile of a machine ``here`` with the run."""
    path = kit.run_dir.parent / "my-machines.toml"
    path.write_text(text)
    monkeypatch.setenv("DFLOW_MACHINES", str(path))
    template = {"metadata": {"annotations": {"dflow-hpc/machine": "here"}}}
    placement.keep(kit.run_dir, placing.settle(Compiled({"spec": {"templates": [template]}}))[1])


def test_setup_lines_of_a_machine_precede_the_op_and_the_command(kit, monkeypatch):
    machines(kit, monkeypatch, '[machine.here]\nsetup = ["echo prepared", "export COLOUR=blue"]')
    annotations = {"dflow-hpc/machine": "here"}
    op = kit.request(kit.op("inc", annotations=annotations), {"n": 1})
    sh = kit.request(kit.script("echo $COLOUR", metadata={"annotations": annotations}))
    assert [outcome.phase for outcome in kit.run(op, sh)] == ["Succeeded", "Succeeded"]
    assert kit.log(op) == "prepared\n"
    assert kit.log(sh) == "prepared\nblue\n"


def test_setup_lines_that_fail_fail_the_leaf(kit, monkeypatch):
    machines(kit, monkeypatch, '[machine.here]\nsetup = ["exit 9"]')
    request = kit.request(kit.op("inc", annotations={"dflow-hpc/machine": "here"}), {"n": 1})
    [outcome] = kit.run(request)
    assert outcome.phase == "Failed" and outcome.message.startswith("main: Error (exit code 9)")
    assert "setup lines" in outcome.message


def test_a_wide_leaf_takes_its_cpus_from_the_workers(kit, monkeypatch):
    machines(kit, monkeypatch, "[machine.here.resources]\ncpus = 2")
    wide = kit.script("date +%s.%N; sleep 0.1; date +%s.%N", metadata={"annotations": {"dflow-hpc/machine": "here"}})

    async def work(host):
        return await asyncio.gather(*(host.run(kit.request(wide, result=True)) for _ in range(2)))

    spans = [tuple(map(float, outcome.outputs["result"].split())) for outcome in kit.with_host(work, workers=2)]
    assert spans[0][1] <= spans[1][0] or spans[1][1] <= spans[0][0]


def test_a_directory_without_a_record_has_none(tmp_path):
    assert read_record(tmp_path / "nothing") is None
    (tmp_path / ".exit.json").write_text('{"no')  # what a leaf that is killed while writing leaves
    assert read_record(tmp_path) is None
