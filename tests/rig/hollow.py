"""A node of the Kubernetes rig whose pods run nothing and succeed: for workflows of thousands of steps.

Argo's controller, the scheduler and the API are real; only the kubelet is played. A pod is Running as soon as it is
bound, and ends after a while with outputs that its template declares, each the text ``1``.

Trap: what depends on what a step does, or on how long a real pod takes to start, cannot be tried here; nor can pods
that are not of a container or script.
"""

import contextlib
import queue
import threading
import time

from dflow_hpc.compile import Compiled
from dflow_hpc.kube import PODS, TASK_RESULTS, Cluster, Conflict, KubeError, NotFound
from dflow_hpc.virtual_node import argo_pod, status
from dflow_hpc.virtual_node.node import Capacity
from dflow_hpc.virtual_node.presence import Presence

NAME = "hollow"
PLACE = {
    "nodeSelector": {"dflow-hpc/machine": NAME},
    "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
}
"""What a template must say to have its pods here."""
_LEAF = {
    "name": "square-0123456789",
    "inputs": {"parameters": [{"name": "n", "description": '{"type": "int"}'}]},
    "outputs": {"parameters": [{"name": "square", "valueFrom": {"path": "/square"}, "description": '{"type": "int"}'}]},
    "container": {"image": "busybox", "command": ["true"]},
    **PLACE,
}
_THREADS = 4
_LOOK = 5.0
"""Seconds after which it looks whether it is over."""


def workflow(steps):
    """Return a compiled workflow of steps beside each other, whose pods run here."""
    spec = {"entrypoint": "main", "templates": [_LEAF, {"name": "main", "steps": [steps]}]}
    spec |= {"podGC": {"strategy": "OnPodCompletion"}, "serviceAccountName": "argo", "parallelism": 240}
    kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
    return Compiled({**kind, "metadata": {"generateName": "large-"}, "spec": spec})


def step(name, n, **more):
    """Return one of its steps, which takes a number."""
    return {"name": name, "template": _LEAF["name"], "arguments": {"parameters": [{"name": "n", "value": n}]}, **more}


@contextlib.contextmanager
def hollow_node(cluster, *, pods=250, seconds=1.0):
    """Have such a node while in the context.

    Args:
        cluster: The namespace whose pods it takes.
        pods: How many it takes at once.
        seconds: How long each runs.
    """
    nodes, leases = Cluster(cluster.connection, ""), Cluster(cluster.connection, "kube-node-lease")
    capacity = Capacity(10_000, 1 << 44, pods=pods)
    presence = Presence(NAME, NAME, ("127.0.0.1", 1), nodes, leases, lambda: capacity, lambda: "", print)
    presence.start()
    work = queue.SimpleQueue()
    over = threading.Event()
    threads = [threading.Thread(target=_work, args=(cluster, work), daemon=True) for _ in range(_THREADS)]
    look = threading.Thread(target=_look, args=(cluster, work, seconds, over), daemon=True)
    for thread in (*threads, look):
        thread.start()
    try:
        yield
    finally:
        over.set()
        look.join()  # before the cluster goes, which it would complain about
        for _ in range(_THREADS):
            work.put(None)
        presence.close()


def _look(cluster, work, seconds, over):
    seen = set()
    while not over.is_set():
        for event in cluster.watch(PODS, fields=f"spec.nodeName={NAME}", seconds=_LOOK):
            pod = event.object
            uid = pod["metadata"]["uid"]
            if event.type != "DELETED" and pod["metadata"].get("deletionTimestamp"):
                work.put((0.0, _remove, pod))
            elif event.type != "DELETED" and uid not in seen and pod["status"].get("phase") == "Pending":
                seen.add(uid)
                now = time.time()
                work.put((0.0, _begin, pod))
                work.put((now + seconds, _end, pod))


def _work(cluster, work):
    while (task := work.get()) is not None:
        due, action, pod = task
        time.sleep(max(0.0, due - time.time()))  # in the order in which they are due
        with contextlib.suppress(NotFound, Conflict, KubeError):
            action(cluster, pod)


def _begin(cluster, pod):
    _patch(cluster, pod, status.running(pod, time.time()))


def _end(cluster, pod):
    leaf = argo_pod.read(pod)
    declared = ((leaf.template or {}).get("outputs") or {}).get("parameters") or []
    outputs = {"parameters": [{**one, "value": "1"} for one in declared], "exitCode": "0"}
    with contextlib.suppress(Conflict):
        cluster.create(TASK_RESULTS, status.task_result(leaf, outputs, complete=True))
    now = time.time()
    record = {"phase": "Succeeded", "outputs": outputs, "started": now - 1, "finished": now}
    _patch(cluster, pod, status.final(pod, record))


def _patch(cluster, pod, new):
    metadata = pod["metadata"]
    cluster.patch(PODS, metadata["name"], {"metadata": {"uid": metadata["uid"]}, "status": new}, part="status")


def _remove(cluster, pod):
    cluster.delete(PODS, pod["metadata"]["name"], uid=pod["metadata"]["uid"], grace=0)
