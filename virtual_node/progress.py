"""The progress that Argo's leaves report while they run: brought from the machine now and then, told as Argo's.

A program writes ``n/m`` to the file that ``ARGO_PROGRESS_FILE`` names; its last line counts. One command there reads
the files of all leaves that run.

Trap: a task result that is begun says that it is not complete, and a workflow waits for that. So none may be begun once
the leaf's last one is on its way: ``Reporter.turn`` is held by both.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dflow_hpc.errors import ExecutorError
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.kube import TASK_RESULTS, Cluster, KubeError, put
from dflow_hpc.virtual_node import status
from dflow_hpc.virtual_node.argo_pod import ArgoPod
from dflow_hpc.virtual_node.reports import Reports

_NUMBERS = re.compile(r"(\d+)/(\d+)")


@dataclass
class Reporter:
    """What one pod's leaf has told of its progress."""

    namespace: str
    leaf: ArgoPod
    told: str = ""
    ended: bool = False
    """Whether its last task result is on its way."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


def valid(text: str) -> bool:
    """Say whether Argo takes it."""
    found = _NUMBERS.fullmatch(text)
    return found is not None and int(found[1]) <= int(found[2]) and int(found[2]) > 0


class Progress:
    """Brings and tells progress.

    Args:
        site: The machine.
        reports: Makes requests.
        cluster: Returns the objects of a namespace.
    """

    def __init__(self, site: RemoteSite, reports: Reports, cluster: Callable[[str], Cluster]):
        self._site = site
        self._reports = reports
        self._cluster = cluster

    async def look(self, running: Mapping[str, Reporter]) -> None:
        """Look once.

        Args:
            running: The jobs that run now, by token.
        """
        if not running:
            return
        try:
            found = await asyncio.to_thread(self._site.progress, list(running))
        except ExecutorError:  # the broker's round tells of it
            return
        for token, text in found.items():
            if text != running[token].told and valid(text):
                await self._tell(running[token], text)

    async def _tell(self, reporter: Reporter, text: str) -> None:
        async with reporter.turn:
            if reporter.ended:
                return
            cluster, new = self._cluster(reporter.namespace), status.task_result(reporter.leaf, {}, complete=False)
            try:
                progress = {"progress": text}
                await self._reports.ask(put, cluster, TASK_RESULTS, {**new, **progress}, progress)
                reporter.told = text
            except KubeError:
                return  # the next look tells it
