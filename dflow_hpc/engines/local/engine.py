"""The local engine: takes a compiled workflow over and runs it on this machine, with no cluster and no service.

``LocalEngine`` answers what every engine is asked (``engines/__init__.py``) and what the command line wants to know
besides. A run is a directory (``rundir.py``); whoever works on it is a ``Session``, in this process or in a fresh one.

Not here: interpreting (``interpreter.py``), running leaves (``workers.py``), words about failures (``report.py``).

Trap: all of this may be called while another process works on the run. What only looks reads the journal; what changes
the run's files takes its lock.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dflow_hpc.compile import Compiled
from dflow_hpc.config import config
from dflow_hpc.engines.local import control, explain, index, jobs, launch, provision, report
from dflow_hpc.engines.local.rundir import RunDir, step_key
from dflow_hpc.engines.local.state import LEAF_TYPES, RunState, failures, workflow_object
from dflow_hpc.engines.local.work import placement
from dflow_hpc.errors import EngineError
from dflow_hpc.executors.journal import Reader, Record
from dflow_hpc.executors.profiles import placing
from dflow_hpc.executors.profiles.machine import Machine, differing
from dflow_hpc.manifest.view import COMPLETED

_FOLLOW_INTERVAL = 0.2
"""Seconds between looks at a journal that another process writes."""

_CANCELLING = 120.0
"""Seconds for which ``stop`` waits for the schedulers."""

_LOGS, _LAST_LINES = 20.0, 6.0
"""Seconds that an engine may take to bring logs, for ``logs`` and for ``explain``: it may be busy with a submission."""

_CHANGED = 4
"""How many changed files a retry names."""

_UPLOAD = re.compile(r"upload/[0-9a-f-]{36}")
"""The part of an upload's key that is new each time that a program runs."""


@dataclass(frozen=True)
class RunInfo:
    """What ``list`` shows of a run."""

    id: str
    path: Path
    phase: str
    created: float
    """Seconds since the epoch."""
    alive: bool
    """Whether a process works on it."""


@dataclass(frozen=True)
class LeafLog:
    """Where a leaf's output is."""

    node_id: str
    name: str
    phase: str
    path: Path


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class LocalEngine:
    """Runs workflows on this machine.

    Args:
        say: Called with each line for the user.
        on_change: Called with each change of the node tree of a run that this process works on: a record of its
            journal (``state.py`` lists the kinds).
    """

    def __init__(self, *, say: Callable[[str], None] = _to_stderr, on_change: Callable[[Record], None] | None = None):
        self._say = say
        self._on_change = on_change

    def at(self, **_where: str) -> LocalEngine:
        """Return itself: a cluster's namespace and its like mean nothing here."""
        return self

    # Starting, and going on

    def submit(
        self,
        compiled: Compiled,
        *,
        id: str | None = None,
        detach: bool = False,
        reuse: Sequence[Any] = (),
        resources: Sequence[dict[str, Any]] = (),
    ) -> str:
        """Take a compiled workflow over and run it to its end, or go on with the run of that id.

        Args:
            compiled: What ``compile_workflow`` gave.
            id: The run's name. If there is such a run, its finished steps are taken over, as dflow does.
            detach: Return as soon as a process of its own has taken the run over.
            reuse: Steps of earlier runs (``ArgoStep``): a step with the key of one of them takes its outputs.
            resources: Other objects that the manifest refers to: ConfigMaps, WorkflowTemplates.

        Returns:
            The run's id. A run that failed is reported, never raised.

        Raises:
            EngineError: The run cannot be started.
            ConfigError: A step is placed on a machine that is unknown, or that this version cannot use.
        """
        if id is not None and (run := RunDir(_base().resolve() / id)).exists:
            self._take_up(run, compiled, detach)
            return run.name
        compiled, machines = placing.settle(compiled, placing.script_directory(), config["place"])
        run = provision.new_run(_base(), compiled, id=id, reuse=reuse, resources=resources)
        placement.keep(run.path, machines)
        index.add(run)
        self._say(f"{run.name}: runs in {run.path}")
        for notice in (*(compiled.bundle.notices if compiled.bundle is not None else ()), *compiled.notices):
            self._say(f"{run.name}: {notice}")
        self._go(run, detach)
        return run.name

    def _take_up(self, run: RunDir, compiled: Compiled, detach: bool) -> None:
        if (holder := run.lock.alive()) is not None:
            self._say(f"{run.name}: process {holder.pid} works on it already; nothing to do")
            return
        if self._state(run).phase == "Succeeded":
            settled, _ = placing.settle(compiled, placing.script_directory(), _rules(run))
            self._say(f"{run.name}: has succeeded already; nothing to do{_other_than(run, settled)}")
            return
        self._again(run, compiled, detach)

    def _again(self, run: RunDir, compiled: Compiled | None, detach: bool, only: Sequence[str] = ()) -> None:
        machines: dict[str, Machine] = {}
        if compiled is not None:
            compiled, machines = placing.settle(compiled, placing.script_directory(), _rules(run))
        kept, changed = provision.run_again(run, compiled, only)
        placement.keep(run.path, machines)
        self._say(f"{run.name}: goes on in {run.path}; {kept} finished steps are taken over")
        if changed:  # the directory may hold much that no step reads: code first
            shown = sorted(changed, key=lambda name: not name.endswith(".py"))[:_CHANGED]
            more = f" and {len(changed) - _CHANGED} more files" if len(changed) > _CHANGED else ""
            self._say(f"  changed since: {', '.join(shown)}{more}")
        self._go(run, detach)

    def _go(self, run: RunDir, detach: bool) -> None:
        if detach:
            launch.in_background(run)
        else:
            launch.here(run, self._say, self._on_change)
            gc.collect()  # what the run left in cycles makes room for what is asked of it next
            for line in report.lines(run, self._state(run)):
                self._say(line)

    def resume(
        self, id: str, *, node: str | None = None, parameters: dict[str, str] | None = None, detach: bool = False
    ) -> None:
        """Go on after ``suspend``, a suspend step, or the death of the process that ran it.

        Args:
            id: The run.
            node: Only the suspended nodes with this id, name or displayName.
            parameters: Values of that node's supplied output parameters.
            detach: If no process works on the run: go on in a process of its own.

        Raises:
            EngineError: It has ended, or cannot go on.
        """
        run = self.find(id)
        state = self._not_ended(run, "resumed", "run what failed again with `dflow-hpc retry`")
        alive = run.lock.alive() is not None
        if alive or state.spec.get("suspend") or node is not None:
            control.send(run, control.Request("resume", node, parameters or {}))
        if not alive:
            open_jobs = jobs.Jobs(run).open()
            self._take_profiles(run, may_live=bool(open_jobs))
            self._say(f"{run.name}: goes on; {len(state.leaves)} finished steps are taken over")
            if open_jobs:
                self._say(f"{run.name}: {_on_machines(open_jobs)} joined again")
            self._go(run, detach)

    def _take_profiles(self, run: RunDir, *, may_live: bool) -> None:
        """Take profiles that were changed since the run began, unless jobs may live that are known by the old ones."""
        kept = placement.profiles(run.path)
        now = placing.current(kept, run.path.parent)
        changed = {name: keys for name, machine in now.items() if (keys := differing(kept[name], machine))}
        if not changed:
            return
        told = "; ".join(f"[machine.{name}] {', '.join(keys)}" for name, keys in changed.items())
        if may_live:
            self._say(
                f"{run.name}: changed since it began: {told}. Jobs of it may live, so it goes on as it began; to take "
                f"the change, `dflow-hpc stop {run.name}`, then `dflow-hpc retry {run.name}`"
            )
        else:
            placement.keep(run.path, {**kept, **now})
            self._say(f"{run.name}: changed since it began, and taken over: {told}")

    def retry(
        self,
        id: str,
        *,
        rebuild: Callable[[], Compiled] | None = None,
        detach: bool = False,
        only: Sequence[str] = (),
    ) -> None:
        """Run what failed again, and keep what succeeded. Old leaf directories are moved aside, not overwritten.

        Args:
            id: The run.
            rebuild: Compiles the workflow anew, so that a fixed bug is really retried; None keeps the same code.
            detach: Go on in a process of its own.
            only: Ids of further nodes to run again although they succeeded.

        Raises:
            EngineError: It has not failed, or somebody works on it.
        """
        run = self.find(id)
        phase = self._state(run).phase
        if phase == "Succeeded" and not only:
            raise EngineError(
                f"the run {run.name} was to be retried; it has succeeded. `dflow-hpc resubmit` runs it anew."
            )
        self._again(run, rebuild() if rebuild is not None else None, detach, only)

    def resubmit(self, id: str, *, detach: bool = False) -> str:
        """Run a workflow anew from its start, under a new id, with the same manifest and code; return the id."""
        old = self.find(id)
        manifest = old.workflow()
        metadata = {"generateName": old.name[:52] + "-", "labels": manifest["metadata"].get("labels") or {}}
        compiled = Compiled({**manifest, "metadata": {key: value for key, value in metadata.items() if value}})
        run = provision.new_run(old.path.parent, compiled, resources=old.resources(), code=old.code)
        placement.keep(run.path, placement.profiles(old.path))
        index.add(run)
        self._say(f"{run.name}: runs in {run.path}")
        self._go(run, detach)
        return run.name

    # Asking for something

    def stop(self, id: str) -> None:
        """End its leaves and run its exit handlers. If nobody works on it, that is done here and now.

        Jobs on machines are cancelled; it returns when the schedulers agree, or after two minutes.
        """
        self._shut_down(id, "stop")

    def terminate(self, id: str) -> None:
        """End its leaves at once, without exit handlers; see ``stop``."""
        self._shut_down(id, "terminate")

    def _shut_down(self, id: str, action: str) -> None:
        run = self.find(id)
        self._not_ended(run, "ended", "nothing to do")
        open_jobs = jobs.Jobs(run).open()
        control.send(run, control.Request(action))
        if run.lock.alive() is None:
            self._go(run, detach=False)
            return
        if not open_jobs:
            return
        self._say(f"{run.name}: {_on_machines(open_jobs)} to be cancelled")
        left = jobs.await_end(run, open_jobs, _CANCELLING)
        gone = {token: machine for token, machine in open_jobs.items() if token not in left}
        if gone:
            self._say(f"{run.name}: {_on_machines(gone)} cancelled: the scheduler agrees")
        if left:
            self._say(f"{run.name}: {_on_machines(left)} not ended yet; the engine goes on asking")

    def suspend(self, id: str) -> None:
        """Start nothing more until ``resume``; what runs goes on."""
        run = self.find(id)
        self._not_ended(run, "suspended", "nothing to do")
        control.send(run, control.Request("suspend"))

    def delete(self, id: str) -> None:
        """Remove it with its artifacts.

        Raises:
            EngineError: Somebody works on it, or something cannot be removed.
        """
        run = self.find(id)
        provision.delete(run)
        index.remove(run)

    def gc(self, older_than: float, *, dry_run: bool = False) -> list[RunInfo]:
        """Remove the runs that ended longer ago than so many seconds, with their artifacts; return them."""
        limit = time.time() - older_than
        old = [
            info
            for info in self.list_runs()
            if info.phase in COMPLETED and not info.alive and RunDir(info.path).journal.stat().st_mtime < limit
        ]
        if not dry_run:
            for info in old:
                self.delete(str(info.path))
        return old

    # Looking

    def find(self, text: str) -> RunDir:
        """Return the run of this id, of the one id that begins so, or of this path.

        Raises:
            EngineError: There is none, or there are several.
        """
        return index.find(text, beside=[_base()])

    def list_runs(self) -> list[RunInfo]:
        """Return all runs of this machine that the index knows, oldest first."""
        return [self._info(run) for run in index.runs()]

    def _info(self, run: RunDir) -> RunInfo:
        alive = run.lock.alive() is not None
        phase = run.status()
        if phase not in COMPLETED and not alive:  # killed between the end of the run and that of the session?
            phase = self._state(run).phase
        return RunInfo(run.name, run.path, phase, run.created(), alive)

    def engine_alive(self, id: str) -> bool:
        """Say whether a process works on the run. One that is not ended and has none goes on with ``resume``."""
        return self.find(id).lock.alive() is not None

    def query(self, id: str) -> dict[str, Any]:
        """Return the Workflow object: ``metadata``, ``spec`` and ``status``, in Argo's schema."""
        run = self.find(id)
        return workflow_object(run.workflow(), self._state(run))

    def wait(self, id: str, timeout: float | None = None) -> str:
        """Wait until it has ended, at most ``timeout`` seconds, and return its phase.

        Raises:
            EngineError: It has not ended, and nobody works on it.
        """
        run = self.find(id)
        over = run.lock.wait(timeout)
        state = self._state(run)
        if over and not state.ended and run.lock.alive() is None:
            raise EngineError(
                f"the end of the run {run.name} was to be waited for; its phase is {state.phase} and no process works "
                f"on it. Go on with `dflow-hpc resume {run.name}`."
            )
        return state.phase

    def follow(self, id: str) -> Iterator[list[Record]]:
        """Yield the records of its journal, those that are there at once, then what comes, until nobody adds any."""
        run = self.find(id)
        reader = Reader(run.journal)
        over = False
        while True:
            if records := reader.read():
                yield records
            if over:
                return
            over = run.lock.wait(_FOLLOW_INTERVAL)  # then look once more at what was written last

    def logs(self, id: str, step: str | None = None) -> list[LeafLog]:
        """Return where the output of its leaves is, in the order of their start.

        Args:
            id: The run.
            step: Only leaves with this id, name, displayName or key, those below such a step included.

        Raises:
            EngineError: No node is named so.
        """
        run = self.find(id)
        nodes = self._state(run).tree.nodes
        leaves = _leaves(nodes, step)
        if step is not None and not leaves:
            raise _no_step(run, nodes, step)
        return [LeafLog(node["id"], node["name"], node["phase"], run.leaf_dir(node) / "log.txt") for node in leaves]

    def bring_logs(self, id: str, step: str | None = None) -> str:
        """Bring what the steps print that run on machines now; ``logs`` then names the files.

        Args:
            id: The run.
            step: As for ``logs``.

        Returns:
            How it was done, where the user should know.

        Raises:
            ExecutorError: Nobody works on the run, and the machine cannot be asked.
        """
        run = self.find(id)
        state = self._state(run)
        return jobs.bring_logs(run, state, _leaves(state.tree.nodes, step), _LOGS)

    def follow_logs(self, id: str) -> None:
        """Have what the steps print that run on machines brought while they run, for a while from now on."""
        jobs.follow(self.find(id))

    def explain(self, id: str, step: str | None = None) -> list[dict[str, Any]]:
        """Return what is known of the leaves of a step, from any process; see ``explain.py``.

        Args:
            id: The run.
            step: Id, name, displayName or key, as for ``logs``; a name that only the manifest has is a step that has
                not begun. None: those that failed by themselves, or else those that have not ended.

        Raises:
            EngineError: Nothing is named so.
        """
        run = self.find(id)
        state = self._state(run)
        leaves = _unwell(state.tree.nodes) if step is None else _leaves(state.tree.nodes, step)
        if leaves or step is None:
            if run.lock.alive() is not None:  # the last lines that were printed: no login is needed for them
                jobs.bring_logs(run, state, leaves, _LAST_LINES)
            known = jobs.Jobs(run)
            return [explain.explain_node(run, state, known, node) for node in leaves]
        reasons = explain.waits_for(run.workflow(), state.tree.nodes, step)
        if not reasons:
            raise _no_step(run, state.tree.nodes, step)
        return [{"name": step, "phase": "not begun", "next": {"text": reason, "at": None}} for reason in reasons]

    def failed_steps(self, id: str) -> list[report.FailedStep]:
        """Return the steps that failed by themselves, with what they printed last."""
        run = self.find(id)
        return report.failed_steps(run, self._state(run))

    def _state(self, run: RunDir) -> RunState:
        return RunState(run.name, Reader(run.journal).each())

    def _not_ended(self, run: RunDir, wish: str, advice: str) -> RunState:
        state = self._state(run)
        if state.ended and not jobs.Jobs(run).open():
            raise EngineError(f"the run {run.name} was to be {wish}; it has ended ({state.phase}): {advice}.")
        return state


def _other_than(run: RunDir, compiled: Compiled) -> str:
    """Say so if a workflow is not the one that a run did: else its old results would pass for those of the new one."""
    old, new = (json.dumps(manifest.get("spec"), sort_keys=True) for manifest in (run.workflow(), compiled.manifest))
    if _UPLOAD.sub("", old) == _UPLOAD.sub("", new):
        return ""
    return (
        f", although the workflow or its code has changed since. To run what it is now, choose another id, or remove "
        f"the old run first: dflow-hpc delete {run.name}"
    )


def _on_machines(tokens: dict[str, str]) -> str:
    counts = Counter(tokens.values())
    found = [f"{count} job{'s' * (count != 1)} on {machine}" for machine, count in sorted(counts.items())]
    return ", ".join(found)


def _base() -> Path:
    return Path(config["debug_workdir"])


def _rules(run: RunDir) -> list[str]:
    """Return the setting ``place`` for a run that goes on: as it is set now, else as it was when the run began."""
    rules: list[str] = config["place"] or run.settings().get("place") or []
    return rules


def _leaves(nodes: dict[str, dict[str, Any]], step: str | None) -> list[dict[str, Any]]:
    """Return the leaves of a step, or all, in the order of their start."""
    leaves = (node for node in nodes.values() if node["type"] in LEAF_TYPES)
    return [node for node in leaves if step is None or _is_named(nodes, node, step)]


def _unwell(nodes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the leaves that failed by themselves, or else those that have not ended."""
    failed = [node for node in failures(nodes) if node["type"] in LEAF_TYPES]
    return failed or [node for node in _leaves(nodes, None) if node["phase"] not in COMPLETED]


def _no_step(run: RunDir, nodes: dict[str, dict[str, Any]], step: str) -> EngineError:
    names = sorted({node["displayName"] for node in _leaves(nodes, None)})
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return EngineError(f"the step {step!r} of {run.name} was asked for; steps that ran are: {shown or 'none'}.")


def _is_named(nodes: dict[str, dict[str, Any]], node: dict[str, Any] | None, text: str) -> bool:
    """Say whether a user who writes ``text`` means the node, a loop or retries of which it is one, or what it is in."""
    while node is not None:
        display = node["displayName"]
        if text in (node["id"], node["name"], display, display.partition("(")[0], step_key(node)):
            return True
        node = nodes.get(node.get("boundaryID", ""))
    return False
