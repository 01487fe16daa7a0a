"""The gateway: one service a machine and namespace, which runs the leaves of all bridge pods over one login.

A directory holds its state: the broker's journal, and the leaves (``leaf.py``) until nobody wants them any more. It
must outlive the process: the gateway of the next life goes on with the leaves that it finds there.

A leaf whose node has ended in Argo, whose workflow was stopped or is gone, or for which nobody has asked for a while is
cancelled and forgotten. An outcome that is no success is forgotten when its pod has it (``done``), because the next
attempt is a job of its own; a success is kept until Argo has it, because a pod may be lost before it could say so.

Not here: jobs (``Broker``), the other side (``client.py``).

Trap: a pod that was lost and the one of the next attempt may ask for the same leaf at once. The one that turned up last
owns it: only that one's ``done`` counts.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import fcntl
import hmac
import json
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dflow_hpc.engines.bridge import leaf
from dflow_hpc.engines.local.rundir import write_atomic
from dflow_hpc.errors import DflowError, EngineError
from dflow_hpc.executors.broker.broker import REMEMBERED, Broker
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.site import Site
from dflow_hpc.storage.archive import extract

_WAIT = 30.0
"""Seconds that a question for an outcome waits."""
_SWEEP = 30.0


class Gateway:
    """The leaves of a machine.

    Args:
        machine: The profile.
        site: The machine.
        state: Directory of the state.
        ended: Of a workflow, by name and uid: what says of a node's id whether its leaf is not wanted any more.
        abandoned: Seconds after which a leaf for which nobody asks is cancelled.
        say: Called with lines for the log.

    Raises:
        EngineError: Another gateway works on this directory.
    """

    def __init__(
        self,
        machine: Machine,
        site: Site,
        state: Path,
        *,
        ended: Callable[[str, str], Callable[[str], bool]],
        abandoned: float,
        say: Callable[[str], None],
    ):
        self._machine = machine
        self._ended = ended
        self._abandoned = abandoned
        self._say = say
        self._leaves = state / "leaves"
        self._leaves.mkdir(parents=True, exist_ok=True)
        self._lock = (state / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise EngineError(f"a gateway was to work on {state}; another one does. End that one first.") from error
        for left in self._leaves.glob("*.part"):
            shutil.rmtree(left)
        journal = state / "journal.jsonl"
        self._broker = Broker(machine.name, site, journal, waits=machine.waits, remembers=REMEMBERED, say=say)
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._asked: dict[str, float] = {}
        self._began = time.monotonic()
        self._look = asyncio.Event()

    def adopt(self) -> None:
        """Go on with the leaves of an earlier life, each of which joins its job."""
        for directory in self._kept():
            if leaf.record_of(directory) is None:
                self._start(directory.name)

    def _kept(self) -> Iterator[Path]:
        """Give the directories of leaves, each looked at when it is its turn: they go meanwhile."""
        return (path for path in self._leaves.iterdir() if (path / "leaf.json").exists())

    def _start(self, key: str) -> None:
        self._tasks[key] = asyncio.create_task(self._run(key, self._leaves / key))

    def _heard(self, key: str, pod: str) -> None:
        """Note that a pod wants a leaf."""
        self._asked[key] = time.monotonic()
        file = self._leaves / key / "pods"
        if file.parent.exists() and pod not in _lines(file):
            with file.open("a", encoding="utf-8") as pods:
                pods.write(pod + "\n")

    async def take(self, key: str, pod: str, archive: str) -> None:
        """Take a leaf that a pod has sent, and run it, unless it runs or has ended here.

        Raises:
            EngineError: It is another leaf than was said.
        """
        directory = self._leaves / key
        with tempfile.TemporaryDirectory(suffix=".part", dir=self._leaves) as room:
            part = Path(room) / "leaf"
            await asyncio.to_thread(extract, archive, str(part))
            if leaf.kept(part).key != key:
                raise EngineError(f"the leaf {key} was sent; what came is another one.")
            if not directory.exists():  # looked at now: two pods may have sent it at once
                part.rename(directory)
                self._start(key)
        self._heard(key, pod)

    async def _run(self, key: str, directory: Path) -> None:
        try:
            await leaf.run(directory, self._machine, self._broker, lambda: None, rejoins=True)
        except (DflowError, OSError) as error:
            self._say(f"leaf {key}: {error}")
            write_atomic(directory / leaf.RECORD, json.dumps(leaf.broken(error)), 0o600)

    async def outcome(self, key: str, pod: str) -> Path | None:
        """Return the directory of a leaf that has ended; None of one that has not, after a while.

        Raises:
            KeyError: It is not known here.
        """
        self._heard(key, pod)
        directory = self._leaves / key
        task = self._tasks.get(key)
        if task is not None:
            await asyncio.wait([task], timeout=_WAIT)
        if not directory.exists():
            raise KeyError(key)
        if task is not None and not task.done():
            return None
        if leaf.record_of(directory) is None and task is not None:
            task.result()  # raises why there is none
        return directory

    async def done(self, key: str, pod: str) -> None:
        """Note that a pod has the outcome of its leaf."""
        directory = self._leaves / key
        record = leaf.record_of(directory)
        if record is None or _lines(directory / "pods")[-1:] != [pod]:
            return
        self._broker.delivered(key)  # an earlier life may have been killed just before it said so
        if record["phase"] != "Succeeded":
            self._forget(key)

    async def left(self) -> None:
        """Look now whether what runs is still wanted."""
        self._look.set()

    def _forget(self, key: str) -> None:
        self._tasks.pop(key, None)
        self._asked.pop(key, None)
        shutil.rmtree(self._leaves / key, ignore_errors=True)

    async def sweep(self) -> None:
        """Cancel what nobody wants any more, for ever."""
        swept = False
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), _SWEEP)
            self._look.clear()
            now = time.monotonic()
            ended: dict[tuple[str, str], Callable[[str], bool]] = {}
            for directory in self._kept():
                told = leaf.kept(directory)
                workflow = (told.workflow, told.uid)
                if workflow not in ended:
                    ended[workflow] = await asyncio.to_thread(self._ended, *workflow)
                asked = self._asked.get(directory.name, self._began)
                if ended[workflow](told.retry or told.node) or now - asked > self._abandoned:
                    self._drop(directory.name)
            if not swept and now - self._began > self._abandoned:
                swept = True
                await self._broker.end_all()

    def _drop(self, key: str) -> None:
        """Forget a leaf, and cancel its job first where it has one; that ends when the scheduler agrees."""
        task = self._tasks.get(key)
        if task is None or task.done():
            self._forget(key)
        else:
            self._say(f"leaf {key}: nobody wants it any more")
            task.add_done_callback(lambda _task: self._forget(key))
            task.cancel()

    async def close(self) -> None:
        """End, and let the jobs live on."""
        self._broker.leave()
        for task in self._tasks.values():
            task.cancel()
        await self._broker.close()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._lock.close()


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


class _Server(ThreadingHTTPServer):
    """What the answers of ``_Handler`` need."""

    daemon_threads = True
    request_queue_size = 512  # pods come all at once, and one that is not let in waits for seconds

    def __init__(self, gateway: Gateway, loop: asyncio.AbstractEventLoop, address: tuple[str, int], token: str):
        super().__init__(address, _Handler)
        self.gateway = gateway
        self.token = token
        self._loop = loop

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what broke an answer, unless a pod went, or we do: it is asked for again."""
        if not isinstance(sys.exception(), OSError | concurrent.futures.CancelledError):
            super().handle_error(request, client_address)

    def ask(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Have something done in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120
    server: _Server

    def _split(self) -> tuple[str, str, str] | None:
        """Return verb, key and pod of a request that is entitled; answer any other."""
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            self._answer(401, b"the token is wrong\n")
            return None
        address = urllib.parse.urlsplit(self.path)
        pod = urllib.parse.parse_qs(address.query).get("pod", [""])[0]
        found = re.fullmatch(r"/(leaf|done|left)/([a-z2-7]{26})", address.path)
        if found is None or not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", pod):
            self._answer(400, b"a path is /leaf/KEY?pod=NAME\n")
            return None
        return found[1], found[2], pod

    def _answer(self, status: int, text: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        if (parts := self._split()) is None:
            return
        try:
            directory = self.server.ask(self.server.gateway.outcome(parts[1], parts[2]))
        except KeyError:
            self._answer(404)
            return
        if directory is None:
            self._answer(202)
            return
        with tempfile.TemporaryFile(dir=directory) as file:
            (directory / "outputs").mkdir(exist_ok=True)
            leaf.pack(directory, (leaf.RECORD, "outputs", "work/log.txt"), file)
            self.send_response(200)
            self.send_header("Content-Length", str(file.tell()))
            self.end_headers()
            file.seek(0)
            shutil.copyfileobj(file, self.wfile)

    def do_PUT(self) -> None:
        if (parts := self._split()) is None:
            return
        _, key, pod = parts
        with tempfile.NamedTemporaryFile() as file:
            rest = int(self.headers.get("Content-Length") or 0)
            while rest and (block := self.rfile.read(min(rest, 1 << 20))):
                file.write(block)
                rest -= len(block)
            file.flush()
            if rest:
                self._answer(400, b"the leaf did not come whole\n")
                return
            try:
                self.server.ask(self.server.gateway.take(key, pod, file.name))
            except (DflowError, OSError) as error:
                self._answer(400, str(error).encode())
                return
        self._answer(200)

    def do_POST(self) -> None:
        if (parts := self._split()) is None:
            return
        self.server.ask(
            self.server.gateway.done(parts[1], parts[2]) if parts[0] == "done" else self.server.gateway.left()
        )
        self._answer(200)

    def log_message(self, *given: Any) -> None:
        pass


def serve(
    gateway: Gateway, loop: asyncio.AbstractEventLoop, address: tuple[str, int], token: str
) -> ThreadingHTTPServer:
    """Answer pods in threads of their own, and return the server.

    Args:
        gateway: What they talk to.
        loop: In which it lives.
        address: Where to listen.
        token: What entitles to ask.
    """
    server = _Server(gateway, loop, address, token)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
