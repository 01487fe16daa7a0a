"""The fake OpenPBS against what the real one printed: byte for byte, exit codes included."""

import json
import re
from pathlib import Path

import pytest

from tests.schedulers import fake_pbs, fakes, samples

SESSION = "openpbs-client-session.txt"


@pytest.fixture
def cluster(tmp_path):
    cluster = fakes.pbs(tmp_path)
    for name, text in {
        "ok.sh": "#!/bin/sh\n#PBS -l walltime=00:05:00,mem=64mb\necho out\n",
        "exit3.sh": "#!/bin/sh\nexit 3\n",
        "arr.sh": "#!/bin/sh\nexit 0\n",
    }.items():
        (cluster.home / name).write_text(text)
    return cluster


def jobs_of(call):
    """The records of a recorded JSON answer, with the types that the printer got."""
    return list(json.loads(call.out)["Jobs"].items())


@pytest.mark.parametrize(
    "command",
    [
        "qstat -f -F json 16.pbs-login",
        "qstat -f -F json -t '19[].pbs-login'",
        "qstat -x -f -F json 1.pbs-login 17.pbs-login 999999",
        "qstat -x -f -F json -t '20[].pbs-login'",
    ],
)
def test_json(command):
    call = samples.call(SESSION, command)
    assert fake_pbs.json_text(jobs_of(call), json.loads(call.out)["timestamp"]) == call.out


def test_json_of_nothing():
    call = samples.call(SESSION, "qstat -f -F json 1.pbs-login")
    assert fake_pbs.json_text([], 1795561055) == call.out


def test_full_text():
    told = dict(jobs_of(samples.call(SESSION, "qstat -x -f -F json 1.pbs-login 17.pbs-login 999999")))
    expected = samples.call(SESSION, "qstat -x -f 17.pbs-login").out
    assert fake_pbs.full_text("17.pbs-login", told["17.pbs-login"]) == expected


def rows_of(out, name, state, used):
    """Records from a recorded table, as far as it tells."""
    rows = []
    for line in out.splitlines():
        fields = line.split()
        if re.match(r"\d+(\[\d*\])?\.pbs-login", line):
            rows.append((fields[0], {"Job_Name": fields[name], "job_state": fields[state], "fields": fields}))
            if fields[used] != "0":
                rows[-1][1]["resources_used"] = {"cput": fields[used]}
    return rows


@pytest.mark.parametrize("command", ["qstat", "qstat -t", "qstat -x"])
def test_table(command):
    call = samples.call(SESSION, command)
    rows = [
        (key, {**record, "Job_Owner": "hpc@pbs-login", "queue": record["fields"][5]})
        for key, record in rows_of(call.out, 1, 4, 3)
    ]
    assert fake_pbs.table(rows) == call.out


def test_table_of_a_user():
    call = samples.call(SESSION, "qstat -u $USER")
    rows = []
    for key, record in rows_of(call.out, 3, 9, 10):
        _, _, queue, _, session, nodes, cpus, memory, limit, _, used = record["fields"]
        told = {"nodect": nodes, "ncpus": cpus} | ({"mem": memory} if memory != "--" else {})
        told |= {"walltime": limit + ":00"} if limit != "--" else {}
        told = {"Job_Owner": "hpc@pbs-login", "queue": queue, "Resource_List": told}
        told |= {"session_id": session} if session != "--" else {}
        told["resources_used"] = {"walltime": used + ":00"} if used != "--" else {}
        rows.append((key, record | told))
    assert fake_pbs.wide_table(rows) == call.out


def test_the_widest_table():
    call = samples.call(SESSION, "qstat -u hpc -t -n -1 -w")
    rows = []
    for key, record in rows_of(call.out, 3, 9, 10):
        _, _, queue, _, session, nodes, cpus, memory, limit, _, used, hosts = record["fields"]
        told = {"nodect": nodes, "ncpus": cpus} | ({"mem": memory} if memory != "--" else {})
        told |= {"walltime": limit + ":00"} if limit != "--" else {}
        told = {"Job_Owner": "hpc@pbs-login", "queue": queue, "Resource_List": told}
        told |= {"session_id": session} if session != "--" else {}
        told |= {"exec_host": hosts} if hosts != "--" else {}
        told["resources_used"] = {"walltime": used + ":00"} if used != "--" else {}
        rows.append((key, record | told))
    assert fake_pbs.widest_table(rows, comments=False) == call.out


def test_a_member_that_waits_has_the_arrays_attributes():
    told = dict(jobs_of(samples.call(SESSION, "qstat -f -F json -t '19[].pbs-login'")))
    members = {"4": {"job_state": "Q", "substate": 10}}
    job = {"number": 19, "id": "19[].pbs-login", "attributes": told["19[].pbs-login"], "members": members}
    assert fake_pbs.borrowed(job, "4") == told["19[4].pbs-login"]
    assert list(fake_pbs.borrowed(job, "4")) == list(told["19[4].pbs-login"])


REFUSED = [
    call
    for call in samples.calls(SESSION, "cd s2 && qsub")
    if call.rc and not call.command.endswith(("-q short ok.sh", "crlf.sh"))
]


@pytest.mark.parametrize("call", REFUSED, ids=lambda call: call.command[11:40])
def test_refused_submissions(cluster, call):
    answer = cluster.run(call.command.removeprefix("cd s2 && "))
    assert answer == (call.rc, call.out, call.err)
    assert list(Path(cluster.env["FAKE_PBS"], "jobs").glob("*.json")) == []


@pytest.mark.parametrize(
    "command",
    ["qstat 999999", "qstat notanid", "qdel 999999", "qdel notanid", "qselect -u hpc -N nosuch"],
)
def test_answers_about_the_unknown(cluster, command):
    call = samples.call(SESSION, command)
    assert cluster.run(command) == (call.rc, call.out, call.err)


def test_a_life(cluster):
    """Held, found by its name, released, ended; asked for with and without history; deleted in vain."""
    assert cluster.run("qsub -h -N held ok.sh") == (0, "0.pbs-login\n", "")
    user = samples.call(SESSION, "qselect -u hpc -N sleeper").command.replace("hpc", '"$(id -un)"')
    assert cluster.run(user.replace("sleeper", "held")) == (0, "0.pbs-login\n", "")
    assert " H workq " in cluster.run("qstat")[1]
    assert cluster.run("qrls 0.pbs-login") == (0, "", "")
    wait(cluster, "F")
    assert (cluster.home / "held.o0").read_text() == "out\n"
    assert cluster.run("qstat") == (0, "", "")
    finished = samples.call("openpbs-states.txt", "qstat 1.pbs-login").err.replace("1.pbs", "0.pbs")
    assert cluster.run("qstat 0.pbs-login") == (35, "", finished)
    finished = samples.call("openpbs-states.txt", "qdel 1.pbs-login").err.replace("1.pbs", "0.pbs")
    assert cluster.run("qdel 0.pbs-login") == (35, "", finished)
    Path(cluster.env["FAKE_PBS"], "no-history").touch()
    unknown = samples.call(SESSION, "qstat 1.pbs-login").err.replace("1.pbs", "0.pbs")
    assert cluster.run("qstat 0.pbs-login") == (153, "", unknown)


def wait(cluster, state):
    """Ask until the first job has a state; each question takes its own time, so none is put in between."""
    for _ in range(400):
        if json.loads(cluster.run("qstat -x -f -F json 0")[1])["Jobs"]["0.pbs-login"]["job_state"] == state:
            return
    raise AssertionError(list(Path(cluster.env["FAKE_PBS"]).iterdir()))
