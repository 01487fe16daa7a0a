"""The Node and its Lease, kept up by a thread, against an API server in memory that may be away."""

import queue

import pytest

from dflow_hpc.kube import KubeError
from dflow_hpc.kube.errors import Unreachable, refusal
from dflow_hpc.virtual_node.node import Capacity
from dflow_hpc.virtual_node.presence import Presence

SECONDS = 30


class Api:
    """What ``kube.Cluster`` does for one Node and its Lease."""

    def __init__(self):
        self.there = {}
        self.fail = []
        """What is raised, one a request."""
        self.ready = queue.SimpleQueue()
        """Each Ready condition that came."""

    def create(self, kind, content):
        self._ask()
        if kind.kind in self.there:
            raise refusal("make it", 409, b"")
        self.there[kind.kind] = content

    def patch(self, kind, name, change, part=None):
        self._ask()
        if kind.kind not in self.there:
            raise refusal("change it", 404, b"")
        if part == "status":
            self.ready.put(change["status"]["conditions"][0])

    def _ask(self):
        if self.fail:
            raise self.fail.pop(0)


class Machine:
    """What a node's process knows of its machine."""

    def __init__(self, capacity=None, why=""):
        self.capacity, self.why = capacity, why


@pytest.fixture
def node():
    """Give a function that starts a presence; it is closed at the end."""
    made = []

    def start(api, machine, beat=0.01):
        presence = Presence(
            "n", "cpu", ("10.0.0.1", 1), api, api, lambda: machine.capacity, lambda: machine.why, print, beat=beat
        )
        made.append(presence)
        presence.start()
        return presence

    yield start
    for presence in made:
        presence.close()


def test_an_api_server_that_is_away_is_asked_again_and_then_the_node_is_made(node):
    api = Api()
    api.fail = [Unreachable("away")] * 3
    node(api, Machine(Capacity(8, 1 << 30)))
    assert api.ready.get(timeout=SECONDS)["status"] == "True"
    assert api.there.keys() == {"Node", "Lease"}


def test_a_refusal_ends_it_at_once(node):
    api = Api()
    api.fail = [refusal("make the node", 403, b"")]
    with pytest.raises(KubeError, match="403"):
        node(api, Machine(Capacity(8, 1 << 30)))


def test_a_machine_that_is_away_is_told_of_and_ready_comes_when_it_has_answered(node):
    api, machine = Api(), Machine(why="no route")
    presence = node(api, machine)
    told = api.ready.get(timeout=SECONDS)
    assert (told["status"], told["message"]) == ("False", "no route")
    machine.capacity, machine.why = Capacity(8, 1 << 30), ""
    presence.look()
    while told["status"] != "True":
        told = api.ready.get(timeout=SECONDS)
    assert told["reason"] == "MachineReachable"


def test_a_node_that_was_ready_stays_so_while_a_new_life_asks_its_machine_for_the_first_time(node):
    api, machine = Api(), Machine()
    presence = node(api, machine, beat=3600)
    assert api.ready.empty()
    machine.capacity = Capacity(8, 1 << 30)
    presence.look()
    assert api.ready.get(timeout=SECONDS)["status"] == "True"


def test_a_node_that_somebody_deletes_while_its_process_runs_is_made_again(node):
    api, machine = Api(), Machine(Capacity(8, 1 << 30))
    node(api, machine)
    assert api.ready.get(timeout=SECONDS)["status"] == "True"
    del api.there["Node"]
    while "Node" not in api.there:
        api.ready.get(timeout=SECONDS)
    assert api.there["Node"]["metadata"]["name"] == "n"
