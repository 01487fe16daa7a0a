"""PBS and Torque: scripts as texts, every recorded answer, and whole lives on the fake."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.executors.schedulers import Accepted, JobScript, Phase, Refused, SchedulerSilent, Unclear, get
from tests.schedulers import fake_pbs, fakes, samples

PBS, TORQUE = get("pbs"), get("torque")
JOB = JobScript(
    name="2bc-1.train",
    comment="flow-x/train the model",
    directory="/scratch/me/a b",
    resources=Resources(),
    body="exec ./member\n",
)
FULL = Resources(
    queue="gpuq", account="p 123", nodes=2, tasks=4, cpus=8, gpus=2, memory="1.5GB", time="36h30s",
    extra=("-l place=scatter:excl", "#PBS -P proj"),
)  # fmt: skip
SESSION, STATES = "openpbs-client-session.txt", "openpbs-states.txt"


def test_script_of_one_job():
    assert PBS.script(JOB) == (
        "#!/bin/sh\n"
        "#PBS -N j2bc-1.train\n"
        "#PBS -S /bin/sh\n"
        "#PBS -j oe\n"
        "#PBS -l select=1:ncpus=1:mpiprocs=1\n"
        "#PBS -m n\n"
        "#PBS -o job.out\n"
        "#PBS -r n\n"
        "#PBS -v DFH_TOKEN=2bc-1\n"
        "# flow-x/train the model\n"
        "DFH_INDEX=0 DFH_JOB_ID=${PBS_JOBID%%.*}\n"
        "export DFH_INDEX DFH_JOB_ID DFH_TOKEN\n"
        "cd '/scratch/me/a b' || exit 1\n"
        "exec ./member\n"
    )


def test_script_of_an_array_with_all_resources():
    job = dataclasses.replace(JOB, resources=FULL, members=200, at_once=16, warn=120)
    assert PBS.script(job) == (
        "#!/bin/sh\n"
        '#PBS -A "p 123"\n'
        "#PBS -J 0-199%16\n"
        "#PBS -N j2bc-1.train\n"
        "#PBS -S /bin/sh\n"
        "#PBS -j oe\n"
        "#PBS -l select=2:ncpus=32:mpiprocs=4:ompthreads=8:ngpus=2:mem=1536mb\n"
        "#PBS -l walltime=36:00:30\n"
        "#PBS -m n\n"
        "#PBS -o job.^array_index^.out\n"
        "#PBS -q gpuq\n"
        "#PBS -r y\n"
        "#PBS -v DFH_TOKEN=2bc-1\n"
        "#PBS -l place=scatter:excl\n"
        "#PBS -P proj\n"
        "# flow-x/train the model\n"
        "DFH_INDEX=$PBS_ARRAY_INDEX DFH_JOB_ID=${PBS_JOBID%%.*}\n"
        "export DFH_INDEX DFH_JOB_ID DFH_TOKEN\n"
        "cd '/scratch/me/a b' || exit 1\n"
        "( sleep 129510; kill -s USR2 $$ ) </dev/null >/dev/null 2>&1 &\n"
        "exec ./member\n"
    )


def test_torques_dialect():
    job = dataclasses.replace(JOB, resources=dataclasses.replace(FULL, qos="high", extra=()), members=4, at_once=2)
    lines = TORQUE.script(job).splitlines()
    assert [line for line in lines if line.startswith(("#PBS -l", "#PBS -t", "#PBS -N", "#PBS -r"))] == [
        "#PBS -N j2bc-1.train",
        "#PBS -l mem=3gb",  # of the whole job
        "#PBS -l nodes=2:ppn=32:gpus=2",
        "#PBS -l qos=high",
        "#PBS -l walltime=36:00:30",
        "#PBS -r n",
        "#PBS -t 0-3%2",
    ]
    assert "DFH_INDEX=$PBS_ARRAYID DFH_JOB_ID=${PBS_JOBID%%.*}" in lines
    assert TORQUE.job_name("abcdefghijklmnopqrstuvwxyz-1.step") == "abcdefghijklmno"
    assert TORQUE.output(3) == "job.out-3"


def test_what_the_user_says_counts_and_qos_is_no_option():
    text = PBS.script(dataclasses.replace(JOB, resources=Resources(nodes=2, extra=("-r y", "-m ae"))))
    assert [line for line in text.splitlines() if line.startswith(("#PBS -r", "#PBS -m", "#PBS -l"))] == [
        "#PBS -l place=scatter",
        "#PBS -l select=2:ncpus=1:mpiprocs=1",
        "#PBS -r y",
        "#PBS -m ae",
    ]
    with pytest.raises(ConfigError, match="PBS has no such option"):
        PBS.script(dataclasses.replace(JOB, resources=Resources(qos="high")))
    for scheduler in (PBS, TORQUE):
        with pytest.raises(ConfigError, match="another server cannot be followed"):
            scheduler.script(dataclasses.replace(JOB, resources=Resources(queue="workq@elsewhere")))


def test_of_two_directives_for_a_resource_only_the_users_is_left():
    """qsub takes the first of them, and ours came first."""
    extra = ("-l mem=1gb,select=3:ncpus=7", "#PBS -l walltime=1:0:0", "-lplace=free")
    text = PBS.script(dataclasses.replace(JOB, resources=Resources(nodes=2, time="5m", memory="1GB", extra=extra)))
    asked = [line for line in text.splitlines() if line.startswith("#PBS -l")]
    assert asked == ["#PBS -l mem=1gb,select=3:ncpus=7", "#PBS -l walltime=1:0:0", "#PBS -lplace=free"]


def test_variables_of_the_user_go_with_ours(cluster):
    extra = ('-v A="b c",D=e', "#PBS -v HOME", "-V")
    job = dataclasses.replace(JOB, resources=Resources(extra=extra))
    lines = [line for line in PBS.script(job).splitlines() if line.lower().startswith("#pbs -v")]
    assert lines == ['#PBS -v DFH_TOKEN=2bc-1,A="b c",D=e,HOME', "#PBS -V"]
    number = submit(cluster, resources=Resources(extra=extra), body='echo "$DFH_TOKEN/$A/$D"')
    until_gone(cluster)
    assert history(cluster, number)[number].exit_code == 0
    assert (cluster.home / "work dir" / "job.out").read_text() == "2bc-1/b c/e\n"


def test_an_array_is_rerunable_whatever_the_profile_says():
    """OpenPBS refuses others, and where qsub's defaults are -r n, one that does not say it is refused, too."""
    job = dataclasses.replace(JOB, resources=Resources(extra=("-r n", "#PBS -r  n", "-m ae")), members=2)
    lines = PBS.script(job).splitlines()
    assert [line for line in lines if line.startswith(("#PBS -r", "#PBS -m"))] == ["#PBS -r y", "#PBS -m ae"]
    lines = TORQUE.script(job).splitlines()
    assert [line for line in lines if line.startswith("#PBS -r")] == ["#PBS -r n", "#PBS -r  n"]


@given(st.text(), st.text())
def test_any_step_and_comment_stay_within_their_lines(step, comment):
    text = PBS.script(dataclasses.replace(JOB, name=f"abc-1.{step}", comment=comment))
    before, after = PBS.script(JOB).splitlines(), text.splitlines()
    assert len(after) == len(before)
    assert [new for new, old in zip(after, before, strict=True) if new != old and not new.startswith("# ")] == [
        f"#PBS -N {PBS.job_name(f'abc-1.{step}')}",
        "#PBS -v DFH_TOKEN=abc-1",
    ]


# --- submissions ----------------------------------------------------------------------------------------------------


def test_every_recorded_submission():
    answers = [call for file in (SESSION, STATES) for call in samples.calls(file) if "qsub " in call.command]
    assert len(answers) > 30
    for call in answers:
        answer = PBS.submitted(call.rc, call.out, call.err)
        if call.rc == 0:
            assert answer == Accepted(call.out.strip().removesuffix(".pbs-login"))
        else:
            shrink = 0.5 if "Array" in call.err else 1.0
            assert answer == Refused(FailureClass.CONFIG, call.err.strip(), shrink), call


@pytest.mark.parametrize(
    ("rc", "err", "expected"),
    [
        (0, "", Unclear),
        (255, "", Unclear),
        (162, "Connection refused\nqsub: cannot connect to server pbs-login (errno=15010)\n", Unclear),
        (1, "qsub: End of File\n", Unclear),
        (143, "", Unclear),
        (127, "sh: 1: qsub: not found\n", FailureClass.CONFIG),
        (188, "qsub: would exceed queue generic's per-user limit of jobs in 'Q' state\n", FailureClass.THROTTLED),
        (182, "qsub: Maximum number of jobs already in queue\n", FailureClass.THROTTLED),
        (170, "qsub: Queue is not enabled\n", FailureClass.THROTTLED),
        (39, "qsub: would exceed limit on resource ncpus in queue workq\n", FailureClass.THROTTLED),
        (38, "qsub: Maximum number of jobs for user me already in complex\n", FailureClass.THROTTLED),
        (180, "qsub: Request not allowed: Server shutting down\n", FailureClass.THROTTLED),
        (13, "qsub: Server connection table full\n", Unclear),
        (57, "qsub: Failed to save job/resv, refer server logs for details\n", FailureClass.THROTTLED),
        (
            1,
            "mkstemp: No space left on device\nqsub: could not create/open tmp file /tmp/pbsscrptA for script\n",
            FailureClass.THROTTLED,
        ),
        (6, "qsub: Access to queue is denied\n", FailureClass.CONFIG),
        (32, "qsub: this site's hook says no\n", FailureClass.CONFIG),
        (2, "usage: qsub [-a date_time] ...\n", FailureClass.CONFIG),
        (1, "qsub: Bad UID for job execution\n", FailureClass.CONFIG),
    ],
)
def test_what_an_answer_to_a_submission_means(rc, err, expected):
    answer = PBS.submitted(rc, "", err)
    if isinstance(expected, FailureClass):
        assert isinstance(answer, Refused)
        assert answer.failure is expected
    else:
        assert isinstance(answer, expected)


@pytest.mark.parametrize(
    ("text", "failure", "shrink"),
    [
        ("Array job exceeds server or queue size limit", FailureClass.CONFIG, 0.5),
        ("cannot submit non-rerunable Array Job", FailureClass.CONFIG, 0.0),
        ("job arrays are not allowed in this queue", FailureClass.CONFIG, 0.0),
        ("would exceed queue array's per-user limit", FailureClass.THROTTLED, 1.0),
        ("Unknown queue", FailureClass.CONFIG, 1.0),
    ],
)
def test_what_is_refused_for_being_an_array(text, failure, shrink):
    answer = PBS.submitted(3, "", f"qsub: {text}\n")
    assert answer == Refused(failure, f"qsub: {text}", shrink)


# --- the queue ------------------------------------------------------------------------------------------------------


def test_every_recorded_table():
    for file in (SESSION, STATES):
        for call in samples.calls(file, "qstat"):
            if "-f" in call.command or any(word in call.command for word in ("-Q", "-q", "-B")) or call.rc:
                continue
            states = PBS.read_queue(call.rc, call.out, call.err)
            rows = [line for line in call.out.splitlines() if line[:1].isdigit()]
            if "t" in call.command.replace("qstat", ""):  # the arrays' own lines say nothing beside their members'
                rows = [line for line in rows if "[]" not in line]
            assert len(states) == len(rows), call.command
            assert all(state.known for state in states)


def test_recorded_members():
    call = samples.call(SESSION, "qstat -t")
    states = {state.id: state for state in PBS.read_queue(0, call.out, "")}
    assert "19[]" not in states
    whole = {state.id: state for state in PBS.read_queue(0, samples.call(SESSION, "qstat").out, "")}["19[]"]
    assert (whole.job, whole.phase, whole.index, whole.word) == ("19[]", Phase.RUNNING, None, "B")
    member = states["19[4]"]
    assert (member.job, member.index, member.phase, member.name) == ("19[]", 4, Phase.PENDING, "")
    assert states["19[0]"].phase is Phase.ENDED
    assert states["19[0]"].exit_code is None
    assert states["16"].job == "16"
    wide = samples.call(SESSION, "qstat -u hpc -t -n -1 -w")
    assert {state.id for state in PBS.read_queue(0, wide.out, "")} == {key for key in states if not key.endswith("[]")}


def test_comments_of_jobs_that_wait_and_hosts():
    """Comments are not in the samples; the sources print them behind three blanks."""
    call = samples.call(SESSION, "qstat -u hpc -t -n -1 -w")
    out = call.out.replace("Q   --   -- \n", "Q   --   -- \n   Can Never Run: 16 of these are too few\n", 1)
    out = out.replace("H   --   -- \n", "H   --   -- \n    -- \n")
    counted = "Not Running: Insufficient amount of resource: ncpus (R: 1 A: 0 T: 16)"
    out = out.replace("19[4].pbs-login ", f"21.pbs-login h w a -- 1 1 -- -- Q -- --\n   {counted}\n19[4].pbs-login ")
    out = out.replace("pbs-login/7\n", "pbs-login/7\n   Job run at Tue Nov 24 at 22:57 on (pbs-login:ncpus=1)\n")
    assert out.count("\n") == call.out.count("\n") + 5
    states = {state.id: state for state in PBS.read_queue(0, out, "")}
    assert len(states) == 13
    assert states["21"].reason == "Not Running: Insufficient amount of resource: ncpus"
    told = {key: (state.word, state.reason, state.node) for key, state in states.items()}
    assert told["5"] == ("Q", "Can Never Run: 16 of these are too few", "")
    assert told["16"] == ("R", "", "pbs-login")
    assert told["18"] == ("H", "", "")
    assert told["19[2]"] == ("R", "", "pbs-login")


def test_cut_ids_unknown_words_and_silence():
    rows = "1234567[12345]*  u  q  n  1 1 1 -- -- Q --\n12345678[12345* u  q  n  1 1 1 -- -- Q --\n9.s n u 0 Z q\n"
    cut, strange = PBS.read_queue(0, rows, "")
    assert (cut.id, cut.job) == ("1234567[12345]", "1234567[]")
    assert (strange.phase, strange.known, strange.word) == (Phase.RUNNING, False, "Z")
    down = samples.call(SESSION, "PBS_DEFAULT=nosuchhost qstat")
    with pytest.raises(SchedulerSilent, match="rc 255"):
        PBS.read_queue(down.rc, down.out, down.err)
    assert PBS.read_queue(0, "", "") == []


# --- details --------------------------------------------------------------------------------------------------------


def as_text(call):
    """What was recorded as JSON, as the plain text that we ask for; ``test_fake_pbs.py`` has proved the printer."""
    jobs = json.loads(call.out[call.out.index("{") :]).get("Jobs", {})
    return call.rc, "".join(fake_pbs.full_text(key, job) for key, job in jobs.items()), call.err


def ended(number):
    call = samples.call(STATES, f"qstat -x -f -F json {number}.pbs-login")
    (state,) = PBS.read_history(*as_text(call))
    return state.word, state.exit_code, state.signal, state.failure


def test_recorded_ends():
    assert ended(1) == ("F", 0, None, None)
    assert ended(3) == ("F", 3, None, None)
    assert ended(4) == ("F", 137, 9, None)
    assert ended(5) == ("F", 139, 11, None)
    assert ended(6) == ended(7) == ("F", None, None, FailureClass.WALLTIME)
    assert ended(8) == ("F", None, 15, FailureClass.CANCELLED)
    assert ended(9) == ended(17) == ("F", None, None, FailureClass.CANCELLED)
    assert ended(10) == ("F", None, None, None)  # its dependency failed: no word of that here
    assert ended(13) == ("Q", None, None, None)


@pytest.mark.parametrize(
    ("status", "failure"),
    [(-4, FailureClass.INFRA), (-17, FailureClass.INFRA), (-22, FailureClass.INFRA), (-19, FailureClass.CANCELLED),
     (-24, FailureClass.CONFIG), (-27, FailureClass.OOM)],
)  # fmt: skip
def test_every_negative_status_is_pbss_own_word(status, failure):
    text = samples.call(STATES, "qstat -x -f 1.pbs-login").out.replace("Exit_status = 0", f"Exit_status = {status}")
    (state,) = PBS.read_history(0, text, "")
    assert (state.phase, state.exit_code, state.failure) == (Phase.ENDED, None, failure)


def test_recorded_details():
    call = samples.call(SESSION, "qstat -f -F json 16.pbs-login")
    (state,) = PBS.read_history(*as_text(call))
    assert (state.name, state.node, state.phase) == ("sleeper", "pbs-login", Phase.RUNNING)
    assert state.submitted == datetime(2026, 11, 24, 22, 57, 4, tzinfo=UTC).timestamp()
    assert state.start == state.submitted
    assert state.reason.startswith("Job run at")
    call = samples.call(STATES, "qstat -x -f -F json 13.pbs-login")
    assert PBS.read_history(*as_text(call))[0].reason.startswith("Can Never Run")


def test_recorded_array():
    call = samples.call(SESSION, "qstat -f -F json -t '19[].pbs-login'")
    states = {state.id: state for state in PBS.read_history(*as_text(call))}
    assert list(states) == ["19[0]", "19[1]", "19[2]", "19[3]", "19[4]"]
    assert (states["19[4]"].phase, states["19[4]"].exit_code) == (Phase.PENDING, None)  # though it shows Exit_status 0
    assert (states["19[1]"].phase, states["19[1]"].exit_code) == (Phase.ENDED, 0)
    call = samples.call(STATES, "qstat -x -f -F json -t 14[].pbs-login")
    codes = {state.index: (state.exit_code, state.failure) for state in PBS.read_history(*as_text(call))}
    assert codes == {0: (0, None), 1: (1, None), 2: (2, None), 3: (3, None)}


def test_partial_and_missing_answers():
    call = samples.call(SESSION, "qstat -x -f -F json 1.pbs-login 17.pbs-login 999999")
    assert call.rc == 153
    assert [state.id for state in PBS.read_history(*as_text(call))] == ["1", "17"]
    for call in samples.calls(SESSION, "qstat") + samples.calls(STATES, "qstat"):
        if call.rc in (35, 153) and "Jobs" not in call.out:
            assert PBS.read_history(call.rc, call.out, call.err) == []
    with pytest.raises(SchedulerSilent):
        PBS.read_history(34, "", "qstat: PBS is not configured to maintain job history\n")


@pytest.mark.parametrize("command", ["qstat -x -f 1.pbs-login", "qstat -f 8.pbs-login"])
def test_recorded_text_says_what_recorded_json_does(command):
    text = samples.call(STATES, command)
    call = samples.call(STATES, command.replace("-f", "-f -F json"))
    assert PBS.read_history(0, text.out, "") == PBS.read_history(*as_text(call))


def test_what_is_left_of_a_cut_answer_is_read():
    rc, text, _ = as_text(samples.call(SESSION, "qstat -x -f -F json 16.pbs-login 18.pbs-login"))
    whole = PBS.read_history(rc, text, "")
    assert [state.id for state in whole] == ["16", "18"]
    assert PBS.read_history(rc, text[: text.index("Job Id: 18")], "") == whole[:1]


TORQUE_TEXT = """Job Id: 77.torque.example
    Job_Name = abcdefghijklmno
    Job_Owner = me@login
    resources_used.walltime = {used}
    job_state = C
    exec_host = n1/0+n1/1+n2/0
    Resource_List.walltime = 00:01:00
    Variable_List = PBS_O_QUEUE=batch,DFH_TOKEN=abcdefghijklmnopqrst-{attempt},
	PBS_O_HOME=/home/me
    exit_status = {status}
    start_time = Tue Nov 24 22:57:04 2026

"""


@pytest.mark.parametrize(
    ("status", "used", "failure"),
    [
        (271, "00:00:10", FailureClass.CANCELLED),
        (271, "00:01:02", FailureClass.WALLTIME),
        (-11, "00:01:02", FailureClass.WALLTIME),
        (-10, "00:00:10", FailureClass.OOM),
        (-3, "00:00:00", FailureClass.INFRA),
        (1, "00:00:10", None),
    ],
)
def test_torques_ends(status, used, failure):
    (state,) = TORQUE.read_history(0, TORQUE_TEXT.format(status=status, used=used, attempt=1), "")
    assert (state.id, state.phase, state.failure, state.node) == ("77", Phase.ENDED, failure, "n1+n2")
    assert state.start is not None


def test_a_cut_name_is_told_apart_by_the_token():
    name = "abcdefghijklmnopqrst-2.step"
    texts = [TORQUE_TEXT.format(status=0, used="00:00:01", attempt=number) for number in (1, 2)]
    texts[1] = texts[1].replace("77.torque", "78.torque")
    assert [state.id for state in TORQUE.read_lookup(name, [(0, "".join(texts), "")])] == ["78"]


def test_what_pbs_says_about_itself():
    call = samples.call(SESSION, "qstat -B -f")
    facts = PBS.read_description(call.rc, call.out, call.err)
    assert (facts.version, facts.accounting, facts.min_job_age, facts.max_array) == ("23.06.06", True, 86400, 10000)
    without = call.out.replace("job_history_enable = True", "job_history_enable = False")
    assert PBS.read_description(0, without, "").accounting is False
    with pytest.raises(SchedulerSilent, match="correct the profile"):
        PBS.read_description(127, "", "sh: 1: qstat: not found\n")


def test_every_recorded_deletion():
    for file in (SESSION, STATES):
        for call in samples.calls(file, "qdel"):
            if call.rc in (0, 35, 153, 168):
                PBS.read_cancel(call.rc, call.out, call.err)
            else:
                with pytest.raises(SchedulerSilent):
                    PBS.read_cancel(call.rc, call.out, call.err)


@pytest.mark.parametrize(
    ("rc", "text"),
    [
        (55, "Request invalid for finished array subjob 19[1].pbs-login"),
        (222, "Server could not connect to MOM 16.pbs-login"),
        (159, "Unauthorized Request  16"),
    ],
)
def test_what_the_server_says_of_one_job_is_no_silence(rc, text):
    """Else the machine would pause, and be asked the same again, for as long as the array lives or its node is down."""
    PBS.read_cancel(rc, "", f"qdel: {text}\nqdel: Job has finished 19[0]\n")
    with pytest.raises(SchedulerSilent, match="Connection refused"):
        PBS.read_cancel(rc, "", f"Connection refused\nqdel: {text}\n")


PIECES = st.sampled_from(
    ["\n", "    Exit_status = ", "-29", "1" * 30, "Job Id: 1.s\n", "9[1].s", "    job_state = X\n",
     "    ctime = Tue Nov 31 99:00:00 2026\n", "[" * 2000, " u q n 1 1 1 m t Q e"]
)  # fmt: skip


@given(st.sampled_from([0, 1, 35, 153, 255]), st.lists(PIECES | st.text(max_size=5)).map("".join), st.text(max_size=20))
def test_garbage_never_raises_but_silence(rc, out, err):
    for read in (PBS.read_queue, PBS.read_history, PBS.read_description, PBS.read_cancel):
        try:
            read(rc, out, err)
        except SchedulerSilent as silent:
            assert "rc" in str(silent)
    assert isinstance(PBS.submitted(rc, out, err), Accepted | Refused | Unclear)


# --- lives on the fake ----------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    return fakes.pbs(tmp_path)


def test_the_commands_are_found_where_only_login_shells_have_them_on_their_path(cluster, tmp_path):
    conf = tmp_path / "pbs.conf"
    conf.write_text(f"PBS_SERVER=pbs-login\nPBS_EXEC={tmp_path}\nPBS_HOME=/var/spool/pbs\n")
    there = dataclasses.replace(cluster, env={**cluster.env, "PATH": "/usr/bin:/bin", "PBS_CONF_FILE": str(conf)})
    assert there.run("qstat")[0] == 127
    assert PBS.read_description(*there.run(PBS.describe())).max_array == 10000
    number = submit(there, body="exec sleep 60")
    assert [state.id for state in PBS.read_queue(*there.run(PBS.queue()))] == [number]
    assert history(there, number)[number].phase is not Phase.ENDED
    (command,) = PBS.lookup(JOB.name, 0, Resources())
    assert [state.id for state in PBS.read_lookup(JOB.name, [there.run(command)])] == [number]
    PBS.read_cancel(*there.run(PBS.cancel([number])[0]))
    until_gone(there)
    nowhere = dataclasses.replace(there, env={**there.env, "PBS_CONF_FILE": str(tmp_path / "none")})
    with pytest.raises(SchedulerSilent, match="not found"):
        PBS.read_description(*nowhere.run(PBS.describe()))


def test_an_old_qstat_is_asked_for_its_plain_table(cluster):
    number = submit(cluster, members=2, body="exec sleep 60")
    Path(cluster.env["FAKE_PBS"], "old").touch()
    assert {state.id for state in PBS.read_queue(*cluster.run(PBS.queue()))} == {"0[0]", "0[1]"}
    PBS.read_cancel(*cluster.run(PBS.cancel([number])[0]))
    until_gone(cluster)


def submit(cluster, **changes):
    job = dataclasses.replace(JOB, directory=str(cluster.home / "work dir"), **changes)
    Path(job.directory).mkdir(exist_ok=True)
    Path(job.directory, "job.sh").write_text(PBS.script(job))
    answer = PBS.submitted(*cluster.run(PBS.submit("job.sh"), cwd=Path(job.directory)))
    assert isinstance(answer, Accepted), answer
    return answer.id


def until_gone(cluster):
    """Ask for the queue until nothing lives; each question takes its own time, so none is put in between."""
    for _ in range(400):
        states = PBS.read_queue(*cluster.run(PBS.queue()))
        if all(state.phase is Phase.ENDED for state in states):
            return
    raise AssertionError(states)


def history(cluster, *ids):
    answers = [cluster.run(command) for command in PBS.history(ids, 0)]
    return {state.id: state for answer in answers for state in PBS.read_history(*answer)}


def test_an_array_runs_and_is_found_again(cluster):
    number = submit(cluster, members=3, at_once=2, body='echo "$DFH_JOB_ID $DFH_TOKEN $PWD"; exit $DFH_INDEX')
    assert number == "0[]"
    until_gone(cluster)
    states = history(cluster, number)
    assert {key: state.exit_code for key, state in states.items()} == {"0[0]": 0, "0[1]": 1, "0[2]": 2}
    text = (cluster.home / "work dir" / PBS.output(2)).read_text()
    assert text == f"0[2] 2bc-1 {cluster.home / 'work dir'}\n"
    answers = [cluster.run(command) for command in PBS.lookup(JOB.name, 0, Resources())]
    assert {state.id for state in PBS.read_lookup(JOB.name, answers)} == set(states)
    assert PBS.read_lookup("2bc-2.train", answers) == []


def test_limits_warnings_and_deletion(cluster):
    slow = submit(cluster, resources=Resources(time="2s"), warn=1, body="trap 'echo soon' USR2; sleep 60 & wait; wait")
    gone = submit(cluster, name="x-1.y", body="exec sleep 60")
    for command in PBS.cancel([gone]):
        PBS.read_cancel(*cluster.run(command))
        PBS.read_cancel(*cluster.run(command))  # again: no complaint
    until_gone(cluster)
    states = history(cluster, slow, gone)
    assert states[slow].failure is FailureClass.WALLTIME
    assert states[gone].failure is FailureClass.CANCELLED
    assert "soon\n" in (cluster.home / "work dir" / PBS.output(None)).read_text()


def test_a_server_that_is_down_or_forgets(cluster):
    number = submit(cluster, body="exit 0")
    until_gone(cluster)
    Path(cluster.env["FAKE_PBS"], "no-history").touch()
    assert history(cluster, number) == {}
    (command,) = PBS.lookup(JOB.name, 0, Resources())
    assert PBS.read_lookup(JOB.name, [cluster.run(command)]) == []
    Path(cluster.env["FAKE_PBS"], "down").touch()
    for ask, read in ((PBS.queue(), PBS.read_queue), (PBS.history([number], 0)[0], PBS.read_history)):
        with pytest.raises(SchedulerSilent):
            read(*cluster.run(ask))
    with pytest.raises(SchedulerSilent):
        PBS.read_lookup(JOB.name, [cluster.run(command)])
    with pytest.raises(SchedulerSilent):
        PBS.read_cancel(*cluster.run(PBS.cancel([number])[0]))
    assert isinstance(PBS.submitted(*cluster.run(PBS.submit("job.sh"), cwd=cluster.home / "work dir")), Unclear)


@pytest.mark.parametrize("kept", [True, False])
def test_a_member_that_is_deleted_while_it_waits_has_no_record(cluster, kept):
    """What is shown of it is the array's; without a history that says nothing, for all that ended are shown so."""
    number = submit(cluster, members=3, at_once=1, body="exec sleep 60")
    for _ in range(400):
        if cluster.run("qstat -t")[1].count(" R "):
            break
    if not kept:
        Path(cluster.env["FAKE_PBS"], "no-history").touch()
    for member in ("0[2]", "0[0]"):
        PBS.read_cancel(*cluster.run(PBS.cancel([member])[0]))
    for _ in range(400):
        states = history(cluster, number)
        if [states[key].word for key in ("0[0]", "0[1]", "0[2]")] == ["X", "R", "X"]:
            break
    else:
        raise AssertionError(states)
    assert [states[f"0[{index}]"].unbegun for index in range(3)] == [False, False, kept]
    assert states["0[0]"].failure is (FailureClass.CANCELLED if kept else None)
    assert states["0[2]"].failure is None
    for _ in range(2):  # again: no complaint, though the server says of the others that they have ended
        PBS.read_cancel(*cluster.run(PBS.cancel(["0[0]", "0[1]", "0[2]"])[0]))
    until_gone(cluster)


def test_a_live_job_is_found_where_no_history_is_kept(cluster):
    """There ``qselect -x`` and ``qstat -x`` end well and show nothing: a lost answer must not lead to a second job."""
    number = submit(cluster, body="exec sleep 60")
    Path(cluster.env["FAKE_PBS"], "no-history").touch()
    assert history(cluster, number)[number].phase is not Phase.ENDED
    (command,) = PBS.lookup(JOB.name, 0, Resources())
    assert [state.id for state in PBS.read_lookup(JOB.name, [cluster.run(command)])] == [number]
    PBS.read_cancel(*cluster.run(PBS.cancel([number])[0]))
    until_gone(cluster)
    assert history(cluster, number) == {}
