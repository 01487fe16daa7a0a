"""A real machine behind a broker, without an engine: leaves go there, and their ends come back."""

import asyncio

from dflow_hpc.executors.broker.broker import Broker
from dflow_hpc.executors.profiles.machine import Resources, Waits
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.executors.site import Parcel

QUICK = Waits(
    quiet=0.05, longest=0.2, look_up=0.1, grace=0.5, why=0.3, throttled=0.2, unreachable=0.1, again=0.05, fast=0.05,
    steady=0.05, slowest=0.1,
)  # fmt: skip
"""For machines that cost nothing to ask."""


class Far:
    """A machine of a profile, and the leaves that a test sends there.

    Args:
        path: The journal's directory and the leaves'.
        machine: The profile.
        waits: How long the broker waits for what.
    """

    def __init__(self, path, machine, waits=QUICK):
        self.path = path
        self.machine = machine
        self.waits = waits
        self.said = []

    def broker(self):
        return Broker("far", RemoteSite(self.machine), self.path / "far.jsonl", waits=self.waits, say=self.said.append)

    def parcel(self, key, script, **resources):
        root = self.path / "here" / key
        (root / "inputs").mkdir(parents=True, exist_ok=True)
        spec = {"words": ["sh", "-c", script], "env": {}, "outputs": ["out"], "result": True}
        return Parcel(key, "step", "flow/step", Resources(**resources), spec, str(root), machine=self.machine)

    async def _run(self, parcels, meanwhile):
        broker = self.broker()
        running = {parcel.key: asyncio.Event() for parcel in parcels}
        tasks = [asyncio.create_task(broker.run(p, running[p.key].set, self.said.append)) for p in parcels]
        try:
            if meanwhile is not None:
                await meanwhile(self, broker, running, tasks)
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for parcel, end in zip(parcels, ended, strict=True):
                if not isinstance(end, BaseException):
                    broker.delivered(parcel.key)
        finally:
            await broker.close()
        return {parcel.key: end for parcel, end in zip(parcels, ended, strict=True)}

    def run(self, *parcels, meanwhile=None, within=60):
        """Run leaves to their ends, by key; what was cancelled ends with that exception.

        Args:
            parcels: The leaves.
            meanwhile: Awaited with this object, the broker, an event for each leaf that is set when it runs, and the
                tasks of the leaves.
            within: Seconds that all may take.
        """
        return asyncio.run(asyncio.wait_for(self._run(parcels, meanwhile), within))

    def one(self, script, meanwhile=None, **resources):
        return self.run(self.parcel("k", script, **resources), meanwhile=meanwhile)["k"]


async def soon(condition):
    """Wait until something is true that nobody tells of."""
    while not condition():
        await asyncio.sleep(0.02)
