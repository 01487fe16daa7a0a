"""The Leaf protocol: what an engine asks of whatever runs a leaf, and what it gets back.

A leaf is a template that runs something: a script, a container, a Python OP. A forked worker, a host script, a
container and a job of a cluster differ in how they do it, never in this contract.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dflow_hpc.executors.failures import FailureClass


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """One leaf to run, with nothing left to substitute."""

    node_id: str
    """Id of its node in the tree: the name under which its record is found again."""
    node_name: str
    template: dict[str, Any]
    """The leaf's template, every tag substituted, templateDefaults merged."""
    inputs: dict[str, Any]
    """The node's inputs in Argo's form: ``{"parameters": [{name, value}], "artifacts": [{name, path, s3 | raw}]}``."""
    pod_name: str
    """Argo's pod name: the default key of output artifacts is ``<workflow>/<pod>/<name>.tgz``."""
    workflow_name: str
    workflow_uid: str
    capture_result: bool
    """Whether stdout becomes ``outputs.result`` (only when a sibling refers to it, as Argo does)."""
    on_running: Callable[[], None]
    """Called once, when the leaf really starts to run."""
    on_progress: Callable[[str], None]
    """Called with ``"n/m"`` when the leaf reports progress."""
    retry_id: str | None = None
    """Id of its Retry node, where it is an attempt of one: a job on a machine is found again across attempts."""
    deadline: float | None = None
    """When it must have ended, in seconds since the epoch."""
    timeout: float | None = None
    """How long it may run once it really runs, in seconds: waiting for a worker does not count."""


@dataclass
class Outcome:
    """How a leaf ended."""

    phase: str
    """``Succeeded``, ``Failed`` (the program's own fault) or ``Error`` (everything else), as Argo tells them apart."""
    message: str = ""
    """Argo's text, such as ``main: Error (exit code 3)``."""
    outputs: dict[str, Any] = field(default_factory=dict)
    """As in a node: ``exitCode``, ``result``, ``parameters``, ``artifacts``."""
    failure: FailureClass | None = None
    started: float = 0.0
    """Seconds since the epoch."""
    finished: float = 0.0
    notices: list[str] = field(default_factory=list)
    """What the user should know although it is no failure, such as processes that had to be ended."""
    members: list[dict[str, Any]] = field(default_factory=list)
    """Of a container set: ``{name, phase, message, started, finished}`` of each container, in the template's order."""


class LeafHost(Protocol):
    """Something that runs leaves."""

    async def run(self, request: LeafRequest) -> Outcome:
        """Run one leaf to its end.

        Cancelling the awaiting task cancels the leaf: TERM, a grace, KILL; the call returns only when nothing of it
        runs any more.
        """
        ...
