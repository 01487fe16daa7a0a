"""The rig itself: real jobs end as they should, and the tools say what the parsers were written for.

Not here: anything of dflow_hpc. Where these tests fail, the machine or another version of Slurm is what changed.
"""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from rig.fixtures import run_ctl

pytestmark = pytest.mark.rig

CLUSTERS = ("gpu", "cpu")


def submit(cluster, options, script="true"):
    """Submit a script and return its id."""
    command = f"cd {cluster.root} && sbatch --parsable --no-requeue {options}"
    answer = cluster.ok(command, f"#!/bin/sh\n{script}\n")
    assert re.fullmatch(r"\d+(;\S+)?", answer)
    return answer.partition(";")[0]


def wait_for(cluster, job, state="", seconds=120):
    """Wait there until a job is in a state; without one until it has left the queue."""
    test = f'[ "$(squeue -h -j {job} -o %T)" = "{state}" ]'
    cluster.ok(f"timeout {seconds} sh -c 'until {test}; do sleep 0.3; done'", timeout=seconds + 30)


def record(cluster, job):
    """Return state, exit code and reason of a job, as the controller has them."""
    text = cluster.ok(f"scontrol -o show job {job}")
    facts = dict(word.partition("=")[::2] for word in text.split())
    return facts["JobState"], facts["ExitCode"], facts["Reason"]


def accounted(cluster, job):
    """Return state and exit code of a job in accounting, where they come some seconds late."""
    query = f"sacct -X -n -P -D -j {job} -o State,ExitCode"
    live = "^(PENDING|RUNNING|COMPLETING)?[|]"
    cluster.ok("timeout 60 sh", f"until {query} | grep -Ev '{live}' | grep -q .; do sleep 0.5; done")
    state, code = cluster.ok(query).split("|")
    return state, code


def test_up_changes_nothing_that_is_up(slurm_rig):
    before = run_ctl("status")
    run_ctl("up")
    assert run_ctl("status") == before
    assert "DOWN" not in before


@pytest.fixture(scope="module")
def out_of_time(slurm_rig):
    """Submit at once, on each cluster, what takes a minute: a job that meets its walltime; its record, as it comes.

    It is read when the job ends, whatever is tried meanwhile: the controller forgets it soon.
    """

    def met(cluster, job):
        wait_for(cluster, job, seconds=180)
        return record(cluster, job)

    with ThreadPoolExecutor() as pool:
        yield {
            name: pool.submit(met, cluster, submit(cluster, "--time=1", "sleep 600"))
            for name, cluster in slurm_rig.items()
        }


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.usefixtures("out_of_time")
def test_jobs_end_as_their_programs_do(slurm_rig, name):
    cluster = slurm_rig[name]
    good, bad = submit(cluster, "--output=good.out", "hostname"), submit(cluster, "", "exit 3")
    killed = submit(cluster, "", "kill -9 $$")
    for job in (good, bad, killed):
        wait_for(cluster, job)
    assert record(cluster, good) == ("COMPLETED", "0:0", "None")
    assert (cluster.root_here / "good.out").read_text().strip() in cluster.nodes
    assert record(cluster, bad) == ("FAILED", "3:0", "NonZeroExitCode")
    assert record(cluster, killed) == ("FAILED", "0:9", "JobLaunchFailure")


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_job_that_needs_too_much_memory(slurm_rig, name):
    cluster = slurm_rig[name]
    # tail keeps the one line; where memory is polled it must live long enough to be seen.
    job = submit(cluster, "--mem=20", "(head -c 200000000 /dev/zero && sleep 20) | tail > /dev/null")
    wait_for(cluster, job)
    expected = ("OUT_OF_MEMORY", "0:125") if cluster.cgroups else ("FAILED", "0:9")
    assert record(cluster, job)[:2] == expected


def test_gpus_are_given_out_one_by_one(slurm_rig):
    gpu = slurm_rig["gpu"]
    job = submit(gpu, "--gres=gpu:2 --output=gpus.out", 'echo "$CUDA_VISIBLE_DEVICES"')
    wait_for(gpu, job)
    assert (gpu.root_here / "gpus.out").read_text() == "0,1\n"
    refused = gpu.ssh("sbatch --gres=gpu:3 --wrap=true")
    assert refused.returncode == 1
    assert "Requested node configuration is not available" in refused.stderr


@pytest.mark.parametrize("name", CLUSTERS)
def test_an_array(slurm_rig, name):
    cluster = slurm_rig[name]
    job = submit(
        cluster,
        "--array=0-5%2 --output=array-%a.out",
        'echo "$SLURM_ARRAY_TASK_ID" && exit $((SLURM_ARRAY_TASK_ID == 4))',
    )
    wait_for(cluster, job)
    members = dict(line.split() for line in cluster.ok(f"squeue -h -t all -r -j {job} -o '%i %T'").splitlines())
    assert members == {f"{job}_{n}": "FAILED" if n == 4 else "COMPLETED" for n in range(6)}
    raw = cluster.ok(f"squeue -h -t all -r -j {job} -o '%A'").splitlines()
    assert job in raw  # one member's raw id is the array's


def test_accounting_on_one_cluster_only(slurm_rig):
    cpu, gpu = slurm_rig["cpu"], slurm_rig["gpu"]
    job = submit(cpu, "--comment=work/flow", "exit 5")
    assert accounted(cpu, job) == ("FAILED", "5:0")
    refusal = gpu.ssh("sacct")
    assert (refusal.returncode, refusal.stderr.strip()) == (1, "Slurm accounting storage is disabled")


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_job_is_cancelled(slurm_rig, name):
    cluster = slurm_rig[name]
    job = submit(cluster, "", "sleep 600")
    wait_for(cluster, job, "RUNNING")
    assert cluster.ok(f"scancel {job}") == ""
    wait_for(cluster, job)
    assert record(cluster, job)[:2] == ("CANCELLED", "0:15")
    if cluster.accounting:
        assert accounted(cluster, job)[0] == f"CANCELLED by {cluster.ok('id -u')}"


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_is_said_of_jobs_that_are_unknown_or_ended(slurm_rig, name):
    cluster = slurm_rig[name]
    ended = submit(cluster, "")
    wait_for(cluster, ended)
    unknown = cluster.ssh("squeue -h -j 99999999")
    assert (unknown.returncode, unknown.stderr.strip()) == (1, "slurm_load_jobs error: Invalid job id specified")
    two = cluster.ssh("squeue -h -j 99999998,99999999")
    assert (two.returncode, two.stdout, two.stderr) == (0, "", "")
    for command in (f"squeue -h -j {ended}", f"scancel {ended}", "scancel 99999999"):
        answer = cluster.ssh(command)
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", ""), command


def test_refusals(slurm_rig):
    cpu = slurm_rig["cpu"]
    texts = {
        "--partition=nowhere": "sbatch: error: invalid partition specified: nowhere\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified",
        "--account=nobody": "sbatch: error: Batch job submission failed: Invalid account or account/partition "
        "combination specified",
    }
    for option, text in texts.items():
        answer = cpu.ssh(f"sbatch {option} --wrap=true")
        assert (answer.returncode, answer.stderr.strip()) == (1, text)
    for _ in range(2):
        submit(cpu, "--qos=two", "sleep 600")
    third = cpu.ssh("sbatch --qos=two --wrap=true")
    assert third.returncode == 1
    assert "QOSMaxSubmitJobPerUserLimit" in third.stderr
    cpu.ok("scancel --me --qos=two")


@pytest.mark.parametrize("name", CLUSTERS)
def test_walltime(out_of_time, name):
    assert out_of_time[name].result()[:2] == ("TIMEOUT", "0:15")


def test_a_node_that_crashes(slurm_faults):
    """Both clusters at once: it takes slurmctld half a minute to call a node down."""
    jobs = {}
    for name, cluster in slurm_faults.items():
        node = cluster.nodes[-1]
        once = submit(cluster, f"--nodelist={node}", "sleep 600")
        again = submit(cluster, f"--nodelist={node} --requeue", "sleep 600")
        jobs[name] = (node, once, again)
        for job in (once, again):
            wait_for(cluster, job, "RUNNING")
    for name, (node, _, _) in jobs.items():
        slurm_faults[name].ctl("crash", host=node)
    for name, (node, once, again) in jobs.items():
        cluster = slurm_faults[name]
        wait_for(cluster, once)
        assert record(cluster, once) == ("NODE_FAIL", "0:0", "NodeDown")
        assert "Restarts=1" in cluster.ok(f"scontrol -o show job {again}")
        cluster.ctl("boot", host=node)


def test_a_node_that_is_cut_off_but_lives(slurm_faults):
    """The scheduler gives the job up; its program goes on. That is what fencing is for."""
    gpu = slurm_faults["gpu"]
    alive = f"{gpu.root}/alive"
    job = submit(gpu, f"--nodelist={gpu.nodes[0]}", f"while sleep 0.2; do touch {alive}; done")
    wait_for(gpu, job, "RUNNING")
    gpu.ctl("pause", "slurmd", host=gpu.nodes[0])
    wait_for(gpu, job)
    assert record(gpu, job)[0] == "NODE_FAIL"
    gpu.ok(f"rm -f {alive}; timeout 30 sh -c 'until [ -e {alive} ]; do sleep 0.1; done'")


def test_a_controller_that_is_away(slurm_faults):
    gpu = slurm_faults["gpu"]
    gpu.ctl("stop", "slurmctld")
    # Each of them tries for about ten seconds; together they take no longer than one.
    commands = ("squeue -h --me", "sbatch --wrap=true", "scancel 1")
    script = "".join(f"({command} 2>&1; echo $?) > /tmp/{n} & " for n, command in enumerate(commands))
    answers = gpu.ok(f"{script} wait; cat /tmp/0 /tmp/1 /tmp/2").splitlines()
    away = "Unable to contact slurm controller (connect failure)"
    assert answers == [
        *(f"slurm_load_jobs error: {away}", "1"),
        *(f"sbatch: error: Batch job submission failed: {away}", "1"),
        *(f"scancel: error: Kill job error on job id 1: {away}", "8"),
    ]
    gpu.ctl("start", "slurmctld")
    wait_for(gpu, submit(gpu, ""))


def test_a_controller_that_hangs(slurm_faults):
    gpu = slurm_faults["gpu"]
    gpu.ctl("pause", "slurmctld")
    answer = gpu.ssh("squeue -h --me")
    assert answer.returncode == 1
    assert answer.stderr.strip() == "slurm_load_jobs error: Socket timed out on send/recv operation"
    gpu.ctl("resume", "slurmctld")
    assert gpu.ok("squeue -h --me") == ""


def test_accounting_that_is_away(slurm_faults):
    cpu = slurm_faults["cpu"]
    cpu.ctl("stop", "slurmdbd")
    answer = cpu.ssh("sacct -n -X")
    assert answer.returncode == 1
    assert "Problem talking to the database: Connection refused" in answer.stderr
    job = submit(cpu, "", "exit 4")
    wait_for(cpu, job)
    assert record(cpu, job)[:2] == ("FAILED", "4:0")
    cpu.ctl("start", "slurmdbd")
    assert accounted(cpu, job)[0] == "FAILED"  # told later; the exit code of such a record is not to be trusted


def test_logins_that_fail(slurm_faults):
    cpu = slurm_faults["cpu"]
    cpu.ctl("stop", "sshd")
    gone = cpu.ssh("true")
    assert gone.returncode == 255
    assert "Connection refused" in gone.stderr
    cpu.ctl("start", "sshd")
    cpu.ctl("refuse")
    refused = cpu.ssh("true")
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr
    cpu.ctl("allow")
    cpu.ok("true")


def test_a_link_that_is_cut_leaves_its_command(slurm_faults):
    cpu = slurm_faults["cpu"]
    fifo = f"{cpu.root}/started"
    cpu.ok(f"rm -f {fifo} {fifo}.done; mkfifo {fifo}")
    words = ["ssh", "-F", cpu.ssh_config, cpu.name, f"echo > {fifo}; sleep 1; touch {fifo}.done"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as link:
        cpu.ok(f"cat {fifo}")
        cpu.ctl("cut")
        assert link.wait(30) == 255
    cpu.ok(f"timeout 30 sh -c 'until [ -e {fifo}.done ]; do sleep 0.2; done'")


def test_a_full_disk(slurm_faults):
    cpu = slurm_faults["cpu"]
    cpu.ok(f"rm -rf {cpu.small_root}/*")  # else what others left may go, and make room, afterwards
    cpu.ctl("fill")
    full = cpu.ssh(f"echo something > {cpu.small_root}/file")
    assert full.returncode
    assert "No space left on device" in full.stderr
    node = cpu.ok(f"srun --quiet sh -c 'df --output=avail {cpu.small_root} | tail -n 1'")
    assert node == "0"  # the nodes share it
    cpu.ctl("free")
    cpu.ok(f"echo something > {cpu.small_root}/file")


def test_records_are_purged(slurm_faults):
    gpu = slurm_faults["gpu"]
    job, living = submit(gpu, ""), submit(gpu, "", "sleep 600")
    wait_for(gpu, job)
    wait_for(gpu, living, "RUNNING")
    gpu.ctl("purge")
    assert gpu.ssh(f"squeue -h -t all -j {job}").returncode == 1
    assert gpu.ok(f"squeue -h -j {living} -o %T") == "RUNNING"


def test_a_drained_node_and_a_slow_scheduler(slurm_faults):
    gpu = slurm_faults["gpu"]
    gpu.ctl("drain", host=gpu.nodes[0])
    gpu.ctl("slow", "1")
    assert gpu.ok("command -v squeue") == "/usr/local/bin/squeue"
    job = submit(gpu, f"--nodelist={gpu.nodes[0]}")
    reason = gpu.ok(f"until squeue -h -j {job} -o %r | grep -v None; do :; done")
    assert re.search("ReqNodeNotAvail|Resources|DRAINED", reason)
    gpu.ctl("slow", "0")
    assert gpu.ok("command -v squeue") == "/usr/bin/squeue"
