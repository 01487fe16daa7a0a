"""The Slurm scheduler against real Slurm: what is written is understood, what is printed is read."""

import base64
import os
import shlex
import time

import pytest

from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.executors.schedulers import Accepted, JobScript, Phase, Refused, SchedulerSilent, get

pytestmark = pytest.mark.rig

SLURM = get("slurm")
COMMENT = """it's "quoted" \\ back, #1 $HOME `id` %j ü"""


@pytest.fixture(params=["gpu", "cpu"])
def cluster(request, slurm_rig):
    return slurm_rig[request.param]


def ask(cluster, command):
    answer = cluster.ssh(command)
    return answer.returncode, answer.stdout, answer.stderr


def submit(cluster, environment="", **changes):
    """Submit a job of its own name in a directory of its own; the JobScript and the answer."""
    token = base64.b32encode(os.urandom(15)).decode().lower()
    given = {"resources": Resources(queue=cluster.name, memory="64MB", time="5m"), "body": "exit 0"} | changes
    job = JobScript(name=f"{token}-1.a step", comment=COMMENT, directory=f"{cluster.root}/{token} x", **given)
    where = shlex.quote(job.directory)
    cluster.ok(f"mkdir {where} && cat >{where}/job.sh", SLURM.script(job))
    return job, SLURM.submitted(*ask(cluster, f"cd {where} && {environment} {SLURM.submit('job.sh')}"))


def until(cluster, job, wanted):
    """Ask for the queue until something holds of the states of a job."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        states = [state for state in SLURM.read_queue(*ask(cluster, SLURM.queue())) if state.job == job]
        if wanted(states):
            return states
    raise AssertionError(states)


def ended(states):
    return bool(states) and all(state.phase is Phase.ENDED for state in states)


def test_names_comments_and_directories_arrive(cluster):
    job, accepted = submit(cluster, "SBATCH_JOB_NAME=other", body='pwd; echo "$DFH_JOB_ID $DFH_INDEX"')
    assert isinstance(accepted, Accepted)
    (state,) = until(cluster, accepted.id, ended)
    assert (state.name, state.word, state.known) == (SLURM.job_name(job.name), "COMPLETED", True)
    assert abs(state.submitted - time.time()) < 600
    assert cluster.ok(f"squeue -h -t all -j {accepted.id} -o %k") == COMMENT
    out = cluster.ok(f"cat {shlex.quote(job.directory)}/{SLURM.output(None)}")
    assert out == f"{job.directory}\n{accepted.id} 0"


def test_an_array(cluster):
    job, accepted = submit(cluster, members=3, at_once=2, body='echo "$DFH_JOB_ID $DFH_INDEX"; exit $DFH_INDEX')
    states = until(cluster, accepted.id, ended)
    assert sorted((state.id, state.index) for state in states) == [
        (SLURM.member(accepted.id, index), index) for index in range(3)
    ]
    out = cluster.ok(f"cat {shlex.quote(job.directory)}/{SLURM.output(2)}")
    assert out == f"{SLURM.member(accepted.id, 2)} 2"
    found = [ask(cluster, command) for command in SLURM.lookup(job.name, time.time(), job.resources)]
    assert {state.id for state in SLURM.read_lookup(job.name, found)} == {state.id for state in states}
    ids = [state.id for state in states]
    if not cluster.accounting:
        (command,) = SLURM.history(ids, time.time())
        with pytest.raises(SchedulerSilent, match="accounting storage is disabled"):
            SLURM.read_history(*ask(cluster, command))
        return
    codes = {}
    deadline = time.monotonic() + 60
    while codes != {0: 0, 1: 1, 2: 2} and time.monotonic() < deadline:  # accounting comes some seconds late
        told = [SLURM.read_history(*ask(cluster, command)) for command in SLURM.history(ids, time.time())]
        codes = {state.index: state.exit_code for states in told for state in states}
    assert codes == {0: 0, 1: 1, 2: 2}


def test_cancelling(cluster):
    _, accepted = submit(cluster, members=2, at_once=1, body="sleep 300")
    until(cluster, accepted.id, lambda states: any(state.phase is Phase.RUNNING for state in states))
    one = SLURM.member(accepted.id, 1)
    for ids in ([one], [accepted.id], [one, "99999999"]):
        for command in SLURM.cancel(ids):
            SLURM.read_cancel(*ask(cluster, command))
    states = until(cluster, accepted.id, ended)
    assert {state.failure for state in states} == {FailureClass.CANCELLED}


def test_a_gpu_and_a_warning(slurm_rig):
    """Slurm looks at time limits once in a while: the warning may come a minute early."""
    cluster = slurm_rig["gpu"]
    wanted = Resources(queue="gpu", gpus=1, time="2m")
    body = 'echo "$CUDA_VISIBLE_DEVICES"; trap "echo soon; exit 7" USR2; sleep 300 & wait'
    job, accepted = submit(cluster, resources=wanted, warn=60, body=body)
    (state,) = until(cluster, accepted.id, ended)
    assert (state.word, state.failure) == ("FAILED", None)
    device, *said = cluster.ok(f"cat {shlex.quote(job.directory)}/{SLURM.output(None)}").splitlines()
    assert device.isdecimal()
    # Slurm's own complaint that the job ended before it had sent all its signals may stand there too.
    assert [line for line in said if not line.startswith("slurmstepd-")] == ["soon"]


def test_refusals_and_description(cluster):
    for wrong in (Resources(queue="nosuch"), Resources(extra=("--nosuch=1",)), Resources(memory="999GB")):
        _, refused = submit(cluster, resources=wrong)
        assert isinstance(refused, Refused)
        assert refused.failure is FailureClass.CONFIG
    facts = SLURM.read_description(*ask(cluster, SLURM.describe()))
    assert facts.accounting is cluster.accounting
    assert facts.version
    assert facts.min_job_age
    assert facts.max_array
