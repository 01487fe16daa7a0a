"""One session of a run on the clusters, with at most one fault planned at a named point.

    python tests/campaign/far_client.py RUN_DIRECTORY FAULTS_DIRECTORY

Whoever disturbs writes ``plan.json`` there: ``{"point": ..., "skip": n, "do": ...}``; when it was done it is
``hit.json``.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig.fixtures import run_ctl

from dflow_hpc.engines.local.engine import LocalEngine
from dflow_hpc.errors import HostUnreachable
from dflow_hpc.executors import faults


class Plan:
    """The fault that is planned, if one is."""

    def __init__(self, directory):
        self.file = directory / "plan.json"
        self.passed = {}

    def at(self, name):
        """Do what is planned when its point is passed."""
        try:
            text = self.file.read_text()
        except FileNotFoundError:
            return
        plan = json.loads(text)
        machine = machine_of(sys._getframe(2).f_locals.get("self"))
        if plan["point"] != name or plan.get("machine", machine) != machine:
            return
        self.passed[text] = self.passed.get(text, 0) + 1
        if self.passed[text] <= plan["skip"]:
            return
        try:
            self.file.rename(self.file.with_name("hit.json"))
        except FileNotFoundError:  # it was withdrawn, or another thread was quicker
            return
        for word in plan["do"].split():
            getattr(self, word)(plan.get("cluster") or plan.get("clusters", {}).get(machine))

    def kill(self, _machine):
        """Die at once."""
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def lose(self, _machine):
        """Let the answer, or the question, be lost."""
        raise HostUnreachable("the campaign lost this")

    def cut(self, cluster):
        """Cut all links."""
        run_ctl("cut", cluster)

    def cut_soon(self, cluster):
        """Cut all links while what is about to be asked is under way."""
        threading.Thread(target=run_ctl, args=("cut", cluster)).start()

    def stop(self, cluster):
        """Make the machine unreachable."""
        run_ctl("stop", cluster, "sshd")
        run_ctl("cut", cluster)

    def fill(self, cluster):
        """Use up the quota."""
        run_ctl("fill", cluster)


def machine_of(passing):
    """Return the machine's name of who passes a point; None where it is not known there."""
    name = getattr(getattr(passing, "_machine", None), "name", None) or getattr(passing, "name", None)
    return name and name.split(",")[0]  # a broker has the names of all profiles of its account


if __name__ == "__main__":
    faults.hook = Plan(Path(sys.argv[2])).at
    LocalEngine().resume(sys.argv[1])
