"""Compare the node trees of the local engine with those that the real Argo recorded.

    python tests/fidelity/compare.py --goldens DIR --manifests DIR [NAME...]

A golden is a JSON file ``{"source": "examples/x.yaml", "status": {...}}``; its manifest lies under ``--manifests`` at
``source`` and is run under the recorded workflow name, because the name is in every id. For each one line is printed:
equal, or what differs, or why it was refused. Leaves run as processes of this host: images are ignored, and the few
programs that they bring lie in ``bin/``. Manifests that draw lots are replayed: their leaves end as it was recorded.

Equal means: the workflow's phase, and for each node name, id, type, phase, message, templateName, boundaryID, children
(as a set under a DAG), inputs and outputs, locations of artifacts aside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dflow_hpc.engines.local.interpret.interpreter import Interpreter
from dflow_hpc.engines.local.interpret.tree import NodeTree, timestamp
from dflow_hpc.engines.local.work.workers import LocalLeafHost
from dflow_hpc.errors import ManifestError
from dflow_hpc.executors.leaf import LeafRequest, Outcome
from dflow_hpc.manifest.refuse import refused
from dflow_hpc.manifest.text import load

BIN = Path(__file__).parent / "bin"
COMPARED = ("name", "type", "phase", "message", "templateName", "boundaryID")
LOCATIONS = ("s3", "http", "git", "gcs", "oss", "azure", "hdfs", "artifactory")

RANDOM = frozenset(
    [
        "coinflip",
        "coinflip-recursive",
        "conditional-artifacts",
        "conditional-parameters",
        "conditionals-complex",
        "custom-metrics",
        "dag-coinflip",
        "dag-conditional-artifacts",
        "dag-conditional-parameters",
        "resubmit",
        "retry-backoff",
        "retry-conditional",
        "retry-container-to-completion",
        "retry-container",
        "retry-on-error",
        "retry-script",
        "retry-with-steps",
        "scripts-bash",
        "scripts-python",
        "template-defaults",
        "withsequence-nested-result",
        "dag-task-level-timeout",  # 15 s of sleep met a limit of 20 s, because the cluster was slow to start it
    ]
)
"""Manifests that depend on chance: their leaves end as it was recorded, and the rest must follow from that."""


class Replay:
    """Ends each leaf as the golden says that it ended.

    Args:
        nodes: The golden's.
    """

    def __init__(self, nodes: dict[str, Any]) -> None:
        self._nodes = nodes

    async def run(self, request: LeafRequest) -> Outcome:
        """Return the recorded outcome."""
        node = self._nodes.get(request.node_id)
        if node is None:
            return Outcome("Error", "Argo did not run this leaf")
        request.on_running()
        outputs = json.loads(json.dumps(node.get("outputs") or {}))
        for artifact in outputs.get("artifacts", ()):
            artifact["s3"] = {"key": f"{request.workflow_name}/{request.pod_name}/{artifact['name']}.tgz"}
        return Outcome(node["phase"], node.get("message") or "", outputs)


def documents(folder: Path) -> list[dict[str, Any]]:
    """Return every template and ConfigMap of the examples: they were applied to the cluster first."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*.y*ml")):
        try:
            found += load(path.read_text()).resources
        except ManifestError:
            continue  # other kinds; none of the goldens refers to them
    return found


def limits(manifest: str) -> list[dict[str, Any]]:
    """Return the ConfigMap ``my-config`` of the recording cluster: 1 for each key that is asked of it."""
    keys = set(re.findall(r"key:\s*(\S+)", manifest))
    return [{"kind": "ConfigMap", "metadata": {"name": "my-config"}, "data": dict.fromkeys(keys, "1")}]


async def interpret(workflow: dict[str, Any], resources: list[dict[str, Any]], folder: Path) -> NodeTree:
    """Run a workflow to its end with processes of this host, and return its tree."""
    tree = NodeTree(workflow["metadata"]["name"])
    store = {"workdir": str(folder), "artifact_dir": "."}
    host = LocalLeafHost(folder / "run", store=store, workers=16, grace=1.0, runtime="host")
    await host.start()
    try:
        await asyncio.wait_for(Interpreter(workflow, tree, host, resources=resources).run(), 300)
    finally:
        await host.close()
    return tree


async def replay(workflow: dict[str, Any], resources: list[dict[str, Any]], nodes: dict[str, Any]) -> NodeTree:
    """Interpret a workflow with the recorded outcomes of its leaves, without waiting for anything."""
    now = time.time()

    def clock() -> float:
        return now

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    tree = NodeTree(workflow["metadata"]["name"], clock=clock)
    await Interpreter(workflow, tree, Replay(nodes), resources=resources, clock=clock, sleep=sleep).run()
    return tree


def plain(entries: dict[str, Any] | None) -> dict[str, Any]:
    """Return inputs or outputs without the locations of artifacts."""
    made = dict(entries or {})
    for side in ("parameters", "artifacts"):
        if side in made:
            kept = [{k: v for k, v in entry.items() if k not in LOCATIONS} for entry in made[side]]
            made[side] = sorted(kept, key=lambda entry: entry["name"])
    return made


def names(ids: list[str] | None, nodes: dict[str, Any]) -> list[str]:
    return [nodes[key]["name"] if key in nodes else key for key in ids or ()]


def differences(golden: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    """Tell what differs, one line each."""
    for key in ("phase", "message"):
        if (golden.get(key) or None) != (ours.get(key) or None):
            yield f"workflow {key}: {golden.get(key)!r} / {ours.get(key)!r}"
    theirs, mine = golden.get("nodes") or {}, ours.get("nodes") or {}
    for key in theirs.keys() - mine.keys():
        yield f"missing: {theirs[key]['name']} ({theirs[key]['type']} {theirs[key]['phase']})"
    for key in mine.keys() - theirs.keys():
        yield f"extra: {mine[key]['name']} ({mine[key]['type']} {mine[key]['phase']} {mine[key].get('message')})"
    for key in theirs.keys() & mine.keys():
        yield from node_differences(theirs[key], mine[key], theirs, mine)


def node_differences(
    a: dict[str, Any], b: dict[str, Any], theirs: dict[str, Any], mine: dict[str, Any]
) -> Iterator[str]:
    """Tell what differs in a node, theirs first."""
    for key in COMPARED:
        if (a.get(key) or None) != (b.get(key) or None):
            yield f"{a['name']} {key}: {a.get(key)!r} / {b.get(key)!r}"
    for key in ("inputs", "outputs"):
        if plain(a.get(key)) != plain(b.get(key)):
            yield f"{a['name']} {key}: {json.dumps(plain(a.get(key)))} / {json.dumps(plain(b.get(key)))}"
    left, right = names(a.get("children"), theirs), names(b.get("children"), mine)
    boundary = theirs.get(a.get("boundaryID"), a)
    if a["type"] in ("DAG", "TaskGroup") or boundary["type"] == "DAG":
        left, right = sorted(left), sorted(right)
    if left != right:
        yield f"{a['name']} children: {left} / {right}"


def compare(path: Path, manifests: Path, resources: list[dict[str, Any]], replayed: bool) -> tuple[str, list[str]]:
    """Return the verdict on one golden, and what differs."""
    golden = json.loads(path.read_text())
    text = (manifests / golden["source"]).read_text()
    workflow = load(text).workflows[0]
    name = recorded_name(golden["status"], workflow)
    workflow["metadata"].update(name=name, uid="0", creationTimestamp=timestamp(time.time()))
    reasons = refused(workflow)
    if reasons:
        return "refused", reasons
    known = [*resources, *limits(text)]
    if replayed:
        tree = asyncio.run(replay(workflow, known, golden["status"].get("nodes") or {}))
    else:
        with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
            (Path(folder) / "run").mkdir()
            tree = asyncio.run(interpret(workflow, known, Path(folder)))
    found = sorted(differences(golden["status"], tree.status()))
    if not found:
        return ("equal (replayed)" if replayed else "equal"), []
    return "differs", found


def recorded_name(status: dict[str, Any], workflow: dict[str, Any]) -> str:
    roots = [n["id"] for n in (status.get("nodes") or {}).values() if n["id"] == n["name"]]
    return roots[0] if roots else workflow["metadata"].get("name") or workflow["metadata"]["generateName"] + "x"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", type=Path, required=True)
    parser.add_argument("--manifests", type=Path, required=True)
    parser.add_argument("--differences", type=int, default=6, help="how many to print of each")
    parser.add_argument(
        "--replay", action="store_true", help="run no program: take the recorded outcomes of all leaves"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of goldens, without examples. and .json")
    options = parser.parse_args()
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    resources = documents(options.manifests / "examples")
    counts: dict[str, int] = {}
    for path in sorted(options.goldens.glob("*.json")):
        name = path.stem.removeprefix("examples.")
        if options.names and name not in options.names:
            continue
        began = time.monotonic()
        verdict, lines = compare(path, options.manifests, resources, options.replay or name in RANDOM)
        counts[verdict] = counts.get(verdict, 0) + 1
        print(f"{verdict:16} {name} ({time.monotonic() - began:.1f} s)")
        for line in lines[: options.differences]:
            print(f"                 {line}")
        sys.stdout.flush()
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
