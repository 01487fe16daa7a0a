"""The benchmark ``machines``: our leaves as jobs of a machine, in turns with one native job array of the same tasks.

The machine is a profile of yours (``--machine NAME``), or the cluster ``cpu`` of tests/rig, which is brought up first.
The native array is what the machine's own scheduler class makes of the same profile, so that it has the same flags;
its time begins after its login, ours with the start of our process.

Peak memory is the kernel's ``VmHWM`` of each process of the engine, read while it runs: a high-water mark,
so that few looks are enough.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import HERE, scratch

from dflow_hpc.executors import schedulers
from dflow_hpc.executors.profiles.machine import FILE_NAME, Machines, machine_files
from dflow_hpc.executors.schedulers import Accepted, JobScript
from dflow_hpc.executors.transport import Transport, open_transport

CTL = HERE.parent / "tests" / "rig" / "slurm" / "ctl"
PROFILES = """
[machine.cpu]
scheduler = "slurm"
host = "cpu"
ssh_config = "{ssh_config}"
root = "{root}/bench"
[machine.cpu.resources]
queue = "cpu"
memory = "100MB"
time = "10m"
"""
LOOK = 0.2


@dataclasses.dataclass
class Run:
    """One run of ours."""

    wall: float
    cpu: float
    """Seconds of the engine, the zygote and what they started here."""
    peaks: dict[str, float]
    """MB, by process: ``engine``, ``zygote``."""
    traffic: str
    """As the engine says it: logins, commands, bytes, questions by kind."""


def benchmark(pairs: int, machine: str | None, count: int = 1000, small: int = 100) -> None:
    """Run and print it all.

    Args:
        pairs: Of shell leaves and native array, in turns.
        machine: The profile; None is the project's rig.
        count: Leaves.
        small: Leaves of the runs that peak memory is compared with.
    """
    name = machine or _rig()
    native = Native(name)
    native.run(1, 0)  # what it loads for the first time is not counted
    print(f"machines: {count} leaves of `sleep 2` on machine {name}, and the same as one native array", flush=True)
    few = ours("shell", small, 2, name, native)
    _say(f"shell, {small} leaves", few)
    runs, arrays = [], []
    for _ in range(pairs):
        arrays.append(native.run(count, 2))
        print(f"  native array                 wall {arrays[-1]:8.2f} s", flush=True)
        runs.append(ours("shell", count, 2, name, native))
        _say(f"shell, {count} leaves", runs[-1])
    ratio = statistics.median(run.wall / array for run, array in zip(runs, arrays, strict=True))
    more = statistics.median(run.wall - array for run, array in zip(runs, arrays, strict=True))
    print(f"  ours to native: x{ratio:.2f}, {more:+.1f} s (medians of {pairs} pairs)", flush=True)
    _grown(few, runs[-1])
    few = ours("op", small, 2, name, native)
    _say(f"Python OPs, {small}", few)
    run = ours("op", count, 2, name, native)
    _say(f"Python OPs, {count}", run)
    _grown(few, run)
    native.close()


def _say(title: str, run: Run) -> None:
    peaks = ", ".join(f"{process} {peak:.0f} MB" for process, peak in run.peaks.items())
    print(f"  {title:<28} wall {run.wall:8.2f} s  cpu {run.cpu:8.2f} s  peak {peaks}\n    {run.traffic}", flush=True)


def _grown(few: Run, many: Run) -> None:
    grown = ", ".join(f"{process} x{many.peaks[process] / few.peaks[process]:.2f}" for process in few.peaks)
    total = sum(many.peaks.values()) / sum(few.peaks.values())
    print(f"  peak memory, many to few: {grown}, together x{total:.2f}", flush=True)


def _rig() -> str:
    """Bring the project's own clusters up and write a profile of one."""
    facts = json.loads(Path(subprocess.check_output([CTL, "up"], text=True).strip()).read_text())["cpu"]
    place = Path(tempfile.mkdtemp(dir=scratch()), FILE_NAME)
    place.write_text(PROFILES.format(**facts))
    os.environ["DFLOW_MACHINES"] = str(place)
    return "cpu"


class Native:
    """Native arrays on the machine, over a login that is kept."""

    def __init__(self, profile: str):
        self._machine = Machines(machine_files()).get(profile)
        self._scheduler = schedulers.get(self._machine.scheduler)
        self._link: Transport = open_transport(self._machine)
        root = (self._machine.root or ".dflow-hpc/machine").removeprefix("~/")
        answer = self._link.run(f"mkdir -p {root}/native && cd {root}/native && pwd -P")
        if answer.rc:
            raise RuntimeError(f"{root} cannot be made there: {answer.err.decode()}")
        self._directory = answer.out.decode().strip()

    def run(self, count: int, seconds: float) -> float:
        """Submit an array that sleeps and writes one number a task; return the seconds until none is in the queue."""
        self.drain()
        body = f'mkdir -p out\nsleep {seconds}\necho $((DFH_INDEX + 1)) > "out/$DFH_INDEX"\n'
        job = JobScript("native", "bench/native", self._directory, self._machine.resources, body, members=count)
        begin = time.monotonic()
        command = f"rm -rf {self._directory}/out; cd {self._directory} && cat > job.sh && " + self._scheduler.submit(
            "job.sh"
        )
        answer = self._link.run(command, self._scheduler.script(job).encode())
        taken = self._scheduler.submitted(answer.rc, answer.out.decode(), answer.err.decode())
        if not isinstance(taken, Accepted):
            raise RuntimeError(  # noqa: TRY004
                f"the native array was not accepted: {answer.err.decode()}"
            )
        self.drain()
        wall = time.monotonic() - begin
        found = int(self._link.run(f"ls {self._directory}/out | wc -l").out)
        if found != count:
            raise RuntimeError(f"of {count} native tasks {found} left their output")
        return wall

    def drain(self) -> None:
        """Wait until no job of ours is in the queue."""
        while True:
            answer = self._link.run(self._scheduler.queue())
            states = self._scheduler.read_queue(answer.rc, answer.out.decode(), answer.err.decode())
            if all(state.phase is schedulers.Phase.ENDED for state in states):
                return
            time.sleep(1)

    def close(self) -> None:
        """Give the login up."""
        self._link.close()


def ours(kind: str, count: int, seconds: float, profile: str, native: Native) -> Run:
    """Run our leaves once.

    Raises:
        RuntimeError: They failed; a failure is never a figure.
    """
    native.drain()
    place = Path(tempfile.mkdtemp(dir=scratch()))
    words = [sys.executable, HERE / "workloads" / "machines_ours.py", kind, str(count), str(seconds), profile]
    environment = {**os.environ, "XDG_STATE_HOME": str(place)}
    peaks: dict[str, float] = {}
    with (place / "log").open("wb") as log:
        begin = time.monotonic()
        engine = subprocess.Popen(words, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        while not (ended := os.wait4(engine.pid, os.WNOHANG))[0]:
            _look(engine.pid, "engine", peaks)
            time.sleep(LOOK)
        wall = time.monotonic() - begin
        engine.returncode = os.waitstatus_to_exitcode(ended[1])
    said = (place / "log").read_text(errors="replace")
    traffic = re.search(r"machine \S+: (\d+ login.*)", said)
    if engine.returncode or traffic is None:
        raise RuntimeError(f"the workflow ended with {engine.returncode}; its last words:\n{said[-2000:]}")
    return Run(wall, ended[2].ru_utime + ended[2].ru_stime, peaks, traffic[1])


def _look(pid: int, name: str, peaks: dict[str, float]) -> None:
    """Note the high-water marks of a process and of what it started."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return
    if mark := re.search(r"VmHWM:\s+(\d+) kB", status):
        peaks[name] = max(peaks.get(name, 0.0), int(mark[1]) / 1024)
    for child in children:
        _look(int(child), "zygote", peaks)
