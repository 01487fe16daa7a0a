"""A scheduler as a third party would write it, for Grid Engine: what the interface costs.

Read in the manual pages of qsub, qstat and qacct; a toy, which no cluster has seen.
"""

import re
import shlex

from dflow_hpc.executors.failures import FailureClass
from dflow_hpc.executors.schedulers import Accepted, Facts, JobState, Phase, Refused, SchedulerSilent, Unclear
from dflow_hpc.executors.schedulers.texts import clock, memory_text, plain, seconds, words


class GridEngine:
    def job_name(self, name):
        return "j" + plain(name, 200)  # a digit first is refused

    def script(self, job):
        wanted = job.resources
        lines = ["#!/bin/sh", "#$ -S /bin/sh", f"#$ -N {self.job_name(job.name)}", "#$ -cwd", "#$ -j y", "#$ -r n"]
        lines.append("#$ -o job.out" if job.members == 1 else "#$ -o job.$TASK_ID.out")
        lines += [f"#$ -t 1-{job.members}"] if job.members > 1 else []
        lines += [f"#$ -tc {job.at_once}"] if job.at_once else []
        lines += [f"#$ -pe smp {wanted.cpus * wanted.tasks}"] if wanted.cpus * wanted.tasks > 1 else []
        lines += [f"#$ -l h_vmem={memory_text(wanted.memory, 'KMGT')}"] if wanted.memory else []
        lines += [f"#$ -l h_rt={clock(seconds(wanted.time))}"] if wanted.time else []
        lines += [f"#$ -q {plain(wanted.queue, 200)}"] if wanted.queue else []
        lines += [f"#$ {item}" for item in wanted.extra]
        index = "$((SGE_TASK_ID - 1))" if job.members > 1 else "0"
        own = f"${{JOB_ID}}.{index}" if job.members > 1 else "$JOB_ID"
        return "\n".join([*lines, f"DFH_INDEX={index} DFH_JOB_ID={own}; export DFH_INDEX DFH_JOB_ID", job.body, ""])

    def output(self, index):
        return "job.out" if index is None else f"job.{index + 1}.out"

    def submit(self, path):
        return f"qsub -terse {shlex.quote(path)}"

    def submitted(self, rc, out, err):
        match = re.search(r"^(\d+)(?:\.\d+-\d+:\d+)?$", out, re.MULTILINE)
        if rc == 0 and match:
            return Accepted(match[1])
        if rc == 1 and "Unable to run job" in err and "qmaster" not in err:
            later = "too many" in err or "limit" in err
            return Refused(FailureClass.THROTTLED if later else FailureClass.CONFIG, words(out, err))
        return Unclear(words(out, err))

    def member(self, id, index):
        return f"{id}.{index}"

    def queue(self, ids=()):
        return 'qstat -u "$(id -un)" -g d'

    def read_queue(self, rc, out, err):
        if rc != 0:
            raise SchedulerSilent(f"qstat said (rc {rc}): {words(out, err)}")
        states = []
        for line in out.splitlines():
            fields = line.split()
            if len(fields) >= 8 and fields[0].isdecimal():
                task = fields[-1] if len(fields) == 10 or (len(fields) == 9 and "@" not in fields[7]) else None
                states.append(self._state(fields[0], task, fields[4]))
        return states

    def _state(self, job, task, word, **more):
        index = int(task) - 1 if task and task.isdecimal() else None
        phase = Phase.PENDING if "q" in word else Phase.RUNNING
        return JobState(
            id=job if index is None else self.member(job, index),
            job=job,
            index=index,
            name=more.pop("name", ""),
            phase=more.pop("phase", phase),
            word=word,
            known=bool(re.fullmatch("[RdhqrstwTSE]+|done", word)),
            **more,
        )

    def history(self, ids, since):
        return [f"qacct -j {asked.partition('.')[0]}" for asked in ids]

    def read_history(self, rc, out, err):
        if rc != 0 and "not found" not in err:
            raise SchedulerSilent(f"qacct said (rc {rc}): {words(out, err)}")
        states = []
        for part in out.split("=" * 62)[1:]:
            told = dict(re.findall(r"^(\w+) +(.*?) *$", part, re.MULTILINE))
            code = int(told.get("exit_status", "0").split()[0])
            failure = FailureClass.WALLTIME if told.get("failed", "0").startswith("37") else None
            state = self._state(
                told["jobnumber"], told.get("taskid"), "done", phase=Phase.ENDED, name=told.get("jobname", ""),
                exit_code=code, signal=code - 128 if code > 128 else None, failure=failure,
            )  # fmt: skip
            states.append(state)
        return states

    def lookup(self, name, since, resources):
        return [f'qstat -u "$(id -un)" -g d -j {self.job_name(name)}', f"qacct -j {self.job_name(name)}"]

    def read_lookup(self, name, answers):
        (_, live, _), history = answers
        found = re.findall(r"^job_number: +(\d+)", live, re.MULTILINE)
        return [self._state(job, None, "r") for job in found] or self.read_history(*history)

    def cancel(self, ids):
        parts = [asked.partition(".") for asked in ids]
        return [f"qdel {job}" + (f" -t {int(index) + 1}" if index else "") for job, _, index in parts]

    def read_cancel(self, rc, out, err):
        if rc != 0 and "does not exist" not in out + err:
            raise SchedulerSilent(f"qdel said (rc {rc}): {words(out, err)}")

    def describe(self):
        return "qstat -help | head -n 1"

    def read_description(self, rc, out, err):
        if rc != 0 or not out.strip():
            raise SchedulerSilent(f"qstat said (rc {rc}): {words(out, err)}")
        return Facts(version=out.strip())
