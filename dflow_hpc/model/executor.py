"""Where a step runs: a machine by its name, or dflow's hook for executors of others.

``executor="gpu"`` and ``MachineExecutor("gpu", cpus=4)`` leave a *wish* on the template, as two annotations. What the
name means is a profile's matter (``executors/profiles/machine.py``); the model never reads one. A program may bring a
profile of its own; it travels beside the manifest, and only its name and a digest stand in it.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import hashlib
import json
from typing import Any, Dict, Mapping, Optional, Sequence, Union

from dflow_hpc.errors import ModelError
from dflow_hpc.model.checks import close, listed

MACHINE = "dflow-hpc/machine"
RESOURCES = "dflow-hpc/resources"

RESOURCE_NAMES = (
    "account",
    "cpus",
    "exclude",
    "extra",
    "gpus",
    "memory",
    "nodes",
    "pack",
    "qos",
    "queue",
    "tasks",
    "time",
    "warn",
)
"""What a step may ask of a machine; each overrides the profile's ``resources``."""


class Executor:
    """dflow's hook: something that rewrites a template so that it runs elsewhere.

    A subclass defines ``render``; it may define ``modify_step(step)``, called at the end of the step's construction.
    One that places steps on a machine defines ``machine_for(template)`` as well, which returns the ``MachineExecutor``
    that its ``render`` uses, or None.
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
        profile: The profile itself, as a table of ``machines.toml`` without ``resources``, where no file has it.
        password: For the login to that machine. It is kept as secrets are.
        notices: What of that profile has no effect, for the user.
        **resources: What the step asks for: ``cpus``, ``gpus``, ``memory`` ("4GB" a node), ``time`` ("30m"), ``nodes``,
            ``tasks``, ``queue``, ``account``, ``qos``, ``extra`` (further directives), ``exclude`` (nodes), ``warn``
            ("60s": USR2 so long before the time limit), ``pack`` (so many leaves of a loop run in one job, one after
            the other).

    Raises:
        ModelError: A resource's name is unknown.
    """

    def __init__(
        self,
        name: str,
        *,
        profile: Optional[Mapping[str, Any]] = None,
        password: Optional[str] = None,
        notices: Sequence[str] = (),
        **resources: Any,
    ):
        if not isinstance(name, str) or not name:
            raise ModelError(f"MachineExecutor({name!r}) was asked for; it takes the name of a machine's profile.")
        for resource in resources:
            if resource not in RESOURCE_NAMES:
                raise ModelError(
                    f"MachineExecutor({name!r}) was given the resource {resource!r}; known are "
                    f"{listed(RESOURCE_NAMES)}{close(resource, RESOURCE_NAMES)}."
                )
        self.profile = None if profile is None else dict(profile)
        if profile is not None:
            digest = hashlib.sha256(json.dumps(self.profile, sort_keys=True).encode())
            name = f"{name}-{digest.hexdigest()[:10]}"
        self.name = name
        self.password = password
        self.notices = tuple(notices)
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
