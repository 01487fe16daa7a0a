"""Each file in examples/: its manifest is the golden one and valid for Argo, and it runs and says what it should.

Goldens are written anew with DFLOW_REGENERATE=1. What changes with every change of the package is left out of them:
digests of bundles and templates, and the text of the bootstrap.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dflow_hpc import S3Artifact
from tests.argo_schema import check

EXAMPLES = Path(__file__).parents[2] / "examples"
GOLDENS = Path(__file__).parent / "goldens"
SAYS = {
    "hello": "Hello, world!",
    "steps": "total: 25.0",
    "dag": "price: 150.0",
    "slices": "1 + 4 + 9 + 16 + 25 = 55",
    "conditional": "accepted at -3.5 eV",
    "recursion": "the square root of 2 is 1.414214",
    "artifacts": "text-0 1\ntext-1 2\ntext-2 3\n",
    "big_parameter": "highest: 96",
    "shell": "words: 9",
    "retry": "answer: 42",
    "exit_handler": "steps: work exit-handler-",
}


def load(path, monkeypatch):
    """Load an example without its ``__main__`` part."""
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def manifest_of(module):
    if hasattr(module, "workflow"):
        return module.workflow.to_dict()
    return module.make_workflow(S3Artifact("upload/texts")).to_dict()


def golden_text(manifest):
    """Return a manifest as text, without what depends on the version of the package."""
    for template in manifest["spec"]["templates"]:
        if "dflow-hpc/op" in template.get("metadata", {}).get("annotations", {}):
            template["script"]["source"] = "the bootstrap\n"
            record = json.loads(template["metadata"]["annotations"]["dflow-hpc/op"])
            template["metadata"]["annotations"]["dflow-hpc/op"] = {**record, "bundle": "digest"}
    text = yaml.safe_dump(manifest, sort_keys=True)
    text = re.sub(r"\b[0-9a-f]{64}\b", "digest", text)
    digests = {}
    return re.sub(
        r"(?<=[a-z]-)[0-9a-f]{10}\b", lambda found: digests.setdefault(found[0], f"digest{len(digests)}"), text
    )


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", sorted(SAYS))
def test_manifests(name, monkeypatch):
    manifest = manifest_of(load(EXAMPLES / f"{name}.py", monkeypatch))
    check(manifest)
    golden = GOLDENS / f"{name}.yaml"
    text = golden_text(manifest)
    if os.environ.get("DFLOW_REGENERATE") == "1":
        golden.write_text(text)
    assert yaml.safe_load(text) == yaml.safe_load(golden.read_text())


def run(tmp_path, *arguments):
    home = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    return subprocess.run(
        [sys.executable, "-m", "dflow_hpc.cli.main", "run", *arguments],
        cwd=tmp_path,
        env={**os.environ, **home},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", sorted(SAYS))
def test_runs(name, tmp_path):
    done = run(tmp_path, str(EXAMPLES / f"{name}.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAYS[name] in done.stdout


def test_a_foreign_manifest_runs(tmp_path):
    done = run(tmp_path, "--runtime", "host", str(EXAMPLES / "hello.yaml"), "-p", "name=you")
    assert done.returncode == 0, done.stdout + done.stderr
    [log] = [path for path in tmp_path.glob("hello-*/*/log.txt") if "Hello, you!" in path.read_text()]
    assert log.parent.joinpath("phase").read_text().strip() == "Succeeded"
