"""What has no pod that the API shows: jobs of pods that went unseen, directories of theirs. Ended after a grace only.

A list may be empty because the API server has lost it, or come late. So nothing is ended because a pod is not shown:
it becomes an orphan, and ends when it was one for the whole grace and a list that is read then agrees.

Not here: that list, and the ending (``pods.py``).

Trap: the grace begins anew with each life of the process.
"""

from __future__ import annotations

from collections.abc import Iterable

GRACE = 600.0
"""Seconds."""


class Orphans:
    """Since when which orphans are known.

    Args:
        grace: Seconds before one may be ended.
    """

    def __init__(self, grace: float = GRACE):
        self.grace = grace
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def see(self, names: Iterable[str], now: float) -> list[str]:
        """Take all that are orphans now; return those that are new.

        Args:
            names: Of pods, jobs or directories.
            now: Seconds; only differences count.
        """
        before = self._since
        self._since = {name: before.get(name, now) for name in names}
        return [name for name in self._since if name not in before]

    def due(self, now: float) -> list[str]:
        """Return those whose grace is over."""
        return [name for name, since in self._since.items() if now - since >= self.grace]
