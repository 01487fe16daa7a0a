"""Slurm: batch scripts for sbatch, and what sbatch, squeue, sacct, scancel and scontrol answer.

Read on Slurm 22.05 with and without accounting (``tests/schedulers/data``), and in the manual pages. Each command runs
with ``TZ=UTC0``, so that its times mean the same here and there. Headers are kept in tables: an answer without one was
not given by the tool. Where sbatch prints a cluster (``123;gpu``), it stays part of the id, and ``-M`` is passed.

Not here: what follows from a state. FAILED and COMPLETED are not final words (``kill -9`` of a script shows as FAILED
with the reason JobLaunchFailure, a cancelled job may show the exit code 0:0): the marker decides.

Trap: sbatch takes options from the environment before those of the script, so ``SBATCH_JOB_NAME`` in somebody's
profile would hide our jobs from ourselves. The options that identify a job are taken out of the environment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

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
from dflow_hpc.executors.schedulers.texts import (
    clock,
    counted,
    iso,
    lots,
    memory_text,
    one_line,
    plain,
    seconds,
    words,
)

_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT")
_ENDED: dict[str, FailureClass | None] = {
    "COMPLETED": None,
    "FAILED": None,
    "REVOKED": None,  # a sibling of a federation started instead
    "CANCELLED": FailureClass.CANCELLED,
    "TIMEOUT": FailureClass.WALLTIME,
    "DEADLINE": FailureClass.WALLTIME,
    "OUT_OF_MEMORY": FailureClass.OOM,
    "NODE_FAIL": FailureClass.INFRA,
    "BOOT_FAIL": FailureClass.INFRA,
    "PREEMPTED": FailureClass.PREEMPTED,
}
_ID = re.compile(r"(\d+)(?:_(?:(\d+)|\[([^\]]*)\]?))?", re.ASCII)
_ACCEPTED = re.compile(r"\d+(;\S+)?", re.ASCII)
_LINE = re.compile(r"[^\n]+")
_SPAN = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)
_LARGEST_ARRAY = 4_000_001  # Slurm's own bound of MaxArraySize

# Unset for sbatch: they would replace what names a job, where its output goes, or let sbatch wait for its end.
_OUR_OPTIONS = ("ARRAY_INX", "ERROR", "JOB_NAME", "NO_REQUEUE", "OPEN_MODE", "OUTPUT", "REQUEUE", "SIGNAL", "WAIT")

# Words of the communication, not of the scheduler's decision: the request may or may not have arrived.
_UNHEARD = re.compile(
    "unable to contact|timed out|zero bytes|communication|connect|unexpected message|authentication|standby"
    "|could not establish|not in normal state",
    re.IGNORECASE,
)
_LATER = re.compile(
    r"MaxSubmit|temporarily unable|resource temporarily|partition not available|rpc limit|i/o error", re.IGNORECASE
)
_TOO_BIG = re.compile(r"\b(?:QOS|Assoc)\w*(?:PerJob|MaxWall|Max\w*Min|Min\w*)\w*", re.IGNORECASE)
_POLICY = re.compile(r"accounting/QOS policy", re.IGNORECASE)
_GONE = re.compile(r"invalid job id|already (?:completing|completed|finished)", re.IGNORECASE)
_NO_RECORDS = "accounting storage is disabled"

_QUEUE_COLUMNS = "%i|%T|%r|%S|%V|%N|%j"  # the name last: other people's may hold the separator
_HISTORY_COLUMNS = "JobID,State,ExitCode,Reason,NodeList,Submit,Start,End,JobName"
_ENVIRONMENT = "TZ=UTC0 SLURM_BITSTR_LEN=0"  # the second: indices of arrays in full
_ME = '"$(id -u)"'


class Slurm:
    """Slurm's commands and texts."""

    def job_name(self, name: str) -> str:
        """Return the name in letters that need no quoting in ``squeue -n``; accounting keeps 255 of them."""
        return plain(name, 200)

    def script(self, job: JobScript) -> str:
        """Return the batch script; ``--no-requeue`` is left out only if ``extra`` says ``--requeue``.

        Raises:
            ConfigError: The resources cannot be said to Slurm.
        """
        options = self._options(job, counted(job.resources))
        extra = [item.removeprefix("#SBATCH").strip() for item in job.resources.extra]
        if any(item.split("=")[0] == "--requeue" for item in extra):
            options.remove("--no-requeue")
        index, own = "0", "$SLURM_JOB_ID"
        if job.members > 1:
            index, own = "$SLURM_ARRAY_TASK_ID", "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
        lines = [
            "#!/bin/sh",
            *(f"#SBATCH {option}" for option in [*sorted(options), *extra]),
            f"DFH_INDEX={index} DFH_JOB_ID={own}",
            "export DFH_INDEX DFH_JOB_ID",
            job.body.rstrip("\n"),
        ]
        return "\n".join(lines) + "\n"

    def _options(self, job: JobScript, wanted: Resources) -> list[str]:
        array = f"0-{job.members - 1}" + (f"%{job.at_once}" if job.at_once else "")
        values = {
            "account": wanted.account and _quoted(wanted.account),
            "array": array if job.members > 1 else None,
            "chdir": _quoted(job.directory),
            "comment": _quoted(job.comment),
            "cpus-per-task": wanted.cpus,
            "exclude": ",".join(wanted.exclude) and _quoted(",".join(wanted.exclude)),
            "gres": f"gpu:{wanted.gpus}" if wanted.gpus else None,
            "job-name": self.job_name(job.name),
            "mem": wanted.memory and memory_text(wanted.memory, "KMGT"),
            "nodes": wanted.nodes,
            "ntasks-per-node": wanted.tasks,
            "open-mode": "append",
            "output": self.output(None) if job.members == 1 else "job.%a.out",
            "partition": wanted.queue and _quoted(wanted.queue),
            "qos": wanted.qos and _quoted(wanted.qos),
            "signal": f"B:USR2@{job.warn}" if job.warn and wanted.time else None,
            "time": wanted.time and clock(seconds(wanted.time)),
        }
        return ["--no-requeue", *(f"--{key}={value}" for key, value in values.items() if value)]

    def output(self, index: int | None) -> str:
        """Return ``job.out``, or ``job.<index>.out``."""
        return "job.out" if index is None else f"job.{index}.out"

    def submit(self, path: str) -> str:
        """Return sbatch's command line."""
        unset = " ".join(f"-u SBATCH_{option}" for option in _OUR_OPTIONS)
        return f"env {unset} sbatch --parsable {shlex.quote(path)}"

    def submitted(self, rc: int, out: str, err: str) -> Accepted | Refused | Unclear:
        """Read sbatch's answer: warnings on stderr are no failure, words about the connection are no refusal."""
        said = words(out, err)
        ids = [line.strip() for line in out.splitlines() if _ACCEPTED.fullmatch(line.strip())]
        if rc == 0:
            return Accepted(ids[-1]) if ids else Unclear(f"sbatch ended well and printed no id: {said}")
        if rc in (126, 127) and not ids:
            return Refused(FailureClass.CONFIG, f"sbatch cannot be run on that host: {said}")
        complaints = [line for line in err.splitlines() if re.match("sbatch: (?!warning)", line, re.IGNORECASE)]
        text = "\n".join(complaints)
        if ids or not complaints or _UNHEARD.search(text):
            return Unclear(said)
        later = _LATER.search(text) or (_POLICY.search(text) and not _TOO_BIG.search(text))
        return Refused(FailureClass.THROTTLED if later else FailureClass.CONFIG, said)

    def member(self, id: str, index: int) -> str:
        """Return ``1214_3``, with the cluster where there is one."""
        number, cluster = _split(id)
        return _joined(f"{number}_{index}", cluster)

    def queue(self, ids: Sequence[str] = ()) -> str:
        """Return squeue's command line: one table, and one for each other cluster that the ids name."""
        return _squeue("", list(_by_cluster(ids)))

    def read_queue(self, rc: int, out: str, err: str) -> list[JobState]:
        """Read squeue's tables.

        Raises:
            SchedulerSilent: squeue failed, or printed no table.
        """
        return _newest(_table("squeue", rc, out, err))

    def history(self, ids: Sequence[str], since: float) -> list[str]:
        """Return sacct's command lines, at most 200 ids in each."""
        return [
            _sacct(f"-j {','.join(lot)}", since, cluster)
            for cluster, numbers in _by_cluster(ids).items()
            for lot in lots(numbers, 200)
        ]

    def read_history(self, rc: int, out: str, err: str) -> list[JobState]:
        """Read sacct's table, the newest record of each id and name.

        Raises:
            SchedulerSilent: sacct failed, or there is no accounting.
        """
        return _newest(_table("sacct", rc, out, err))

    def lookup(self, name: str, since: float, resources: Resources) -> list[str]:
        """Return the search by name in the queue and, from ten minutes before ``since``, in the accounting."""
        found = re.search(r"(?:^|\s)(?:--clusters[= ]|-M ?)(\S+)", " ".join(resources.extra))
        clusters = found[1].strip("\"'").split(",") if found else []
        name = shlex.quote(self.job_name(name))
        return [
            _squeue(f" -n {name}", clusters),
            *(_sacct(f"--name={name} -u {_ME}", since, cluster) for cluster in clusters or [""]),
        ]

    def read_lookup(self, name: str, answers: Sequence[tuple[int, str, str]]) -> list[JobState]:
        """Read the search: records of that name. Without accounting the queue alone counts.

        Raises:
            SchedulerSilent: squeue failed; or sacct did, and the queue does not know the job.
        """
        states, silent = [], None
        for number, answer in enumerate(answers):
            try:
                states += _table("squeue" if number == 0 else "sacct", *answer)
            except SchedulerSilent as error:
                if number == 0:
                    raise
                if _NO_RECORDS not in answer[1] + answer[2]:
                    silent = error
        shown = self.job_name(name)
        # Accounting lags behind the queue: where both know a job, the queue's record, which came first, stays.
        states = _newest(reversed([state for state in states if state.name == shown]))
        if silent and not states:
            raise silent
        return states

    def enter(self, id: str, line: str) -> str:
        """Return srun's command line: a step that takes nothing from those that run."""
        number, cluster = _split(id)
        words = f"--jobid={number} --overlap --nodes=1 --ntasks=1 --quiet"
        return f"{_ENVIRONMENT} srun{_at(cluster)} {words} /bin/sh -c {shlex.quote(line)}"

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """Return scancel's command lines."""
        return [
            f"scancel{_at(cluster)} {' '.join(lot)}"
            for cluster, numbers in _by_cluster(ids).items()
            for lot in lots(numbers, 200)
        ]

    def read_cancel(self, rc: int, out: str, err: str) -> None:
        """Check scancel's answer: it says nothing about ids that are unknown or ended (rc 0).

        Raises:
            SchedulerSilent: The controller was not there (rc 8), or it did not agree.
        """
        complaints = [line for line in err.splitlines() if line.strip() and not _GONE.search(line)]
        if rc != 0 and (complaints or not err.strip()):
            raise SchedulerSilent(f"jobs were to be cancelled; scancel said (rc {rc}): {words(out, err)}")

    def describe(self) -> str:
        """Return the command that prints the cluster's configuration, and a line for each of its nodes."""
        return "scontrol show config && { sinfo -h -N -o 'node %N %c %m %G' || :; }"

    def read_description(self, rc: int, out: str, err: str) -> Facts:
        """Read the configuration.

        Raises:
            SchedulerSilent: There is no Slurm on that host, or its controller does not answer.
        """
        found = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", out, re.MULTILINE))
        if rc != 0 or "SLURM_VERSION" not in found:
            raise SchedulerSilent(
                f"Slurm's configuration was asked for; scontrol said (rc {rc}): {words(out, err)}. "
                "If it is not found, log in to a host with Slurm's commands, or correct the profile's scheduler."
            )
        storage = found.get("AccountingStorageType", "")
        # A node is listed once for each of its partitions.
        nodes = {each[0]: each for each in re.findall(r"^node (\S+) (\d+)\+? (\d+)\+? (\S+)", out, re.MULTILINE)}
        return Facts(
            cpus=sum(int(each[1]) for each in nodes.values()) or None,
            memory=sum(int(each[2]) for each in nodes.values()) * (1 << 20) or None,
            gpus=sum(map(_gpus, (each[3] for each in nodes.values()))),
            version=found["SLURM_VERSION"],
            accounting="none" not in storage and storage not in ("", "(null)"),
            min_job_age=_number(found.get("MinJobAge", "")),
            max_array=_number(found.get("MaxArraySize", "")),
        )


def _gpus(gres: str) -> int:
    """Return how many GPUs a node has by its generic resources: ``gpu:a100:4(S:0-1),gpu:2,shard:8``."""
    return sum(int(number) for number in re.findall(r"(?:^|,)gpu(?::[^:,(]+)?:(\d+)", gres))


def _quoted(text: str) -> str:
    """Quote for a line of directives, where sbatch takes a backslash for an escape within any quotes."""
    return '"' + re.sub(r'(["\\])', r"\\\1", one_line(text)) + '"'


def _number(text: str) -> int | None:
    match = re.match(r"\d+", text, re.ASCII)
    return int(match[0]) if match else None


def _split(id: str) -> tuple[str, str]:
    number, _, cluster = id.partition(";")
    return number, cluster


def _joined(number: str, cluster: str) -> str:
    return f"{number};{cluster}" if cluster else number


def _by_cluster(ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the numbers of each cluster's ids; the name of our own, which is not printed, is empty."""
    found: dict[str, list[str]] = {}
    for number, cluster in sorted(map(_split, ids), key=lambda pair: pair[1]):
        found.setdefault(cluster, []).append(number)
    return found


def _at(cluster: str) -> str:
    return f" -M {shlex.quote(cluster)}" if cluster else ""


def _squeue(options: str, clusters: Sequence[str]) -> str:
    command = f"{_ENVIRONMENT} squeue -u {_ME} -t all -r -o '{_QUEUE_COLUMNS}'{options}"
    return " && ".join(command + _at(cluster) for cluster in clusters or [""])


def _sacct(options: str, since: float, cluster: str) -> str:
    """Ask from ten minutes before a time of ours: the clock there may be behind."""
    command = f"{_ENVIRONMENT} sacct -P -X -D {options} -S {iso(since - 600)} -o {_HISTORY_COLUMNS}"
    return f"echo CLUSTER: {shlex.quote(cluster)}; {command}{_at(cluster)}" if cluster else command


def _table(tool: str, rc: int, out: str, err: str) -> list[JobState]:
    """Read a table with ``|`` between its columns; ``CLUSTER: x``, which ``-M`` adds, holds for what follows it."""
    columns: list[str] = []
    cluster = ""
    states: list[JobState] = []
    last: list[str] = []
    for line in (found[0] for found in _LINE.finditer(out)):  # an account may have tens of thousands of jobs
        fields = [field.strip() for field in line.split("|", max(len(columns) - 1, 0) or -1)]
        if line.startswith("CLUSTER: "):
            cluster = line.removeprefix("CLUSTER: ").strip()
        elif fields[0].upper() == "JOBID" and len(fields) > 1:
            columns, last = [field.upper().replace("_", "") for field in fields], []
        elif columns and len(fields) == len(columns):
            # A text that is as in the line above is kept once: names, states, nodes, times.
            last = [old if old == new else new for old, new in zip(last or fields, fields, strict=True)]
            states += _states(dict(zip(columns, last, strict=True)), cluster)
    if rc != 0 or not columns:
        raise SchedulerSilent(f"the states of jobs were asked for; {tool} said (rc {rc}): {words(out, err)}")
    return states


def _states(record: dict[str, str], cluster: str) -> list[JobState]:
    """Return the states in one line: none if it is a step's, many if it is a pending array's."""
    match = _ID.fullmatch(record["JOBID"])
    if match is None or not record.get("STATE"):
        return []
    word = record["STATE"].split()[0].rstrip("+")
    ended = word in _ENDED
    code, _, signal = record.get("EXITCODE", "").partition(":")
    node = record.get("NODELIST", "")
    indices = _indices(match[3]) if match[3] is not None else [int(match[2]) if match[2] else None]
    return [
        JobState(
            id=_joined(match[1] if index is None else f"{match[1]}_{index}", cluster),
            job=_joined(match[1], cluster),
            index=index,
            name=record.get("JOBNAME", record.get("NAME", "")),
            phase=Phase.ENDED if ended else Phase.PENDING if word in _WAITING else Phase.RUNNING,
            word=word,
            known=ended or word in _WAITING or word in _RUNNING,
            reason="" if record.get("REASON") in ("None", None) else record["REASON"],
            start=_time(record.get("START", record.get("STARTTIME", ""))),
            node="" if node in ("None assigned", "(null)") else node,
            exit_code=_number(code) if ended else None,
            signal=(_number(signal) or None) if ended else None,
            failure=_ENDED.get(word),
            submitted=_time(record.get("SUBMIT", record.get("SUBMITTIME", ""))),
        )
        for index in indices
    ]


def _indices(text: str) -> list[int | None]:
    """Expand ``0-3``, ``1,5-9:2%10``; what is cut off by ``...`` stays unsaid, which is no state."""
    found: list[int | None] = []
    for part in text.partition("%")[0].split(","):
        span = _SPAN.fullmatch(part)
        if span and int(span[2] or span[1]) < _LARGEST_ARRAY:
            found += range(int(span[1]), int(span[2] or span[1]) + 1, max(int(span[3] or 1), 1))
    return found


def _newest(states: Iterable[JobState]) -> list[JobState]:
    """Keep the newest submission of each id and name: ids come again, and a requeue makes a second record."""
    best: dict[tuple[str, str], JobState] = {}
    for state in states:
        old = best.get((state.id, state.name))
        if old is None or (state.submitted or 0) >= (old.submitted or 0):
            best[state.id, state.name] = state
    return list(best.values())


def _time(text: str) -> float | None:
    """Read a time, in UTC as our commands ask for it; None for ``N/A``, ``Unknown`` and the like."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
