"""Manifests of shell scripts, and an engine that keeps what it says."""

import pytest

from dflow_hpc.compile import Compiled
from dflow_hpc.config import config


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Let runs and the index lie in a directory of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setitem(config, "debug_workdir", str(tmp_path / "runs"))
    monkeypatch.setitem(config, "runtime", "host")
    monkeypatch.setitem(config, "debug_pool_workers", 2)


@pytest.fixture
def flags(tmp_path):
    """Return a directory that steps see: their ``/tmp`` is their own, but runs and what lies beside them stay."""
    path = tmp_path / "runs"
    path.mkdir()
    return path


@pytest.fixture
def make_engine():
    """Make an engine with ``said()``, all that it said."""
    from dflow_hpc.engines.local.engine import LocalEngine

    class Engine(LocalEngine):
        def __init__(self, **options):
            lines = []
            super().__init__(say=lines.append, **options)
            self.said = lambda: "\n".join(lines)

    return Engine


@pytest.fixture
def engine(make_engine):
    return make_engine()


@pytest.fixture
def script():
    """Make a template: ``script(name, source, **fields)``."""

    def make(name, source, **fields):
        return {"name": name, "script": {"image": "busybox", "command": ["sh"], "source": source}, **fields}

    return make


@pytest.fixture
def compiled():
    """Make a workflow: ``compiled([[step, ...], ...], template, ...)``; a step is the name of its template."""

    def make(groups, *templates, name=None, **spec):
        steps = [[{"name": step, "template": step} for step in group] for group in groups]
        metadata = {"name": name} if name else {"generateName": "test-"}
        main = {"name": "main", "steps": steps}
        return Compiled({"metadata": metadata, "spec": {"entrypoint": "main", "templates": [main, *templates], **spec}})

    return make
