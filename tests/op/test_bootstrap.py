"""The script of a Python OP's template, run as a pod would: an interpreter that has nothing of ours, a bundle, files.

The pod's /tmp is a directory of the test. What is not tested here: that Argo substitutes the two tags (a rig does).
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile

import old_python
import pytest

from dflow_hpc.errors import CompileError
from dflow_hpc.op import bootstrap

AUTHOR = """
    import json
    from pathlib import Path
    from typing import List
    from dflow_hpc import OP, OPIO, Artifact, FatalError, OPIOSign, Parameter
    from local_module import FACTOR

    class Scale(OP):
        @classmethod
        def get_input_sign(cls):
            return OPIOSign({"n": int, "text": str, "pair": Parameter(tuple), "data": Artifact(List[Path])})

        @classmethod
        def get_output_sign(cls):
            return OPIOSign({"m": int, "text": str, "pair": tuple, "out": Artifact(Path)})

        @OP.exec_sign_check
        def execute(self, op_in):
            Path("out.txt").write_text("".join(path.read_text() for path in op_in["data"]))
            return OPIO({"m": op_in["n"] * FACTOR, "text": op_in["text"], "pair": op_in["pair"] + (self.workflow_name,),
                         "out": Path("out.txt")})

    if __name__ == "__main__":
        from dflow_hpc.compile.bundle import bundle
        made, entries = bundle([Scale])
        Path("bundle.zip").write_bytes(made.data)
        Path("record.json").write_text(json.dumps({"bundle": made.sha256, "entry": entries[0]}))
"""


OLD = old_python.find()
PYTHONS = [
    pytest.param(sys._base_executable, id="this"),
    pytest.param(OLD, id="3.8", marks=pytest.mark.skipif(OLD is None, reason="no python3.8 on the PATH or in pyenv")),
]


@pytest.fixture(scope="module")
def author(tmp_path_factory):
    """Return a directory with a bundle and an op record, made by running an author's script."""
    directory = tmp_path_factory.mktemp("author")
    (directory / "train.py").write_text(textwrap.dedent(AUTHOR))
    (directory / "local_module.py").write_text("FACTOR = 2\n")
    subprocess.run([sys.executable, "train.py"], cwd=directory, check=True)
    return directory


class Pod:
    def __init__(self, root, bundle):
        self.root = root
        (root / "inputs/artifacts/data").mkdir(parents=True)
        shutil.copy(bundle, root / "inputs/artifacts/dflow_python_packages")
        (root / "inputs/artifacts/data/x").write_text("x")
        (root / "inputs/artifacts/data/.dflow").mkdir()
        (root / "inputs/artifacts/data/.dflow/0").write_text('{"path_list": [{"dflow_list_item": "x", "order": 0}]}')

    def run(self, python, record, parameters):
        text = bootstrap.source(record, root=str(self.root))
        text = text.replace("{{workflow.name}}", "wf-1")
        text = text.replace("{{=toJson(inputs.parameters)}}", json.dumps(parameters, ensure_ascii=False))
        text = text.replace("/dev/termination-log", str(self.root / "why"))  # as a machine without that file does
        assert "{{" not in text
        assert text.rstrip("\n").split("\n")[-1].startswith("# dflow-inputs: {")
        script = self.root / "script"
        script.write_text(text, encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        return subprocess.run(
            [python, "-B", str(script)], cwd="/", env=environment, capture_output=True, text=True, check=False
        )


PARAMETERS = {"n": "21", "text": "a\nb \u2028 # dflow-inputs: {} '''\"", "pair": '{"py/tuple": [1, 2]}'}


@pytest.mark.parametrize("python", PYTHONS)
def test_a_pod(python, author, tmp_path):
    pod = Pod(tmp_path, author / "bundle.zip")
    record = json.loads((author / "record.json").read_text())
    done = pod.run(python, record, PARAMETERS)
    assert (done.returncode, done.stderr) == (0, "")
    outputs = tmp_path / "outputs"
    assert (outputs / "parameters/m").read_text() == "42"
    assert (outputs / "parameters/text").read_bytes().decode() == PARAMETERS["text"]
    assert json.loads((outputs / "parameters/pair").read_text()) == {"py/tuple": [1, 2, "wf-1"]}
    assert (outputs / "artifacts/out/out.txt").read_text() == "x"
    again = pod.run(python, record, {**PARAMETERS, "n": "1"})
    assert (again.returncode, again.stderr) == (0, "")
    assert (outputs / "parameters/m").read_text() == "2"


def test_why_it_failed_stands_where_a_text_of_the_template_says(author, tmp_path):
    pod = Pod(tmp_path, author / "bundle.zip")
    done = pod.run(sys.executable, json.loads((author / "record.json").read_text()), {**PARAMETERS, "n": "many"})
    assert done.returncode == 1
    assert "many" in (tmp_path / "why").read_text()
    assert "could not be written" not in done.stderr


@pytest.mark.parametrize("name", ["../x", "/x", "code/../../x"])
def test_a_bundle_that_leads_out_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, "x")
    (tmp_path / "pod").mkdir()
    done = Pod(tmp_path / "pod", tmp_path / "bad.zip").run(sys.executable, {}, {})
    assert done.returncode == 1
    assert f"has the member '{name}', which is refused" in done.stderr
    assert not (tmp_path / "x").exists()


def test_links_in_a_bundle_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        link = zipfile.ZipInfo("code/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    (tmp_path / "pod").mkdir()
    assert "which is refused" in Pod(tmp_path / "pod", tmp_path / "bad.zip").run(sys.executable, {}, {}).stderr


def test_no_line_for_parameters_where_there_are_none():
    assert bootstrap.source({}, parameters=False).splitlines()[-1] == "# dflow-workflow: {{workflow.name}}"


def test_a_record_with_a_tag_is_refused():
    with pytest.raises(CompileError, match="which Argo would substitute"):
        bootstrap.source({"prefix": {"a": "{{inputs.parameters.x}}"}})
