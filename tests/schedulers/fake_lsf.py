"""As much of LSF as ``examples/scheduler_plugin`` asks for: bsub, bjobs, bkill and lsid, which run the jobs.

State: ``$FAKE_LSF`` with a directory for each job. Started as ``python fake_lsf.py bsub ...``.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ["FAKE_LSF"])


def bsub(arguments):
    script = sys.stdin.read()
    options = dict(re.findall(r"^#BSUB -(\w+)(?: (.*))?$", script, re.MULTILINE))
    if options.get("q") == "nosuch":
        print("nosuch: No such queue. Job not submitted.", file=sys.stderr)
        return 255
    new = ROOT / ".new"
    new.mkdir()
    (new / "name").write_text(options["J"])
    (new / "script").write_text(script)
    number = str(len(list(ROOT.iterdir())))
    job = new.rename(ROOT / number)
    runner = 'sh "$1/script" >"$2" 2>&1; echo $? >"$1/rc.tmp"; mv "$1/rc.tmp" "$1/rc"'
    process = subprocess.Popen(
        ["sh", "-c", runner, "sh", str(job), str(Path.cwd() / options["o"])], start_new_session=True,
        env={**os.environ, "LSB_JOBID": number}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (job / "pid").write_text(str(process.pid))
    print(f"Job <{number}> is submitted to queue <normal>.")
    return 0


def bjobs(arguments):
    everything, name, ids = "-a" in arguments, None, []
    words = iter(arguments)
    for word in words:
        if word in ("-o", "-J"):
            value = next(words)
            name = value if word == "-J" else name
        elif not word.startswith("-"):
            ids.append(word)
    for missing in [number for number in ids if not (ROOT / number).exists()]:
        print(f"Job <{missing}> is not found", file=sys.stderr)
    for job in sorted(ROOT.glob("[0-9]*")):
        shown = (job / "name").read_text()
        ended = (job / "rc").exists()
        if (ids and job.name not in ids) or (name and shown != name) or (ended and not everything and not ids):
            continue
        code = (job / "rc").read_text().strip() if ended else "-"
        word = ("DONE" if code == "0" else "EXIT") if ended else "RUN"
        killed = "TERM_OWNER: job killed by owner" if (job / "killed").exists() else "-"
        print(f"{job.name}|{word}|{code}|host1|{killed}|{shown}")
    return 0


def bkill(arguments):
    for number in arguments:
        job = ROOT / number
        if (job / "rc").exists():
            print(f"Job <{number}>: Job has already finished", file=sys.stderr)
            continue
        (job / "killed").touch()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int((job / "pid").read_text()), signal.SIGKILL)
        (job / "rc").write_text("137\n")
    return 0


def lsid(arguments):
    print("IBM Spectrum LSF Standard 10.1.0.0, Jul 08 2016\n\nMy cluster name is test\nMy master name is host1")
    return 0


if __name__ == "__main__":
    sys.exit({"bsub": bsub, "bjobs": bjobs, "bkill": bkill, "lsid": lsid}[sys.argv[1]](sys.argv[2:]))
