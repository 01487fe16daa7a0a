"""What the tests on a real Argo share."""

import pytest

from dflow_hpc import config
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.kube import connect


@pytest.fixture
def argo(kube_rig, monkeypatch, tmp_path):
    """Let the settings name the rig, as a user would; the engine."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"mode": "argo", "k8s_config_file": kube_rig.kubeconfig, "namespace": "argo"}.items():
        monkeypatch.setitem(config, name, value)
    return ArgoEngine(cluster=connect())
