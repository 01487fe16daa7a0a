"""Slices that are taken over bring their files, and nothing else, under a new key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dflow_hpc import S3Artifact, config, download_artifact
from dflow_hpc.errors import EngineError
from dflow_hpc.manifest.result import ArgoStep
from dflow_hpc.model.reuse import whole
from dflow_hpc.op import catalog
from dflow_hpc.storage.store import store_for


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An artifact that three slices have filled."""
    monkeypatch.setitem(config, "debug_workdir", str(tmp_path / "runs"))
    tree = tmp_path / "tree"
    for number in range(3):
        (tree / "d").mkdir(parents=True, exist_ok=True)
        (tree / "d" / f"{number}.txt").write_text(str(number))
        catalog.write(tree, [catalog.Entry(f"d/{number}.txt", number)])
    store_for().put(tree, "old/pod/files", archive="none")
    return "old/pod"


def leaf(number: int, prefix: str, key: str | None = None) -> ArgoStep:
    values = {"dflow_key": f"s-{number}", "dflow_var_0": str(number), "dflow_artifact_key": prefix}
    values["dflow_group_key"] = "s-group-init-artifact"
    return ArgoStep(
        {
            "templateName": "leaf",
            "inputs": {"parameters": [{"name": name, "value": value} for name, value in values.items()]},
            "outputs": {
                "parameters": [{"name": "r", "value": "1"}],
                "artifacts": [{"name": "files", "s3": {"key": key or f"{prefix}/files"}}],
            },
        },
        "old",
    )


def run(_: str) -> dict[str, Any]:
    record = {"slices": {"slices": "${dflow_var_0}", "output_artifact": ["files"]}}
    old = {
        "displayName": "s-init-artifact",
        "inputs": {"parameters": [{"name": "dflow_key", "value": "s-group-init-artifact"}]},
        "outputs": {
            "parameters": [{"name": "dflow_nslices", "value": "3"}, {"name": "dflow_artifact_key", "value": "old/pod"}]
        },
    }
    template = {"name": "leaf", "metadata": {"annotations": {"dflow-hpc/op": json.dumps(record)}}}
    return {"metadata": {"name": "old"}, "spec": {"templates": [template]}, "status": {"nodes": {"n": old}}}


def test_only_the_files_of_the_slices_that_are_taken_over(prefix: str, tmp_path: Path) -> None:
    steps = [leaf(0, prefix), leaf(2, prefix)]
    *kept, helper = whole(steps, run)
    assert kept == steps
    assert helper.key == "s-group-init-artifact"
    outputs = helper.argo_outputs()
    values = {item["name"]: item["value"] for item in outputs["parameters"]}
    assert values["dflow_nslices"] == "3"
    key = outputs["artifacts"][0]["s3"]["key"]
    assert key == values["dflow_artifact_key"] + "/files"
    paths = download_artifact(S3Artifact(key), path=tmp_path / "here")
    assert [Path(path).read_text() for path in paths] == ["0", "2"]
    assert not store_for().exists(f"{key}/d/1.txt")
    assert store_for().exists(f"{prefix}/files/d/1.txt")


def test_an_artifact_that_the_author_replaced_takes_the_place_of_the_slice(prefix: str, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "x.txt").write_text("x")
    catalog.write(new, [catalog.Entry("x.txt", 0)])
    store_for().put(new, "upload/new", archive="none")
    *_, helper = whole([leaf(0, prefix), leaf(1, prefix, key="upload/new")], run)
    paths = download_artifact(S3Artifact(helper.argo_outputs()["artifacts"][0]["s3"]["key"]), path=tmp_path / "here")
    assert [Path(path).read_text() for path in paths] == ["0", "x"]


def test_steps_without_slices_are_taken_as_they_are_and_a_lost_manifest_is_named(prefix: str) -> None:
    plain = ArgoStep({"inputs": {"parameters": [{"name": "dflow_key", "value": "a"}]}}, "old")
    assert whole([plain], run) == [plain]
    with pytest.raises(EngineError, match="says nothing of its slices"):
        whole([leaf(0, prefix)], lambda name: {**run(name), "spec": {"templates": []}})
