"""Several containers in one job: their order, their restarts, their ends, and what is told of each."""

import os
import signal
import time
from pathlib import Path

import pytest

from dflow_hpc.engines.local.work import containers


def member(name, line, kind="main", **more):
    words = ["sh", "-c", line]
    return {"kind": kind, "name": name, "tries": 1, "pause": 0, "needs": [], "words": words, "env": {}, **more}


def pod(*members, policy="Never", grace=30, result=False):
    return {"pod": list(members), "policy": policy, "grace": grace, "result": result, "outputs": ["pod"]}


def template(program):
    """Return the template of which a program was made, as far as its ends need it."""
    groups = {"init": [], "helper": [], "main": [], "sidecar": []}
    for each in program["pod"]:
        extra = {"restartPolicy": "Always"} if each["kind"] == "helper" else {}
        groups[each["kind"]].append({"name": each["name"], **extra})
    found = {"initContainers": groups["init"] + groups["helper"], "sidecars": groups["sidecar"]}
    return {**found, "containerSet": {"containers": groups["main"]}, "restartPolicy": program["policy"]}


def run(machine, program, **options):
    machine.submit("batch", {"k-1": program}, **options)
    (marker,) = machine.wait("k-1")
    return marker, containers.ends(str(machine.here / "k-1"), template(program))


def codes(ends):
    return {name: [run[2] for run in each["runs"]] for name, each in ends.items()}


def log(machine, name):
    return (machine.here / "k-1" / "pod" / name / "log.txt").read_text()


def test_inits_come_first_mains_run_at_once_and_the_others_end_with_them(machine):
    program = pod(
        member("one", "echo 1 >>../order", "init"),
        member("beside", "trap 'echo told; exit 0' TERM; echo b >>../order; while :; do sleep 0.02; done", "helper"),
        member("two", "while ! grep -q b ../order; do sleep 0.02; done; echo 2 >>../order", "init"),
        member("a", "mkfifo ../a ../b; cat ../order; : >../ready; echo a >../b; read x <../a; echo met $x"),
        member("b", "while [ ! -e ../ready ]; do sleep 0.02; done; read x <../b; echo met $x; echo b >../a"),
        member("side", "sleep 60", "sidecar"),
        result=True,
    )
    marker, ends = run(machine, program, setup=["true"])
    assert (marker["rc"], marker["stage"]) == (0, "main")
    assert codes(ends) == {"one": [0], "beside": [0], "two": [0], "a": [0], "b": [0], "side": [143]}
    assert (machine.here / "k-1" / "log.txt").read_text() == "1\nb\n2\nmet b\n"
    assert (log(machine, "b"), log(machine, "beside")) == ("met a\n", "told\n")
    assert containers.blame(ends, 0) == {"phase": "Succeeded"}
    assert not (machine.root / "k" / "attempt.1" / "private").exists()


def test_a_failed_init_ends_the_pod_before_its_mains(machine):
    marker, ends = run(machine, pod(member("one", "exit 5", "init"), member("a", "true")))
    assert (marker["rc"], marker["stage"], codes(ends)) == (5, "main", {"one": [5], "a": []})
    assert containers.blame(ends, 5)["message"] == "one: Error (exit code 5)"


def test_what_needs_a_failed_one_ends_as_in_argo_and_attempts_are_counted(machine):
    program = pod(
        member("a", "[ -e ../been ] || { : >../been; exit 3; }", tries=2),
        member("b", "true", needs=["a"]),
        member("c", "echo why >../pod/c/termination-log; exit 4"),
        member("d", "true", needs=["b", "c"]),
        member("e", "true", needs=["d"]),
    )
    marker, ends = run(machine, program)
    assert (marker["rc"], codes(ends)) == (4, {"a": [3, 0], "b": [0], "c": [4], "d": [64], "e": [64]})
    assert containers.blame(ends, 4)["message"] == "c: Error (exit code 4): why"
    told = {each["name"]: (each["phase"], each["message"]) for each in containers.told(ends)}
    assert told["d"] == ("Error", 'd: Error (exit code 64): dependency "c" exited with non-zero code: 4')
    assert told["a"] == ("Succeeded", "")


def test_a_policy_starts_again_what_fails(machine):
    marker, ends = run(machine, pod(member("a", "echo x >>../n; [ $(wc -l <../n) -ge 2 ]"), policy="OnFailure"))
    assert (marker["rc"], codes(ends)) == (0, {"a": [1, 0]})


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


LOOP = "echo $PPID >../keeper; while :; do sleep 0.02; done"


@pytest.mark.parametrize(("line", "code"), [("trap 'exit 9' TERM", 9), ("trap '' TERM", 137)])
def test_a_job_that_is_told_to_end_tells_its_containers_and_kills_them_after_the_grace(machine, line, code):
    program = pod(member("a", f"{line}; {LOOP}"), policy="Always", grace=1)
    machine.submit("batch", {"k-1": program})
    leaf = machine.root / "k" / "attempt.1"
    while not (leaf / "keeper").exists() or not (keeper := (leaf / "keeper").read_text().strip()):
        time.sleep(0.01)
    os.kill(parent(parent(keeper)), signal.SIGTERM)
    (marker,) = machine.wait("k-1")
    ends = containers.ends(str(machine.here / "k-1"), template(program))
    assert (marker["rc"], marker["signal"], codes(ends)) == (code, 15, {"a": [code]})


def test_of_a_container_whose_job_was_killed_only_its_start_is_known(machine):
    room = machine.here / "k-1" / "pod" / "a"
    room.mkdir(parents=True)
    (room / "state").write_text("1 2 1\n")
    (room / "began").write_text("12\n")
    ends = containers.ends(str(machine.here / "k-1"), template(pod(member("a", "true"))))
    assert ends["a"] == {"kind": "main", "runs": [[1, 2, 1]], "began": 12, "text": ""}
