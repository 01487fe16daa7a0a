"""A scheduler for dflow_hpc, for IBM Spectrum LSF: the whole of what a third party writes.

Written from LSF's command reference and tried on a stand-in only. It knows no arrays: it says so in ``Facts``, and
steps of one shape go as single jobs. Nothing in here runs a command: it makes the texts, and reads the answers.

Trap: an answer that could not be had is ``SchedulerSilent`` or ``Unclear``, never "there is no such job".
"""

import re
import shlex

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.schedulers import Accepted, Facts, JobState, Phase, Refused, SchedulerSilent, Unclear
from dflow_hpc.executors.schedulers.texts import counted, memory_text, one_line, plain, seconds, words

WAITING = {"PEND", "PSUSP", "WAIT"}
RUNNING = {"RUN", "USUSP", "SSUSP", "UNKWN", "ZOMBI"}  # UNKWN: its host does not answer. Nobody knows that it ended.
ENDED = {"DONE", "EXIT"}
REASONS = {
    "TERM_RUNLIMIT": FailureClass.WALLTIME,
    "TERM_MEMLIMIT": FailureClass.OOM,
    "TERM_OWNER": FailureClass.CANCELLED,
    "TERM_ADMIN": FailureClass.CANCELLED,
    "TERM_PREEMPT": FailureClass.PREEMPTED,
    "TERM_UNKNOWN": FailureClass.INFRA,
}
FIELDS = "jobid stat exit_code exec_host exit_reason job_name delimiter='|'"
LATER = re.compile(r"limit|temporarily|too many", re.IGNORECASE)
MISSING = re.compile(r"is not found|No unfinished job found|No job found|already finished", re.IGNORECASE)


class Lsf:
    def job_name(self, name):
        return plain(name, 200)

    def script(self, job):
        wanted = counted(job.resources)
        if job.members > 1:
            raise ConfigError("this plugin for LSF makes no arrays.")
        if wanted.nodes > 1 or wanted.gpus:
            raise ConfigError("this plugin for LSF asks for one node without GPUs; say more in extra.")
        options = [
            f"-J {self.job_name(job.name)}",
            f"-o {self.output(None)}",
            "-rn",  # not to be run again by LSF: that is our own decision
            f"-n {wanted.tasks * wanted.cpus}",
            *([f"-q {plain(wanted.queue, 200)}"] if wanted.queue else []),
            *([f"-P {plain(wanted.account, 200)}"] if wanted.account else []),
            *([f"-M {memory_text(wanted.memory, ['KB', 'MB', 'GB'])}"] if wanted.memory else []),
            *([f"-W {-(-seconds(wanted.time) // 60)}"] if wanted.time else []),  # minutes
            *(item.removeprefix("#BSUB").strip() for item in wanted.extra),
        ]
        lines = ["#!/bin/sh", *(f"#BSUB {option}" for option in options), f"# {one_line(job.comment)}"]
        lines += ["DFH_INDEX=0 DFH_JOB_ID=$LSB_JOBID; export DFH_INDEX DFH_JOB_ID"]
        return "\n".join([*lines, f"cd {shlex.quote(job.directory)} || exit 1", job.body, ""])

    def output(self, index):
        return "job.out"

    def submit(self, path):
        return f"bsub <{shlex.quote(path)}"  # only from stdin does bsub read the options in a script

    def submitted(self, rc, out, err):
        match = re.search(r"^Job <(\d+)> is submitted", out, re.MULTILINE)
        if match:
            return Accepted(match[1])
        if rc == 255 and "Job not submitted" in err:
            return Refused(FailureClass.THROTTLED if LATER.search(err) else FailureClass.CONFIG, words(out, err))
        return Unclear(words(out, err))

    def member(self, id, index):
        return id

    def queue(self, ids=()):
        return f'bjobs -noheader -o "{FIELDS}"'

    def read_queue(self, rc, out, err):
        if rc != 0 and not MISSING.search(err):
            raise SchedulerSilent(f"LSF was asked for jobs; bjobs said (rc {rc}): {words(out, err)}")
        lines = [line.split("|") for line in out.splitlines()]
        return [self._state(*fields) for fields in lines if len(fields) == 6 and fields[0].isdecimal()]

    def _state(self, job, word, code, host, reason, name):
        phase = Phase.PENDING if word in WAITING else Phase.ENDED if word in ENDED else Phase.RUNNING
        reason = reason.partition(":")[0]
        return JobState(
            id=job,
            job=job,
            index=None,
            name=name,
            phase=phase,
            word=word,
            known=word in WAITING | RUNNING | ENDED,
            reason="" if reason == "-" else reason,
            node="" if host == "-" else host,
            exit_code=int(code) if code.isdecimal() else None,
            failure=REASONS.get(reason) if word == "EXIT" else None,
        )

    def history(self, ids, since):
        return [f'bjobs -a -noheader -o "{FIELDS}" {" ".join(map(shlex.quote, ids))}']

    read_history = read_queue

    def lookup(self, name, since, resources):
        return [f'bjobs -a -noheader -o "{FIELDS}" -J {shlex.quote(self.job_name(name))}']

    def read_lookup(self, name, answers):
        return [state for answer in answers for state in self.read_queue(*answer) if state.name == self.job_name(name)]

    def cancel(self, ids):
        return [f"bkill {' '.join(map(shlex.quote, ids))}"]

    def read_cancel(self, rc, out, err):
        complaints = [line for line in err.splitlines() if line.strip() and not MISSING.search(line)]
        if rc != 0 and complaints:
            raise SchedulerSilent(f"jobs were to be cancelled; bkill said (rc {rc}): {words(out, err)}")

    def describe(self):
        return "lsid"

    def read_description(self, rc, out, err):
        match = re.search(r"LSF.*?(\d+(?:\.\d+)+)", out)
        if rc != 0 or match is None:
            raise SchedulerSilent(f"LSF was asked for its version; lsid said (rc {rc}): {words(out, err)}")
        return Facts(version=match[1], accounting=True, min_job_age=3600, max_array=1)
