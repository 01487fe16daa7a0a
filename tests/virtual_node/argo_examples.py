"""Argo's own examples with their leaves on the virtual node: do their trees become those that a real kubelet gives?

    python tests/virtual_node/argo_examples.py      all that docs/fidelity.md calls equal (20 minutes)
    python tests/virtual_node/argo_examples.py NAME...      some of them, and all that differs
    python tests/virtual_node/argo_examples.py --record DIR     keep the trees; what is there is not run again

It needs what ``tests/rig/kube`` and ``tests/rig/slurm`` need. That page says that the local engine gives the trees of
these manifests that Argo gives with a real kubelet; so each tree is compared with the local engine's, by ``judge``.

Trap: images are ignored on the cluster's hosts; the few programs that they bring are put there.
"""

import argparse
import copy
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "fidelity"))
sys.path.insert(2, str(Path(__file__).resolve().parents[1] / "rig"))

import argo
import at_rig
import fixtures
import local
import real
import table

SOME = (
    *("arguments-parameters", "artifact-passing", "artifact-passing-subpath", "container-set-template-graph-workflow"),
    *("container-set-template-outputs-result-workflow", "container-set-template-workspace-workflow"),
    *("continue-on-fail", "dag-continue-on-fail", "dag-diamond", "exit-code-output-variable", "exit-handlers"),
    *("global-outputs", "hello-world", "init-container", "input-artifact-raw", "loops-maps", "loops-param-result"),
    *("output-parameter", "parameter-aggregation-script", "sidecar"),
)
"""The twenty that continuous integration runs."""
ELSEWHERE = {
    "intermediate-parameters": "one of its programs is in no image: a shell on the host says so by 127, Argo by 64",
    "map-reduce": "makes the directory of an output; on the host runtime the declared path alone is substituted",
    "node-selector": "its template says itself on which node it runs",
    "volumes-emptydir": "looks for a mounted volume; on the host runtime its path is substituted",
}
"""Of those that are equal: what cannot be the same on a virtual node, and why."""
PROGRAMS = "programs"


def equal():
    """Return the manifests that the page calls equal."""
    return re.findall(r"^\| `(\S+)` \| equal \|", table.PAGE.read_text(), re.MULTILINE)


def placed(workflow, cluster):
    """Return a Workflow whose pods run on a cluster's node."""
    found = copy.deepcopy(workflow)
    found["spec"] |= at_rig.there(cluster.name)
    return found


def run(names, kube, cluster, folder):
    """Run manifests on the virtual node; what differs from what they should give, by name.

    Args:
        names: Which.
        kube: The rig's Kubernetes.
        cluster: The cluster behind the node.
        folder: Where the trees are kept; those that are there are taken.
    """
    every, resources = argo.manifests(argo.examples()), argo.resources(argo.examples())
    real_argo = argo.RealArgo(kube)
    real_argo.prepare(resources, [every[name] for name in names])
    bring(cluster)
    setup = json.dumps(f'export PATH="{cluster.root}/{PROGRAMS}:$PATH"')
    rest = {name: placed(every[name], cluster) for name in names if not (folder / f"{name}.json").exists()}
    with at_rig.node(kube, cluster, folder, f"setup = [{setup}]"):
        real_argo.run(rest, lambda name, shown: real._keep(folder, name, shown))
    return {name: compared(name, every[name], folder, resources) for name in names}


def bring(cluster):
    """Put the programs of the examples' images on the cluster."""
    cluster.ok(f"mkdir -p {cluster.root}/{PROGRAMS}")
    programs = {program.name: program.read_text() for program in local.BIN.iterdir()}
    for name, text in {**programs, "python": '#!/bin/sh\nexec python3 "$@"\n'}.items():
        path = f"{cluster.root}/{PROGRAMS}/{name}"
        cluster.ok(f"cat >{path} && chmod 755 {path}", stdin=text)


def compared(name, workflow, folder, resources):
    """Return what is wrong with the tree of a manifest."""
    return real.judge(name, workflow, json.loads((folder / f"{name}.json").read_text()), resources).lines


def main():
    """Do what the command line says; 1 when a tree differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="DIR")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    names = options.names or [name for name in equal() if name not in ELSEWHERE]
    with argo.scratch(options.record) as folder, fixtures.kubernetes() as kube, fixtures.slurm_clusters() as clusters:
        found = run(names, kube, clusters["cpu"], folder)
    for name, lines in found.items():
        print("differs" if lines else "equal", name, *lines, sep="\n    " if lines else " ")
    wrong = [name for name, lines in found.items() if lines]
    print(f"{len(names) - len(wrong)} of {len(names)} equal; on a virtual node not tried: {', '.join(ELSEWHERE)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
