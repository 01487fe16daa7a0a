"""The local engine from end to end, on workflows of shell scripts."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dflow_hpc.compile import Compiled
from dflow_hpc.config import config
from dflow_hpc.errors import ConfigError, EngineError

RESUME = "import sys; from dflow_hpc.engines.local.engine import LocalEngine; LocalEngine().resume(sys.argv[1])"


def phases(workflow):
    return {node["displayName"]: node["phase"] for node in workflow["status"]["nodes"].values()}


def wait_for(path):
    """Wait for a file that a step makes."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        threading.Event().wait(0.01)


def test_a_run_ends_with_argos_tree(engine, compiled, script, flags):
    run_id = engine.submit(
        compiled([["a", "b"], ["c"]], script("a", "echo A"), script("b", "exit 0"), script("c", "true"))
    )
    workflow = engine.query(run_id)
    assert workflow["status"]["phase"] == "Succeeded"
    assert workflow["metadata"]["name"] == run_id
    assert workflow["metadata"]["labels"]["workflows.argoproj.io/completed"] == "true"
    assert phases(workflow) == dict.fromkeys([run_id, "[0]", "a", "b", "[1]", "c"], "Succeeded")
    run = engine.find(run_id)
    assert (run.path / "status").read_text() == "Succeeded"
    assert [log.path.read_text() for log in engine.logs(run_id, "a")] == ["A\n"]
    assert engine.wait(run_id) == "Succeeded"
    assert [info.id for info in engine.list_runs()] == [run_id]
    assert not engine.engine_alive(run_id)
    followed = [record for records in engine.follow(run_id) for record in records]
    assert followed[-1]["status"]["phase"] == "Succeeded"


def test_a_failed_run_is_reported_not_raised(engine, compiled, script):
    run_id = engine.submit(
        compiled([["bad"], ["after"]], script("bad", "echo before; echo why >&2; exit 3"), script("after", ""))
    )
    assert phases(engine.query(run_id))["bad"] == "Failed"
    (failed,) = engine.failed_steps(run_id)
    assert failed.message == "main: Error (exit code 3)"
    assert failed.tail == ("before", "why")
    for text in ("Failed", "| why", f"dflow-hpc retry {run_id}", str(failed.log)):
        assert text in engine.said()


def test_retry_keeps_what_succeeded_and_moves_old_directories_aside(engine, compiled, script, flags):
    counter = flags / "counter"
    good = script("good", f"echo good >> {counter}")
    run_id = engine.submit(
        compiled([["good"], ["bad"], ["after"]], good, script("bad", "exit 1"), script("after", "exit 0"))
    )
    with_fix = compiled([["good"], ["bad"], ["after"]], good, script("bad", "echo fixed"), script("after", "exit 0"))
    engine.retry(run_id, rebuild=lambda: with_fix)
    workflow = engine.query(run_id)
    assert set(phases(workflow).values()) == {"Succeeded"}
    assert "message" not in workflow["status"]
    assert counter.read_text() == "good\n"
    assert [log.path.read_text() for log in engine.logs(run_id, "bad")] == ["fixed\n"]
    bad = next(log for log in engine.logs(run_id, "bad"))
    assert (bad.path.parent.with_name(f".{bad.path.parent.name}.1") / "exit.json").exists()
    assert "1 finished steps are taken over" in engine.said()
    with pytest.raises(EngineError, match="resubmit"):
        engine.retry(run_id)


def test_a_step_that_succeeded_runs_again_if_asked(engine, compiled, script, flags):
    counter = flags / "counter"
    counts = [script(name, f"echo {name} >> {counter}") for name in "ab"]
    run_id = engine.submit(compiled([["a"], ["b"]], *counts))
    second = engine.logs(run_id, "b")[0].node_id
    engine.retry(run_id, only=[second])
    assert counter.read_text() == "a\nb\nb\n"
    with pytest.raises(EngineError, match="it has none of that id"):
        engine.retry(run_id, only=["x"])


def test_a_retry_with_the_same_code_fails_again(engine, compiled, script):
    run_id = engine.submit(compiled([["bad"]], script("bad", "exit 1")))
    engine.retry(run_id)
    assert engine.query(run_id)["status"]["phase"] == "Failed"


def test_submitting_under_the_id_of_a_run_goes_on_with_it(engine, compiled, script, flags):
    flag, counter = flags / "flag", flags / "counter"
    work = compiled([["good"], ["bad"]], script("good", f"echo x >> {counter}"), script("bad", f"test -e {flag}"))
    assert engine.submit(work, id="mine") == "mine"
    assert engine.query("mine")["status"]["phase"] == "Failed"
    flag.touch()
    engine.submit(work, id="mine")
    assert engine.query("mine")["status"]["phase"] == "Succeeded"
    assert counter.read_text() == "x\n"
    engine.submit(work, id="mine")
    assert engine.said().endswith("has succeeded already; nothing to do")
    engine.submit(compiled([["other"]], script("other", "")), id="mine")
    assert "workflow or its code has changed since" in engine.said()
    assert "dflow-hpc delete mine" in engine.said()


def test_a_manifest_with_a_name_does_not_touch_a_run_of_that_name(engine, compiled, script):
    engine.submit(compiled([["a"]], script("a", ""), name="fixed"))
    with pytest.raises(EngineError, match="is there already"):
        engine.submit(compiled([["a"]], script("a", ""), name="fixed"))


def test_a_detached_run_goes_on_alone_and_can_be_stopped(engine, compiled, script, flags):
    started = flags / "started"
    run_id = engine.submit(
        compiled([["long"], ["after"]], script("long", f"touch {started}; sleep 60"), script("after", "")), detach=True
    )
    assert engine.engine_alive(run_id)
    with pytest.raises(EngineError, match="does that already"):
        engine.delete(run_id)
    wait_for(started)
    assert engine.wait(run_id, timeout=0.01) == "Running"
    engine.stop(run_id)
    assert engine.wait(run_id, timeout=30) == "Failed"
    workflow = engine.query(run_id)
    assert workflow["spec"]["shutdown"] == "Stop"
    assert phases(workflow)["long"] == "Failed"
    assert workflow["status"]["message"] == "Stopped with strategy 'Stop'"
    with pytest.raises(EngineError, match="has ended"):
        engine.resume(run_id)
    engine.delete(run_id)
    assert engine.list_runs() == []


def test_a_suspended_run_waits_for_resume(engine, compiled, script, flags):
    started, go = flags / "started", flags / "go"
    first = script("first", f"touch {started}; while ! test -e {go}; do sleep 0.02; done")
    second = flags / "second"
    run_id = engine.submit(compiled([["first"], ["second"]], first, script("second", f"touch {second}")), detach=True)
    wait_for(started)
    engine.suspend(run_id)
    for records in engine.follow(run_id):
        if {"spec": {"suspend": True}} in records:
            break
    go.touch()
    for records in engine.follow(run_id):
        if any(record.get("set", {}).get("phase") == "Succeeded" for record in records):
            break
    assert engine.query(run_id)["spec"]["suspend"] is True
    assert not second.exists()
    engine.resume(run_id)
    assert engine.wait(run_id, timeout=30) == "Succeeded"
    assert "suspend" not in engine.query(run_id)["spec"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_run_that_can_be_resumed(engine, compiled, script, flags, number):
    once, go, ended = flags / "once", flags / "go", flags / "ended"
    first = script("first", f"echo x >> {once}")
    second = script("second", f"trap 'touch {ended}; exit 1' TERM; touch {go}; while :; do sleep 0.02; done")
    run_id = engine.submit(compiled([["first"], ["second"]], first, second), detach=True)
    wait_for(go)
    os.kill(engine.find(run_id).lock.alive().pid, number)
    with pytest.raises(EngineError, match="dflow-hpc resume"):
        engine.wait(run_id, timeout=30)
    assert ended.exists()
    assert phases(engine.query(run_id))["second"] == "Running"
    assert f"dflow-hpc resume {run_id}" in engine.find(run_id).log.read_text()
    go.unlink()
    with subprocess.Popen(
        [sys.executable, "-c", RESUME, str(engine.find(run_id).path)], stderr=subprocess.PIPE
    ) as again:
        wait_for(go)
        again.send_signal(signal.SIGINT)
        said = again.stderr.read().decode()
    assert "KeyboardInterrupt" in said
    assert once.read_text() == "x\n"


def test_a_dead_run_can_be_stopped(engine, compiled, script, flags):
    go = flags / "go"
    run_id = engine.submit(compiled([["long"]], script("long", f"touch {go}; sleep 60")), detach=True)
    wait_for(go)
    os.kill(engine.find(run_id).lock.alive().pid, signal.SIGKILL)
    assert engine.find(run_id).lock.wait(30)
    engine.stop(run_id)
    assert engine.query(run_id)["status"]["phase"] == "Failed"


def test_a_run_beside_a_running_event_loop(engine, compiled, script):
    async def cell():
        return engine.submit(compiled([["a"]], script("a", "echo A")))

    assert engine.query(asyncio.run(cell()))["status"]["phase"] == "Succeeded"


def test_a_full_disk_breaks_the_run_off_and_loses_nothing(engine, compiled, script, flags, monkeypatch, make_engine):
    once = flags / "once"
    work = compiled([["first"], ["second"]], script("first", f"echo x >> {once}"), script("second", "exit 0"))
    real = os.write
    full = False

    def write(fd, data):
        if full and b'"c":' in bytes(data[:5]):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    def on_change(record):
        nonlocal full
        full = full or record.get("set", {}).get("phase") == "Succeeded"

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(EngineError, match=r"No space left on device.*Nothing is lost"):
        make_engine(on_change=on_change).submit(work, id="full")
    full = False
    monkeypatch.setattr(os, "write", real)
    engine.resume("full")
    assert engine.query("full")["status"]["phase"] == "Succeeded"
    assert once.read_text() == "x\n"


def test_failfast_ends_the_run_at_the_first_failure(engine, compiled, script, monkeypatch):
    monkeypatch.setitem(config, "debug_failfast", True)
    run_id = engine.submit(compiled([["bad", "long"]], script("bad", "exit 1"), script("long", "sleep 60")))
    assert phases(engine.query(run_id))["long"] == "Failed"


def test_resubmit_runs_anew(engine, compiled, script):
    first = engine.submit(compiled([["a"]], script("a", "exit 1")))
    second = engine.resubmit(first)
    assert second != first
    assert engine.query(second)["status"]["phase"] == "Failed"


def test_gc_removes_old_ended_runs_only(engine, compiled, script, tmp_path):
    old = engine.submit(compiled([["a"]], script("a", "mkdir d; touch d/f; chmod 0555 d")))
    new = engine.submit(compiled([["a"]], script("a", "")))
    journal = engine.find(old).journal
    os.utime(journal, (0, 0))
    assert [info.id for info in engine.gc(3600, dry_run=True)] == [old]
    assert [info.id for info in engine.gc(3600)] == [old]
    assert [info.id for info in engine.list_runs()] == [new]
    assert not journal.parent.exists()


def test_logs_are_found_by_what_a_user_calls_a_step(engine, script):
    steps = [[{"name": "part", "template": "part"}], [{"name": "fan", "template": "say", "withItems": ["x", "y"]}]]
    inner = [[{"name": "flaky", "template": "flaky"}]]
    templates = [
        {"name": "main", "steps": steps},
        {"name": "part", "steps": inner},
        script("say", "echo said"),
        script("flaky", "test {{retries}} = 1", retryStrategy={"limit": "2"}),
    ]
    manifest = {"metadata": {"generateName": "t-"}, "spec": {"entrypoint": "main", "templates": templates}}
    run_id = engine.submit(Compiled(manifest))

    def found(step):
        return [log.name.removeprefix(run_id) for log in engine.logs(run_id, step)]

    attempts = ["[0].part[0].flaky(0)", "[0].part[0].flaky(1)"]
    assert found("part") == found("flaky") == attempts
    assert found("flaky(1)") == attempts[1:]
    assert found("fan") == ["[1].fan(0:x)", "[1].fan(1:y)"]
    assert found(run_id) == found(None)


def test_a_step_that_is_not_there_is_named(engine, compiled, script):
    run_id = engine.submit(compiled([["a"]], script("a", "")))
    with pytest.raises(EngineError, match="steps that ran are: a"):
        engine.logs(run_id, "b")


def test_a_setting_that_would_be_ignored_is_refused(engine, compiled, script, monkeypatch):
    monkeypatch.setitem(config, "debug_s3", True)
    with pytest.raises(EngineError, match="debug_s3"):
        engine.submit(compiled([["a"]], script("a", "")))


def test_a_misspelled_setting_is_refused(engine, compiled, script, monkeypatch):
    monkeypatch.setitem(config, "isolation", "spwn")
    with pytest.raises(ConfigError, match=r"isolation was 'spwn' \(set by: program\); it is one of fork, spawn"):
        engine.submit(compiled([["a"]], script("a", "")))
    assert engine.list_runs() == []


def test_nothing_is_left_of_a_submission_that_failed(engine, tmp_path):
    class Bad:
        data = b"no zip"
        files = {}
        notices = ()

    with pytest.raises(Exception, match="bundle"):
        engine.submit(Compiled({"metadata": {"generateName": "x-"}, "spec": {}}, bundle=Bad()))
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_suspended_step_gets_the_values_that_it_waits_for(engine, compiled, script):
    ask = {
        "name": "ask",
        "suspend": {},
        "outputs": {"parameters": [{"name": "answer", "valueFrom": {"supplied": {}}}]},
    }
    use = script("use", "echo {{inputs.parameters.answer}}", inputs={"parameters": [{"name": "answer"}]})
    work = compiled([["ask"], ["use"]], ask, use)
    value = "{{steps.ask.outputs.parameters.answer}}"
    work.manifest["spec"]["templates"][0]["steps"][1][0]["arguments"] = {
        "parameters": [{"name": "answer", "value": value}]
    }
    run_id = engine.submit(work, detach=True)
    for records in engine.follow(run_id):
        if any(record.get("set") == {"phase": "Running"} for record in records):
            break
    engine.resume(run_id, node="nobody")
    engine.resume(run_id, node="ask", parameters={"answer": "42"})
    assert engine.wait(run_id, timeout=30) == "Succeeded"
    assert [log.path.read_text() for log in engine.logs(run_id, "use")] == ["42\n"]
    assert "suspended nodes that match 'nobody'" in engine.find(run_id).log.read_text()


def test_what_ended_before_its_session_did_is_listed_as_ended(engine, compiled, script):
    run_id = engine.submit(compiled([["a"]], script("a", "")))
    (engine.find(run_id).path / "status").write_text("Running")  # killed just before this was written
    assert [info.phase for info in engine.list_runs()] == ["Succeeded"]


def test_ctrl_c_beside_a_running_event_loop_leaves_a_run_that_can_be_resumed(engine, compiled, script, flags):
    started = flags / "started"
    work = compiled([["long"]], script("long", f"touch {started}; sleep 60"))

    def press():
        wait_for(started)
        os.kill(os.getpid(), signal.SIGINT)

    async def cell():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as a kernel has it while a cell runs
        threading.Thread(target=press).start()
        with pytest.raises(KeyboardInterrupt):
            engine.submit(work, id="cell")

    asyncio.run(cell())
    assert engine.query("cell")["status"]["phase"] == "Running"
    assert not engine.engine_alive("cell")
    engine.terminate("cell")
    assert engine.query("cell")["status"]["phase"] == "Failed"
