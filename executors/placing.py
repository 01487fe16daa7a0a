"""Where rules that re-place steps come from: ``[place]`` of the machines' files, and the setting ``place``.

    [place]                        # machines.toml
    "label*" = "cpu"
    "train" = "local"              # this host

The setting is a list of texts ``STEP=MACHINE``: ``dflow-hpc run --machine STEP=MACHINE``, or ``DFLOW_PLACE``. It counts
more than the files, a higher file more than a lower one, a later line more than an earlier.

Every engine passes a manifest through ``placed`` before it looks at it. Not here: what a rule does
(``manifest/placing.py``).

Trap: files hold rules for many workflows, so one that matches nothing there is no mistake; one of the setting is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.machine import Machines
from dflow_hpc.manifest import placing
from dflow_hpc.manifest.placing import HERE, Rule


def rules_of(texts: Iterable[str]) -> list[Rule]:
    """Return the rules of texts ``STEP=MACHINE``; ``MACHINE`` alone is for all steps.

    Raises:
        ConfigError: One is no such text.
    """
    rules = []
    for text in texts:
        steps, _, machine = (text if "=" in text else f"*={text}").partition("=")
        if not (steps.strip() and machine.strip()):
            raise ConfigError(
                f"steps were to be placed by {text!r}; that is written STEP=MACHINE, such as 'label*=cpu' or "
                "'train=local', or MACHINE alone for all steps."
            )
        rules.append(Rule(steps.strip(), machine.strip()))
    return rules


def placed(
    manifest: dict[str, Any], machines: Machines, texts: Iterable[str] = (), own: Iterable[str] = ()
) -> dict[str, Any]:
    """Return a manifest with its steps placed as the files and the setting say.

    Args:
        manifest: A Workflow; it stays as it is.
        machines: The profiles, with the rules of their files.
        texts: The setting ``place``.
        own: Machines that the workflow brings itself, which a rule may name too.

    Raises:
        ConfigError: A rule names a machine that is unknown.
        ManifestError: One of the setting matches no step.
    """
    rules = [*(Rule(steps, machine, required=False) for steps, machine in machines.places), *rules_of(texts)]
    for rule in rules:
        if rule.machine not in (*HERE, *own):
            machines.get(rule.machine)
    return placing.placed(manifest, rules)
