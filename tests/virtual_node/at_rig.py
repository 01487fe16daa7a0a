"""The node's process over a cluster of the rig, for tests and campaigns; what they share."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit


def there(cluster):
    """Return what lets a pod run on a cluster's node, and nowhere else."""
    tolerations = [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]
    return {"nodeSelector": {"kubernetes.io/hostname": f"dflow-{cluster}"}, "tolerations": tolerations}


def command(kube, folder, profile, machine, **options):
    """Return the words and the variables of a node's process.

    Args:
        kube: The rig's Kubernetes.
        folder: For its profile and its state.
        profile: The text of the machine's profile.
        machine: Its name.
        options: Further options of ``node run``.
    """
    (folder / f"{machine}.toml").write_text(profile)
    environment = {
        **os.environ,
        "DFLOW_MACHINES": str(folder / f"{machine}.toml"),
        "KUBECONFIG": kube.kubeconfig,
        "DFLOW_NAMESPACE": kube.namespace,
    }
    keys = Path(kube.kubeconfig).parent / "pki"  # of the rig's authority, for its address and 127.0.0.1
    options |= {"state": folder / f"state-{machine}", "port": 0}
    options |= {"tls-cert": keys / "kubelet.crt", "tls-key": keys / "kubelet.key"}
    words = [sys.executable, "-m", "dflow_hpc.cli.main", "node", "run", "--machine", machine]
    for option, value in options.items():
        words += [f"--{option}", str(value)]
    return words, environment


def address(kube):
    """Return the address at which the rig's API server finds this host."""
    return urlsplit(kube.server).hostname


def ready(kube, name):
    """Wait until a Node is there and ready."""
    kube.kubectl("wait", f"node/{name}", "--for=create", "--timeout=60s", timeout=90)
    kube.kubectl("wait", f"node/{name}", "--for=condition=Ready", "--timeout=60s", timeout=90)


@contextlib.contextmanager
def node(kube, cluster, folder, more="", memory="64MB", machine=None):
    """Have the node of a cluster: the process runs, and the Node is ready.

    Args:
        kube: The rig's Kubernetes.
        cluster: The cluster, of the Slurm rig.
        folder: For its profile, its state and its log.
        more: Further lines of the machine's profile.
        memory: Of each job that does not say it.
        machine: The profile's name; the cluster's unless given.
    """
    machine = machine or cluster.name
    name = f"dflow-{machine}"
    there = f"{cluster.root}/node"
    profile = cluster.profile(machine, root=there, more=f'transport = "openssh"\n{more}', memory=memory)
    words, environment = command(kube, folder, profile, machine)
    with (folder / f"{name}.log").open("w+") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        try:
            ready(kube, name)
            yield process
        finally:
            kube.kubectl("delete", "workflows", "--all", timeout=120)
            process.terminate()
            process.wait(60)
            kube.kubectl("delete", f"node/{name}", "--ignore-not-found")
            log.seek(0)
            print(log.read())
