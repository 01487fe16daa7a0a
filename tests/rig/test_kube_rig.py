"""The Kubernetes rig itself: Argo runs a pod with outputs, and its daemons can fail."""

import json

import pytest

pytestmark = pytest.mark.rig

WORKFLOW = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "metadata": {"generateName": "rig-"},
    "spec": {
        "entrypoint": "main",
        "templates": [
            {
                "name": "main",
                "script": {
                    "image": "python:3.8",
                    "command": ["python3"],
                    "source": "import pathlib; pathlib.Path('/tmp/out').write_text('made here')",
                },
                "outputs": {
                    "parameters": [{"name": "text", "valueFrom": {"path": "/tmp/out"}}],
                    "artifacts": [{"name": "file", "path": "/tmp/out"}],
                },
            }
        ],
    },
}


def _run(kube):
    made = kube.kubectl("create", "--filename=-", "--output=json", text=json.dumps(WORKFLOW))
    name = json.loads(made)["metadata"]["name"]
    kube.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s", f"workflow/{name}", timeout=130)
    return json.loads(kube.kubectl("get", "workflow", name, "--output=json"))


def test_argo_runs_a_pod_and_keeps_its_outputs(kube_rig):
    done = _run(kube_rig)
    node = done["status"]["nodes"][done["metadata"]["name"]]
    assert node["outputs"]["parameters"][0]["value"] == "made here"
    from minio import Minio

    s3 = kube_rig.s3
    client = Minio(s3["endpoint"], s3["access_key"], s3["secret_key"], secure=False)
    assert client.stat_object(s3["bucket_name"], node["outputs"]["artifacts"][0]["s3"]["key"]).size
