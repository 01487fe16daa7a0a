"""A machine in a directory: the local transport, and a scheduler of a few lines that notes each submission."""

import json
import shlex
import stat
import time
from pathlib import Path

import pytest

from dflow_hpc.executors.protocol import Cargo, Questions, Scripts, leaf_files, unpack
from dflow_hpc.executors.transport.local import LocalTransport

# Notes the submission, then runs each member of the batch in a session of its own, as slurmd would.
SBATCH = """\
#!/bin/sh
# sbatch NAME MEMBERS: the ledger's line comes before anything runs; it is the truth about what was accepted.
touch "$STUB/asked"
while [ -e "$STUB/slow" ]; do sleep 0.02; done
id=$(($(wc -l <"$STUB/ledger") + 1))
echo "$id $1" >>"$STUB/ledger"
[ ! -e "$STUB/refuse" ] || { cat "$STUB/refuse" >&2; exit 1; }
[ ! -e "$STUB/hold" ] || { echo "$id"; exit 0; }
i=0
while [ $i -lt "$2" ]; do
    DFH_INDEX=$i DFH_JOB_ID=${id}_$i setsid sh ./job.sh </dev/null >"job.$i.out" 2>&1 &
    i=$((i + 1))
done
echo "$id"
"""


class Machine:
    def __init__(self, directory):
        self.stub = directory / "stub"
        self.stub.mkdir()
        (self.stub / "ledger").touch()
        sbatch = self.stub / "sbatch"
        sbatch.write_text(SBATCH)
        sbatch.chmod(sbatch.stat().st_mode | stat.S_IXUSR)
        self.root = directory / "there it's"
        self.here = directory / "here"
        self.transport = LocalTransport()
        self.scripts = Scripts(self.transport, str(self.root))
        self.runtime = None
        self.ended = {}

    @staticmethod
    def command(*words, outputs=(), env=None, **more):
        """Return the program of a command leaf."""
        return {"words": list(words), "env": env or {}, "outputs": list(outputs), **more}

    def cargo(self, batch, programs, setup=(), code=None):
        """Pack a batch; programs by token."""
        cargo = Cargo()
        for token, program in programs.items():
            here = self.here / token
            (here / "inputs").mkdir(parents=True, exist_ok=True)
            there = self.scripts.leaf_directory(token)
            scripts = self.scripts.home().scripts
            files = leaf_files(
                program, here=here, there=there, scripts=scripts, code=code, setup=setup, runtime=self.runtime
            )
            self.scripts.add_leaf(cargo, token, files, here)
        script = "#!/bin/sh\n" + self.scripts.body(batch)
        command = f"STUB={shlex.quote(str(self.stub))} {shlex.quote(str(self.stub))}/sbatch {batch} {len(programs)}"
        self.scripts.add_batch(cargo, batch, script, command, list(programs))
        return cargo

    def submit(self, batch, programs, **options):
        return self.scripts.submit(self.cargo(batch, programs, **options))

    def ledger(self):
        return [line.split()[1] for line in (self.stub / "ledger").read_text().splitlines()]

    def wait(self, *tokens):
        """Wait until these have ended, make a round, and return their markers; their outputs are then in `here`."""
        while missing := [token for token in tokens if token not in self.ended]:
            if not all((self.root / ".done" / token).exists() for token in missing):
                time.sleep(0.01)
                continue
            reply = self.scripts.ask(Questions(wait_for=missing))
            if reply.ended:
                unpack(reply.outputs, self.place)
            for token in reply.ended:
                self.ended[token] = json.loads((self.here / token / "exit.json").read_text())
        return [self.ended[token] for token in tokens]

    def place(self, name):
        key, attempt, *rest = Path(name).parts
        return self.here.joinpath(f"{key}-{attempt.removeprefix('attempt.')}", *rest)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    made.transport.close()
