"""What Argo keeps in a database, on a real Argo: node trees, and Workflows that were deleted."""

import pytest
from rig.fixtures import SECONDS_TO_BUILD, run_ctl

from dflow_hpc import ShellOPTemplate, Step, Workflow
from dflow_hpc.config import config
from dflow_hpc.engines.argo import status
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.errors import EngineError
from dflow_hpc.kube import WORKFLOWS

pytestmark = pytest.mark.rig
SECONDS = 300
ARCHIVED = "--for=jsonpath={.metadata.labels.workflows\\.argoproj\\.io/workflow-archiving-status}=Archived"


@pytest.fixture
def server(argo, kube_faults, monkeypatch):
    """Have Argo keep trees and ended Workflows in a database, and the settings say where its server is."""
    kube_faults.touched.add("argo")
    monkeypatch.setitem(config, "host", run_ctl("persist", rig="kube", timeout=SECONDS_TO_BUILD))
    return ArgoEngine()


def test_a_tree_in_the_database_is_read_and_an_archived_workflow_too(argo, server, kube_rig):
    workflow = Workflow("kept")
    leaf = ShellOPTemplate("leaf", image="busybox", script="true")
    for name in ("one", "two"):
        workflow.add(Step(name, leaf))
    workflow.submit()
    told = [record["set"] for records in server.follow(workflow.id) for record in records if "set" in record]
    assert sum(change.get("phase") == "Succeeded" for change in told) == 5
    assert status.is_offloaded(server.cluster.get(WORKFLOWS, workflow.id))
    with pytest.raises(EngineError, match=r"which its server alone reads.*DFLOW_HOST"):
        argo.query(workflow.id)  # made before the settings said where

    kube_rig.kubectl("wait", f"workflow/{workflow.id}", ARCHIVED, "--timeout=60s", timeout=70)
    kube_rig.kubectl("delete", "workflow", workflow.id)
    assert workflow.query_status() == "Succeeded"
    assert [step.phase for step in workflow.query_step(type="Pod")] == ["Succeeded"] * 2
    with pytest.raises(EngineError, match="through the Argo Server; it answered 404"):
        server.query("never-was")
