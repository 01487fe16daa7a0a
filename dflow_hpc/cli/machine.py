"""``machine``: the profiles of machines; whether one works, down to a real job; whom to trust; what to remove.

``check`` goes through a profile in the order in which things fail for users: login, directory, scheduler, job. It stops
at the first thing that is wrong, which it says on one screen with the way out.

Trap: the login host is not where jobs run. What depends on the node (setup lines, Python, imports, the way to the
object storage) is asked in the job.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import click

from dflow_hpc.cli.profiles import import_command, profile_text
from dflow_hpc.compile.closure import foreign_imports
from dflow_hpc.config import s3_config
from dflow_hpc.errors import ConfigError, DflowError, ExecutorError
from dflow_hpc.executors import schedulers
from dflow_hpc.executors.machine import Machine, Machines, machine_files
from dflow_hpc.executors.protocol import Cargo, Frame, Questions, Scripts, leaf_files, unpack
from dflow_hpc.executors.schedulers import Accepted, JobScript, JobState, Phase, Refused, SchedulerSilent
from dflow_hpc.executors.transport import Transport, UnknownHost, open_transport
from dflow_hpc.executors.urls import endpoint_url

_LEAST_FREE = 100 << 20
_MOST_SKEW = 60.0
_GRACE = 60.0
_POLL = 2.0


@click.group("machine")
def machine_command() -> None:
    """Look at the profiles of machines, and prove that one works."""


machine_command.add_command(import_command)


def _profile(name: str) -> Machine:
    return Machines(machine_files()).get(name)


@machine_command.command("list")
def list_command() -> None:
    """List the profiles, and the files that they come from."""
    files = machine_files()
    machines = Machines(files)
    if not machines.names:
        click.echo("no profiles yet: write a table [machine.NAME] into machines.toml beside your script")
        return
    rows = [("NAME", "SCHEDULER", "HOST", "ROOT")]
    for name in machines.names:
        machine = machines.get(name)
        rows.append((name, machine.scheduler, machine.host or "(this host)", machine.root or "(default)"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    click.echo("from " + ", ".join(map(str, files)))


@machine_command.command("show")
@click.argument("name")
def show_command(name: str) -> None:
    """Print profile NAME with everything that it extends, as TOML."""
    click.echo(profile_text(name, dataclasses.asdict(_profile(name))))


@machine_command.command("trust")
@click.argument("name")
@click.option("--fingerprint", help="Accept just this one, without a question: SHA256:...")
def trust_command(name: str, fingerprint: str | None) -> int:
    """Show the host key of machine NAME (and of the hosts on the way to it), and store it if you say so.

    NAME may be USER@HOST[:PORT], for a machine that a program describes itself.
    """
    machine = Machine(name, host=name) if "@" in name else _profile(name)
    if machine.host is None or machine.transport == "local":
        click.echo(f"machine {name!r} is this host: there is no key to trust")
        return 0
    from dflow_hpc.executors.transport import paramiko

    while (key := paramiko.unknown_key(machine.host, machine.ssh_config, machine.ssh_options)) is not None:
        click.echo(f"{key.host}\nshows the {key.kind} key\n\n    {key.fingerprint}\n")
        if fingerprint is not None and fingerprint != key.fingerprint:
            raise UnknownHost(f"{fingerprint} was to be trusted, and another was shown. Nothing is stored.")
        if fingerprint is None and not click.confirm("Compare it with what the site publishes. Do you trust it?"):
            click.echo("nothing is stored")
            return 1
        click.echo(f"stored in {paramiko.store_key(key)}")
    click.echo(f"the host keys of machine {name!r} are known")
    return 0


@machine_command.command("clean")
@click.argument("name")
@click.option(
    "--days", type=click.IntRange(1), default=30, show_default=True, help="Age of what nobody has fetched; see below."
)
def clean_command(name: str, days: int) -> None:
    """Remove on machine NAME what no live run needs.

    Leaves whose outcome is safe go at once. Everything else goes when it did not change for --days, which must be
    longer than any of your jobs waits and runs.
    """
    machine = _profile(name)
    transport = open_transport(machine)
    try:
        removed = Scripts(transport, machine.root).clean(days)
    finally:
        transport.close()
    click.echo("removed: " + ", ".join(f"{number} {kind}" for kind, number in removed.items()))


@machine_command.command("check")
@click.argument("name")
@click.option("--import", "modules", multiple=True, help="A Python module that your OPs import; may be given again.")
@click.option(
    "--for",
    "script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Import what this script and its own modules import of others.",
)
@click.option("--no-job", is_flag=True, help="Do not submit a job.")
@click.option(
    "--timeout", type=click.IntRange(1), default=600, show_default=True, help="Seconds that the job may take to end."
)
def check_command(name: str, modules: tuple[str, ...], script: Path | None, no_job: bool, timeout: int) -> int:
    """Prove that machine NAME works: login, directory, scheduler, and a real job."""
    machine = _profile(name)
    if script is not None:
        found = foreign_imports(script)
        click.echo(f"{script} imports {', '.join(found) or 'nothing of others'}")
        modules = (*modules, *found)
    click.echo(f"machine {name}: {machine.describe()}")
    transport = open_transport(machine, login_pause=0.0)
    check = Check(machine, transport, modules, timeout)
    steps = [check.login, check.directory, check.scheduler, *([] if no_job else [check.job])]
    try:
        return 0 if all(_passes(step) for step in steps) else 1
    finally:
        transport.close()


class Wrong(DflowError):
    """Something about a machine that must be mended first."""


def _passes(step: Callable[[], str]) -> bool:
    try:
        click.echo(f"ok  {step()}")
    except (ExecutorError, ConfigError, Wrong) as error:
        click.echo(f"BAD {error}")
        return False
    return True


class Check:
    """The steps of ``check``; each returns what it found and raises what is wrong.

    Args:
        machine: The profile.
        transport: The way to it.
        modules: That the job imports.
        timeout: Seconds that the job may take.
    """

    def __init__(self, machine: Machine, transport: Transport, modules: tuple[str, ...], timeout: float):
        self._machine = machine
        self._transport = transport
        self._scripts = Scripts(transport, machine.root)
        self._scheduler = schedulers.get(machine.scheduler)
        self._modules = modules
        self._timeout = timeout

    def login(self) -> str:
        """Reach the machine."""
        try:
            answer = self._transport.run("id -un; uname -n; uname -sr", timeout=30)
        except UnknownHost as error:
            raise Wrong(f"{error}\n    dflow-hpc machine trust {self._machine.name}") from error
        lines = answer.out.decode(errors="replace").split("\n")
        if answer.rc or len(lines) < 3:
            raise Wrong(
                f"the login works, and a simple command does not (rc {answer.rc}): {_words(answer.out, answer.err)}"
            )
        user, host, system = lines[-4:-1] if len(lines) > 3 else lines
        return f"login as {user} on {host} ({system})"

    def directory(self) -> str:
        """Bring the scripts, and look at room and clock."""
        try:
            home = self._scripts.home()
        except ExecutorError as error:
            raise Wrong(
                f"{error}\n    root of the profile: {self._machine.root or '(default)'}. It must be a directory that "
                "you may write, with room and quota left, on a file system that the compute nodes see, too."
            ) from error
        if home.free is not None and home.free < _LEAST_FREE:
            raise Wrong(
                f"{home.root} has {home.free >> 20} MiB left. Make room (`dflow-hpc machine clean "
                f"{self._machine.name}`), or choose another root in the profile."
            )
        if abs(home.ahead) > _MOST_SKEW:
            raise Wrong(
                f"its clock differs by {home.ahead:+.0f} s from this host's: look-ups in accounting would miss jobs. "
                "Let one of them set its clock by NTP."
            )
        free = "" if home.free is None else f", {home.free / 2**30:.1f} GiB free"
        return f"directory {home.root}{free}; clock {home.ahead:+.0f} s; python3 {home.python or 'none'} at the login"

    def scheduler(self) -> str:
        """Ask the scheduler about itself."""
        frame = self._scripts.ask(Questions(run={"describe": self._scheduler.describe()})).ran["describe"]
        try:
            facts = self._scheduler.read_description(frame.rc, *_texts(frame))
        except SchedulerSilent as error:
            raise Wrong(
                f'{error}\n    scheduler = "{self._machine.scheduler}" in the profile; known are '
                f"{', '.join(schedulers.names())}. If it is right, its commands must be on the PATH that ssh gives to "
                f"commands: try `ssh {self._machine.host or 'HOST'} env`."
            ) from error
        accounting = {True: "with accounting", False: "without accounting", None: "accounting unknown"}
        found = [f"{self._machine.scheduler} {facts.version}".strip(), accounting[facts.accounting]]
        if facts.max_array is not None:
            found.append(f"arrays of up to {facts.max_array}")
        if facts.min_job_age is not None:
            found.append(f"ended jobs shown for {facts.min_job_age:.0f} s")
        return ", ".join(found)

    def job(self) -> str:
        """Run a job to its marker."""
        token = base64.b32encode(os.urandom(17))[:26].decode().lower() + "-1"
        taken = self._submit(token)
        click.echo(f"    job {taken} was accepted")
        with tempfile.TemporaryDirectory() as room:
            marker = self._wait(token, taken, Path(room))
            log = Path(room, "log.txt")
            said = log.read_text(errors="replace").strip() if log.exists() else ""
        self._scripts.ask(Questions(forget=[token]))
        if marker["rc"] or marker["stage"] != "main":
            what = marker["text"] or f"it ended with {marker['rc']}"
            raise Wrong(f"the job ran on {marker['host']}, and {what}:\n" + _indented(said))
        return f"a job ran on {marker['host']} and left its marker; {said}"

    def _submit(self, token: str) -> str:
        cargo, batch = Cargo(), f"check-{token}"
        program = {"words": ["sh", "-c", _PROBE, "probe", *self._modules], "env": _endpoint(self._machine)}
        there = self._scripts.leaf_directory(token)
        scripts = self._scripts.home().scripts
        files = leaf_files(program, here=Path("/nowhere"), there=there, scripts=scripts, setup=self._machine.setup)
        self._scripts.add_leaf(cargo, token, files)
        job = JobScript(
            name=f"{token}.check",
            comment="dflow-hpc/check",
            directory=self._scripts.batch_directory(batch),
            resources=self._machine.resources,
            body=self._scripts.body(batch),
        )
        script = self._scheduler.script(job)
        self._scripts.add_batch(cargo, batch, script, self._scheduler.submit("job.sh"), [token])
        frame = self._scripts.submit(cargo)[batch]
        answer = self._scheduler.submitted(frame.rc, *_texts(frame)) if frame.word == "answered" else None
        if isinstance(answer, Accepted):
            return answer.id
        if isinstance(answer, Refused):
            raise Wrong(
                f"the scheduler refused a job ({answer.failure.value}): {answer.message}\n    Look at queue, account, "
                "qos, memory, time and extra in the profile's resources; they gave these lines:\n"
                + _indented("\n".join(line for line in script.splitlines() if line.startswith(("#SBATCH", "#PBS"))))
            )
        raise Wrong(
            f"the submission was not answered clearly: {_words(frame.out, frame.err) or frame.word}. Try again."
        )

    def _wait(self, token: str, taken: str, room: Path) -> dict[str, Any]:
        until, seen_last, shown = time.monotonic() + self._timeout, time.monotonic(), ""
        while time.monotonic() < until:
            reply = self._scripts.ask(Questions(run={"queue": self._scheduler.queue([taken])}, wait_for=[token]))
            if reply.ended:
                unpack(reply.outputs, lambda name: room.joinpath(*PurePosixPath(name).parts[2:]))
                marker: dict[str, Any] = json.loads(Path(room, "exit.json").read_text())
                return marker
            state = self._state(reply.ran["queue"], taken)
            if state is not None and state.phase is not Phase.ENDED:
                seen_last = time.monotonic()
            text = "left the queue" if state is None else f"{state.word} {state.reason}".strip()
            if text != shown:
                click.echo(f"    {text}")
                shown = text
            if time.monotonic() - seen_last > _GRACE:
                raise Wrong(
                    f"job {taken} left the queue ({text}) and no marker came within {_GRACE:.0f} s. Is "
                    f"{self._scripts.home().root} on a file system that the compute nodes see, too? What the job said "
                    f"is in {self._scripts.batch_directory('check-' + token)} there."
                )
            time.sleep(_POLL)
        cancels = {f"cancel{n}": command for n, command in enumerate(self._scheduler.cancel([taken]))}
        self._scripts.ask(Questions(run=cancels, revoke=[token]))
        raise Wrong(
            f"job {taken} did not end within {self._timeout:.0f} s; its last state was {shown or 'not shown'}. It was "
            "cancelled. If the queue is only long, give a longer --timeout; else look at the reason above."
        )

    def _state(self, frame: Frame, taken: str) -> JobState | None:
        try:
            states = self._scheduler.read_queue(frame.rc, *_texts(frame))
        except SchedulerSilent as error:
            raise Wrong(f"the scheduler took a job, and its queue cannot be asked: {error}") from error
        return next((state for state in states if state.job == taken), None)


# Runs on the node: "$@" are modules.
_PROBE = """\
python() {
if ! command -v python3 >/dev/null; then
    echo "there is no python3 there: only commands can run, no Python OPs"
    [ $# -eq 0 ]
    return
fi
python3 - "$@" <<'EOF'
import importlib, sys
if sys.version_info < (3, 8):
    sys.exit("python3 there is %s; Python OPs need 3.8 or later: load one in the profile's setup lines" % sys.version)
bad = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        bad.append("import %s: %s: %s" % (name, type(error).__name__, error))
if bad:
    sys.exit("\\n".join(bad))
print("python3 there is %s (%s)" % (sys.version.split()[0], sys.executable))
EOF
}
python "$@" || exit
[ -n "$DFH_ENDPOINT" ] || exit 0
if ! command -v curl >/dev/null; then why="there is no curl there"
elif why=$(curl -sS -o /dev/null -m 20 "$DFH_ENDPOINT" 2>&1); then echo "it reaches $DFH_ENDPOINT"; exit
else why="it does not reach $DFH_ENDPOINT ($why)"
fi
if [ "$DFH_STAGING" = s3 ]
then echo "$why: set s3_endpoint in the profile to the storage's address as nodes see it, or staging = \"ssh\""; exit 1
else echo "$why: data go through this host"
fi
"""


def _endpoint(machine: Machine) -> dict[str, str]:
    """Return the object storage's address as the machine sees it, where one is set, and the profile's route."""
    wanted = machine.staging == "s3" or machine.s3_endpoint or s3_config.layer("endpoint") != "default"
    return {"DFH_ENDPOINT": endpoint_url(machine) if wanted else "", "DFH_STAGING": machine.staging}


def _texts(frame: Frame) -> tuple[str, str]:
    return frame.out.decode(errors="replace"), frame.err.decode(errors="replace")


def _words(out: bytes, err: bytes) -> str:
    return (err or out).decode(errors="replace").strip()[:1000]


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()[-20:])
