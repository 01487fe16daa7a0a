"""Processes of a rig: started, found again, signalled and ended by recorded pid; and the packages that they come from.

A pid counts only together with the process's start time (field 22 of /proc/PID/stat), so a number that was given away
again is never signalled; a zombie counts as gone, because who adopts the rig's processes may reap late.

Not here: which processes (``slurm/rig.py``, ``kube/rig.py``).
"""

import os
import select
import signal
import subprocess
import time
from pathlib import Path

SECONDS_TO_INSTALL = 900


class RigError(Exception):
    """The rig is not as it was asked to be; the text says what to look at."""


def wait(what, ready, seconds, hint=""):
    """Wait until ``ready()`` is true: other programs' readiness gives no event that could be waited for.

    Args:
        what: What is waited for, for the message.
        ready: Function without arguments.
        seconds: How long at most.
        hint: Where to look when it does not come.

    Raises:
        RigError: It did not come.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise RigError(f"{what} did not come within {seconds} s. {hint() if callable(hint) else hint}".rstrip())
        time.sleep(0.1)


def _start_time(pid):
    """Return a living process's start time in clock ticks since boot; None for a zombie or none at all."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


class Processes:
    """The processes of one rig, recorded under ``run``."""

    def __init__(self, run):
        """Keep the records in the directory ``run``."""
        self.run = run

    def names(self):
        """Return the names of all that was started and not stopped since, dead or alive."""
        return sorted(file.stem for file in self.run.glob("*.pid"))

    def pid(self, name):
        """Return the pid of a process that lives and was started here, else None."""
        try:
            pid, started = map(int, (self.run / f"{name}.pid").read_text().split())
        except FileNotFoundError:
            return None
        return pid if _start_time(pid) == started else None

    def log(self, name):
        """Return the file with what a process said."""
        return self.run / f"{name}.log"

    def tail(self, name):
        """Return the last lines that a process said, for messages."""
        lines = self.log(name).read_text(errors="replace").splitlines() if self.log(name).exists() else []
        return f"{name} said: " + ("\n".join(lines[-5:]) or "nothing")

    def _record(self, name, pid):
        started = _start_time(pid)
        if started is None:
            raise RigError(f"{name} ended at once. {self.tail(name)}")
        (self.run / f"{name}.pid").write_text(f"{pid} {started}\n")

    def spawn(self, name, command, env=None):
        """Start a process in its own session and record it; nothing happens where it runs already.

        Returns:
            The Popen, or None where it ran already.
        """
        if self.pid(name):
            return None
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=env
            )
        self._record(name, process.pid)
        return process

    def send(self, name, number):
        """Send a signal; a process that is gone is no error."""
        if pid := self.pid(name):
            os.kill(pid, number)

    def stop(self, name, number=signal.SIGTERM, seconds=15):
        """Signal a process, wait until it is gone, kill it when it does not go, and forget it."""
        if pid := self.pid(name):
            handle = os.pidfd_open(pid)
            try:
                # A paused one would answer nothing but a kill.
                for one in (number, signal.SIGCONT):
                    signal.pidfd_send_signal(handle, one)
                if not select.select([handle], [], [], seconds)[0]:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    select.select([handle], [], [], seconds)
            except ProcessLookupError:
                pass  # it went meanwhile: what was wanted
            finally:
                os.close(handle)
        (self.run / f"{name}.pid").unlink(missing_ok=True)


def install(packages):
    """Install those of these Debian packages that are missing, without starting their services."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    missing = [name for name in packages if f"{name} installed" not in done]
    if not missing:
        return
    policy = Path("/usr/sbin/policy-rc.d")  # asked by Debian's packages before they start a service
    made = not policy.exists()
    if made:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            answer = subprocess.run(
                ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS_TO_INSTALL,
                check=False,
            )
            if answer.returncode:
                raise RigError(f"apt-get {' '.join(command)} gave {answer.returncode}: {answer.stdout[-2000:]}")
    finally:
        if made:
            policy.unlink()
