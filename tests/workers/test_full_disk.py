"""A full disk: a small file system of its own, in the mount namespace of another process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dflow_hpc.engines.local.work import namespaces

REFUSED = namespaces.refusal()

PROGRAM = """
import json, shutil, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from conftest import OPS, Kit
from dflow_hpc.engines.local.work import namespaces

small = Path(sys.argv[1])
namespaces.unshare()
namespaces.mount_tmpfs(str(small))  # 16 MB
run = small / "run"
code = run / "code" / "code"
for path in (run / "store", code):
    path.mkdir(parents=True)
(run / "workflow.json").write_text("{}")
(code / "ops.py").write_text(OPS)
(code.parent / "bundle.json").write_text(json.dumps({"files": {}, "python": "3.11", "script": "ops.py"}))
kit = Kit(run)
first = kit.request(kit.op(), {"what": "write_much"})
outcomes = kit.run(first, kit.request(kit.op("inc"), {"n": 1}))
shutil.rmtree(run / first.node_id)
outcomes += kit.run(kit.request(kit.op("inc"), {"n": 1}))
print(json.dumps([[outcome.phase, outcome.message] for outcome in outcomes]))
"""


@pytest.mark.skipif(bool(REFUSED), reason=f"no mount namespaces here: {REFUSED}")
def test_a_full_disk_is_told_and_does_no_harm_once_there_is_room(tmp_path):
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    filling, full, roomy = json.loads(done.stdout)
    for phase, message in (filling, full):
        assert phase == "Error"
        assert "No space left on device" in message
    assert roomy == ["Succeeded", ""]
