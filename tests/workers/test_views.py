"""Literal paths: laid over the host in a namespace, or substituted where that is refused."""

import os
import tempfile
from pathlib import Path

import pytest

from dflow_hpc.engines.local.work import namespaces
from dflow_hpc.engines.local.work.staging import StagingError
from dflow_hpc.engines.local.work.views import View

REFUSED = namespaces.refusal()
needs_namespaces = pytest.mark.skipif(bool(REFUSED), reason=f"no mount namespaces here: {REFUSED}")


def view(tmp_path, template, refused="not allowed here"):
    return View(str(tmp_path / "leaf"), str(tmp_path), template, [], refused)


def outputs(*paths):
    return {"outputs": {"artifacts": [{"name": f"a{i}", "path": path} for i, path in enumerate(paths)]}}


@needs_namespaces
def test_tmp_is_the_leafs_own(kit):
    with tempfile.NamedTemporaryFile(dir="/tmp", prefix="of-the-host-") as host:
        outcome = kit.sh(f"test -e {host.name}; echo $?; echo x > /tmp/only-here; cat /tmp/only-here", result=True)
    assert outcome.outputs["result"].split() == ["1", "x"]
    assert not Path("/tmp/only-here").exists()


@needs_namespaces
def test_declared_paths_are_real_and_the_hosts_root_stays_as_it_is(kit):
    before = sorted(Path("/").iterdir())
    source = "mkdir /result-of-x; echo 1 > /result-of-x/a; echo 2 > /at-the-root; ls -d /etc/passwd /proc/self/status"
    outcome = kit.sh(source, **outputs("/result-of-x", "/at-the-root"))
    assert outcome.phase == "Succeeded", outcome.message
    assert (kit.run_dir / "store" / "run-step-1" / "a0.tgz" / "a").read_text() == "1\n"
    assert (kit.run_dir / "store" / "run-step-1" / "a1.tgz").read_text() == "2\n"
    assert sorted(Path("/").iterdir()) == before


@needs_namespaces
def test_a_directory_of_the_host_can_be_an_output(kit):
    name = {"outputs": {"artifacts": [{"name": "host", "path": "/etc/passwd", "archive": {"none": {}}}]}}
    assert kit.sh("true", **name).phase == "Succeeded"
    assert (kit.run_dir / "store" / "run-step-1" / "passwd").read_text() == Path("/etc/passwd").read_text()


@needs_namespaces
def test_the_script_lies_where_argo_puts_it(kit):
    assert kit.sh("echo $0", result=True).outputs["result"] == "/argo/staging/script"


@needs_namespaces
def test_who_one_is_does_not_change(kit):
    assert kit.sh("id -u", result=True).outputs["result"] == str(os.getuid())


@needs_namespaces
def test_a_claim_is_shared_by_the_leaves_of_a_run_and_an_empty_dir_is_not(kit):
    def template(source):
        mounts = [{"name": "claim", "mountPath": "/vol"}, {"name": "own", "mountPath": "/own", "subPath": "part"}]
        script = {"image": "busybox", "command": ["sh"], "source": source, "volumeMounts": mounts}
        return {"name": "t", "script": script, "volumes": [{"name": "own", "emptyDir": {}}]}

    first = kit.request(template("echo shared > /vol/a; echo mine > /own/a"))
    second = kit.request(template("cat /vol/a; ls /own"), result=True)
    assert kit.run(first, second)[1].outputs["result"] == "shared"
    assert (kit.run_dir / "volumes" / "claim" / "a").read_text() == "shared\n"


def test_a_kind_of_volume_that_is_not_known_is_refused(tmp_path):
    script = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    with pytest.raises(StagingError, match="volume 'v' is of the kind 'configMap'"):
        view(tmp_path, {"script": script, "volumes": [{"name": "v", "configMap": {"name": "x"}}]})


def test_a_mount_without_a_path_is_refused(kit):
    outcome = kit.run(kit.request({"name": "t", "container": {"command": ["true"], "volumeMounts": [{"name": "v"}]}}))[
        0
    ]
    assert (outcome.phase, outcome.message) == (
        "Error",
        "init: Error (exit code 64): the volume 'v' is to be mounted; its mount has no mountPath",
    )


def test_substitution_takes_exactly_the_declared_paths(tmp_path):
    made = view(tmp_path, outputs("/data/out.txt"))
    base = f"{tmp_path}/leaf/root"
    notices = []
    made.prepare(notices)
    assert len(notices) == 1 and "not allowed here" in notices[0]
    text = "cp /data/out.txt /tmp/x; cat </tmp/y >/data/out.txt.old; ls /var/tmp ~/tmp ./tmp $X/tmp /tmpfoo /etc/passwd"
    assert made.translate(text, {}, "/log") == (
        f"cp {base}/data/out.txt {base}/tmp/x; cat <{base}/tmp/y >{base}/data/out.txt.old; "
        "ls /var/tmp ~/tmp ./tmp $X/tmp /tmpfoo /etc/passwd"
    )
    assert made.translate("x > /dev/termination-log", {}, "/log") == "x > /log"
    assert made.own_path("/data/out.txt") == f"{base}/data/out.txt"


def test_what_is_declared_in_a_volume_is_substituted_by_where_the_volume_lies(tmp_path):
    mounting = {"name": "main", "volumeMounts": [{"name": "room", "mountPath": "/room"}]}
    template = {"volumes": [{"name": "room", "emptyDir": {}}], "container": mounting, **outputs("/room/x")}
    made = view(tmp_path, template)
    made.prepare([])
    place = f"{tmp_path}/leaf/volumes/room/x"
    assert made.translate("cp /room/x y", mounting, "") == f"cp {place} y"
    assert made.own_path("/room/x") == place


def test_nothing_is_substituted_in_a_namespace(tmp_path):
    assert view(tmp_path, outputs("/data/x"), refused="").translate("cat /data/x /tmp", {}, "") == "cat /data/x /tmp"


@pytest.mark.parametrize("namespaces", [pytest.param(True, marks=needs_namespaces), False])
def test_who_leaves_something_in_the_root_directory_begins_there(kit, namespaces):
    requests = [
        kit.request(kit.script("echo 1 > left-by-x; basename $PWD", **outputs(path)), result=True)
        for path in ("/left-by-x", "/tmp/left-by-x")
    ]
    root, own = kit.run(*requests, namespaces=namespaces)
    assert root.phase == "Succeeded", root.message
    assert (kit.run_dir / "store" / "run-step-1" / "a0.tgz").read_text() == "1\n"
    assert not Path("/left-by-x").exists()
    assert (own.phase, own.outputs["result"]) == ("Error", "workdir")


def test_without_namespaces_a_leaf_runs_on_substituted_paths(kit):
    source = "echo 1 > /tmp/a; echo 2 > /b-of-x/c; echo why > /dev/termination-log; pwd; exit $CODE"
    template = kit.script(source, **outputs("/tmp/a", "/b-of-x/c"))
    template["script"]["env"] = [{"name": "CODE", "value": "3"}]
    [outcome] = kit.run(kit.request(template), namespaces=False)
    assert outcome.message == "main: Error (exit code 3): why"
    assert len(outcome.notices) == 1 and "substituted" in outcome.notices[0]
    assert (kit.run_dir / "store" / "run-step-1" / "a1.tgz").read_text() == "2\n"
    assert not Path("/b-of-x").exists()
