"""``machine check``: what a profile promises, proved in the order in which things fail for users.

Login, directory, scheduler, job; it stops at the first thing that is wrong, which it says on one screen with the way
out.

Not here: the other commands about machines (``machine.py``).

Trap: the login host is not where jobs run. What depends on the node (setup lines, Python, images, imports, the way to
the object storage) is asked in the job.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import Any

import click

from dflow_hpc.config import s3_config
from dflow_hpc.errors import DflowError, ExecutorError
from dflow_hpc.executors import runtimes, schedulers
from dflow_hpc.executors.broker import reasons
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.protocol import Cargo, Frame, Questions, Scripts, container_lines, leaf_files, unpack
from dflow_hpc.executors.schedulers import Accepted, JobScript, JobState, Phase, Refused, SchedulerSilent
from dflow_hpc.executors.transport import Transport, UnknownHost
from dflow_hpc.executors.urls import endpoint_url

_LEAST_FREE = 100 << 20
_MOST_SKEW = 60.0
_GRACE = 60.0
_POLL = 2.0


class Wrong(DflowError):
    """Something about a machine that must be mended first."""


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
        clock, python = f"{round(home.ahead):+d} s", home.python or "none"
        return f"directory {home.root}{free}; clock {clock}; python3 {python} at the login"

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
            found.append(f"arrays of up to {facts.max_array}" if facts.max_array > 1 else "no arrays")
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
            raise Wrong(
                f"the job ran on {marker['host']}, and {what}:\n{_indented(said)}\n    What jobs need comes from the "
                "setup lines and the images of the profile."
            )
        return f"a job ran on {marker['host']} and left its marker; {_indented(said).lstrip()}"

    def _submit(self, token: str) -> str:
        cargo, batch = Cargo(), f"check-{token}"
        there, scripts = self._scripts.leaf_directory(token), self._scripts.home().scripts
        probe = _PYTHON if self._machine.runtime == "none" else self._images(there, scripts)
        words = ["sh", "-c", f"({probe}\n) || exit\n{_EGRESS}", "probe", *self._modules]
        program = {"words": words, "directory": there, "env": _endpoint(self._machine)}
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

    def _images(self, there: str, scripts: str) -> str:
        """Return the script that tries each image of the profile, just as a leaf would run in it."""
        runtime = self._machine.containers
        program = runtimes.program_of(runtime.name)
        parts = [_TRY, f"command -v {program} >/dev/null || no_runtime {program}"]
        for number, image in enumerate(dict.fromkeys(runtime.images.values())):
            container = runtimes.Container(
                name=f"dflow-check-{os.urandom(8).hex()}",
                image=image,
                command=("sh", "-c", _PYTHON, "probe", *self._modules),
                args=(),
                variables={},
                mounts=((f"{there}/root/tmp", "/tmp"), (there, there)),  # noqa: S108  as a leaf's
                options=runtime.options,
            )
            lines = "\n".join(container_lines(container, runtime.name, scripts))
            parts.append(f"(\n{lines}\n) >said.{number} 2>&1\ntell $? {shlex.quote(image)} said.{number}")
        parts.append(f"finish {shlex.quote(self._machine.name)}")
        return "\n".join(parts)

    def _wait(self, token: str, taken: str, room: Path) -> dict[str, Any]:
        until, seen_last, shown = time.monotonic() + self._timeout, time.monotonic(), ""
        changed = seen_last
        while time.monotonic() < until:
            reply = self._scripts.ask(Questions(run={"queue": self._scheduler.queue([taken])}, wait_for=[token]))
            if reply.ended:
                unpack(reply.outputs, lambda name: room.joinpath(*PurePosixPath(name).parts[2:]))
                marker: dict[str, Any] = json.loads(Path(room, "exit.json").read_text())
                return marker
            state = self._state(reply.ran["queue"], taken)
            if state is not None and state.phase is not Phase.ENDED:
                seen_last = time.monotonic()
            reason = f" ({state.reason})" if state is not None and state.reason not in ("", "None") else ""
            text = "left the queue" if state is None else state.word + reason
            if text != shown:
                click.echo(f"    {text}")
                shown, changed = text, time.monotonic()
            waits = state is not None and state.phase is Phase.PENDING and time.monotonic() - changed > _GRACE
            if waits and (meaning := reasons.meaning(text)):
                self._give_up(token, taken)
                raise Wrong(f"job {taken} waits in vain: {text}: {meaning}. It was cancelled.")
            if time.monotonic() - seen_last > _GRACE:
                raise Wrong(
                    f"job {taken} left the queue ({text}) and no marker came within {_GRACE:.0f} s. Is "
                    f"{self._scripts.home().root} on a file system that the compute nodes see, too? What the job said "
                    f"is in {self._scripts.batch_directory('check-' + token)} there."
                )
            time.sleep(_POLL)
        self._give_up(token, taken)
        raise Wrong(
            f"job {taken} did not end within {self._timeout:.0f} s; its last state was {shown or 'not shown'}. It was "
            "cancelled. If the queue is only long, give a longer --timeout; else look at the reason above."
        )

    def _give_up(self, token: str, taken: str) -> None:
        cancels = {f"cancel{n}": command for n, command in enumerate(self._scheduler.cancel([taken]))}
        self._scripts.ask(Questions(run=cancels, revoke=[token]))

    def _state(self, frame: Frame, taken: str) -> JobState | None:
        try:
            states = self._scheduler.read_queue(frame.rc, *_texts(frame))
        except SchedulerSilent as error:
            raise Wrong(f"the scheduler took a job, and its queue cannot be asked: {error}") from error
        return next((state for state in states if state.job == taken), None)


# Run on the node, or in an image there; "$@" are modules. 3: it works, and lacks something of Python's.
_PYTHON = """\
if ! command -v python3 >/dev/null; then
    echo "there is no python3: only commands can run, no Python OPs"
    [ $# -eq 0 ] || exit 3
    exit 0
fi
python3 - "$@" <<'EOF'
import sys
if sys.version_info < (3, 8):
    print("python3 is %s; Python OPs need 3.8 or later: load one in the setup lines" % sys.version.split()[0])
    sys.exit(3)
import importlib
bad = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        bad.append("import %s: %s: %s" % (name, type(error).__name__, error))
print("python3 is %s (%s)" % (sys.version.split()[0], sys.executable) if not bad else "\\n".join(bad))
sys.exit(3 if bad else 0)
EOF
"""
_TRY = """\
good=0 lacking=0 bad=0
no_runtime() {
    echo "there is no $1 on the node; load it in the setup lines, or change the runtime of the profile"
    exit 1
}
tell() {
    case $1 in
    0) good=$((good + 1)) ;;
    3) lacking=$((lacking + 1)) ;;
    *) bad=$((bad + 1)) ;;
    esac
    if [ -s trouble ]; then echo "$(cat trouble)"; else echo "image $2: $(tail -n 5 "$3")"; fi
    rm -f trouble runtime
}
finish() {
    [ $((good + lacking + bad)) -gt 0 ] || echo "no image was tried: [machine.$1.images] names none"
    [ "$bad" -eq 0 ] || exit 1
    [ "$lacking" -eq 0 ] || [ "$good" -gt 0 ]
}
"""
_EGRESS = """\
[ -n "$DFH_ENDPOINT" ] || exit 0
if ! command -v curl >/dev/null; then why="there is no curl there"
elif why=$(curl -sS -o /dev/null -m 20 "$DFH_ENDPOINT" 2>&1); then echo "it reaches $DFH_ENDPOINT"; exit
else why="it does not reach $DFH_ENDPOINT ($why)"
fi
if [ "$DFH_STAGING" = s3 ]
then
    echo "$why: set s3_endpoint in the profile to the storage's address as nodes see it, or staging = \\"ssh\\""
    exit 1
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
