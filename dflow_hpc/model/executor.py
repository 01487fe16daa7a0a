"""Where a step runs: a machine by its name, or dflow's hook for executors of others.

``executor="gpu"`` and ``MachineExecutor("gpu", cpus=4)`` leave a *wish* on the template, as two annotations. What the
name means is a profile's matter (``executors/machine.py``); the model never reads one.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import json
from typing import Any, Dict, Optional, Union

from dflow_hpc.errors import ModelError
from dflow_hpc.model.checks import close, listed

MACHINE = "dflow-hpc/machine"
RESOURCES = "dflow-hpc/resources"

RESOURCE_NAMES = (
    "account",
    "cpus",
    "extra",
    "gpus",
    "memory",
    "nodes",
    "qos",
    "queue",
    "tasks",
    "time",
)
"""What a step may ask of a machine; each overrides the profile's ``resources``."""


class Executor:
    """dflow's hook: something that rewrites a template so that it runs elsewhere.

    A subclass defines ``render``; it may define ``modify_step(step)``, called at the end of the step's construction.
    """

    def render(self, template: Any) -> Any:
        """Return the template to run instead of ``template``, which must stay as it is.

        Args:
            template: An ``OPTemplate``; ``template.copy()`` gives one that may be changed.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no render(template)")


class MachineExecutor(Executor):
    """Let a step run on a machine.

    Args:
        name: Name of its profile.
        **resources: What the step asks for: ``cpus``, ``gpus``, ``memory`` ("4GB" a node), ``time`` ("30m"), ``nodes``,
            ``tasks``, ``queue``, ``account``, ``qos``, ``extra`` (further directives).

    Raises:
        ModelError: A resource's name is unknown.
    """

    def __init__(self, name: str, **resources: Any):
        if not isinstance(name, str) or not name:
            raise ModelError(f"MachineExecutor({name!r}) was asked for; it takes the name of a machine's profile.")
        for resource in resources:
            if resource not in RESOURCE_NAMES:
                raise ModelError(
                    f"MachineExecutor({name!r}) was given the resource {resource!r}; known are "
                    f"{listed(RESOURCE_NAMES)}{close(resource, RESOURCE_NAMES)}."
                )
        self.name = name
        self.resources = {key: value for key, value in sorted(resources.items()) if value is not None}

    def annotations(self) -> Dict[str, str]:
        """Return the annotations that carry the wish."""
        found = {MACHINE: self.name}
        if self.resources:
            found[RESOURCES] = json.dumps(self.resources, sort_keys=True)
        return found

    def render(self, template: Any) -> Any:
        """Return a copy of the template with the wish on it."""
        new = template.copy()
        new.annotations.update(self.annotations())
        return new


def as_executor(executor: Union[str, Executor, Any, None], owner: str) -> Optional[Any]:
    """Return what ``executor=`` means: a machine for a text, anything with ``render`` as it is.

    Raises:
        ModelError: It is neither.
    """
    if executor is None or hasattr(executor, "render"):
        return executor
    if isinstance(executor, str):
        return MachineExecutor(executor)
    raise ModelError(
        f"{owner} was given executor={executor!r}; it is the name of a machine, MachineExecutor(name, ...), or an "
        "object with render(template)."
    )
