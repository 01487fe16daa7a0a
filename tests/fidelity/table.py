"""``docs/fidelity.md``: written whole from what a campaign found, the same text for the same findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import build
from verdicts import REASONS

PAGE = Path(__file__).resolve().parents[2] / "docs/fidelity.md"
HEAD = Path(__file__).parent / "head.md"
_FURTHER = {
    "replayed": "depends on chance: compared with the leaves' outcomes on Argo",
    "waits": "waits for somebody: compared while it waits",
}


def counts(verdicts: Mapping[str, Any]) -> str:
    """Return how many manifests came to what."""
    found = Counter(verdict.word for verdict in verdicts.values())
    return ", ".join(
        f"{found[word]} {word}" for word in ("equal", "differs", "refused", "not run", "not compared") if found[word]
    )


def row(name: str, verdict: Any) -> str:
    """Return the line of one manifest."""
    reason = {
        "equal": _FURTHER.get(verdict.how, ""),
        "differs": REASONS.get(name, "no reason is known"),
    }.get(verdict.word, verdict.how)
    return f"| `{name}` | {verdict.word} | {reason.replace('|', '/')} |"


def page(verdicts: Mapping[str, Any]) -> str:
    """Return the page."""
    head = HEAD.read_text().format(argo=build.ARGO, number=len(verdicts), counts=counts(verdicts))
    rows = [row(name, verdict) for name, verdict in verdicts.items()]
    return "\n".join([head.rstrip(), "", "| manifest | verdict | remark |", "|---|---|---|", *rows, ""])


def contradictions(verdicts: Mapping[str, Any]) -> list[str]:
    """Say which findings are not those of the page, or differ without a known reason."""
    written = set(PAGE.read_text().splitlines())
    wrong = [
        f"docs/fidelity.md does not say: {line}" for n, v in verdicts.items() if (line := row(n, v)) not in written
    ]
    wrong += [
        f"{n} differs, and no reason is known" for n, v in verdicts.items() if v.word == "differs" and n not in REASONS
    ]
    return wrong
