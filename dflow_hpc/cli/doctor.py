"""``doctor`` and ``config``: whether this machine can run workflows, and with which settings it would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from dflow_hpc.config import S3_SETTINGS, SETTINGS, Settings, config, is_local, s3_config

_SECRET = ("token", "access_key", "secret_key", "http_headers")
Finding = tuple[bool, str]


def _value_text(name: str, value: object) -> str:
    if name in _SECRET and value:
        return "(set, not shown)"
    return json.dumps(value, default=str)


@click.command("config")
@click.option("--all", "everything", is_flag=True, help="Those that stand at their default too.")
def config_command(everything: bool) -> None:
    """Print the settings, each with the layer that it came from."""
    for title, table, values in (("", SETTINGS, config), ("s3.", S3_SETTINGS, s3_config)):
        _print_settings(title, table, values, everything)
    if not everything:
        click.echo("(--all shows those at their default too)")


def _print_settings(title: str, table: object, values: Settings, everything: bool) -> None:
    for name, setting in dict(table).items():  # type: ignore[call-overload]
        layer = values.layer(name)
        if everything or layer != "default":
            text = _value_text(name, values[name])
            click.echo(f"{title + name:<26} {text:<28} {layer:<34} {setting.meaning}")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return sys.version_info >= (3, 11), f"Python {version} at {sys.executable}"


def _directory() -> Finding:
    place = Path(config["debug_workdir"]).resolve()
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as scratch:
            source, link = Path(scratch, "a"), Path(scratch, "b")
            source.write_text("x")
            try:
                os.link(source, link)
                how = "hard links work"
            except OSError:
                how = "no hard links: artifacts are linked symbolically or copied"
    except OSError as error:
        return False, f"runs would lie in {place}, which cannot be written: {error.strerror}. Set DFLOW_DEBUG_WORKDIR."
    free = shutil.disk_usage(place).free
    return free > 1 << 28, f"runs lie in {place}: {free / 2**30:.1f} GiB free, {how}"


def _state() -> Finding:
    from dflow_hpc.engines.local.index import index_dir

    place = index_dir()
    nearest = next(path for path in (place, *place.parents) if path.exists())
    good = os.access(nearest, os.W_OK)
    return good, f"the index of runs is {place}" + ("" if good else ", which cannot be written: set XDG_STATE_HOME")


def _namespaces() -> Finding:
    program = shutil.which("unshare")
    if program is None:
        return True, "`unshare` is not there: literal paths of foreign manifests are substituted, not mounted"
    tried = subprocess.run([program, "-Urm", "true"], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return True, "user and mount namespaces work: literal paths of foreign manifests are really mounted"
    return True, f"no user namespaces ({tried.stderr.strip()}): literal paths of foreign manifests are substituted"


def _hello() -> Finding:
    """Run a workflow of one step from its compilation to its node tree."""
    with tempfile.TemporaryDirectory(prefix="dflow-doctor-") as scratch:
        program = Path(scratch, "probe.py")
        program.write_text(_PROBE)
        run = subprocess.run(
            [sys.executable, "-m", "dflow_hpc.cli.main", "run", "--plain", "-o", "json", str(program)],
            cwd=scratch,
            env={**os.environ, "XDG_STATE_HOME": scratch, "DFLOW_MODE": "debug", "DFLOW_DEBUG_WORKDIR": scratch},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    if run.returncode:
        return False, "a workflow of one step failed:\n    " + "\n    ".join(
            (run.stderr or run.stdout).splitlines()[-15:]
        )
    nodes = json.loads(run.stdout)["status"]["nodes"].values()
    values = [p["value"] for node in nodes if node["type"] == "Pod" for p in node["outputs"]["parameters"]]
    return values == ["42"], f"a workflow of one step ran and gave {', '.join(values)}"


_PROBE = """\
from dflow_hpc import OP, OPIO, OPIOSign, PythonOPTemplate, Step, Workflow


class Probe(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"twice": int})

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO({"twice": 2 * op_in["n"]})


wf = Workflow("doctor")
wf.add(Step("probe", PythonOPTemplate(Probe), parameters={"n": 21}))
wf.submit()
"""


@click.command("doctor")
@click.option(
    "--engine",
    type=click.Choice(["local", "argo"]),
    help="What is to run them: this machine or Argo; as the settings say (mode) unless given.",
)
def doctor_command(engine: str | None) -> int:
    """Check that workflows can run, here or on Argo, down to a real one."""
    well = True
    for good, text in _findings(is_local() if engine is None else engine == "local"):
        click.echo(f"{'ok ' if good else 'BAD'} {text}")
        well = well and good
    return 0 if well else 1


def _findings(local: bool) -> Iterator[Finding]:
    if local:
        for check in (_python, _directory, _state, _namespaces, _hello):
            yield check()
        return
    from dflow_hpc.engines.argo.doctor import examine
    from dflow_hpc.engines.argo.engine import ArgoEngine

    yield _python()
    yield from examine(ArgoEngine())
