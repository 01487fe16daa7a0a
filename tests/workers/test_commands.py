"""Command leaves: what Argo says about scripts, containers and container sets."""

import dataclasses
import subprocess
import sys

import pytest

from dflow_hpc.engines.local.work.commands import seconds
from dflow_hpc.executors.failures import FailureClass

NOT_FOUND = "main: Error (exit code 64): failed to find name in PATH: exec: "
NOT_IN_PATH = NOT_FOUND + '"no-such": executable file not found in $PATH'
NOT_THERE = NOT_FOUND + '"/no/such": stat /no/such: no such file or directory'


def container(*command, **fields):
    extra = {key: fields.pop(key) for key in ("env", "args", "workingDir", "volumeMounts", "image") if key in fields}
    return {"name": "t", "container": {"image": "busybox", "command": list(command), **extra}, **fields}


def outputs(*, parameters=(), artifacts=()):
    return {"parameters": list(parameters), "artifacts": list(artifacts)}


def from_path(name, path, **more):
    return {"name": name, "valueFrom": {"path": path, **more}}


def test_exit_code_and_result(kit):
    outcome = kit.sh("echo out; echo err >&2; exit 3", result=True)
    assert (outcome.phase, outcome.message) == ("Failed", "main: Error (exit code 3)")
    assert outcome.outputs == {"exitCode": "3", "result": "out"}
    assert outcome.failure == FailureClass.APP


def test_result_loses_one_newline_and_keeps_the_last_256_kib(kit):
    assert kit.sh("printf 'a\\n\\n'", result=True).outputs["result"] == "a\n"
    result = kit.sh(f'{sys.executable} -c \'print("b" * (1 << 20)); print("end")\'', result=True).outputs["result"]
    assert len(result) == (256 << 10) - 1 and result.endswith("b\nend")


def test_a_background_process_does_not_hold_the_result_back(kit):
    outcome = kit.sh("sleep 1000 & echo done", result=True)
    assert outcome.outputs["result"] == "done"
    [notice] = outcome.notices
    assert "left behind" in notice


@pytest.mark.parametrize(("command", "message"), [("no-such", NOT_IN_PATH), ("/no/such", NOT_THERE)])
def test_a_program_that_is_not_there(kit, command, message):
    [outcome] = kit.run(kit.request(container(command)))
    assert (outcome.phase, outcome.message) == ("Failed", message)
    assert outcome.outputs == {"exitCode": "64"}


def test_a_program_that_is_none(kit):
    messages = [
        outcome.message for outcome in kit.run(*(kit.request(container(path)) for path in ("/etc", "/etc/passwd")))
    ]
    assert messages == [f'{NOT_FOUND}"/etc": is a directory', f'{NOT_FOUND}"/etc/passwd": permission denied']


def test_the_termination_log_is_in_the_message(kit):
    outcome = kit.sh("echo why > /dev/termination-log; exit 2")
    assert outcome.message == "main: Error (exit code 2): why"


def test_killed_by_a_signal(kit):
    outcome = kit.sh("kill -9 $$")
    assert outcome.message == "main: Error (exit code 137)"
    assert len(outcome.notices) == 1 and "SIGKILL" in outcome.notices[0]


def test_parameters_from_paths(kit):
    declared = [
        from_path("a", "/tmp/a"),
        from_path("b", "/tmp/none", default="d\n"),
        {"name": "c", "value": "literal"},
        from_path("e", "/made/by/it"),
    ]
    outcome = kit.sh(
        "printf 'x\\n\\n' > /tmp/a; mkdir -p /made/by; printf y > /made/by/it", outputs=outputs(parameters=declared)
    )
    assert [item["value"] for item in outcome.outputs["parameters"]] == ["x\n", "d", "literal", "y"]
    assert outcome.outputs["parameters"][0]["valueFrom"] == {"path": "/tmp/a"}


def test_a_missing_parameter_is_an_error_of_wait(kit):
    outcome = kit.sh("true", outputs=outputs(parameters=[from_path("a", "/tmp/none")]))
    text = "wait: Error (exit code 64): open /var/run/argo/outputs/parameters/tmp/none: no such file or directory"
    assert (outcome.phase, outcome.message, outcome.failure) == ("Error", text, FailureClass.STAGE_OUT)
    assert outcome.outputs == {"exitCode": "0", "parameters": [from_path("a", "/tmp/none")]}


def test_missing_artifacts_are_told_together_and_optional_ones_not(kit):
    declared = [
        {"name": "a", "path": "/tmp/a"},
        {"name": "b", "path": "/b", "archive": {"none": {}}},
        {"name": "c", "path": "/tmp/c", "optional": True},
    ]
    outcome = kit.sh("true", outputs=outputs(artifacts=declared))
    open_ = "open /var/run/argo/outputs/artifacts"
    gone = "no such file or directory; "
    assert outcome.message == f"wait: Error (exit code 64): {open_}/tmp/a.tgz: {gone}{open_}/b.tgz: {gone}"
    assert outcome.phase == "Error"


def test_a_failure_of_the_program_comes_before_missing_outputs(kit):
    outcome = kit.sh("exit 1", outputs=outputs(artifacts=[{"name": "a", "path": "/tmp/a"}]))
    assert (outcome.phase, outcome.message) == ("Failed", "main: Error (exit code 1)")


def test_artifacts_get_argos_keys(kit):
    declared = [
        {"name": "a", "path": "/tmp/a.txt"},
        {"name": "b", "path": "/tmp/a.txt", "archive": {"none": {}}},
        {"name": "z", "path": "/tmp/a.txt", "archive": {"zip": {}}},
        {"name": "k", "path": "/tmp/a.txt", "s3": {"key": "run/own/key"}},
    ]
    outcome = kit.sh("echo text > /tmp/a.txt", outputs=outputs(artifacts=declared))
    keys = [item["s3"]["key"] for item in outcome.outputs["artifacts"]]
    assert keys == ["run/run-step-1/a.tgz", "run/run-step-1/a.txt", "run/run-step-1/z.zip", "run/own/key"]
    assert (kit.run_dir / "store" / "own" / "key").read_text() == "text\n"


def test_artifacts_pass_from_one_leaf_to_the_next(kit):
    made = kit.request(
        kit.script("mkdir /out; echo 1 > /out/x", outputs=outputs(artifacts=[{"name": "d", "path": "/out"}]))
    )
    taken = {"name": "d", "path": "/in/d", "mode": 0o700}
    read = kit.request(
        kit.script("echo more >> /in/d/x; cat /in/d/x; stat -c %a /in/d", inputs={"artifacts": [taken]}),
        artifacts=[{**taken, "s3": {"key": "run/run-step-1/d.tgz"}}],
        result=True,
    )
    outcomes = kit.run(made, read)
    assert outcomes[1].outputs["result"] == "1\nmore\n700"
    assert (kit.run_dir / "store" / "run-step-1" / "d.tgz" / "x").read_text() == "1\n"


def test_raw_artifacts_are_written(kit):
    raw = {"name": "r", "path": "/tmp/raw/file", "raw": {"data": "line\n"}}
    request = kit.request(kit.script("cat /tmp/raw/file", inputs={"artifacts": [raw]}), artifacts=[raw], result=True)
    assert kit.run(request)[0].outputs["result"] == "line"


def test_environment_and_expansion(kit):
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)2"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    args = ['echo $A $B $POD $ARGO_NODE_ID "$1"', "x", "$(B)/$$(A)/$(UNKNOWN)"]
    request = kit.request(container("sh", "-c", args=args, env=env), result=True)
    assert kit.run(request)[0].outputs["result"] == "1 12 run-step-1 run-1 12/$(A)/$(UNKNOWN)"


def test_a_variable_that_cannot_be_read_is_refused(kit):
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]
    [outcome] = kit.run(kit.request(container("true", env=env)))
    assert outcome.phase == "Error" and "configMapKeyRef" in outcome.message


def test_an_entry_point_is_looked_for_under_the_images_name(kit):
    template = {"name": "t", "container": {"image": "docker.io/library/echo:v1", "args": ["said"]}}
    request = kit.request(template, result=True)
    [outcome] = kit.run(request)
    assert outcome.outputs["result"] == "said"
    assert len(outcome.notices) == 1 and "entry point" in outcome.notices[0]


def container_set(*members, **fields):
    return {"name": "t", "containerSet": {"containers": list(members), **fields}}


def member(name, script, *depends):
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], "dependencies": list(depends)}


def test_a_container_set_follows_its_dependencies(kit):
    template = container_set(
        member("main", "cat /work/b", "b"),
        member("b", "cat /work/a > /work/b; echo b >> /work/b", "a"),
        member("a", "echo a > /work/a"),
        volumeMounts=[{"name": "work", "mountPath": "/work"}],
    )
    template["volumes"] = [{"name": "work", "emptyDir": {}}]
    [outcome] = kit.run(kit.request(template, result=True))
    assert outcome.outputs == {"exitCode": "0", "result": "a\nb"}
    assert [(item["name"], item["phase"]) for item in outcome.members] == [
        ("main", "Succeeded"),
        ("b", "Succeeded"),
        ("a", "Succeeded"),
    ]


def test_what_depends_on_a_failed_container_does_not_run(kit):
    template = container_set(member("a", "exit 1"), member("b", "echo ran", "a"))
    [outcome] = kit.run(kit.request(template))
    assert (outcome.phase, outcome.message) == ("Failed", "a: Error (exit code 1)")
    assert "exitCode" not in outcome.outputs
    text = 'b: Error (exit code 64): dependency "a" exited with non-zero code: 1'
    assert [(item["phase"], item["message"]) for item in outcome.members] == [
        ("Failed", "a: Error (exit code 1): "),
        ("Error", text),
    ]


@pytest.mark.parametrize(("retries", "code", "count"), [(3, "0", "3"), (2, "1", "2"), (0, "0", "")])
def test_retries_of_a_container_set_are_attempts_in_all(kit, retries, code, count):
    script = "echo x >> /tmp/count; cat /tmp/count | wc -l > /tmp/n; test $(cat /tmp/n) -ge 3"
    template = container_set(member("main", script), retryStrategy={"retries": str(retries), "duration": "10ms"})
    template["outputs"] = outputs(parameters=[from_path("n", "/tmp/n", default="")])
    [outcome] = kit.run(kit.request(template))
    assert outcome.outputs["exitCode"] == code
    assert outcome.outputs["parameters"][0]["value"] == count


def test_init_containers_come_first_and_fail_the_leaf(kit):
    init = [member("one", "echo 1 > /tmp/x"), member("two", "cat /tmp/x; exit 4")]
    [outcome] = kit.run(kit.request(kit.script("echo main", initContainers=init)))
    assert (outcome.phase, outcome.message) == ("Failed", "two: Error (exit code 4)")
    assert "exitCode" not in outcome.outputs


def test_sidecars_end_with_the_main_container(kit):
    waiting = member("waiting", "sleep 1000")
    failing = member("failing", "exit 5")
    good, bad = kit.run(
        kit.request(kit.script("true", sidecars=[waiting])),
        kit.request(kit.script("sleep 0.2", sidecars=[failing])),
    )
    assert good.phase == "Succeeded"
    assert (bad.phase, bad.message) == ("Failed", "failing: Error (exit code 5)")


def test_a_deadline_keeps_the_exit_code(kit, soon):
    plain = kit.request(kit.script("sleep 1000"), deadline=soon())
    trapping = kit.request(kit.script("trap 'exit 0' TERM; sleep 1000 & wait"), deadline=soon(3))
    outcomes = kit.run(plain, trapping)
    text = "Pod was active on the node longer than the specified deadline"
    assert [outcome.message for outcome in outcomes] == [text, text]
    assert [outcome.outputs["exitCode"] for outcome in outcomes] == ["143", "0"]


def test_a_time_limit_counts_from_the_real_start(kit):
    plain = dataclasses.replace(kit.request(kit.script("sleep 1000")), timeout=0.5)
    (outcome,) = kit.run(plain)
    assert outcome.message == "Pod was active on the node longer than the specified deadline"
    assert (outcome.phase, outcome.outputs["exitCode"]) == ("Failed", "143")


def test_nothing_of_a_leaf_is_left_after_its_deadline(kit, soon):
    mark = "sleep 98765.4321"
    kit.run(kit.request(kit.script(f"trap '' TERM; setsid {mark} & {mark}"), deadline=soon()))
    assert subprocess.run(["pgrep", "-f", mark], capture_output=True, check=False).stdout == b""


def test_durations():
    assert [seconds(text) for text in ("5", "1m30s", "10ms", "1.5h", "0")] == [5.0, 90.0, 0.01, 5400.0, 0.0]
