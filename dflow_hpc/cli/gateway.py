"""``bridge``: what runs in pods of Argo whose step is placed on a machine; ``gateway``: to whom they hand it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("bridge", hidden=True)
@click.argument("words", type=int)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def bridge_command(words: int, command: tuple[str, ...]) -> int:  # noqa: ARG001  (both are read from the template)
    """Run the step of this pod on its machine."""
    from dflow_hpc.engines.bridge import pod

    return pod.main()


@click.command("gateway")
@click.option("--machine", "name", required=True, help="The machine, whose login is mounted.")
@click.option("--state", type=click.Path(path_type=Path), required=True, help="Directory on a volume.")
@click.option("--listen", default="0.0.0.0", show_default=True, help="Address to listen at.")  # noqa: S104  pods ask
@click.option("--port", default=8750, show_default=True)
@click.option("--address", required=True, help="http://HOST:PORT as pods see it: of the Service, or of the pod.")
@click.option("--namespace", help="Of the pods; else the setting's.")
@click.option("--login", type=click.Path(path_type=Path), help="Directory with the machine's Secret.")
@click.option("--abandoned", default=900.0, show_default=True, help="Seconds after which unasked-for jobs end.")
def gateway_command(
    name: str, state: Path, listen: str, port: int, address: str, namespace: str | None, login: Path, abandoned: float
) -> None:
    """Run the steps that a namespace's pods hand over, on one machine and over one login."""
    from dflow_hpc.engines.bridge import service

    service.main(name, state, (listen, port), address, namespace=namespace, login=login, abandoned=abandoned)
