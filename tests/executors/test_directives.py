"""Lines of batch scripts that people bring along: what becomes of each."""

import pytest

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.profiles.directives import Directives
from dflow_hpc.executors.profiles.machine import Resources, step_resources
from dflow_hpc.executors.schedulers import JobScript, get

HEADER = """#!/bin/bash
    #SBATCH -N 2 -n 8 -p cpu   # a remark
#SBATCH --job-name="lmp_dp"
#SBATCH --error=./err.txt
#SBATCH -o out.txt
#SBATCH --gres=gpu:2
#SBATCH --time=1000:00:00
#SBATCH --mem 16G --exclusive
#SBATCH --constraint="a b"
##SBATCH --qos=none
# a remark
source activate deepmd_2.1.4
"""


def test_a_header_as_users_write_it():
    found = Directives().add(HEADER.splitlines())
    assert found.resources == {
        "nodes": 2,
        "tasks": 4,
        "queue": "cpu",
        "gpus": 2,
        "time": "3600000s",
        "memory": "16G",
        "extra": ["--exclusive", '--constraint="a b"'],
    }
    assert found.setup == ["source activate deepmd_2.1.4"]
    assert [notice.split()[0] for notice in found.notices] == [
        "--job-name=lmp_dp",
        "--error=./err.txt",
        "--output=out.txt",
    ]


@pytest.mark.parametrize(
    ("line", "resources"),
    [
        ("#SBATCH -c4", {"cpus": 4}),
        ("#SBATCH -t 90", {"time": "5400s"}),
        ("#SBATCH --time=2-12", {"time": "216000s"}),
        ("#SBATCH -t 1-2:3:4", {"time": "93784s"}),
        ("#SBATCH -t 05:30", {"time": "330s"}),
        ("#SBATCH --time=UNLIMITED", {"extra": ["--time=UNLIMITED"]}),
        ("#SBATCH --mem=500", {"memory": "500M"}),
        ("#SBATCH --mem=0", {"extra": ["--mem=0"]}),
        ("#SBATCH --gres=gpu:v100:2", {"extra": ["--gres=gpu:v100:2"]}),
        ("#SBATCH --gpus=1", {"extra": ["--gpus=1"]}),
        ("#SBATCH -N 2-4", {"extra": ["--nodes=2-4"]}),
        ("#SBATCH -A p1 --qos=high --requeue", {"account": "p1", "qos": "high", "extra": ["--requeue"]}),
        ("#SBATCH -n 3", {"tasks": 3}),
        ("#PBS -q long -A p1", {"queue": "long", "account": "p1"}),
        ("#PBS -l walltime=01:30:00", {"time": "5400s"}),
        ("#PBS -l walltime=600", {"time": "600s"}),
        ("#PBS -l place=scatter -V", {"extra": ["-l place=scatter", "-V"]}),
        ("#PBS -N name -j oe", {}),
    ],
)
def test_single_directives(line, resources):
    assert Directives().add([line]).resources == resources


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("#SBATCH --array=0-9", "--array=0-9 was asked for; each step is a job of its own"),
        ("#SBATCH -N 2 -n 3", "--ntasks=3 was asked for on 2 nodes"),
        ("#SBATCH cpu", "'cpu' in it is no option that sbatch has"),
        ("#SBATCH -p 'cpu", "cannot be read"),
        ("#PBS -J 0-9", "`#PBS -J 0-9` was asked for"),
        ("#PBS -l select=2:ncpus=4", "number_node, cpu_per_node"),
    ],
)
def test_what_would_be_another_kind_of_job_is_refused(line, message):
    with pytest.raises(ConfigError, match=message):
        Directives().add([line])


def test_the_scheduler_writes_them_again():
    resources = step_resources(Resources(), Directives().add(HEADER.splitlines()).resources, "x")
    script = get("slurm").script(JobScript("key-1.x", "x", "/there", resources, "true"))
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    wanted = (
        "--nodes=2",
        "--ntasks-per-node=4",
        "--time=1000:00:00",
        "--mem=16G",
        '--constraint="a b"',
        '--partition="cpu"',
    )
    assert set(wanted) <= set(options)
    assert [option for option in options if option.startswith("--job-name")] == ["--job-name=key-1.x"]
