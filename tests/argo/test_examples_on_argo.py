"""Our examples on a real Argo and on the local engine: the same words and the same tree; and a program that polls."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from examples.test_examples import SAYS
from fidelity.trees import differences
from rig.fixtures import run_ctl

from dflow_hpc.manifest.ids import pod_name

pytestmark = pytest.mark.rig
EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 600
CHANCE = {"retry"}
"""Examples whose tree is another one each time."""

POLLING = """
import time

from dflow_hpc import OP, PythonOPTemplate, Step, Workflow


@OP.function
def double(n: int) -> {"double": int}:
    return {"double": 2 * n}


if __name__ == "__main__":
    wf = Workflow(name="polling")
    wf.add(Step("double", PythonOPTemplate(double), parameters={"n": 21}))
    wf.submit()
    try:
        print("early:", wf.query_step(name="double", phase="Succeeded")[0])
    except IndexError as error:
        print("early:", error)
    while wf.query_status() in ["Pending", "Running"]:
        time.sleep(1)
    assert wf.query_status() == "Succeeded"
    print("double:", wf.query_step(name="double")[0].outputs.parameters["double"].value)
"""


def _run(directory, kube, *words):
    """Run a Python program, with settings that name the rig; what it wrote."""
    directory.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=directory,
        env={**os.environ, "DFLOW_K8S_CONFIG_FILE": kube.kubeconfig, "DFLOW_NAMESPACE": kube.namespace},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def _example(name, engine, directory, kube):
    """Run an example; what it said, and the Workflow."""
    words = ("run", f"--engine={engine}", "--output=json", EXAMPLES / f"{name}.py")
    done = _run(directory / f"{name}-{engine}", kube, "-m", "dflow_hpc.cli.main", *words)
    return done.stderr, json.loads(done.stdout)


def _without_names(workflow):
    """Return the status of a run with its name, ids of nodes and names of pods replaced by what they stand for."""
    name = workflow["metadata"]["name"]
    known = {name: "run"}
    for key, node in workflow["status"]["nodes"].items():
        plain = node["name"].replace(name, "run", 1)
        known |= {key: plain, pod_name(name, node["name"], node.get("templateName", "")): f"pod of {plain}"}
    names = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True))))
    return json.loads(names.sub(lambda found: json.dumps(known[found[0]])[1:-1], json.dumps(workflow["status"])))


def test_every_example_gives_on_argo_what_it_gives_here(kube_rig, tmp_path):
    run_ctl("name", "alpine:3.20", rig="kube")
    with ThreadPoolExecutor(len(SAYS)) as pool:
        runs = {name: pool.submit(_example, name, "argo", tmp_path, kube_rig) for name in SAYS}
    wrong = {}
    for name, says in SAYS.items():
        (there, theirs), (here, ours) = runs[name].result(), _example(name, "local", tmp_path, kube_rig)
        assert says in there
        assert says in here
        if name not in CHANCE:
            wrong[name] = differences(_without_names(theirs), _without_names(ours))
    assert {name: lines for name, lines in wrong.items() if lines} == {}


def test_a_program_that_polls_as_dflows_users_do(kube_rig, tmp_path, monkeypatch):
    monkeypatch.setenv("DFLOW_MODE", "argo")
    file = tmp_path / "polling.py"
    file.write_text(POLLING)
    early, last = _run(tmp_path, kube_rig, file).stdout.splitlines()
    assert re.fullmatch(r"early: .* has 0 of these: name='double', phase='Succeeded'\. Wait for its end.*", early)
    assert last == "double: 42"
