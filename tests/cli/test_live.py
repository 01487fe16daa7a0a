"""The view of a run in a terminal."""

import io
import sys
import threading

from dflow_hpc.cli.live import LiveView, PlainView


class Screen(io.StringIO):
    """A terminal that one can wait at."""

    def __init__(self):
        super().__init__()
        self._written = threading.Condition()

    def isatty(self):
        return True

    def write(self, text):
        with self._written:
            self._written.notify_all()
            return super().write(text)

    def shows(self, text):
        with self._written:
            return self._written.wait_for(lambda: text in self.getvalue(), 60)


def test_the_last_change_is_drawn_though_nothing_follows(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    view = LiveView("run")
    node = {"id": "run", "name": "run", "displayName": "run", "type": "Pod", "phase": "Pending"}
    view.change({"node": "run", "set": node})
    assert screen.shows("◷ run")
    for phase in ("Running", "Failed"):
        view.change({"node": "run", "set": {"phase": phase}})
    assert screen.shows("✖ run")
    view.close()


def test_what_many_steps_end_with_is_told_in_full_once(capsys):
    view = PlainView("run")
    message = "refused: " + "a" * 80 + "\nsecond line"
    for name in ("one", "two"):
        view.change(
            {"node": name, "set": {"id": name, "name": name, "type": "Pod", "phase": "Error", "message": message}}
        )
    one, second, two = capsys.readouterr().err.splitlines()
    assert "one Error: refused" in one
    assert second.startswith("    second line")
    assert "two Error: refused: aaa" in two
    assert "…" in two
    assert len(two) < 120
