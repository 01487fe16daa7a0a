"""No scheduler: jobs as background processes of a host, under setsid, their states in files.

The batch script plays three parts. ``submit`` makes a directory of state, ``$HOME/.dflow-hpc/shell/<id>``, and starts
``run`` in a session of its own; ``run`` starts each ``member`` under ``timeout``, in a process group of its own, and
writes how it ended; the rest of the script, which only a member reaches, is the body. A week after its end the state is
removed by a later job.

There is no queue: what is submitted starts at once, ``at_once`` and the profile's ``max_jobs`` hold it back. Queue,
account, qos, memory and further directives mean nothing here; the run time is kept. More than one node is refused.

Trap: login nodes share a home. A process of another host cannot be seen, so its job counts as live (``ELSEWHERE``);
and a number of a process is only trusted with the boot and the start time that were written beside it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.profiles.machine import Resources
from dflow_hpc.executors.schedulers.base import (
    Accepted,
    Facts,
    JobScript,
    JobState,
    Phase,
    Refused,
    SchedulerSilent,
    Unclear,
)
from dflow_hpc.executors.schedulers.texts import counted, lots, one_line, plain, seconds, warning, words

_PHASES = {
    "STARTING": Phase.PENDING,
    "PENDING": Phase.PENDING,
    "RUNNING": Phase.RUNNING,
    "ELSEWHERE": Phase.RUNNING,
    "EXITED": Phase.ENDED,
    "TIMEOUT": Phase.ENDED,
    "CANCELLED": Phase.ENDED,
    "LOST": Phase.ENDED,
}
_FAILURES = {"TIMEOUT": FailureClass.WALLTIME, "CANCELLED": FailureClass.CANCELLED}
_REASONS = {
    "ELSEWHERE": "its process is on another host, and cannot be seen from here",
    "LOST": "its process is gone, and left no exit code",
}
_ID = re.compile(r"[A-Za-z0-9]{10}")
_REFUSED = 73  # the exit code of ``submit`` for what fails before anything is started
_HEAD = "dflow-hpc shell 1"
_KEPT = 7 * 24 * 3600  # seconds after its end for which a state is kept
_SHOWN = 600  # and for which the queue shows it
_LATE = 60  # seconds after which a job does not start any more; after twice as many it counts as lost

_COMMON = """\
dfh_home=$HOME/.dflow-hpc/shell
dfh_host=$(uname -n)
dfh_boot=
{ read -r dfh_boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
# The start of a process in ticks since the boot; nothing if it is gone or a zombie.
dfh_born() {
    dfh_born=
    { read -r dfh_line <"/proc/$1/stat"; } 2>/dev/null || return 0
    set -- ${dfh_line##*) }
    [ "$1" = Z ] || dfh_born=${20}
}
# 0: the process of "number start boot host" lives, 1: it is gone, 2: it cannot be seen from here.
dfh_lives() {
    [ "$4" = "$dfh_host" ] || return 2
    [ "$3" = "$dfh_boot" ] || return 1
    dfh_born "$1"
    [ -n "$dfh_born" ] && [ "$dfh_born" = "$2" ]
}
"""

_TOOLS = """\
    for dfh_tool in setsid timeout mktemp /proc/self/stat; do
        command -v $dfh_tool || [ -r $dfh_tool ] || { echo "there is no $dfh_tool on this host" >&2; exit @REFUSED@; }
    done >/dev/null
"""

_PARTS = """\
dfh_cancelled() { [ -e "$DFH_STATE/cancel" ] || [ -e "$DFH_STATE/cancel.$1" ]; }
dfh_write() { printf '%s\\n' "$2" >"$DFH_STATE/$1.tmp" && mv "$DFH_STATE/$1.tmp" "$DFH_STATE/$1"; }
dfh_refuse() { echo "$1" >&2; exit @REFUSED@; }
dfh_sign() { dfh_born $$; dfh_write "$1" "$$ ${dfh_born:--} ${dfh_boot:--} $dfh_host $PPID $(date +%s)"; }
dfh_one() {
    # Without the process by which others see that it will run, nothing more is started.
    { read -r dfh_line <"$DFH_STATE/pid"; } 2>/dev/null && dfh_lives $dfh_line || exit
    dfh_began=$(date +%s) dfh_rc=0 dfh_word=EXITED
    if ! dfh_cancelled "$1"; then
        timeout -k 10 "$dfh_limit" sh "$0" member "$1" </dev/null >>"$dfh_out" 2>&1
        dfh_rc=$?
        # What it left behind runs in the group that timeout made. (dash takes a group only after -s.)
        { read -r dfh_line <"$DFH_STATE/pid.$1"; } 2>/dev/null && set -- "$1" $dfh_line
        [ $# -eq 1 ] || kill -s KILL -- "-$6" 2>/dev/null
    fi
    dfh_ended=$(date +%s)
    case $dfh_rc in 124|137)
        [ "$dfh_limit" -gt 0 ] && [ $((dfh_ended - dfh_began)) -ge "$dfh_limit" ] && dfh_word=TIMEOUT ;;
    esac
    if dfh_cancelled "$1"; then dfh_word=CANCELLED; fi
    dfh_write "rc.$1" "$dfh_word $dfh_rc $dfh_began $dfh_ended"
}
case ${1-} in
submit)
    umask 077
@TOOLS@    mkdir -p "$dfh_home" && DFH_STATE=$(mktemp -d "$dfh_home/XXXXXXXXXX") || dfh_refuse "$dfh_home is not there"
    dfh_write name "$dfh_name" && dfh_write job "$dfh_members $(date +%s)" || dfh_refuse "the state cannot be written"
    export DFH_STATE
    setsid sh "$0" run </dev/null >/dev/null 2>&1 &
    echo "${DFH_STATE##*/}"
    exit 0 ;;
run)
    dfh_sign pid
    { read -r dfh_line <"$DFH_STATE/job"; } 2>/dev/null && [ $(($(date +%s) - ${dfh_line#* })) -le @LATE@ ] || exit
    dfh_worker=0
    while [ $dfh_worker -lt "$dfh_at_once" ]; do
        (
            dfh_index=$dfh_worker
            while [ $dfh_index -lt "$dfh_members" ]; do
                dfh_out=$dfh_directory/job.out
                [ "$dfh_members" -eq 1 ] || dfh_out=$dfh_directory/job.$dfh_index.out
                dfh_one $dfh_index
                dfh_index=$((dfh_index + dfh_at_once))
            done
        ) &
        dfh_worker=$((dfh_worker + 1))
    done
    wait
    dfh_write ended "$(date +%s)"
    for dfh_old in "$dfh_home"/*/ended; do
        { read -r dfh_time <"$dfh_old"; } 2>/dev/null || continue
        [ $(($(date +%s) - dfh_time)) -gt @KEPT@ ] && rm -rf "${dfh_old%/ended}"
    done
    exit 0 ;;
member)
    dfh_sign "pid.$2"
    dfh_cancelled "$2" && exit 143
    DFH_INDEX=$2 DFH_JOB_ID=${DFH_STATE##*/}
    [ "$dfh_members" -eq 1 ] || DFH_JOB_ID=${DFH_JOB_ID}_$2
    shift 2 ;;
*)
    echo "usage: sh $0 submit" >&2
    exit 2 ;;
esac
export DFH_INDEX DFH_JOB_ID
cd "$dfh_directory" || exit 1
"""

_SHOW = """\
dfh_now=$(date +%s)
dfh_print() { echo "${dfh_s##*/}|$dfh_i|$dfh_members|$1|$2|$3|$4|$5|$dfh_submitted|$dfh_name"; }
dfh_known() {
    { read -r dfh_line <"$dfh_s/rc.$dfh_i"; } 2>/dev/null || return
    set -- $dfh_line
    dfh_print "$1" "$2" "$3" "$4" ''
}
dfh_member() {
    dfh_known && return
    dfh_rest=$1
    if { read -r dfh_line <"$dfh_s/pid.$dfh_i"; } 2>/dev/null; then
        set -- $dfh_line
        dfh_lives "$@"
        case $? in
        0) dfh_print RUNNING '' "$6" '' "$4"; return ;;
        2) dfh_print ELSEWHERE '' "$6" '' "$4"; return ;;
        esac
        dfh_known && return
        [ "$dfh_rest" = PENDING ] && dfh_rest=RUNNING
        dfh_print "$dfh_rest" '' "$6" '' "$4"
    else
        dfh_print "$dfh_rest" '' '' '' ''
    fi
}
dfh_show() {
    dfh_s=$1
    { read -r dfh_name <"$dfh_s/name" && read -r dfh_line <"$dfh_s/job"; } 2>/dev/null || return
    dfh_members=${dfh_line% *} dfh_submitted=${dfh_line#* }
    if { read -r dfh_line <"$dfh_s/pid"; } 2>/dev/null; then
        dfh_lives $dfh_line
        case $? in 0) set -- PENDING ;; 2) set -- ELSEWHERE ;; *) set -- LOST ;; esac
    elif [ $((dfh_now - dfh_submitted)) -le $((2 * @LATE@)) ]; then
        set -- STARTING
    else
        set -- LOST
    fi
    dfh_i=0
    while [ $dfh_i -lt "$dfh_members" ]; do
        dfh_member "$1"
        dfh_i=$((dfh_i + 1))
    done
}
echo "@HEAD@"
"""

_LIVE = """\
for dfh_d in "$dfh_home"/*/; do
    if { read -r dfh_time <"$dfh_d/ended"; } 2>/dev/null && [ $((dfh_now - dfh_time)) -gt @SHOWN@ ]; then continue; fi
    dfh_show "${dfh_d%/}"
done
exit 0
"""

_NAMED = """\
for dfh_d in "$dfh_home"/*/; do
    { read -r dfh_name <"$dfh_d/name"; } 2>/dev/null && [ "$dfh_name" = "$dfh_wanted" ] && dfh_show "${dfh_d%/}"
done
exit 0
"""

_CANCEL = """\
dfh_end() {
    { read -r dfh_line <"$1"; } 2>/dev/null || return 0
    set -- $dfh_line
    if dfh_lives "$@"; then kill -s TERM "$5" 2>/dev/null || kill -s TERM -- "-$5" 2>/dev/null; fi
    return 0
}
dfh_cancel() {
    dfh_s=$dfh_home/${1%_*}
    [ -d "$dfh_s" ] || return 0
    case $1 in
    *_*) : >"$dfh_s/cancel.${1#*_}" && dfh_end "$dfh_s/pid.${1#*_}" ;;
    *) : >"$dfh_s/cancel" && for dfh_p in "$dfh_s"/pid.*; do dfh_end "$dfh_p"; done ;;
    esac
}
"""


def _filled(text: str) -> str:
    values = {"REFUSED": _REFUSED, "KEPT": _KEPT, "SHOWN": _SHOWN, "LATE": _LATE, "HEAD": _HEAD}
    return re.sub("@([A-Z]+)@", lambda match: str(values[match[1]]), text.replace("@TOOLS@", _TOOLS))


def _alone(commands: str) -> str:
    """Return a command that leaves nothing behind in the shell that runs it."""
    return f"(\n{commands})"


class Shell:
    """Background processes."""

    def job_name(self, name: str) -> str:
        """Return the name in letters that are safe in a file."""
        return plain(name, 200)

    def script(self, job: JobScript) -> str:
        """Return the script; ``sh job.sh submit`` starts it.

        Raises:
            ConfigError: More than one node is asked for, or a number makes no sense.
        """
        wanted = counted(job.resources)
        if wanted.nodes > 1:
            raise ConfigError(
                f"nodes = {wanted.nodes}: a machine without a scheduler is one host. Ask for one, or place the step on "
                "a machine with Slurm or PBS."
            )
        values = {
            "name": shlex.quote(self.job_name(job.name)),
            "directory": shlex.quote(job.directory),
            "members": job.members,
            "at_once": min(job.at_once or job.members, job.members),
            "limit": seconds(wanted.time) if wanted.time else 0,
        }
        lines = [
            "#!/bin/sh",
            f"# {one_line(job.comment)}",
            *(f"dfh_{key}={value}" for key, value in values.items()),
            _COMMON + _filled(_PARTS).rstrip("\n"),
            *warning(wanted, job.warn),
            job.body.rstrip("\n"),
        ]
        return "\n".join(lines) + "\n"

    def output(self, index: int | None) -> str:
        """Return ``job.out``, or ``job.<index>.out``."""
        return "job.out" if index is None else f"job.{index}.out"

    def submit(self, path: str) -> str:
        """Return the command line that starts the script in the background."""
        return f"sh {shlex.quote(path)} submit"

    def submitted(self, rc: int, out: str, err: str) -> Accepted | Refused | Unclear:
        """Read the id that the script printed."""
        ids = [line.strip() for line in out.splitlines() if _ID.fullmatch(line.strip())]
        if rc == 0 and ids:
            return Accepted(ids[-1])
        if rc == _REFUSED:
            return Refused(FailureClass.CONFIG, words(out, err))
        return Unclear(words(out, err))

    def member(self, id: str, index: int) -> str:
        """Return ``<id>_3``."""
        return f"{id}_{index}"

    def queue(self, ids: Sequence[str] = ()) -> str:  # noqa: ARG002 - one host, whatever the ids are
        """Return the command that shows jobs that live or ended within ten minutes."""
        return _alone(_COMMON + _filled(_SHOW + _LIVE))

    def read_queue(self, rc: int, out: str, err: str) -> list[JobState]:
        """Read its lines.

        Raises:
            SchedulerSilent: Its first line is missing, or it failed.
        """
        lines = out.splitlines()
        if rc != 0 or _HEAD not in lines:
            raise SchedulerSilent(f"the jobs of a host were asked for; its shell said (rc {rc}): {words(out, err)}")
        return [state for line in lines[lines.index(_HEAD) + 1 :] if (state := _state(line))]

    def history(self, ids: Sequence[str], since: float) -> list[str]:  # noqa: ARG002 - ids do not come again
        """Return commands that show these jobs with all of their members."""
        jobs = list(dict.fromkeys(asked.partition("_")[0] for asked in ids))
        show = _COMMON + _filled(_SHOW)
        return [
            _alone(show + "".join(f'dfh_show "$dfh_home/"{shlex.quote(job)}\n' for job in lot) + "exit 0\n")
            for lot in lots(jobs, 200)
        ]

    read_history = read_queue

    def lookup(self, name: str, since: float, resources: Resources) -> list[str]:  # noqa: ARG002
        """Return one command: all states are files, there is no second place to look."""
        return [_alone(f"dfh_wanted={shlex.quote(self.job_name(name))}\n{_COMMON}{_filled(_SHOW + _NAMED)}")]

    def read_lookup(self, name: str, answers: Sequence[tuple[int, str, str]]) -> list[JobState]:
        """Read it.

        Raises:
            SchedulerSilent: As ``read_queue``.
        """
        shown = self.job_name(name)
        return [state for answer in answers for state in self.read_queue(*answer) if state.name == shown]

    def enter(self, id: str, line: str) -> str:  # noqa: ARG002  a job is a process of this host like any other
        """Return the line itself."""
        return line

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """Return commands that send TERM, and KILL ten seconds later (``timeout -k``), to jobs or members."""
        return [
            _alone(_COMMON + _CANCEL + " &&\n".join(f"dfh_cancel {shlex.quote(asked)}" for asked in lot) + "\n")
            for lot in lots(ids, 200)
        ]

    def read_cancel(self, rc: int, out: str, err: str) -> None:
        """Check that the wish was written down.

        Raises:
            SchedulerSilent: It was not.
        """
        if rc != 0:
            raise SchedulerSilent(f"jobs were to be cancelled; the shell said (rc {rc}): {words(out, err)}")

    def describe(self) -> str:
        """Return the command that looks for the tools."""
        return _alone(_filled(_TOOLS) + "uname -sr\n")

    def read_description(self, rc: int, out: str, err: str) -> Facts:
        """Read it.

        Raises:
            SchedulerSilent: A tool is missing.
        """
        if rc != 0:
            raise SchedulerSilent(
                f"setsid, timeout, mktemp and /proc were looked for; the shell said (rc {rc}): {words(out, err)}. "
                "A host without a scheduler needs Linux with util-linux and coreutils."
            )
        return Facts(version=out.strip(), accounting=True, min_job_age=_KEPT)


def _state(line: str) -> JobState | None:
    fields = line.split("|", 9)
    if len(fields) != 10 or not _ID.fullmatch(fields[0]) or not all(_is_number(field) for field in fields[1:3]):
        return None
    job, index, members, word, code, began, _, node, submitted, name = fields
    array = int(members) > 1
    phase = _PHASES.get(word)
    rc = int(code) if phase is Phase.ENDED and _is_number(code) else None
    return JobState(
        id=f"{job}_{index}" if array else job,
        job=job,
        index=int(index) if array else None,
        name=name,
        phase=phase or Phase.RUNNING,
        word=word,
        known=phase is not None,
        reason=_REASONS.get(word, ""),
        start=float(began) if _is_number(began) else None,
        node=node,
        exit_code=rc,
        signal=rc - 128 if rc is not None and 128 < rc <= 192 else None,
        failure=_FAILURES.get(word),
        submitted=float(submitted) if _is_number(submitted) else None,
    )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d{1,12}", text, re.ASCII) is not None
