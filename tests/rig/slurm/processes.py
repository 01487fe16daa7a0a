"""Hosts and daemons of the rig, as processes: started, found again, signalled and ended by recorded pid.

A *host* is a set of Linux namespaces (mount, UTS, IPC, PID) whose process 1 is ``host.sh``; the network stays the
machine's, so every daemon has a port of its own on loopback. A pid counts only together with the process's start time
(field 22 of /proc/PID/stat), so a number that was given away again is never signalled; a zombie counts as gone,
because who adopts the rig's processes may reap late.

Trap: what is entered with ``nsenter`` has a parent outside, which stops when it is paused and then never reaps it, and
a host cannot end before all in it are reaped. So a daemon is made a child of its host's process 1.
"""

import os
import select
import signal
import subprocess
import time
from pathlib import Path


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


def _children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _pid_inside(pid):
    """Return the pid, as text, that a process has in its own namespace; "" where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return next(line.split()[-1] for line in lines if line.startswith("NSpid:"))


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

    # Hosts

    def enter(self, host, command):
        """Return the command line that runs a command inside a host.

        Raises:
            RigError: The host is down.
        """
        pid = self.pid(f"host-{host}")
        if pid is None:
            raise RigError(f"the host {host} is down: start it with `ctl boot {host}`, or everything with `ctl up`")
        return ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--pid", "--", *command]

    def start_host(self, host, keeper, env):
        """Start a host from the mount namespace of the process named ``keeper``, and wait until it is laid out."""
        name = f"host-{host}"
        if self.pid(name):
            return
        ready = self.run / f"{host}.ready"
        ready.unlink(missing_ok=True)
        outside = ["nsenter", f"--target={self.pid(keeper)}", "--mount", "--"]
        unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL"]
        script = Path(__file__).with_name("host.sh")
        command = [*outside, *unshare, "--propagation=private", "sh", str(script)]
        process = self.spawn(name, command, {**env, "HOST": host})
        wait(
            name,
            lambda: process.poll() is not None or (ready.exists() and ready.stat().st_size),
            20,
            lambda: self.tail(name),
        )
        # Process 1 of the host counts, not `unshare`, which waits for it.
        self._record(name, next(iter(_children(process.pid)), process.pid))

    def stop_host(self, host):
        """Pull a host's plug: with its process 1 everything in it is killed, and gone when this returns."""
        self.stop(f"host-{host}", signal.SIGKILL)
        for name in self.names():
            if name.endswith(f".{host}"):
                (self.run / f"{name}.pid").unlink()

    def daemon(self, name, host, command, user=None):
        """Start a daemon that stays in the foreground, as ``name.host``; nothing happens where it runs already."""
        full = f"{name}.{host}"
        if self.pid(full):
            return
        if user:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        # The shell says which pid it has there, and becomes the daemon.
        command = ["setsid", "--fork", "sh", "-c", 'echo $$; exec "$@" >&2', "sh", *command]
        with self.log(full).open("ab") as log:
            answer = subprocess.run(
                self.enter(host, command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                timeout=20,
                check=False,
            )
        for pid in _children(self.pid(f"host-{host}")):
            if _pid_inside(pid) == answer.stdout.strip():
                self._record(full, pid)
                return
        raise RigError(f"{full} ended at once. {self.tail(full)}")

    def call(self, host, command, *, check=True, seconds=60):
        """Run a command in a host as root; return what it wrote on stdout and stderr together.

        Raises:
            RigError: With ``check``, where its exit code is not 0.
        """
        answer = subprocess.run(
            self.enter(host, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and answer.returncode:
            raise RigError(f"on {host}, {' '.join(command)!r} gave exit code {answer.returncode}: {answer.stdout}")
        return answer.stdout
