"""dflow's executors for clusters: the manifest that they give, the profile beside it, and what they refuse."""

import json

import pytest

from dflow_hpc import DAG, OP, PythonOPTemplate, ShellOPTemplate, Step, Steps, Task, Workflow, config
from dflow_hpc.compat.executors import (
    ContainerExecutor,
    DispatcherExecutor,
    RemoteExecutor,
    SlurmJob,
    SlurmJobTemplate,
    SlurmRemoteExecutor,
)
from dflow_hpc.compile import Compiled
from dflow_hpc.engines.local.work import placement
from dflow_hpc.errors import CompileError, ConfigError
from dflow_hpc.executors.profiles import placing
from dflow_hpc.executors.profiles.machine import machine_from
from dflow_hpc.manifest.placing import wish_of, wishes

HEADER = """#!/bin/bash
    #SBATCH -N 1 -p cpu
    #SBATCH -J mine
    module load vasp
"""


def say(**options):
    return ShellOPTemplate("say", image="busybox", script="echo", **options)


def compiled(executor, template=None):
    workflow = Workflow("placed")
    workflow.add(Step("say", template or say(), executor=executor))
    return workflow.compile()


def only(found):
    """Return the one placed template, its machine's name and table, and what it asks for."""
    [(template, name, wished)] = wishes(found.manifest)
    assert list(found.machines) == [name]
    machine_from(name, found.machines[name], "the program")
    return template, name, found.machines[name], json.loads(wished)


def test_slurm_remote_executor():
    executor = SlurmRemoteExecutor("login.site", port="2222", username="me", private_key_file="id", header=HEADER)
    found = compiled(executor)
    template, name, table, wished = only(found)
    assert wished == {"nodes": 1, "queue": "cpu"}
    assert table.pop("ssh_options")[0].endswith("/id")
    assert table == {
        "scheduler": "slurm",
        "host": "me@login.site:2222",
        "root": "dflow/workflows",
        "setup": ["module load vasp"],
    }
    assert found.notices == ("--job-name=mine is left out: a job is found again by the name that it gets here",)
    assert template["script"]["image"] == "busybox"
    assert name.startswith("slurm-")


def test_the_manifest_is_free_of_the_profile_and_of_secrets():
    first = compiled(SlurmRemoteExecutor("login.site", username="me", password="geheim", header=HEADER))
    second = compiled(SlurmRemoteExecutor("login.site", username="me", password="other", header=HEADER))
    assert first.manifest == second.manifest
    text = json.dumps([first.manifest, first.machines])
    assert "geheim" not in text
    assert "geheim" not in repr(first)
    assert "login.site" not in json.dumps(first.manifest)
    [secret] = first.secrets
    assert (secret.name, secret.key, secret.value) == (next(iter(first.machines)), "password", "geheim")


def test_machines_are_told_apart_by_their_profile_and_not_by_what_steps_ask_for():
    workflow = Workflow("placed")
    for number, (host, header) in enumerate([("a", "#SBATCH -n 1"), ("a", "#SBATCH -n 2"), ("b", "#SBATCH -n 1")]):
        workflow.add(Step(f"step-{number}", say(), executor=SlurmRemoteExecutor(host, header=header)))
    found = workflow.compile()
    assert sorted(table["host"] for table in found.machines.values()) == ["root@a", "root@b"]
    assert len(list(wishes(found.manifest))) == 3


def test_remote_executor_and_its_commands():
    executor = RemoteExecutor("h", workdir="/data/{{workflow.name}}/x", remote_command="source ~/env && sh")
    template, _, table, _ = only(compiled(executor))
    assert table == {"scheduler": "shell", "host": "root@h", "root": "/data"}
    assert template["script"]["command"] == ["sh", "-c", 'source ~/env && sh "$0"']
    template, *_ = only(compiled(RemoteExecutor("h", remote_command=["bash", "-x"])))
    assert template["script"]["command"] == ["bash", "-x"]

    class Own(RemoteExecutor):
        def execute(self, cmd):
            return cmd

    with pytest.raises(CompileError, match=r"given to Own: its method execute\(\) has no counterpart"):
        compiled(Own("h"))


def test_a_python_of_ones_own():
    @OP.function
    def nothing():
        return None

    template = PythonOPTemplate(nothing, image="python:3.8")
    _, _, table, _ = only(compiled(RemoteExecutor("h", remote_command="conda run -n x python"), template))
    assert "conda run -n x python" in table["setup"][-1]
    _, _, table, _ = only(compiled(RemoteExecutor("h"), template))
    assert "setup" not in table


def test_dispatcher_executor_merges_defaults_file_and_arguments(tmp_path):
    file = tmp_path / "conf.json"
    file.write_text(
        json.dumps(
            {
                "machine": {"batch_type": "PBS", "remote_profile": {"port": 2200}},
                "resources": {"cpu_per_node": 4, "queue_name": "file", "envs": {"A": "1"}},
            }
        )
    )
    executor = DispatcherExecutor(
        host="login",
        username="me",
        queue_name="argument",
        json_file=file,
        resources_dict={"cpu_per_node": 8, "envs": {"B": "2"}},
        envs={"C": "3"},
        image="dispatcher",
        command="python3.9",
    )
    template, _, table, wished = only(compiled(executor))
    assert table == {
        "scheduler": "pbs",
        "host": "me@login:2200",
        "root": "dflow/workflows",
        "setup": ["export A=1", "export B=2"],
    }
    assert wished == {"nodes": 1, "cpus": 8, "queue": "file"}
    envs = {item["name"]: item["value"] for item in template["script"]["env"]}
    assert envs == {
        "C": "3",
        "DFLOW_POD": "{{pod.name}}",
        "DFLOW_WORKFLOW": "{{workflow.name}}",
        "PYTHONUNBUFFERED": "true",
    }
    assert template["script"]["image"] == "busybox"
    file.unlink()
    with pytest.raises(CompileError, match=r"given to DispatcherExecutor: json_file names .*conf.json, which cannot"):
        compiled(DispatcherExecutor(json_file=file))


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        (DispatcherExecutor(host="h", pre_script="x"), "pre_script='x' has no counterpart: it would run in the disp"),
        (DispatcherExecutor(host="h", post_script="x"), "post_script='x' has no counterpart"),
        (DispatcherExecutor(host="h", merge_bohrium_job_group=True), "merge_bohrium_job_group=True has no counterpart"),
        (DispatcherExecutor(host="h", terminate_grace_period=5), "terminate_grace_period=5 has no counterpart"),
        (DispatcherExecutor(host="h", map_tmp_dir=False), "map_tmp_dir=False without a container"),
        (DispatcherExecutor(host="h", docker_executable="sudo docker"), "docker_executable='sudo docker' is no docker"),
        (DispatcherExecutor(host="h", docker_executable="docker", podman_executable="podman"), "by one of them"),
        (DispatcherExecutor(), "no host is named"),
        (DispatcherExecutor(machine_dict={"context_type": "Bohrium"}), "context_type is 'Bohrium'"),
        (SlurmRemoteExecutor("h", pvc="x"), "pvc='x' has no counterpart"),
        (SlurmRemoteExecutor("h", header="#SBATCH --array=1-3"), "--array=1-3 was asked for"),
        (SlurmJobTemplate("module load x"), "header holds 'module load x', which is no directive"),
        (SlurmJobTemplate(docker_executable="docker"), "runtime = ..."),
    ],
)
def test_what_has_no_counterpart_is_refused_before_anything_runs(executor, message):
    with pytest.raises(CompileError) as caught:
        compiled(executor)
    assert str(caught.value).startswith(f"ShellOPTemplate 'say' was given to {type(executor).__name__}: ")
    assert message in str(caught.value)


def test_a_context_places_all_leaves():
    inner = Steps("inner", steps=[Step("one", say())])
    dag = DAG("outer", tasks=[Task("all", inner)])
    workflow = Workflow("placed", dag=dag, context=SlurmRemoteExecutor("h"))
    assert [template["name"] for template, *_ in wishes(workflow.compile().manifest)] == ["say"]


@pytest.mark.parametrize(
    "options", [{"executor": SlurmJobTemplate("#SBATCH -p cpu")}, {"use_resource": SlurmJob("#SBATCH -p cpu")}]
)
def test_a_virtual_node_is_the_machine_that_says_so(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    workflow = Workflow("placed")
    workflow.add(Step("say", say(), **options))
    found = workflow.compile()
    [template] = [template for template in found.manifest["spec"]["templates"] if wish_of(template)[0]]
    with pytest.raises(ConfigError, match='no profile says via = "node"'):
        placing.settle(found)
    (tmp_path / "machines.toml").write_text('[machine.a]\n[machine.b]\nscheduler = "slurm"\nvia = "node"\n')
    _, machines = placing.settle(found)
    placement.keep(tmp_path, machines)
    place = placement.Placements(1, tmp_path).of(template)
    assert (place.machine.name, place.resources.queue) == ("b", "cpu")


def test_profiles_of_programs_stay_with_the_run_for_its_owner_alone(tmp_path):
    found, machines = placing.settle(compiled(SlurmRemoteExecutor("h", header=HEADER)))
    placement.keep(tmp_path, machines)
    assert placement.profiles(tmp_path) == machines
    assert (tmp_path / "machines.json").stat().st_mode & 0o077 == 0
    [(template, *_)] = wishes(found.manifest)
    place = placement.Placements(1, tmp_path).of(template)
    assert (place.machine.host, place.machine.setup) == ("root@h", ("module load vasp",))
    with pytest.raises(ConfigError, match="machine 'slurm-"):
        placing.settle(Compiled(found.manifest))


def test_container_executor_is_this_host_with_a_runtime():
    _, _, table, _ = only(compiled(ContainerExecutor(docker="/opt/bin/docker")))
    runtime = {"runtime": "docker", "setup": ["PATH=/opt/bin:$PATH"]}
    assert table == {"scheduler": "shell", "transport": "local", **runtime}
    with pytest.raises(CompileError, match="image_pull_policy='Always'"):
        compiled(ContainerExecutor(docker="docker", image_pull_policy="Always"))
    executor = DispatcherExecutor(host="h", singularity_executable="singularity", container_args="--nv -B /data")
    assert only(compiled(executor))[2]["runtime_options"] == ["--nv", "-B", "/data"]


def test_templates_without_an_image_get_one():
    template, *_ = only(compiled(RemoteExecutor("h"), ShellOPTemplate("say", script="echo")))
    assert template["script"]["image"] == config["util_image"]


def test_what_belongs_to_a_machine_that_is_not_used_any_more_stays_behind():
    given = compiled(SlurmRemoteExecutor("h", password="geheim"))
    found, machines = placing.settle(given, rules=["say=local"])
    assert (found.machines, found.secrets, machines) == ({}, (), {})
    assert len(placing.settle(given)[0].secrets) == 1
