"""PBS: OpenPBS and PBS Professional, and the dialect of Torque.

Read on OpenPBS 23.06 (``tests/schedulers/data``) and in the manuals of PBS Professional and Torque. Ids are kept
without the server's name (``19[3]``, not ``19[3].pbs-login``): tables cut it, and the commands take the short form.
Details of jobs are asked for as plain text, which all versions print: some give JSON of the first job only, or JSON
that no parser takes (openpbs#2672, #2541).

Not here: batch arrays as a promise. OpenPBS refuses arrays that must not be rerun, so a member may be started again
under its id after a crash; the claim in the job's directory decides which start goes on.

Traps: ``Exit_status`` stands in records of jobs that wait, and in those of arrays as a whole, where it means nothing.
Where a server keeps no history, ``qstat -x`` and ``qselect -x`` end well and show nothing, not even live jobs. And of
an array's member that has no record of its own (it waits, or was forgotten) the array's attributes are shown.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

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
from dflow_hpc.executors.schedulers.pbs_text import Record, attributes, clock_seconds, ctime_seconds, records
from dflow_hpc.executors.schedulers.texts import (
    clock,
    counted,
    lots,
    memory_text,
    one_line,
    plain,
    seconds,
    warning,
    words,
)

_WAITING = "QHWTM"
_RUNNING = "REBSU"
_ENDED = "FXC"  # C: Torque
_KILLED_BY_DELETION = 256 + 15
_DELETED, _FINISHED, _FAILED = "91", "92", "93"  # OpenPBS's substates of what ended

_ID = re.compile(r"(\d+)(?:\[(\d*)\])?(?:[.*]\S*)?", re.ASCII)
_ACCEPTED = re.compile(r"(\d+(?:\[\])?)(?:\.\S+)?", re.ASCII)
_ANSWERED = (0, 35, 153)  # 35: one of the jobs has ended; 153: one is unknown. The others are told of.
_OF_ONE_JOB = re.compile(r"qdel: .*\d(?:\[\d*\])?(?:\.\S+)?")
"""What qdel says of one job: the server was there."""

_UNHEARD = re.compile(
    r"connect|timed? ?out|end of file|premature|unknown host|no route|communication|protocol|credential|errno="
    r"|error \(\d+\) submitting",  # it has no words for what happened
    re.IGNORECASE,
)
_LATER = re.compile(
    r"would exceed|number of (?:queued |running )?jobs|is not enabled|not accepting|shutting down"
    r"|temporarily unavailable|try the request again|failed to save job|internal error|system error"
    r"|tmp file|copy of script",  # no room where qsub copies the script to
    re.IGNORECASE,
)
_TOOLS = (
    "command -v qstat >/dev/null || { c=${PBS_CONF_FILE:-/etc/pbs.conf}; "
    '[ ! -r "$c" ] || . "$c"; PATH=$PATH:${PBS_EXEC:-/opt/pbs}/bin; }; '
)
"""Finds the commands: an installation puts them on the PATH of login shells only, which ssh does not start."""
_ME = '"$(id -un)"'


class Pbs:
    """OpenPBS and PBS Professional."""

    longest_name = 230
    """Letters of a name that are kept; the server of the samples refuses 231."""
    array_index = "PBS_ARRAY_INDEX"
    keeps_history = True
    """Whether the tools have ``-x``, for jobs that have ended; the server may keep none all the same."""
    exit_classes: Mapping[int, FailureClass] = {
        -19: FailureClass.CANCELLED,  # by a site's hook
        -24: FailureClass.CONFIG,  # it used more CPUs than it had asked for
        -25: FailureClass.CONFIG,
        -26: FailureClass.OOM,
        -27: FailureClass.OOM,
        -28: FailureClass.WALLTIME,
        -29: FailureClass.WALLTIME,
        -31: FailureClass.OOM,
    }
    """What a negative ``Exit_status`` means; any other is PBS's own failure to start or to keep the job."""
    reruns_arrays = True
    """Whether arrays must be rerunable; some sites' defaults for qsub say ``-r n``."""

    def job_name(self, name: str) -> str:
        """Return the name as ``-N`` takes it everywhere: a letter first, no blanks, not too long."""
        name = plain(name, self.longest_name)
        return name if name[:1].isalpha() else ("j" + name)[: self.longest_name]

    def script(self, job: JobScript) -> str:
        """Return the batch script; what ``extra`` says about reruns, mail and placement is left to it.

        Raises:
            ConfigError: The resources cannot be said to PBS.
        """
        wanted = counted(job.resources)
        if "@" in (wanted.queue or ""):
            raise ConfigError(
                f"queue = {wanted.queue!r}: a job on another server cannot be followed from here. Give the "
                "queue alone, in a profile whose host has that server as its default."
            )
        options = [
            *self._resources(wanted),
            *([f"-A {_quoted(wanted.account)}"] if wanted.account else []),
            f"-N {self.job_name(job.name)}",
            "-S /bin/sh",  # else the login shell reads it, which may be tcsh
            "-j oe",
            "-m n",  # else PBS sends a letter for each job that it ends
            *([f"-l walltime={clock(seconds(wanted.time))}"] if wanted.time else []),
            *([f"-q {_quoted(wanted.queue)}"] if wanted.queue else []),
            *self._placement(job),
        ]
        extra = [item.removeprefix("#PBS").strip() for item in wanted.extra]
        # Of two lists of variables qsub takes the last.
        variables = [item[2:].strip() for item in extra if item.startswith("-v")]
        options.append("-v " + ",".join([f"DFH_TOKEN={job.token}", *variables]))
        left_out = ("-v", "-r") if self.reruns_arrays and job.members > 1 else ("-v",)
        extra = [item for item in extra if not item.startswith(left_out)]
        options = [option for option in options if not _said(option, extra)]
        index = f"${self.array_index}" if job.members > 1 else "0"
        lines = [
            "#!/bin/sh",
            *(f"#PBS {option}" for option in [*sorted(options), *extra]),
            f"# {one_line(job.comment)}",
            f"DFH_INDEX={index} DFH_JOB_ID=${{PBS_JOBID%%.*}}",
            "export DFH_INDEX DFH_JOB_ID DFH_TOKEN",
            f"cd {shlex.quote(job.directory)} || exit 1",
            *warning(wanted, job.warn),
            job.body.rstrip("\n"),
        ]
        return "\n".join(lines) + "\n"

    def _resources(self, wanted: Resources) -> list[str]:
        if wanted.qos:
            raise ConfigError(
                f"qos = {wanted.qos!r}: PBS has no such option. Say it in extra, as this site's manual does."
            )
        chunk = f"-l select={wanted.nodes}:ncpus={wanted.tasks * wanted.cpus}:mpiprocs={wanted.tasks}"
        # Else OMP_NUM_THREADS would be all CPUs of a chunk, in each of its tasks.
        chunk += f":ompthreads={wanted.cpus}" if wanted.tasks > 1 else ""
        chunk += f":ngpus={wanted.gpus}" if wanted.gpus else ""
        chunk += f":mem={memory_text(wanted.memory, _UNITS)}" if wanted.memory else ""
        # Without it, chunks may lie on one host, and there would be fewer nodes.
        return [chunk, *(["-l place=scatter"] if wanted.nodes > 1 else [])]

    def _placement(self, job: JobScript) -> list[str]:
        if job.members == 1:
            return ["-o job.out", "-r n"]
        return [f"-J 0-{job.members - 1}{_limit(job)}", "-o job.^array_index^.out", "-r y"]

    def output(self, index: int | None) -> str:
        """Return ``job.out``, or ``job.<index>.out``."""
        return "job.out" if index is None else f"job.{index}.out"

    def submit(self, path: str) -> str:
        """Return qsub's command line."""
        return f"{_TOOLS}qsub {shlex.quote(path)}"

    def submitted(self, rc: int, out: str, err: str) -> Accepted | Refused | Unclear:
        """Read qsub's answer; words about the connection are no refusal."""
        said = words(out, err)
        ids = [match[1] for line in out.splitlines() if (match := _ACCEPTED.fullmatch(line.strip()))]
        if rc == 0:
            return Accepted(ids[-1]) if ids else Unclear(f"qsub ended well and printed no id: {said}")
        if rc in (126, 127) and not ids:
            return Refused(FailureClass.CONFIG, f"qsub cannot be run on that host: {said}")
        text = "\n".join(line for line in err.splitlines() if line.startswith(("qsub: ", "usage: qsub")))
        if ids or not text or _UNHEARD.search(err):
            return Unclear(said)
        shrink = 1.0
        if re.search(r"\barrays? jobs?\b|\bjob arrays?\b", text, re.IGNORECASE):
            shrink = 0.5 if "exceeds" in text else 0.0  # a queue may take shorter ones than the server says
        return Refused(FailureClass.THROTTLED if _LATER.search(text) else FailureClass.CONFIG, said, shrink)

    def member(self, id: str, index: int) -> str:
        """Return ``19[3]`` of ``19[]``."""
        return f"{id.partition('[')[0]}[{index}]"

    def queue(self, ids: Sequence[str] = ()) -> str:  # noqa: ARG002 - one server, whatever the ids are
        """Return qstat's command line: members of arrays on lines of their own, hosts, and why jobs wait.

        What does not know those options (rc 2) is asked for a plain table.
        """
        plain_table = f"qstat -t -u {_ME}"
        if not self.keeps_history:
            return _TOOLS + plain_table
        return f"{_TOOLS}( qstat -t -n -s -1 -w -u {_ME}; r=$?; [ $r -ne 2 ] || exec {plain_table}; exit $r )"

    def read_queue(self, rc: int, out: str, err: str) -> list[JobState]:
        """Read a table of qstat's, with 6 columns or with 11 and more. No jobs: no table.

        Under its row a job's comment may stand, with blanks before it.

        Raises:
            SchedulerSilent: qstat failed.
        """
        if rc != 0:
            raise SchedulerSilent(f"the queue was asked for; qstat said (rc {rc}): {words(out, err)}")
        rows: list[tuple[str, Record]] = []
        for line in out.splitlines():
            fields = line.split()
            column = 4 if len(fields) == 6 else 9
            if line.startswith(" "):
                if rows and rows[-1][1]["job_state"] in _WAITING and fields != ["--"]:
                    comment = line.strip()
                    if comment.startswith("Not Running"):  # numbers that change with each cycle are no news
                        comment = re.sub(r" \(R: [^)]*\)", "", comment)
                    rows[-1][1]["comment"] = comment
            elif len(fields) > column and _ID.fullmatch(fields[0]) and len(fields[column]) == 1:
                hosts = "".join(fields[11:12])
                rows.append((fields[0], Record({"job_state": fields[column], "exec_host": hosts})))
        return _members_first([self._state(printed, record) for printed, record in rows])

    def history(self, ids: Sequence[str], since: float) -> list[str]:  # noqa: ARG002 - qstat takes no times
        """Return qstat's command lines, at most 100 ids in each; an array's id asks for its members, too."""
        return [_TOOLS + self._details(" ".join(map(shlex.quote, lot))) for lot in lots(ids, 100)]

    def _details(self, ids: str) -> str:
        """Ask the history, and where it shows nothing the queue: there may be no history."""
        options = "'-x -f' -f" if self.keeps_history else "-f"
        return (
            f'( for o in {options}; do out=$(TZ=UTC0 qstat -t $o {ids}); r=$?; [ -z "$out" ] || break; done; '
            "printf '%s\\n' \"$out\"; exit $r )"
        )

    def read_history(self, rc: int, out: str, err: str) -> list[JobState]:
        """Read what is told about jobs: with several ids the rc is the last error's, and the rest is there.

        Raises:
            SchedulerSilent: Nothing was told, for another reason than that the jobs are unknown.
        """
        kept = self.keeps_history and "not configured to maintain job history" not in err
        records = self._records(rc, out, err)
        return _members_first([self._state(printed, record, kept) for printed, record in records.items()])

    def _records(self, rc: int, out: str, err: str) -> dict[str, Record]:
        found = {key: record for key, record in records(out).items() if _ID.fullmatch(key) and "job_state" in record}
        if not found and rc not in _ANSWERED:
            raise SchedulerSilent(f"the states of jobs were asked for; qstat said (rc {rc}): {words(out, err)}")
        return found

    def lookup(self, name: str, since: float, resources: Resources) -> list[str]:  # noqa: ARG002
        """Return one command: qselect finds ids by the shown name, first live ones, and qstat tells of them."""
        named = f"-u {_ME} -N {shlex.quote(self.job_name(name))}"
        past = f"past=$(qselect -x {named}) || exit" if self.keeps_history else "past="
        return [
            f"{_TOOLS}( set -f; live=$(qselect {named}) || exit; {past}; "
            f'[ -z "$live$past" ] || {self._details("$live $past")} )'
        ]

    def read_lookup(self, name: str, answers: Sequence[tuple[int, str, str]]) -> list[JobState]:
        """Read it: a name that was cut is compared by the token in the job's variables.

        Raises:
            SchedulerSilent: qselect or qstat failed.
        """
        shown, token = self.job_name(name), name.partition(".")[0]
        whole = len(plain(name, len(name))) <= len(shown)
        states = []
        for answer in answers:
            for printed, record in self._records(*answer).items():
                told = record.variable("DFH_TOKEN")
                if record.get("job_name") == shown and (told == token if told else whole):
                    states.append(self._state(printed, record))
        return _members_first(states)

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """Return qdel's command lines."""
        return [f"{_TOOLS}qdel {' '.join(map(shlex.quote, lot))}" for lot in lots(ids, 100)]

    def read_cancel(self, rc: int, out: str, err: str) -> None:
        """Check qdel's answer.

        Raises:
            SchedulerSilent: The server was not there, or did not understand.
        """
        # That a job is gone, or cannot be ended now, the next rounds show.
        complaints = [line for line in err.splitlines() if line.strip() and not _OF_ONE_JOB.fullmatch(line.rstrip())]
        if rc != 0 and (complaints or not err.strip()):
            raise SchedulerSilent(f"jobs were to be cancelled; qdel said (rc {rc}): {words(out, err)}")

    def describe(self) -> str:
        """Return the command that prints the server's attributes."""
        return f"{_TOOLS}qstat -B -f"

    def read_description(self, rc: int, out: str, err: str) -> Facts:
        """Read them.

        Raises:
            SchedulerSilent: There is no PBS on that host, or its server does not answer.
        """
        found = attributes(out)
        if rc != 0 or "pbs_version" not in found:
            raise SchedulerSilent(
                f"the PBS server's attributes were asked for; qstat said (rc {rc}): {words(out, err)}. "
                "If it is not found, log in to a host with PBS's commands, or correct the profile's scheduler."
            )
        kept = clock_seconds(found.get("job_history_duration", found.get("keep_completed", "")))
        history = found.get("job_history_enable") == "True" or "keep_completed" in found
        size = found.get("max_array_size", found.get("max_job_array_size", ""))
        return Facts(
            version=found["pbs_version"],
            accounting=history,
            min_job_age=kept if history else None,
            max_array=int(size) if size.isdecimal() else None,
        )

    def _state(self, printed: str, record: Record, kept: bool = False) -> JobState:
        """Return what a record says; where records of what ended are kept, a member without its own never began."""
        match = _ID.fullmatch(printed)
        assert match is not None  # noqa: S101 - the callers looked
        word, member = record.get("job_state", ""), match[2]
        ended = word != "" and word in _ENDED
        whole_array = member == ""
        status = record.number("exit_status") if ended and not whole_array else None
        waits = word != "" and word in _WAITING
        return JobState(
            id=match[1] if member is None else f"{match[1]}[{member}]",
            job=match[1] if member is None else f"{match[1]}[]",
            index=int(member) if member else None,
            name=record.get("job_name", ""),
            phase=Phase.ENDED if ended else Phase.PENDING if waits else Phase.RUNNING,
            word=word,
            known=word != "" and word in _WAITING + _RUNNING + _ENDED,
            reason=record.get("comment", ""),
            start=ctime_seconds(record.get("estimated.start_time" if waits else "stime", record.get("start_time", ""))),
            node="+".join(dict.fromkeys(re.findall(r"([^/+]+)/[^+]*", record.get("exec_host", "")))),
            exit_code=status if status is not None and 0 <= status <= 256 else None,
            signal=_signal(status),
            failure=self._failure(record, status) if ended else None,
            unbegun=kept and ended and bool(member) and "array_index" not in record,
            submitted=ctime_seconds(record.get("ctime", "")),
        )

    def _failure(self, record: Record, status: int | None) -> FailureClass | None:
        """Return the class where PBS's word is final: limits, deletion, its own failures."""
        if status is not None and status < 0:
            return self.exit_classes.get(status, FailureClass.INFRA)
        used, limit = (clock_seconds(record.get(f"{key}.walltime", "")) for key in ("resources_used", "resource_list"))
        substate = record.get("substate")
        if status == _KILLED_BY_DELETION and used and limit and used >= limit:
            return FailureClass.WALLTIME  # Torque and old PBS end a job at its limit as a deletion does
        if substate == _DELETED or (status == _KILLED_BY_DELETION and substate not in (_FINISHED, _FAILED)):
            return FailureClass.CANCELLED
        return None


class Torque(Pbs):
    """Torque: other names for arrays and resources, no history but for completed jobs that are still kept."""

    longest_name = 15
    array_index = "PBS_ARRAYID"
    keeps_history = False
    reruns_arrays = False
    exit_classes: Mapping[int, FailureClass] = {
        -10: FailureClass.OOM,
        -11: FailureClass.WALLTIME,
        -12: FailureClass.WALLTIME,
    }

    def _resources(self, wanted: Resources) -> list[str]:
        nodes = f"-l nodes={wanted.nodes}:ppn={wanted.tasks * wanted.cpus}"
        nodes += f":gpus={wanted.gpus}" if wanted.gpus else ""
        memory = wanted.memory and f"-l mem={memory_text(wanted.memory, _UNITS, times=wanted.nodes)}"
        return [nodes, *([memory] if memory else []), *([f"-l qos={_quoted(wanted.qos)}"] if wanted.qos else [])]

    def _placement(self, job: JobScript) -> list[str]:
        return ["-o job.out", "-r n", *([f"-t 0-{job.members - 1}{_limit(job)}"] if job.members > 1 else [])]

    def output(self, index: int | None) -> str:
        """Return ``job.out``, to which Torque appends a member's index."""
        return "job.out" if index is None else f"job.out-{index}"


_UNITS = ("kb", "mb", "gb", "tb")


def _members_first(states: list[JobState]) -> list[JobState]:
    """Leave out what is said of an array as a whole where its members speak for themselves."""
    told = {state.job for state in states if state.index is not None}
    return [state for state in states if state.index is not None or state.job not in told]


def _limit(job: JobScript) -> str:
    return f"%{job.at_once}" if job.at_once else ""


def _signal(status: int | None) -> int | None:
    """Return the signal: 256 + n says PBS of its own child, 128 + n the shell of its."""
    if status is None or status <= 128:
        return None
    return status - 256 if status > 256 else (status - 128) % 128 or None


def _said(option: str, extra: Sequence[str]) -> bool:
    """Return whether the user's own directives say something in place of one of ours."""
    if option in ("-r n", "-m n"):
        return any(item.startswith(option[:2]) for item in extra)
    # Of two directives for one resource qsub takes the first.
    resource = re.match(r"-l (\w+=)", option)
    return resource is not None and any(re.match(rf"-l\s*(?:.*,\s*)?{resource[1]}", item) for item in extra)


def _quoted(text: str) -> str:
    """Quote an option's value; qsub takes quotes in directives, and nothing for an escape within them."""
    text = one_line(text).replace('"', "")
    return text if re.fullmatch(r"[\w.@/+:-]+", text, re.ASCII) else f'"{text}"'
