"""Run directories: names, locks that show who is alive, the index."""

import os
import subprocess
import sys
import threading

import pytest

from dflow_hpc.engines.local import index
from dflow_hpc.engines.local.rundir import Lock, RunDir, process_start
from dflow_hpc.errors import EngineError

MANIFEST = {"metadata": {"generateName": "hello-"}, "spec": {"entrypoint": "main", "templates": []}}

HOLD = """
import sys
from pathlib import Path
from dflow_hpc.engines.local.rundir import Lock
Lock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def create(base, id=None, manifest=MANIFEST):
    run = RunDir.create(base, manifest["metadata"], id=id, settings={})
    assert not run.exists
    run.write_workflow(manifest)
    return run


def test_names_are_given_or_unique(tmp_path):
    first, second = create(tmp_path), create(tmp_path)
    assert first.name != second.name
    assert first.name.startswith("hello-")
    assert len(first.name) == len("hello-") + 10
    assert create(tmp_path, "mine").name == "mine"
    assert create(tmp_path, manifest={**MANIFEST, "metadata": {"name": "named"}}).name == "named"
    with pytest.raises(EngineError, match="is there already"):
        create(tmp_path, "mine")
    with pytest.raises(EngineError, match="name is that of its directory"):
        create(tmp_path, "../x")


def test_a_made_up_name_fits_in_argos_limit(tmp_path):
    manifest = {**MANIFEST, "metadata": {"generateName": "n" * 70 + "-"}}
    assert len(create(tmp_path, manifest=manifest).name) == 63


def test_the_manifest_gets_name_uid_and_time_once(tmp_path):
    run = create(tmp_path, "a")
    first = run.workflow()
    assert first["metadata"]["name"] == "a"
    assert first["kind"] == "Workflow"
    run.write_workflow({**MANIFEST, "spec": {"entrypoint": "other"}})
    second = run.workflow()
    assert second["spec"] == {"entrypoint": "other"}
    assert second["metadata"] == first["metadata"]


def test_a_directory_that_cannot_be_made_is_an_engine_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="debug_workdir"):
        create(tmp_path / "file")


def test_a_lock_is_held_by_one_and_free_after_a_kill(tmp_path):
    path = tmp_path / "engine.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        lock = Lock(path)
        assert lock.alive().pid == holder.pid
        assert not lock.wait(timeout=0.01)
        with pytest.raises(EngineError, match=f"process {holder.pid} "):
            lock.acquire()
        ended = []
        waiter = threading.Thread(target=lambda: ended.append(lock.wait(timeout=30)))
        waiter.start()
        holder.kill()
        waiter.join(30)
        assert ended == [True]
        assert lock.alive() is None
    with lock.held():
        assert lock.alive().pid == os.getpid()
    assert lock.holder() is None


def test_a_zombie_does_not_count_as_alive():
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        child.stdout.read()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process_start(child.pid) is None


def test_the_index_finds_runs_wherever_they_lie(tmp_path):
    runs = [create(tmp_path / "a", "alpha"), create(tmp_path / "b", "alphabet"), create(tmp_path / "c", "alpha")]
    for run in runs:
        index.add(run)
    assert sorted(run.path for run in index.runs()) == sorted(run.path for run in runs)
    assert index.find("alphab").name == "alphabet"
    assert index.find("alpha", beside=[tmp_path / "c"]).path == runs[2].path
    assert index.find(str(tmp_path / "a" / "alpha")).path == runs[0].path
    with pytest.raises(EngineError, match="2 fit"):
        index.find("alpha")
    with pytest.raises(EngineError, match="none of the 3 known runs"):
        index.find("beta")


def test_the_index_drops_what_was_removed_and_keeps_what_is_not_mounted(tmp_path):
    removed, unmounted = create(tmp_path / "a", "removed"), create(tmp_path / "disk", "unmounted")
    index.add(removed)
    index.add(unmounted)
    subprocess.run(["rm", "-r", str(removed.path)], check=True)
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    assert index.runs() == []
    (tmp_path / "elsewhere").rename(tmp_path / "disk")
    assert [run.name for run in index.runs()] == ["unmounted"]
    assert len(list(index.index_dir().iterdir())) == 1


def test_a_leaf_is_found_by_its_key_or_by_its_id(tmp_path):
    run = create(tmp_path, "r")

    def node(id, key):
        return {"id": id, "inputs": {"parameters": [{"name": "dflow_key", "value": key}]}}

    for name, owner in (("good", "r-1"), ("shared", "r-2"), ("r-3", "r-3")):
        (run.path / name).mkdir()
        (run.path / name / "exit.json").write_text(f'{{"node": "{owner}"}}')
    (run.path / "runs-now").mkdir()
    (run.path / "runs-now" / "log.txt").touch()
    expected = {"good": "good", "shared": "r-3", "code": "r-4", "../x": "r-5", "runs-now": "runs-now"}
    ids = {"good": "r-1", "shared": "r-3", "code": "r-4", "../x": "r-5", "runs-now": "r-6"}
    assert {key: run.leaf_dir(node(ids[key], key)).name for key in expected} == expected
