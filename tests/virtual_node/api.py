"""An API server of pods in memory that can be made to fail, and a node's ``Pods`` over a machine of this host."""

import asyncio
import itertools
import sys
import threading
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))
from test_broker import QUICK

from dflow_hpc.executors.broker.broker import Broker
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.kube import Event
from dflow_hpc.kube.errors import Unreachable, refusal
from dflow_hpc.virtual_node.node import Capacity
from dflow_hpc.virtual_node.pods import Pods


class Api:
    """What ``kube.Cluster`` does, for pods of one namespace."""

    def __init__(self):
        self.pods = {}
        self.told = []
        """Name and status, in the order in which they were taken."""
        self.fail = {}
        """Verb -> errors to raise, one a call."""
        self.away = False
        self._versions = itertools.count(1)
        self._lock = threading.Lock()

    def _ask(self, verb):
        with self._lock:
            if self.away:
                raise Unreachable("away")
            if self.fail.get(verb):
                raise self.fail[verb].pop(0)

    def add(self, name, command, **spec):
        container = {"name": "only", "image": "x", "command": ["sh", "-c", command]}
        metadata = {"name": name, "namespace": "ns", "uid": f"{name}-{next(self._versions)}"}
        pod = {"metadata": metadata, "spec": {"containers": [container], "restartPolicy": "Never", **spec}}
        self.pods[name] = pod
        return pod

    def get(self, kind, name):
        self._ask("get")
        raise refusal(f"read {name}", 404, b"none")

    def list(self, kind, fields=None):
        self._ask("list")
        return list(self.pods.values())

    def patch(self, kind, name, change, part=None):
        self._ask("patch")
        with self._lock:
            if name not in self.pods:
                raise refusal("change", 404, b"none")
            self.pods[name] = {**self.pods[name], "status": change["status"]}
            self.told.append((name, change["status"]))

    def delete(self, kind, name, uid=None, grace=None):
        self._ask("delete")
        return self.pods.pop(name, None) is not None

    def phases(self, name):
        return [status["phase"] for who, status in self.told if who == name]


class Node:
    """One life of the node's pods.

    Args:
        room: What survives it.
        api: The server.
        grace: Of orphans, in seconds.
    """

    def __init__(self, room, api, *, grace=600.0):
        self.api, self.said, self.failed = api, [], []
        (room / "pods").mkdir(exist_ok=True)
        waits = replace(QUICK, steady=0.05, slowest=0.1)
        machine = Machine("here", "shell", transport="local", root=str(room / "there"), waits=waits)
        site = RemoteSite(machine)
        self.broker = Broker("here", site, room / "journal.jsonl", waits=waits, say=self.said.append)
        self.pods = Pods(
            *(
                "node",
                machine,
                Capacity(8, 1 << 33),
                self.broker,
                room / "pods",
                lambda _namespace: api,
                self.said.append,
            ),
            fail=self.failed.append,
            grace=grace,
        )
        self.pods.reports._first = 0.02

    def show(self, pod, type="ADDED", **more):
        self.pods.take(Event(type, pod, **more))

    async def ended(self, pod):
        name = pod["metadata"]["name"]
        await until(lambda: self.api.phases(name)[-1:] in (["Succeeded"], ["Failed"]))
        return self.api.pods[name]["status"]

    async def leave(self):
        self.broker.leave()
        await self.pods.close()
        await self.broker.close()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def within(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))
