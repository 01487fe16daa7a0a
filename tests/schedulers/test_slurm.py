"""Slurm: scripts as texts, and every recorded answer of sbatch, squeue, sacct, scancel and scontrol."""

import dataclasses
import shlex
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.executors.schedulers import Accepted, JobScript, Phase, Refused, SchedulerSilent, Unclear, get
from tests.schedulers import samples

SLURM = get("slurm")
JOB = JobScript(
    name="abc-1.train",
    comment="flow-x/train the model",
    directory="/scratch/me/a b",
    resources=Resources(),
    body="exec ./member\n",
)
FULL = Resources(
    queue="gpu", account="p123", qos="high", nodes=2, tasks=4, cpus=8, gpus=2, memory="1.5GB", time="36h30s",
    extra=("--constraint=ib", "#SBATCH --exclusive"),
)  # fmt: skip
HEAD = "JOBID|STATE|REASON|START_TIME|SUBMIT_TIME|NODELIST|NAME\n"
UNREACHABLE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


def squeue(*rows, head=HEAD):
    return head + "".join(row + "\n" for row in rows)


def test_script_of_one_job():
    assert SLURM.script(JOB) == (
        "#!/bin/sh\n"
        '#SBATCH --chdir="/scratch/me/a b"\n'
        '#SBATCH --comment="flow-x/train the model"\n'
        "#SBATCH --cpus-per-task=1\n"
        "#SBATCH --job-name=abc-1.train\n"
        "#SBATCH --no-requeue\n"
        "#SBATCH --nodes=1\n"
        "#SBATCH --ntasks-per-node=1\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --output=job.out\n"
        "DFH_INDEX=0 DFH_JOB_ID=$SLURM_JOB_ID\n"
        "export DFH_INDEX DFH_JOB_ID\n"
        "exec ./member\n"
    )


def test_script_of_an_array_with_all_resources():
    job = dataclasses.replace(JOB, resources=FULL, members=200, at_once=16, warn=120)
    assert SLURM.script(job) == (
        "#!/bin/sh\n"
        '#SBATCH --account="p123"\n'
        "#SBATCH --array=0-199%16\n"
        '#SBATCH --chdir="/scratch/me/a b"\n'
        '#SBATCH --comment="flow-x/train the model"\n'
        "#SBATCH --cpus-per-task=8\n"
        "#SBATCH --gres=gpu:2\n"
        "#SBATCH --job-name=abc-1.train\n"
        "#SBATCH --mem=1536M\n"
        "#SBATCH --no-requeue\n"
        "#SBATCH --nodes=2\n"
        "#SBATCH --ntasks-per-node=4\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --output=job.%a.out\n"
        '#SBATCH --partition="gpu"\n'
        '#SBATCH --qos="high"\n'
        "#SBATCH --signal=B:USR2@120\n"
        "#SBATCH --time=36:00:30\n"
        "#SBATCH --constraint=ib\n"
        "#SBATCH --exclusive\n"
        "DFH_INDEX=$SLURM_ARRAY_TASK_ID DFH_JOB_ID=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\n"
        "export DFH_INDEX DFH_JOB_ID\n"
        "exec ./member\n"
    )
    assert SLURM.output(7) == "job.7.out"


def test_requeue_is_opted_in_by_a_directive():
    text = SLURM.script(dataclasses.replace(JOB, resources=Resources(extra=("--requeue",))))
    assert "--no-requeue" not in text
    assert "#SBATCH --requeue\n" in text


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        (Resources(memory="4"), 'such as "256MB"'),
        (Resources(memory="0GB"), "asks for none"),
        (Resources(time="10"), "missing unit"),
        (Resources(time="-5m"), "more than nothing"),
        (Resources(nodes=0), "nodes = 0"),
        (Resources(extra=("--a\n#SBATCH --b",)), "one directive on one line"),
    ],
)
def test_resources_that_cannot_be_said(resources, said):
    with pytest.raises(ConfigError, match=said):
        SLURM.script(dataclasses.replace(JOB, resources=resources))


@given(st.text(), st.text())
def test_any_step_and_comment_stay_within_their_directives(step, comment):
    text = SLURM.script(dataclasses.replace(JOB, name=f"abc-1.{step}", comment=comment))
    before, after = SLURM.script(JOB).splitlines(), text.splitlines()
    changed = [line for line in after if line not in before]
    assert len(after) == len(before)
    assert all(line.startswith(('#SBATCH --comment="', "#SBATCH --job-name=abc-1.")) for line in changed)
    (said,) = (shlex.split(line.removeprefix("#SBATCH "))[0] for line in after if "--comment" in line)
    assert said == "--comment=" + "".join(letter if letter.isprintable() else " " for letter in comment)


# --- submissions ----------------------------------------------------------------------------------------------------


def test_every_recorded_submission():
    answers = [call for file in samples.FILES for call in samples.calls(file, "sbatch")]
    assert len(answers) > 20
    for call in answers:
        answer = SLURM.submitted(call.rc, call.out, call.err)
        if "Unable to contact" in call.err:
            assert isinstance(answer, Unclear)
        elif call.rc != 0:
            assert isinstance(answer, Refused), call
            assert answer.failure is FailureClass.CONFIG
            assert answer.message == call.err.strip()
        elif "--parsable" in call.command:
            assert answer == Accepted(call.out.strip())
        else:  # "Submitted batch job 55" is what our command line does not ask for
            assert isinstance(answer, Unclear)


@pytest.mark.parametrize(
    ("rc", "out", "err", "expected"),
    [
        (0, "Welcome to cluster\n123;gpu\n", "sbatch: warning: memory is per node here\n", Accepted("123;gpu")),
        (0, "", "", Unclear),
        (255, "", "ssh: connection closed\n", Unclear),
        (1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n", Unclear),
        (143, "", "", Unclear),
        (1, "", "sbatch: warning: memory is per node here\n", Unclear),
        (127, "", "sh: 1: sbatch: not found\n", FailureClass.CONFIG),
        (1, "", "sbatch: unrecognized option '--nosuch=1'\nTry \"sbatch --help\"\n", FailureClass.CONFIG),
        (
            1,
            "",
            "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
            "accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
            FailureClass.THROTTLED,
        ),
        (
            1,
            "",
            "sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates "
            "accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
            FailureClass.CONFIG,
        ),
        (
            1,
            "",
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.\nsbatch: error: Batch job "
            "submission failed: Resource temporarily unavailable\n",
            FailureClass.THROTTLED,
        ),
        (
            1,
            "",
            "sbatch: error: Please say a project\nsbatch: error: Batch job submission failed: Unspecified error\n",
            FailureClass.CONFIG,
        ),
    ],
)
def test_what_an_answer_to_a_submission_means(rc, out, err, expected):
    answer = SLURM.submitted(rc, out, err)
    if isinstance(expected, FailureClass):
        assert isinstance(answer, Refused)
        assert answer.failure is expected
    else:
        assert answer == expected if isinstance(expected, Accepted) else isinstance(answer, expected)


def test_the_environment_cannot_rename_a_job():
    command = shlex.split(SLURM.submit("it's.sh"))
    assert command[:3] == ["env", "-u", "SBATCH_ARRAY_INX"]
    assert command[-3:] == ["sbatch", "--parsable", "it's.sh"]
    assert "SBATCH_JOB_NAME" in command


# --- the queue ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "array", "live"), [("slurm-cpu-states.txt", 48, 15), ("slurm-gpu-states.txt", 43, 16)]
)
def test_recorded_queue(file, array, live):
    call = samples.call(file, "squeue -r -h -o %i|%F|%K|%A|%T|%r|%N|%M|%l|%P|%j|%u|%Z")
    head = "JOBID|ARRAY_JOB_ID|ARRAY_TASK_ID|RAW|STATE|REASON|NODELIST|TIME|TIME_LIMIT|PARTITION|NAME|USER|WORK_DIR\n"
    states = {state.id: state for state in SLURM.read_queue(0, head + call.out, "")}
    assert len(states) == live
    assert {state.phase for state in states.values()} == {Phase.PENDING, Phase.RUNNING}
    member = states[f"{array}_3"]
    assert (member.job, member.index, member.name, member.reason) == (str(array), 3, "arr", "Priority")
    running = [state for state in states.values() if state.phase is Phase.RUNNING]
    assert {state.name for state in running} == {"tmo", "tmotrap", "oom", "cancelrun"}
    assert all(state.node and state.reason == "" and state.known for state in running)


@pytest.mark.parametrize("file", ["slurm-cpu-states.txt", "slurm-gpu-states.txt"])
def test_recorded_states_of_all(file):
    call = samples.call(file, "squeue -h -t all -o %i %T %r")
    rows = call.out.replace(" ", "|")
    states = SLURM.read_queue(0, "JOBID|STATE|REASON\n" + rows, "")
    assert all(state.known for state in states)
    assert len(states) == len(rows.splitlines()) + 3  # 48_[0-3] are four
    failures = {state.word: state.failure for state in states if state.phase is Phase.ENDED}
    assert failures.pop("CANCELLED") is FailureClass.CANCELLED
    assert failures.pop("OUT_OF_MEMORY") is FailureClass.OOM
    assert failures.pop("TIMEOUT", FailureClass.WALLTIME) is FailureClass.WALLTIME
    assert failures == {"COMPLETED": None, "FAILED": None}


def test_no_answer_is_no_state():
    for file in ("slurm-cpu-failures.txt", "slurm-gpu-failures.txt"):
        silent = [call for call in samples.calls(file, "squeue") if call.rc]
        assert silent
        for call in silent:
            with pytest.raises(SchedulerSilent, match=r"Unable to contact slurm controller"):
                SLURM.read_queue(call.rc, call.out, call.err)
    with pytest.raises(SchedulerSilent, match="nothing"):
        SLURM.read_queue(0, "", "")
    with pytest.raises(SchedulerSilent):  # cut in the middle
        SLURM.read_queue(255, squeue("1|RUNNING|None|N/A|N/A|n1|x"), "")
    assert SLURM.read_queue(0, HEAD, "") == []


def test_an_unknown_word_counts_as_live():
    (state,) = SLURM.read_queue(0, squeue("7|LEVITATING|None|N/A|N/A|n1|a|b"), "")
    assert (state.phase, state.known, state.failure, state.name) == (Phase.RUNNING, False, None, "a|b")


@pytest.mark.parametrize(
    ("shown", "indices"),
    [
        ("1214_[5-9%10]", [5, 6, 7, 8, 9]),
        ("1214_[1,3,7-8]", [1, 3, 7, 8]),
        ("1214_[0-8:4]", [0, 4, 8]),
        ("1214_[1,3,...]", [1, 3]),
        ("1214_[1,3,...", [1, 3]),
        ("1214_[0-99999999999]", []),
        ("1214_3", [3]),
        ("1214", [None]),
        ("1214+1", []),
        ("1214.batch", []),
    ],
)
def test_forms_of_ids(shown, indices):
    states = SLURM.read_queue(0, squeue(f"{shown}|PENDING|None|N/A|N/A||x"), "")
    assert [state.index for state in states] == indices
    assert {state.job for state in states} <= {"1214"}
    assert [state.id for state in states] == [
        "1214" if index is None else SLURM.member("1214", index) for index in indices
    ]


def test_times_are_read_in_utc():
    (state,) = SLURM.read_queue(0, squeue("7|PENDING|Priority|2026-11-24T13:08:27|2026-11-24T12:08:27||x"), "")
    assert state.start == datetime(2026, 11, 24, 13, 8, 27, tzinfo=UTC).timestamp()
    assert state.start - state.submitted == 3600
    assert SLURM.queue().startswith("TZ=UTC0 ")


def test_clusters_stay_part_of_ids():
    assert SLURM.member("123;gpu", 4) == "123_4;gpu"
    command = SLURM.queue(["1", "7;gpu", "8_3;gpu"])
    assert command.count("squeue") == 2
    assert command.endswith(" -M gpu")
    out = squeue("1|RUNNING|None|N/A|N/A|n|x") + "CLUSTER: gpu\n" + squeue("1_0|PENDING|None|N/A|N/A||y")
    assert [(s.id, s.job) for s in SLURM.read_queue(0, out, "")] == [("1", "1"), ("1_0;gpu", "1;gpu")]
    assert SLURM.cancel(["1", "7;gpu", "8_3;gpu"]) == ["scancel 1", "scancel -M gpu 7 8_3"]
    (one, other) = SLURM.history(["1", "7;gpu"], 600)
    assert "-j 1 -S 1970-01-01T00:00:00" in one
    assert other.startswith("echo CLUSTER: gpu; ")
    assert other.endswith(" -M gpu")
    found = SLURM.lookup("abc-1.x", 600, Resources(extra=("--clusters=gpu",)))
    assert [" -M gpu" in command for command in found] == [True, True]


# --- accounting -----------------------------------------------------------------------------------------------------


def test_recorded_accounting():
    call = next(iter(samples.calls("slurm-cpu-states.txt", "sacct -D -P --format=JobID,JobIDRaw")))
    states = {state.id: state for state in SLURM.read_history(0, call.out, "")}
    assert not any("." in key for key in states)
    assert all(state.known for state in states.values())
    assert (states["43"].word, states["43"].failure) == ("CANCELLED", FailureClass.CANCELLED)  # CANCELLED by 12001
    assert (states["37"].failure, states["37"].signal) == (FailureClass.OOM, 125)
    assert (states["13"].word, states["13"].exit_code, states["13"].signal, states["13"].failure) == (
        "FAILED", 0, 9, None,
    )  # fmt: skip
    member = states["48_3"]
    assert (member.job, member.index, member.exit_code, member.node, member.name) == ("48", 3, 3, "cpu-n1", "arr")
    assert states["27"].phase is Phase.PENDING
    assert states["27"].exit_code is None
    assert states["25"].node == ""


def test_a_requeue_makes_a_second_record_and_the_newer_counts():
    call = next(iter(samples.calls("slurm-cpu-failures.txt", "sacct -D -P -j 59,60")))
    states = {state.id: state for state in SLURM.read_history(0, call.out, "")}
    assert states["59"].phase is Phase.PENDING
    assert (states["60"].word, states["60"].failure) == ("NODE_FAIL", FailureClass.INFRA)
    rows = [
        "5|FAILED|2026-11-24T12:00:00|new",
        "5|COMPLETED|2025-01-01T00:00:00|new",
        "5|FAILED|2024-01-01T00:00:00|old",
    ]
    states = SLURM.read_history(0, "\n".join(["JobID|State|Submit|JobName", *rows]), "")
    assert [(state.word, state.name) for state in states] == [("FAILED", "new"), ("FAILED", "old")]


def test_every_other_recorded_answer_of_sacct():
    for file in samples.FILES:
        for call in samples.calls(file, "sacct"):
            if "--json" in call.command:
                continue
            if call.rc:
                with pytest.raises(SchedulerSilent):
                    SLURM.read_history(call.rc, call.out, call.err)
            elif " -n " not in call.command:
                assert SLURM.read_history(call.rc, call.out, call.err)
            else:  # without its header an answer could be anybody's
                with pytest.raises(SchedulerSilent):
                    SLURM.read_history(call.rc, call.out, call.err)


def test_questions_come_in_lots():
    commands = SLURM.history([f"9_{index}" for index in range(450)], 1795522107.0)
    assert [command.count("9_") for command in commands] == [200, 200, 50]
    assert all(" -S 2026-11-24T11:58:27 " in command for command in commands)


# --- the search by name ---------------------------------------------------------------------------------------------

SACCT = "JobID|State|ExitCode|Reason|NodeList|Submit|Start|End|JobName\n"
DISABLED = (1, "", "Slurm accounting storage is disabled\n")


def test_lookup_takes_the_queue_first_and_only_that_name():
    queue = (0, squeue("7|RUNNING|None|N/A|2026-11-24T12:00:00|n|abc-1.x", "8|RUNNING|None|N/A|N/A|n|else"), "")
    history = (0, SACCT + "7|PENDING|0:0|None||2026-11-24T12:00:00|Unknown|Unknown|abc-1.x\n", "")
    (state,) = SLURM.read_lookup("abc-1.x", [queue, history])
    assert (state.id, state.phase) == ("7", Phase.RUNNING)


def test_lookup_without_accounting_and_with_a_silent_one():
    assert SLURM.read_lookup("abc-1.x", [(0, HEAD, ""), DISABLED]) == []
    with pytest.raises(SchedulerSilent):
        SLURM.read_lookup("abc-1.x", [(0, HEAD, ""), (1, "", "sacct: error: Problem talking to the database\n")])
    with pytest.raises(SchedulerSilent):
        SLURM.read_lookup("abc-1.x", [(1, "", UNREACHABLE), (0, SACCT, "")])


def test_lookup_asks_for_what_the_script_names():
    name = "abc-1.train it's, all"
    shown = SLURM.job_name(name)
    assert shown == "abc-1.train-it-s--all"
    assert f"--job-name={shown}\n" in SLURM.script(dataclasses.replace(JOB, name=name))
    queue, history = SLURM.lookup(name, 0, Resources())
    assert queue.endswith(f" -n {shown}")
    assert f" --name={shown} " in history


# --- the rest -------------------------------------------------------------------------------------------------------


def test_every_recorded_cancellation():
    for file in samples.FILES:
        for call in samples.calls(file, "scancel"):
            if call.rc:
                with pytest.raises(SchedulerSilent, match="rc 8"):
                    SLURM.read_cancel(call.rc, call.out, call.err)
            else:
                SLURM.read_cancel(call.rc, call.out, call.err)
    SLURM.read_cancel(1, "", "scancel: error: Kill job error on job id 7: Job/step already completing or completed\n")
    with pytest.raises(SchedulerSilent):
        SLURM.read_cancel(1, "", "scancel: error: Kill job error on job id 7: Access/permission denied\n")


def test_description():
    text = """Configuration data as of 2026-11-24T12:00:00
AccountingStorageType   = accounting_storage/slurmdbd
MaxArraySize            = 1001
MinJobAge               = 300 sec
SLURM_VERSION           = 22.05.8
"""
    facts = SLURM.read_description(0, text, "")
    assert (facts.version, facts.accounting, facts.min_job_age, facts.max_array) == ("22.05.8", True, 300, 1001)
    without = text.replace("accounting_storage/slurmdbd", "accounting_storage/none")
    assert SLURM.read_description(0, without, "").accounting is False
    with pytest.raises(SchedulerSilent, match="correct the profile"):
        SLURM.read_description(127, "", "sh: 1: scontrol: not found\n")


PIECES = st.sampled_from(
    ["JOBID|STATE", "JobID|State|Submit", "\n", "|", "1_[", "0-9", "]", "%", ":", "RUNNING", "CANCELLED by 0",
     "CLUSTER: ", "7", "Unknown", "²", "\x00", "2026-13-45T99:00:00"]
)  # fmt: skip


@given(st.integers(0, 255), st.lists(PIECES | st.text(max_size=5)).map("".join), st.text(max_size=20))
def test_garbage_never_raises_but_silence(rc, out, err):
    for read in (SLURM.read_queue, SLURM.read_history, SLURM.read_description, SLURM.read_cancel):
        try:
            read(rc, out, err)
        except SchedulerSilent as silent:
            assert "rc" in str(silent)
    assert isinstance(SLURM.submitted(rc, out, err), Accepted | Refused | Unclear)


def test_a_command_in_a_job_is_a_step_beside_the_others():
    command = SLURM.enter("12_3", "cd /x && exec ls 'a b'")
    line = shlex.quote("cd /x && exec ls 'a b'")
    assert command.endswith(f"srun --jobid=12_3 --overlap --nodes=1 --ntasks=1 --quiet /bin/sh -c {line}")
    assert " srun -M far --jobid=12 " in SLURM.enter("12;far", "ls")
