"""dpdispatcher's dicts: what each key becomes, and that none is dropped in silence."""

import re

import pytest

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.dpdispatcher import translate
from dflow_hpc.executors.profiles.machine import Resources, machine_from, step_resources
from dflow_hpc.executors.transport.sshconfig import host_config

MACHINE = {
    "_comment": "ours",
    "batch_type": "Slurm",
    "context_type": "SSHContext",
    "local_root": "./",
    "remote_root": "~/work",
    "clean_asynchronously": True,
    "remote_profile": {
        "hostname": "login.site",
        "username": "me",
        "port": 2222,
        "key_filename": "/keys/id",
        "look_for_keys": False,
        "proxy_command": "nc -x proxy %h %p",
        "timeout": 10,
    },
}
RESOURCES = {
    "number_node": 2,
    "cpu_per_node": 8,
    "gpu_per_node": 1,
    "queue_name": "cpu",
    "group_size": 5,
    "custom_flags": ["#SBATCH --time=1:00:00", "#SBATCH -J mine", "ulimit -s unlimited"],
    "strategy": {"if_cuda_multi_devices": False, "ratio_unfinished": 0.0},
    "module_purge": True,
    "module_unload_list": ["old"],
    "module_list": ["gcc/12", "mpi cuda"],
    "source_list": ["activate deepmd", ""],
    "envs": {"A": "it's", "P": [1, 2]},
    "prepend_script": ["cd $HOME"],
    "append_script": [],
    "wait_time": 0,
    "kwargs": {"custom_gpu_line": None},
}


@pytest.fixture
def empty(tmp_path):
    """An OpenSSH configuration that says nothing."""
    path = tmp_path / "config"
    path.touch()
    return path


def test_a_profile_with_everything(empty):
    found = translate(MACHINE, RESOURCES, {"task_work_path": "./", "outlog": "log", "command": "x"})
    assert found.profile == {
        "scheduler": "slurm",
        "host": "me@login.site:2222",
        "root": "work",
        "ssh_options": ["IdentityFile=/keys/id", "IdentitiesOnly=yes", "ProxyCommand=nc -x proxy %h %p"],
        "setup": [
            "ulimit -s unlimited",
            "module purge",
            "module unload old",
            "module load gcc/12",
            "module load mpi cuda",
            ". activate deepmd",
            "export A='it'\"'\"'s'",
            "export P=1",
            "export P=2",
            "cd $HOME",
        ],
    }
    assert found.resources == {"nodes": 2, "tasks": 8, "gpus": 1, "queue": "cpu", "time": "3600s"}
    assert [notice.split()[0] for notice in found.notices] == ["--job-name=mine"]
    machine = machine_from("x", found.profile, "here")
    assert step_resources(Resources(), found.resources, "x").tasks == 8
    config = host_config(machine.host, str(empty), machine.ssh_options)
    assert (config.user, config.hostname, config.port) == ("me", "login.site", 2222)
    assert config.identities_only
    assert config.proxy_command == "nc -x proxy %h %p"


@pytest.mark.parametrize(
    ("host", "user", "port", "expected"),
    [
        ("login", "me@site", 22, ("me@site", "login", 22)),
        ("login", "me@site", 2222, ("me@site", "login", 2222)),
        ("::1", "me", 2222, ("me", "::1", 2222)),
        ("::1", "me", "22", ("me", "::1", 22)),
    ],
)
def test_hosts_and_users_of_every_kind_reach_ssh_as_they_are(empty, host, user, port, expected):
    remote = {"hostname": host, "username": user, "port": port}
    found = translate({"batch_type": "Shell", "context_type": "SSH", "remote_profile": remote}).profile
    config = host_config(found["host"], str(empty), found.get("ssh_options", []))
    assert (config.user, config.hostname, config.port) == expected


@pytest.mark.parametrize(
    ("batch", "context", "expected"),
    [
        ("PBS", "SSHContext", {"scheduler": "pbs", "host": "h", "root": "/r"}),
        ("torque", "ssh", {"scheduler": "torque", "host": "h", "root": "/r"}),
        ("Shell", "LocalContext", {"scheduler": "shell", "transport": "local", "root": "/r"}),
        ("Slurm", "LazyLocalContext", {"scheduler": "slurm", "transport": "local"}),
    ],
)
def test_schedulers_and_contexts(batch, context, expected):
    machine = {"batch_type": batch, "context_type": context, "remote_root": "/r", "remote_profile": {"hostname": "h"}}
    found = translate(machine, {"cpu_per_node": 4, "kwargs": {"custom_gpu_line": "#SBATCH --gpus=a:1"}})
    assert found.profile == expected
    assert found.resources == {"tasks" if batch == "Slurm" else "cpus": 4, "nodes": 1, "extra": ["--gpus=a:1"]}


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("machine", "batch_type", "LSF", "batch_type is 'LSF'; known are Slurm, PBS, Torque and Shell"),
        ("machine", "batch_type", "SlurmJobArray", "batch_type is 'SlurmJobArray'"),
        ("machine", "batch_type", "DistributedShell", "batch_type is 'DistributedShell'"),
        ("machine", "context_type", "BohriumContext", "context_type is 'BohriumContext'"),
        ("machine", "remote_rot", "/x", "machine says 'remote_rot', .*did you mean 'remote_root'"),
        ("remote_profile", "passphrase", "geheim", r"passphrase = \(hidden\), which has no counterpart: load the key"),
        ("remote_profile", "totp_secret", "geheim", r"totp_secret = \(hidden\)"),
        ("remote_profile", "execute_command", "x", "say it in prepend_script"),
        ("remote_profile", "hostname", None, "no host is named"),
        ("resources", "append_script", ["x"], "end of the step's own script"),
        ("resources", "cpus_per_node", 4, "did you mean 'cpu_per_node'"),
        ("resources", "envs", {"a-b": 1}, "the variable 'a-b'"),
        ("resources", "strategy", {"ratio_unfinished": 0.1}, "continue_on_success_ratio"),
        ("resources", "strategy", {"if_cuda_multi_devices": True}, "gpu_per_node"),
        ("resources", "kwargs", {"pe_name": "mpi"}, "kwargs says 'pe_name'"),
        ("resources", "module_list", ["it's"], "cannot be read"),
        ("task", "task_work_path", "task1/", "task_work_path is 'task1/'"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_its_name(where, key, value, message):
    dicts = {"machine": {**MACHINE}, "resources": {**RESOURCES}, "task": {}}
    if where == "remote_profile":
        dicts["machine"]["remote_profile"] = {**MACHINE["remote_profile"], key: value}
    else:
        dicts[where][key] = value
    with pytest.raises(ConfigError, match=message) as caught:
        translate(dicts["machine"], dicts["resources"], dicts["task"])
    assert "geheim" not in str(caught.value)


def test_what_is_left_out_is_told():
    found = translate({**MACHINE, "retry_count": 5}, {**RESOURCES, "para_deg": 2}, grouped=True)
    assert re.findall(r"retry_count|para_deg", " ".join(found.notices)) == ["retry_count", "para_deg"]
    assert found.resources["pack"] == 5
