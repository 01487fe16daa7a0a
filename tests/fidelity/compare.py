"""Compare the node trees of the local engine with those that the real Argo recorded.

    python tests/fidelity/compare.py --goldens DIR --manifests DIR [NAME...]

A golden is a JSON file ``{"source": "examples/x.yaml", "status": {...}}``; its manifest lies under ``--manifests`` at
``source`` and is run under the recorded workflow name, because the name is in every id. For each one line is printed:
equal, or what differs, or why it was refused. Leaves run as processes of this host: images are ignored, and the few
programs that they bring lie in ``bin/``.

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

from dflow_hpc.engines.local.interpreter import Interpreter
from dflow_hpc.engines.local.tree import NodeTree, timestamp
from dflow_hpc.engines.local.workers import LocalLeafHost
from dflow_hpc.errors import ManifestError
from dflow_hpc.manifest.refuse import refused
from dflow_hpc.manifest.text import load

BIN = Path(__file__).parent / "bin"
COMPARED = ("name", "type", "phase", "message", "templateName", "boundaryID")
LOCATIONS = ("s3", "http", "git", "gcs", "oss", "azure", "hdfs", "artifactory")

RANDOM = {
    "coinflip": "a coin is flipped",
    "coinflip-recursive": "a coin is flipped",
    "conditional-artifacts": "a coin is flipped",
    "conditional-parameters": "a coin is flipped",
    "conditionals-complex": "a coin is flipped",
    "custom-metrics": "an exit code is drawn",
    "dag-coinflip": "a coin is flipped",
    "dag-conditional-artifacts": "a coin is flipped",
    "dag-conditional-parameters": "a coin is flipped",
    "dag-custom-metrics": "an exit code is drawn",
    "loops-param-result": "",
    "retry-backoff": "an exit code is drawn",
    "retry-container-to-completion": "an exit code is drawn",
    "retry-container": "an exit code is drawn",
    "retry-script": "an exit code is drawn",
    "retry-with-steps": "an exit code is drawn",
    "scripts-bash": "a number is drawn",
    "scripts-python": "a number is drawn",
}
"""Manifests that draw lots; of these only what does not depend on it can be equal."""


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
    """Run a workflow to its end and return its tree."""
    tree = NodeTree(workflow["metadata"]["name"])
    host = LocalLeafHost(folder / "run", store={"workdir": str(folder), "artifact_dir": "."}, workers=16, grace=1.0, runtime="host")
    await host.start()
    try:
        await asyncio.wait_for(Interpreter(workflow, tree, host, resources=resources).run(), 300)
    finally:
        await host.close()
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
    return [nodes[id]["name"] if id in nodes else id for id in ids or ()]


def differences(golden: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    """Tell what differs, one line each."""
    for key in ("phase", "message"):
        if (golden.get(key) or None) != (ours.get(key) or None):
            yield f"workflow {key}: {golden.get(key)!r} / {ours.get(key)!r}"
    theirs, mine = golden.get("nodes") or {}, ours.get("nodes") or {}
    for id in theirs.keys() - mine.keys():
        yield f"missing: {theirs[id]['name']} ({theirs[id]['type']} {theirs[id]['phase']})"
    for id in mine.keys() - theirs.keys():
        yield f"extra: {mine[id]['name']} ({mine[id]['type']} {mine[id]['phase']} {mine[id].get('message')})"
    for id in theirs.keys() & mine.keys():
        a, b = theirs[id], mine[id]
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


def compare(path: Path, manifests: Path, resources: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Return the verdict on one golden, and what differs."""
    golden = json.loads(path.read_text())
    text = (manifests / golden["source"]).read_text()
    workflow = load(text).workflows[0]
    name = recorded_name(golden["status"], workflow)
    workflow["metadata"].update(name=name, uid="0", creationTimestamp=timestamp(time.time()))
    reasons = refused(workflow)
    if reasons:
        return "refused", reasons
    with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
        (Path(folder) / "run").mkdir()
        tree = asyncio.run(interpret(workflow, [*resources, *limits(text)], Path(folder)))
    found = sorted(differences(golden["status"], tree.status()))
    return ("differs" if found else "equal"), found


def recorded_name(status: dict[str, Any], workflow: dict[str, Any]) -> str:
    roots = [n["id"] for n in (status.get("nodes") or {}).values() if n["id"] == n["name"]]
    return roots[0] if roots else workflow["metadata"].get("name") or workflow["metadata"]["generateName"] + "x"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", type=Path, required=True)
    parser.add_argument("--manifests", type=Path, required=True)
    parser.add_argument("--differences", type=int, default=6, help="how many to print of each")
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
        verdict, lines = compare(path, options.manifests, resources)
        if verdict == "differs" and RANDOM.get(name):
            verdict = "random"
        counts[verdict] = counts.get(verdict, 0) + 1
        print(
            f"{verdict:8} {name} ({time.monotonic() - began:.1f} s)"
            + (f": {RANDOM[name]}" if verdict == "random" else "")
        )
        for line in lines[: options.differences] if verdict in ("differs", "refused") or options.names else ():
            print(f"         {line}")
        sys.stdout.flush()
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
