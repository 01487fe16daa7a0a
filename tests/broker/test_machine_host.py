"""Leaves on a machine, from the engine's side: what they take along, what they give back, in Argo's words."""

import asyncio
import json

import pytest

from dflow_hpc.engines.local.work import machines, placement
from dflow_hpc.engines.local.work.records import read_record
from dflow_hpc.engines.local.work.workers import LocalLeafHost
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.leaf import LeafRequest
from dflow_hpc.executors.profiles.machine import Machine, Waits
from dflow_hpc.storage.local import LocalStore
from tests.broker.direct import DirectSite

PLACED = {"annotations": {"dflow-hpc/machine": "far", "dflow-hpc/resources": '{"cpus": 2}'}}
QUICK = Waits(quiet=0.0, longest=0.0, fast=0.02, unreachable=0.05, again=0.02)
OPS = """
from pathlib import Path
from dflow_hpc import OP, Artifact

@OP.function
def scale(n: int, data: Artifact(Path)) -> {"m": int, "out": Artifact(Path)}:
    out = Path("out")
    out.mkdir()
    (out / "text").write_text(data.read_text() * n)
    print("said", n)
    if n < 0:
        raise ValueError("below zero")
    return {"m": n + 1, "out": out}
"""


class Far:
    """A run whose leaves are placed on the machine ``far``."""

    def __init__(self, run_dir, site):
        self.run_dir = run_dir
        self.site = site

    def run(self, template, inputs=None, artifacts=(), result=False, node="run-1", retry=None):
        parameters = [{"name": name, "value": str(value)} for name, value in (inputs or {}).items()]
        self.started = []
        request = LeafRequest(
            node_id=node,
            node_name="run[0].step(0:a.b)",
            template={"name": "t", "metadata": PLACED, **template},
            inputs={"parameters": parameters, "artifacts": list(artifacts)},
            pod_name="run-step-1",
            workflow_name="run",
            workflow_uid="uid",
            capture_result=result,
            on_running=lambda: self.started.append(node),
            on_progress=lambda text: None,
            retry_id=retry,
        )
        return asyncio.run(asyncio.wait_for(self._run(request), 60))

    async def _run(self, request):
        store = {"workdir": str(self.run_dir.parent), "artifact_dir": "."}
        host = LocalLeafHost(self.run_dir, workers=1, store=store, code_dir=self.run_dir / "code")
        try:
            return await host.run(request)
        finally:
            await host.close()


@pytest.fixture
def far(tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    (run_dir / "store").mkdir(parents=True)
    code = run_dir / "code" / "code"
    code.mkdir(parents=True)
    (code / "ops.py").write_text(OPS)
    (run_dir / "code" / "bundle.json").write_text(json.dumps({"files": {}, "python": "3.11", "script": "ops.py"}))
    profile = Machine("far", "slurm", host="h", setup=("true",), waits=QUICK)
    placement.keep(run_dir, {"far": profile})
    site = DirectSite(tmp_path / "there")
    made = machines.Machines.__init__
    monkeypatch.setattr(machines.Machines, "__init__", lambda self, *given: made(self, *given, site=lambda _: site))
    return Far(run_dir, site)


def script(source, **outputs):
    return {"script": {"image": "any", "command": ["sh"], "source": source}, "outputs": outputs}


def parameter(path, **more):
    return {"name": "p", "valueFrom": {"path": path, **more}}


def test_a_script_finds_its_inputs_at_literal_paths_and_its_outputs_come_back(far):
    template = script(
        "cat /tmp/in > /tmp/out; mkdir /tmp/d; echo x > /tmp/d/f; echo said", parameters=[parameter("/tmp/out")]
    )
    template["outputs"]["artifacts"] = [{"name": "d", "path": "/tmp/d"}]
    big = "b" * 100_000
    outcome = far.run(template, artifacts=[{"name": "in", "path": "/tmp/in", "raw": {"data": big}}], result=True)
    assert (outcome.phase, outcome.message) == ("Succeeded", "")
    assert outcome.outputs["result"] == "said"
    assert outcome.outputs["exitCode"] == "0"
    assert outcome.outputs["parameters"][0]["value"] == big
    key = outcome.outputs["artifacts"][0]["s3"]["key"]
    assert key == "run/run-step-1/d.tgz"
    LocalStore(str(far.run_dir.parent), ".").get(key, far.run_dir / "got")
    assert [path.read_text() for path in far.run_dir.glob("got/**/f")] == ["x\n"]
    assert (far.run_dir / "run-1" / "log.txt").read_text() == "said\n"


def test_a_python_op_gets_its_inputs_and_its_code(far):
    record = {"entry": {"kind": "script", "file": "ops.py", "name": "scale"}}
    annotations = {**PLACED["annotations"], "dflow-hpc/op": json.dumps(record)}
    template = {
        "metadata": {"annotations": annotations},
        "script": {"image": "python", "command": ["python3"], "source": "never run here"},
        "outputs": {
            "parameters": [{"name": "m", "valueFrom": {"path": "/tmp/outputs/parameters/m"}}],
            "artifacts": [{"name": "out", "path": "/tmp/outputs/artifacts/out"}],
        },
    }
    data = {"name": "data", "path": "/tmp/inputs/artifacts/data", "raw": {"data": "ab"}}
    outcome = far.run(template, {"n": 3}, [data])
    assert (outcome.phase, outcome.message) == ("Succeeded", "")
    assert outcome.outputs["parameters"][0]["value"] == "4"
    outcome = far.run(template, {"n": -1}, [data], node="run-2")
    assert (outcome.phase, outcome.failure) == ("Failed", FailureClass.APP)
    assert outcome.message == "main: Error (exit code 1): ValueError: below zero"


def test_a_missing_output_is_argos_error(far):
    outcome = far.run(script("true", parameters=[parameter("/tmp/out")]))
    assert outcome.phase == "Error"
    assert outcome.failure is FailureClass.STAGE_OUT
    assert outcome.message.startswith("wait: Error (exit code 64): open /var/run/argo/outputs/parameters/tmp/out")


@pytest.mark.parametrize(
    ("failure", "phase", "message"),
    [
        (FailureClass.OOM, "Failed", "OOMKilled (exit code 137): job 7 on machine 'far' took more memory"),
        (FailureClass.WALLTIME, "Failed", "Pod was active on the node longer than the specified deadline: job 7"),
        (FailureClass.CANCELLED, "Error", "pod deleted: job 7 on machine 'far' was cancelled"),
        (FailureClass.INFRA, "Error", "job 7 on machine 'far': WORD"),
    ],
)
def test_how_a_scheduler_ended_a_job_is_said_in_argos_words(far, failure, phase, message):
    far.site.fate = (failure, "WORD")
    outcome = far.run(script("true"))
    assert (outcome.phase, outcome.failure) == (phase, failure)
    assert outcome.message.startswith(message)


def test_a_record_ends_the_matter_and_a_retry_is_a_new_attempt_of_the_same_leaf(far):
    assert far.run(script("exit 3"), node="run-a", retry="run-r").message == "main: Error (exit code 3)"
    assert far.run(script("exit 3"), node="run-a", retry="run-r").outputs["exitCode"] == "3"
    assert len(far.site.outcome) == 1
    far.run(script("true"), node="run-b", retry="run-r")
    tokens = list(far.site.outcome)
    assert [token.rpartition("-")[2] for token in tokens] == ["1", "2"]
    assert len({token.rpartition("-")[0] for token in tokens}) == 1
    assert read_record(far.run_dir / "run-b").phase == "Succeeded"


def test_what_a_machine_cannot_run_is_said(far):
    outcome = far.run({"container": {"image": "busybox", "args": ["x"]}})
    assert "has no command" in outcome.message
    outcome = far.run({**script("true"), "sidecars": [{"name": "s"}]}, node="run-2")
    assert (outcome.phase, outcome.failure) == ("Error", FailureClass.STAGE_IN)
    assert "container 's' of the template 't' has no command" in outcome.message
