"""Every example of ours on a real Argo: it says the same, and leaves the same tree, as it does locally."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.rig
EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
RANDOM = ("retry",)
"""Draw lots: they end alike, by another way each time."""
SECONDS = 400


def _command(directory, environment, *words):
    answer = subprocess.run(
        [sys.executable, "-m", "dflow_hpc.cli.main", *words],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def _run(name, directory, **environment):
    """Run an example; what it printed itself, and its tree."""
    directory.mkdir()
    environment["XDG_STATE_HOME"] = str(directory / "state")
    said, _, summary = _command(directory, environment, "run", str(EXAMPLES / f"{name}.py")).partition("\nName:")
    workflow = summary.split()[0]
    shown = json.loads(_command(directory, environment, "get", workflow, "--output=json"))
    return said.strip(), _tree(json.loads(json.dumps(shown).replace(workflow, "workflow")))


def _tree(shown):
    """Return the phase and, by name, what each node of a workflow is. Ids follow from the workflow's name."""
    nodes = shown["status"]["nodes"]
    found = {
        node["name"]: {
            **{key: node.get(key) for key in ("type", "phase", "displayName", "templateName")},
            "children": sorted(nodes[key]["name"] for key in node.get("children") or ()),
            "parameters": _values(node, "inputs"),
            "results": _values(node, "outputs"),
            "artifacts": sorted(each["name"] for each in (node.get("outputs") or {}).get("artifacts") or ()),
        }
        for node in nodes.values()
    }
    return shown["status"]["phase"], found


def _values(node, side):
    return {each["name"]: each.get("value") for each in (node.get(side) or {}).get("parameters") or ()}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_gives_on_argo_what_it_gives_locally(kube_rig, tmp_path, name):
    said, (phase, nodes) = _run(name, tmp_path / "local")
    argo = {"DFLOW_MODE": "argo", "DFLOW_K8S_CONFIG_FILE": kube_rig.kubeconfig}
    said_there, (phase_there, nodes_there) = _run(name, tmp_path / "argo", **argo)
    assert phase_there == phase == "Succeeded"
    if name in RANDOM:
        return
    assert said_there == said
    assert nodes_there == nodes
