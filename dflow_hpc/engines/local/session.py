"""One process's work on a run: from taking its lock until the run has ended, or the process has to go.

It puts the parts together (journal, workers, interpreter), listens to signals and to what other processes ask, and
leaves the run so that the next session goes on where this one stopped. Making runs is ``provision.py``, reporting on
them ``engine.py``.

Trap: when a session is interrupted its leaves are ended, and the interpreter sees them fail. None of that is a result:
the journal is frozen *before* the first leaf is touched.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from dflow_hpc.engines.local import control, report
from dflow_hpc.engines.local.interpret.interpreter import Interpreter
from dflow_hpc.engines.local.interpret.tree import NodeTree
from dflow_hpc.engines.local.provision import remove_tree
from dflow_hpc.engines.local.rundir import RunDir
from dflow_hpc.engines.local.state import LEAF_TYPES, RunState
from dflow_hpc.engines.local.work.leafrun import OP_ANNOTATION
from dflow_hpc.engines.local.work.workers import LocalLeafHost
from dflow_hpc.errors import EngineError
from dflow_hpc.executors.journal import Journal, Record
from dflow_hpc.executors.leaf import LeafHost, LeafRequest, Outcome
from dflow_hpc.manifest.view import UNSUCCESSFUL, annotations_of, named, node_type

_LEAVE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_AT_REQUESTS = 0.5
"""Seconds between looks at the requests where no signal can tell of them."""


class Interrupted(Exception):
    """The session had to end before the run did.

    Attributes:
        signal: The signal that asked for it, or None.
        error: What made it impossible to go on, or None.
    """

    def __init__(self, signal: int | None = None, error: OSError | None = None):
        super().__init__(signal, error)
        self.signal = signal
        self.error = error


class Session:
    """Works on a run.

    Args:
        run: Its directory, complete.
        say: Called with each line that the user should see.
        on_change: Called with each change of the node tree, after the journal has it in its batch.
    """

    def __init__(self, run: RunDir, *, say: Callable[[str], None], on_change: Callable[[Record], None] | None = None):
        self._run = run
        self._say = say
        self._on_change = on_change
        self._settings = run.settings()
        self._interruption: Interrupted | None = None
        self._task: asyncio.Task[Any] | None = None
        self._interpreter: Interpreter | None = None
        self._host: LocalLeafHost | None = None
        self._taken = 0
        """Bytes of the requests that were dealt with."""

    async def work(self, ready: Callable[[], None] = lambda: None) -> None:
        """Work until the run has ended.

        Args:
            ready: Called once the run is taken over.

        Raises:
            EngineError: Another process works on it.
            Interrupted: A signal came, or the journal cannot be written.
        """
        self._loop = asyncio.get_running_loop()
        self._main_thread = threading.current_thread() is threading.main_thread()
        with self._signals(), self._run.lock.held(signals=self._main_thread):
            self._journal = Journal(self._run.journal, defer=self._loop.call_soon, on_failure=self._journal_failed)
            ready()
            self._task = asyncio.create_task(self._interpret(RunState(self._run.name, self._journal.records)))
            try:
                await self._task
            except asyncio.CancelledError:
                if self._interruption is None:
                    raise
            finally:
                self._close_journal()
        if self._interruption is not None:
            raise self._interruption

    async def _interpret(self, state: RunState) -> None:
        workflow = self._run.workflow()
        if state.ended:
            await self._end_jobs(workflow)
            return
        self._run.begin(_entry_type(workflow))
        self._journal.append({"session": {"pid": os.getpid(), "at": time.time()}})
        self._tree = NodeTree(self._run.name, self._sink)
        if "startedAt" in state.tree.head:
            self._tree.head["startedAt"] = state.tree.head["startedAt"]
        host = self._host = self._leaf_host(workflow)
        try:
            await host.start()
            remove_tree(self._run.store / ".incoming")  # what a killed leaf was about to store
            self._interpreter = Interpreter(
                workflow,
                self._tree,
                _JournaledHost(host, self._journal, self._say),
                resources=self._run.resources(),
                recorded=state.leaves,
                reused=self._run.reused(),
            )
            self._take_over(state)
            await self._interpreter.run()
            await host.end_jobs()
        finally:
            await host.close()
            for notice in host.notices:
                self._say(f"{self._run.name}: {notice}")
        self._journal.flush()
        remove_tree(self._run.secrets)
        self._run.write_status(self._tree.head["phase"])

    async def _end_jobs(self, workflow: dict[str, Any]) -> None:
        """Cancel what is left of a run that has ended: its session broke off before the schedulers agreed."""
        host = self._leaf_host(workflow)
        try:
            await host.end_jobs()
        finally:
            await host.close()
        remove_tree(self._run.secrets)

    def _leaf_host(self, workflow: dict[str, Any]) -> LocalLeafHost:
        settings = self._settings
        return LocalLeafHost(
            self._run.path,
            workers=settings["debug_pool_workers"],
            store={"workdir": str(self._run.path.parent), "artifact_dir": settings["debug_artifact_dir"]},
            code_dir=self._run.code,
            records=_op_records(workflow),
            runtime=settings["runtime"],
            isolation=settings["isolation"],
            copy_method=settings["debug_copy_method"],
            say=lambda text: self._say(f"{self._run.name}: {text}"),
        )

    def _sink(self, change: Record) -> None:
        self._journal.append(change)
        if self._on_change is not None:
            self._on_change(change)
        if self._settings["debug_failfast"] and change.get("set", {}).get("phase") in UNSUCCESSFUL:
            node = self._tree.nodes[change["node"]]
            if node["type"] in LEAF_TYPES | {"Retry"} and not (node.get("nodeFlag") or {}).get("retried"):
                self._obey(control.Request("terminate"))

    # What others ask

    def _take_over(self, state: RunState) -> None:
        """Put in force what was asked of earlier sessions, and what was asked when there was none."""
        self._taken = state.requests
        shutdown = state.spec.get("shutdown")
        if shutdown:
            self._obey(control.Request("terminate" if shutdown == "Terminate" else "stop"))
        if state.spec.get("suspend"):
            self._obey(control.Request("suspend"))
        self._take_requests()
        if not self._main_thread:
            self._look_now_and_then()

    def _look_now_and_then(self) -> None:
        self._take_requests()
        self._loop.call_later(_LOOK_AT_REQUESTS, self._look_now_and_then)

    def _take_requests(self) -> None:
        if self._interpreter is None:
            return  # they are read when it is there
        requests, self._taken = control.receive(self._run, self._taken)
        for request in requests:
            try:
                self._obey(request)
            except EngineError as error:
                self._say(f"{self._run.name}: {error}")
        if requests:
            self._journal.append({"requests": self._taken})

    def _obey(self, request: control.Request) -> None:
        assert self._interpreter is not None  # noqa: S101
        if request.action == "follow":
            if self._host is not None:
                self._host.follow()
        elif request.action == "resume":
            self._interpreter.resume(request.node, request.parameters)
            self._journal.append({"spec": {"suspend": None}})
        elif request.action == "suspend":
            self._interpreter.suspend()
            self._journal.append({"spec": {"suspend": True}})
        elif request.action == "stop":
            self._interpreter.stop()
            self._journal.append({"spec": {"shutdown": "Stop"}})
        else:
            self._interpreter.terminate()
            self._journal.append({"spec": {"shutdown": "Terminate"}})

    # Leaving before the end

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Listen to signals; those that the process ignores (``nohup``) stay ignored."""
        if not self._main_thread:
            yield
            return
        before = {number: signal.getsignal(number) for number in (*_LEAVE, signal.SIGUSR1)}
        for number in _LEAVE:
            if before[number] is not signal.SIG_IGN:
                self._loop.add_signal_handler(number, self.interrupt, number)
        self._loop.add_signal_handler(signal.SIGUSR1, self._take_requests)
        try:
            yield
        finally:
            for number, handler in before.items():
                self._loop.remove_signal_handler(number)
                # A request may have been sent as we ended: it must not end the author's program.
                late = number == signal.SIGUSR1 and handler is signal.SIG_DFL
                signal.signal(number, signal.SIG_IGN if late else handler)

    def interrupt(self, number: int) -> None:
        """Start nothing more, end what runs here, leave the run as it is; the second call ends the process."""
        if self._interruption is not None:
            os._exit(128 + number)  # its leaves are ended by the zygote, which sees us go
        at_work = self._host.at_work() if self._host is not None else (0, {})
        self._say(f"{self._run.name}: {report.parting(*at_work)} (once more to leave at once)")
        self._break_off(Interrupted(signal=number))

    def interrupt_from_outside(self) -> None:
        """Do so from another thread than that of the session; a second call does nothing more."""
        if self._interruption is None:
            self._loop.call_soon_threadsafe(self.interrupt, signal.SIGINT)

    def _journal_failed(self, error: OSError) -> None:
        if self._interruption is None:
            self._break_off(Interrupted(error=error))

    def _break_off(self, interruption: Interrupted) -> None:
        self._interruption = interruption
        self._journal.freeze()
        if self._host is not None:
            self._host.leave()
        if self._task is not None:
            self._task.cancel()

    def _close_journal(self) -> None:
        try:
            self._journal.close()
        except OSError as error:
            # Not lost: what could not be written here stands in the leaves' own records, which the next session reads.
            self._interruption = self._interruption or Interrupted(error=error)


def _entry_type(workflow: dict[str, Any]) -> str:
    template = named(workflow["spec"].get("templates"), workflow["spec"].get("entrypoint") or "")
    return "Pod" if template is None else node_type(template)


def _op_records(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of the workflow's Python OPs, which the zygote imports once for all leaves."""
    texts = (annotations_of(template).get(OP_ANNOTATION) for template in workflow["spec"].get("templates") or ())
    return [json.loads(text) for text in texts if text]


class _JournaledHost:
    """A leaf host that starts nothing before the journal has what led to it."""

    def __init__(self, host: LeafHost, journal: Journal, say: Callable[[str], None]):
        self._host = host
        self._journal = journal
        self._say = say

    async def run(self, request: LeafRequest) -> Outcome:
        if not self._journal.flush():
            await self._never()
        outcome = await self._host.run(request)
        for notice in outcome.notices:
            self._say(f"{request.node_name}: {notice}")
        return outcome

    @staticmethod
    async def _never() -> NoReturn:
        """Wait to be cancelled: the session is being broken off."""
        while True:
            await asyncio.Event().wait()
