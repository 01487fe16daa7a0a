"""Slices of a real Argo through one gateway to a real Slurm; ``--kills`` kills pods and the gateway meanwhile.

    python tests/campaign/bridge.py --slices 500
    python tests/campaign/bridge.py --slices 60 --kills 50 --seed 1

Without kills it prints logins and queue queries against the time that it took (one login, at most a query each five
seconds); with them it says whether each slice ran once and gave one result. A kill is one of: a pod that is gone at
once (with its node), a pod that is told to end (evicted), a gateway that dies and comes back some seconds later. A seed
gives the same choices again (what they meet is the clusters' affair).

It needs both rigs (root, Debian 12).
"""

import argparse
import os
import random
import re
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from dflow_hpc import PythonOPTemplate, Slices, Step, Workflow, config
from dflow_hpc.manifest.view import COMPLETED

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "argo"))
sys.path.insert(0, str(Path(__file__).parent))
import bridge_op
from gateways import GatewayProcess, lines, profile
from rig.fixtures import kubernetes, run_ctl, slurm_clusters

PATIENCE = 3600
KINDS = {"pod gone": 5, "pod evicted": 3, "gateway killed": 2}
LOOK = 5.0


class Kills:
    """Kills at random, until there were enough or the workflow has ended.

    Args:
        kube: The Kubernetes.
        gateway: The gateway.
        workflow: Name of the Workflow.
        rng: Random numbers.
    """

    def __init__(self, kube, gateway, workflow, rng):
        self._kube = kube
        self._gateway = gateway
        self._workflow = workflow
        self._rng = rng
        self.done = Counter()

    def one(self):
        """Kill something; whether there was anything to kill."""
        kind = self._rng.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "gateway killed":
            self._gateway.kill()
            time.sleep(self._rng.uniform(0, 10))  # how long it takes to come back
            self._gateway.start()
        else:
            selector = f"--selector=workflows.argoproj.io/workflow={self._workflow}"
            alive = ("--field-selector=status.phase=Running", "--output=name")
            pods = self._kube.kubectl("get", "pods", selector, *alive).split()
            if not pods:
                return False
            how = ("--force", "--grace-period=0") if kind == "pod gone" else ()
            self._kube.kubectl("delete", self._rng.choice(pods), "--wait=false", *how)
        self.done[kind] += 1
        return True


def submit(arguments, room):
    """Submit the slices; the workflow."""
    template = PythonOPTemplate(
        bridge_op.wait,
        slices=Slices(input_parameter=["n"], output_parameter=["square"]),
        retry_on_error=arguments.kills or None,
    )
    parameters = {"n": list(range(arguments.slices)), "room": room, "seconds": arguments.seconds}
    workflow = Workflow("bridge-campaign", parallelism=arguments.at_once)
    workflow.add(Step("many", template, parameters=parameters, executor="cpu"))
    workflow.submit()
    return workflow


def watch(kube, workflow, kills, arguments):
    """Look on, and kill, until it has ended; its phase."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        text = kube.kubectl("get", "workflow", workflow.id, "--output=jsonpath={.status.phase} {.status.progress}")
        phase = text.split()[0] if text.split() else "Pending"
        print(f"{time.strftime('%H:%M:%S')} {text} {dict(kills.done)}", flush=True)
        if phase in COMPLETED:
            return phase
        if sum(kills.done.values()) < arguments.kills and kills.one():
            continue
        time.sleep(LOOK)
    return "too slow"


def problems(workflow, phase, gateway, room, slices):
    """Return what is not as it must be."""
    found = [] if phase == "Succeeded" else [f"the workflow ended as {phase}"]
    for word in ("started", "ended"):
        counts = Counter(lines(room / word))
        odd = {n: counts[str(n)] for n in range(slices) if counts[str(n)] != 1}
        found += [f"{word} other than once: {odd}"] if odd else []
    jobs = {key: len(leaf.jobs) for key, leaf in gateway.leaves().items() if len(leaf.jobs) != 1}
    found += [f"leaves with other than one attempt in the journal: {jobs}"] if jobs else []
    done = workflow.query_step(name="many", type="Pod", phase="Succeeded")
    values = sorted(value for step in done for value in step.outputs.parameters["square"].value)
    if values != [n * n for n in range(slices)]:
        found.append(f"the results are {values}")
    return found


def main():
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=100, help="pods at once")
    parser.add_argument("--seconds", type=int, default=20, help="that a slice takes")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with slurm_clusters() as clusters, kubernetes() as kube, tempfile.TemporaryDirectory() as name:
        run_ctl("ours", rig="kube", timeout=1800)
        cpu, path = clusters["cpu"], Path(name)
        room = f"bridge-{secrets.token_hex(4)}"
        cpu.ok(f"mkdir {cpu.root}/{room}")
        (path / "machines.toml").write_text(profile(cpu, fast=2.0))
        os.environ["DFLOW_MACHINES"] = str(path / "machines.toml")
        config.update(mode="argo", k8s_config_file=kube.kubeconfig, namespace=kube.namespace)
        gateway = GatewayProcess(kube, path / "gateway", "cpu", profile(cpu, fast=2.0)).start()
        try:
            began = time.monotonic()
            workflow = submit(arguments, f"{cpu.root}/{room}")
            kills = Kills(kube, gateway, workflow.id, random.Random(arguments.seed))
            phase = watch(kube, workflow, kills, arguments)
            wall = time.monotonic() - began
        finally:
            said = gateway.stop()
            gateway.forget()
        found = problems(workflow, phase, gateway, cpu.root_here / room, arguments.slices)
        queries = sum(int(number) for number in re.findall(r"\bround (\d+)", said))
        print(
            f"{arguments.slices} slices in {wall:.0f} s, {gateway.lives} lives of the gateway; kills {dict(kills.done)}"
        )
        print("\n".join(line for line in said.splitlines() if "login" in line))
        print(f"queue queries {queries}, at most {wall / 5:.0f}: {'kept' if queries <= wall / 5 else 'NOT KEPT'}")
        print(f"problems: {'; '.join(found) or 'none'}")
        return bool(found) or (not arguments.kills and queries > wall / 5)


if __name__ == "__main__":
    sys.exit(main())
