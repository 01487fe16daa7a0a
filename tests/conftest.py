"""What holds for all tests: every manifest that any of them ran is checked against Argo's schema at the end."""

import json
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from argo_schema import check
from rig.fixtures import kube_faults, kube_image, kube_rig, slurm_faults, slurm_rig  # noqa: F401 - fixtures

# No deadline: how quick this machine is at the moment is no property.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=60)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=300)  # what `tests/run --all` asks for
hypothesis.settings.load_profile("quick")

# Started in the background by a shell, a process ignores SIGINT, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_REFUSED_ON_PURPOSE = ("invalid spec", "cannot unmarshall")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    """Check the manifests in all run directories that the tests have left, those of child processes included."""
    counted, bad = _look(session.config)
    if hasattr(session.config, "workeroutput"):  # one of several processes: the first one says it for all
        session.config.workeroutput["manifests"] = (counted, bad)
        return
    _tell(session.config, counted, bad)
    if session.config._manifests[1]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take what one of several processes has found."""
    _tell(node.config, *getattr(node, "workeroutput", {}).get("manifests", (0, [])))


def _tell(config, counted, bad):
    before = getattr(config, "_manifests", (0, []))
    config._manifests = (before[0] + counted, before[1] + bad)


def _look(config):
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is None or factory._basetemp is None:
        return 0, []
    seen, bad = set(), []
    for path in factory._basetemp.glob("**/workflow.json"):
        text = path.read_text()
        journal = path.with_name("journal.jsonl")
        refused = journal.exists() and any(word in journal.read_text() for word in _REFUSED_ON_PURPOSE)
        if text in seen or refused or text.strip() == "{}":  # {}: the directory of a run that never was
            continue
        seen.add(text)
        try:
            check(json.loads(text))
        except AssertionError as error:
            bad.append(f"{path}: {error}")
    return len(seen), bad


def pytest_terminal_summary(terminalreporter, config):
    """Say how many manifests were checked, and what is wrong with which."""
    counted, bad = getattr(config, "_manifests", (0, []))
    terminalreporter.write_line(f"manifests checked against Argo's schema: {counted}")
    for line in bad:
        terminalreporter.write_line(f"NOT ARGO'S: {line}")
