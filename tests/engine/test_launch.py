"""How an interrupted session ends the process that it runs in."""

import signal
from types import SimpleNamespace

import pytest

from dflow_hpc.engines.local import launch
from dflow_hpc.engines.local.session import Interrupted


class Ended(BaseException):
    pass


@pytest.fixture
def interrupted(monkeypatch):
    """Let every session end by this signal."""

    def by(number):
        async def work(ready):
            raise Interrupted(signal=number)

        monkeypatch.setattr(launch, "Session", lambda run, **_: SimpleNamespace(work=work))

    return by


def handler(_number, _frame):
    raise Ended


@pytest.mark.parametrize(
    ("number", "before", "error"),
    [
        (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
        (signal.SIGTERM, signal.SIG_DFL, SystemExit),
        (signal.SIGTERM, handler, Ended),
    ],
)
def test_a_signal_reaches_whoever_it_was_meant_for(interrupted, number, before, error):
    interrupted(number)
    lines = []
    old = signal.signal(number, before)
    try:
        with pytest.raises(error):
            launch.here(SimpleNamespace(name="r"), lines.append)
    finally:
        signal.signal(number, old)
    assert lines == ["r: interrupted; go on with `dflow-hpc resume r`"]
