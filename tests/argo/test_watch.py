"""The watch, against a simulated API server that forgets, cuts links and repeats."""

import random

import pytest

from dflow_hpc.kube.errors import Gone, Unreachable
from dflow_hpc.kube.watch import follow


class Server:
    """Keeps objects and the history of their changes, of which it serves the last few."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.version = 0
        self.objects = {}
        self.history = []
        self.oldest = 0
        self.ended = False

    def change(self):
        """Change something at random."""
        self.version += 1
        name = f"o{self.random.randrange(5)}"
        there = self.objects.get(name)
        if there and self.random.random() < 0.3:
            del self.objects[name]
            gone = {**there, "metadata": {**there["metadata"], "resourceVersion": str(self.version)}}
            self.history.append((self.version, "DELETED", gone))
            return
        uid = there["metadata"]["uid"] if there else f"{name}-{self.version}"
        item = {"metadata": {"name": name, "uid": uid, "resourceVersion": str(self.version)}}
        self.objects[name] = item
        self.history.append((self.version, "MODIFIED" if there else "ADDED", item))

    def list_(self):
        if self.random.random() < 0.2:
            raise Unreachable("busy")
        return list(self.objects.values()), str(self.version)

    def stream(self, version):
        if self.random.random() < 0.1:
            self.oldest = self.version  # compaction
        if self.random.random() < 0.2:
            raise Unreachable("no link")
        if int(version) < self.oldest:
            raise Gone("too old")
        again = int(self.random.random() < 0.2)  # it tells the last one twice
        for number, kind, item in list(self.history):
            if number > int(version) - again:
                yield {"type": kind, "object": item}
                if self.random.random() < 0.2:
                    raise Unreachable("cut")
        if self.random.random() < 0.5:
            yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}}
        for _ in range(self.random.randrange(4)):
            self.change()


@pytest.mark.parametrize("seed", range(40))
def test_folding_the_events_gives_what_the_server_has_and_nothing_comes_twice(seed):
    server = Server(seed)
    for _ in range(5):
        server.change()
    state, told = {}, set()
    final = None
    rounds = 0

    def stream(version, _seconds):
        nonlocal rounds
        rounds += 1
        yield from server.stream(version)

    for event in follow(server.list_, stream, pause=lambda _seconds: None):
        item = event.object["metadata"]
        if event.type == "DELETED":
            assert state.pop(item["uid"], None) is not None, "deleted, and never seen"
        else:
            assert (event.type == "ADDED") == (item["uid"] not in state)
            assert (item["uid"], item["resourceVersion"]) not in told, "told twice"
            told.add((item["uid"], item["resourceVersion"]))
            state[item["uid"]] = item["resourceVersion"]
        if rounds > 60 and final is None:
            final = server.version
            server.change = lambda: None  # nothing changes any more
        expected = {i["metadata"]["uid"]: i["metadata"]["resourceVersion"] for i in server.objects.values()}
        if final is not None and state == expected:
            return
    raise AssertionError("it ended by itself")


def test_it_gives_up_when_nothing_but_failures_comes():
    now = iter(range(0, 10_000, 7))

    def list_():
        raise Unreachable("down")

    with pytest.raises(Unreachable, match="down"):
        next(
            follow(
                list_, lambda _version, _seconds: iter(()), patience=100, pause=lambda _s: None, clock=lambda: next(now)
            )
        )


def test_a_busy_server_does_not_end_it():
    answers = [Unreachable("busy"), Unreachable("busy"), ([], "1")]

    def list_():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    item = {"metadata": {"uid": "u", "name": "n", "resourceVersion": "2"}}
    pauses = []
    events = follow(list_, lambda _version, _seconds: iter([{"type": "ADDED", "object": item}]), pause=pauses.append)
    assert next(events).object == item
    assert pauses == [0.2, 0.4]


def test_it_ends_when_its_time_is_up():
    now, asked = [0.0], []

    def stream(version, seconds):
        asked.append((version, seconds))
        now[0] += 3
        return iter(())

    def pause(seconds):
        now[0] += seconds

    assert list(follow(lambda: ([], "1"), stream, seconds=10, pause=pause, clock=lambda: now[0])) == []
    assert [version for version, _seconds in asked] == ["1"] * len(asked)
    assert [round(seconds, 1) for _version, seconds in asked] == [10, 6.8, 3.4]
