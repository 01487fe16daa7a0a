"""A leaf in a directory of its own: inputs are written, the runner is called, what it left is read."""

import json
import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from dflow_hpc.op import catalog, loader, runner


class Ended(NamedTuple):
    code: int
    root: Path

    def text(self, name):
        return (self.root / "outputs/parameters" / name).read_text()

    def value(self, name):
        return json.loads(self.text(name))

    @property
    def message(self):
        return (self.root / "termination-log").read_text()

    def artifact(self, name):
        return catalog.assemble(catalog.read(self.root / "outputs/artifacts" / name))

    def content(self, name):
        top = self.root / "outputs/artifacts" / name
        files = (path for path in top.rglob("*") if path.is_file() and ".dflow" not in path.parts)
        return {str(path.relative_to(top)): path.read_text() for path in files}


@pytest.fixture
def leaf(tmp_path, monkeypatch):
    """Return a function (op class, parameters as text, artifacts as {name: {path: text}}, **record) -> Ended."""
    monkeypatch.setattr(runner, "_classes", {})
    before, handler = Path.cwd(), signal.getsignal(signal.SIGTERM)
    count = iter(range(100))

    def run(op_class, parameters=(), artifacts=(), orders=None, pod=False, **record):
        root = tmp_path / f"leaf{next(count)}"
        (root / "inputs/parameters").mkdir(parents=True)
        for name, text in dict(parameters).items():
            (root / "inputs/parameters" / name).write_text(text)
        for name, files in dict(artifacts).items():
            stage(root / "inputs/artifacts" / name, files, (orders or {}).get(name))
        monkeypatch.setattr(loader, "load", lambda _entry, _code: op_class)
        return Ended(runner.run(root, {"entry": {"name": op_class.__name__}, **record}, pod=pod), root)

    yield run
    os.chdir(before)
    signal.signal(signal.SIGTERM, handler)


def stage(directory, files, orders=None):
    """Write files and a catalogue that lists them, as an upload or an OP would leave them."""
    for path, text in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    places = orders or range(len(files))
    catalog.write(directory, [catalog.Entry(path, order) for path, order in zip(files, places, strict=True)])
