"""What a submission brings to a machine: leaves and their files, code and pieces that its cache lacks, batch scripts.

Not here: the formats of what is brought (``protocol``); sending it (``remote.py``).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dflow_hpc.executors import urls
from dflow_hpc.executors.addresses import Addresses
from dflow_hpc.executors.protocol import Cargo, Pieces, Scripts, leaf_files
from dflow_hpc.executors.schedulers import JobScript, Scheduler
from dflow_hpc.executors.schedulers.texts import seconds
from dflow_hpc.executors.site import Batch, Folded, Parcel
from dflow_hpc.executors.urls import Want

_MOST = 1000
"""Directories of code whose hashes are remembered."""


@dataclass
class Load:
    """What one submission brings."""

    cargo: Cargo = field(default_factory=Cargo)
    brings: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)
    spared: int = 0
    """Bytes of pieces that need not be sent."""
    signed: dict[str, tuple[list[Want], float]] = field(default_factory=dict)

    def wants(self, name: str, scripts: Scripts) -> bool:
        """Note that something is taken from the cache there; say whether it must be packed for that."""
        self.needs.add(name)
        if name in self.brings or scripts.has(name):
            return False
        self.brings.add(name)
        return True


class Packer:
    """Packs submissions for one machine.

    Args:
        scheduler: The machine's.
        scripts: Of the machine.
        addresses: What its jobs were given.
    """

    def __init__(self, scheduler: Scheduler, scripts: Scripts, addresses: Addresses):
        self._scheduler = scheduler
        self._scripts = scripts
        self._addresses = addresses
        self._code: dict[Path, str] = {}

    def pack(self, batches: Sequence[Batch], parcels: Mapping[str, Parcel]) -> Load:
        """Return what batches bring.

        Args:
            batches: What is submitted.
            parcels: Of their tokens.
        """
        load = Load()
        for batch in batches:
            for token in batch.tokens:
                self._leaf(load, token, parcels[token])
            submit = self._scheduler.submit("job.sh")
            self._scripts.add_batch(load.cargo, batch.id, self._job(batch), submit, batch.tokens)
        return load

    def _leaf(self, load: Load, token: str, parcel: Parcel) -> None:
        code = None
        if parcel.code is not None:
            sha = self._hash(parcel.code)
            code = f"{self._scripts.home().root}/.cas/{sha}"
            if load.wants(sha, self._scripts):
                self._scripts.add_code(load.cargo, sha, parcel.code)
        there = self._scripts.leaf_directory(token)
        spec = parcel.spec.unfolded() if isinstance(parcel.spec, Folded) else parcel.spec
        files = leaf_files(
            spec,
            here=parcel.root,
            there=there,
            scripts=self._scripts.home().scripts,
            code=code,
            setup=parcel.machine.setup,
            runtime=parcel.machine.containers,
        )
        pieces = Pieces(spec.get("own", ()), spec.get("pulls", ()))
        self._scripts.add_leaf(load.cargo, token, files, parcel.root, pieces)
        route = self._addresses.route(parcel)
        if route is not None:
            wants = self._addresses.wants(parcel, route, pieces)
            self._scripts.add_file(load.cargo, token, "puts.list", urls.puts_list(parcel.spec))
            self._scripts.add_file(load.cargo, token, "urls", route.sign(wants))
            load.signed[token] = (wants, time.time())
        for piece in pieces.found:
            if route is not None and not self._scripts.has(piece.name):
                continue  # the job pulls it
            if load.wants(piece.name, self._scripts):
                self._scripts.add_piece(load.cargo, piece)
            else:
                load.spared += piece.size

    def _hash(self, code: Path) -> str:
        if code not in self._code:
            if len(self._code) >= _MOST:  # a service's leaves have directories of their own
                self._code.clear()
            digest = hashlib.sha256()
            for path in sorted(code.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                    digest.update(f"{path.relative_to(code)}\0{content}\n".encode())
            self._code[code] = digest.hexdigest()
        return self._code[code]

    def _job(self, batch: Batch) -> str:
        job = JobScript(
            name=batch.name,
            comment=batch.comment,
            directory=self._scripts.batch_directory(batch.id),
            resources=batch.resources,
            body=self._scripts.body(batch.id, batch.pack),
            members=batch.jobs,
            warn=seconds(batch.resources.warn) if batch.resources.warn else None,
        )
        return self._scheduler.script(job)
