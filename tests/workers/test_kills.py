"""kill -9 of the engine, the zygote and of everything at once, each followed by another life of the run.

A ledger proves what must hold: each leaf's program writes a line when it starts and when it ends, and holds a file
lock in between that a second process of the same leaf could not get.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dflow_hpc.engines.local.work import leftovers
from dflow_hpc.engines.local.work.records import read_record
from dflow_hpc.engines.local.work.workers import end_leftovers

pytestmark = pytest.mark.slow

PROGRAM = """
import fcntl, os, sys, time
ledger, name = sys.argv[1:]
lock = open(f"{ledger}.{name}", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    open(ledger, "a").write(f"overlap {name}\\n")
def note(word):
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word} {name}\\n".encode())
    os.close(fd)
note("start")
if os.fork() == 0:  # a child that outlives its parent unless somebody ends it, and holds the lock
    os.setsid()
    time.sleep(0.15)
    os._exit(0)
time.sleep(0.05)
note("end")
"""

ENGINE = """
import asyncio, os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[4]]
from conftest import Kit
kit = Kit(Path(sys.argv[1]))
ledger, program = sys.argv[2:4]

async def work(host):
    async def one(number):
        template = kit.script(f"exec {sys.executable} -S {program} {ledger} {number}")
        outcome = await host.run(kit.request(template, node=f"run-{number}"))
        assert outcome.phase == "Succeeded", outcome
    print("running", flush=True)
    await asyncio.gather(*map(one, range(12)))

kit.with_host(work, workers=3)
"""


@pytest.fixture
def engine(kit, tmp_path):
    """Start an engine with 12 leaves in a process of its own; return a function that does."""
    ledger = tmp_path / "ledger"
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    script = tmp_path / "engine.py"
    script.write_text(ENGINE)
    started = []

    def start():
        arguments = [str(kit.run_dir), str(ledger), str(program), str(Path(__file__).parent)]
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        process.stdout.readline()
        return process

    start.ledger = ledger
    yield start
    for process in started:
        process.kill()
        process.communicate()
    end_leftovers(kit.run_dir)


def zygotes(run_dir):
    """Return the pids of a run's zygotes: those of its processes whose parent is none of them."""
    pids = set(leftovers.find(leftovers.belongs_to_run(str(run_dir))))
    return [pid for pid in pids if leftovers.parent_of(pid) not in pids]


def kill_engine(engine, run_dir):
    engine.kill()


def kill_zygote(engine, run_dir):
    for pid in zygotes(run_dir):
        with contextlib.suppress(ProcessLookupError):  # it ended between the look and the blow
            os.kill(pid, signal.SIGKILL)


def kill_all(engine, run_dir):
    engine.kill()
    for pid in list(leftovers.find(leftovers.belongs_to_run(str(run_dir)))):
        # Those that appear meanwhile stay: that is the point.
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize("kill", [kill_engine, kill_zygote, kill_all])
def test_no_leaf_overlaps_or_runs_again_after_its_record(kit, engine, kill):
    chance = random.Random(20)
    finished = {}
    for _ in range(4):
        process = engine()
        time.sleep(chance.uniform(0, 0.2))
        kill(process, kit.run_dir)
        if kill is kill_zygote:
            break  # the engine goes on by itself
        process.wait()
        for number in range(12):
            record = read_record(kit.run_dir / f"run-{number}")
            if record is not None:
                assert finished.setdefault(number, record) == record
    last = process if kill is kill_zygote else engine()
    _, errors = last.communicate(timeout=60)
    assert last.returncode == 0, errors
    lines = engine.ledger.read_text().split("\n")
    assert [line for line in lines if line.startswith("overlap")] == []
    for number, record in finished.items():
        assert read_record(kit.run_dir / f"run-{number}") == record
    assert {line.split()[1] for line in lines if line.startswith("end")} == {str(number) for number in range(12)}


def test_leftovers_are_found_by_mark_and_by_log(kit):
    environment = {**os.environ, leftovers.RUN_MARK: str(kit.run_dir)}
    marked = subprocess.Popen(["sleep", "1000"], env=environment)
    with (kit.run_dir / "log.txt").open("w") as log:
        logging = subprocess.Popen(["sleep", "1000"], stdout=log, env={})
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        ended = end_leftovers(kit.run_dir)
        assert sorted(text.split()[0] for text in ended) == sorted([str(marked.pid), str(logging.pid)])
        assert marked.wait() == logging.wait() == -signal.SIGKILL
        assert stranger.poll() is None
        assert end_leftovers(kit.run_dir) == []
    finally:
        for process in (marked, logging, stranger):
            process.kill()
            process.wait()


def test_a_run_whose_path_begins_alike_is_left_alone(kit):
    environment = {**os.environ, leftovers.RUN_MARK: str(kit.run_dir) + "-2"}
    with subprocess.Popen(["sleep", "1000"], env=environment) as process:
        assert end_leftovers(kit.run_dir) == []
        process.kill()


def test_a_zygote_that_cannot_start_is_told_and_not_tried_for_ever(kit, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    outcome = kit.sh("true")
    assert outcome.phase == "Error"
    assert "exit code 1" in outcome.message and "zygote.log" in outcome.message


def test_a_zygote_that_is_asked_to_end_ends_its_leaves_and_another_takes_over(kit):
    ready, go = kit.run_dir / "ready", kit.run_dir / "go"

    async def work(host):
        source = f"touch {ready}; test -e {go} || sleep 1000"
        task = asyncio.create_task(host.run(kit.request(kit.script(source))))
        while not ready.exists():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        go.touch()
        [zygote] = zygotes(kit.run_dir)
        os.kill(zygote, signal.SIGTERM)
        return await task

    outcome = kit.with_host(work)
    assert outcome.phase == "Succeeded", outcome.message
    assert "started again" in outcome.notices[0]
