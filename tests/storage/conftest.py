import importlib.util
import json
from pathlib import Path

import pytest

from dflow_hpc.config import config, s3_config
from dflow_hpc.storage.local import LocalStore

_spec = importlib.util.spec_from_file_location("rig_s3", Path(__file__).parents[1] / "rig" / "s3.py")
_rig = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_rig)
s3_server = _rig.s3_server


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory of one's own, with local settings."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"mode": "debug", "debug_workdir": ".", "debug_artifact_dir": ".", "debug_s3": False}.items():
        monkeypatch.setitem(config, name, value)
    monkeypatch.setitem(config, "debug_copy_method", None)
    monkeypatch.setitem(s3_config, "storage_client", None)
    return tmp_path


@pytest.fixture
def store(here):
    """A local store with one run, ``wf``."""
    (here / "wf").mkdir()
    manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "wf"}, "spec": {}}
    (here / "wf" / "workflow.json").write_text(json.dumps(manifest))
    return LocalStore(here)
