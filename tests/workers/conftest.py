"""A run directory with a bundle of OPs that misbehave, and a host to run leaves of it."""

import asyncio
import json
import time

import pytest

from dflow_hpc.engines.local.work.workers import LocalLeafHost
from dflow_hpc.executors.leaf import LeafRequest

OPS = """
import multiprocessing, os, shutil, signal, subprocess, sys, time
from pathlib import Path
from dflow_hpc import OP, Artifact

@OP.function
def inc(n: int) -> {"m": int}:
    return {"m": n + 1}

@OP.function
def do(what: str) -> {"m": str}:
    return {"m": globals()[what]() or ""}

@OP.function
def append(data: Artifact(Path)) -> {"m": int}:
    with open(data, "a") as file:
        file.write("more")
    return {"m": 1}

@OP.function
def make(n: int) -> {"out": Artifact(Path)}:
    out = Path("out")
    out.mkdir()
    for i in range(n):
        (out / str(i)).touch()
    return {"out": out}

def exit_5(): os._exit(5)
def exit_0(): os._exit(0)
def kill(): os.kill(os.getpid(), signal.SIGKILL)
def segfault(): os.kill(os.getpid(), signal.SIGSEGV)
def sys_exit(): sys.exit(7)
def loud():
    line = "x" * 1023
    for _ in range(100 * 1024): print(line)
def close_output(): os.close(1); os.close(2)
def leave_child(): subprocess.Popen(["sleep", "1000"])
def leave_daemon():
    if os.fork() == 0:
        os.setsid()
        for fd in (0, 1, 2): os.close(fd)
        time.sleep(1000)
def fork_and_return():
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
def fork_and_end():
    for _ in range(200):
        pid = os.fork()
        if pid == 0: time.sleep(1000); os._exit(0)
        os.kill(pid, signal.SIGTERM)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGTERM: return "another end"
def pool():
    with multiprocessing.Pool(2) as p: a = p.map(abs, [-1, 2])
    with multiprocessing.get_context("spawn").Pool(1) as p: b = p.map(abs, [-3])
    return str(a + b)
def unclosed_pool():
    global keep
    keep = multiprocessing.Pool(1)
    keep.map(abs, [1])
def change_directory(): os.chdir("/"); os.umask(0o077)
def remove_own(): shutil.rmtree(Path.cwd().parent)
def sleep(): time.sleep(1000)
def sleep_and_clean():
    try: time.sleep(1000)
    finally: Path("cleaned").touch()
def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
def raise_it(): raise ValueError("what was wrong")
def write_much():
    with open("big", "wb") as file: file.write(b"x" * (64 << 20))
def say(): print("said"); print("aside", file=sys.stderr)
"""


def parameters(values):
    return [{"name": name, "value": str(value)} for name, value in values.items()]


class Kit:
    """Makes requests, and runs them on a host of its own."""

    def __init__(self, run_dir):
        self.run_dir = run_dir
        self.host = None
        self.started = []
        self.progress = []
        self._count = 0

    def request(self, template, inputs=None, artifacts=(), node=None, result=False, deadline=None):
        self._count += 1
        node = node or f"run-{self._count}"
        return LeafRequest(
            node_id=node,
            node_name=f"run[0].step({self._count}:a.b)",
            template=template,
            inputs={"parameters": parameters(inputs or {}), "artifacts": list(artifacts)},
            pod_name=f"run-step-{self._count}",
            workflow_name="run",
            workflow_uid="uid",
            capture_result=result,
            on_running=lambda: self.started.append(node),
            on_progress=lambda text: self.progress.append((node, text)),
            deadline=deadline,
        )

    def op(self, name="do", *, annotations=None, outputs=None, **record):
        """Return the template of an OP of the bundle."""
        record = {"entry": {"kind": "script", "file": "ops.py", "name": name}, **record}
        path = "/tmp/outputs/parameters/m"
        return {
            "name": name,
            "metadata": {"annotations": {"dflow-hpc/op": json.dumps(record), **(annotations or {})}},
            "outputs": outputs or {"parameters": [{"name": "m", "valueFrom": {"path": path}}]},
            "script": {"image": "python", "command": ["python3"], "source": "never run here"},
        }

    def script(self, source, **fields):
        return {"name": "t", "script": {"image": "busybox", "command": ["sh"], "source": source}, **fields}

    def make_host(self, **options):
        options = {"workers": 2, "grace": 0.2, "code_dir": self.run_dir / "code", **options}
        store = {"workdir": str(self.run_dir.parent), "artifact_dir": "."}
        return LocalLeafHost(self.run_dir, store=store, **options)

    def run(self, *requests, **options):
        """Run requests one after another on a fresh host; return their outcomes."""

        async def work(host):
            return [await host.run(request) for request in requests]

        return self.with_host(work, **options)

    def do(self, what, **options):
        """Run ``do(what)`` and return its outcome and its log."""
        request = self.request(self.op(), {"what": what}, **options)
        return self.run(request)[0], self.log(request)

    def sh(self, source, *, result=False, **fields):
        """Run a shell script and return its outcome."""
        return self.run(self.request(self.script(source, **fields), result=result))[0]

    def log(self, request):
        return (self.run_dir / request.node_id / "log.txt").read_text()

    def with_host(self, work, **options):
        """Run ``await work(host)`` with a started host, and close that."""

        async def main():
            self.host = self.make_host(**options)
            await self.host.start()
            try:
                return await asyncio.wait_for(work(self.host), 60)
            finally:
                await self.host.close()

        return asyncio.run(main())


@pytest.fixture
def kit(tmp_path):
    run_dir = tmp_path / "run"
    (run_dir / "store").mkdir(parents=True)
    (run_dir / "workflow.json").write_text("{}")
    code = run_dir / "code" / "code"
    code.mkdir(parents=True)
    (code / "ops.py").write_text(OPS)
    (run_dir / "code" / "bundle.json").write_text(json.dumps({"files": {}, "python": "3.11", "script": "ops.py"}))
    return Kit(run_dir)


@pytest.fixture
def soon():
    """Return a deadline that is near, and late enough for a leaf on a busy machine to have begun."""
    return lambda seconds=2.0: time.time() + seconds
