"""The node's process over a cluster of the rig, for tests and campaigns; what they share."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

PROFILE = """
[machine.{name}]
scheduler = "slurm"
host = "{name}"
ssh_config = "{ssh_config}"
transport = "openssh"
root = "{root}/node"
{more}
[machine.{name}.resources]
memory = "{memory}"
time = "5m"
"""


def there(cluster):
    """Return what lets a pod run on a cluster's node, and nowhere else."""
    tolerations = [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]
    return {"nodeSelector": {"kubernetes.io/hostname": f"dflow-{cluster}"}, "tolerations": tolerations}


@contextlib.contextmanager
def node(kube, cluster, folder, more="", memory="64MB"):
    """Have the node of a cluster: the process runs, and the Node is ready.

    Args:
        kube: The rig's Kubernetes.
        cluster: The cluster, of the Slurm rig.
        folder: For its profile, its state and its log.
        more: Further lines of the machine's profile.
        memory: Of each job that does not say it.
    """
    name = f"dflow-{cluster.name}"
    file = folder / f"{cluster.name}.toml"
    file.write_text(PROFILE.format(more=more, memory=memory, **vars(cluster)))
    environment = {
        **os.environ,
        "DFLOW_MACHINES": str(file),
        "KUBECONFIG": kube.kubeconfig,
        "DFLOW_NAMESPACE": kube.namespace,
    }
    keys = Path(kube.kubeconfig).parent / "pki"  # of the rig's authority, for 127.0.0.1
    words = [sys.executable, "-m", "dflow_hpc.cli.main", "node", "run", "--machine", cluster.name]
    words += ["--state", folder / f"state-{cluster.name}", "--port", "0"]
    words += ["--tls-cert", keys / "kubelet.crt", "--tls-key", keys / "kubelet.key"]
    with (folder / f"{name}.log").open("w+") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        try:
            kube.kubectl("wait", f"node/{name}", "--for=create", "--timeout=60s", timeout=90)
            kube.kubectl("wait", f"node/{name}", "--for=condition=Ready", "--timeout=60s", timeout=90)
            yield process
        finally:
            kube.kubectl("delete", "workflows", "--all", timeout=120)
            process.terminate()
            process.wait(60)
            kube.kubectl("delete", f"node/{name}", "--ignore-not-found")
            log.seek(0)
            print(log.read())
