"""Kills of the scripts on a machine at any of their lines: a wrapper around each, which takes a ticket if there is one.

A ticket says at which simple command of bash (its DEBUG trap) the script dies, and whether its whole process group dies
with it. Without a ticket a script runs as it is.
"""

from pathlib import Path

SCRIPTS = {"submit": "submit.sh", "worker": "submit.sh", "ask": "ask.sh", "fetch": "fetch.sh", "member": "member.sh"}
"""What can be killed, and the file that it is; the worker is what submit.sh leaves to itself."""

WRAPPER = """\
#!/bin/sh
name={stem}
case $name:${{3-}} in submit:) ;; submit:*) name=worker ;; esac
case $name in member)  # an attempt that was lost gets one more of its own accord, not two
    case $(sed -n "$(($3 + 1))p" "$1/.batch/$2/members") in *-1) ;; *) name=nothing ;; esac ;;
esac
ticket={tickets}/$name
if [ -e "$ticket" ] && mv "$ticket" "$ticket.taken" 2>/dev/null; then
    DFH_TICKET=$ticket.taken DFH_REAL=${{0%/*}}/real/{stem}.sh exec bash -c '. {tickets}/trap; . "$DFH_REAL"' "$0" "$@"
fi
. "${{0%/*}}/real/{stem}.sh"
"""
TRAP = """\
set -T
read -r dfh_at dfh_whom <"$DFH_TICKET"
dfh_count=0
trap 'if [ -e "$DFH_TICKET" ]; then
    dfh_count=$((dfh_count + 1)); echo $dfh_count >"$DFH_TICKET"
    if [[ $dfh_count = "$dfh_at" || $BASH_COMMAND = "$dfh_at "* ]] && mv "$DFH_TICKET" "${DFH_TICKET%.taken}.hit"; then
        case $dfh_whom in group) kill -KILL 0 ;; *) kill -KILL $$ ;; esac
    fi
fi' DEBUG
"""


class Tickets:
    """The tickets of one cluster.

    Args:
        there: Their directory, as the cluster's user sees it.
        here: The same one on this side.
    """

    def __init__(self, there: str, here: Path):
        self.there = there
        self.here = here
        self.lines = dict.fromkeys(SCRIPTS, 40)
        """How many commands a script has, as far as it was seen."""

    def wrap(self, scripts: Path) -> None:
        """Put the wrappers around the scripts in a directory of a machine's root, on this side."""
        self.here.mkdir(exist_ok=True)
        self.here.chmod(0o777)
        (self.here / "trap").write_text(TRAP)
        (self.here / "trap").chmod(0o644)
        real = scripts / "real"
        if real.exists():
            return
        real.mkdir()
        real.chmod(0o755)
        for name in set(SCRIPTS.values()):
            path = scripts / name
            (real / name).write_text(path.read_text())
            (real / name).chmod(0o755)
            path.write_text(WRAPPER.format(stem=path.stem, tickets=self.there))  # owner and mode stay

    def give(self, script: str, at: int | str, whom: str) -> None:
        """Let the next such script die at its command number ``at``, or of that name: alone, or its ``group``."""
        new = self.here / f"{script}.new"
        new.write_text(f"{at} {whom}\n")
        new.chmod(0o666)
        new.rename(self.here / script)

    def hit(self, script: str) -> bool:
        """Say whether it died so; after that the ticket is used up."""
        try:
            (self.here / f"{script}.hit").unlink()
        except FileNotFoundError:
            return False
        return True

    def withdraw(self, script: str) -> bool:
        """Take a ticket back; return whether the script died by it meanwhile."""
        (self.here / script).unlink(missing_ok=True)
        taken = self.here / f"{script}.taken"
        if taken.exists():
            text = taken.read_text().split()
            if len(text) == 1:
                self.lines[script] = max(5, int(text[0]))
        taken.unlink(missing_ok=True)
        return self.hit(script)
