"""``bridge``: what runs in pods of Argo whose step is placed on a machine (``engines/bridge``)."""

from __future__ import annotations

import click


@click.command("bridge", hidden=True)
@click.argument("words", type=int)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def bridge_command(words: int, command: tuple[str, ...]) -> int:  # noqa: ARG001  (both are read from the template)
    """Run the step of this pod on its machine."""
    from dflow_hpc.engines.bridge import pod

    return pod.main()
