"""The recorded sessions in ``data``: what the tools of real clusters printed, command by command."""

import re
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"
FILES = sorted(path.name for path in DATA.glob("*.txt"))


@dataclass(frozen=True)
class Call:
    command: str
    rc: int
    out: str
    err: str


def calls(file: str, start: str = "") -> list[Call]:
    """The commands of a session that start with a word.

    Where a session does not tell stdout from stderr, lines that a tool writes about itself (``sbatch: ...``) are taken
    for stderr.
    """
    text = (DATA / file).read_text(encoding="utf-8")
    found = []
    for block in re.split(r"^(?:\[t=[\d.]+s\] )?\$ ", text, flags=re.MULTILINE)[1:]:
        match = re.match(r"(.*)\n((?s:.*?))^\[exit (\d+)\]$", block, flags=re.MULTILINE)
        if match and match[1].startswith(start):
            found.append(Call(match[1], int(match[3]), *_streams(match[2])))
    return found


def call(file: str, command: str, number: int = 0) -> Call:
    return [found for found in calls(file) if found.command == command][number]


def _streams(text: str) -> tuple[str, str]:
    text = text.replace("\n[no newline at end]\n", "\0\n")
    if re.match(r"--- std(out|err)\n", text):
        parts = re.split(r"^--- (std(?:out|err))\n", text, flags=re.MULTILINE)
        said = dict(zip(parts[1::2], parts[2::2], strict=True))
        return tuple(said.get(name, "").replace("\0\n", "") for name in ("stdout", "stderr"))
    own = re.compile(
        r"(sbatch|scancel|sacct|qsub|qstat|qdel|slurm_load_jobs error|usage): ?|Slurm accounting|\t\[| {7}qsub"
    )
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not own.match(line)), "".join(line for line in lines if own.match(line))
