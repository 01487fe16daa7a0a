"""What ``docs/deploy`` has: the gateway runs in its image with just the rights that are given there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dflow_hpc import PythonOPTemplate, Step, Workflow, config

sys.path.insert(0, str(Path(__file__).parent))
import bridge_ops as ops
from gateways import GatewayProcess, profile

pytestmark = pytest.mark.rig
MANIFESTS = Path(__file__).parents[2] / "docs/deploy/gateway.yaml"
NAME = "dflow-hpc-gateway-cpu"
SECONDS = 300


def test_a_real_api_server_takes_the_manifests(kube_rig):
    taken = kube_rig.kubectl("apply", "--dry-run=server", f"--filename={MANIFESTS}", "--output=name").split()
    assert len(taken) == len(list(yaml.safe_load_all(MANIFESTS.read_text())))


def _for_the_rig(kube, port):
    """Return the manifests for a rig without a name service, a registry and volumes, whose sshd is on loopback."""
    made = [each for each in yaml.safe_load_all(MANIFESTS.read_text()) if each["kind"] != "PersistentVolumeClaim"]
    [pod] = [each["spec"]["template"]["spec"] for each in made if each["kind"] == "Deployment"]
    pod["hostNetwork"] = True
    pod["volumes"][0] = {"name": "state", "emptyDir": {}}
    [container] = pod["containers"]
    host = kube.server.removeprefix("https://").partition(":")[0]
    container["args"] = ["--address", f"http://{host}:{port}", "--listen", host, "--port", str(port)]
    container["readinessProbe"] = {"tcpSocket": {"host": host, "port": port}, "periodSeconds": 1}
    container["imagePullPolicy"] = "IfNotPresent"
    del container["ports"]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": made})


@pytest.fixture
def deployed(kube_rig, kube_image, slurm_rig, monkeypatch, tmp_path):
    """Give the login to the namespace and the gateway to the cluster, as ``docs/argo.md`` says."""
    monkeypatch.chdir(tmp_path)
    machines = tmp_path / "machines.toml"
    machines.write_text(profile(slurm_rig["cpu"]))
    monkeypatch.setenv("DFLOW_MACHINES", str(machines))
    where = {"mode": "argo", "k8s_config_file": kube_rig.kubeconfig, "namespace": "argo", "bridge_image": kube_image}
    for name, value in where.items():
        monkeypatch.setitem(config, name, value)
    login = [sys.executable, "-m", "dflow_hpc.cli.main", "machine", "secret", "cpu"]
    environment = {**os.environ, "DFLOW_K8S_CONFIG_FILE": kube_rig.kubeconfig}
    subprocess.run(login, env=environment, check=True, timeout=60)
    port = GatewayProcess(kube_rig, tmp_path / "free", "cpu", "").port
    objects = _for_the_rig(kube_rig, port)
    kube_rig.kubectl("apply", "--filename=-", text=objects)
    try:
        kube_rig.kubectl("rollout", "status", f"deployment/{NAME}", f"--timeout={SECONDS}s", timeout=SECONDS + 10)
        yield kube_rig
    finally:
        print(kube_rig.kubectl("logs", f"deployment/{NAME}", check=False))
        kube_rig.kubectl("delete", "--filename=-", text=objects, timeout=120)
        kube_rig.kubectl("delete", "secret", "dflow-hpc-machine-cpu")


def test_a_gateway_of_the_manifests_runs_a_step_with_those_rights_alone(deployed):
    workflow = Workflow("deployed")
    workflow.add(Step("say", PythonOPTemplate(ops.say), executor="cpu"))
    workflow.run(timeout=SECONDS)
    [step] = workflow.query_step(name="say")
    assert step.outputs.parameters["where"].value.startswith("cpu-n")
    account = f"--as=system:serviceaccount:argo:{NAME}"
    for rest, answer in (
        (("get", f"secret/{NAME}"), "yes"),
        (("patch", f"secret/{NAME}"), "yes"),
        (("get", "workflows.argoproj.io"), "yes"),
        (("get", "secret/dflow-hpc-machine-cpu"), "no"),
        (("list", "secrets"), "no"),
        (("create", "secrets"), "no"),
        (("get", "pods"), "no"),
        (("patch", "workflows.argoproj.io"), "no"),
    ):
        assert deployed.kubectl("auth", "can-i", *rest, account, check=False).strip() == answer, rest
