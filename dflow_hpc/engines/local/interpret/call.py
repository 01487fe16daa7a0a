"""One use of a template: what the parts of the interpreter hand to each other.

A ``Call`` is what a step, task or hook asks for; a ``Work`` is a call whose template and inputs are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dflow_hpc.engines.local.interpret.names import Known
from dflow_hpc.engines.local.interpret.slots import Boundary
from dflow_hpc.engines.local.interpret.templates import Scope, Template
from dflow_hpc.manifest.view import Json, Node

MAX_DEPTH = 100
"""How deeply templates may be nested, Argo's constant."""


def no_edge(_: Node) -> None:
    """Hang the node nowhere: it is the root, or a hook of the workflow."""


@dataclass(slots=True, eq=False)
class Call:
    """One use of a template."""

    name: str
    """Full name of the node that it makes."""
    holder: Json
    """The step, task or hook, or what of it names the template."""
    scope: Scope
    """Where that name is looked up."""
    arguments: Json
    """References in it are replaced already; given up once they have become inputs."""
    boundary: Boundary | None = None
    attach: Callable[[Node], None] = no_edge
    """Hangs the node into the tree; called once, right after it was made."""
    plain_name: str = ""
    """Name of the step or task without a loop's suffix: by it others ask for its result."""
    local: tuple[str, str] | None = None
    """``("steps.name", name)`` or ``("tasks.name", name)``."""
    hooked: bool = False
    on_exit: bool = False
    """Whether it belongs to an exit handler, which runs even when the workflow was stopped."""
    depth: int = 1


@dataclass(slots=True, eq=False)
class Work:
    """A call whose template and inputs are known."""

    call: Call
    template: Template
    scope: Scope
    """Where the names inside the template are looked up."""
    inputs: Json
    known: Known
    """What the template's own tags may name; of a leaf without tags and retries, only what all know."""
    body: Json
    """The template with its tags replaced; without its inputs, steps and tasks."""
    has_slot: bool = False
    deadline: float | None = None
    """When its attempt must have ended (``backoff.maxDuration``), in seconds since the epoch."""

    @property
    def pod(self) -> bool:
        """Whether its nodes are Pods."""
        return self.template.is_pod
