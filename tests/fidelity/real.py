"""How true the local engine is to the real Argo: every plain Workflow of Argo's own examples, run on both.

    python tests/fidelity/real.py                    all of them; writes docs/fidelity.md (a campaign: 20 minutes)
    python tests/fidelity/real.py NAME...            some of them, and all that differs
    python tests/fidelity/real.py --record DIR       keep what Argo said, and run only what is not there yet
    python tests/fidelity/real.py --recorded DIR     compare with what was kept: no cluster is needed

It needs what ``tests/rig/kube`` needs. ``judge`` is one comparison; ``verdicts.py`` has what is known about manifests.

Trap: the rig's Argo and the local leaves share this machine: what depends on how quick it is belongs into ``RANDOM``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "rig"))

import argo
import fixtures
import local
import served
import table
from trees import differences
from verdicts import LONG, NOT_RUN, RANDOM, SOME

from dflow_hpc.manifest.refuse import refused

Json = dict[str, Any]
_IDENTITY = ("name", "namespace", "uid", "creationTimestamp")
_UNKNOWN = {"uid": "0", "creationTimestamp": "1970-01-01T00:00:00Z"}
"""Of a manifest that the API did not take."""


@dataclass(frozen=True)
class Verdict:
    """What came of one manifest."""

    word: str
    """``equal``, ``differs``, ``refused`` or ``not run``."""
    how: str = ""
    """``replayed`` or ``waits``, where that is so; the reason of a refusal."""
    lines: list[str] = field(default_factory=list)
    """What differs."""


def judge(name: str, workflow: Json, shown: Json, resources: list[Json]) -> Verdict:
    """Run a manifest by the local engine and compare.

    Args:
        name: The manifest's.
        workflow: It.
        shown: The object as Argo's API showed it in the end.
        resources: What it may refer to.
    """
    theirs = shown.get("status") or {}
    known = {
        key: shown["metadata"][key]
        for key in ("name", "namespace", "uid", "creationTimestamp")
        if key in shown["metadata"]
    }
    workflow = {**workflow, "metadata": {**_UNKNOWN, **workflow["metadata"], **known}}
    stands = theirs.get("phase") not in argo.ENDED
    if name in RANDOM:
        status = local.replay(workflow, resources, theirs.get("nodes") or {})
    else:
        status = local.run(workflow, resources, stands=stands)
    found = differences(theirs, status)
    how = "replayed" if name in RANDOM else "waits" if stands else ""
    return Verdict("differs" if found else "equal", how, found)


def campaign(
    workflows: dict[str, Json], resources: list[Json], *, record: Path, kube: fixtures.Kube | None
) -> dict[str, Verdict]:
    """Run manifests on both sides; what came of each.

    Args:
        workflows: By name.
        resources: What they may refer to.
        record: Where what Argo said is kept; what is there already is not run on Argo again.
        kube: The rig; None leaves out what is not there.
    """
    verdicts: dict[str, Verdict] = {}
    for name, workflow in workflows.items():
        if name in NOT_RUN:
            verdicts[name] = Verdict("not run", NOT_RUN[name])
        elif reasons := refused(workflow, resources):
            verdicts[name] = Verdict("refused", "; ".join(reasons))
    rest = {
        name: workflows[name] for name in sorted(workflows, key=lambda name: name not in LONG) if name not in verdicts
    }
    address = kube.s3["endpoint"].partition(":")[0] if kube else "127.0.0.1"
    with served.internet(address) as url:
        rest = {name: served.readdressed(workflow, url) for name, workflow in rest.items()}
        _ask_argo(rest, resources, record, kube)
        verdicts |= _judge_all(rest, resources, record)
    return dict(sorted(verdicts.items()))


def _ask_argo(rest: dict[str, Json], resources: list[Json], record: Path, kube: fixtures.Kube | None) -> None:
    """Run what is not recorded yet on Argo, and record it."""
    missing = {name: workflow for name, workflow in rest.items() if not (record / f"{name}.json").exists()}
    if missing and kube:
        real = argo.RealArgo(kube)
        real.prepare(resources, missing.values())
        real.run(missing, lambda name, shown: _keep(record, name, shown))


def _judge_all(rest: dict[str, Json], resources: list[Json], record: Path) -> dict[str, Verdict]:
    """Run what is recorded by the local engine and compare."""
    verdicts = {}
    with ProcessPoolExecutor(3) as pool:
        futures = {}
        for name, workflow in rest.items():
            if (record / f"{name}.json").exists():
                shown = json.loads((record / f"{name}.json").read_text())
                futures[name] = pool.submit(judge, name, workflow, shown, resources)
        for name, future in futures.items():
            verdicts[name] = future.result()
            _say(name, verdicts[name])
    return verdicts


def _keep(record: Path, name: str, shown: Json) -> None:
    (record / f"{name}.json").write_text(json.dumps(shown, indent=1))
    print(f"Argo: {name} {shown.get('status', {}).get('phase')}", flush=True)


def _say(name: str, verdict: Verdict) -> None:
    print(f"{verdict.word:8} {name} {verdict.how}", *verdict.lines[:6], sep="\n         ", flush=True)


def main() -> int:
    """Do what the command line says; 1 when something differs for a reason that nobody has given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, choices=[len(SOME)], help="the fixed ones that continuous integration runs")
    parser.add_argument("--record", type=Path, metavar="DIR")
    parser.add_argument("--recorded", type=Path, metavar="DIR")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of files of the folder, without suffix")
    options = parser.parse_args()
    folder = argo.examples()
    workflows = argo.manifests(folder)
    if names := options.names or (SOME if options.only else ()):
        workflows = {name: workflows[name] for name in names}
    cluster = contextlib.nullcontext() if options.recorded else fixtures.kubernetes()
    with argo.scratch(options.recorded or options.record) as record, cluster as kube:
        verdicts = campaign(workflows, argo.resources(folder), record=record, kube=kube)
    print(table.counts(verdicts))
    if not names:
        table.PAGE.write_text(table.page(verdicts))
    wrong = table.contradictions(verdicts)
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
