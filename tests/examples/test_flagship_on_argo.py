"""The flagship, in its smallest size, on a real Argo by the local command and one option; steps on real clusters.

Two studies run at a time: most of what one takes is the start of pods.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from minio import Minio

from tests.argo.gateways import GatewayProcess, profile
from tests.examples.test_active_learning import EXAMPLE, TINY
from tests.virtual_node import at_rig

pytestmark = pytest.mark.rig

CLUSTERS = {"xeon": "cpu", "a100": "gpu"}
SECONDS = 900
ON_NODE = '[machine.{}]\nscheduler = "slurm"\nhost = "nowhere"\nvia = "node"\n'


def run(studies, kube, image, folder, profiles):
    """Run studies at once, each by one command; the Workflows that it prints, by name.

    Args:
        studies: By name, which steps go to which machine.
        kube: The Kubernetes.
        image: Of pods: Debian's Python 3 with NumPy and this project.
        folder: A directory of the test.
        profiles: Of the machines, as the user has them.
    """
    (folder / "machines.toml").write_text(profiles)
    env = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    env |= {"DFLOW_MACHINES": str(folder / "machines.toml"), "DFLOW_K8S_CONFIG_FILE": kube.kubeconfig}
    env |= {"DFLOW_PYTHON_IMAGE": image, "DFLOW_BRIDGE_IMAGE": image}

    def one(name):
        project = shutil.copytree(EXAMPLE, folder / name)
        (project / "tiny.py").write_text(TINY.format(example=str(project), iterations=1))
        local = [sys.executable, "-m", "dflow_hpc.cli.main", "run", "-o", "json", "tiny.py"]
        local += [word for step, machine in studies[name].items() for word in ("--machine", f"{step}={machine}")]
        return subprocess.run(
            [*local, "--engine", "argo"],
            cwd=project,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    with ThreadPoolExecutor() as pool:
        ended = dict(zip(studies, pool.map(one, studies), strict=True))
    for done in ended.values():
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = {name: json.loads(done.stdout[done.stdout.index("{") :]) for name, done in ended.items()}
    told = [summary(workflow["status"], kube.s3) for workflow in found.values()]
    assert [each["iterations"] for each in told] == [1] * len(studies)
    assert [each["error"] for each in told] == pytest.approx([told[0]["error"]] * len(studies))
    return found


def summary(status, s3):
    """Return what a study says at its end, whose picture lies in the cluster's S3."""
    assert status["phase"] == "Succeeded"
    [report] = [node for node in status["nodes"].values() if node["displayName"] == "report"]
    [plot] = [each["s3"]["key"] for each in report["outputs"]["artifacts"] if each["name"] == "plot"]
    client = Minio(s3["endpoint"], s3["access_key"], s3["secret_key"], secure=False)
    assert client.stat_object(s3["bucket_name"], plot).size
    [value] = [each["value"] for each in report["outputs"]["parameters"] if each["name"] == "summary"]
    return json.loads(value)


def hosts(workflow):
    """Return which steps ran on which of the cluster's nodes."""
    found = {}
    for node in workflow["status"]["nodes"].values():
        if node["type"] == "Pod":
            found.setdefault(node["hostNodeName"], set()).add(node["displayName"].partition("(")[0])
    return found


def test_steps_go_to_one_and_to_two_clusters_over_gateways(tmp_path, prepared, kube_rig, kube_image):
    studies = {"labelling": {"label*": "xeon"}, "both": {"label*": "xeon", "train*": "a100"}}
    profiles = {name: profile(prepared[cluster], name, memory="400MB") for name, cluster in CLUSTERS.items()}
    gateways = {name: GatewayProcess(kube_rig, tmp_path / name, name, text) for name, text in profiles.items()}
    with contextlib.ExitStack() as ending:
        for gateway in gateways.values():
            ending.callback(gateway.forget)
            ending.callback(gateway.stop)
            gateway.start()
        run(studies, kube_rig, kube_image, tmp_path, "".join(profiles.values()))
    for name, expected in {"xeon": 2 * 3, "a100": 2 * 2}.items():
        leaves = gateways[name].leaves()
        assert [len(leaf.jobs) for leaf in leaves.values()] == [1] * expected
        assert f"machine {name}: 1 login, " in gateways[name].stop()


def test_steps_go_to_one_and_to_two_virtual_nodes(tmp_path, prepared, kube_rig, kube_image):
    # What draws the report is not among the clusters' packages.
    studies = {"labelling": {"label*": "xeon"}, "all": {"*": "xeon", "train*": "a100", "report": "local"}}
    with contextlib.ExitStack() as ending:
        for name, cluster in CLUSTERS.items():
            there = prepared[cluster]
            setup = f'setup = ["export PYTHONPATH={there.root}/python OMP_NUM_THREADS=1"]'
            ending.enter_context(at_rig.node(kube_rig, there, tmp_path, setup, memory="400MB", machine=name))
        found = run(studies, kube_rig, kube_image, tmp_path, "".join(map(ON_NODE.format, CLUSTERS)))
    labelling, everything = (hosts(found[name]) for name in studies)
    ordinary = {"report", "hold-out-init-artifact"}  # and other steps that no program of the author's has
    assert labelling["dflow-xeon"] == {"label-first"}
    assert not labelling.keys() & {"dflow-a100"}
    assert everything["dflow-a100"] == {"train", "train-random"}
    assert everything["dflow-xeon"] == {"prepare", "hold-out", "label-first", "first-data", "explore", "select"}
    for each in (labelling, everything):
        [kubelet] = each.keys() - {"dflow-xeon", "dflow-a100"}
        assert ordinary <= each[kubelet]
    assert '"bridge"' not in json.dumps([workflow["spec"] for workflow in found.values()])
    for name in CLUSTERS:
        assert f"machine {name}: 1 login, " in (tmp_path / f"dflow-{name}.log").read_text()
