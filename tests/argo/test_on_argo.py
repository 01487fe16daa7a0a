"""The Argo engine on a real Argo: programs, artifacts, secrets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dflow_hpc import (
    PythonOPTemplate,
    Secret,
    Step,
    Workflow,
    config,
)
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.kube import SECRETS

sys.path.insert(0, str(Path(__file__).parent))
import ops

pytestmark = pytest.mark.rig
EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 300


@pytest.fixture
def argo(kube_rig, monkeypatch, tmp_path):
    """Let the settings name the rig, as a user would; the engine."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"mode": "argo", "k8s_config_file": kube_rig.kubeconfig, "namespace": "argo"}.items():
        monkeypatch.setitem(config, name, value)
    return ArgoEngine()


def _command(kube, directory, *words, check=True):
    environment = {**os.environ, "DFLOW_MODE": "argo", "DFLOW_K8S_CONFIG_FILE": kube.kubeconfig}
    command = [sys.executable, "-m", "dflow_hpc.cli.main", *words]
    answer = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert not check or answer.returncode == 0, answer.stderr
    return answer


def _step(name, op, **options):
    return Step(name, PythonOPTemplate(op, **options.pop("template", {})), **options)


@pytest.mark.parametrize(
    ("name", "says"),
    [("hello", "Hello, world!"), ("artifacts", "text-0 1\ntext-1 2\ntext-2 3\n"), ("dag", "price: 150.0")],
)
def test_an_example_says_on_argo_what_it_says_locally(kube_rig, tmp_path, name, says):
    answer = _command(kube_rig, tmp_path, "run", str(EXAMPLES / f"{name}.py"))
    assert says in answer.stdout
    assert "Succeeded" in answer.stdout


def test_a_secret_reaches_the_step_and_stands_nowhere_else(argo, kube_rig):
    workflow = Workflow("secret")
    secret = Secret("s3cr3t-w0rd")
    workflow.add(_step("reveal", ops.length_of_secret, template={"envs": {"WORD": secret}}))
    workflow.run(timeout=SECONDS)
    [step] = workflow.query_step(name="reveal")
    assert step.outputs.parameters["length"].value == len("s3cr3t-w0rd")
    [owner] = argo.cluster.get(SECRETS, secret.name)["metadata"]["ownerReferences"]
    assert owner["name"] == workflow.id
    shown = kube_rig.kubectl("get", "workflows,configmaps,pods", "--output=yaml")
    assert "s3cr3t-w0rd" not in shown
    workflow.delete()
    kube_rig.kubectl("wait", "--for=delete", f"secret/{secret.name}", "--timeout=60s", timeout=70)
