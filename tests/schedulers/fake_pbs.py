"""OpenPBS 23.06 in one file: qsub, qstat, qselect, qdel, qhold and qrls that answer as the real ones and run the jobs.

Texts, exit codes and the order of attributes are those of ``data/openpbs-*.txt``; ``test_fake_pbs.py`` compares them
byte for byte. A job is a process of this file (``mom``) in a session of its own, an array is one such process for all
of its members. State: ``$FAKE_PBS`` with ``jobs/<n>.json``, and files by which a test makes it difficult:

    down          the server cannot be reached
    no-history    it forgets jobs that have ended
    hold          what is submitted is held, as by a site's hook
    full          no more jobs are taken
    room          so many jobs are taken at once, each member of an array counts
    arrays        members that an array may have in its queue; 0 or a text: none, and a hook says so in these words
    at-once       members of an array that run at once, whatever it asks for
    defaults      the server's default arguments for qsub
    mom-down      jobs that run cannot be ended
    old           qstat does not know all options
    mute          the next job is taken, and the answer is lost; the file goes with it
    next          the number of the next job: a server that crashed leaves out some

Started as ``python fake_pbs.py qsub ...``; ``fakes.py`` writes the commands.
"""

import contextlib
import fcntl
import getpass
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

SERVER, VERSION, CPUS = "pbs-login", "23.06.06", 16
QUEUES = {"workq": None, "gpuq": None, "short": 600}
KNOWN = {"select", "ncpus", "mem", "walltime", "nodes", "ngpus", "place", "vmem", "cput", "file"}
MAX_ARRAY = int(os.environ.get("FAKE_PBS_MAX_ARRAY", "10000"))
KILL_DELAY = float(os.environ.get("FAKE_PBS_KILL_DELAY", "10"))
USAGE_QSUB = """usage: qsub [-a date_time] [-A account_string] [-c interval]
	[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
	[-k keep] [-l resource_list] [-m mail_options] [-M user_list]
	[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]
	[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]
	[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]
       qsub --version
"""


class Refusal(Exception):
    """A tool ends with a text on stderr and an exit code."""

    def __init__(self, text: str, rc: int):
        super().__init__(text)
        self.rc = rc


# --- state ----------------------------------------------------------------------------------------------------------


def root() -> Path:
    return Path(os.environ["FAKE_PBS"])


@contextlib.contextmanager
def locked():
    with (root() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def load(number: int) -> dict:
    return json.loads((root() / "jobs" / f"{number}.json").read_text())


def save(job: dict) -> None:
    path = root() / "jobs" / f"{job['number']}.json"
    path.with_suffix(".tmp").write_text(json.dumps(job))
    path.with_suffix(".tmp").rename(path)


@contextlib.contextmanager
def changing(number: int):
    with locked():
        job = load(number)
        yield job
        save(job)


def everything() -> list[dict]:
    jobs = [load(int(path.stem)) for path in (root() / "jobs").glob("*.json")]
    if (root() / "no-history").exists():
        jobs = [job for job in jobs if job["attributes"]["job_state"] != "F"]
    return sorted(jobs, key=lambda job: job["number"])


def ctime(seconds: float) -> str:
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(seconds))


# --- qsub -----------------------------------------------------------------------------------------------------------

SWITCHES = "hVzfIX"


def options(words: list[str], found: dict) -> list[str]:
    """Fill in options, those of ``-l`` and ``-W`` collected; return the rest of the words."""
    words = list(words)
    while words and words[0].startswith("-") and words[0] != "--":
        word = words.pop(0)
        letter, value = word[1], word[2:]
        if letter in SWITCHES:
            found[letter] = "True"
            continue
        value = value or words.pop(0)
        found[letter] = f"{found[letter]},{value}" if letter in "lW" and letter in found else value
    return words


def directives(script: str) -> list[str]:
    words: list[str] = []
    for line in script.splitlines():
        if line.startswith("#PBS"):
            words += shlex.split(line[4:])
        elif line.strip() and not line.startswith("#"):
            break
    return words


def qsub(arguments: list[str]) -> None:
    given: dict[str, str] = {}
    rest = options(arguments, given)
    if rest and rest[0] != "--":
        if not Path(rest[0]).is_file():
            raise Refusal("qsub: script file:: No such file or directory", 1)
        script, name = Path(rest[0]).read_text(), Path(rest[0]).name
    elif rest:
        script, name = shlex.join(rest[1:]), "STDIN"
    else:
        script, name = sys.stdin.read(), "STDIN"
    wanted: dict[str, str] = {}
    read_defaults(wanted, script, given)
    with locked():
        if (root() / "hold").exists():
            wanted["h"] = "True"
        members, _ = array(wanted)
        room = setting("room")
        if room and sum(map(living, everything())) + (len(members) or 1) > int(room):  # not in the samples: as "full"
            raise Refusal("qsub: would exceed queue workq's per-user limit", 38)
        if (root() / "full").exists():  # not in the samples: the text and number are those of OpenPBS's list of errors
            raise Refusal("qsub: Maximum number of jobs already in queue", 198)
        job = accepted(wanted, name, shlex.join(arguments))
        (root() / "jobs" / f"{job['number']}.sh").write_text(script)
        save(job)
    if job["attributes"]["job_state"] != "H" and int(job["attributes"]["Resource_List"]["ncpus"]) <= CPUS:
        start_mom(job["number"])
    if (root() / "mute").exists():
        (root() / "mute").unlink()
        raise Refusal("qsub: End of File", 1)
    print(job["id"])


def setting(name: str) -> str:
    """What a test says in a file."""
    path = root() / name
    return path.read_text().strip() if path.exists() else ""


def living(job: dict) -> int:
    """The jobs of an account that count: each member of an array that has not ended."""
    return sum(member["job_state"] not in "FX" for member in (job["members"] or {"": job["attributes"]}).values())


RERUN = "qsub: cannot submit non-rerunable Array Job"


def read_defaults(wanted: dict, script: str, given: dict) -> None:
    """Fill in what the command line, the script and the server's defaults say; of a resource the first word counts.

    Not in the samples: the order is that of the sources, the texts are those of clusters whose default is ``-r n``.
    """
    by_default: dict[str, str] = {}
    options(shlex.split(setting("defaults")), by_default)
    options(directives(script), wanted)
    if wanted.get("r") == "n" and "J" in wanted and not given:
        raise Refusal(f"{RERUN}\nqsub: directive error: -r n ", 1)
    if by_default.get("r") == "n" and "J" in {**wanted, **given} and "r" not in {**wanted, **given}:
        raise Refusal(f"{RERUN}\nqsub: directive error: {setting('defaults')} ", 255)
    resources = ",".join(source["l"] for source in (given, wanted, by_default) if "l" in source)
    wanted.update({**by_default, **wanted, **given} | ({"l": resources} if resources else {}))


def accepted(wanted: dict, default: str, arguments: str) -> dict:
    name, queue = wanted.get("N", default), wanted.get("q", "workq")
    if not re.fullmatch(r"[\w.+-]+", name):
        raise Refusal("qsub: illegal -N value\n" + USAGE_QSUB.rstrip("\n"), 2)
    if len(name) > 230:
        raise Refusal("qsub: Job name is too long ", 2)
    members, at_once = array(wanted)
    if queue not in QUEUES:
        raise Refusal("qsub: Unknown queue", 170)
    resources = resource_list(wanted)
    limit = QUEUES[queue]
    if limit and seconds(resources.get("walltime", "0")) > limit:
        raise Refusal("qsub: Job violates queue and/or server resource limits", 188)
    number = next_number()
    job_id = f"{number}[].{SERVER}" if members else f"{number}.{SERVER}"
    now, where = time.time(), Path.cwd()
    end = f".{number}" + (".^array_index^" if members else "")
    held = "h" in wanted
    attributes = {
        "Job_Name": name,
        "Job_Owner": f"{getpass.getuser()}@{SERVER}",
        "job_state": "H" if held else "Q",
        "queue": queue,
        "server": SERVER,
        "Checkpoint": "u",
        "ctime": now,
        "Error_Path": f"{SERVER}:{where / wanted.get('e', name + '.e' + end[1:])}",
        "Hold_Types": "u" if held else "n",
        "Join_Path": wanted.get("j", "n"),
        "Keep_Files": "n",
        "Mail_Points": "a",
        "mtime": now,
        "Output_Path": f"{SERVER}:{where / wanted.get('o', name + '.o' + end[1:])}",
        "Priority": 0,
        "qtime": now,
        "Rerunable": "False" if wanted.get("r") == "n" else "True",
        "Resource_List": resources,
        "substate": 20 if held else 10,
        "Variable_List": variables(wanted, queue, where),
        "etime": now,
        "Submit_arguments": arguments,
        "project": "_pbs_project_default",
        "Submit_Host": SERVER,
    }
    if "S" in wanted:
        attributes["Shell_Path_List"] = wanted["S"]
    if int(resources["ncpus"]) > CPUS:
        lacking = f"ncpus (R: {resources['ncpus']} A: {CPUS} T: {CPUS})"
        attributes["comment"] = f"Can Never Run: Insufficient amount of resource: {lacking}"
    return {
        "number": number,
        "id": job_id,
        "attributes": attributes,
        "members": {str(index): {"job_state": "Q", "substate": 10} for index in members},
        "at_once": at_once,
        "deleted": [],
        "rerun": [],
    }


def next_number() -> int:
    """The next number of a job; one that was to be used by a refused submission is given again."""
    told = root() / "next"
    if told.exists():
        number = int(told.read_text())
        told.unlink()
        return number
    return max((int(path.stem) for path in (root() / "jobs").glob("*.json")), default=-1) + 1


def array(wanted: dict) -> tuple[list[int], int | None]:
    if "J" not in wanted:
        return [], None
    match = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?(?:%(\d+))?", wanted["J"])
    if not match or int(match[1]) >= int(match[2]):
        raise Refusal("qsub: illegal -J value\n" + USAGE_QSUB.rstrip("\n"), 2)
    if wanted.get("r") == "n":  # not in the samples: the manual says that arrays must be rerunable
        raise Refusal(f"{RERUN}\n{USAGE_QSUB}".rstrip("\n"), 2)
    if not setting("arrays").isdecimal() and setting("arrays"):
        raise Refusal(f"qsub: {setting('arrays')}", 32)
    if int(match[2]) - int(match[1]) >= min(MAX_ARRAY, int(setting("arrays") or MAX_ARRAY)):
        raise Refusal("qsub: Array job exceeds server or queue size limit", 3)
    return list(range(int(match[1]), int(match[2]) + 1, int(match[3] or 1))), int(match[4]) if match[4] else None


def resource_list(wanted: dict) -> dict:
    found: dict = {}
    for part in wanted.get("l", "").split(","):
        key, _, value = part.partition("=")
        if part and key not in KNOWN:
            raise Refusal(f"qsub: Unknown resource Resource_List.{key}", 187)
        if key == "mem" and not re.fullmatch(r"\d+[kmgt]?[bw]?", value):
            raise Refusal("qsub: Illegal attribute or resource value Resource_List.mem", 166)
        if key:
            found.setdefault(key, value)
    chunk = dict(item.split("=") for item in found.get("select", "1:ncpus=1").split(":")[1:])
    if not chunk.get("ncpus", "1").isdecimal():
        raise Refusal("qsub: Illegal attribute or resource value select.ncpus", 166)
    count = int(found.get("select", "1").split(":")[0])
    told = {"mem": chunk["mem"]} if "mem" in chunk else {}
    told |= {"mpiprocs": count * int(chunk["mpiprocs"])} if "mpiprocs" in chunk else {}
    told |= {"ncpus": count * int(chunk.get("ncpus", 1))}
    told |= {"ngpus": count * int(chunk["ngpus"])} if "ngpus" in chunk else {}
    told |= {"nodect": count, "place": "free" if "select" in found else "pack"}
    told |= {"select": found.get("select", "1:ncpus=1")}
    told |= {key: found[key] for key in found if key not in ("select", "place")}
    return told


def variables(wanted: dict, queue: str, where: Path) -> dict:
    home = os.environ.get("HOME", "/")
    told = {
        "PBS_O_HOME": home,
        "PBS_O_LOGNAME": getpass.getuser(),
        "PBS_O_PATH": os.environ.get("PATH", ""),
        "PBS_O_SHELL": "/bin/bash",
        "PBS_O_WORKDIR": str(where),
        "PBS_O_SYSTEM": "Linux",
        "PBS_O_QUEUE": queue,
        "PBS_O_HOST": SERVER,
    }
    own: dict[str, str] = {}
    for part in filter(None, wanted.get("v", "").split(",")):
        key, equal, value = part.partition("=")
        if not equal and key not in os.environ:
            raise Refusal("qsub: cannot send environment with the job", 1)
        own[key] = value if equal else os.environ[key]
    return own | told


def seconds(text: str) -> int:
    total = 0
    for part in text.split(":"):
        total = total * 60 + int(part)
    return total


# --- what runs jobs -------------------------------------------------------------------------------------------------


def start_mom(number: int) -> None:
    command = [sys.executable, __file__, "mom", str(number)]
    subprocess.Popen(
        command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def mom(number: int) -> None:
    job = load(number)
    waiting: list[str | None] = list(job["members"]) or [None]
    running: dict[str | None, Running] = {}
    while waiting or running:
        job = load(number)
        for index in [index for index in waiting if index in job["deleted"] or "" in job["deleted"]]:
            waiting.remove(index)
            finish(number, index, None)
        while waiting and len(running) < int(setting("at-once") or job["at_once"] or 1000):
            index = waiting.pop(0)
            running[index] = Running(number, index)
        for index, process in list(running.items()):
            status = process.ended(index in job["deleted"] or "" in job["deleted"])
            if (index or "") in job["rerun"]:
                with changing(number) as job:
                    job["rerun"].remove(index or "")
                process.crash()
                running[index] = Running(number, index)
            elif status is not None:
                del running[index]
                finish(number, index, status)
        time.sleep(0.02)
    if job["members"]:
        with changing(number) as job:
            job["attributes"].update(job_state="F", substate=92, mtime=time.time())
            for member in job["members"].values():
                member["job_state"] = "F"


class Running:
    """One job or member that runs."""

    def __init__(self, number: int, index: str | None):
        job = load(number)
        attributes = job["attributes"]
        self.limit = seconds(attributes["Resource_List"].get("walltime", "0"))
        self.began = time.time()
        self.killed: float | None = None
        self.reason: int | None = None
        self.memory = kilobytes(attributes["Resource_List"].get("mem", ""))
        self.weighed = self.began
        own = {"PBS_JOBID": job["id"], "PBS_JOBNAME": attributes["Job_Name"], "PBS_QUEUE": attributes["queue"]}
        own |= {"PBS_ENVIRONMENT": "PBS_BATCH", "PBS_JOBDIR": os.environ["HOME"]}
        if index is not None:
            own |= {"PBS_ARRAY_ID": job["id"], "PBS_ARRAY_INDEX": index, "PBS_JOBID": member_id(job, index)}
        environment = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "USER": getpass.getuser()}
        out, error = (attributes[key].partition(":")[2] for key in ("Output_Path", "Error_Path"))
        out, error = (path.replace("^array_index^", index or "") for path in (out, error))
        self.error = Path(out if attributes["Join_Path"] == "oe" else error)
        with Path(out).open("wb") as stdout, self.error.open("ab" if self.error == Path(out) else "wb") as stderr:
            self.process = subprocess.Popen(
                [attributes.get("Shell_Path_List", "/bin/bash"), str(root() / "jobs" / f"{number}.sh")],
                cwd=os.environ["HOME"], env=environment | attributes["Variable_List"] | own, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            )  # fmt: skip
        now = self.began
        told = {"job_state": "R", "exec_host": f"{SERVER}/0", "exec_vnode": f"({SERVER}:ncpus=1)", "stime": now}
        told |= {"session_id": self.process.pid, "jobdir": os.environ["HOME"], "substate": 42, "mtime": now}
        told |= {
            "comment": f"Job run at {ctime(now)[:10]} at {ctime(now)[11:16]} on ({SERVER}:ncpus=1)",
            "run_count": 1,
        }
        with changing(number) as job:
            if index is None:
                job["attributes"].update(told)
            else:
                job["members"][index].update(told)
                job["attributes"].update(job_state="B", substate=70, stime=job["attributes"].get("stime", now))

    def ended(self, deleted: bool) -> int | None:
        """Return PBS's exit status once it has ended; end it if it must."""
        returned = self.process.poll()
        now = time.time()
        if returned is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # what it left behind
            return self.reason if self.reason is not None else returned if returned >= 0 else 128 - returned
        if self.killed is None:
            if deleted:
                self._kill(271, "")
            elif self.limit and now - self.began >= self.limit:
                self._kill(-29, f"walltime {int(now - self.began)} exceeded limit {self.limit}")
            elif self.memory and now - self.weighed > 0.2:
                self.weighed, used = now, resident(self.process.pid)
                if used > self.memory:
                    self._kill(-27, f"mem {used}kb exceeded limit {self.memory}kb")
        elif now - self.killed > KILL_DELAY:
            os.killpg(self.process.pid, signal.SIGKILL)
        return None

    def crash(self) -> None:
        for pid in members(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def _kill(self, reason: int, text: str) -> None:
        self.killed, self.reason = time.time(), reason
        if text:
            with self.error.open("a") as file:
                file.write(f"=>> PBS: job killed: {text}\n")
        for pid in members(self.process.pid):  # all of the session, as mom does
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(path.parent.name))
    return found


def resident(session: int) -> int:
    """Kilobytes that a session has in memory."""
    total = 0
    for pid in members(session):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return total


def kilobytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([kmgt]?)b?", text)
    return int(match[1]) * 1024 ** "kmgt".index(match[2] or "k") if match else 0


def finish(number: int, index: str | None, status: int | None) -> None:
    with changing(number) as job:
        record = job["attributes"] if index is None else job["members"][index]
        now = time.time()
        words = {None: "", 0: " and finished", 271: f" and terminated by {getpass.getuser()}@{SERVER}"}
        words |= {-29: " and exceeded resource walltime", -27: " and exceeded resource mem"}
        told = {"job_state": "F" if index is None else "X", "mtime": now, "history_timestamp": int(now)}
        told["substate"] = {None: 91, 271: 91, 0: 92}.get(status, 93)
        if status is not None:
            used = int(now - record["stime"])
            told["resources_used"] = {"cpupercent": 0, "cput": "00:00:00", "mem": "0kb", "ncpus": 1, "vmem": "0kb"}
            told["resources_used"]["walltime"] = f"{used // 3600:02}:{used // 60 % 60:02}:{used % 60:02}"
            told |= {"obittime": now, "Exit_status": status, "Stageout_status": 1}
            told["comment"] = record.get("comment", "") + words.get(status, " and failed")
            if index is not None:  # the last one that ended decides
                whole = {"Exit_status": 1 if status > 0 else 2 if status < 0 else 0, "Stageout_status": 1}
                job["attributes"].update(whole)
        record.update(told)


# --- qdel, qhold, qrls, qselect ---------------------------------------------------------------------------------------


def member_id(job: dict, index: str) -> str:
    return f"{job['number']}[{index}].{SERVER}"


def named(text: str) -> tuple[dict | None, str | None]:
    """The job of an id, and the index where it names a member."""
    match = re.fullmatch(rf"(\d+)(\[(\d*)\])?(\.{SERVER})?", text)
    path = root() / "jobs" / f"{match[1]}.json" if match else None
    if match is None or path is None or not path.exists():
        return None, None
    job = load(int(match[1]))
    if bool(job["members"]) != bool(match[2]) or (match[3] and match[3] not in job["members"]):
        return None, None
    return job, match[3] or None


def complain(text: str, rc: int) -> int:
    print(text, file=sys.stderr)
    return rc


def qdel(arguments: list[str]) -> int:
    rc = 0
    for text in options_left(arguments):
        if not re.fullmatch(rf"\d+(\[\d*\])?(\.{SERVER})?", text):
            rc = complain(f"qdel: illegally formed job identifier: {text}", 1)
            continue
        with locked():
            job, index = named(text)
            record = (job["members"][index] if index else job["attributes"]) if job else {}
            forgotten = job and job["attributes"]["job_state"] == "F" and (root() / "no-history").exists()
            if job is None or forgotten:
                rc = complain(f"qdel: Unknown Job Id {text}", 153)
            elif record["job_state"] == "X":  # not in the samples, but in the sources
                rc = complain(f"qdel: Request invalid for finished array subjob {text}", 55)
            elif record["job_state"] == "F":
                rc = complain(f"qdel: Job has finished {text}", 35)
            elif record["job_state"] == "R" and (root() / "mom-down").exists():  # not in the samples, either
                rc = complain(f"qdel: Server could not connect to MOM {text}", 222)
            elif (index or "") in job["deleted"]:
                rc = complain(f"qdel: Request invalid for state of job {text}", 168)
            else:
                job["deleted"].append(index or "")
                never = "Can Never Run" in job["attributes"].get("comment", "")
                if record["job_state"] == "H" or never:
                    record.update(job_state="F", substate=91, history_timestamp=int(time.time()))
                save(job)
    return rc


def options_left(arguments: list[str]) -> list[str]:
    return [word for word in arguments if not word.startswith("-")]


def hold(arguments: list[str], held: bool) -> int:
    for text in options_left(arguments):
        job, _ = named(text)
        if job and job["attributes"]["job_state"] == ("Q" if held else "H"):
            with changing(job["number"]) as job:
                job["attributes"].update(job_state="H" if held else "Q", Hold_Types="u" if held else "n")
            if not held:
                start_mom(job["number"])
    return 0


def qrerun(arguments: list[str]) -> int:
    """Not in the samples: a server does it by itself when a node has crashed."""
    for text in options_left(arguments):
        job, index = named(text)
        if job is None:
            return complain(f"qrerun: Unknown Job Id {text}", 153)
        with changing(job["number"]) as job:
            job["rerun"].append(index or "")
    return 0


def qselect(arguments: list[str]) -> int:
    wanted: dict[str, str] = {}
    history = "-x" in arguments
    if history and (root() / "no-history").exists():  # not in the samples, but in the sources and in az-hop#14
        return complain("qselect: PBS is not configured to maintain job history", 0)
    options([word for word in arguments if word != "-x"], wanted)
    for job in everything():
        attributes = job["attributes"]
        if (
            (history or attributes["job_state"] != "F")
            and wanted.get("N", attributes["Job_Name"]) == attributes["Job_Name"]
            and attributes["job_state"] in wanted.get("s", attributes["job_state"])
            and wanted.get("u", getpass.getuser()) == attributes["Job_Owner"].split("@")[0]
        ):
            print(job["id"])
    return 0


# --- qstat ----------------------------------------------------------------------------------------------------------

ORDER = """
Job_Name Job_Owner resources_used job_state queue server Checkpoint ctime depend Error_Path exec_host exec_vnode
Execution_Time Hold_Types Join_Path Keep_Files Mail_Points mtime Output_Path Priority qtime Rerunable
Resource_List stime obittime session_id jobdir Shell_Path_List substate Variable_List comment etime run_count
Stageout_status Exit_status Submit_arguments array_id array_index array array_state_count
array_indices_submitted array_indices_remaining history_timestamp project Submit_Host max_run_subjobs
"""


def qstat(arguments: list[str]) -> int:
    flags = {word for word in arguments if word in ("-x", "-t", "-f", "-B", "-xt", "-n", "-s", "-1", "-w")}
    if flags & {"-n", "-s", "-w"} and (root() / "old").exists():
        return complain("usage: \nqstat ...", 2)
    history, members = bool(flags & {"-x", "-xt"}), bool(flags & {"-t", "-xt"})
    user = arguments[arguments.index("-u") + 1] if "-u" in arguments else None
    as_json = "-F" in arguments
    ids = [w for n, w in enumerate(arguments) if w and not w.startswith("-") and arguments[n - 1] not in ("-u", "-F")]
    if "-B" in flags:
        return server()
    if history and (root() / "no-history").exists():  # not in the samples, but in the sources and in az-hop#14
        for text in ids or [""]:
            complain(f"qstat: PBS is not configured to maintain job history {text}", 0)
        return 0
    rc, rows = 0, []
    with locked():
        for job in everything() if not ids else []:
            rows += records(job, None, members) if history or job["attributes"]["job_state"] != "F" else []
        for text in ids:
            job, index = named(text)
            whole = text if SERVER in text else f"{text}.{SERVER}"
            if not re.match(r"\d", text):
                rc = complain(f"qstat: Unknown queue destination {text}", 170)
            elif job is None or ((root() / "no-history").exists() and job["attributes"]["job_state"] == "F"):
                rc = complain(f"qstat: Unknown Job Id {whole}", 153)
            elif not history and job["attributes"]["job_state"] == "F":
                rc = complain(f"qstat: {whole} Job has finished, use -x or -H to obtain historical job information", 35)
            else:
                rows += records(job, index, members)
    if as_json:
        sys.stdout.write(json_text(rows, int(time.time())))
    elif "-f" in flags:
        sys.stdout.write("".join(full_text(key, record) for key, record in rows))
    elif user:
        mine = [(key, record) for key, record in rows if record["Job_Owner"].split("@")[0] == user]
        shown = [(key, record) for key, record in mine if not (members and "[]" in key)]
        sys.stdout.write(widest_table(shown, "-s" in flags) if "-w" in flags else wide_table(shown))
    elif rows:
        sys.stdout.write(table(rows))
    return rc


def server() -> int:
    history = not (root() / "no-history").exists()
    told = {"server_state": "Active", "server_host": SERVER, "scheduling": "True", "default_queue": "workq"}
    told |= {"max_array_size": MAX_ARRAY, "pbs_version": VERSION}
    told |= {"job_history_enable": "True", "job_history_duration": "24:00:00"} if history else {}
    print(f"Server: {SERVER}")
    print("".join(f"    {key} = {value}\n" for key, value in told.items()))
    return 0


def records(job: dict, index: str | None, members: bool) -> list[tuple[str, dict]]:
    """The records of a job: of itself, or of a member, or of itself and all members."""
    whole = dict(job["attributes"])
    if job["members"]:
        states = [member["job_state"] for member in job["members"].values()]
        counts = (states.count("Q"), states.count("R"), 0, sum(states.count(word) for word in "X"))
        whole["array"] = "True"
        whole["array_state_count"] = "Queued:{} Running:{} Exiting:{} Expired:{}".format(*counts)
        whole["array_indices_submitted"] = f"0-{len(states) - 1}"
    chosen = [index] if index is not None else list(job["members"]) if members else []
    found = [] if index is not None else [(job["id"], whole)]
    for number in chosen:
        own = {**job["attributes"], **job["members"][number], "array_id": job["id"], "array_index": int(number)}
        found.append((member_id(job, number), own if has_record(job["members"][number]) else borrowed(job, number)))
    return [
        (key, {name: shown(name, record[name]) for name in ORDER.split() if name in record}) for key, record in found
    ]


def has_record(member: dict) -> bool:
    """A member gets one when it starts; a server that keeps no history forgets it at its end."""
    return "stime" in member and not (member["job_state"] in "XF" and (root() / "no-history").exists())


def borrowed(job: dict, number: str) -> dict:
    """What is shown of a member without a record: the array's attributes up to those of arrays alone.

    The samples have one that waits; of one that ended the sources tell.
    """
    state = job["members"][number]["job_state"]
    names = [name for name in ORDER.split()[: ORDER.split().index("array_id")] if name in job["attributes"]]
    changed = {"substate": 10} if state == "Q" else {"comment": "Subjob finished"}
    return {name: job["attributes"][name] for name in names} | {"job_state": state} | changed


def shown(name: str, value: object) -> object:
    """Times are kept as seconds: the command shows them in its own time zone."""
    return ctime(value) if name in ("ctime", "mtime", "qtime", "etime", "stime", "obittime") else value


def json_text(rows: list[tuple[str, dict]], now: int) -> str:
    """JSON as the server's own printer writes it: no blank after colons, and texts that look like numbers bare."""
    told: dict = {"timestamp": now, "pbs_version": VERSION, "pbs_server": SERVER}
    if rows:
        told["Jobs"] = dict(rows)
    return _json(told, 0) + ("\n" if rows else "")


def _json(value: object, depth: int, key: str = "") -> str:
    if isinstance(value, dict):
        inner = ",\n".join(f'{"    " * (depth + 1)}"{k}":{_json(v, depth + 1, k)}' for k, v in value.items())
        return "{\n" + (inner + "\n" if inner else "") + "    " * depth + "}"
    text = str(value)
    if isinstance(value, str) and (key == "pbs_version" or not re.fullmatch(r"-?\d+(\.\d+)?([eE]\d+)?", text)):
        return json.dumps(text)
    return text


def full_text(key: str, record: dict) -> str:
    lines = [f"Job Id: {key}\n"]
    for name, value in record.items():
        if name == "Variable_List":
            lines.append(_wrapped(f"    {name} = " + ",".join(f"{k}={v}" for k, v in value.items()), ","))
        elif isinstance(value, dict):
            lines += [f"    {name}.{inner} = {told}\n" for inner, told in value.items()]
        else:
            lines.append(_wrapped(f"    {name} = {value}", ""))
    return "".join(lines) + "\n"


def _wrapped(line: str, separator: str) -> str:
    """Break a line as qstat does: at 79 columns, behind a comma where there is one; a tab goes on."""
    pieces = re.findall(r"[^,]*,|[^,]+", line) if separator else list(line)
    text, column = "", 0
    for piece in pieces:
        if column and column + len(piece) > 79:
            text, column = text + "\n\t", 8
        text, column = text + piece, column + len(piece)
    return text + "\n"


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "*"


def table(rows: list[tuple[str, dict]]) -> str:
    text = "Job id            Name             User              Time Use S Queue\n"
    text += "----------------  ---------------- ----------------  -------- - -----\n"
    for key, record in rows:
        used = record.get("resources_used", {}).get("cput", "0")
        owner = record["Job_Owner"].split("@")[0]
        text += f"{cut(key, 17):17} {cut(record['Job_Name'], 16):16} {owner:16}  {used:>8} {record['job_state']} "
        text += f"{record['queue']:16}\n"
    return text


def wide_table(rows: list[tuple[str, dict]]) -> str:
    if not rows:
        return ""
    text = f"\n{SERVER}: \n{'':60}Req'd  Req'd   Elap\n"
    text += "Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time\n"
    text += "--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----\n"
    for key, record in rows:
        wanted, used = record["Resource_List"], record.get("resources_used", {}).get("walltime")
        session, memory = record.get("session_id", "-- "), wanted.get("mem", "-- ")
        limit = wanted.get("walltime", "-- ")
        text += f"{cut(key, 15):15} {record['Job_Owner'].split('@')[0]:8} {record['queue']:8} "
        text += f"{cut(record['Job_Name'], 10):10} {session:>6} {wanted['nodect']:>3} {wanted['ncpus']:>3} {memory:>6} "
        text += f"{limit[:5]:>5} {record['job_state']} {(used or '-- ')[:5]:>5}\n"
    return text


WIDTHS = (30, 15, 15, 15, 8, 4, 5)


def widest_table(rows: list[tuple[str, dict]], comments: bool) -> str:
    """``qstat -t -n -1 -w -u``, with ``-s`` comments; those are not in the samples, but in the sources."""
    if not rows:
        return ""
    blank = " ".join(" " * width for width in WIDTHS)
    titles = ("Job ID", "Username", "Queue", "Jobname", "SessID", "NDS", "TSK")
    head = " ".join(f"{title:{width}}" for title, width in zip(titles, WIDTHS, strict=True))
    dashes = " ".join("-" * width for width in WIDTHS)
    text = f"\n{SERVER}: \n{blank} Req'd  Req'd   Elap\n{head} Memory Time  S Time\n{dashes} ------ ----- - -----\n"
    for key, record in rows:
        wanted, used = record["Resource_List"], record.get("resources_used", {}).get("walltime", " -- ")
        names = (key, record["Job_Owner"].split("@")[0], record["queue"], record["Job_Name"])
        numbers = (record.get("session_id", " -- "), wanted["nodect"], wanted["ncpus"])
        cells = [f"{cut(name, width):{width}}" for name, width in zip(names, WIDTHS, strict=False)]
        cells += [f"{number:>{width}}" for number, width in zip(numbers, WIDTHS[4:], strict=True)]
        cells += [f"{wanted.get('mem', ' -- '):>6}", f"{wanted.get('walltime', ' -- ')[:5]:>5}"]
        cells += [record["job_state"], f"{used[:5]:>5}", record.get("exec_host", " -- ")]
        text += " ".join(cells) + "\n"
        if comments:
            comment = record.get("comment", " -- ")
            text += f"   {comment if len(comment) <= 114 else comment[:110] + '...'}\n"
    return text


# --- the door -------------------------------------------------------------------------------------------------------


def main(tool: str, arguments: list[str]) -> int:
    (root() / "jobs").mkdir(parents=True, exist_ok=True)
    if tool == "mom":
        mom(int(arguments[0]))
        return 0
    if (root() / "down").exists():
        if tool == "qdel":
            return complain(f"Connection refused\nCouldn't connect to cluster: {SERVER}", 160)
        return complain(f"Connection refused\n{tool}: cannot connect to server {SERVER} (errno=15010)", 255)
    try:
        if tool == "qsub":
            qsub(arguments)
            return 0
        if tool in ("qhold", "qrls"):
            return hold(arguments, tool == "qhold")
        return {"qstat": qstat, "qselect": qselect, "qdel": qdel, "qrerun": qrerun}[tool](arguments)
    except Refusal as refusal:
        return complain(str(refusal), refusal.rc)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
