"""Hosts of the rig: sets of Linux namespaces (mount, UTS, IPC, PID) whose process 1 is ``host.sh``, and their daemons.

The network stays the machine's, so every daemon has a port of its own on loopback.

Trap: what is entered with ``nsenter`` has a parent outside, which stops when it is paused and then never reaps it, and
a host cannot end before all in it are reaped. So a daemon is made a child of its host's process 1.
"""

import signal
import subprocess
from pathlib import Path

from processes import Processes, RigError, wait


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


class Hosts(Processes):
    """The processes of a rig that has hosts."""

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
