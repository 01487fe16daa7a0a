"""Kill the engine, the zygote or all of them at random instants of a run, resume, and compare with an undisturbed run.

    python tests/campaign/kill.py --seed 1 --kills 50

Each leaf appends lines to one ledger (O_APPEND, so their order is that of the events): ``start``, ``mid``, ``end``,
each with its pod's name, its pid and the time since boot. What must hold:

- the run ends as an undisturbed one does: same nodes, outputs and artifacts;
- a leaf whose ``exit.json`` existed just after a kill never starts again;
- of two processes of one leaf the first has written its last line before the second writes its first.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noting import note

from dflow_hpc import PythonOPTemplate, Step, Workflow
from dflow_hpc.compile import Compiled
from dflow_hpc.compile.compiler import compile_workflow
from dflow_hpc.engines.local import provision
from dflow_hpc.engines.local.rundir import RunDir
from dflow_hpc.engines.local.state import RunState
from dflow_hpc.engines.local.work.leftovers import children_of
from dflow_hpc.executors.journal import Reader
from dflow_hpc.manifest.ids import pod_name

NAME = "killed"
TARGETS = ("engine", "zygote", "all")
SESSION = "import sys; from dflow_hpc.engines.local.engine import LocalEngine; LocalEngine().resume(sys.argv[1])"

_LINE = 'read up rest < /proc/uptime; echo "{what} {{{{pod.name}}}} $$ $up" >> {ledger}\n'


def workflow(ledger: Path, scale: int) -> Compiled:
    """Return a workflow of about 10 * scale leaves: a chain, fan-outs of scripts and Python OPs, retries, artifacts."""
    program = Workflow("op")
    program.add(Step("op", PythonOPTemplate(note, image="x"), parameters={"n": 0, "ledger": str(ledger)}))
    with_op = compile_workflow(program)
    (op,) = (template for template in with_op.manifest["spec"]["templates"] if "script" in template)
    return Compiled(manifest(ledger, scale, op), with_op.bundle)


def manifest(ledger: Path, scale: int, op: dict[str, Any]) -> dict[str, Any]:
    """Return that workflow's manifest; ``op`` is the template of its Python OP."""

    def template(name: str, body: str, **fields: Any) -> dict[str, Any]:
        start, mid, end = (_LINE.format(what=what, ledger=ledger) for what in ("start", "mid", "end"))
        source = f"set -e\n{start}sleep 0.005\n{mid}{body}\n{end}"
        return {"name": name, "script": {"image": "busybox", "command": ["sh"], "source": source}, **fields}

    number = {"parameters": [{"name": "n"}]}
    result = {"parameters": [{"name": "m", "valueFrom": {"path": "/tmp/m"}}]}
    add = template("add", "echo $(( {{inputs.parameters.n}} + 1 )) > /tmp/m", inputs=number, outputs=result)
    flaky = template(
        "flaky",
        "[ {{retries}} -ge 2 ] || { echo again; exit 1; }\necho {{inputs.parameters.n}}{{retries}} > /tmp/m",
        inputs=number,
        outputs=result,
        retryStrategy={"limit": "3"},
    )
    make = template(
        "make",
        "mkdir -p /tmp/made; echo {{inputs.parameters.n}} > /tmp/made/a; echo {{pod.name}} > /tmp/made/b",
        inputs=number,
        outputs={"artifacts": [{"name": "made", "path": "/tmp/made"}]},
    )
    take = template(
        "take",
        "cat /tmp/taken/* > /tmp/text",
        inputs={"artifacts": [{"name": "taken", "path": "/tmp/taken"}]},
        outputs={"artifacts": [{"name": "text", "path": "/tmp/text"}]},
    )

    def argument(value: str) -> dict[str, Any]:
        return {"parameters": [{"name": "n", "value": value}, {"name": "ledger", "value": str(ledger)}]}

    chain: list[dict[str, Any]] = [{"name": "c0", "template": "add", "arguments": argument("0")}]
    for i in range(1, 2 * scale):
        value = f"{{{{tasks.c{i - 1}.outputs.parameters.m}}}}"
        chain.append({"name": f"c{i}", "template": "add", "dependencies": [f"c{i - 1}"], "arguments": argument(value)})

    def looped(name: str, template: str, count: int) -> dict[str, Any]:
        return {"name": name, "template": template, "arguments": argument("{{item}}"), "withSequence": {"count": count}}

    pairs: list[dict[str, Any]] = []
    for i in range(scale):
        pairs.append({"name": f"make{i}", "template": "make", "arguments": argument(str(i))})
        source = {"name": "taken", "from": f"{{{{tasks.make{i}.outputs.artifacts.made}}}}"}
        after = {"name": f"take{i}", "template": "take", "dependencies": [f"make{i}"]}
        pairs.append({**after, "arguments": {"artifacts": [source]}})
    steps = [
        [looped("ops", op["name"], 2 * scale), looped("fan", "add", scale), {"name": "pairs", "template": "pairs"}],
        [looped("flaky", "flaky", scale), {"name": "chain", "template": "chain"}],
    ]
    return {
        "metadata": {"name": NAME},
        "spec": {
            "entrypoint": "main",
            "templates": [
                {"name": "main", "steps": steps},
                {"name": "pairs", "dag": {"tasks": pairs}},
                {"name": "chain", "dag": {"tasks": chain}},
                *(op, add, flaky, make, take),
            ],
        },
    }


def new_run(base: Path, scale: int) -> RunDir:
    """Make a run that nobody works on yet."""
    base.mkdir()
    return provision.new_run(base, workflow(base / "ledger", scale))


def start(run: RunDir) -> "subprocess.Popen[bytes]":
    """Start a session on it, in a process group of its own."""
    log = run.path.with_name("log").open("ab")
    with log:
        return subprocess.Popen(
            [sys.executable, "-c", SESSION, str(run.path)], stdout=log, stderr=log, start_new_session=True
        )


def result(run: RunDir) -> dict[str, Any]:
    """Return all that must not depend on how often a run was killed."""
    nodes = RunState(run.name, Reader(run.journal).read()).tree.status()["nodes"]
    kept = {}
    for node in nodes.values():
        kept[node["id"]] = {key: value for key, value in node.items() if key not in ("startedAt", "finishedAt")}
        kept[node["id"]]["children"] = sorted(node.get("children", ()))
    files = {
        str(path.relative_to(run.store)): path.read_text()
        for path in sorted(run.store.rglob("*"))
        if path.is_file() and ".incoming" not in path.parts
    }
    here = json.dumps({"nodes": kept, "files": files}).replace(str(run.path.parent), "BASE")
    anywhere: dict[str, Any] = json.loads(here)
    return anywhere


def recorded(run: RunDir) -> set[str]:
    """Return the ids of the nodes whose leaves have a record."""
    found = set()
    for record in run.path.glob("*/exit.json"):
        found.add(json.loads(record.read_text())["node"])
    return found


@dataclass
class Ledger:
    """What the leaves wrote."""

    path: Path
    problems: list[str] = field(default_factory=list)

    def lines(self, offset: int = 0) -> Iterator[list[str]]:
        """Yield its lines, split in words."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(offset)
                for line in file.read().decode().splitlines():
                    yield line.split()

    def size(self) -> int:
        """Return its size in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def overlaps(self) -> list[str]:
        """Return the processes that wrote after another one of the same leaf had started."""
        current: dict[str, str] = {}
        found = []
        for what, pod, pid, when in self.lines():
            if what == "start":
                current[pod] = pid
            elif current.get(pod) != pid:
                found.append(f"{pod}: process {pid} wrote '{what}' at {when} after {current.get(pod)} had started")
        return found


def kill(engine: "subprocess.Popen[bytes]", target: str) -> None:
    """Kill with SIGKILL what ``target`` says: the engine, its zygote, or all that descends from the engine at once."""
    below = descendants(engine.pid)
    pids = {"engine": [engine.pid], "zygote": below[:1], "all": [engine.pid, *below]}[target]
    for pid in pids or [engine.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def descendants(pid: int) -> list[int]:
    """Return the pids of all descendants of a process, children first."""
    found = [pid]
    for each in found:
        found += children_of(each)
    return found[1:]


def disturbed(base: Path, scale: int, rng: random.Random, kills: int, pace: float) -> tuple[RunDir, int, list[str]]:
    """Run to the end with at most ``kills`` kills, one about every ``pace`` seconds; return what is wrong, too."""
    run = new_run(base, scale)
    ledger = Ledger(base / "ledger")
    pods = {}
    problems: list[str] = []
    done = 0
    while True:
        offset, records = ledger.size(), recorded(run)
        engine = start(run)
        try:
            engine.wait(rng.uniform(0.0, 2 * pace) if done < kills else 300)
        except subprocess.TimeoutExpired:
            kill(engine, rng.choice(TARGETS))
            done += 1
            if engine.poll() is None:  # only the zygote was killed: the engine notices and ends, or goes on
                engine.wait(300)
        for node in RunState(run.name, Reader(run.journal).read()).tree.nodes.values():
            pods[pod_of(node)] = node["id"]
        again = {words[1] for words in ledger.lines(offset) if words[0] == "start" and pods.get(words[1]) in records}
        problems += [f"{pod}: ran again although it had a record" for pod in sorted(again)]
        if RunState(run.name, Reader(run.journal).read()).ended:
            return run, done, problems + ledger.overlaps()


def pod_of(node: dict[str, Any]) -> str:
    """Return the pod's name of a node."""
    return pod_name(NAME, node["name"], node.get("templateName", ""))


def campaign(directory: Path, *, seed: int, kills: int, scale: int) -> list[str]:
    """Kill so often, in as many runs as that takes, and return what is wrong."""
    rng = random.Random(seed)
    begin = time.monotonic()
    quiet, _, problems = disturbed(directory / "quiet", scale, rng, 0, 0)
    pace = (time.monotonic() - begin) / 6
    expected = result(quiet)
    assert all(node["phase"] == "Succeeded" for node in expected["nodes"].values() if node["type"] != "Pod")
    number = 0
    while kills > 0:
        number += 1
        run, done, found = disturbed(directory / f"run{number}", scale, rng, kills, pace)
        kills -= done
        problems += [f"run {number}: {problem}" for problem in found]
        problems += [f"run {number}: {line}" for line in differences(expected, result(run))]
        print(f"run {number}: {done} kills, {len(problems)} problems so far", flush=True)
    return problems


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return one line for each thing that is not as in the undisturbed run."""
    lines = []
    for kind, wanted in expected.items():
        for key in sorted({*wanted, *found[kind]}):
            if wanted.get(key) != found[kind].get(key):
                lines.append(f"{kind} {key}: {wanted.get(key)} became {found[kind].get(key)}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--scale", type=int, default=20, help="the run has about ten times as many leaves")
    parser.add_argument("--keep", type=Path, help="work here and leave everything for inspection")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.keep or Path(temporary)
        problems = campaign(directory, seed=options.seed, kills=options.kills, scale=options.scale)
    for problem in problems:
        print(problem)
    print(f"seed {options.seed}, {options.kills} kills: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
