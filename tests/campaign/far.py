"""A run of eighty leaves on two real Slurm clusters and an S3, and what must hold of it whatever happened meanwhile.

Each leaf appends lines to its cluster's ledger, on the file system that all hosts of the cluster share (O_APPEND, so
their order is that of the events): ``start``, ``tick``..., ``end``, each with its token, its job, host and pid.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import far_op
from kill import differences, result

from dflow_hpc import PythonOPTemplate, Step, Workflow
from dflow_hpc.compile import Compiled
from dflow_hpc.compile.compiler import compile_workflow
from dflow_hpc.config import config
from dflow_hpc.engines.local import provision
from dflow_hpc.engines.local.state import RunState
from dflow_hpc.engines.local.work import placement
from dflow_hpc.executors.broker.jobs import State
from dflow_hpc.executors.broker.records import fold
from dflow_hpc.executors.journal import Reader
from dflow_hpc.executors.profiles import placing
from dflow_hpc.executors.profiles.machine import Machines
from dflow_hpc.executors.protocol import Scripts
from dflow_hpc.executors.transport import open_transport
from dflow_hpc.storage.local import LocalStore

CLIENT = Path(__file__).with_name("far_client.py")
CLUSTER_OF = {"cpu": "cpu", "gpu": "gpu", "tight": "cpu", "again": "cpu", "packed": "cpu", "stored": "gpu"}
"""The profiles: ``tight`` has its root on a small file system, jobs of ``again`` may be requeued, leaves of ``packed``
share jobs, data of ``stored`` go by signed addresses."""
ROUTES = {"stored": 'staging = "s3"'}
ASKED = {"again": {"extra": ["--requeue"]}, "packed": {"pack": 3}}
QUICK = """\
quiet = 0.1
longest = 0.5
look_up = 3
grace = 6
throttled = 2
unreachable = 1
again = 1
fast = 0.5
steady = 1
slowest = 3
login = 0.2
"""
PROGRAM = """\
set -e
line() {{ echo "$1 $DFH_TOKEN $SLURM_JOB_ID@$(uname -n).$$ $(date +%s.%N)" >>{ledger}; }}
line start
for i in $(seq {ticks}); do sleep 0.25; line tick; done
{body}
line end
"""


def placed_on(clusters):
    """Return the cluster of each profile, as far as they are there."""
    return {name: clusters[cluster] for name, cluster in CLUSTER_OF.items() if cluster in clusters}


def profiles(clusters, waits=QUICK):
    """Return the text of machines.toml; no ``waits`` are the usual ones."""
    text = ""
    for name, there in placed_on(clusters).items():
        text += there.profile(
            name,
            root=root_of(name, there),
            more=ROUTES.get(name, ""),
            waits=waits,
            queue=there.name,
            **ASKED.get(name, {}),
        )
    return text


def root_of(name, cluster):
    """Return the root of a profile, there."""
    return f"{cluster.small_root if name == 'tight' else cluster.root}/far"


def ledger_of(cluster):
    """Return the ledger's path on a cluster."""
    return f"{cluster.root}/ledger"


class Shell:
    """Makes templates of shell leaves."""

    def __init__(self, clusters, ticks):
        self.clusters = clusters
        self.ticks = ticks

    def template(self, name, machine, body, **fields):
        """Return one that notes its life in the ledger."""
        ledger = ledger_of(self.clusters[CLUSTER_OF[machine]])
        source = PROGRAM.format(ledger=ledger, ticks=self.ticks, body=body)
        script = {"image": "busybox", "command": ["sh"], "source": source}
        return {"name": f"{name}-{machine}", **placed(machine), "script": script, **fields}


def placed(machine):
    """Return the part of a template that places it."""
    return {"metadata": {"annotations": {"dflow-hpc/machine": machine}}}


def parameter(name):
    """Return a parameter that a leaf writes to /tmp/NAME."""
    return {"name": name, "valueFrom": {"path": f"/tmp/{name}"}}


def shell_templates(clusters, ticks):
    """Return the templates of all shell leaves."""
    make = Shell(clusters, ticks).template
    number, m = {"parameters": [{"name": "n"}]}, {"parameters": [parameter("m")]}
    templates = [make("add", name, "echo $(( {{inputs.parameters.n}} + 1 )) >/tmp/m", inputs=number, outputs=m)
                 for name in placed_on(clusters)]  # fmt: skip
    for name in (name for name in placed_on(clusters) if name in clusters or name == "stored"):
        templates += [
            make("flaky", name, "[ {{retries}} -ge 1 ] || { line end; exit 1; }\necho {{inputs.parameters.n}} >/tmp/m",
                 inputs=number, outputs=m, retryStrategy={"limit": "2"}),
            make("make", name, "mkdir /tmp/made\necho {{inputs.parameters.n}} >/tmp/made/a\necho b >/tmp/made/b",
                 inputs=number, outputs={"artifacts": [{"name": "made", "path": "/tmp/made"}]}),
            make("take", name, "cat /tmp/taken/* >/tmp/text",
                 inputs={"artifacts": [{"name": "taken", "path": "/tmp/taken"}]},
                 outputs={"artifacts": [{"name": "text", "path": "/tmp/text"}]}),
            make("big", name, "head -c 1500000 /dev/zero >/tmp/big\necho 1 >/tmp/m",
                 inputs=number, outputs={**m, "artifacts": [{"name": "big", "path": "/tmp/big"}]}),
        ]  # fmt: skip
    return templates


def op_templates(clusters):
    """Return the compiled workflow that has the Python OP, and its templates by machine."""
    program = Workflow("op")
    for name in ("cpu", "gpu"):
        op = PythonOPTemplate(far_op.work, image="x")
        given = {"n": 0, "ledger": ledger_of(clusters[name])}
        program.add(Step(f"op-{name}", op, parameters=given, executor=name))
    compiled = compile_workflow(program)
    found = {}
    for template in compiled.manifest["spec"]["templates"]:
        if "script" in template:
            found[template["metadata"]["annotations"]["dflow-hpc/machine"]] = template
    return compiled, found


def workflow(clusters, *, chain=8, width=8, ticks=4):
    """Return the workflow: a chain over both clusters, and beside it arrays, single jobs, retries, artifacts, OPs."""
    compiled, ops = op_templates(clusters)

    def task(name, template, value="0", after=(), count=None, ledger=None):
        given = [{"name": "n", "value": value}] + ([{"name": "ledger", "value": ledger}] if ledger else [])
        made = {"name": name, "template": template, "dependencies": list(after), "arguments": {"parameters": given}}
        return {**made, "withSequence": {"count": str(count)}} if count else made

    def fed(name, template, source):
        artifact = {"name": "taken", "from": f"{{{{tasks.{source}.outputs.artifacts.made}}}}"}
        return {"name": name, "template": template, "dependencies": [source], "arguments": {"artifacts": [artifact]}}

    tasks = [task("c0", "add-cpu")]
    for i in range(1, chain):
        value = f"{{{{tasks.c{i - 1}.outputs.parameters.m}}}}"
        tasks.append(task(f"c{i}", "add-gpu" if i % 2 else "add-cpu", value, [f"c{i - 1}"]))
    for i, name in enumerate(("cpu", "gpu", "cpu", "gpu")):
        after = [f"c{i}"]
        other = "gpu" if name == "cpu" else "cpu"
        tasks += [
            task(f"fan{i}", f"add-{name}", "{{item}}", after, width - i),
            task(f"ops{i}", ops[name]["name"], "{{item}}", after, 2, ledger_of(clusters[name])),
            task(f"make{i}", f"make-{name}", str(i), after),
            fed(f"take{i}", f"take-{other}", f"make{i}"),
        ]
        if i < 2:
            tasks += [
                task(f"flaky{i}", f"flaky-{name}", "7", after),
                task(f"big{i}", f"big-{name}", "7", after),
                task(f"tight{i}", "add-tight", "7", [f"tight{i - 1}"] if i else []),
                task(f"again{i}", "add-again", "7", after),
            ]
    tasks += [
        task("packs0", "add-packed", "{{item}}", ["c0"], 7),
        task("packs1", "add-packed", "{{item}}", ["c2"], 5),
        task("makes", "make-stored", "3", ["c0"]),
        task("bigs", "big-stored", "7", ["c1"]),
        fed("pulls", "take-stored", "makes"),
        fed("brings", "take-cpu", "makes"),
        fed("lifts", "take-stored", "make0"),
    ]
    templates = [{"name": "main", "dag": {"tasks": tasks}}, *shell_templates(clusters, ticks), *ops.values()]
    manifest = {"metadata": {"name": "far"}, "spec": {"entrypoint": "main", "templates": templates}}
    return Compiled(manifest, compiled.bundle)


class Run:
    """A run on the clusters, whose sessions may die.

    Args:
        base: Its directory; made.
        clusters: The rig's.
        compiled: The workflow.
        waits: Of the profiles.
    """

    def __init__(self, base, clusters, compiled, waits=QUICK):
        self.base = base
        self.clusters = clusters
        base.mkdir(parents=True)
        (base / "machines.toml").write_text(profiles(clusters, waits))
        compiled, found = placing.settle(compiled, base, config["place"])
        self.run = provision.new_run(base, compiled)
        placement.keep(self.run.path, found)
        self.client = None
        self.problems = []
        self.excused = set()
        """Classes with which attempts may have ended, because a fault of this run leads to them."""
        for cluster in clusters.values():
            (cluster.root_here / "ledger").unlink(missing_ok=True)

    @property
    def plan(self):
        return self.base / "plan.json"

    def revive(self):
        """Start a session unless one is at work or the run has ended; return whether one is at work."""
        if self.client is not None and self.client.poll() is None:
            return True
        if self.ended:
            return False
        if self.client is not None and self.client.returncode != -9:
            self.problems.append(f"a session ended by itself with {self.client.returncode}: {self.log[-2000:]}")
        with (self.base / "log").open("ab") as log:
            self.client = subprocess.Popen(
                [sys.executable, str(CLIENT), str(self.run.path), str(self.base)],
                stdout=log,
                stderr=log,
                env={**os.environ, "XDG_STATE_HOME": str(self.base / "state"), "DFLOW_S3_PREFIX": f"{self.base.name}/"},
                start_new_session=True,
            )
        return True

    @property
    def log(self):
        return (self.base / "log").read_text(errors="replace")

    @property
    def ended(self):
        return RunState(self.run.name, Reader(self.run.journal).each()).ended

    def finish(self, seconds):
        """Let it come to its end undisturbed; it is a problem if it does not."""
        deadline = time.monotonic() + seconds
        while self.revive():
            try:
                self.client.wait(max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.client.kill()
                self.client.wait()
                self.problems.append(f"it had not ended {seconds} s after the last fault; {self.log[-3000:]}")
                return

    # What must hold

    def check(self, expected=None):
        """Look at all that must hold; return what is wrong."""
        found = [*self.problems, *overlaps(self.lines()), *self._attempts(), *self._submissions(), *self._queue()]
        if expected is not None:
            found += differences(expected, self.outcome())
        return found

    def lines(self):
        """Return the lines of all ledgers, split in words."""
        paths = [cluster.root_here / "ledger" for cluster in self.clusters.values()]
        return [line.split() for path in paths if path.exists() for line in path.read_text().splitlines()]

    def journals(self):
        """Return what the journal of each machine's account says, by its name."""
        return {file.stem: fold(Reader(file).each()) for file in (self.run.path / ".machines").glob("*.jsonl")}

    def _attempts(self):
        """Each leaf was accepted as often as the tree has nodes of it; each further attempt has an excuse."""
        ends = Counter(words[1] for words in self.lines() if words[0] == "end")
        accepted = 0
        for name, known in self.journals().items():
            for leaf in known.leaves.values():
                last = leaf.jobs[-1]
                if last.state is not State.ENDED or leaf.delivered != last.attempt:
                    yield f"{name}: {last.token} is {last.state.name}, delivered is {leaf.delivered}"
                for job in leaf.jobs:
                    if job.failure is None:
                        accepted += 1
                        if not ends[job.token]:
                            yield f"{name}: {job.token} was accepted, and its program did not run to its end"
                    elif job.failure.value not in self.excused:
                        why = job.reason or job.word
                        yield f"{name}: {job.token} (job {job.id}) ended as {job.failure.value}: {why}"
        nodes = RunState(self.run.name, Reader(self.run.journal).each()).tree.status()["nodes"].values()
        pods = sum(node["type"] == "Pod" for node in nodes)
        if accepted != pods:
            yield f"{accepted} outcomes were accepted for {pods} leaves"

    def _submissions(self):
        """The scheduler took each attempt once: what its answers on the machines say."""
        accepted = set()
        for name, cluster in placed_on(self.clusters).items():
            said = cluster.ok(f"cd {root_of(name, cluster)}/.batch && grep -H '^[0-9]' */submit.out || true")
            accepted.update(line.partition("/")[0] for line in said.splitlines())
        for name, known in self.journals().items():
            taken = Counter(
                token for number, batch in known.batches.items() if number in accepted for token in batch.tokens
            )
            for token, times in taken.items():
                if times > 1:
                    yield f"{name}: {token} was taken by the scheduler {times} times"

    def _queue(self):
        """No job may be left."""
        for cluster in self.clusters.values():
            deadline = time.monotonic() + 40
            while left := cluster.ok("squeue -h -u $USER -o '%i %j %T'"):
                if time.monotonic() > deadline:
                    yield f"{cluster.name}: jobs are left in the queue: {left}"
                    break
                time.sleep(1)

    def outcome(self):
        """Return what must be as in every other run; what lies in the object storage is brought first."""
        store = LocalStore(self.run.path.parent, config["debug_artifact_dir"])
        for node in RunState(self.run.name, Reader(self.run.journal).each()).tree.nodes.values():
            for artifact in (node.get("outputs") or {}).get("artifacts") or ():
                store.bring(artifact["s3"]["key"])
        return result(self.run)


def overlaps(lines):
    """Return what wrote after another process of the same leaf had started, and tokens that two jobs started."""
    current, jobs, found = {}, {}, []
    for what, token, process, when in lines:
        key = token.rpartition("-")[0]
        if what == "start":
            current[key] = process
            if jobs.setdefault(token, process.split("@")[0]) != process.split("@")[0]:
                found.append(f"{token} was started by two jobs: {jobs[token]} and {process} at {when}")
        elif current.get(key) != process:
            found.append(f"{token}: process {process} wrote '{what}' at {when} after {current.get(key)} had started")
    return found


def bring_scripts(base, clusters):
    """Bring the scripts to all roots; return their directories on this side, by profile."""
    base.mkdir(parents=True, exist_ok=True)
    (base / "machines.toml").write_text(profiles(clusters))
    machines, found = Machines([base / "machines.toml"]), {}
    for name, there in placed_on(clusters).items():
        transport = open_transport(machines.get(name))
        try:
            found[name] = Path(Scripts(transport, machines.get(name).root).home().scripts)
        finally:
            transport.close()
        if name != "tight":
            found[name] = there.root_here / found[name].relative_to(there.root)
    return found


def dumps(value):
    """Return JSON for a file."""
    return json.dumps(value, indent=1)
