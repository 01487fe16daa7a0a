"""The gateway with a real broker, whose machine is this host: pods that are lost, and gateways that are killed."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from dflow_hpc.engines.bridge import client, leaf
from dflow_hpc.engines.bridge.gateway import Gateway, serve
from dflow_hpc.engines.bridge.leaf import Told
from dflow_hpc.errors import EngineError, ExecutorError
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.remote import RemoteSite
from tests.broker.far import QUICK

SECONDS = 30


class Here:
    """A gateway's directory on this host, and the leaves that a test sends to the gateways that work on it."""

    def __init__(self, path):
        self.path = path
        self.machine = Machine("far", "shell", transport="local", root=str(path / "there"), waits=QUICK)
        self.over = set()
        self.secret = path / "secret"
        self.secret.mkdir()
        self._threads = 0

    def told(self, script, attempt=0, node="wf[0].a"):
        template = {
            "name": "t",
            "metadata": {"annotations": {"dflow-hpc/machine": "far", "dflow-hpc/resources": "{}"}},
            "container": {"image": "i", "command": ["sh", "-c", script]},
            "outputs": {"artifacts": [{"name": "out", "path": "/made/out"}]},
        }
        return Told("wf", "uid", f"{node}({attempt})", f"pod-{attempt}", template, True)

    async def gateway(self, *, abandoned=1000.0):
        made = Gateway(
            self.machine,
            RemoteSite(self.machine),
            self.path / "state",
            ended=lambda *_of: self.over.__contains__,
            abandoned=abandoned,
            say=lambda _text: None,
        )
        made.adopt()
        server = serve(made, asyncio.get_running_loop(), ("127.0.0.1", 0), "word")
        (self.secret / client.ADDRESS).write_text(f"http://127.0.0.1:{server.server_address[1]}")
        (self.secret / client.TOKEN).write_text("word")
        made.server = server
        return made

    async def end(self, gateway):
        await asyncio.to_thread(gateway.server.shutdown)
        gateway.server.server_close()
        await gateway.close()

    async def pod(self, told):
        """Do as a pod does; its record, and what it brought."""
        self._threads += 1
        directory = self.path / f"pod-{self._threads}"
        (directory / "inputs").mkdir(parents=True)
        leaf.keep(told, directory)
        record = await asyncio.to_thread(client.run, told, directory, self.secret)
        return record, directory

    async def done(self, told):
        await asyncio.to_thread(client.done, told, self.secret)

    def journal(self):
        return (self.path / "state/journal.jsonl").read_text().splitlines()

    def starts(self):
        """Return how many jobs have run."""
        file = self.path / "ran"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 20.0)
    monkeypatch.setattr(client, "_AGAIN", 0.1)
    return Here(tmp_path)


def _run(work):
    asyncio.run(asyncio.wait_for(work, SECONDS))


def _script(here, rest="mkdir /made/out"):
    """Return a script that counts its starts, and may wait for ``$P/go``. (A /tmp of a script's is the leaf's own.)"""
    path = str(here.path).replace("/tmp", "/t''mp", 1)
    return f"P={path}; echo x >> $P/ran; {rest}"


def test_a_leaf_goes_there_and_its_outputs_come_back(here):
    async def work():
        gateway = await here.gateway()
        told = here.told(_script(here, "echo said; mkdir /made/out; echo made > /made/out/f"))
        record, directory = await here.pod(told)
        assert record["phase"] == "Succeeded", record
        assert record["outputs"]["result"] == "said"
        assert (directory / "outputs/out/f").read_text() == "made\n"
        assert "said" in (directory / "work/log.txt").read_text()
        await here.end(gateway)

    _run(work())


def test_the_pod_of_the_next_attempt_joins_the_job_of_one_that_was_lost(here):
    async def work():
        gateway = await here.gateway()
        script = _script(here, "until [ -e $P/go ]; do sleep 0.05; done; mkdir /made/out")
        lost = asyncio.create_task(here.pod(here.told(script)))
        while not here.starts():
            await asyncio.sleep(0.02)
        again = asyncio.create_task(here.pod(here.told(script, 1)))
        Path(here.path, "go").touch()
        first, second = await asyncio.gather(lost, again)
        assert [first[0]["phase"], second[0]["phase"]] == ["Succeeded", "Succeeded"]
        assert here.starts() == 1
        await here.end(gateway)

    _run(work())


def test_a_success_is_kept_until_argo_has_it(here):
    async def work():
        gateway = await here.gateway()
        told = here.told(_script(here))
        await here.pod(told)
        await here.done(told)
        await here.pod(here.told(_script(here), 1))  # the first one was lost all the same
        assert here.starts() == 1
        here.over.add(told.retry)
        sweep = asyncio.create_task(gateway.sweep())
        await gateway.left()
        while (here.path / "state/leaves" / told.key).exists():
            await asyncio.sleep(0.02)
        sweep.cancel()
        await here.end(gateway)

    _run(work())


@pytest.mark.parametrize("remembered", [1000, 0], ids=["remembering", "forgetting"])
def test_a_failure_is_run_again_once_its_own_pod_has_it(here, monkeypatch, remembered):
    monkeypatch.setattr("dflow_hpc.engines.bridge.gateway.REMEMBERED", remembered)

    async def work():
        gateway = await here.gateway()
        old, new = (here.told(_script(here, "exit 3"), number) for number in (0, 1))
        for told in (old, new):
            record, _ = await here.pod(told)
            assert record["outputs"]["exitCode"] == "3"
        assert here.starts() == 1  # the second one got what the first one had not said it has
        await here.done(old)
        await here.pod(new)
        assert here.starts() == 1
        await here.done(new)
        await here.pod(here.told(_script(here, "exit 3"), 2))
        assert here.starts() == 2
        await here.end(gateway)

    _run(work())


def test_a_gateway_that_was_killed_goes_on_with_its_jobs(here):
    async def work():
        gateway = await here.gateway()
        script = _script(here, "until [ -e $P/go ]; do sleep 0.05; done; mkdir /made/out")
        told = here.told(script)
        waiting = asyncio.create_task(here.pod(told))
        while not here.starts():
            await asyncio.sleep(0.02)
        await here.end(gateway)  # its jobs live on; the pod asks on
        gateway = await here.gateway()
        Path(here.path, "go").touch()
        record, _ = await waiting
        assert record["phase"] == "Succeeded", record
        assert here.starts() == 1
        await here.end(gateway)

    _run(work())


def test_an_outcome_of_which_the_journal_does_not_know_is_not_told_twice(here):
    """The gateway was killed after it had written the outcome down, and before the journal knew."""

    async def work():
        gateway = await here.gateway()
        journal = here.path / "state/journal.jsonl"
        script = _script(here, "until [ -e $P/go ]; do sleep 0.05; done; exit 3")
        waiting = asyncio.create_task(here.pod(here.told(script)))
        while not here.starts():
            await asyncio.sleep(0.02)
        early = journal.read_bytes()
        Path(here.path, "go").touch()
        await waiting
        await here.end(gateway)
        journal.write_bytes(early)
        gateway = await here.gateway()
        record, _ = await here.pod(here.told(script))
        assert record["outputs"]["exitCode"] == "3"
        assert here.starts() == 1
        await here.done(here.told(script))
        await here.pod(here.told(script, 1))
        assert here.starts() == 2
        await here.end(gateway)

    _run(work())


def test_a_leaf_that_nobody_wants_is_cancelled(here):
    async def work():
        gateway = await here.gateway()
        sweep = asyncio.create_task(gateway.sweep())
        told = here.told(_script(here, "while sleep 0.05; do :; done"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "_ask", _once_gone(client._ask))
            waiting = asyncio.create_task(here.pod(told))
            while not here.starts():
                await asyncio.sleep(0.02)
            here.over.add(told.retry)
            await gateway.left()
            while (here.path / "state/leaves" / told.key).exists():
                await asyncio.sleep(0.02)
            with pytest.raises(ExecutorError, match="sent again"):
                await waiting
        jobs = [record["job"] for line in here.journal() if "job" in (record := json.loads(line)["r"])]
        assert jobs[-1]["state"] == "ENDED"
        assert jobs[-1]["unwanted"]
        sweep.cancel()
        await here.end(gateway)

    _run(work())


def _once_gone(ask):
    """Return a way to ask that ends the pod when its leaf is asked for again."""
    sent = []

    def asking(secret, method, path, *rest, **options):
        if method == "PUT":
            if sent:
                raise ExecutorError("the leaf would be sent again")
            sent.append(path)
        return ask(secret, method, path, *rest, **options)

    return asking


def test_leaves_that_go_while_the_gateway_looks_through_them_do_not_end_it(here, monkeypatch):
    async def work():
        gateway = await here.gateway()
        asked, answered = threading.Event(), threading.Event()

        def ended(*_of):
            asked.set()
            assert answered.wait(SECONDS)
            return lambda _node: False

        monkeypatch.setattr(gateway, "_ended", ended)
        failed = [here.told(_script(here, "exit 3"), node=f"wf[0].{name}") for name in "ab"]
        for told in failed:
            await here.pod(told)
        sweep = asyncio.create_task(gateway.sweep())
        await gateway.left()
        assert await asyncio.to_thread(asked.wait, SECONDS)
        for told in failed:
            await here.done(told)  # a failure is forgotten with that
        answered.set()
        await asyncio.wait([sweep], timeout=0.5)
        assert not sweep.done()
        sweep.cancel()
        await here.end(gateway)

    _run(work())


def test_who_has_not_the_token_and_who_sends_another_leaf_are_refused(here):
    async def work():
        gateway = await here.gateway()
        (here.secret / client.TOKEN).write_text("another")
        with pytest.raises(ExecutorError, match="401"):
            await here.pod(here.told("true"))
        (here.secret / client.TOKEN).write_text("word")
        directory = here.path / "odd"
        (directory / "inputs").mkdir(parents=True)
        leaf.keep(here.told("true", node="wf[0].b"), directory)
        with pytest.raises(ExecutorError, match="another one"):
            await asyncio.to_thread(client.run, here.told("true"), directory, here.secret)
        with pytest.raises(EngineError, match="another one does"):
            await here.gateway()
        await here.end(gateway)

    _run(work())
